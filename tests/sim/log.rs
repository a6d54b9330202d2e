//! The control log as a list: commands applied in order through `Topology::apply`, every rule
//! checked after each, and the view of every index kept.
//!
//! Nothing is decided here that production's log would not decide. Half of the schedules begin with
//! a cluster that has just formed, whose copies are still to be filled; for the others every copy
//! is put in place by hand.

use super::rng::Rng;
use std::sync::Arc;
use zepto_core::topology::{Applied, Assignment, Command, Placement, Topology};
use zepto_core::view::View;
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId};

/// The log.
pub struct Log {
    topology: Topology,
    views: Vec<Arc<View>>,
    /// Index of the first view that anybody gets to see.
    pub first: u64,
}

impl Log {
    /// A log in which `nodes` members are active and every partition has `copies` copies.
    pub fn new(bits: u8, copies: usize, nodes: u32, rng: &mut Rng) -> Self {
        let topology = Topology::empty();
        let views = vec![Arc::new(View::compile(topology.placement.clone()))];
        let mut log = Self { topology, views, first: 0 };
        log.commit(&Command::Bootstrap { cluster: 1, bits, copies: copies as u8 });
        for node in 1..=nodes {
            log.commit(&join(node, Incarnation(1)));
            log.commit(&Command::Activate { node: NodeId(node), incarnation: Incarnation(1) });
        }
        let epoch = Epoch(log.index());
        let lead = rng.below(nodes.into()) as u32;
        let spread = rng.chance(500_000);
        let formed = rng.chance(500_000);
        for assignment in log.topology.placement.assignments.iter_mut().filter(|_| formed) {
            let first = if spread { rng.below(nodes.into()) as u32 } else { lead };
            let chosen: Vec<NodeId> =
                (0..copies as u32).map(|copy| NodeId(1 + (first + copy) % nodes)).collect();
            *assignment = Assignment::of(epoch, &chosen);
        }
        log.views.pop();
        log.views.push(Arc::new(View::compile(log.topology.placement.clone())));
        log.first = log.index();
        log
    }

    /// Applies a command.
    ///
    /// # Panics
    /// When a rule of the topology is broken after it: the schedule has found a defect.
    pub fn commit(&mut self, command: &Command) -> Applied {
        let index = self.index() + 1;
        let applied = self.topology.apply(index, index, command);
        if let Err(violation) = self.topology.check() {
            panic!("after {command:?}: {violation}");
        }
        self.views.push(Arc::new(View::compile(self.topology.placement.clone())));
        applied
    }

    /// Index of the last entry.
    pub fn index(&self) -> u64 {
        self.topology.placement.index
    }

    /// The view of an index.
    pub fn view(&self, index: u64) -> &Arc<View> {
        &self.views[index as usize]
    }

    /// What is committed.
    pub fn placement(&self) -> &Placement {
        &self.topology.placement
    }

    /// Every partition with its committed assignment.
    pub fn assignments(&self) -> impl Iterator<Item = (PartitionId, Assignment)> + '_ {
        (0..).map(PartitionId).zip(self.placement().assignments.iter().copied())
    }
}

/// The entry by which a node joins.
pub fn join(node: u32, incarnation: Incarnation) -> Command {
    Command::Join {
        name: format!("n{node}"),
        incarnation,
        address: format!("n{node}:1"),
        shards: 1,
        weight: 100,
        zone: String::new(),
    }
}
