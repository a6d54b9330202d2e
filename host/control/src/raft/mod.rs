//! The log of several voters: openraft, over one redb file per voter.
//!
//! Architecture invariant: nothing outside this module names openraft. The node opens a [`Raft`],
//! runs its [`DiskWorker`] on a thread, brings messages to [`Raft::handle`] and from [`PeerLink`],
//! and uses it as a [`ControlLog`](crate::ControlLog).
//!
//! * An entry's index in openraft's log is its index in the topology. What consensus keeps for
//!   itself (a leader's first entry, memberships) is passed over and has an index all the same.
//! * A voter is its file. A file that is lost comes back as another voter, with another id, that
//!   has to be admitted; messages to the old one are refused, so no vote is given twice.
//! * A change of membership ends as an [`Outcome`](crate::Outcome), like a proposal: it, too, can
//!   be unknown.
//!
//! What happens when...
//! * ...the disk fails, or an entry cannot be applied: this node's consensus ends, and says so in
//!   [`Raft::ended`]; only a new process tries again.
//! * ...the leader is lost: proposals on the way to it end Unknown; new ones wait for the next
//!   leader until their deadline.
//! * ...the node is started anew: its state begins with what its file notes as committed, which
//!   may be a little less than it had applied; [`Raft::recovered`] waits for the rest. Events of
//!   the difference are told again.
//!
//! # Opening
//!
//! [`Raft::open`] gives an [`Unstarted`] log and the worker; [`Unstarted::start`] needs the worker
//! to run already, for it may have to write.

mod choose;
mod disk;
mod flights;
mod handle;
mod machine;
mod members;
mod net;
mod open;
mod peers;
mod propose;
mod runtime;
mod snapshot;
mod status;
mod store;
mod times;
mod types;
mod wire;
mod worker;

#[cfg(test)]
mod tests;

pub use choose::{Candidate, choose_voters};
pub use handle::HandleError;
pub use members::Demoted;
pub use open::{Compaction, Unstarted};
pub use peers::{LinkFailure, Peer, PeerLink, PeerRole};
pub use runtime::seeded;
pub use status::Status;
pub use times::{Times, TimesError};
pub use worker::DiskWorker;

use crate::outcome::Reason;
use crate::state::State;
use core::fmt;
use core::sync::atomic::AtomicU64;
use flights::Flights;
use handle::Incoming;
use machine::Machine;
use net::Wire;
use std::sync::{Arc, Mutex};
use store::LogStore;
use types::{Contact, Types};

/// The log of several voters, on one of its peers. Shared by all threads.
pub struct Raft<L> {
    core: openraft::Raft<Types, Machine>,
    id: u64,
    me: Contact,
    fresh: bool,
    wire: Arc<Wire<L>>,
    state: Arc<State>,
    store: LogStore,
    flights: Arc<Flights>,
    incoming: Mutex<Option<Incoming>>,
    transactions: Arc<AtomicU64>,
}

impl<L> fmt::Debug for Raft<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raft")
            .field("id", &self.id)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
