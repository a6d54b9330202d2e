//! A proxy that loses, cuts and swallows: whatever it does, nothing that did not happen is called
//! done, nothing happens twice, and the counters tell the same story.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use zepto_core::hash::mix;
use zepto_rpc::frame::HEADER_BYTES;
use zepto_rpc::{CallError, CloseReason, Config, NotSent, PeerCounters, Peers, Unknown};

/// What the proxy does with the first request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Passes everything on, and goes on doing so.
    None,
    /// Resets the connection; the server never sees the request.
    ResetBefore,
    /// Passes the request on, swallows the answer, and resets the connection.
    ResetAfter,
    /// Passes the request on, and then nothing more in either direction.
    BlackHole,
}

/// Passes on one frame, of which a hand-shake's each direction has one.
async fn pass_frame(from: &mut TcpStream, to: &mut TcpStream) {
    let mut header = [0; HEADER_BYTES];
    from.read_exact(&mut header).await.unwrap();
    let mut payload = vec![0; u32::from_le_bytes(header[20..].try_into().unwrap()) as usize];
    from.read_exact(&mut payload).await.unwrap();
    to.write_all(&header).await.unwrap();
    to.write_all(&payload).await.unwrap();
}

async fn proxied(mut client: TcpStream, server: String, fault: Fault) {
    let mut server = TcpStream::connect(server).await.unwrap();
    pass_frame(&mut client, &mut server).await;
    pass_frame(&mut server, &mut client).await;
    if fault == Fault::None {
        // An end without a word is an end like any other.
        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
        return;
    }
    let mut bytes = vec![0; 64 << 10];
    let count = client.read(&mut bytes).await.unwrap_or(0);
    if fault == Fault::ResetBefore {
        return client.set_zero_linger().unwrap();
    }
    server.write_all(&bytes[..count]).await.unwrap();
    let answered = server.read(&mut bytes).await.unwrap();
    assert!(count == 0 || answered > 0, "the server answered, or the client never asked");
    match fault {
        Fault::ResetAfter => client.set_zero_linger().unwrap(),
        _ => std::future::pending().await,
    }
}

/// A proxy before a server, with a fault for each connection in turn.
async fn proxy(server: &str, fault: impl Fn(u64) -> Fault + Send + 'static) -> (String, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.to_owned();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        for number in 0.. {
            let (client, _) = listener.accept().await.unwrap();
            connections.spawn(proxied(client, server.clone(), fault(number)));
        }
    });
    (address, Proxy(task))
}

/// Ends with the test.
struct Proxy(JoinHandle<()>);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn peers(config: Config) -> Peers {
    Peers::new(config, 7, hello)
}

/// The counters of the only peer; its books balance.
fn counters(peers: &Peers) -> PeerCounters {
    let [peer] = peers.counters().try_into().expect("one peer");
    balanced(&peer);
    peer
}

fn balanced(peer: &PeerCounters) {
    let ends = peer.answered + peer.refused + peer.timed_out + peer.unknown + peer.not_sent;
    assert_eq!(peer.requests, ends, "{peer:?}");
    assert!(peer.sent >= peer.answered + peer.refused + peer.timed_out + peer.unknown);
}

