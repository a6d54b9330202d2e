//! Entries on the wire: they come back equal, and no bytes make the decoder panic.

use super::*;
use proptest::prelude::*;
use zepto_core::topology::{Handover, Topology};
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId};

fn every_command() -> Vec<(Command, &'static str)> {
    let (node, incarnation) = (NodeId(7), Incarnation(300));
    vec![
        (
            Command::Bootstrap { cluster: 0x0123_4567_89ab_cdef, bits: 12, copies: 2 },
            "01 00 ef9bafcdf8acd19101 0c 02",
        ),
        (
            Command::Join {
                name: "n1".into(),
                incarnation,
                address: "h:70".into(),
                shards: 4,
                weight: 200,
                zone: "z".into(),
            },
            "01 01 02 6e31 ac02 04 683a3730 04 c801 01 7a",
        ),
        (Command::Activate { node, incarnation }, "01 02 07 ac02"),
        (Command::Leave { node, incarnation }, "01 03 07 ac02"),
        (Command::Bury { node, incarnation }, "01 04 07 ac02"),
        (
            Command::HandOver {
                node,
                incarnation,
                handovers: vec![Handover {
                    partition: PartitionId(4095),
                    epoch: Epoch(9),
                    to: NodeId(2),
                }],
            },
            "01 05 07 ac02 01 ff1f 09 02",
        ),
        (
            Command::Reassign {
                partition: PartitionId(1),
                epoch: Epoch(128),
                copies: vec![NodeId(1), NodeId(2)],
            },
            "01 06 01 8001 02 01 02",
        ),
        (Command::Intern { names: vec!["BTC".into(), "ä".into()] }, "01 07 02 03 425443 02 c3a4"),
    ]
}

/// Whoever adds a command adds its bytes above: the match has no arm for others.
fn number(command: &Command) -> usize {
    match command {
        Command::Bootstrap { .. } => 0,
        Command::Join { .. } => 1,
        Command::Activate { .. } => 2,
        Command::Leave { .. } => 3,
        Command::Bury { .. } => 4,
        Command::HandOver { .. } => 5,
        Command::Reassign { .. } => 6,
        Command::Intern { .. } => 7,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_every_command_are_pinned() {
    let commands = every_command();
    for (position, (command, pinned)) in commands.iter().enumerate() {
        assert_eq!(number(command), position);
        let bytes = encode(command).unwrap();
        assert_eq!(hex(&bytes), pinned.replace(' ', ""), "{command:?}");
        assert_eq!(decode(&bytes).as_ref(), Ok(command));
    }
    assert_eq!(commands.len(), 8);
}

#[test]
fn what_is_no_entry_says_why() {
    let good = encode(&Command::Intern { names: vec!["A".into()] }).unwrap();
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
    assert_eq!(decode(&[2, 7, 0]), Err(DecodeError::Version(2)));
    let too_large = vec![VERSION; LOG_ENTRY_BYTES_MAX + 1];
    assert_eq!(decode(&too_large), Err(DecodeError::TooLarge(LOG_ENTRY_BYTES_MAX + 1)));
    for cut in 1..good.len() {
        assert!(matches!(decode(&good[..cut]), Err(DecodeError::Malformed(_))), "{cut}");
    }
    assert!(matches!(decode(&[VERSION, 200]), Err(DecodeError::Malformed(_))));
    assert_eq!(decode(&[&good[..], &[0, 0]].concat()), Err(DecodeError::Trailing(2)));
}

#[test]
fn a_command_larger_than_an_entry_is_not_encoded() {
    let names = vec!["x".repeat(1 << 20); 5];
    assert!(matches!(encode(&Command::Intern { names }), Err(EncodeError::TooLarge(_))));
}

#[test]
fn the_stored_hash_is_the_topologys() {
    let mut topology = Topology::empty();
    let mut hash = 0;
    for ((command, _), index) in every_command().iter().zip(1..) {
        let bytes = encode(command).unwrap();
        hash = chain(hash, index, &bytes);
        topology.apply(index, digest(&bytes), command);
        assert_eq!(hash, topology.placement.hash);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(command) = decode(&[&[VERSION][..], &bytes].concat()) {
            prop_assert_eq!(decode(&encode(&command).unwrap()), Ok(command));
        }
    }
}
