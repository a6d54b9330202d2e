//! The bounded queue between proposers and the loop that writes the log.
//!
//! One short lock guards the queue, the claims on subjects (C7) and the word that it is over, so
//! no proposal can slip in unanswered while the log stops or fails. It never waits for room: a
//! full queue refuses.

use crate::claims::Claims;
use crate::outcome::{Outcome, Reason, Subject};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use zepto_core::limits::PROPOSALS_MAX;

/// An entry that wants to be in the log.
#[derive(Debug)]
pub(crate) struct Proposal {
    /// Its bytes.
    pub bytes: Vec<u8>,
    subjects: Vec<Subject>,
    answer: oneshot::Sender<Outcome>,
}

/// The queue. Shared by proposers and the one loop that takes from it.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    inner: Mutex<Inner>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Proposal>,
    /// Of what waits and what is being written.
    claims: Claims,
    /// Set once, when nothing more is taken in.
    over: Option<Reason>,
}

impl Proposals {
    /// Queues an entry; its outcome comes through the receiver. A receiver that is dropped before
    /// the entry is being written withdraws it.
    ///
    /// # Errors
    /// Overloaded, in flight, stopped or failed.
    pub fn submit(
        &self,
        bytes: Vec<u8>,
        subjects: Vec<Subject>,
    ) -> Result<oneshot::Receiver<Outcome>, Reason> {
        let mut inner = self.lock();
        if let Some(over) = &inner.over {
            return Err(over.clone());
        }
        let full = inner.waiting.len() >= PROPOSALS_MAX;
        inner.claims.take(bytes.len(), &subjects, full)?;
        let (answer, outcome) = oneshot::channel();
        inner.waiting.push_back(Proposal { bytes, subjects, answer });
        self.ready.notify_one();
        Ok(outcome)
    }

    /// All that waits, in order, less what was withdrawn; blocks until there is something. `None`
    /// when it is over and nothing waits any more.
    pub fn take(&self) -> Option<Vec<Proposal>> {
        let mut inner = self.lock();
        loop {
            let waiting = core::mem::take(&mut inner.waiting);
            let (withdrawn, batch): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|proposal| proposal.answer.is_closed());
            withdrawn.iter().for_each(|proposal| inner.release(proposal));
            if !batch.is_empty() {
                return Some(batch);
            }
            if inner.over.is_some() {
                return None;
            }
            inner = self.ready.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Answers a batch that was taken, its outcomes in the same order. Its subjects are free before
    /// anybody is answered, so that who hears of the outcome can propose again at once.
    pub fn answer(&self, batch: Vec<Proposal>, outcomes: impl IntoIterator<Item = Outcome>) {
        {
            let mut inner = self.lock();
            batch.iter().for_each(|proposal| inner.release(proposal));
        }
        for (proposal, outcome) in batch.into_iter().zip(outcomes) {
            if let Err(outcome) = proposal.answer.send(outcome) {
                // Its own deadline has told the proposer Unknown.
                tracing::debug!(?outcome, "a proposal ended after its proposer had gone");
            }
        }
    }

    /// Takes nothing more in; what waits is still written.
    pub fn stop(&self) {
        self.lock().over.get_or_insert(Reason::Stopped);
        self.ready.notify_all();
    }

    /// Takes nothing more in and refuses what waits: it will not be written.
    pub fn fail(&self, reason: Reason) {
        let waiting = {
            let mut inner = self.lock();
            inner.over = Some(reason.clone());
            core::mem::take(&mut inner.waiting)
        };
        self.ready.notify_all();
        let refused = core::iter::repeat_with(|| Outcome::refused(reason.clone()));
        self.answer(waiting.into(), refused);
    }

    /// Why nothing more is taken in, when it is so.
    pub fn over(&self) -> Option<Reason> {
        self.lock().over.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn release(&mut self, proposal: &Proposal) {
        self.claims.release(proposal.bytes.len(), &proposal.subjects);
    }
}
