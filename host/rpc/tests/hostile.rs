//! Peers that are silent, slow, wrong or too many: they are told why, and nobody else notices.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::atomic::Ordering;

use common::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zepto_rpc::frame::{Body, Header, Kind, decode_reason, encode_frame};
use zepto_rpc::{Config, HelloRefusal, HelloReply};

/// What a server says to a peer that it does not let in.
async fn refusal(raw: &mut Raw) -> (HelloRefusal, String) {
    let frame = raw.frame().await.expect("a refusal, not silence");
    assert_eq!(frame.header.kind, Kind::HelloReply);
    let Body::Whole(payload) = frame.body else { panic!("no payload") };
    match HelloReply::decode(&payload).expect("valid") {
        HelloReply::Refused { code, text } => (HelloRefusal::from_code(code), text),
        reply => panic!("let in: {reply:?}"),
    }
}

async fn raw(address: &str) -> Raw {
    Raw::new(TcpStream::connect(address).await.unwrap())
}

#[tokio::test]
async fn the_1025th_connection_is_told_why_and_a_freed_place_is_used_again() {
    let config = Config { hello_timeout: LONG, ..Config::default() };
    let node = Node::start(config).await;
    let mut silent = Vec::new();
    let connection = node.connect().await;
    for _ in 1..1024 {
        silent.push(TcpStream::connect(&node.address).await.unwrap());
    }
    let mut extra = raw(&node.address).await;
    let (reason, text) = refusal(&mut extra).await;
    assert_eq!(reason, HelloRefusal::Full);
    assert_eq!(text, "this node has all the 1024 connections it may have; try later");
    assert!(extra.frame().await.is_none(), "and then closed");
    assert!(connection.call(vec![ECHO], LONG).await.is_ok(), "the others are untouched");

    drop(silent.pop());
    let mut attempts = 0;
    let again = loop {
        let config = std::sync::Arc::new(Config::default());
        match zepto_rpc::Connection::connect(&node.address, &hello(), config, LONG).await {
            Ok(again) => break again,
            Err(error) => assert!(error.to_string().contains("1024 connections"), "{error}"),
        }
        attempts += 1;
        assert!(attempts < 1000, "the freed place is never used");
        tokio::time::sleep(ms(5)).await;
    };
    assert!(again.call(vec![ECHO], LONG).await.is_ok());
    drop((connection, again, silent));
    node.stopped().await;
}

