//! What becomes of a proposal, and what two proposals may not touch at the same time.
//!
//! All of it travels between nodes, so variants are only ever added at the end.

use core::fmt;
use serde::{Deserialize, Serialize};
use zepto_core::topology::{Command, Placement, Refused};
use zepto_core::{NodeId, PartitionId};

/// How a proposal ended (C2).
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The entry stands in the log, and the state of the proposing node has applied it.
    Committed {
        /// Its index.
        index: u64,
    },
    /// Nothing changed, and nothing will from this proposal.
    Refused {
        /// The index of the entry that changed nothing, when it came as far as the log.
        index: Option<u64>,
        /// Why.
        why: Reason,
    },
    /// Nobody knows: it may be committed already, later, or never. The text says what happened.
    Unknown(String),
}

impl Outcome {
    /// Refused before it had an index.
    pub(crate) fn refused(why: Reason) -> Self {
        Self::Refused { index: None, why }
    }
}

/// Why a proposal was refused. None of these changed anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Reason {
    /// The topology does not allow it; read the state before another try.
    #[error("{0}")]
    Topology(Refused),
    /// Too many proposals, or too many bytes of them, wait for the log. Try again later.
    #[error("too many proposals wait for the control log")]
    Overloaded,
    /// Another proposal about the same subject has no answer yet (C7). Try again when it has.
    #[error("another proposal about {0} is in flight")]
    InFlight(Subject),
    /// It can never be an entry. Do not try again.
    #[error("not an entry of the control log: {0}")]
    Invalid(String),
    /// There is no leader that could be asked. Try again later.
    #[error("the control log has no leader: {0}")]
    NoLeader(String),
    /// This node's log is being stopped.
    #[error("the control log is stopping")]
    Stopped,
    /// This node's log has failed and takes nothing until the node is started anew.
    #[error("the control log has failed: {0}")]
    Failed(String),
}

/// Why a read barrier was not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum BarrierError {
    /// The deadline passed. Try again.
    #[error("the control log did not answer in time: {0}")]
    Deadline(String),
    /// There is no leader that could be asked. Try again later.
    #[error("the control log has no leader: {0}")]
    NoLeader(String),
    /// This node's log is being stopped.
    #[error("the control log is stopping")]
    Stopped,
    /// This node's log has failed and takes nothing until the node is started anew.
    #[error("the control log has failed: {0}")]
    Failed(String),
}

/// What a proposal is about: at most one is in flight per subject (C7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// A member.
    Member(NodeId),
    /// A text id that is no member's yet.
    Newcomer(String),
    /// A partition.
    Partition(PartitionId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => write!(f, "the cluster"),
            Self::Member(node) => write!(f, "node {node}"),
            Self::Newcomer(name) => write!(f, "node {name:?}"),
            Self::Partition(partition) => write!(f, "partition {partition}"),
        }
    }
}

impl Subject {
    /// The subjects of a command, given the placement it is proposed in. Each once.
    pub(crate) fn all_of(command: &Command, placement: &Placement) -> Vec<Self> {
        match command {
            Command::Bootstrap { .. } => vec![Self::Cluster],
            Command::Join { name, .. } => vec![match placement.member_named(name) {
                Some(member) => Self::Member(member.id),
                None => Self::Newcomer(name.clone()),
            }],
            Command::Activate { node, .. }
            | Command::Leave { node, .. }
            | Command::Bury { node, .. }
            | Command::Weight { node, .. }
            | Command::Zone { node, .. }
            | Command::Remove { node } => vec![Self::Member(*node)],
            Command::Change { changes, .. } => {
                let mut partitions: Vec<PartitionId> =
                    changes.iter().map(|change| change.partition).collect();
                partitions.sort_unstable();
                partitions.dedup();
                partitions.into_iter().map(Self::Partition).collect()
            }
            Command::Pin { partition, .. } | Command::Unpin { partition } => {
                vec![Self::Partition(*partition)]
            }
            Command::Recover { .. } => vec![Self::Cluster],
            Command::Intern { .. } => Vec::new(),
        }
    }
}
