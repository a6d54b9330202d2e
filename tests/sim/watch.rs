//! Watches lanes from outside: what a receiver declared settled and what it refused, by content,
//! at the moment it said so.
//!
//! It reads the credit's words as the mailbox's documented layout (version 1) places them, so the
//! agents need no hook. A change of that layout shows at once: nothing would settle.

use super::transport::{Network, Tap};
use std::collections::{BTreeMap, BTreeSet};
use zepto_core::hash::partition_of;
use zepto_core::slot::{self, Control, Slot};
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId};

/// First line of the slots.
const SLOTS: usize = 4;
/// Line and word of `settled` in the credit.
const SETTLED: (usize, usize) = (2, 1);
/// First line of the refusals in the credit.
const REFUSALS: usize = 6;

/// Whose lane it is.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// From a producer to an owner.
    Ingress {
        /// The producer.
        producer: usize,
        /// Who settles: the receiving node.
        node: NodeId,
        /// Settled once the owner has it.
        memory_only: bool,
    },
    /// From an owner to a replica.
    Replica {
        /// The receiving node.
        node: NodeId,
        /// This life of it.
        incarnation: Incarnation,
        /// The owner, and this life of it.
        from: (NodeId, Incarnation),
    },
}

/// One thing that a receiver made final.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// A tick was acknowledged to its producer.
    Settled {
        /// Who acknowledged it.
        node: NodeId,
        /// To whom.
        producer: usize,
        /// Its lane's durability.
        memory_only: bool,
        /// The tick.
        slot: Slot,
    },
    /// A replica took a tick that an owner had bound at an epoch.
    Replicated {
        /// The replica.
        node: NodeId,
        /// This life of it.
        incarnation: Incarnation,
        /// The owner, and this life of it.
        from: (NodeId, Incarnation),
        /// The owner's epoch; `None` if nothing was bound.
        epoch: Option<Epoch>,
        /// The tick.
        slot: Slot,
    },
    /// A replica took an earlier tick of a copy that is filled or repaired.
    Filled {
        /// The replica.
        node: NodeId,
        /// This life of it.
        incarnation: Incarnation,
        /// The owner, and this life of it.
        from: (NodeId, Incarnation),
        /// The tick.
        slot: Slot,
    },
    /// A replica took or refused a record about a partition.
    Said {
        /// The replica.
        node: NodeId,
        /// The record.
        control: Control,
        /// Whether it refused it.
        refused: bool,
    },
    /// A tick was refused. It may have been sent again long before.
    Refused {
        /// By whom.
        node: NodeId,
        /// The tick.
        slot: Slot,
    },
}

impl Seen {
    /// In words.
    pub fn story(&self, bits: u8) -> String {
        let of = |slot: &Slot| {
            let (table, symbol) = slot::series_of(slot);
            let (id, low) = (slot[6], slot::producer_of(slot).1);
            let partition = partition_of(table, symbol, bits);
            format!("{} (number {low} in {partition})", super::oracle::name(id))
        };
        match self {
            Self::Settled { node, slot, .. } => format!("node {node} settled {}", of(slot)),
            Self::Said { node, control, refused } => {
                let did = if *refused { "refused" } else { "took" };
                format!("node {node} {did} {control:?}")
            }
            Self::Filled { node, slot, .. } => format!("node {node} was given {}", of(slot)),
            Self::Refused { node, slot } => format!("node {node} refused {}", of(slot)),
            Self::Replicated { node, slot, epoch, .. } => {
                format!("node {node} took {} at {epoch:?}", of(slot))
            }
        }
    }
}

struct Lane {
    role: Role,
    slots_link: u32,
    capacity: u64,
    settled: u64,
    refused: BTreeSet<u64>,
    /// By place in the ring of refusals: first index.
    first: BTreeMap<(usize, usize), u64>,
    bound: BTreeMap<PartitionId, Epoch>,
    /// Slots that are rows of a copy, and whether the replica takes them.
    rows: (u32, bool),
}

/// All watched lanes, by the link of their credit.
pub struct Watch {
    bits: u8,
    lanes: BTreeMap<u32, Lane>,
}

impl Watch {
    /// Watches nothing yet. There are 2^`bits` partitions.
    pub fn new(bits: u8) -> Self {
        Self { bits, lanes: BTreeMap::new() }
    }

    /// Watches a lane whose links are known.
    pub fn lane(&mut self, role: Role, slots_link: u32, credit_link: u32, capacity: u32) {
        let lane = Lane {
            role,
            slots_link,
            capacity: capacity.into(),
            settled: 0,
            refused: BTreeSet::new(),
            first: BTreeMap::new(),
            bound: BTreeMap::new(),
            rows: (0, false),
        };
        self.lanes.insert(credit_link, lane);
    }

    /// What the words stored since the last call mean, in order.
    pub fn observe(&mut self, network: &Network) -> Vec<Seen> {
        let mut seen = Vec::new();
        for Tap { link, line, word, value } in network.take_taps() {
            let Some(lane) = self.lanes.get_mut(&link) else { continue };
            if (line, word) == SETTLED {
                lane.settle(value, self.bits, network, &mut seen);
            } else if line >= REFUSALS && word % 2 == 0 {
                lane.first.insert((line, word), value);
            } else if line >= REFUSALS {
                let first = lane.first.get(&(line, word - 1)).copied().unwrap_or(0);
                lane.refused.extend(first..first + u64::from(value as u32));
            }
        }
        seen
    }
}

impl Lane {
    fn settle(&mut self, upto: u64, bits: u8, network: &Network, seen: &mut Vec<Seen>) {
        let link = network.link(self.slots_link);
        for index in self.settled..upto {
            let slot = link.arrived(network, SLOTS + (index % self.capacity) as usize);
            let refused = self.refused.remove(&index);
            if self.rows.0 > 0 {
                self.rows.0 -= 1;
                if let (Role::Replica { node, incarnation, from }, true) = (self.role, self.rows.1)
                {
                    seen.push(Seen::Filled { node, incarnation, from, slot });
                }
            } else if slot::is_control(&slot) {
                if let (Ok(control), Role::Replica { node, .. }) =
                    (slot::control_of(&slot), self.role)
                {
                    seen.push(Seen::Said { node, control, refused });
                }
                match slot::control_of(&slot) {
                    Ok(
                        Control::BindPartition { partition, epoch, .. }
                        | Control::BeginFill { partition, epoch, .. },
                    ) => {
                        self.bound.remove(&partition);
                        if !refused {
                            self.bound.insert(partition, epoch);
                        }
                    }
                    Ok(Control::Rows { count, .. }) => self.rows = (count, !refused),
                    _ => {}
                }
            } else if refused {
                let (Role::Ingress { node, .. } | Role::Replica { node, .. }) = self.role;
                seen.push(Seen::Refused { node, slot });
            } else {
                seen.push(self.seen(slot, bits));
            }
        }
        self.settled = upto;
    }

    fn seen(&self, slot: Slot, bits: u8) -> Seen {
        match self.role {
            Role::Ingress { producer, node, memory_only } => {
                Seen::Settled { node, producer, memory_only, slot }
            }
            Role::Replica { node, incarnation, from } => {
                let (table, symbol) = slot::series_of(&slot);
                let partition = partition_of(table, symbol, bits);
                let epoch = self.bound.get(&partition).copied();
                Seen::Replicated { node, incarnation, from, epoch, slot }
            }
        }
    }
}
