//! The topology command by command, and random commands that must never break a rule.

use super::*;
use proptest::prelude::*;

struct Log {
    topology: Topology,
}

impl Log {
    fn new(bits: u8, copies: u8) -> Self {
        let mut log = Self { topology: Topology::empty() };
        log.ok(&Command::Bootstrap { cluster: 7, bits, copies });
        log
    }

    fn run(&mut self, command: &Command) -> Applied {
        let applied = self.topology.apply(self.topology.placement.index + 1, 1, command);
        self.topology.check().unwrap();
        applied
    }

    fn ok(&mut self, command: &Command) -> Vec<Event> {
        match self.run(command) {
            Applied::Changed(events) => events,
            Applied::Refused(refused) => panic!("{command:?}: {refused}"),
        }
    }

    fn refused(&mut self, command: &Command) -> Refused {
        match self.run(command) {
            Applied::Refused(refused) => refused,
            Applied::Changed(events) => panic!("{command:?} did {events:?}"),
        }
    }

    fn active(&mut self, name: &str, incarnation: u64) -> NodeId {
        self.ok(&join(name, incarnation));
        let node = self.topology.placement.member_named(name).unwrap().id;
        self.ok(&Command::Activate { node, incarnation: Incarnation(incarnation) });
        node
    }

    fn epoch(&self, partition: u32) -> Epoch {
        self.topology.placement.assignments[partition as usize].epoch
    }
}

fn join(name: &str, incarnation: u64) -> Command {
    Command::Join {
        name: name.into(),
        incarnation: Incarnation(incarnation),
        address: "127.0.0.1:9000".into(),
        shards: 1,
        weight: 100,
        zone: String::new(),
    }
}

#[test]
fn the_first_active_member_owns_everything_and_later_ones_nothing_yet() {
    let mut log = Log::new(6, 1);
    let a = log.active("a", 1);
    let b = log.active("b", 1);
    assert_eq!(log.topology.placement.owned_by(a).count(), 64);
    assert_eq!(log.topology.placement.owned_by(b).count(), 0);
}

#[test]
fn nothing_happens_before_the_bootstrap_and_it_happens_once() {
    let mut topology = Topology::empty();
    let refused = topology.apply(1, 0, &join("a", 1));
    assert_eq!(refused, Applied::Refused(Refused::NotBootstrapped));
    let mut log = Log::new(6, 1);
    let again = Command::Bootstrap { cluster: 8, bits: 6, copies: 1 };
    assert_eq!(log.refused(&again), Refused::Bootstrapped);
}

#[test]
fn an_owner_hands_over_only_what_it_still_owns_at_that_epoch() {
    let mut log = Log::new(6, 1);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    let handover = |epoch, to| Command::HandOver {
        node: a,
        incarnation: Incarnation(1),
        handovers: vec![Handover { partition: PartitionId(5), epoch, to }],
    };
    let epoch = log.epoch(5);
    let moved = log.ok(&handover(epoch, b));
    assert_eq!(moved, [Event::Moved { partitions: 1, from: a, to: b }]);
    assert!(log.epoch(5) > epoch);
    assert!(log.epoch(4) < log.epoch(5), "an unaffected partition keeps its epoch");
    let known = log.epoch(5);
    assert!(matches!(log.refused(&handover(epoch, b)), Refused::Changed { .. }));
    assert!(matches!(log.refused(&handover(known, b)), Refused::Changed { .. }));
    assert!(matches!(log.refused(&handover(log.epoch(4), NodeId(9))), Refused::Changed { .. }));
}

#[test]
fn a_restarted_owner_gets_its_partitions_back_empty_and_the_loss_is_said() {
    let mut log = Log::new(6, 1);
    let a = log.active("a", 1);
    let before = log.epoch(0);
    log.ok(&Command::Bury { node: a, incarnation: Incarnation(1) });
    assert!(matches!(log.refused(&join("a", 1)), Refused::Outdated { .. }));
    log.ok(&join("a", 2));
    let events = log.ok(&Command::Activate { node: a, incarnation: Incarnation(2) });
    assert!(events.contains(&Event::DataLost { node: a, partitions: 64 }));
    assert!(log.epoch(0) > before);
}

#[test]
fn dead_is_final_for_an_incarnation() {
    let mut log = Log::new(6, 1);
    let node = log.active("a", 1);
    let incarnation = Incarnation(1);
    log.ok(&Command::Bury { node, incarnation });
    for command in [
        Command::Activate { node, incarnation },
        Command::Leave { node, incarnation },
        Command::Bury { node, incarnation },
        Command::HandOver { node, incarnation, handovers: vec![] },
    ] {
        assert!(matches!(log.refused(&command), Refused::Outdated { .. }));
    }
}

#[test]
fn only_an_in_sync_copy_is_promoted() {
    let mut log = Log::new(4, 2);
    for name in ["a", "b", "c"] {
        log.ok(&join(name, 1));
    }
    for node in 1..=3 {
        log.ok(&Command::Activate { node: NodeId(node), incarnation: Incarnation(1) });
    }
    // The first to be active got everything, alone; copies of it need a filled replica.
    let copies = log.topology.placement.assignments[3].copies;
    let outsider = (1..=3).map(NodeId).find(|node| !copies.contains(node)).unwrap();
    let promote =
        |epoch, node| Command::Reassign { partition: PartitionId(3), epoch, copies: vec![node] };
    let epoch = log.epoch(3);
    assert!(matches!(log.refused(&promote(epoch, outsider)), Refused::Changed { .. }));
    assert!(matches!(log.refused(&promote(Epoch(0), copies[0])), Refused::Changed { .. }));
    log.ok(&promote(epoch, copies[0]));
    assert!(log.epoch(3) > epoch);
}

