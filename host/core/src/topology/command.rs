//! What can be proposed to the control log, and why it may be refused.

use crate::symbols::SymbolError;
use serde::{Deserialize, Serialize};
use zepto_abi::{Epoch, Incarnation, NodeId, PartitionId};

/// One entry of the control log. The encoding is part of the log's format on disk: variants are
/// only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of every log.
    Bootstrap {
        /// The cluster's id, random.
        cluster: u128,
        /// 2^bits partitions, for ever.
        bits: u8,
        /// Declared copies of every partition.
        copies: u8,
    },
    /// A node, or a new incarnation of one, asks to be a member.
    Join {
        /// Its text id.
        name: String,
        /// Which life of it.
        incarnation: Incarnation,
        /// Where it is reached.
        address: String,
        /// Shard threads, a power of two.
        shards: u16,
        /// Weight of its share; a member of weight zero holds no partitions.
        weight: u16,
        /// Failure zone, or empty.
        zone: String,
    },
    /// A joining member was heard: it takes part from here on.
    Activate {
        /// The member.
        node: NodeId,
        /// The incarnation that was heard.
        incarnation: Incarnation,
    },
    /// A member is going away on purpose.
    Leave {
        /// The member.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// An incarnation is over: silent for too long, or gone after leaving. In-sync replicas take
    /// over what it owned, and other members are filled in its place, in this same entry.
    Bury {
        /// The member.
        node: NodeId,
        /// The incarnation that is over.
        incarnation: Incarnation,
    },
    /// An owner changes who holds its partitions. What no longer fits is passed over.
    Change {
        /// The owner.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// Up to `CHANGES_MAX` of them.
        changes: Vec<Change>,
    },
    /// Symbol names to issue ids for.
    Intern {
        /// The names; known ones are fine.
        names: Vec<String>,
    },
    /// A partition is to be at a member.
    Pin {
        /// The partition.
        partition: PartitionId,
        /// The member.
        node: NodeId,
    },
    /// A partition may be anywhere again.
    Unpin {
        /// The partition.
        partition: PartitionId,
    },
    /// A member's share changes.
    Weight {
        /// The member.
        node: NodeId,
        /// Its new weight.
        weight: u16,
    },
    /// A member stands elsewhere.
    Zone {
        /// The member.
        node: NodeId,
        /// Its new failure zone, or empty.
        zone: String,
    },
    /// A dead member that holds nothing is forgotten.
    Remove {
        /// The member.
        node: NodeId,
    },
    /// Partitions whose last in-sync member is gone begin anew, empty, at others: an operator
    /// accepts the loss.
    Recover {
        /// How many there are, so that nobody accepts more than was shown.
        partitions: u32,
    },
}

/// One partition's change, valid only at the epoch that its owner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub partition: PartitionId,
    /// Its epoch as the owner knows it.
    pub epoch: Epoch,
    /// What changes.
    pub what: What,
}

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A member begins to be filled, as one more copy.
    Fill(NodeId),
    /// A member is to be the owner: it is filled first if it has no copy.
    Move(NodeId),
    /// A filled member has everything: it is in sync.
    Admit(NodeId),
    /// A member's copy counts no longer; another one, or it again, is filled in its place.
    Drop(NodeId),
    /// An in-sync member becomes the owner. The old one has stopped taking ticks, and all that it
    /// took is confirmed everywhere, so its copy stays in sync.
    Switch(NodeId),
    /// Nothing but the epoch: whatever was proposed at the old one can no longer happen.
    Renew,
}

/// Why an entry was refused. The topology is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refused {
    /// There is a cluster already.
    #[error("the cluster is bootstrapped already")]
    Bootstrapped,
    /// There is no cluster yet.
    #[error("the cluster is not bootstrapped")]
    NotBootstrapped,
    /// A value is outside its limits.
    #[error("{0}")]
    Invalid(String),
    /// No such member.
    #[error("node {0} is not a member")]
    NoMember(NodeId),
    /// The member's incarnation is another, or it stands elsewhere.
    #[error("node {node} is not at incarnation {incarnation} in a state that allows this")]
    Outdated {
        /// The member.
        node: NodeId,
        /// The incarnation that was named.
        incarnation: Incarnation,
    },
    /// The partition's epoch, owner or copies are no longer what the proposer knew.
    #[error("partition {partition} has changed since: its epoch is {epoch}")]
    Changed {
        /// The partition.
        partition: PartitionId,
        /// Its epoch now.
        epoch: Epoch,
    },
    /// No room for another member.
    #[error("the cluster has the most members it may have")]
    Full,
    /// A name that is no symbol.
    #[error("{name:?}: {error}")]
    Symbol {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: String,
    },
}

impl Refused {
    pub(super) fn symbol(name: &str, error: SymbolError) -> Self {
        Self::Symbol { name: name.into(), error: error.to_string() }
    }
}
