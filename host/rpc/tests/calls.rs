//! Calls over real sockets: every one ends in exactly one outcome.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use zepto_abi::Refusal;
use zepto_core::hash::mix;
use zepto_rpc::frame::{Kind, encode_reason};
use zepto_rpc::{
    CallError, CloseReason, Config, ConnectError, Connection, Hello, HelloRefusal, Identity,
    NotSent, Unknown,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_share_one_connection_and_each_gets_its_own_answer() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    assert_eq!(connection.peer().extra, b"extra");
    let mut callers = JoinSet::new();
    for caller in 0..1000u64 {
        let connection = connection.clone();
        callers.spawn(async move {
            // Random pauses in the server, so that answers overtake each other.
            let mut request = sleep_request((mix(caller) % 20) as u16);
            request.extend_from_slice(&vec![caller as u8; (mix(caller) % 5000) as usize]);
            request.extend_from_slice(&caller.to_le_bytes());
            let answer = connection.call(request.clone(), LONG).await;
            assert_eq!(answer, Ok(request));
        });
    }
    within(callers.join_all()).await;
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 1, "one connection for all");
    assert_eq!(node.handler.started.load(Ordering::SeqCst), 1000);
    drop(connection);
    assert!(node.stopped().await.is_complete());
}

#[tokio::test]
async fn ten_thousand_calls_one_after_another_use_one_connection() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    for _ in 0..10_000 {
        connection.call(vec![ECHO], LONG).await.expect("answered");
    }
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 1);
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn payloads_up_to_the_limit_arrive_and_one_byte_more_is_refused_at_submission() {
    let config = Config { payload_bytes_max: 1 << 20, ..Config::default() };
    let node = Node::start(config.clone()).await;
    let connection = connect(&node.address, config).await;
    for bytes in [1, 2, 4095, 65_536, (1 << 20) - 1, 1 << 20] {
        let answer = connection.call(vec![0; bytes], LONG).await.expect("within the limit");
        assert_eq!(answer.len(), bytes);
    }
    let (bytes, bytes_max) = ((1 << 20) + 1, 1 << 20);
    let error = connection.call(vec![0; bytes], LONG).await.expect_err("above the limit");
    assert_eq!(error, CallError::NotSent(NotSent::TooLong { bytes, bytes_max }));
    assert!(connection.is_usable());
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn an_answer_above_the_limit_is_unknown_with_the_reason_and_harms_nobody() {
    let node = Node::start(Config { payload_bytes_max: 1 << 20, ..Config::default() }).await;
    let connection = node.connect().await;
    let error = connection.call(large_request(2048), LONG).await.expect_err("too large");
    assert!(matches!(&error, CallError::Unknown(Unknown::Peer(text)) if text.contains("above")));
    assert!(connection.call(vec![ECHO], LONG).await.is_ok());
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn refused_failed_and_expired_requests_are_told_apart() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    let refused = connection.call(vec![REFUSE], LONG).await;
    let text = "not mine".to_owned();
    assert_eq!(refused, Err(CallError::Refused { reason: Refusal::NotOwner, text }));
    let failed = connection.call(vec![PANIC], LONG).await.expect_err("panic");
    assert!(matches!(&failed, CallError::Unknown(Unknown::Peer(text)) if text.contains("failed")));
    let expired = connection.call(sleep_request(60_000), ms(50)).await.expect_err("too slow");
    assert!(matches!(expired, CallError::Unknown(_)), "{expired}");
    let none = connection.call(vec![ECHO], ms(0)).await.expect_err("no time at all");
    assert!(matches!(none, CallError::NotSent(NotSent::Deadline)), "{none}");
    assert!(connection.call(vec![ECHO], LONG).await.is_ok(), "the connection is unharmed");
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_never_taken_for_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let mut raw = Raw::server(&listener).await;
        let (_, first, _) = raw.next().await.unwrap();
        let (_, second, _) = raw.next().await.unwrap();
        raw.send(Kind::Response, first, 0, b"late").await;
        raw.send(Kind::Response, second, 0, b"in time").await;
        raw.next().await
    });
    let connection = connect(&address, Config::default()).await;
    let first = connection.call(vec![1], ms(30)).await;
    assert_eq!(first, Err(CallError::Unknown(Unknown::Deadline)));
    assert_eq!(connection.call(vec![2], LONG).await, Ok(b"in time".to_vec()));
    drop(connection);
    assert_eq!(within(server).await.unwrap(), None, "closed cleanly");
}

