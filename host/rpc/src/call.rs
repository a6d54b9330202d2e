//! One call of a client: from the queue over the wire to its one outcome.
//!
//! A call ends exactly once, as answered, refused, certainly not sent, or unknown. The line
//! between the last two is [`CallCell::commit`]: before it the frame can still be withdrawn and
//! the call was certainly not executed; after it only an answer knows. An answer that comes after
//! the caller gave up is dropped.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use zepto_abi::Refusal;

use crate::close::CloseReason;
use crate::hello::HelloRefusal;

/// How a call ended when it brought no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// Certainly not executed, because it never reached a peer that would. Safe to retry.
    #[error("not sent: {0}")]
    NotSent(NotSent),
    /// The peer answered that it did not execute it. Whether to retry depends on the reason.
    #[error("refused: {reason}: {text}")]
    Refused {
        /// Why.
        reason: Refusal,
        /// For people.
        text: String,
    },
    /// It may or may not have been executed. Retry only what may happen twice.
    #[error("outcome unknown: {0}")]
    Unknown(Unknown),
}

/// Why a call was not sent. Nothing happened anywhere.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// The payload is above the limit. A retry fails the same way; send less.
    #[error("the payload has {bytes} bytes, more than the {bytes_max} allowed")]
    TooLong {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The bound of requests or bytes in flight was reached until the deadline.
    #[error("too many requests or bytes in flight until the deadline")]
    Busy,
    /// The deadline passed before the frame was committed to the socket.
    #[error("the deadline passed before it was sent")]
    Deadline,
    /// The peer takes no more requests on this connection; use another.
    #[error("the peer takes no more requests: {0}")]
    GoAway(String),
    /// The connection was over before the frame was committed; use another.
    #[error("no connection: {0}")]
    Closed(CloseReason),
    /// No connection could be made.
    #[error("no connection to {address}: {text}")]
    Unreachable {
        /// The peer.
        address: String,
        /// What happened.
        text: String,
    },
    /// The peer refused the connection.
    #[error("{address} refused the connection: {text}")]
    Unwelcome {
        /// The peer.
        address: String,
        /// Why.
        reason: HelloRefusal,
        /// For people.
        text: String,
    },
}

/// Why an outcome is not known.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unknown {
    /// No answer before the deadline.
    #[error("no answer before the deadline")]
    Deadline,
    /// The connection ended after the frame was committed.
    #[error("the connection ended: {0}")]
    ConnectionLost(CloseReason),
    /// The peer says that it does not know either.
    #[error("the peer says: {0}")]
    Peer(String),
}

/// What a call brings.
pub(crate) type Outcome = Result<Vec<u8>, CallError>;

#[derive(Debug)]
enum Stage {
    Queued,
    Committed,
    Done(Outcome),
    /// The outcome was taken, or the caller has gone.
    Over,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    waker: Option<Waker>,
}

/// Shared by the caller and the connection's task.
#[derive(Debug)]
pub(crate) struct CallCell {
    deadline: Instant,
    state: Mutex<State>,
}

impl CallCell {
    pub(crate) fn new(deadline: Instant) -> CallCell {
        CallCell { deadline, state: Mutex::new(State { stage: Stage::Queued, waker: None }) }
    }

    /// The frame is about to be handed to the kernel. Returns the time that is left for it, or
    /// `None` when it must not be sent any more.
    pub(crate) fn commit(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        if !matches!(state.stage, Stage::Queued) {
            return None;
        }
        let left = self.deadline.saturating_duration_since(now);
        if left.is_zero() {
            self.set(state, Err(CallError::NotSent(NotSent::Deadline)));
            return None;
        }
        state.stage = Stage::Committed;
        Some(left)
    }

    /// The outcome; without effect when there is one already or nobody waits.
    pub(crate) fn finish(&self, outcome: Outcome) {
        let state = self.lock();
        if matches!(state.stage, Stage::Queued | Stage::Committed) {
            self.set(state, outcome);
        }
    }

    /// The connection is over: not sent if it was still queued, else unknown.
    pub(crate) fn lose(&self, reason: &CloseReason) {
        let state = self.lock();
        let error = match state.stage {
            Stage::Queued => CallError::NotSent(NotSent::Closed(reason.clone())),
            Stage::Committed => CallError::Unknown(Unknown::ConnectionLost(reason.clone())),
            Stage::Done(_) | Stage::Over => return,
        };
        self.set(state, Err(error));
    }

    /// The caller waits no longer. Returns the outcome that is true at this moment.
    pub(crate) fn give_up(&self) -> Outcome {
        let mut state = self.lock();
        match std::mem::replace(&mut state.stage, Stage::Over) {
            Stage::Queued => Err(CallError::NotSent(NotSent::Deadline)),
            Stage::Committed | Stage::Over => Err(CallError::Unknown(Unknown::Deadline)),
            Stage::Done(outcome) => outcome,
        }
    }

    /// True when nobody waits for the answer.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.lock().stage, Stage::Over)
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.stage, Stage::Over) {
            Stage::Done(outcome) => Poll::Ready(outcome),
            stage => {
                state.stage = stage;
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn set(&self, mut state: MutexGuard<'_, State>, outcome: Outcome) {
        state.stage = Stage::Done(outcome);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(ms: u64) -> (CallCell, Instant) {
        let now = Instant::now();
        (CallCell::new(now + Duration::from_millis(ms)), now)
    }

    #[test]
    fn a_call_that_was_given_up_in_the_queue_is_never_committed() {
        let (cell, now) = cell(10);
        assert_eq!(cell.give_up(), Err(CallError::NotSent(NotSent::Deadline)));
        assert_eq!(cell.commit(now), None);
    }

    #[test]
    fn a_committed_call_that_is_given_up_is_unknown_and_its_late_answer_is_dropped() {
        let (cell, now) = cell(10);
        assert!(cell.commit(now).is_some());
        assert_eq!(cell.give_up(), Err(CallError::Unknown(Unknown::Deadline)));
        cell.finish(Ok(vec![1]));
        assert!(cell.is_over());
    }

    #[test]
    fn an_expired_call_is_not_committed() {
        let (cell, now) = cell(10);
        assert_eq!(cell.commit(now + Duration::from_millis(10)), None);
        assert_eq!(cell.give_up(), Err(CallError::NotSent(NotSent::Deadline)));
    }

    #[test]
    fn a_lost_connection_tells_the_queued_from_the_committed() {
        let (queued, now) = cell(10);
        let (committed, _) = cell(10);
        assert!(committed.commit(now).is_some());
        queued.lose(&CloseReason::PeerClosed);
        committed.lose(&CloseReason::PeerClosed);
        assert!(matches!(queued.give_up(), Err(CallError::NotSent(NotSent::Closed(_)))));
        assert!(matches!(committed.give_up(), Err(CallError::Unknown(_))));
    }
}
