//! Stopping: what was accepted is answered or reported, what comes later is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use zepto_abi::Refusal;
use zepto_rpc::frame::{Kind, decode_reason};
use zepto_rpc::{
    CallError, CloseReason, Config, ConnectError, Connection, HelloRefusal, NotSent, Unknown,
};

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_refuses_what_comes() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    // A peer that does not care for GOAWAY.
    let mut deaf = Raw::client(&node.address).await;
    let call = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.call(sleep_request(400), LONG).await })
    };
    until("it runs", || node.handler.started.load(Ordering::SeqCst) == 1).await;
    let (address, handler) = (node.address.clone(), Arc::clone(&node.handler));
    let report = node.stop();

    let (kind, last_accepted, payload) = deaf.next().await.unwrap();
    assert_eq!((kind, last_accepted), (Kind::GoAway, 0));
    assert_eq!(decode_reason(&payload).unwrap().0, Refusal::Draining.code());
    deaf.send(Kind::Request, 1, 1000, &[ECHO]).await;
    let (kind, id, payload) = deaf.next().await.unwrap();
    assert_eq!((kind, id), (Kind::Refused, 1));
    assert_eq!(decode_reason(&payload).unwrap().0, Refusal::Draining.code());

    until("the client heard it", || !connection.is_usable()).await;
    let late = connection.call(vec![ECHO], LONG).await.expect_err("draining");
    assert!(matches!(late, CallError::NotSent(NotSent::GoAway(_))), "{late}");
    let config = Arc::new(Config::default());
    let refused =
        Connection::connect(&address, &hello(), config, LONG).await.expect_err("draining");
    assert!(matches!(refused, ConnectError::Refused { reason: HelloRefusal::Draining, .. }));

    assert_eq!(call.await.unwrap(), Ok(sleep_request(400)), "accepted, hence answered");
    drop(deaf);
    let report = within(report).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.connections, report.in_flight), (2, 1));
    assert_eq!((report.left, report.oldest_left, report.cut_off), (0, None, 0));
    assert_eq!(report.refused_connections, 1);
    assert_eq!(handler.started.load(Ordering::SeqCst), 1, "nothing else was executed");
    assert!(matches!(within(connection.closed()).await, CloseReason::GoAway(_)));
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_the_drain_time_does_not_suffice_for_is_reported_and_unknown() {
    let config = Config { drain: ms(100), ..Config::default() };
    let node = Node::start(config).await;
    let connection = node.connect().await;
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        let connection = connection.clone();
        callers.spawn(async move { connection.call(sleep_request(60_000), LONG).await });
    }
    until("they run", || node.handler.started.load(Ordering::SeqCst) == 3).await;
    let report = node.stopped().await;
    assert_eq!((report.in_flight, report.left), (3, 3));
    assert!(report.oldest_left.unwrap() >= ms(100), "{report}");
    assert!(!report.is_complete());
    for outcome in within(callers.join_all()).await {
        let unknown = Unknown::Peer("the server gave the request up".to_owned());
        assert_eq!(outcome, Err(CallError::Unknown(unknown)), "told, not cut off");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_of_a_burst_loses_no_accepted_request() {
    for _ in 0..5 {
        let node = Node::start(Config::default()).await;
        let mut callers = JoinSet::new();
        for caller in 0..8u8 {
            let connection = node.connect().await;
            callers.spawn(async move {
                let (mut answered, mut not_sent) = (0usize, 0usize);
                for number in 0..100_000u32 {
                    let [a, b, c, d] = number.to_le_bytes();
                    match connection.call(vec![EFFECT, caller, a, b, c, d], LONG).await {
                        Ok(_) => answered += 1,
                        Err(CallError::NotSent(_)) => not_sent += 1,
                        Err(CallError::Refused { reason: Refusal::Draining, .. }) => not_sent += 1,
                        Err(error) => panic!("neither answered nor refused: {error}"),
                    }
                    if not_sent == 3 {
                        break;
                    }
                }
                answered
            });
        }
        until("a burst", || node.handler.finished.load(Ordering::SeqCst) > 500).await;
        let handler = Arc::clone(&node.handler);
        let report = node.stopped().await;
        assert!(report.is_complete(), "{report}");
        let answered: usize = within(callers.join_all()).await.into_iter().sum();
        let effects = handler.effects.lock().unwrap();
        assert!(effects.values().all(|count| *count == 1));
        assert_eq!(answered, effects.len(), "executed = answered");
    }
}

#[tokio::test]
async fn peers_that_never_close_are_cut_off_and_counted() {
    let config = Config { linger: ms(100), ..Config::default() };
    let node = Node::start(config).await;
    let deaf = Raw::client(&node.address).await;
    let silent = TcpStream::connect(&node.address).await.unwrap();
    tokio::time::sleep(ms(50)).await;
    let report = node.stopped().await;
    assert!(report.is_complete());
    assert_eq!(report.connections, 1, "one had said HELLO");
    assert_eq!(report.cut_off, 1, "the one that had not; the other got its time to close");
    drop((deaf, silent));
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_before_anything_starts() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config { ping_after: ms(0), ..Config::default() };
    let handler = Arc::new(TestHandler::default());
    let result = zepto_rpc::Server::serve(listener, handler, config, std::future::pending()).await;
    let error = result.expect_err("refused").to_string();
    assert_eq!(error, "rpc configuration: ping_after must not be zero");
}