#[tokio::test]
async fn a_dropped_call_leaves_the_connection_usable() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    for _ in 0..600 {
        let call = connection.call(sleep_request(5), LONG);
        assert!(tokio::time::timeout(ms(1), call).await.is_err(), "dropped before its answer");
    }
    assert!(connection.call(vec![ECHO], LONG).await.is_ok());
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn calls_beyond_the_bound_wait_and_report_busy_at_their_deadline() {
    let config = Config { requests_per_connection_max: 2, ..Config::default() };
    let node = Node::start(config).await;
    // The client learns the bound from the server.
    let connection = node.connect().await;
    let mut callers = JoinSet::new();
    for _ in 0..2 {
        let connection = connection.clone();
        callers.spawn(async move { connection.call(sleep_request(300), LONG).await.is_ok() });
    }
    until("both run", || node.handler.started.load(Ordering::SeqCst) == 2).await;
    let third = connection.call(vec![ECHO], ms(30)).await;
    assert_eq!(third, Err(CallError::NotSent(NotSent::Busy)));
    assert!(connection.call(vec![ECHO], LONG).await.is_ok(), "there is room later");
    assert_eq!(callers.join_all().await, [true, true]);
    assert_eq!(node.handler.started.load(Ordering::SeqCst), 3, "what was busy was not executed");
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn requests_beyond_the_servers_bytes_are_refused_as_overloaded() {
    let config = Config {
        payload_bytes_max: 1 << 20,
        request_bytes_max: 1 << 20,
        answer_bytes_max: 1 << 20,
        ..Config::default()
    };
    let node = Node::start(config).await;
    let connection = node.connect().await;
    let mut big = sleep_request(400);
    big.resize(900 << 10, 0);
    let holder = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.call(big, LONG).await })
    };
    until("the large one runs", || node.handler.started.load(Ordering::SeqCst) == 1).await;
    let error = connection.call(vec![ECHO; 300 << 10], LONG).await.expect_err("no room");
    assert!(matches!(error, CallError::Refused { reason: Refusal::Overloaded, .. }), "{error}");
    assert!(connection.call(vec![ECHO; 10 << 10], LONG).await.is_ok(), "there is room for this");
    assert!(holder.await.unwrap().is_ok());
    assert!(connection.call(vec![ECHO; 300 << 10], LONG).await.is_ok(), "the bytes came back");
    drop(connection);
    node.stopped().await;
}

