//! The hand-shake's payloads: bounds, versions, and who is let in.

use zepto_abi::{Incarnation, NodeId};
use zepto_rpc::hello::{HelloError, admit};
use zepto_rpc::{Hello, HelloRefusal, HelloReply, Identity, Role, Welcome};

fn node() -> Identity {
    Identity {
        cluster: Some(0xABCD << 64),
        node: NodeId(7),
        name: Some("node-7".to_owned()),
        incarnation: Incarnation(99),
        role: Role::Node,
        host: b"machine/namespace".to_vec(),
        topology_index: 12345,
        ping_after_ms: 1000,
        ping_dead_ms: 3000,
    }
}

fn accepted() -> HelloReply {
    let welcome = Welcome { identity: node(), extra: vec![1, 2, 3] };
    HelloReply::Accepted { protocol: 1, requests_max: 256, welcome }
}

#[test]
fn hello_and_its_answers_survive_the_wire() {
    let mut hello = Hello::new(node());
    hello.extra = vec![9; 100];
    assert_eq!(Hello::decode(&hello.encode().expect("short")), Ok(hello));
    for reply in [accepted(), HelloReply::refused(HelloRefusal::Cluster, "another cluster")] {
        assert_eq!(HelloReply::decode(&reply.encode().expect("short")), Ok(reply));
    }
}

#[test]
fn a_hello_cut_or_extended_anywhere_is_an_error() {
    let whole = Hello::new(node()).encode().expect("short");
    for cut in 0..whole.len() {
        assert!(Hello::decode(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(matches!(Hello::decode(&longer), Err(HelloError::Malformed(_))));
    let reply = accepted().encode().expect("short");
    for cut in 0..reply.len() {
        assert!(HelloReply::decode(&reply[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_length_that_lies_is_an_error_and_reserves_nothing() {
    // The name's length byte raised to what five bytes can say at most.
    let whole = Hello::new(node()).encode().expect("short");
    let at = whole.windows(6).position(|window| window == b"node-7").expect("the name") - 1;
    let mut lying = whole[..at].to_vec();
    lying.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]);
    lying.extend_from_slice(&whole[at + 1..]);
    assert!(matches!(Hello::decode(&lying), Err(HelloError::Malformed(_))));
}

#[test]
fn a_peer_of_another_version_is_told_so_even_if_the_rest_has_another_shape() {
    let mut future = Hello::new(node());
    (future.protocol_min, future.protocol_max) = (2, 9);
    let mut bytes = future.encode().expect("short");
    bytes.truncate(3);
    let error = Hello::decode(&bytes).expect_err("no common version");
    assert_eq!(error, HelloError::Version { min: 2, max: 9 });
    assert!(error.to_string().contains("versions 2 to 9 of the peer and 1 to 1 of this side"));
    let mut both = Hello::new(node());
    both.protocol_max = 9;
    assert!(Hello::decode(&both.encode().expect("short")).is_ok(), "1 to 9 includes 1");
}

#[test]
fn parts_beyond_their_limits_are_refused_by_name() {
    let expect = |hello: Hello, text: &str| {
        let error = hello.encode().expect_err(text).to_string();
        assert!(error.starts_with(text), "{error}");
    };
    let mut named = Hello::new(node());
    named.identity.name = Some("x".repeat(65));
    expect(named, "the name has 65 bytes");
    let mut hosted = Hello::new(node());
    hosted.identity.host = vec![0; 257];
    expect(hosted, "the host identity has 257 bytes");
    let mut longer = Hello::new(node());
    longer.extra = vec![0; 2049];
    expect(longer, "the extra part has 2049 bytes");
}

#[test]
fn another_cluster_and_an_older_life_are_refused_with_a_readable_text() {
    let ours = node().cluster;
    assert_eq!(admit(ours, None, &node()), Ok(()));
    assert_eq!(admit(None, None, &node()), Ok(()), "this side does not know its cluster yet");
    assert_eq!(admit(ours, None, &Identity::client("feed")), Ok(()), "a client need not know it");
    assert_eq!(admit(ours, Some(Incarnation(99)), &node()), Ok(()), "the same life again");

    let (reason, text) = admit(Some(1), None, &node()).expect_err("other cluster");
    assert_eq!(reason, HelloRefusal::Cluster);
    assert!(
        text.starts_with("this is cluster 00000000000000000000000000000001, you are"),
        "{text}"
    );

    let (reason, text) = admit(ours, Some(Incarnation(100)), &node()).expect_err("older life");
    assert_eq!(reason, HelloRefusal::Incarnation);
    assert_eq!(text, "node-7 with incarnation 100 is known here, yours is the older 99");
}

#[test]
fn an_unknown_refusal_code_is_read_as_permanent() {
    assert_eq!(HelloRefusal::from_code(12345), HelloRefusal::Denied);
    assert!(!HelloRefusal::from_code(12345).is_transient());
    for code in 1..=9 {
        assert_eq!(HelloRefusal::from_code(code).code(), code);
    }
}
