//! The log of one node: fsynced in redb, with group commit.
//!
//! Proposals queue up while a transaction is being written; the worker then takes all that are
//! there, writes them in one durable transaction, applies them in order and answers each. So the
//! rate is bounded by the disk only for one proposer at a time. An entry that the topology refuses
//! stands in the log too, with an index of its own: whether it is refused depends on the entries
//! before it, which may lie in the same transaction.
//!
//! What happens when...
//! * ...the disk fails: what was being written is answered Unknown, all else Refused, now and
//!   later; the worker returns the error, and only a new process tries again.
//! * ...a proposer goes away: its proposal is withdrawn unless it is being written already.
//! * ...the worker is dropped or panics: as with a failed disk.

use crate::entry::{self, Entry};
use crate::outcome::{BarrierError, Outcome, Reason, Subject};
use crate::proposals::{Proposal, Proposals};
use crate::state::{Applier, EventSink, Position, State};
use crate::store::Store;
use crate::{Command, ControlLog};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::path::Path;
use std::sync::Arc;
use zepto_core::topology::Applied;

pub use crate::store::LogError;

/// The log, for proposers and for the followers' polls. Shared by all threads.
#[derive(Debug)]
pub struct Single {
    state: Arc<State>,
    shared: Arc<Shared>,
}

/// The loop that writes the log. One per log.
#[derive(Debug)]
pub struct SingleWorker {
    shared: Arc<Shared>,
    applier: Applier,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    proposals: Proposals,
    transactions: AtomicU64,
}

