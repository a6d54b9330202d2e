//! What an owner should change about who holds its partitions, so that in the end everybody has
//! their share: of what they own, and of the copies they hold.
//!
//! A pure function of the placement: every owner computes the same plan and proposes its own part
//! of it. Moves that are under way count as done, so the plan is stable while it is carried out.
//! Copies are evened out only while nothing else moves, one wave after another.

use crate::limits::{CHANGES_MAX, MOVES_MAX};
use crate::placement::{self, Candidate, Holder};
use crate::topology::{Assignment, Change, Member, MemberState, Placement, What};
use std::collections::BTreeSet;
use zepto_abi::{NodeId, PartitionId};

/// The changes that `me` should propose now, at most so many that [`MOVES_MAX`] are under way.
pub fn wishes(placement: &Placement, me: NodeId) -> Vec<Change> {
    let is_mine = |assignment: &&Assignment| assignment.owner() == Some(me);
    let busy = |assignment: &&Assignment| is_moving(placement, assignment);
    let mine = placement.assignments.iter().filter(is_mine);
    let room = MOVES_MAX.saturating_sub(mine.filter(busy).count());
    if room == 0 || placement.assignments.is_empty() {
        return Vec::new();
    }
    let mut changes = owners(placement, me);
    let calm = !placement
        .assignments
        .iter()
        .any(|assignment| assignment.target != NodeId(0) || assignment.filling().next().is_some());
    if changes.is_empty() && calm {
        changes = copies(placement, me);
    }
    changes.truncate(room);
    changes
}

/// What `me` should propose now: what its shards have found out, and what it wishes of the others.
/// One change for each partition, as many as an entry may have.
pub fn proposals(placement: &Placement, me: NodeId, found: &[Change]) -> Vec<Change> {
    let is_new = |change: &&Change| {
        let held = placement.assignment(change.partition);
        held.is_some_and(|held| held.epoch == change.epoch && held.owner() == Some(me))
    };
    let mut taken = BTreeSet::new();
    let found: Vec<Change> = found.iter().filter(is_new).copied().collect();
    let all = found.into_iter().chain(wishes(placement, me));
    all.filter(|change| taken.insert(change.partition)).take(CHANGES_MAX).collect()
}

/// Partitions of `me` whose next owner is in sync: once they are frozen, and all that they took is
/// confirmed, they can be switched.
pub fn switches(placement: &Placement, me: NodeId) -> Vec<Change> {
    let ready = |(partition, assignment): (PartitionId, &Assignment)| {
        let target = assignment.target;
        let active = placement.member(target).is_some_and(|m| m.state == MemberState::Active);
        let mine = assignment.owner() == Some(me) && assignment.holds(target);
        (mine && active).then_some(Change {
            partition,
            epoch: assignment.epoch,
            what: What::Switch(target),
        })
    };
    let partitions = (0u32..).map(PartitionId).zip(&placement.assignments);
    partitions.filter_map(ready).take(MOVES_MAX).collect()
}

/// Whether a partition has an aim that it has not reached yet.
pub fn is_moving(placement: &Placement, assignment: &Assignment) -> bool {
    assignment.target != NodeId(0) || assignment.count() > usize::from(placement.copies)
}

/// How far a member is from being free of partitions: those it owns, and those it holds in sync.
pub fn left_at(placement: &Placement, node: NodeId) -> (usize, usize) {
    let owns = placement.assignments.iter().filter(|a| a.owner() == Some(node)).count();
    let holds = placement.assignments.iter().filter(|a| a.holds(node)).count();
    (owns, holds)
}

fn change(placement: &Placement, partition: PartitionId, what: What) -> Change {
    let epoch = placement.assignments[partition.0 as usize].epoch;
    Change { partition, epoch, what }
}

