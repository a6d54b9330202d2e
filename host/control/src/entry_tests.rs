//! Entries on the wire: they come back equal, and no bytes make the decoder panic.

use super::*;
use proptest::prelude::*;
use zepto_core::topology::{Change, What};
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId};

fn every_command() -> Vec<(Command, &'static str)> {
    let (node, incarnation) = (NodeId(7), Incarnation(300));
    vec![
        (
            Command::Bootstrap { cluster: 0x0123_4567_89ab_cdef, bits: 12, copies: 2 },
            "02 00 ef9bafcdf8acd19101 0c 02",
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
            "02 01 02 6e31 ac02 04 683a3730 04 c801 01 7a",
        ),
        (Command::Activate { node, incarnation }, "02 02 07 ac02"),
        (Command::Leave { node, incarnation }, "02 03 07 ac02"),
        (Command::Bury { node, incarnation }, "02 04 07 ac02"),
        (
            Command::Change {
                node,
                incarnation,
                changes: vec![
                    Change {
                        partition: PartitionId(4095),
                        epoch: Epoch(9),
                        what: What::Fill(NodeId(2)),
                    },
                    Change { partition: PartitionId(1), epoch: Epoch(128), what: What::Renew },
                ],
            },
            "02 05 07 ac02 02 ff1f 09 00 02 01 8001 05",
        ),
        (Command::Intern { names: vec!["BTC".into(), "ä".into()] }, "02 06 02 03 425443 02 c3a4"),
        (Command::Pin { partition: PartitionId(300), node }, "02 07 ac02 07"),
        (Command::Unpin { partition: PartitionId(300) }, "02 08 ac02"),
        (Command::Weight { node, weight: 200 }, "02 09 07 c801"),
        (Command::Zone { node, zone: "z".into() }, "02 0a 07 01 7a"),
        (Command::Remove { node }, "02 0b 07"),
        (Command::Recover { partitions: 300 }, "02 0c ac02"),
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
        Command::Change { .. } => 5,
        Command::Intern { .. } => 6,
        Command::Pin { .. } => 7,
        Command::Unpin { .. } => 8,
        Command::Weight { .. } => 9,
        Command::Zone { .. } => 10,
        Command::Remove { .. } => 11,
        Command::Recover { .. } => 12,
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
    assert_eq!(commands.len(), 13);
}

#[test]
fn what_is_no_entry_says_why() {
    let good = encode(&Command::Intern { names: vec!["A".into()] }).unwrap();
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
    assert_eq!(decode(&[1, 7, 0]), Err(DecodeError::Version(1)));
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

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(command) = decode(&[&[VERSION][..], &bytes].concat()) {
            prop_assert_eq!(decode(&encode(&command).unwrap()), Ok(command));
        }
    }
}