/// A server that answers one request per connection and then closes it.
async fn one_answer_per_connection(
    listener: &TcpListener,
    reset: bool,
) -> Result<(u64, Vec<u8>), &'static str> {
    let mut raw = Raw::server(listener).await;
    let Some((Kind::Request, id, payload)) = raw.next().await else {
        return Err("no request came");
    };
    if reset {
        // The kernel took the request; its answer never leaves, and the close is a reset.
        raw.stream.set_zero_linger().unwrap();
    } else {
        raw.send(Kind::Response, id, 0, &payload).await;
        // Closing then waits until the other kernel has the end of it.
        let linger = socket2::SockRef::from(&raw.stream).set_linger(Some(LONG));
        linger.unwrap();
    }
    Ok((id, payload))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closed_between_every_two_sends_is_found_before_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (closed, mut is_closed) = tokio::sync::mpsc::channel(1);
    let server = tokio::spawn(async move {
        let mut effects = Vec::new();
        for _ in 0..1000 {
            effects.push(one_answer_per_connection(&listener, false).await.unwrap().1);
            closed.send(()).await.unwrap();
        }
        effects
    });
    let peers = zepto_rpc::Peers::new(Config::default(), 1, hello);
    let mut sent = Vec::new();
    for number in 0..1000u64 {
        let request = number.to_le_bytes().to_vec();
        assert_eq!(peers.call(&address, request.clone(), LONG).await, Ok(request.clone()));
        sent.push(request);
        within(is_closed.recv()).await.unwrap();
    }
    assert_eq!(within(server).await.unwrap(), sent, "each executed exactly once, in order");
    let [peer] = peers.counters().try_into().expect("one peer");
    assert_eq!((peer.answered, peer.unknown, peer.timed_out), (1000, 0, 0));
    assert_eq!((peer.reconnects, peer.stale_connections), (999, 999), "each was found in time");
    // What was found while it waited in the queue counts as not sent, and went out again.
    assert_eq!((peer.requests, peer.sent), (1000 + peer.not_sent, 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closed_at_any_moment_never_makes_an_answer_that_was_not_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let mut effects = std::collections::BTreeMap::new();
        while let Ok((_, payload)) = one_answer_per_connection(&listener, false).await {
            *effects.entry(payload).or_insert(0) += 1;
        }
        effects
    });
    let peers = zepto_rpc::Peers::new(Config::default(), 1, hello);
    let (mut answered, mut unknown) = (Vec::new(), 0);
    for number in 0..200u64 {
        let request = number.to_le_bytes().to_vec();
        // No waiting: the close may come before, while or after this is sent.
        match peers.call(&address, request.clone(), LONG).await {
            Ok(answer) => answered.push(answer),
            Err(CallError::Unknown(_)) => unknown += 1,
            Err(error) => panic!("call {number}: {error}"),
        }
    }
    assert_eq!(answered.len() + unknown, 200, "one outcome each");
    // A last connection without a request ends the server.
    drop(connect(&address, Config::default()).await);
    let effects = within(server).await.unwrap();
    assert!(effects.values().all(|count| *count == 1), "nothing executed twice");
    assert!(answered.iter().all(|key| effects.contains_key(key)), "no answer without effect");
    assert!(effects.len() <= 200);
}

#[tokio::test]
async fn a_reset_after_the_kernel_took_the_request_is_unknown_never_ok() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        for _ in 0..20 {
            one_answer_per_connection(&listener, true).await.unwrap();
        }
    });
    for _ in 0..20 {
        let connection = connect(&address, Config::default()).await;
        let error = connection.call(vec![1], LONG).await.expect_err("never answered");
        assert!(matches!(error, CallError::Unknown(Unknown::ConnectionLost(_))), "{error}");
        assert!(!connection.is_usable());
        let after = connection.call(vec![1], LONG).await.expect_err("over");
        assert!(matches!(after, CallError::NotSent(NotSent::Closed(_))), "{after}");
    }
    server.await.unwrap();
}

#[tokio::test]
async fn a_goaway_tells_which_calls_were_not_accepted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let mut raw = Raw::server(&listener).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(raw.next().await.unwrap().1);
        }
        assert!(ids.is_sorted(), "numbers grow in the order of the wire");
        raw.send(Kind::GoAway, ids[0], 0, &encode_reason(12, "moving house")).await;
        tokio::time::sleep(ms(30)).await;
        raw.send(Kind::Response, ids[0], 0, b"done").await;
        raw.next().await
    });
    let connection = connect(&address, Config::default()).await;
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        let connection = connection.clone();
        callers.spawn(async move { connection.call(vec![1], LONG).await });
    }
    let outcomes = within(callers.join_all()).await;
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let away = CallError::NotSent(NotSent::GoAway("moving house".to_owned()));
    let refused = outcomes.iter().filter(|outcome| **outcome == Err(away.clone())).count();
    assert_eq!((answered, refused), (1, 2));
    assert_eq!(connection.call(vec![1], LONG).await, Err(away));
    assert!(!connection.is_usable());
    assert_eq!(within(server).await.unwrap(), None, "closed by the client once all was answered");
    let reason = within(connection.closed()).await;
    assert_eq!(reason, CloseReason::GoAway("moving house".to_owned()));
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_dead_after_the_ping_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let raw = Raw::server(&listener).await;
        // Takes bytes, as the kernel of a stopped process does, and says nothing.
        std::future::pending::<()>().await;
        drop(raw);
    });
    let config = Config { ping_after: ms(50), ping_dead: ms(200), ..Config::default() };
    let connection = connect(&address, config).await;
    let error = connection.call(vec![1], LONG).await.expect_err("nobody answers");
    assert!(
        matches!(error, CallError::Unknown(Unknown::ConnectionLost(CloseReason::Silent(_)))),
        "{error}"
    );
    assert!(matches!(within(connection.closed()).await, CloseReason::Silent(_)));
    server.abort();
}

