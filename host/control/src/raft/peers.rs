//! How peers of the log are named, and the way to them.

use super::types::Contact;
use core::fmt;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// How a peer of the log is named and reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Its voter id: random, made with the file of its log, and never used for another file.
    pub id: u64,
    /// The node's text id.
    pub name: String,
    /// Where it is reached.
    pub address: String,
}

/// What a peer is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRole {
    /// It votes, and entries count as committed with its help.
    Voter,
    /// It follows.
    Learner,
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFailure {
    /// The request was certainly not delivered.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// It may have been delivered, and may have done what it asked for.
    #[error("no answer: {0}")]
    Unknown(String),
}

/// The way to other peers; the node implements it over RPC, on a lane of its own. A call whose
/// future is dropped is abandoned.
pub trait PeerLink: Send + Sync + 'static {
    /// Brings `request` to [`Raft::handle`](super::Raft::handle) of a peer, and its answer back.
    ///
    /// # Errors
    /// None came within the deadline, or the peer refused. Only what was certainly not delivered
    /// is unreachable.
    fn call(
        &self,
        to: &Peer,
        request: Vec<u8>,
        deadline: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, LinkFailure>> + Send;
}

impl Peer {
    pub(crate) fn new(id: u64, contact: &Contact) -> Self {
        Self { id, name: contact.name.clone(), address: contact.address.clone() }
    }

    pub(crate) fn contact(&self) -> Contact {
        Contact { name: self.name.clone(), address: self.address.clone() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:016x} at {})", self.name, self.id, self.address)
    }
}
