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
        /// Weight of its share.
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
    /// An incarnation is over: silent for too long, or gone after leaving.
    Bury {
        /// The member.
        node: NodeId,
        /// The incarnation that is over.
        incarnation: Incarnation,
    },
    /// An owner gives partitions away that it has frozen empty.
    HandOver {
        /// The owner.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// What goes where.
        handovers: Vec<Handover>,
    },
    /// The copies of a partition change: a promotion, a copy less.
    Reassign {
        /// The partition.
        partition: PartitionId,
        /// Its epoch as the proposer knows it.
        epoch: Epoch,
        /// Owner first, then the in-sync replicas.
        copies: Vec<NodeId>,
    },
    /// Symbol names to issue ids for.
    Intern {
        /// The names; known ones are fine.
        names: Vec<String>,
    },
}

/// One partition given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Which.
    pub partition: PartitionId,
    /// Its epoch as the owner knows it.
    pub epoch: Epoch,
    /// Its next owner.
    pub to: NodeId,
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
