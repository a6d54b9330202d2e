//! What must hold of every placement, in one place. Tests and the simulator run it after each
//! entry, and whoever gets a placement over the network runs it before using it.

use super::{Assignment, Member, MemberState, Placement, Topology};
use crate::limits::{COPIES_MAX, MEMBERS_MAX, PARTITION_BITS_MAX, PINS_MAX, SHARDS_MAX};
use zepto_abi::{NodeId, PartitionId};

/// A rule that a topology breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

type Result = core::result::Result<(), Violation>;

impl Topology {
    /// Whether every rule holds.
    ///
    /// # Errors
    /// The first rule that does not.
    pub fn check(&self) -> Result {
        self.placement.check()
    }
}

impl Placement {
    /// Whether every rule holds.
    ///
    /// # Errors
    /// The first rule that does not.
    pub fn check(&self) -> Result {
        check_members(&self.members)?;
        let bootstrapped = self.cluster != 0;
        rule(self.bits <= PARTITION_BITS_MAX && bootstrapped == (self.bits > 0), || {
            format!("2^{} partitions", self.bits)
        })?;
        rule(usize::from(self.copies) <= COPIES_MAX, || format!("{} copies", self.copies))?;
        let expected = if bootstrapped { 1usize << self.bits } else { 0 };
        rule(self.assignments.len() == expected, || "a partition too many or too few".into())?;
        for (partition, assignment) in self.assignments.iter().enumerate() {
            self.check_assignment(assignment)
                .map_err(|Violation(what)| Violation(format!("partition {partition}: {what}")))?;
        }
        rule(self.members.iter().all(|member| member.id.0 <= self.ids), || {
            "an unissued id".into()
        })?;
        let pinned = |(partition, node): (&PartitionId, &NodeId)| {
            self.assignment(*partition).is_some() && self.member(*node).is_some()
        };
        rule(self.pins.len() <= PINS_MAX && self.pins.iter().all(pinned), || "a bad pin".into())?;
        let active = |member: &Member| member.state == MemberState::Active && member.weight > 0;
        let unowned = self.assignments.iter().any(|assignment| assignment.owner().is_none());
        rule(!(unowned && self.members.iter().any(active)), || {
            "a partition has no owner though a member is active".into()
        })
    }

    fn check_assignment(&self, assignment: &Assignment) -> Result {
        let known = assignment.since <= assignment.epoch && assignment.epoch.0 <= self.index;
        rule(known, || "an epoch from the future".into())?;
        let all: Vec<NodeId> = assignment.in_sync().chain(assignment.filling()).collect();
        for (i, &node) in all.iter().enumerate() {
            rule(self.member(node).is_some(), || "held by a stranger".into())?;
            rule(!all[..i].contains(&node), || "two copies on one node".into())?;
        }
        rule(assignment.owner().is_some() || all.is_empty(), || "copies, but no owner".into())?;
        let there = |node: &NodeId| self.member(*node).is_some_and(Member::takes_part);
        // The last in-sync member may be gone: then the partition is offline, and nothing is
        // filled.
        rule(all.len() <= 1 || all.iter().all(there), || "a copy of who is not there".into())?;
        rule(all.len() <= usize::from(self.copies) + 2, || format!("{} copies", all.len()))?;
        let target = assignment.target;
        let aims = target == NodeId(0) || all.iter().skip(1).any(|node| *node == target);
        rule(aims, || "it moves to who has no copy".into())
    }
}

fn check_members(members: &[Member]) -> Result {
    rule(members.len() <= MEMBERS_MAX, || "too many members".into())?;
    rule(members.windows(2).all(|pair| pair[0].id < pair[1].id), || "unordered ids".into())?;
    for (i, member) in members.iter().enumerate() {
        rule(member.id != NodeId(0), || "node id 0".into())?;
        let twin = members[..i].iter().any(|other| other.name == member.name);
        rule(!twin, || format!("two members are called {}", member.name))?;
        let shards = member.shards.is_power_of_two() && member.shards <= SHARDS_MAX;
        rule(shards, || format!("{} shards", member.shards))?;
    }
    Ok(())
}

fn rule(holds: bool, text: impl FnOnce() -> String) -> Result {
    if holds { Ok(()) } else { Err(Violation(text())) }
}