/// Moves of ownership: to where a pin wants it, and within everybody's quota.
fn owners(placement: &Placement, me: NodeId) -> Vec<Change> {
    let members: Vec<&Member> = placement.members.iter().filter(|m| m.takes_part()).collect();
    let index = |node: NodeId| members.iter().position(|member| member.id == node);
    let candidates: Vec<Candidate> = members.iter().map(|member| candidate(member)).collect();
    let mut changes = Vec::new();
    let mut holders = Vec::with_capacity(placement.assignments.len());
    for (assignment, partition) in placement.assignments.iter().zip((0u32..).map(PartitionId)) {
        let pin = placement.pins.get(&partition).and_then(|node| index(*node));
        let pin = pin.filter(|pin| members[*pin].state == MemberState::Active);
        let moving = assignment.target != NodeId(0);
        let holder = if moving { assignment.target } else { assignment.copies[0] };
        let Some(holder) = index(holder) else {
            holders.push(Holder::Outside);
            continue;
        };
        let stays = pin.unwrap_or(holder);
        let wants = stays != holder && !moving && assignment.owner() == Some(me);
        if wants && may_take(placement, assignment, members[stays].id) {
            changes.push(change(placement, partition, What::Move(members[stays].id)));
        }
        holders.push(match pin.is_some() || moving {
            true => Holder::Pinned(stays as u16),
            false => Holder::Movable(holder as u16),
        });
    }
    let mine = index(me).map(|index| index as u16);
    let moves = placement::plan(&holders, &candidates).into_iter();
    let moves = moves.filter(|step| step.from.is_some() && step.from == mine);
    changes.extend(moves.filter_map(|step| {
        let to = candidates[usize::from(step.to)].node;
        let assignment = placement.assignment(step.partition)?;
        let fits = may_take(placement, assignment, to);
        fits.then(|| change(placement, step.partition, What::Move(to)))
    }));
    changes
}

/// Whether a member has a copy or may be given one now: while one more than the declared copies is
/// there already, the log would refuse it.
fn may_take(placement: &Placement, assignment: &Assignment, node: NodeId) -> bool {
    let has = assignment.holds(node) || assignment.is_filling(node);
    has || assignment.count() <= usize::from(placement.copies)
}

fn candidate(member: &Member) -> Candidate {
    let stays = member.state == MemberState::Active;
    Candidate { node: member.id, weight: if stays { member.weight } else { 0 } }
}

/// Replicas that should be elsewhere: of members that hold more than their share, to members that
/// hold less.
fn copies(placement: &Placement, me: NodeId) -> Vec<Change> {
    let members: Vec<&Member> = placement.members.iter().filter(|m| m.takes_part()).collect();
    let index = |node: NodeId| members.iter().position(|member| member.id == node);
    let candidates: Vec<Candidate> = members.iter().map(|member| candidate(member)).collect();
    let mut held = vec![0; members.len()];
    for node in placement.assignments.iter().flat_map(Assignment::in_sync) {
        if let Some(member) = index(node) {
            held[member] += 1;
        }
    }
    let partitions = placement.assignments.len();
    let quotas = copy_quotas(&candidates, &held, partitions);
    let pairs = || held.iter().zip(&quotas);
    let mut excess: Vec<usize> = pairs().map(|(held, quota)| held.saturating_sub(*quota)).collect();
    let mut room: Vec<usize> = pairs().map(|(held, quota)| quota.saturating_sub(*held)).collect();
    let mut changes = Vec::new();
    for (assignment, partition) in placement.assignments.iter().zip((0u32..).map(PartitionId)) {
        if excess.iter().all(|excess| *excess == 0) || room.iter().all(|room| *room == 0) {
            break;
        }
        let from = assignment.replicas().filter_map(index).max_by_key(|from| excess[*from]);
        let Some(from) = from.filter(|from| excess[*from] > 0) else { continue };
        let stays = |node: &NodeId| *node != members[from].id;
        let zones: Vec<&str> = assignment
            .in_sync()
            .filter(stays)
            .filter_map(|node| Some(placement.member(node)?.zone.as_str()))
            .filter(|zone| !zone.is_empty())
            .collect();
        // Zones are worth a copy too few for nobody: what has to go may go into any.
        let has_to_go = candidates[from].weight == 0;
        let any = has_to_go || zones.contains(&members[from].zone.as_str());
        let apart = |to: usize| !zones.contains(&members[to].zone.as_str());
        let fits =
            |to: &usize| room[*to] > 0 && !assignment.holds(members[*to].id) && (any || apart(*to));
        let to = (0..members.len()).filter(fits).max_by_key(|to| (apart(*to), room[*to]));
        let Some(to) = to else { continue };
        excess[from] -= 1;
        room[to] -= 1;
        if assignment.owner() == Some(me) {
            changes.push(change(placement, partition, What::Fill(members[to].id)));
        }
    }
    changes
}

