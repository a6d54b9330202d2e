//! The control log: one agreed order of decisions, and the topology that follows from it.
//!
//! Architecture invariant: nothing outside this crate knows how the order is agreed upon. The rest
//! of the host proposes a [`Command`], waits for its [`Outcome`] and reads [`State`]; whether one
//! node keeps the log or several vote on it is a matter behind [`ControlLog`]. The crate starts no
//! thread: [`raft::DiskWorker`] is a loop that the node runs.
//!
//! * [`state`]: the applied topology of this node, and its one writer.
//! * [`entry`]: the bytes of an entry, the format of the log on disk and on the wire.
//! * [`raft`]: the log, which voters agree upon, each with an fsynced file of its own. One node
//!   alone is one voter; every node that is no voter follows with a file of its own too, ready to
//!   become one.
//! * [`datadir`]: the directory that says which node of which cluster this is.
//!
//! # The contract
//!
//! What the rest of the host may assume of every [`ControlLog`]:
//!
//! * **C1** There is one total order of entries. Every [`State`] applies a prefix of it without
//!   gaps; an entry that would leave a gap, or does not decode, is an error and not skipped.
//! * **C2** A proposal ends as [`Outcome::Committed`], [`Outcome::Refused`] or
//!   [`Outcome::Unknown`]. Committed means: on disk wherever this log promises it, and applied to
//!   the [`State`] of the node that proposed it. Refused means that it changed nothing and never
//!   will. Unknown may have been committed, or may be later: read the state before proposing again.
//! * **C3** Applying is deterministic: equal index means equal topology hash. Both are read
//!   together, as a [`Position`].
//! * **C4** A node's index never goes back while it runs. A restarted [`raft::Raft`] begins with
//!   what its file notes as committed, and is where it was when [`raft::Raft::recovered`] returns.
//! * **C5** [`ControlLog::read_barrier`] returns an index that is at least that of every entry
//!   committed before the call, and the node's [`State`] has applied it.
//! * **C6** No progress without a majority of the voters, and no loss of safety ever.
//! * **C7** One proposal is in flight per [`Subject`]; another one is refused at once. Symbol names
//!   have no subject: interning the same name twice is harmless.
#![forbid(unsafe_code)]

mod claims;
pub mod datadir;
pub mod entry;
mod file;
mod outcome;
pub mod raft;
pub mod state;
#[cfg(test)]
mod testing;
mod watch;

pub use file::LogError;
pub use outcome::{BarrierError, Outcome, Reason, Subject};
pub use state::{Position, State};
pub use zepto_core::topology::{Command, Event, Refused};

use core::future::Future;
use core::time::Duration;
use std::sync::Arc;

impl<L: ControlLog> ControlLog for Arc<L> {
    async fn propose(&self, command: Command, deadline: Duration) -> Outcome {
        L::propose(self, command, deadline).await
    }

    async fn read_barrier(&self, deadline: Duration) -> Result<u64, BarrierError> {
        L::read_barrier(self, deadline).await
    }

    fn state(&self) -> &Arc<State> {
        L::state(self)
    }
}

/// The log of decisions, as the rest of the host sees it. The contract is in the crate's
/// documentation.
///
/// Both futures need a tokio runtime with time. Dropping one abandons the answer: what was
/// proposed may be committed all the same.
pub trait ControlLog: Send + Sync + 'static {
    /// Proposes an entry and waits, at most `deadline`, for what becomes of it (C2, C7).
    fn propose(&self, command: Command, deadline: Duration)
    -> impl Future<Output = Outcome> + Send;

    /// An index that covers all that was committed before the call (C5), once the state of this
    /// node has applied it.
    ///
    /// # Errors
    /// The barrier was not reached; what the state shows may be old. Worth a retry unless the log
    /// has failed.
    fn read_barrier(
        &self,
        deadline: Duration,
    ) -> impl Future<Output = Result<u64, BarrierError>> + Send;

    /// What this node has applied.
    fn state(&self) -> &Arc<State>;
}
