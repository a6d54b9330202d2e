//! The pool: one connection per peer, made again when it broke, never in a storm.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use zepto_rpc::{CallError, Config, ConnectError, HelloRefusal, NotSent, Peers};

fn peers(config: Config) -> Peers {
    Peers::new(config, 42, hello)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_one_attempt_and_one_connection() {
    let node = Node::start(Config::default()).await;
    let peers = peers(Config::default());
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (peers, address) = (peers.clone(), node.address.clone());
        callers.spawn(async move { peers.call(&address, vec![ECHO], LONG).await.is_ok() });
    }
    assert_eq!(within(callers.join_all()).await, [true; 100]);
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 1);
    drop(peers);
    node.stopped().await;
}

#[tokio::test]
async fn black_holed_peers_do_not_delay_the_live_one() {
    let node = Node::start(Config::default()).await;
    let peers = peers(Config { hello_timeout: LONG, ..Config::default() });
    let (holes, mut stuck) = black_holes(&peers, LONG * 2).await;
    for _ in 0..100 {
        assert!(peers.call(&node.address, vec![ECHO], SECOND).await.is_ok());
    }
    assert!(stuck.try_join_next().is_none(), "the others are still being tried");
    stuck.shutdown().await;

    let hole = holes[0].local_addr().unwrap().to_string();
    let error = peers.get(&hole, ms(20)).await.expect_err("its own deadline");
    assert_eq!(error, ConnectError::Deadline { address: hole });
    drop(peers);
    node.stopped().await;
}

#[tokio::test]
async fn failures_are_spaced_and_a_peer_that_returns_is_used_again() {
    let config = Config { reconnect_min: ms(200), reconnect_max: ms(400), ..Config::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let peers = peers(config);
    let name = address.to_string();
    let first = peers.get(&name, LONG).await.expect_err("nobody listens");
    assert!(matches!(first, ConnectError::Unreachable { .. }), "{first}");
    let second = peers.get(&name, ms(1)).await.expect_err("not due yet");
    assert!(matches!(second, ConnectError::Backoff { .. }), "{second}");
    assert!(second.to_string().contains("is not tried again for"), "{second}");

    let node = Node::on(TcpListener::bind(address).await.unwrap(), Config::default());
    let answer = peers.call(&name, vec![ECHO], LONG).await;
    assert_eq!(answer, Ok(vec![ECHO]), "waited for the pause, then connected");
    drop(peers);
    node.stopped().await;
}

#[tokio::test]
async fn a_peer_that_restarts_is_reached_again_over_a_new_connection() {
    let node = Node::start(Config::default()).await;
    let address = node.address.clone();
    let peers = peers(Config::default());
    assert!(peers.call(&address, vec![ECHO], LONG).await.is_ok());
    assert!(node.stopped().await.is_complete());
    let error = peers.call(&address, vec![ECHO], LONG).await.expect_err("down");
    assert!(matches!(error, CallError::NotSent(NotSent::Unreachable { .. })), "{error}");
    let node = Node::on(TcpListener::bind(&address).await.unwrap(), Config::default());
    assert!(peers.call(&address, vec![ECHO], LONG).await.is_ok());
    drop(peers);
    node.stopped().await;
}

#[tokio::test]
async fn a_refusal_is_passed_on_with_its_reason() {
    let node = Node::start(Config::default()).await;
    let stranger = || {
        let mut hello = hello();
        hello.identity.cluster = Some(77);
        hello
    };
    let peers = Peers::new(Config::default(), 1, stranger);
    let error = peers.call(&node.address, vec![ECHO], LONG).await.expect_err("another cluster");
    let CallError::NotSent(NotSent::Unwelcome { reason, text, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(reason, HelloRefusal::Cluster);
    assert!(text.contains("you are of cluster"), "{text}");
    node.stopped().await;
}

#[tokio::test]
async fn a_peer_that_lets_in_and_hangs_up_is_not_stormed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let server = tokio::spawn(async move {
        loop {
            drop(Raw::server(&listener).await);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let config = Config { reconnect_min: ms(100), reconnect_max: ms(100), ..Config::default() };
    let peers = peers(config);
    let error = peers.call(&address, vec![ECHO], SECOND).await.expect_err("never served");
    // A call may be committed just before the peer hangs up; then its outcome is unknown.
    assert!(matches!(error, CallError::NotSent(_) | CallError::Unknown(_)), "{error}");
    let attempts = accepted.load(Ordering::SeqCst);
    assert!(attempts <= 21, "{attempts} connections in a second, a pause of 50 ms between two");
    server.abort();
}

#[tokio::test]
async fn a_forgotten_peer_is_closed_once_nobody_uses_it() {
    let node = Node::start(Config::default()).await;
    let peers = peers(Config::default());
    assert!(peers.call(&node.address, vec![ECHO], LONG).await.is_ok());
    peers.forget(&node.address);
    until("closed", || node.handler.closed.load(Ordering::SeqCst) == 1).await;
    node.stopped().await;
}
