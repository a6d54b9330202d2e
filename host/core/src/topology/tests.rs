//! The topology command by command, and random commands that must never break a rule.

use super::*;
use crate::topology::{Change, What};
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

fn change(log: &Log, node: NodeId, partition: u32, what: What) -> Command {
    let change = Change { partition: PartitionId(partition), epoch: log.epoch(partition), what };
    let incarnation = log.topology.placement.member(node).unwrap().incarnation;
    Command::Change { node, incarnation, changes: vec![change] }
}

fn held(log: &Log, partition: u32) -> Vec<u32> {
    let assignment = log.topology.placement.assignments[partition as usize];
    assignment.in_sync().map(|node| node.0).collect()
}

#[test]
fn an_owner_changes_only_what_it_still_owns_at_that_epoch() {
    let mut log = Log::new(6, 1);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    let fill = change(&log, a, 5, What::Move(b));
    log.ok(&fill);
    assert!(log.epoch(4) < log.epoch(5), "an unaffected partition keeps its epoch");
    assert!(matches!(log.refused(&fill), Refused::Changed { .. }));
    let early = change(&log, a, 5, What::Switch(b));
    assert!(matches!(log.refused(&early), Refused::Changed { .. }), "it is not full yet");
    log.ok(&change(&log, a, 5, What::Admit(b)));
    assert_eq!(held(&log, 5), [a.0, b.0], "the old copy stays until the new owner has taken over");
    let moved = log.ok(&change(&log, a, 5, What::Switch(b)));
    assert!(moved.contains(&Event::Moved { partitions: 1, from: a, to: b }), "{moved:?}");
    assert_eq!(held(&log, 5), [b.0]);
    let not_mine = change(&log, a, 5, What::Renew);
    assert!(matches!(log.refused(&not_mine), Refused::Changed { .. }));
    let stranger = change(&log, a, 4, What::Fill(NodeId(9)));
    assert!(matches!(log.refused(&stranger), Refused::Changed { .. }));
}

#[test]
fn what_fits_of_an_entry_happens_and_what_does_not_is_passed_over() {
    let mut log = Log::new(6, 2);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    let (good, bad) = (log.epoch(1), Epoch(log.epoch(2).0 + 7));
    let admit = |partition, epoch| Change {
        partition: PartitionId(partition),
        epoch,
        what: What::Admit(b),
    };
    let changes = vec![admit(1, good), admit(2, bad), admit(99, good)];
    let incarnation = Incarnation(1);
    let events = log.ok(&Command::Change { node: a, incarnation, changes });
    assert_eq!(events, [Event::Filled { node: b, partitions: 1 }]);
    assert_eq!((held(&log, 1), held(&log, 2)), (vec![1, 2], vec![1]));
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
        Command::Change { node, incarnation, changes: vec![] },
    ] {
        assert!(matches!(log.refused(&command), Refused::Outdated { .. }));
    }
}

#[test]
fn the_second_member_is_filled_and_only_a_full_one_takes_over() {
    let mut log = Log::new(4, 2);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    let assignment = log.topology.placement.assignments[3];
    assert_eq!((assignment.owner(), assignment.filling().collect::<Vec<_>>()), (Some(a), vec![b]));
    assert!(matches!(log.refused(&change(&log, a, 3, What::Switch(b))), Refused::Changed { .. }));
    // The owner dies while the other is not full: nobody takes over.
    log.ok(&change(&log, a, 3, What::Admit(b)));
    let events = log.ok(&Command::Bury { node: a, incarnation: Incarnation(1) });
    assert!(events.contains(&Event::Moved { partitions: 1, from: a, to: b }), "{events:?}");
    assert!(events.contains(&Event::Offline { node: a, partitions: 15 }), "{events:?}");
    assert_eq!(log.topology.placement.offline().count(), 15);
    assert_eq!(held(&log, 3), [b.0]);
}

#[test]
fn a_death_promotes_and_lets_another_be_filled_in_one_entry() {
    let mut log = Log::new(4, 2);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    for partition in 0..16 {
        log.ok(&change(&log, a, partition, What::Admit(b)));
    }
    let c = log.active("c", 1);
    log.ok(&Command::Bury { node: a, incarnation: Incarnation(1) });
    for assignment in &log.topology.placement.assignments {
        assert_eq!(assignment.in_sync().collect::<Vec<_>>(), [b]);
        assert_eq!(assignment.filling().collect::<Vec<_>>(), [c]);
        assert_eq!(assignment.epoch.0, log.topology.placement.index);
    }
    assert_eq!(log.topology.placement.offline().count(), 0);
}

#[test]
fn a_replica_that_is_behind_is_dropped_and_filled_again() {
    let mut log = Log::new(4, 2);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    log.ok(&change(&log, a, 3, What::Admit(b)));
    assert!(matches!(log.refused(&change(&log, a, 3, What::Drop(a))), Refused::Changed { .. }));
    let events = log.ok(&change(&log, a, 3, What::Drop(b)));
    let again =
        [Event::Dropped { node: b, partitions: 1 }, Event::Filling { node: b, partitions: 1 }];
    assert_eq!(events, again);
    assert_eq!(held(&log, 3), [a.0]);
    // Dropped while it was filled, it is wanted again, and its owner has to see that.
    let before = log.epoch(3);
    assert_eq!(log.ok(&change(&log, a, 3, What::Drop(b))), again);
    assert!(log.epoch(3) > before);
}

