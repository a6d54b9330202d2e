//! O3, guarantee G3: a replica takes no tick that was bound at another epoch than the one it has
//! installed, nor any of a partition whose replica it is not. So an old owner, however long it
//! slept, gets no confirmation once its replica has moved on.

use super::{Oracle, Verdict, ensure, name};
use zepto_core::slot::Slot;
use zepto_core::topology::Placement;
use zepto_core::{Epoch, NodeId, PartitionId};

/// A replica took a tick, working by a placement.
pub fn replicated(
    node: NodeId,
    slot: &Slot,
    partition: PartitionId,
    carried: Option<Epoch>,
    by: &Placement,
) -> Verdict {
    let assignment = by.assignment(partition);
    let held = assignment.map(|assignment| assignment.epoch);
    ensure(Oracle::Fence, held == carried, || {
        let what = name(slot[6]);
        format!("node {node} took {what} of {partition} at epoch {carried:?}, it holds {held:?}")
    })?;
    let copies = |a: &zepto_core::topology::Assignment| {
        a.is_filling(node) || a.replicas().any(|copy| copy == node)
    };
    let replica = assignment.is_some_and(copies);
    ensure(Oracle::Fence, replica, || {
        format!("node {node} took {} of {partition}, whose replica it is not", name(slot[6]))
    })
}
