//! Sessions under a cluster secret: who knows it comes in, nobody else does or learns anything, and
//! whoever sits in between can only end the connection.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use common::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use zepto_rpc::frame::{Body, HEADER_BYTES, Kind};
use zepto_rpc::secure::{SecretCounts, SecureError};
use zepto_rpc::{
    Authentication, CallError, CloseReason, ClusterSecret, Config, ConnectError, Connection,
    HelloRefusal, HelloReply, Identity, NotSent, Peers, Unknown, Welcome,
};

/// Bytes of the frame with a proof.
const PROOF_BYTES: usize = HEADER_BYTES + 56;

fn effect(key: &str) -> Vec<u8> {
    [&[EFFECT], key.as_bytes()].concat()
}

fn effects(node: &Node) -> Vec<(String, usize)> {
    let effects = node.handler.effects.lock().unwrap();
    let named = effects.iter().map(|(key, count)| (String::from_utf8_lossy(key).into(), *count));
    named.collect()
}

/// A node with a secret, and the counts of that.
async fn node(key: &str) -> (Node, ClusterSecret) {
    let config = secure(key);
    let secret = config.secret.clone().expect("it is secure");
    (Node::start(config).await, secret)
}

async fn try_connect(address: &str, config: &Config) -> Result<Connection, ConnectError> {
    Connection::connect(address, &hello(), Arc::new(config.clone()), LONG).await
}

fn refusal(error: ConnectError) -> String {
    match error {
        ConnectError::Refused { reason: HelloRefusal::Secret, text, .. } => text,
        error => panic!("{error}"),
    }
}

/// What the one in the middle does with the client's n-th message: number 0 is the proof, 1 the
/// record with the HELLO, the others are records of requests.
type Tamper = Box<dyn FnMut(usize, Vec<u8>) -> Vec<Vec<u8>> + Send>;

/// Somebody between a client and a node who sees, and may change, what the client says.
struct Middle {
    address: String,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Middle {
    async fn start(node: &Node, mut tamper: Tamper) -> Middle {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (server, log) = (node.address.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(server).await.unwrap();
            let ((mut near, mut back), (mut from, mut far)) = (near.into_split(), far.into_split());
            tokio::spawn(async move {
                // The end of either side is the end of the way.
                drop(tokio::io::copy(&mut from, &mut back).await);
                drop(back.shutdown().await);
            });
            let mut number = 0;
            while let Some(message) = message(&mut near, number).await {
                log.lock().unwrap().push(message.clone());
                for message in tamper(number, message) {
                    if far.write_all(&message).await.is_err() {
                        return;
                    }
                }
                number += 1;
            }
            drop(far.shutdown().await);
        });
        Middle { address, seen }
    }

    fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn message(from: &mut (impl tokio::io::AsyncRead + Unpin), number: usize) -> Option<Vec<u8>> {
    let (head, length) = match number {
        0 => (Vec::new(), PROOF_BYTES),
        _ => {
            let mut head = vec![0; 2];
            from.read_exact(&mut head).await.ok()?;
            let length = u16::from_le_bytes([head[0], head[1]]);
            (head, length.into())
        }
    };
    let mut body = vec![0; length];
    from.read_exact(&mut body).await.ok()?;
    Some([head, body].concat())
}

fn pass() -> Tamper {
    Box::new(|_, message| vec![message])
}

/// What a client says when it connects and asks for one effect: the proof and two records.
async fn recorded(node: &Node, key: &str) -> Vec<u8> {
    let middle = Middle::start(node, pass()).await;
    let connection = connect(&middle.address, secure(key)).await;
    assert!(connection.call(effect("recorded"), LONG).await.is_ok());
    let seen = middle.seen.lock().unwrap();
    seen.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_same_secret_calls_of_every_size_are_answered_and_the_node_knows_the_key() {
    let (node, secret) = node(OLD_KEY).await;
    let connection = connect(&node.address, secure(OLD_KEY)).await;
    for bytes in [1, 2, 1000, 65_518, 65_519, 65_520, 300_000, 64 << 20] {
        let request: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8 & !7).collect();
        let answer = connection.call(request.clone(), LONG).await.expect("answered");
        assert!(answer == request, "{bytes} bytes came back changed");
    }
    let proved = Authentication::ClusterSecret(secret.key_ids()[0]);
    assert_eq!(*node.handler.authentication.lock().unwrap(), Some(proved));
    assert_eq!(secret.counts().accepted, 1);
    drop(connection);
    assert!(node.stopped().await.is_complete());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_keep_their_answers_apart_in_a_secure_session() {
    let (node, _) = node(OLD_KEY).await;
    let connection = connect(&node.address, secure(OLD_KEY)).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..2000u32 {
        let connection = connection.clone();
        calls.spawn(async move {
            let bytes = [vec![ECHO], number.to_le_bytes().repeat(1 + number as usize)].concat();
            connection.call(bytes.clone(), LONG).await == Ok(bytes)
        });
    }
    assert_eq!(within(calls.join_all()).await, [true; 2000]);
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn another_secret_is_refused_by_its_key_id_and_tried_again_only_at_intervals() {
    let (node, there) = node(OLD_KEY).await;
    let config = Config { reconnect_min: ms(100), reconnect_max: ms(100), ..secure(NEW_KEY) };
    let text = refusal(try_connect(&node.address, &config).await.expect_err("another secret"));
    let id = config.secret.as_ref().expect("it is secure").key_ids()[0];
    let expected = format!(
        "the cluster key {id} of the peer is not known to this node; both need the same cluster \
         secret"
    );
    assert_eq!(text, expected);
    let peers = Peers::new(config, 1, hello);
    let until = tokio::time::Instant::now() + SECOND;
    while tokio::time::Instant::now() < until {
        let error = peers.call(&node.address, vec![ECHO], ms(200)).await.expect_err("refused");
        assert!(matches!(error, CallError::NotSent(_)), "{error}");
    }
    let refused = there.counts().refused_key;
    assert!((2..=22).contains(&refused), "{refused} attempts in a second, 50 ms between two");
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 0);
    node.stopped().await;
}

#[tokio::test]
async fn a_peer_without_the_secret_is_told_what_to_set_and_nothing_it_says_counts() {
    let (node, secret) = node(OLD_KEY).await;
    let plain = Config::default();
    let text = refusal(try_connect(&node.address, &plain).await.expect_err("no secret"));
    assert!(text.contains("set ZEPTO_CLUSTER_SECRET_FILE, or give --secret-file"), "{text}");

    // Whoever knows the name of the key, but not the key.
    let mut forged = Raw::new(TcpStream::connect(&node.address).await.unwrap());
    let proof = [&secret.key_ids()[0].0[..], &[7; 48]].concat();
    forged.send(Kind::Noise, 0, 0, &proof).await;
    let Body::Whole(payload) = forged.frame().await.expect("a refusal").body else { panic!() };
    let reply = HelloReply::decode(&payload).expect("valid");
    let HelloReply::Refused { code, text } = reply else { panic!("{reply:?}") };
    assert_eq!(HelloRefusal::from_code(code), HelloRefusal::Secret);
    assert_eq!(text, "the peer did not prove that it knows the cluster secret");
    assert!(forged.frame().await.is_none(), "and then closed");

    let counts = secret.counts();
    assert_eq!((counts.refused_plain, counts.refused_proof, counts.accepted), (1, 1, 0));
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 0);
    assert_eq!(effects(&node), []);
    node.stopped().await;
}

#[tokio::test]
async fn a_peer_with_a_secret_says_nothing_to_a_node_that_has_none() {
    let node = Node::start(Config::default()).await;
    let text = refusal(try_connect(&node.address, &secure(OLD_KEY)).await.expect_err("no secret"));
    assert!(text.starts_with("this node has no cluster secret and the peer uses one"), "{text}");
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 0);
    node.stopped().await;