/// Why a follower's poll has no answer.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The follower has applied what is not in this log: it belongs to another cluster, or one of
    /// the two logs was put back to an older state. It must stop; asking again changes nothing.
    #[error(
        "the follower's log ends with entry {} of hash {:016x}, which is not in this log",
        .0.index, .0.hash
    )]
    Diverged(Position),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Single {
    /// Creates an empty log at `path`, which must not exist.
    ///
    /// # Errors
    /// It exists, or the disk refuses. Nothing is left under that name.
    pub fn create(path: &Path, events: EventSink) -> Result<(Arc<Self>, SingleWorker), LogError> {
        Self::start(Store::create(path)?, events)
    }

    /// Opens the log at `path` and applies all of it. Events of these entries are not told: they
    /// were in an earlier life. Blocks for as long as the log is long.
    ///
    /// # Errors
    /// There is none, it is in use, of another version, or damaged. It is never repaired.
    pub fn open(path: &Path, events: EventSink) -> Result<(Arc<Self>, SingleWorker), LogError> {
        Self::start(Store::open(path)?, events)
    }

    pub(crate) fn start(
        store: Store,
        events: EventSink,
    ) -> Result<(Arc<Self>, SingleWorker), LogError> {
        let (state, mut applier) = State::new(events);
        store.replay(&mut applier)?;
        let (proposals, transactions) = (Proposals::default(), AtomicU64::new(0));
        let shared = Arc::new(Shared { store, proposals, transactions });
        let worker = SingleWorker { shared: Arc::clone(&shared), applier };
        Ok((Arc::new(Self { state, shared }), worker))
    }

    /// Proposes the bytes of an entry: a follower's proposal, as it came in.
    pub async fn propose_entry(&self, bytes: Vec<u8>, deadline: Duration) -> Outcome {
        match entry::decode(&bytes) {
            Ok(command) => self.submit(bytes, &command, deadline).await,
            Err(error) => Outcome::refused(Reason::Invalid(error.to_string())),
        }
    }

    /// The entries after a follower's position, within both bounds, in order; the first one is
    /// there however large it is. Empty when the follower has everything. Only what this node has
    /// applied is given out. Reads the disk or its cache.
    ///
    /// # Errors
    /// The follower's log is not a prefix of this one, or the disk failed.
    pub fn entries_after(
        &self,
        after: Position,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, FollowError> {
        let last = self.state.index();
        let known = after.index <= last
            && self.shared.store.hash_at(after.index)?.is_some_and(|hash| hash == after.hash);
        if !known {
            return Err(FollowError::Diverged(after));
        }
        Ok(self.shared.store.read(after.index, last, entries_max, bytes_max)?)
    }

    /// Waits until the log is longer than `index`, at most `wait`; whether it is. Returns at once
    /// when the log ends.
    pub async fn wait_beyond(&self, index: u64, wait: Duration) -> bool {
        self.state.wait_for(index.saturating_add(1), wait).await.is_ok()
    }

    /// Durable transactions written since the start.
    pub fn transactions(&self) -> u64 {
        self.shared.transactions.load(Ordering::Relaxed)
    }

    /// Takes no further proposal; the worker writes what waits and returns.
    pub fn stop(&self) {
        self.shared.proposals.stop();
    }

    async fn submit(&self, bytes: Vec<u8>, command: &Command, deadline: Duration) -> Outcome {
        let subjects =
            self.state.with_topology(|topology| Subject::all_of(command, &topology.placement));
        let outcome = match self.shared.proposals.submit(bytes, subjects) {
            Ok(outcome) => outcome,
            Err(why) => return Outcome::refused(why),
        };
        match tokio::time::timeout(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Unknown("the control log ended without an answer".into()),
            Err(_) => Outcome::Unknown("the control log did not answer in time".into()),
        }
    }
}

impl ControlLog for Single {
    async fn propose(&self, command: Command, deadline: Duration) -> Outcome {
        match entry::encode(&command) {
            Ok(bytes) => self.submit(bytes, &command, deadline).await,
            Err(error) => Outcome::refused(Reason::Invalid(error.to_string())),
        }
    }

    /// Nobody is told of an entry before this state has applied it, so its index is the barrier.
    async fn read_barrier(&self, _deadline: Duration) -> Result<u64, BarrierError> {
        match self.shared.proposals.over() {
            None => Ok(self.state.index()),
            Some(Reason::Stopped) => Err(BarrierError::Stopped),
            Some(reason) => Err(BarrierError::Failed(reason.to_string())),
        }
    }

    fn state(&self) -> &Arc<State> {
        &self.state
    }
}

impl SingleWorker {
    /// Writes, applies and answers until [`Single::stop`]. Blocks; run it on a thread of its own.
    ///
    /// # Errors
    /// The disk failed. Everybody who waits has been told, and the log takes nothing more.
    pub fn run(mut self) -> Result<(), LogError> {
        while let Some(batch) = self.shared.proposals.take() {
            self.commit(batch)?;
        }
        Ok(())
    }

    fn commit(&mut self, batch: Vec<Proposal>) -> Result<(), LogError> {
        match self.write_and_apply(&batch) {
            Ok(outcomes) => {
                self.shared.proposals.answer(batch, outcomes);
                Ok(())
            }
            Err(error) => {
                let text = error.to_string();
                self.shared.proposals.fail(Reason::Failed(text.clone()));
                let unknown = core::iter::repeat_with(|| Outcome::Unknown(text.clone()));
                self.shared.proposals.answer(batch, unknown);
                Err(error)
            }
        }
    }

    fn write_and_apply(&mut self, batch: &[Proposal]) -> Result<Vec<Outcome>, LogError> {
        let last = self.applier.position();
        let entries = batch.iter().map(|proposal| proposal.bytes.as_slice());
        let end = self.shared.store.append(last, entries)?;
        self.shared.transactions.fetch_add(1, Ordering::Relaxed);
        let mut outcomes = Vec::with_capacity(batch.len());
        for (index, proposal) in (last.index + 1..).zip(batch) {
            outcomes.push(match self.applier.step(index, &proposal.bytes)? {
                Applied::Changed(_) => Outcome::Committed { index },
                Applied::Refused(refused) => {
                    Outcome::Refused { index: Some(index), why: Reason::Topology(refused) }
                }
            });
        }
        // What the disk holds and what is applied are the same log, or nothing may be answered.
        if self.applier.position() != end {
            return Err(LogError::Chain { index: end.index });
        }
        self.applier.publish();
        Ok(outcomes)
    }
}

impl Drop for SingleWorker {
    /// Also after a panic: nobody waits for a worker that is gone.
    fn drop(&mut self) {
        let over = self.shared.proposals.over();
        let gone = || Reason::Failed("the worker of the control log has ended".into());
        self.shared.proposals.fail(over.unwrap_or_else(gone));
    }
}

#[cfg(test)]
#[path = "power_loss_tests.rs"]
mod power_loss_tests;
#[cfg(test)]
#[path = "single_tests.rs"]
mod tests;