fn effect(number: u64) -> Vec<u8> {
    [&[EFFECT][..], &number.to_le_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_only_the_kernel_took_are_never_reported_as_delivered() {
    let node = Node::start(Config::default()).await;
    let faults = |number| match mix(number) % 3 {
        0 => Fault::ResetBefore,
        1 => Fault::ResetAfter,
        _ => Fault::None,
    };
    let (address, _proxy) = proxy(&node.address, faults).await;
    let (mut answered, mut unknown) = (0u64, 0u64);
    for number in 0..300 {
        // A pool of its own for each, so that each meets its own fault.
        let peers = peers(Config::default());
        let outcome = peers.call(&address, effect(number), LONG).await;
        let effects = node.handler.effects.lock().unwrap().get(&effect(number)[1..]).copied();
        match outcome {
            Ok(_) => {
                answered += 1;
                assert_eq!((faults(number), effects), (Fault::None, Some(1)));
            }
            Err(CallError::Unknown(Unknown::ConnectionLost(_))) => {
                unknown += 1;
                let happened = (faults(number) == Fault::ResetAfter).then_some(1);
                assert_eq!(effects, happened, "call {number}: never twice, never repeated");
            }
            Err(error) => panic!("call {number}: {error}"),
        }
        let counters = counters(&peers);
        assert_eq!((counters.sent, counters.not_sent, counters.reconnects), (1, 0, 0));
    }
    let effects = node.handler.effects.lock().unwrap().len() as u64;
    assert!(answered > 50 && unknown > 100 && answered <= effects, "{answered} of {effects}");
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_one_effect_and_an_unknown_outcome() {
    let node = Node::start(Config::default()).await;
    let (address, _proxy) = proxy(&node.address, |_| Fault::ResetAfter).await;
    // A peer that never serves gets pauses; short ones here.
    let (reconnect_min, reconnect_max) = (ms(1), ms(2));
    let peers = peers(Config { reconnect_min, reconnect_max, ..Config::default() });
    for number in 0..100 {
        let error = peers.call(&address, effect(number), LONG).await.expect_err("no answer");
        assert!(matches!(error, CallError::Unknown(Unknown::ConnectionLost(_))), "{error}");
    }
    let effects = node.handler.effects.lock().unwrap().clone();
    assert_eq!((effects.len(), effects.values().sum::<usize>()), (100, 100), "each once");
    let counters = counters(&peers);
    assert_eq!((counters.unknown, counters.answered), (100, 0));
    assert_eq!((counters.reconnects, counters.stale_connections), (99, 0), "lost, not stale");
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_holed_connection_is_closed_after_its_time_and_another_serves() {
    let node = Node::start(Config::default()).await;
    let fault = |number| if number == 0 { Fault::BlackHole } else { Fault::None };
    let (address, _proxy) = proxy(&node.address, fault).await;
    let config = Config { ping_after: ms(50), ping_dead: ms(200), ..Config::default() };
    let peers = peers(config);
    let error = peers.call(&address, effect(1), LONG).await.expect_err("swallowed");
    let silent = CallError::Unknown(Unknown::ConnectionLost(CloseReason::Silent(ms(0))));
    assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&silent), "{error}");
    assert!(error.to_string().contains("silent"), "{error}");
    // The connection never answered anything, so its peer gets a pause; then it is used again.
    assert!(peers.call(&address, effect(2), LONG).await.is_ok());
    let counters = counters(&peers);
    assert_eq!((counters.unknown, counters.answered, counters.reconnects), (1, 1, 1));
    drop(peers);
    node.stopped().await;
}

#[tokio::test]
async fn a_peer_that_refuses_everything_keeps_its_connection() {
    let node = Node::start(Config::default()).await;
    let config = Config { ping_after: ms(20), ping_dead: ms(1000), ..Config::default() };
    let peers = peers(config);
    for _ in 0..1000 {
        let error = peers.call(&node.address, vec![REFUSE], LONG).await.expect_err("refused");
        assert!(matches!(error, CallError::Refused { .. }), "{error}");
    }
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 1, "a refusal is no failure");
    let counters = counters(&peers);
    assert_eq!((counters.refused, counters.reconnects), (1000, 0));
    assert!(counters.connected && counters.sent_bytes >= 24_000 && counters.received_bytes > 0);
    until("a round trip", || peers.counters()[0].rtt_last_ns > 0).await;
    drop(peers);
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_black_holes_cost_the_live_peer_nothing_and_are_counted_apart() {
    let node = Node::start(Config::default()).await;
    let peers = peers(Config { hello_timeout: LONG, ..Config::default() });
    let (_holes, mut stuck) = black_holes(&peers, SECOND).await;
    // One after another: a single one that had to wait for a hole would wait for its deadline.
    let mut during = 0;
    while stuck.len() == 3 || during < 100 {
        assert!(peers.call(&node.address, vec![ECHO], LONG).await.is_ok());
        during += 1;
        drop(stuck.try_join_next());
    }
    assert!(during >= 100, "{during} answers while the holes were tried");
    for outcome in within(stuck.join_all()).await {
        assert!(matches!(outcome, Err(CallError::NotSent(NotSent::Unreachable { .. }))));
    }
    for peer in peers.counters() {
        balanced(&peer);
        let expected = if peer.address == node.address { (during, 0, 1) } else { (0, 1, 0) };
        let connected = u64::from(peer.connected);
        assert_eq!((peer.answered, peer.not_sent, connected), expected, "{peer:?}");
    }
    drop(peers);
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_beside_64_mib_transfers_at_full_rate() {
    const TRANSFERS: usize = 6;
    let node = Node::start(Config::default()).await;
    // What must not wait has a pool of its own.
    let (bulk, control) = (peers(Config::default()), peers(Config::default()));
    assert!(control.call(&node.address, vec![ECHO], LONG).await.is_ok());
    let answered = Arc::new(AtomicUsize::new(0));
    let beside = {
        let (address, answered) = (node.address.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            loop {
                assert!(control.call(&address, vec![ECHO], LONG).await.is_ok());
                answered.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    for _ in 0..TRANSFERS {
        let before = answered.load(Ordering::SeqCst);
        let echo = bulk.call(&node.address, vec![ECHO; 64 << 20], LONG).await;
        assert_eq!(echo.map(|echo| echo.len()), Ok(64 << 20));
        let during = answered.load(Ordering::SeqCst) - before;
        // 128 MiB were moved meanwhile: a lane that waited for them would have answered once.
        assert!(during >= 8, "only {during} requests were answered beside a transfer");
    }
    beside.abort();
    drop((beside.await, bulk));
    node.stopped().await;
}

#[test]
fn every_time_out_that_cannot_work_is_refused_at_the_start_with_its_rule() {
    type Spoil = fn(&mut Config);
    let cases: [(&str, Spoil); 6] = [
        ("ping_after must not be zero", |c| c.ping_after = ms(0)),
        ("ping_dead must be twice ping_after or more", |c| c.ping_dead = c.ping_after),
        ("reconnect_min must not be zero", |c| c.reconnect_min = ms(0)),
        ("reconnect_min is above reconnect_max", |c| c.reconnect_min = c.reconnect_max * 2),
        ("request_deadline_max must be at most", |c| c.request_deadline_max = LONG * 1000),
        ("lane_poll must not be zero", |c| c.lane_poll = ms(0)),
    ];
    for (rule, spoil) in cases {
        let mut config = Config::default();
        spoil(&mut config);
        let error = config.check().expect_err(rule).to_string();
        assert!(error.contains(rule), "{rule}: {error}");
    }
}