    // One that welcomes it in the clear all the same gets not even its HELLO.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let impostor = tokio::spawn(async move {
        let mut raw = Raw::new(listener.accept().await.unwrap().0);
        let first = raw.frame().await.expect("a proof").header.kind;
        let welcome = Welcome { identity: Identity::client("raw"), extra: Vec::new() };
        let reply = HelloReply::Accepted { protocol: 1, requests_max: 256, welcome };
        raw.send(Kind::HelloReply, 0, 0, &reply.encode().unwrap()).await;
        (first, raw.frame().await)
    });
    let error = try_connect(&address, &secure(OLD_KEY)).await.expect_err("no proof").to_string();
    assert!(error.contains("without a proof of the cluster secret"), "{error}");
    assert_eq!(within(impostor).await.unwrap(), (Kind::Noise, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_node_by_node_and_no_valid_key_is_ever_refused() {
    let (files, secrets): (Vec<_>, Vec<_>) = (0..2).map(|_| secret_file(&[OLD_KEY])).unzip();
    let config = |n: usize| Config { secret: Some(secrets[n].clone()), ..Config::default() };
    let nodes = [Node::start(config(0)).await, Node::start(config(1)).await];
    let early = connect(&nodes[1].address, config(0)).await;
    let steps: [&[&str]; 3] = [&[OLD_KEY, NEW_KEY], &[NEW_KEY, OLD_KEY], &[NEW_KEY]];
    for step in steps {
        for file in &files {
            std::fs::write(file.path(), step.join("\n")).unwrap();
            // The first connection waits until the file may be read again.
            tokio::time::sleep(ms(1100)).await;
            for (from, to) in [(0, 1), (1, 0)] {
                let connection = connect(&nodes[to].address, config(from)).await;
                assert!(connection.call(vec![ECHO], LONG).await.is_ok());
            }
        }
    }
    let new_id = secret_file(&[NEW_KEY]).1.key_ids();
    assert_eq!([secrets[0].key_ids(), secrets[1].key_ids()], [new_id.clone(), new_id]);
    let text = refusal(try_connect(&nodes[0].address, &secure(OLD_KEY)).await.expect_err("gone"));
    assert!(text.contains("is not known to this node"), "{text}");
    assert!(early.call(vec![ECHO], LONG).await.is_ok(), "an open session goes on");

    // A file that was spoilt leaves the keys in force.
    std::fs::write(files[0].path(), "short").unwrap();
    tokio::time::sleep(ms(1100)).await;
    refusal(try_connect(&nodes[0].address, &secure(OLD_KEY)).await.expect_err("still gone"));
    connect(&nodes[0].address, config(1)).await;
    connect(&nodes[1].address, config(0)).await;
    drop(early);
    for node in nodes {
        node.stopped().await;
    }
}

#[tokio::test]
async fn a_recorded_session_that_is_played_again_executes_nothing_and_is_counted() {
    let (node, secret) = node(OLD_KEY).await;
    let recorded = recorded(&node, OLD_KEY).await;
    assert_eq!(effects(&node), [("recorded".into(), 1)]);
    for at_once in [true, false] {
        let mut stream = TcpStream::connect(&node.address).await.unwrap();
        let (proof, records) = recorded.split_at(PROOF_BYTES);
        stream.write_all(proof).await.unwrap();
        if !at_once {
            // The proof itself is good enough for an answer, and for no more.
            stream.read_exact(&mut [0; PROOF_BYTES]).await.unwrap();
        }
        // It may be closed before all is said.
        drop(stream.write_all(records).await);
        let mut rest = Vec::new();
        within(stream.read_to_end(&mut rest)).await.unwrap_or_default();
        assert!(rest.len() <= PROOF_BYTES, "no word beyond the answer to the proof");
    }
    until("both are counted", || secret.counts().refused_record == 2).await;
    assert_eq!(effects(&node), [("recorded".into(), 1)]);
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 1);
    node.stopped().await;
}

#[tokio::test]
async fn a_hand_shake_cut_anywhere_lets_nobody_in() {
    let (node, _) = node(OLD_KEY).await;
    let recorded = recorded(&node, OLD_KEY).await;
    let hello_ends = PROOF_BYTES
        + 2
        + usize::from(u16::from_le_bytes([recorded[PROOF_BYTES], recorded[PROOF_BYTES + 1]]));
    for cut in 0..hello_ends {
        let mut stream = TcpStream::connect(&node.address).await.unwrap();
        stream.write_all(&recorded[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // A reset counts as closed too.
        within(stream.read_to_end(&mut rest)).await.unwrap_or_default();
    }
    assert_eq!(node.handler.greeted.load(Ordering::SeqCst), 1, "only the one that was recorded");
    assert!(connect(&node.address, secure(OLD_KEY)).await.call(vec![ECHO], LONG).await.is_ok());
    node.stopped().await;
}

#[tokio::test]
async fn what_a_stranger_declares_before_it_has_proved_anything_is_not_waited_for() {
    let (node, secret) = node(OLD_KEY).await;
    let recorded = recorded(&node, OLD_KEY).await;
    // A proof of another length.
    let mut raw = Raw::new(TcpStream::connect(&node.address).await.unwrap());
    let mut long = recorded[..HEADER_BYTES].to_vec();
    long[20..24].copy_from_slice(&(64u32 << 20).to_le_bytes());
    raw.stream.write_all(&long).await.unwrap();
    let Body::Whole(payload) = raw.frame().await.expect("a refusal").body else { panic!() };
    let reply = HelloReply::decode(&payload).expect("valid");
    assert!(matches!(&reply, HelloReply::Refused { text, .. } if text.contains("56")), "{reply:?}");
    // A first record longer than any HELLO: closed at its length, nothing more is read.
    let mut stream = TcpStream::connect(&node.address).await.unwrap();
    stream.write_all(&recorded[..PROOF_BYTES]).await.unwrap();
    stream.read_exact(&mut [0; PROOF_BYTES]).await.unwrap();
    stream.write_all(&u16::MAX.to_le_bytes()).await.unwrap();
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap_or_default();
    assert_eq!(rest, []);
    until("it is counted", || secret.counts().refused_record == 1).await;
    node.stopped().await;
}

/// Asks for the effects a, b and c, each in a record of its own, of which b's is tampered with.
/// Returns how the three ended.
async fn tampered(node: &Node, tamper: Tamper) -> (Connection, Vec<Result<(), CallError>>) {
    let middle = Middle::start(node, tamper).await;
    let connection = connect(&middle.address, secure(OLD_KEY)).await;
    let mut calls = Vec::new();
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let connection = connection.clone();
        calls.push(tokio::spawn(
            async move { connection.call(effect(name), LONG).await.map(|_| ()) },
        ));
        if number == 0 {
            until("a is executed", || effects(node).len() == 1).await;
        } else {
            let sent = || middle.seen() > number + 2 || connection_ended(&calls);
            until("it is on its way", sent).await;
        }
    }
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(within(call).await.unwrap());
    }
    (connection, outcomes)
}

fn connection_ended<T>(calls: &[tokio::task::JoinHandle<T>]) -> bool {
    calls.iter().skip(1).all(|call| call.is_finished())
}

#[tokio::test]
async fn whoever_changes_drops_doubles_or_swaps_a_record_ends_the_connection_and_nothing_else() {
    const B: usize = 3;
    let flip = |number: usize, mut message: Vec<u8>| {
        if number == B {
            *message.last_mut().unwrap() ^= 1;
        }
        vec![message]
    };
    let drop_one = |number: usize, message: Vec<u8>| match number {
        B => Vec::new(),
        _ => vec![message],
    };
    let double = |number: usize, message: Vec<u8>| match number {
        B => vec![message.clone(), message],
        _ => vec![message],
    };
    let mut held = None;
    let swap = move |number: usize, message: Vec<u8>| match number {
        B => {
            held = Some(message);
            Vec::new()
        }
        _ => [Some(message), held.take()].into_iter().flatten().collect(),
    };
    let cases: [(&str, Tamper, &[&str]); 4] = [
        ("changed", Box::new(flip), &["a"]),
        ("dropped", Box::new(drop_one), &["a"]),
        ("doubled", Box::new(double), &["a", "b"]),
        ("swapped", Box::new(swap), &["a"]),
    ];
    for (case, tamper, executed) in cases {
        let (node, secret) = node(OLD_KEY).await;
        let (connection, outcomes) = tampered(&node, tamper).await;
        assert_eq!(outcomes[0], Ok(()), "{case}");
        let c = &outcomes[2];
        assert!(matches!(c, Err(CallError::Unknown(_) | CallError::NotSent(_))), "{case}: {c:?}");
        let reason = within(connection.closed()).await.to_string();
        assert!(reason.contains("a record did not open"), "{case}: the node says why: {reason}");
        let expected: Vec<_> = executed.iter().map(|name| ((*name).to_owned(), 1)).collect();
        assert_eq!(effects(&node), expected, "{case}");
        let SecretCounts { refused_record, .. } = secret.counts();
        assert_eq!(refused_record, 1, "{case}");
        node.stopped().await;
    }
}

#[tokio::test]
async fn an_answer_that_was_changed_on_its_way_is_unknown_to_its_caller_and_never_believed() {
    let (node, _) = node(OLD_KEY).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let server = node.address.clone();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(server).await.unwrap();
        let ((mut near, mut back), (mut from, mut far)) = (near.into_split(), far.into_split());
        tokio::spawn(async move { drop(tokio::io::copy(&mut near, &mut far).await) });
        // The proof, the welcome, and the answer.
        for number in 0..3 {
            let mut message = message(&mut from, number).await.unwrap();
            if number == 2 {
                message[2] ^= 1;
            }
            back.write_all(&message).await.unwrap();
        }
        // Held open: the client must end it.
        drop(message(&mut from, 1).await);
    });
    let config = secure(OLD_KEY);
    let connection = connect(&address.to_string(), config.clone()).await;
    let outcome = connection.call(vec![ECHO], LONG).await;
    let reason = CloseReason::Secure(SecureError::Record);
    assert_eq!(outcome, Err(CallError::Unknown(Unknown::ConnectionLost(reason.clone()))));
    assert_eq!(within(connection.closed()).await, reason);
    assert_eq!(config.secret.expect("it is secure").counts().refused_record, 1);
    node.stopped().await;
}

#[tokio::test]
async fn a_record_that_is_begun_and_never_finished_ends_the_connection_in_time() {
    let config = Config { body_timeout: ms(250), ..secure(OLD_KEY) };
    let node = Node::start(config).await;
    let half = |number: usize, message: Vec<u8>| match number {
        0 | 1 => vec![message],
        2 => vec![message[..message.len() / 2].to_vec()],
        _ => Vec::new(),
    };
    let middle = Middle::start(&node, Box::new(half)).await;
    let connection = connect(&middle.address, secure(OLD_KEY)).await;
    let outcome = connection.call(effect("never"), LONG).await;
    // The node says that it took nothing, so the call may be made again elsewhere.
    assert!(matches!(outcome, Err(CallError::NotSent(NotSent::GoAway(_)))), "{outcome:?}");
    let reason = within(connection.closed()).await.to_string();
    assert!(reason.contains("did not finish a frame in 250 ms"), "{reason}");
    assert_eq!(effects(&node), []);
    node.stopped().await;
}
