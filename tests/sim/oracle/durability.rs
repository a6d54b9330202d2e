//! O1, guarantee G1: a tick that was acknowledged with `replicated` durability is in every in-sync
//! replica by then, and in as many nodes as copies are declared; and it is readable at the final
//! owner, content and all.
//!
//! With one copy a crash may lose what was acknowledged; then only the first half is checked. What
//! a node took when it was the owner itself is not seen here, so former owners are not asked.

use super::{Content, Oracle, Verdict, ensure, name};
use crate::sim::feeder::tick_of;
use std::collections::BTreeSet;
use zepto_core::slot::{self, Slot};
use zepto_core::topology::Placement;
use zepto_core::{Incarnation, NodeId, PartitionId, Tick};

/// What replicas took and what was acknowledged.
#[derive(Default)]
pub struct Durability {
    held: BTreeSet<(u64, NodeId, Incarnation)>,
    owners: BTreeSet<(NodeId, Incarnation, PartitionId)>,
    settled: BTreeSet<u64>,
}

impl Durability {
    /// A replica took a tick, or an owner sent it to one: it has it.
    pub fn replicated(&mut self, node: NodeId, incarnation: Incarnation, slot: &Slot) {
        self.held.insert((slot[6], node, incarnation));
    }

    /// The log made a node the owner of a partition.
    pub fn owner(&mut self, node: NodeId, incarnation: Incarnation, partition: PartitionId) {
        self.owners.insert((node, incarnation, partition));
    }

    /// An owner acknowledged a tick, working by a placement.
    pub fn settled(&mut self, slot: &Slot, partition: PartitionId, by: &Placement) -> Verdict {
        let id = slot[6];
        let Some(assignment) = by.assignment(partition) else { return Ok(()) };
        let has = |node: NodeId| {
            let incarnation = by.member(node).map_or(Incarnation(0), |m| m.incarnation);
            self.held.contains(&(id, node, incarnation))
                || self.owners.contains(&(node, incarnation, partition))
        };
        for replica in assignment.replicas() {
            ensure(Oracle::Durability, has(replica), || {
                format!(
                    "{} of {partition} was acknowledged, replica {replica} has not got it",
                    name(id)
                )
            })?;
        }
        let holders: BTreeSet<NodeId> = self.holders(id).chain(assignment.in_sync()).collect();
        let count = holders.len();
        // A second acknowledgement promises no more than the first.
        let again = self.settled.contains(&id);
        ensure(Oracle::Durability, again || count >= usize::from(by.copies), || {
            format!("{} of {partition} was acknowledged with {count} copies", name(id))
        })?;
        self.settled.insert(id);
        Ok(())
    }

    /// Nodes that have a tick or had it. Those that are gone count: what they held was safe until
    /// they went, as everything that was acknowledged before is.
    fn holders(&self, id: u64) -> impl Iterator<Item = NodeId> {
        let (low, high) = ((id, NodeId(0), Incarnation(0)), (id + 1, NodeId(0), Incarnation(0)));
        self.held.range(low..high).map(|(_, node, _)| *node)
    }

    /// A node came to own a partition, and takes these ticks for settled.
    pub fn taken_for_settled(
        &self,
        mut ids: impl Iterator<Item = u64>,
        partition: PartitionId,
        by: &Placement,
    ) -> Verdict {
        let count = |id: u64| self.holders(id).collect::<BTreeSet<_>>().len();
        let short = ids.find(|id| count(*id) < usize::from(by.copies));
        ensure(Oracle::Durability, short.is_none(), || {
            let (tick, count) = short.map(|id| (name(id), count(id))).unwrap_or_default();
            format!("{tick} of {partition} is taken for settled with {count} copies")
        })
    }

    /// Whatever is readable is as it was sent, and nothing acknowledged is missing.
    pub fn at_end(&self, contents: &[Content], may_lose: bool) -> Verdict {
        let mut readable = BTreeSet::new();
        for tick in contents.iter().flat_map(|content| &content.ticks) {
            let sent = Tick { sequence: tick.sequence, ..tick_of(tick.user[0], tick.symbol) };
            ensure(Oracle::Durability, *tick == sent, || format!("{tick:?} was sent as {sent:?}"))?;
            readable.insert(tick.user[0]);
        }
        let lost = self.settled.difference(&readable).next();
        ensure(Oracle::Durability, may_lose || lost.is_none(), || {
            let count = self.settled.difference(&readable).count();
            let first = lost.map_or(String::new(), |id| name(*id));
            format!(
                "{count} acknowledged ticks are not at their final owners, the first is {first}"
            )
        })
    }
}

/// The partition of a slot among 2^`bits`.
pub fn partition_of(slot: &Slot, bits: u8) -> PartitionId {
    let (table, symbol) = slot::series_of(slot);
    zepto_core::hash::partition_of(table, symbol, bits)
}
