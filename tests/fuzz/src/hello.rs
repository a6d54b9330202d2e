//! The hand-shake: HELLO, the answer to it, and the reasons that frames carry.

use zepto_core::limits::{HELLO_BYTES_MAX, REASON_BYTES_MAX};
use zepto_core::{Incarnation, NodeId};
use zepto_rpc::frame::{decode_reason, encode_reason};
use zepto_rpc::{Hello, HelloRefusal, HelloReply, Identity, Role, Welcome};

use crate::Target;

/// See the module.
pub const TARGET: Target =
    Target { name: "hello", run, seeds, bytes_fixed: 64 << 10, bytes_per_byte: 64 };

/// Any bytes as each of the three.
pub fn run(input: &[u8]) {
    if let Ok(hello) = Hello::decode(input) {
        assert!(input.len() <= HELLO_BYTES_MAX as usize);
        let again = hello.encode().expect("what was within the limits is");
        assert_eq!(Hello::decode(&again).as_ref(), Ok(&hello));
    }
    if let Ok(reply) = HelloReply::decode(input) {
        assert!(input.len() <= HELLO_BYTES_MAX as usize);
        let again = reply.encode().expect("what was within the limits is");
        assert_eq!(HelloReply::decode(&again).as_ref(), Ok(&reply));
    }
    if let Some((code, text)) = decode_reason(input) {
        // Bytes that are no text were replaced, which may take more room than there is.
        let again = encode_reason(code, &text);
        assert!(again.len() <= REASON_BYTES_MAX as usize);
        let (code_again, text_again) = decode_reason(&again).expect("it has a code");
        assert!(code_again == code && text.starts_with(&text_again));
        let refused = HelloReply::refused(HelloRefusal::from_code(code), &text);
        let again = refused.encode().expect("a refusal is within the limits");
        assert_eq!(HelloReply::decode(&again), Ok(refused));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let node = Identity {
        cluster: Some(u128::MAX / 3),
        node: NodeId(4),
        incarnation: Incarnation(1 << 60),
        role: Role::Node,
        host: b"a machine".to_vec(),
        topology_index: 77,
        ..Identity::client("node-4")
    };
    let hello = Hello { extra: vec![5; 100], ..Hello::new(node.clone()) };
    let welcome = Welcome { identity: node, extra: Vec::new() };
    let accepted = HelloReply::Accepted { protocol: 1, requests_max: 256, welcome };
    let refused = HelloReply::refused(HelloRefusal::Cluster, "this is another cluster");
    let hellos = [Hello::new(Identity::client("feed")).encode(), hello.encode()];
    let all = hellos.into_iter().chain([accepted.encode(), refused.encode()]);
    let mut seeds: Vec<_> = all.map(|bytes| bytes.expect("within the limits")).collect();
    seeds.push(encode_reason(7, "denied, because \u{20ac}"));
    seeds
}
