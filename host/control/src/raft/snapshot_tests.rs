//! Tests of snapshots: what is written is read back, and what is damaged is refused.

use super::*;
use crate::entry;
use crate::testing::{activate, bootstrap, intern, join};
use proptest::prelude::*;
use zepto_core::topology::Applied;

fn topology() -> Topology {
    let mut topology = Topology::empty();
    let commands = [bootstrap(), join("a", 1), activate(1, 1), intern("x"), intern("y")];
    for (index, command) in (1..).zip(commands) {
        let digest = entry::digest(&entry::encode(&command).unwrap());
        assert!(matches!(topology.apply(index, digest, &command), Applied::Changed(_)));
    }
    topology.pass(6);
    topology
}

#[test]
fn what_comes_out_is_what_went_in() {
    for topology in [Topology::empty(), topology()] {
        let bytes = encode(&topology).unwrap();
        let back = decode(&bytes).unwrap();
        assert_eq!(back.placement, topology.placement);
        assert_eq!(back.symbols.len(), topology.symbols.len());
        assert!(
            (0..back.symbols.len()).all(|id| back.symbols.name(id) == topology.symbols.name(id))
        );
        assert_eq!(encode(&back).unwrap(), bytes);
    }
}

/// With the digest made to fit, as one who lies would.
fn forged(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = digest(&bytes[HEAD..]).to_le_bytes();
    bytes[1..HEAD].copy_from_slice(&sum);
    bytes
}

#[test]
fn damage_is_seen() {
    let bytes = encode(&topology()).unwrap();
    assert_eq!(decode(&bytes[..5]).unwrap_err(), SnapshotError::Length(5));
    let mut other = bytes.clone();
    other[0] = 2;
    assert_eq!(decode(&other).unwrap_err(), SnapshotError::Version(2));
    for at in 1..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert_eq!(decode(&other).unwrap_err(), SnapshotError::Digest, "byte {at}");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert!(matches!(decode(&forged(long)), Err(SnapshotError::Malformed(_))));
    // Two names that are the same.
    let mut twice = bytes;
    let last = twice.len() - 1;
    twice[last] = b'x';
    assert!(matches!(decode(&forged(twice)), Err(SnapshotError::Malformed(_))));
}

proptest! {
    #[test]
    fn what_is_forged_is_a_topology_or_an_error(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&topology()).unwrap();
        let at = HEAD + at.index(bytes.len() - HEAD);
        bytes[at] = byte;
        bytes.truncate(HEAD + cut.index(bytes.len() - HEAD).max(at + 1 - HEAD));
        if let Ok(topology) = decode(&forged(bytes)) {
            prop_assert!(topology.check().is_ok());
        }
    }
}