#[tokio::test]
async fn bytes_that_are_no_hello_get_an_answer_they_can_read_or_the_end() {
    let node = Node::start(Config::default()).await;
    let good = encode_frame(Kind::Hello, 0, 0, &hello().encode().unwrap());

    let mut other_version = good.clone();
    other_version[4] = 9;
    let mut peer = raw(&node.address).await;
    peer.stream.write_all(&other_version).await.unwrap();
    let (reason, text) = refusal(&mut peer).await;
    assert_eq!(reason, HelloRefusal::Version);
    assert_eq!(text, "frame version 9 is not supported, this side speaks version 1");

    let mut peer = raw(&node.address).await;
    peer.send(Kind::Hello, 0, 0, &[0xFF; 30]).await;
    assert_eq!(refusal(&mut peer).await.0, HelloRefusal::Malformed);

    let mut peer = raw(&node.address).await;
    peer.send(Kind::Ping, 0, 0, &[]).await;
    assert_eq!(refusal(&mut peer).await.1, "a Ping frame before the HELLO");

    let mut peer = raw(&node.address).await;
    let header = Header { kind: Kind::Hello, id: 0, deadline_ms: 0, payload_bytes: 4096 };
    let mut long = header.encode();
    long[20..24].copy_from_slice(&(64u32 << 20).to_le_bytes());
    peer.stream.write_all(&long).await.unwrap();
    assert!(refusal(&mut peer).await.1.contains("more than the 4096 allowed"));

    let mut peer = raw(&node.address).await;
    peer.stream.write_all(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n").await.unwrap();
    assert!(peer.frame().await.is_none(), "not our language: closed");

    for cut in [0, 1, 23, 24, good.len() - 1] {
        let mut peer = raw(&node.address).await;
        peer.stream.write_all(&good[..cut]).await.unwrap();
        peer.stream.shutdown().await.unwrap();
        assert!(peer.frame().await.is_none(), "cut at {cut}: closed");
    }
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 0);
    assert!(node.connect().await.call(vec![ECHO], LONG).await.is_ok());
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_silent_or_dripping_peers_time_out_and_disturb_nobody() {
    let config = Config { hello_timeout: ms(300), ..Config::default() };
    let node = Node::start(config).await;
    let connection = node.connect().await;
    let mut peers = tokio::task::JoinSet::new();
    for number in 0..200 {
        let address = node.address.clone();
        peers.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let hello = encode_frame(Kind::Hello, 0, 0, &hello().encode().unwrap());
            if number % 2 == 1 {
                // One byte now and then: faster than any time-out per byte, slower than the whole.
                for byte in hello {
                    if stream.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(ms(20)).await;
                }
            }
            let mut rest = Vec::new();
            // A reset counts as closed: bytes of ours were still on their way.
            within(stream.read_to_end(&mut rest)).await.unwrap_or_default()
        });
    }
    for _ in 0..300 {
        assert!(connection.call(vec![ECHO; 100], SECOND).await.is_ok());
    }
    let answers = within(peers.join_all()).await;
    assert_eq!(answers, [0; 200], "closed without a word of welcome");
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 1);
    assert!(connection.call(vec![ECHO], LONG).await.is_ok());
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn a_frame_that_drips_or_stops_is_cut_off_with_the_reason() {
    let config = Config { header_timeout: ms(150), body_timeout: ms(250), ..Config::default() };
    let node = Node::start(config).await;
    let request = encode_frame(Kind::Request, 1, 1000, &[ECHO; 1000]);
    for begun in [1, 23, 24, 500] {
        let mut peer = Raw::client(&node.address).await;
        peer.stream.write_all(&request[..begun]).await.unwrap();
        let limit = if begun < 24 { 150 } else { 250 };
        let (kind, last_accepted, payload) = peer.next().await.expect("a reason");
        assert_eq!((kind, last_accepted), (Kind::GoAway, 0));
        let (_, text) = decode_reason(&payload).unwrap();
        assert_eq!(text, format!("the peer did not finish a frame in {limit} ms"));
        assert_eq!(peer.next().await, None);
    }
    assert_eq!(node.handler.started.load(Ordering::SeqCst), 0);
    node.stopped().await;
}

#[tokio::test]
async fn two_hundred_peers_that_declare_64_mib_take_nothing_from_the_others() {
    // Room for one such payload in the whole server.
    let config = Config { request_bytes_max: 64 << 20, ..Config::default() };
    let node = Node::start(config).await;
    let mut peers = Vec::new();
    for _ in 0..200 {
        let mut peer = Raw::client(&node.address).await;
        let header = Header { kind: Kind::Request, id: 1, deadline_ms: 9, payload_bytes: 64 << 20 };
        peer.stream.write_all(&header.encode()).await.unwrap();
        peer.stream.write_all(b"x").await.unwrap();
        peers.push(peer);
    }
    let connection = node.connect().await;
    let answer = connection.call(vec![ECHO; 32 << 20], LONG).await;
    assert_eq!(answer.map(|answer| answer.len()), Ok(32 << 20), "the bytes are still there");
    drop((peers, connection));
    node.stopped().await;
}

#[tokio::test]
async fn frames_that_have_no_place_end_the_connection_with_the_reason() {
    let node = Node::start(Config::default()).await;
    let reason = |text: &str| format!("the peer broke the protocol: {text}");
    let cases: [(Vec<u8>, String); 6] = [
        (encode_frame(Kind::Response, 1, 0, &[]), reason("a client sent a Response frame")),
        (encode_frame(Kind::LaneCredit, 1, 0, &[]), reason("a client sent a LaneCredit frame")),
        (encode_frame(Kind::LaneData, 3, 0, &[0; 72]), reason("lane 3 was never opened")),
        (encode_frame(Kind::Request, 0, 9, &[]), reason("request 0 after request 0")),
        (encode_frame(Kind::LaneOpen, 0, 9, &[]), reason("lane 0 after lane 0")),
        (encode_frame(Kind::Hello, 0, 0, &[]), "a Hello frame after the hand-shake".to_owned()),
    ];
    for (bytes, text) in cases {
        let mut peer = Raw::client(&node.address).await;
        peer.stream.write_all(&bytes).await.unwrap();
        let (kind, _, payload) = peer.next().await.expect("a reason");
        assert_eq!(kind, Kind::GoAway);
        assert_eq!(decode_reason(&payload).unwrap().1, text);
        assert_eq!(peer.next().await, None);
    }
    node.stopped().await;
}