/// How many copies each should hold: by weight, and none more than there are partitions, whose rest
/// the others share.
fn copy_quotas(candidates: &[Candidate], held: &[usize], partitions: usize) -> Vec<usize> {
    let mut open = candidates.to_vec();
    let (mut left, mut quotas) = (held.iter().sum::<usize>(), vec![0; held.len()]);
    while open.iter().any(|candidate| candidate.weight > 0) {
        let shares = placement::quotas(left, &open, held);
        let is_full = |member: &usize| shares[*member] > partitions;
        let full: Vec<usize> = (0..shares.len()).filter(is_full).collect();
        if full.is_empty() {
            quotas.iter_mut().zip(&shares).for_each(|(quota, share)| *quota += share);
            break;
        }
        for member in full {
            quotas[member] = partitions;
            left -= partitions;
            open[member].weight = 0;
        }
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Applied, Command, Topology};
    use proptest::prelude::*;
    use zepto_abi::Incarnation;

    /// A log with a world in which every fill succeeds at once and every switch is clean.
    struct Log(Topology);

    impl Log {
        fn new(bits: u8, copies: u8) -> Self {
            let mut log = Self(Topology::empty());
            log.run(&Command::Bootstrap { cluster: 1, bits, copies });
            log
        }

        fn run(&mut self, command: &Command) -> bool {
            let index = self.0.placement.index + 1;
            let applied = self.0.apply(index, 0, command);
            self.0.check().unwrap();
            matches!(applied, Applied::Changed(_))
        }

        fn join(&mut self, name: &str, incarnation: u64) -> NodeId {
            let incarnation = Incarnation(incarnation);
            self.run(&Command::Join {
                name: name.into(),
                incarnation,
                address: "h:1".into(),
                shards: 1,
                weight: 100,
                zone: String::new(),
            });
            let node = self.0.placement.member_named(name).unwrap().id;
            self.run(&Command::Activate { node, incarnation });
            node
        }

        /// Carries out what every owner wishes until nobody does; how many rounds that took.
        fn settle(&mut self) -> usize {
            for round in 0..200 {
                let mut steps: Vec<(NodeId, Vec<Change>)> = Vec::new();
                for member in self.0.placement.members.clone() {
                    let placement = &self.0.placement;
                    let mut changes = wishes(placement, member.id);
                    for partition in placement.owned_by(member.id) {
                        let assignment = placement.assignments[partition.0 as usize];
                        let what = match assignment.filling().next() {
                            Some(node) => What::Admit(node),
                            None if assignment.target != NodeId(0) => {
                                What::Switch(assignment.target)
                            }
                            None => continue,
                        };
                        changes.push(change(placement, partition, what));
                    }
                    steps.push((member.id, changes));
                }
                if steps.iter().all(|(_, changes)| changes.is_empty()) {
                    return round;
                }
                for (node, changes) in steps.into_iter().filter(|(_, c)| !c.is_empty()) {
                    let incarnation = self.0.placement.member(node).unwrap().incarnation;
                    self.run(&Command::Change { node, incarnation, changes });
                }
            }
            panic!("it does not come to rest");
        }

        fn held(&self, node: NodeId) -> (usize, usize) {
            left_at(&self.0.placement, node)
        }
    }

    #[test]
    fn a_cluster_that_forms_ends_with_equal_shares_of_owners_and_copies() {
        let mut log = Log::new(8, 2);
        let nodes: Vec<NodeId> = ["a", "b", "c"].map(|name| log.join(name, 1)).into();
        log.settle();
        for node in nodes {
            let (owns, holds) = log.held(node);
            assert!((85..=86).contains(&owns) && (170..=171).contains(&holds), "{owns} {holds}");
        }
        assert!(log.0.placement.assignments.iter().all(|a| a.in_sync().count() == 2));
    }

    #[test]
    fn a_node_that_died_and_came_back_owns_its_share_again() {
        let mut log = Log::new(8, 2);
        let nodes: Vec<NodeId> = ["a", "b", "c"].map(|name| log.join(name, 1)).into();
        log.settle();
        log.run(&Command::Bury { node: nodes[1], incarnation: Incarnation(1) });
        assert_eq!(log.held(nodes[1]), (0, 0));
        assert_eq!(log.0.placement.offline().count(), 0, "replicas took over in that entry");
        log.settle();
        log.join("b", 2);
        log.settle();
        for node in nodes {
            let (owns, holds) = log.held(node);
            assert!((85..=86).contains(&owns) && (170..=171).contains(&holds), "{owns} {holds}");
        }
    }

    #[test]
    fn a_leaving_member_ends_with_nothing_and_loses_no_copy_on_the_way() {
        let mut log = Log::new(6, 2);
        let nodes: Vec<NodeId> = ["a", "b", "c"].map(|name| log.join(name, 1)).into();
        log.settle();
        log.run(&Command::Leave { node: nodes[0], incarnation: Incarnation(1) });
        log.settle();
        assert_eq!(log.held(nodes[0]), (0, 0));
        assert!(log.0.placement.assignments.iter().all(|a| a.in_sync().count() == 2));
    }

    #[test]
    fn a_leaving_member_ends_with_nothing_whatever_weights_and_zones_the_others_have() {
        let mut log = Log::new(6, 2);
        let nodes: Vec<NodeId> = ["a", "b", "c"].map(|name| log.join(name, 1)).into();
        log.run(&Command::Weight { node: nodes[1], weight: 200 });
        for (node, zone) in nodes.iter().zip(["x", "x", "y"]) {
            log.run(&Command::Zone { node: *node, zone: zone.into() });
        }
        log.settle();
        log.run(&Command::Leave { node: nodes[2], incarnation: Incarnation(1) });
        log.settle();
        assert_eq!(log.held(nodes[2]), (0, 0));
        assert!(log.0.placement.assignments.iter().all(|a| a.in_sync().count() == 2));
    }

    #[test]
    fn nothing_is_wished_that_the_log_would_refuse() {
        let mut log = Log::new(4, 2);
        let nodes: Vec<NodeId> = ["a", "b", "c", "d"].map(|name| log.join(name, 1)).into();
        log.settle();
        let owned = log.0.placement.assignments.iter().position(|a| a.owner() == Some(nodes[0]));
        let partition = PartitionId(owned.unwrap() as u32);
        let assignment = log.0.placement.assignments[owned.unwrap()];
        let mut others = nodes.iter().filter(|node| !assignment.holds(**node));
        let (filled, pinned) = (*others.next().unwrap(), *others.next().unwrap());
        let fill = change(&log.0.placement, partition, What::Fill(filled));
        let (node, incarnation) = (nodes[0], Incarnation(1));
        assert!(log.run(&Command::Change { node, incarnation, changes: vec![fill] }));
        log.run(&Command::Pin { partition, node: pinned });
        let wishes = wishes(&log.0.placement, nodes[0]);
        assert!(wishes.iter().all(|wish| wish.partition != partition), "{wishes:?}");
        log.settle();
        assert_eq!(log.0.placement.assignments[owned.unwrap()].owner(), Some(pinned));
    }

    #[test]
    fn a_pin_is_followed_and_falls_back_when_its_member_dies() {
        let mut log = Log::new(4, 2);
        let nodes: Vec<NodeId> = ["a", "b", "c"].map(|name| log.join(name, 1)).into();
        log.settle();
        for partition in 0..8 {
            log.run(&Command::Pin { partition: PartitionId(partition), node: nodes[2] });
        }
        log.settle();
        let owner = |log: &Log, p: usize| log.0.placement.assignments[p].owner().unwrap();
        assert!((0..8).all(|p| owner(&log, p) == nodes[2]));
        log.run(&Command::Bury { node: nodes[2], incarnation: Incarnation(1) });
        assert!((0..8).all(|p| owner(&log, p) != nodes[2]), "in the same entry");
        log.settle();
        log.join("c", 2);
        log.settle();
        assert!((0..8).all(|p| owner(&log, p) == nodes[2]), "and it is followed again");
    }

    proptest! {
        /// Members come, leave, die and come back in any order: every partition has an owner that
        /// is there as long as somebody is, and at rest the shares are equal.
        #[test]
        fn whatever_happens_it_comes_to_rest_with_equal_shares(
            copies in 1u8..4,
            steps in proptest::collection::vec((0u8..4, 0usize..5), 0..24),
        ) {
            let names = ["a", "b", "c", "d", "e"];
            let mut log = Log::new(5, copies);
            let mut incarnations = [1u64; 5];
            log.join("a", 1);
            log.settle();
            for (kind, which) in steps {
                let member = log.0.placement.member_named(names[which]).cloned();
                match (kind, member) {
                    (0, _) => {
                        incarnations[which] += 1;
                        log.join(names[which], incarnations[which]);
                    }
                    (1, Some(m)) => {
                        log.run(&Command::Leave { node: m.id, incarnation: m.incarnation });
                    }
                    (2, Some(m)) => {
                        log.run(&Command::Bury { node: m.id, incarnation: m.incarnation });
                    }
                    _ => {
                        log.settle();
                    }
                }
            }
            log.settle();
            let placement = &log.0.placement;
            let active: Vec<_> =
                placement.members.iter().filter(|m| m.state == MemberState::Active).collect();
            let offline = placement.offline().count();
            let online = placement.assignments.len() - offline;
            for member in &active {
                let (owns, _) = log.held(member.id);
                let share = online / active.len();
                prop_assert!(owns == share || owns == share + 1, "{owns} of {online}");
            }
            for assignment in &placement.assignments {
                let there = assignment.owner().and_then(|o| placement.member(o));
                if there.is_some_and(Member::takes_part) && active.len() >= usize::from(copies) {
                    prop_assert_eq!(assignment.in_sync().count(), usize::from(copies));
                }
            }
        }
    }
}
