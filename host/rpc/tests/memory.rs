//! What peers cost that declare, or never take, more than they should. The memory of the whole
//! process is looked at, so these tests are alone in their program and run one after another.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Read as _, Write as _};
use std::sync::{Mutex, PoisonError};

use common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use zepto_rpc::frame::{Header, Kind};
use zepto_rpc::{CallError, Config, NotSent, Peers};

static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;

/// Bytes of this process that are in memory.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

fn runtime() -> tokio::runtime::Runtime {
    let builder = tokio::runtime::Builder::new_multi_thread();
    { builder }.worker_threads(2).enable_all().build().unwrap()
}

/// A HELLO's header that declares so many bytes, and the first of them.
fn beginning(payload_bytes: u32) -> Vec<u8> {
    let header = Header { kind: Kind::Hello, id: 0, deadline_ms: 0, payload_bytes: 0 };
    let mut bytes = header.encode().to_vec();
    bytes[20..24].copy_from_slice(&payload_bytes.to_le_bytes());
    bytes
}

#[test]
fn ten_thousand_strangers_that_declare_64_mib_each_cost_less_than_one_such_payload() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const STRANGERS: usize = 10_000;
    // Both ends of every connection are in this process.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    let room = limit.maximum.map_or(STRANGERS, |most| (most as usize).saturating_sub(200) / 2);
    // With fewer descriptors they come in several rounds; what a round leaves behind still counts.
    let (per_server, mut left) = (1000, STRANGERS);
    let runtime = runtime();
    let config = Config { hello_timeout: LONG * 4, ..Config::default() };
    // The runtime, its threads and a first connection are no stranger's cost.
    let first = runtime.block_on(Node::start(config.clone()));
    runtime.block_on(async { first.connect().await.call(vec![ECHO], LONG).await.unwrap() });
    let before = resident_bytes();
    while left > 0 {
        let round = left.min(room);
        let mut nodes = Vec::new();
        let mut strangers = Vec::new();
        for number in 0..round {
            if number % per_server == 0 {
                nodes.push(runtime.block_on(Node::start(config.clone())));
            }
            let address = &nodes.last().unwrap().address;
            let mut stranger = std::net::TcpStream::connect(address).unwrap();
            // Every other one declares what is allowed, sends most of it, and falls silent.
            match number % 2 {
                0 => stranger.write_all(&beginning(64 * MIB as u32)).unwrap(),
                _ => stranger.write_all(&[beginning(4096), vec![0xFF; 4000]].concat()).unwrap(),
            }
            strangers.push(stranger);
        }
        for stranger in strangers.iter_mut().step_by(2) {
            let mut answer = [0; 24];
            stranger.read_exact(&mut answer).expect("told why it may not come in");
            assert_eq!(answer[5], Kind::HelloReply.code());
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB, "{round} strangers cost {} KiB", grown >> 10);
        drop(strangers);
        for node in nodes {
            assert!(runtime.block_on(node.stopped()).is_complete());
        }
        left -= round;
    }
    assert!(runtime.block_on(first.stopped()).is_complete());
}

#[test]
fn a_million_requests_to_a_stalled_peer_fill_no_memory_and_each_is_told() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const REQUESTS: usize = 1_000_000;
    const SENDERS: usize = 500;
    let runtime = runtime();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stalled = tokio::spawn(async move {
            let raw = Raw::server(&listener).await;
            // Takes nothing any more.
            std::future::pending::<()>().await;
            drop(raw);
        });
        let node = Node::start(Config::default()).await;
        let (ping_after, ping_dead) = (LONG * 10, LONG * 20);
        let config = Config {
            payload_bytes_max: MIB as u32,
            queue_bytes_max: 4 * MIB,
            body_timeout: LONG * 10,
            ping_after,
            ping_dead,
            ..Config::default()
        };
        let peers = Peers::new(config, 1, hello);
        assert!(peers.call(&node.address, vec![ECHO], LONG).await.is_ok());
        let before = resident_bytes();
        let mut first = JoinSet::new();
        for _ in 0..300 {
            let (peers, address) = (peers.clone(), address.clone());
            first.spawn(async move { peers.call(&address, vec![1; MIB], LONG * 4).await });
        }
        let queued = || peers.counters().iter().map(|peer| peer.requests).sum::<u64>();
        until("300 wait for the stalled peer", || queued() == 301).await;
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            let (peers, address) = (peers.clone(), address.clone());
            senders.spawn(async move {
                for number in 0..REQUESTS / SENDERS {
                    match peers.call(&address, vec![1; 1000], ms(0)).await {
                        Err(CallError::NotSent(NotSent::Busy)) => {}
                        other => panic!("request {number}: {other:?}"),
                    }
                }
            });
        }
        while let Some(sender) = senders.join_next().await {
            sender.expect("each request was told that there is no room");
            // Whoever asks another peer meanwhile does not wait for this one.
            assert!(peers.call(&node.address, vec![ECHO], LONG).await.is_ok());
        }
        // 300 payloads of 1 MiB are their callers' own; beyond them there is the queue.
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < (300 + 4 + 60) * MIB, "grown by {} MiB", grown / MIB);
        let stalled_peer = peers.counters().into_iter().find(|peer| peer.address == address);
        let stalled_peer = stalled_peer.unwrap();
        assert_eq!(stalled_peer.not_sent, REQUESTS as u64, "{stalled_peer:?}");
        assert!(stalled_peer.sent < 20, "the queue took a few, not all: {stalled_peer:?}");
        first.shutdown().await;
        stalled.abort();
        drop(peers);
        node.stopped().await;
    });
}