#[tokio::test]
async fn an_idle_connection_lives_on_its_pings_alone() {
    let config = Config { ping_after: ms(50), ping_dead: ms(700), ..Config::default() };
    let node = Node::start(config.clone()).await;
    let connection = connect(&node.address, config).await;
    tokio::time::sleep(ms(1500)).await;
    assert!(connection.is_usable(), "twice the time after which silence is death");
    assert!(connection.call(vec![ECHO], LONG).await.is_ok());
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 1);
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn dropping_the_last_handle_closes_and_the_server_takes_note() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    let clone = connection.clone();
    drop(connection);
    assert!(clone.call(vec![ECHO], LONG).await.is_ok(), "a clone keeps it open");
    drop(clone);
    until("closed", || node.handler.closed.load(Ordering::SeqCst) == 1).await;
    node.stopped().await;
}

#[tokio::test]
async fn connecting_to_the_wrong_thing_says_what_is_wrong() {
    let node = Node::start(Config::default()).await;
    let config = Arc::new(Config::default());
    let connect = |address: String, hello: Hello| {
        let config = Arc::clone(&config);
        async move { Connection::connect(&address, &hello, config, LONG).await }
    };
    let stranger = Hello::new(Identity { cluster: Some(2), ..Identity::client("stranger") });
    let error = connect(node.address.clone(), stranger).await.expect_err("another cluster");
    assert!(matches!(&error, ConnectError::Refused { reason: HelloRefusal::Cluster, .. }));
    assert!(error.to_string().contains("this is cluster 0000"), "{error}");

    let mut future = hello();
    (future.protocol_min, future.protocol_max) = (7, 8);
    let error = connect(node.address.clone(), future).await.expect_err("another version");
    assert!(matches!(&error, ConnectError::Refused { reason: HelloRefusal::Version, .. }));
    assert!(error.to_string().contains("versions 7 to 8"), "{error}");

    let error = connect("no-such-host.invalid:1".to_owned(), hello()).await.expect_err("no name");
    assert!(matches!(error, ConnectError::Resolve { .. }), "{error}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = connect(closed.to_string(), hello()).await.expect_err("nobody listens");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    node.stopped().await;
}

#[tokio::test]
async fn a_server_that_never_says_hello_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = Arc::new(Config { hello_timeout: ms(50), ..Config::default() });
    let error =
        Connection::connect(&address, &hello(), config, LONG).await.expect_err("silent server");
    assert_eq!(error, ConnectError::HelloTimeout { address });
}

#[tokio::test]
async fn a_name_with_two_addresses_reaches_the_one_that_listens() {
    // "localhost" is [::1] and 127.0.0.1 on most machines; only one of them listens here.
    let node = Node::start(Config::default()).await;
    let port = node.address.rsplit(':').next().unwrap();
    let connection = connect(&format!("localhost:{port}"), Config::default()).await;
    assert!(connection.call(vec![ECHO], LONG).await.is_ok());
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn ipv6_works_like_ipv4() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let node = Node::on(listener, Config::default());
    let connection = node.connect().await;
    assert!(connection.call(vec![ECHO], LONG).await.is_ok());
    drop(connection);
    node.stopped().await;
}

#[test]
fn a_runtime_that_goes_away_leaves_no_call_waiting() {
    let serving = tokio::runtime::Runtime::new().unwrap();
    let calling = tokio::runtime::Runtime::new().unwrap();
    let node = serving.block_on(Node::start(Config::default()));
    let connection = calling.block_on(node.connect());
    let call = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let other = tokio::runtime::Builder::new_current_thread().enable_time().build();
            other.unwrap().block_on(within(connection.call(sleep_request(60_000), LONG)))
        });
        let handler = &node.handler;
        serving.block_on(until("it runs", || handler.started.load(Ordering::SeqCst) == 1));
        calling.shutdown_background();
        waiting.join().unwrap()
    });
    let lost = CallError::Unknown(Unknown::ConnectionLost(CloseReason::Stopped));
    assert_eq!(call, Err(lost));
    serving.block_on(async { drop(node.stop().await) });
}
