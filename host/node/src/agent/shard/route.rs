//! Where the ticks of a partition go, by the view and by which lanes are there.

use super::Identity;
use zepto_core::limits::{COPIES_MAX, IN_SYNC_MAX};
use zepto_core::view::{Destination, View, shard_of};
use zepto_core::{Incarnation, NodeId, PartitionId};

const ROUTE_LANES: usize = IN_SYNC_MAX + COPIES_MAX;

/// Where the ticks of a partition go, worked out ahead.
#[derive(Clone, Copy)]
pub(super) struct Route {
    /// Places in the list of lanes: to the in-sync replicas first, then to copies that may have
    /// come to be in sync.
    lanes: [u16; ROUTE_LANES],
    len: u8,
    in_sync: u8,
    binding: u8,
    /// Every in-sync replica has its lane and goes along.
    pub whole: bool,
    /// And there are as many copies as declared.
    pub enough: bool,
}

impl Route {
    pub const NONE: Self =
        Self { lanes: [0; ROUTE_LANES], len: 0, in_sync: 0, binding: 0, whole: true, enough: true };

    /// The lanes of a tick.
    #[inline]
    pub fn lanes(&self) -> &[u16] {
        &self.lanes[..usize::from(self.len)]
    }

    /// Those of them that lead to in-sync replicas.
    pub fn in_sync_lanes(&self) -> &[u16] {
        &self.lanes[..usize::from(self.in_sync)]
    }

    /// Those of them that lead to whoever may be asked to be the owner: what they do not agree to
    /// may be another's already.
    pub fn binding_lanes(&self) -> &[u16] {
        &self.lanes[..usize::from(self.binding)]
    }

    /// One lane more.
    pub fn add(&mut self, place: usize) {
        self.lanes[usize::from(self.len)] = place as u16;
        self.len += 1;
    }

    /// Those that were added so far are the in-sync replicas.
    pub fn end_in_sync(&mut self) {
        self.in_sync = self.len;
        self.binding = self.len;
    }

    /// What was added since may have come to be in sync.
    pub fn end_binding(&mut self) {
        self.binding = self.len;
    }
}

/// Whether a member's copy of an owned partition is being filled, or in sync; `None` if it has
/// none.
pub(super) fn is_filling(
    view: &View,
    me: NodeId,
    partition: PartitionId,
    node: NodeId,
) -> Option<bool> {
    let assignment = view.placement().assignment(partition)?;
    let mine = assignment.owner() == Some(me);
    let filling = assignment.is_filling(node);
    (mine && (filling || assignment.holds(node))).then_some(filling)
}

/// The shards of a partition's other copies, where this shard is its owner.
pub(super) struct Targets {
    pub in_sync: Vec<(Destination, Incarnation)>,
    pub filling: Vec<(Destination, Incarnation)>,
}

impl Targets {
    /// Those of a partition; `None` where this shard is not its owner.
    pub fn of(view: &View, me: Identity, partition: PartitionId) -> Option<Self> {
        let placement = view.placement();
        let assignment = placement.assignment(partition)?;
        if assignment.owner() != Some(me.node) {
            return None;
        }
        let member = placement.member(me.node)?;
        if member.incarnation != me.incarnation || shard_of(partition, member.shards) != me.shard {
            return None;
        }
        let target = |node| {
            let member = placement.member(node)?;
            let shard = shard_of(partition, member.shards);
            Some((Destination { node: member.id, shard }, member.incarnation))
        };
        Some(Self {
            in_sync: assignment.replicas().filter_map(target).collect(),
            filling: assignment.filling().filter_map(target).collect(),
        })
    }
}
