//! Entries of the control log: decoded, applied to a topology, and encoded to the same bytes.
//!
//! A proposal of any client comes this far, so the one function that changes the topology must
//! take every command that can be decoded, and refuse what breaks a rule.

use zepto_control::entry;
use zepto_core::topology::{Change, Command, Topology, What};
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId};

use crate::Target;

/// See the module. An entry of a few bytes may make 65,536 partitions, once.
pub const TARGET: Target =
    Target { name: "entry", run, seeds, bytes_fixed: 16 << 20, bytes_per_byte: 4 << 10 };

/// Any bytes as an entry.
pub fn run(input: &[u8]) {
    let Ok(command) = entry::decode(input) else { return };
    let again = entry::encode(&command).expect("what was an entry is one");
    assert_eq!(entry::decode(&again).as_ref(), Ok(&command));
    for mut topology in [Topology::empty(), formed()] {
        let index = topology.placement.index + 1;
        let mut twin = topology.clone();
        topology.apply(index, entry::digest(input), &command);
        twin.apply(index, entry::digest(input), &command);
        assert_eq!(topology.placement, twin.placement, "every node comes to the same");
        assert_eq!(topology.placement.index, index, "a refused entry counts too");
        assert_eq!(topology.check(), Ok(()), "{command:?}");
    }
}

/// Two members that share sixteen partitions.
pub(crate) fn formed() -> Topology {
    let mut topology = Topology::empty();
    let commands = beginning();
    for (index, command) in (1..).zip(&commands) {
        topology.apply(index, 0, command);
    }
    topology
}

fn join(name: &str) -> Command {
    Command::Join {
        name: name.into(),
        incarnation: Incarnation(1),
        address: "h:1".into(),
        shards: 1,
        weight: 100,
        zone: String::new(),
    }
}

fn beginning() -> Vec<Command> {
    let activate = |node| Command::Activate { node, incarnation: Incarnation(1) };
    vec![
        Command::Bootstrap { cluster: 1, bits: 4, copies: 1 },
        join("a"),
        join("b"),
        activate(NodeId(1)),
        activate(NodeId(2)),
    ]
}

fn seeds() -> Vec<Vec<u8>> {
    let (node, incarnation) = (NodeId(1), Incarnation(1));
    let change = |what| Change { partition: PartitionId(3), epoch: Epoch(4), what };
    let changes = vec![change(What::Fill(NodeId(2))), change(What::Switch(NodeId(2)))];
    let mut commands = beginning();
    commands.extend([
        join("c"),
        Command::Leave { node, incarnation },
        Command::Bury { node, incarnation },
        Command::Change { node, incarnation, changes },
        Command::Pin { partition: PartitionId(3), node },
        Command::Weight { node, weight: 200 },
        Command::Remove { node },
        Command::Recover { partitions: 16 },
        Command::Intern { names: vec!["spot:BTCUSDT".into(), "A".into()] },
    ]);
    commands.iter().map(|command| entry::encode(command).expect("a small command")).collect()
}
