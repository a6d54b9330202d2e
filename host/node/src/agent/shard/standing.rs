//! What a shard is to a partition, by a view.

use super::Identity;
use zepto_core::PartitionId;
use zepto_core::view::{View, shard_of};

/// What this shard is to a partition, by its installed view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: another shard's, another node's, or nobody's.
    Outside,
    /// Its owner, and one copy is all that is declared.
    Owner,
    /// Its owner, with replicas, or with less of them than declared.
    Leader,
    /// An in-sync replica.
    Replica,
    /// A replica that is being filled.
    Filling,
    /// Its owner, but a replica knows better or is lost; until the view explains it.
    Fenced,
    /// Its owner, which gives it away: it takes no ticks, and what it took may still settle.
    Frozen,
}

impl Standing {
    /// What a shard is to a partition by a view.
    pub fn of(view: &View, me: Identity, partition: PartitionId) -> Self {
        let placement = view.placement();
        let (member, assignment) = (placement.member(me.node), placement.assignment(partition));
        let (Some(member), Some(assignment)) = (member, assignment) else { return Self::Outside };
        let mine = shard_of(partition, member.shards) == me.shard;
        if !mine || member.incarnation != me.incarnation {
            return Self::Outside;
        }
        if assignment.owner() == Some(me.node) {
            let alone = placement.copies == 1 && assignment.count() == 1;
            return if alone { Self::Owner } else { Self::Leader };
        }
        match (assignment.holds(me.node), assignment.is_filling(me.node)) {
            (true, _) => Self::Replica,
            (false, true) => Self::Filling,
            (false, false) => Self::Outside,
        }
    }

    /// Whether the shard takes ticks of it from producers.
    pub fn takes(self) -> bool {
        matches!(self, Self::Owner | Self::Leader)
    }

    /// Whether what it took may settle.
    pub fn settles(self) -> bool {
        matches!(self, Self::Owner | Self::Leader | Self::Frozen)
    }
}
