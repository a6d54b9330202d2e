//! The topology: all that is agreed upon. Members, placement and symbol names, changed only by
//! [`Topology::apply`] with the entries of the control log, in their order.
//!
//! Equal index means equal topology, on every node: `apply` is deterministic and the hash in the
//! heartbeats would show where it is not. What is *not* here is opinion: SUSPECT is an observer's.

mod apply;
mod check;
mod command;
mod copies;
mod event;

pub use apply::Applied;
pub use check::Violation;
pub use command::{Change, Command, Refused, What};
pub use event::Event;

use crate::limits::{COPIES_MAX, IN_SYNC_MAX};
use crate::symbols::Symbols;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zepto_abi::{Epoch, Incarnation, NodeId, PartitionId};

/// Where a member stands, by decision of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MemberState {
    /// Known, not yet heard: owns nothing.
    Joining,
    /// Takes part.
    Active,
    /// Going away on purpose; gets nothing new.
    Leaving,
    /// Final for this incarnation.
    Dead,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number, never used for another text id.
    pub id: NodeId,
    /// Its text id, from configuration or discovery.
    pub name: String,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Where it stands.
    pub state: MemberState,
    /// Where its RPC (TCP) and heartbeats (UDP) are reached, host:port.
    pub address: String,
    /// Shard threads, a power of two.
    pub shards: u16,
    /// Weight of its share; 100 is ordinary.
    pub weight: u16,
    /// Failure zone; empty when it has none.
    pub zone: String,
}

impl Member {
    /// Whether it may hold partitions now: it is there, or going away in an orderly manner.
    pub fn takes_part(&self) -> bool {
        matches!(self.state, MemberState::Active | MemberState::Leaving)
    }
}

/// Who holds a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Index of the entry that last changed the owner or the copies.
    pub epoch: Epoch,
    /// Index of the entry at which it last began empty: what is older is not part of it.
    pub since: Epoch,
    /// The owner first, then the in-sync replicas; [`NodeId`] zero where there is none. One more
    /// than a cluster may declare: while a copy moves, the old one stays until the new one is
    /// full.
    pub copies: [NodeId; IN_SYNC_MAX],
    /// Members whose copy is being filled: they take every new tick, and count for nothing else.
    pub filling: [NodeId; COPIES_MAX],
    /// The member that is to be the owner once it is in sync; zero when nothing moves.
    pub target: NodeId,
}

impl Assignment {
    /// Nobody's.
    pub const NOBODY: Self = Self {
        epoch: Epoch(0),
        since: Epoch(0),
        copies: [NodeId(0); IN_SYNC_MAX],
        filling: [NodeId(0); COPIES_MAX],
        target: NodeId(0),
    };

    /// Empty at an epoch, at these members: the owner first.
    pub fn of(epoch: Epoch, nodes: &[NodeId]) -> Self {
        let mut assignment = Self { epoch, since: epoch, ..Self::NOBODY };
        for (copy, node) in assignment.copies.iter_mut().zip(nodes) {
            *copy = *node;
        }
        assignment
    }

    /// The owner, if any.
    pub fn owner(&self) -> Option<NodeId> {
        Some(self.copies[0]).filter(|node| *node != NodeId(0))
    }

    /// The in-sync members, the owner first.
    pub fn in_sync(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.copies.iter().copied().filter(|node| *node != NodeId(0))
    }

    /// The in-sync replicas besides the owner.
    pub fn replicas(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.copies[1..].iter().copied().filter(|node| *node != NodeId(0))
    }

    /// The members whose copy is being filled.
    pub fn filling(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.filling.iter().copied().filter(|node| *node != NodeId(0))
    }

    /// Whether a node holds an in-sync copy.
    pub fn holds(&self, node: NodeId) -> bool {
        node != NodeId(0) && self.copies.contains(&node)
    }

    /// Whether a node's copy is being filled.
    pub fn is_filling(&self, node: NodeId) -> bool {
        node != NodeId(0) && self.filling.contains(&node)
    }

    /// In-sync copies and those being filled.
    pub fn count(&self) -> usize {
        self.in_sync().count() + self.filling().count()
    }
}

/// Members and partitions: what routes. The symbol names are kept apart, they may be many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Index of the last entry that changed anything here or in the names.
    pub index: u64,
    /// Chain hash over all entries up to `index`.
    pub hash: u64,
    /// The cluster, 128 random bits made at bootstrap.
    pub cluster: u128,
    /// 2^bits partitions.
    pub bits: u8,
    /// Declared copies of every partition.
    pub copies: u8,
    /// The last id that was issued.
    pub ids: u32,
    /// The members, by id; dead ones until they are removed.
    pub members: Vec<Member>,
    /// One per partition.
    pub assignments: Vec<Assignment>,
    /// Partitions that an operator wants at a member.
    pub pins: BTreeMap<PartitionId, NodeId>,
}

/// All replicated control state.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Members and partitions.
    pub placement: Placement,
    /// Symbol names.
    pub symbols: Symbols,
}

impl Placement {
    /// The member with an id.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(self.position(id)?)
    }

    /// Where a member stands in the list. Ids are issued from one upwards and members are rarely
    /// removed, so the id nearly always says it.
    pub fn position(&self, id: NodeId) -> Option<usize> {
        let guess = (id.0 as usize).checked_sub(1)?;
        if self.members.get(guess).is_some_and(|member| member.id == id) {
            return Some(guess);
        }
        self.members.binary_search_by_key(&id, |member| member.id).ok()
    }

    /// The member with a text id.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// A partition's assignment.
    pub fn assignment(&self, partition: PartitionId) -> Option<&Assignment> {
        self.assignments.get(partition.0 as usize)
    }

    /// Partitions that a node owns.
    pub fn owned_by(&self, node: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
        let owned = self.assignments.iter().zip(0u32..);
        owned.filter(move |(a, _)| a.copies[0] == node).map(|(_, p)| PartitionId(p))
    }
}

impl Topology {
    /// Before the first entry: no cluster yet.
    pub fn empty() -> Self {
        let placement = Placement {
            index: 0,
            hash: 0,
            cluster: 0,
            bits: 0,
            copies: 0,
            ids: 0,
            members: Vec::new(),
            assignments: Vec::new(),
            pins: BTreeMap::new(),
        };
        Self { placement, symbols: Symbols::default() }
    }
}