#[test]
fn offline_partitions_begin_anew_only_when_an_operator_gives_them_up() {
    let mut log = Log::new(4, 1);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    assert!(matches!(log.refused(&Command::Recover { partitions: 0 }), Refused::Invalid(_)));
    log.ok(&Command::Bury { node: a, incarnation: Incarnation(1) });
    let text = log.refused(&Command::Recover { partitions: 3 }).to_string();
    assert!(text.contains("16 partitions are offline"), "{text}");
    assert!(matches!(log.refused(&Command::Remove { node: a }), Refused::Invalid(_)));
    let events = log.ok(&Command::Recover { partitions: 16 });
    assert!(events.contains(&Event::DataLost { node: a, partitions: 16 }));
    assert_eq!(log.topology.placement.owned_by(b).count(), 16);
    log.ok(&Command::Remove { node: a });
    let c = log.active("c", 1);
    assert_eq!(c.0, 3, "an id is never used twice");
}

#[test]
fn a_member_of_weight_zero_holds_nothing_until_it_is_given_a_weight() {
    let mut log = Log::new(4, 2);
    let mut witness = join("w", 1);
    if let Command::Join { weight, .. } = &mut witness {
        *weight = 0;
    }
    log.ok(&witness);
    let node = NodeId(1);
    log.ok(&Command::Activate { node, incarnation: Incarnation(1) });
    assert_eq!(log.topology.placement.owned_by(node).count(), 0);
    let events = log.ok(&Command::Weight { node, weight: 50 });
    assert_eq!(events, [Event::Moved { partitions: 16, from: NodeId(0), to: node }]);
    assert!(matches!(log.refused(&Command::Weight { node, weight: 1001 }), Refused::Invalid(_)));
    log.ok(&Command::Zone { node, zone: "east".into() });
    assert_eq!(log.topology.placement.member(node).unwrap().zone, "east");
}

#[test]
fn refills_go_to_another_zone_first() {
    let mut log = Log::new(6, 2);
    for (name, zone) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut command = join(name, 1);
        if let Command::Join { zone: slot, .. } = &mut command {
            *slot = zone.into();
        }
        log.ok(&command);
    }
    for node in [2, 3, 1] {
        log.ok(&Command::Activate { node: NodeId(node), incarnation: Incarnation(1) });
    }
    // The second to be active was in the other zone.
    let all = &log.topology.placement.assignments;
    assert!(all.iter().all(|a| a.filling().eq([NodeId(3)])));
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
            choices in proptest::collection::vec((0u8..14, 1u32..5, 1u64..4, 0u32..16), 0..80),
        ) {
        let run = || {
            let mut log = Log::new(4, 2);
            for &(kind, node, incarnation, partition) in &choices {
                let (node, incarnation) = (NodeId(node), Incarnation(incarnation));
                let epoch = log.epoch(partition);
                let owner = log.topology.placement.assignments[partition as usize].copies[0];
                let known = log.topology.placement.member(owner);
                let current = known.map_or(incarnation, |member| member.incarnation);
                let partition = PartitionId(partition);
                let change = |what| Command::Change {
                    node: owner,
                    incarnation: current,
                    changes: vec![Change { partition, epoch, what }],
                };
                let command = match kind {
                    0 => join(&format!("n{node}"), incarnation.0),
                    1 => Command::Activate { node, incarnation },
                    2 => Command::Leave { node, incarnation },
                    3 => Command::Bury { node, incarnation },
                    4 => change(What::Fill(node)),
                    5 => change(What::Admit(node)),
                    6 => change(What::Move(node)),
                    7 => change(What::Switch(node)),
                    8 => change(What::Drop(node)),
                    9 => Command::Pin { partition, node },
                    10 => Command::Weight { node, weight: (incarnation.0 * 50 - 50) as u16 },
                    11 => Command::Remove { node },
                    12 => Command::Recover { partitions: partition.0 },
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

#[test]
fn a_node_that_comes_back_empty_is_no_longer_in_sync_anywhere() {
    let mut log = Log::new(6, 2);
    let (a, b) = (log.active("a", 1), log.active("b", 1));
    for partition in [1, 2] {
        log.ok(&change(&log, a, partition, What::Admit(b)));
    }
    log.ok(&change(&log, a, 2, What::Switch(b)));
    let events = log.ok(&join("b", 2));
    assert!(events.contains(&Event::Moved { partitions: 1, from: b, to: a }), "{events:?}");
    assert_eq!(held(&log, 1), [a.0], "its copy no longer counts");
    assert_eq!(held(&log, 2), [a.0], "another in-sync copy is promoted");
    let node = Command::Activate { node: b, incarnation: Incarnation(2) };
    assert!(log.ok(&node).contains(&Event::Filling { node: b, partitions: 64 }));
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
