//! O2, guarantee G2: for each (partition, epoch) at most one node acknowledges ticks, and it is
//! the one that the log made owner at that epoch.

use super::{Oracle, Verdict, ensure};
use std::collections::BTreeMap;
use zepto_core::topology::Placement;
use zepto_core::{Epoch, NodeId, PartitionId};

/// Who acknowledged at which epoch.
#[derive(Default)]
pub struct OneWriter(BTreeMap<(PartitionId, Epoch), NodeId>);

impl OneWriter {
    /// A node acknowledged a tick, working by a placement.
    pub fn settled(&mut self, node: NodeId, partition: PartitionId, by: &Placement) -> Verdict {
        let Some(assignment) = by.assignment(partition) else { return Ok(()) };
        let epoch = assignment.epoch;
        ensure(Oracle::OneWriter, assignment.owner() == Some(node), || {
            format!(
                "node {node} acknowledged a tick of {partition}, which it does not own at {epoch}"
            )
        })?;
        let first = *self.0.entry((partition, epoch)).or_insert(node);
        ensure(Oracle::OneWriter, first == node, || {
            format!("nodes {first} and {node} both acknowledged for {partition} at epoch {epoch}")
        })
    }
}
