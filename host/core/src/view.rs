//! The view: the committed placement compiled for the tick path.
//!
//! `route()` is a hash, a shift and one load from a table of at most 128 KiB. A view is immutable;
//! a new one replaces it through `arc-swap`, so a reader sees some committed placement, whole, and
//! nobody locks, retries or writes anything shared.

use crate::hash::mix64;
use crate::topology::{Member, Placement};
use zepto_abi::{Epoch, NodeId, PartitionId};

/// In place of a destination: the partition's owner does not take part, or there is none.
pub const OFFLINE: u16 = u16::MAX;

/// A shard of a node: where a lane leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// The node.
    pub node: NodeId,
    /// The shard within it.
    pub shard: u16,
}

/// The answer of [`View::route`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The series' partition.
    pub partition: PartitionId,
    /// Index into [`View::destinations`], or [`OFFLINE`].
    pub destination: u16,
}

/// An immutable routing table.
#[derive(Debug)]
pub struct View {
    shift: u32,
    /// By partition: index into `destinations`.
    table: Box<[u16]>,
    destinations: Vec<Destination>,
    placement: Placement,
}

impl View {
    /// Compiles a placement. Before the bootstrap there is one partition, and it is offline.
    pub fn compile(placement: Placement) -> Self {
        let mut destinations = Vec::new();
        let mut first = Vec::with_capacity(placement.members.len());
        for member in &placement.members {
            first.push(destinations.len());
            if member.takes_part() {
                let shards = 0..member.shards;
                destinations.extend(shards.map(|shard| Destination { node: member.id, shard }));
            }
        }
        let route = |(assignment, partition): (&crate::topology::Assignment, u32)| {
            let Some(position) = placement.position(assignment.copies[0]) else { return OFFLINE };
            let member = &placement.members[position];
            if !member.takes_part() {
                return OFFLINE;
            }
            (first[position] + shard_of(PartitionId(partition), member.shards) as usize) as u16
        };
        let mut table: Vec<u16> = placement.assignments.iter().zip(0u32..).map(route).collect();
        if table.is_empty() {
            table = vec![OFFLINE; 2];
        }
        let shift = 64 - table.len().trailing_zeros();
        Self { shift, table: table.into(), destinations, placement }
    }

    /// The partition of a series. A hash and a shift.
    #[inline(always)]
    pub fn partition(&self, table: u16, symbol: u32) -> PartitionId {
        // The table has 2^(64 - shift) entries, which the shift cannot leave.
        PartitionId((mix64(table, symbol) >> self.shift) as u32)
    }

    /// Where a series' ticks go. A hash, a shift and a load.
    #[inline(always)]
    pub fn route(&self, table: u16, symbol: u32) -> Route {
        let partition = self.partition(table, symbol);
        Route { partition, destination: self.table[partition.0 as usize] }
    }

    /// Where a partition's ticks go: an index into [`Self::destinations`], or [`OFFLINE`].
    #[inline]
    pub fn destination(&self, partition: PartitionId) -> u16 {
        self.table.get(partition.0 as usize).copied().unwrap_or(OFFLINE)
    }

    /// Every shard of every member that takes part.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.table.len()
    }

    /// Index of the log this view is of.
    pub fn index(&self) -> u64 {
        self.placement.index
    }

    /// The placement it was compiled from.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The epoch of a partition; epoch zero, which is nobody's, where there is no such partition.
    pub fn epoch(&self, partition: PartitionId) -> Epoch {
        self.placement.assignment(partition).map_or(Epoch(0), |assignment| assignment.epoch)
    }

    /// The member that owns a partition, whether it takes part or not.
    pub fn owner(&self, partition: PartitionId) -> Option<&Member> {
        self.placement.member(self.placement.assignment(partition)?.owner()?)
    }

    /// One number for which partitions a node owns at which epochs: two nodes that agree on it
    /// agree on all of them.
    pub fn ownership(&self, node: NodeId) -> u64 {
        self.placement.owned_by(node).fold(0, |digest, partition| {
            let epoch = self.epoch(partition).0;
            crate::hash::mix(digest ^ crate::hash::mix((u64::from(partition.0) << 48) ^ epoch))
        })
    }
}

/// The shard of a partition in a node with this many shards, a power of two.
#[inline]
pub const fn shard_of(partition: PartitionId, shards: u16) -> u16 {
    // Not the high bits: those pick the partition's place on the ring.
    (partition.0 & (shards as u32 - 1)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::partition_of;
    use crate::topology::{Command, Topology};
    use zepto_abi::Incarnation;

    fn topology(shards: u16) -> Topology {
        let mut topology = Topology::empty();
        let join = |name: &str| Command::Join {
            name: name.into(),
            incarnation: Incarnation(1),
            address: "h:1".into(),
            shards,
            weight: 100,
            zone: String::new(),
        };
        let (a, b) = (NodeId(1), NodeId(2));
        for (command, index) in [
            Command::Bootstrap { cluster: 1, bits: 8, copies: 1 },
            join("a"),
            join("b"),
            Command::Activate { node: b, incarnation: Incarnation(1) },
            Command::Activate { node: a, incarnation: Incarnation(1) },
        ]
        .iter()
        .zip(1..)
        {
            topology.apply(index, 0, command);
        }
        topology
    }

    #[test]
    fn a_series_goes_to_the_shard_of_its_partitions_owner() {
        let view = View::compile(topology(4).placement);
        for symbol in 0..10_000 {
            let route = view.route(3, symbol);
            assert_eq!(route.partition, partition_of(3, symbol, 8));
            assert_eq!(route.destination, view.destination(route.partition));
            let destination = view.destinations()[route.destination as usize];
            assert_eq!(Some(destination.node), view.owner(route.partition).map(|m| m.id));
            assert_eq!(destination.shard, shard_of(route.partition, 4));
        }
    }

    #[test]
    fn a_dead_owners_partitions_are_offline_and_still_say_whose_they_are() {
        let mut topology = topology(1);
        let bury = Command::Bury { node: NodeId(2), incarnation: Incarnation(1) };
        topology.apply(6, 0, &bury);
        let view = View::compile(topology.placement);
        let route = view.route(0, 1);
        assert_eq!(route.destination, OFFLINE);
        assert_eq!(view.owner(route.partition).map(|m| m.name.as_str()), Some("b"));
    }

    #[test]
    fn before_the_bootstrap_everything_is_offline() {
        let view = View::compile(Topology::empty().placement);
        assert_eq!(view.route(0, 0).destination, OFFLINE);
        assert_eq!(view.route(9, u32::MAX).destination, OFFLINE);
    }

    #[test]
    fn the_ownership_digest_changes_with_any_epoch() {
        let mut topology = topology(1);
        let before = View::compile(topology.placement.clone());
        topology.placement.assignments[17].epoch = Epoch(9);
        let after = View::compile(topology.placement);
        assert_ne!(before.ownership(NodeId(2)), after.ownership(NodeId(2)));
        assert_eq!(before.ownership(NodeId(1)), after.ownership(NodeId(1)));
    }
}
