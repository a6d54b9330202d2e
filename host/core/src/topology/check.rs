//! What must hold of every topology, in one place. Tests and the simulator run it after each
//! entry.

use super::{MemberState, Topology};
use crate::limits::MEMBERS_MAX;
use zepto_abi::NodeId;

/// A rule that a topology breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

impl Topology {
    /// Whether every rule holds.
    ///
    /// # Errors
    /// The first rule that does not.
    pub fn check(&self) -> Result<(), Violation> {
        let placement = &self.placement;
        let members = &placement.members;
        rule(members.len() <= MEMBERS_MAX, || "too many members".into())?;
        for pair in members.windows(2) {
            rule(pair[0].id < pair[1].id, || "member ids do not grow".into())?;
        }
        for (i, member) in members.iter().enumerate() {
            rule(member.id != NodeId(0), || "node id 0".into())?;
            let twin = members[..i].iter().any(|other| other.name == member.name);
            rule(!twin, || format!("two members are called {}", member.name))?;
        }
        let expected = if placement.cluster == 0 { 0 } else { 1usize << placement.bits };
        rule(placement.assignments.len() == expected, || "partition count".into())?;
        for (partition, assignment) in placement.assignments.iter().enumerate() {
            let broken = |what: &str| format!("partition {partition}: {what}");
            rule(assignment.epoch.0 <= placement.index, || broken("epoch from the future"))?;
            let holders = assignment.copies.iter().filter(|node| **node != NodeId(0));
            for node in holders {
                let known = placement.member(*node);
                rule(known.is_some(), || broken("held by a stranger"))?;
                let twice = assignment.copies.iter().filter(|other| *other == node).count() > 1;
                rule(!twice, || broken("two copies on one node"))?;
            }
            let owned = assignment.owner().is_some();
            rule(owned || assignment.replicas().next().is_none(), || broken("no owner"))?;
        }
        let active = members.iter().any(|m| m.state == MemberState::Active && m.weight > 0);
        let unowned = placement.assignments.iter().any(|a| a.owner().is_none());
        rule(!(active && unowned), || "a partition has no owner though a member is active".into())
    }
}

fn rule(holds: bool, text: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(text())) }
}