#[test]
fn bad_joins_are_refused_whole() {
    let mut log = Log::new(6, 1);
    let with = |change: &dyn Fn(&mut Command)| {
        let mut command = join("a", 1);
        change(&mut command);
        command
    };
    let bad: [Command; 6] = [
        with(&|c| {
            if let Command::Join { name, .. } = c {
                name.clear()
            }
        }),
        with(&|c| {
            if let Command::Join { name, .. } = c {
                *name = "a b".into()
            }
        }),
        with(&|c| {
            if let Command::Join { address, .. } = c {
                address.clear()
            }
        }),
        with(&|c| {
            if let Command::Join { shards, .. } = c {
                *shards = 3
            }
        }),
        with(&|c| {
            if let Command::Join { weight, .. } = c {
                *weight = 1001
            }
        }),
        with(&|c| {
            if let Command::Join { zone, .. } = c {
                *zone = "x".repeat(65)
            }
        }),
    ];
    for command in bad {
        assert!(matches!(log.refused(&command), Refused::Invalid(_)), "{command:?}");
    }
    assert!(log.topology.placement.members.is_empty());
}

proptest! {
    /// Any sequence of commands, sensible or not, keeps every rule; the same sequence gives the
    /// same topology and hash.
    #[test]
    fn no_command_breaks_a_rule(
            choices in proptest::collection::vec((0u8..7, 1u32..5, 1u64..4, 0u32..16), 0..60),
        ) {
        let run = || {
            let mut log = Log::new(4, 2);
            for &(kind, node, incarnation, partition) in &choices {
                let (node, incarnation) = (NodeId(node), Incarnation(incarnation));
                let epoch = log.epoch(partition);
                let partition = PartitionId(partition);
                let to = NodeId(node.0 % 4 + 1);
                let command = match kind {
                    0 => join(&format!("n{node}"), incarnation.0),
                    1 => Command::Activate { node, incarnation },
                    2 => Command::Leave { node, incarnation },
                    3 => Command::Bury { node, incarnation },
                    4 => Command::HandOver {
                        node, incarnation, handovers: vec![Handover { partition, epoch, to }],
                    },
                    5 => Command::Reassign { partition, epoch, copies: vec![to] },
                    _ => Command::Intern { names: vec![format!("s{partition}"), "t".into()] },
                };
                log.run(&command);
            }
            log.topology
        };
        let (one, two) = (run(), run());
        prop_assert_eq!(one.placement, two.placement);
        prop_assert_eq!(one.symbols.len(), two.symbols.len());
    }
}

/// Gives a partition copies by hand: no command fills one yet.
fn place(log: &mut Log, partition: usize, nodes: &[NodeId]) {
    let mut copies = [NodeId(0); COPIES_MAX];
    copies[..nodes.len()].copy_from_slice(nodes);
    log.topology.placement.assignments[partition].copies = copies;
}

#[test]
fn a_node_that_comes_back_empty_is_no_longer_in_sync_anywhere() {
    let mut log = Log::new(6, 2);
    let (a, b, c) = (log.active("a", 1), log.active("b", 1), log.active("c", 1));
    place(&mut log, 1, &[a, b]);
    place(&mut log, 2, &[b, c, a]);
    place(&mut log, 3, &[b]);
    let events = log.ok(&join("b", 2));
    assert!(events.contains(&Event::Moved { partitions: 1, from: b, to: c }), "{events:?}");
    let index = Epoch(log.topology.placement.index);
    let held = |log: &Log, partition: u32| {
        let assignment = log.topology.placement.assignments[partition as usize];
        (assignment.epoch, assignment.owner(), assignment.replicas().collect::<Vec<_>>())
    };
    assert_eq!(held(&log, 1), (index, Some(a), vec![]), "its copy no longer counts");
    assert_eq!(held(&log, 2), (index, Some(c), vec![a]), "another in-sync copy is promoted");
    assert_eq!(held(&log, 3).1, Some(b), "what it held alone waits for it");
    let node = Command::Activate { node: b, incarnation: Incarnation(2) };
    assert!(log.ok(&node).contains(&Event::DataLost { node: b, partitions: 1 }));
}

#[test]
fn an_owner_that_is_replaced_keeps_no_copy() {
    let mut log = Log::new(6, 2);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    place(&mut log, 3, &[a, b]);
    let (partition, epoch) = (PartitionId(3), log.epoch(3));
    let swap = Command::Reassign { partition, epoch, copies: vec![b, a] };
    assert!(matches!(log.refused(&swap), Refused::Invalid(_)));
    log.ok(&Command::Reassign { partition, epoch, copies: vec![b] });
}

#[test]
fn an_entry_that_is_passed_over_moves_the_index_and_the_hash_and_nothing_else() {
    let mut log = Log::new(4, 1);
    log.active("a", 1);
    let before = log.topology.placement.clone();
    log.topology.pass(before.index + 1);
    let after = &log.topology.placement;
    assert_eq!((after.index, after.hash != before.hash), (before.index + 1, true));
    let (index, hash) = (before.index, before.hash);
    assert_eq!(Placement { index, hash, ..after.clone() }, before);
    let mut again = Topology { placement: before, symbols: log.topology.symbols.clone() };
    again.pass(index + 1);
    assert_eq!(again.placement.hash, log.topology.placement.hash, "it is deterministic");
    log.active("b", 1);
}