#[tokio::test]
async fn a_request_that_is_sent_twice_is_executed_once() {
    let node = Node::start(Config::default()).await;
    let mut peer = Raw::client(&node.address).await;
    let request = [EFFECT, 1, 2, 3];
    peer.send(Kind::Request, 7, 1000, &request).await;
    assert_eq!(peer.next().await, Some((Kind::Response, 7, request.to_vec())));
    peer.send(Kind::Request, 7, 1000, &request).await;
    assert_eq!(peer.next().await.map(|(kind, ..)| kind), Some(Kind::GoAway));
    assert_eq!(node.handler.effects.lock().unwrap().values().sum::<usize>(), 1);
    node.stopped().await;
}

#[tokio::test]
async fn requests_beyond_the_connections_bound_are_refused_and_the_rest_answered() {
    let node = Node::start(Config::default()).await;
    let mut peer = Raw::client(&node.address).await;
    for id in 1..=300 {
        peer.send(Kind::Request, id, 30_000, &sleep_request(500)).await;
    }
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..300 {
        match peer.next().await.expect("an answer to each") {
            (Kind::Response, ..) => answered += 1,
            (Kind::Refused, _, payload) => {
                refused += 1;
                let (code, text) = decode_reason(&payload).unwrap();
                assert_eq!(code, zepto_abi::Refusal::Overloaded.code());
                assert_eq!(text, "too many requests in flight on this connection");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(answered >= 256 && refused > 0, "{answered} answered, {refused} refused");
    assert_eq!(answered + refused, 300);
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_is_cut_off_and_disturbs_nobody() {
    // Silence is no reason here, only that nothing is taken.
    let (ping_after, ping_dead) = (LONG * 2, LONG * 4);
    let config = Config { body_timeout: ms(500), ping_after, ping_dead, ..Config::default() };
    let node = Node::start(config).await;
    let connection = node.connect().await;
    let mut peer = Raw::client(&node.address).await;
    for id in 1..=20 {
        peer.send(Kind::Request, id, 30_000, &large_request(2048)).await;
    }
    until("cut off", || node.handler.closed.load(Ordering::SeqCst) == 1).await;
    assert!(connection.call(large_request(2048), LONG).await.is_ok());
    drop((peer, connection));
    assert!(node.stopped().await.is_complete());
}

#[tokio::test]
async fn a_flood_of_refused_requests_does_not_grow_the_queue_without_bound() {
    let config = Config { requests_per_connection_max: 1, ..Config::default() };
    let node = Node::start(config).await;
    let mut peer = Raw::client(&node.address).await;
    peer.send(Kind::Request, 1, 60_000, &sleep_request(60_000)).await;
    // Nobody reads the refusals: the server stops reading once enough of them wait, and then the
    // kernel takes no more from the peer. 24 MB are far above what the kernel itself holds.
    let flood: Vec<u8> =
        (2..1_000_000).flat_map(|id| encode_frame(Kind::Request, id, 60_000, &[])).collect();
    let mut written = 0;
    while let Ok(result) = tokio::time::timeout(ms(500), peer.stream.write(&flood[written..])).await
    {
        written += result.unwrap();
        assert!(written < flood.len(), "the server took the whole flood");
    }
    let mut refused = 0;
    while refused < 100_000 {
        // Pings stay unanswered: this peer cannot write before it has read.
        let frame = peer.frame().await.expect("a refusal for each that was read");
        match frame.header.kind {
            Kind::Refused => refused += 1,
            kind => assert_eq!(kind, Kind::Ping),
        }
    }
    let more = within(peer.stream.write(&flood[written..])).await.unwrap();
    assert!(more > 0, "reading went on once the refusals were taken");
    drop(peer);
    node.stopped().await;
}

#[tokio::test]
async fn pings_are_answered_with_their_number() {
    let node = Node::start(Config::default()).await;
    let mut peer = Raw::client(&node.address).await;
    for id in [1, u64::MAX, 7] {
        peer.send(Kind::Ping, id, 0, &[]).await;
        let frame = peer.frame().await.unwrap();
        assert_eq!((frame.header.kind, frame.header.id), (Kind::Pong, id));
    }
    drop(peer);
    node.stopped().await;
}
