//! The log as every node but its leader has it: polled from the leader, applied in order.
//!
//! A follower keeps no log on disk. It starts empty and polls with its position, index *and* hash,
//! so the leader can tell a follower of another cluster from one that is merely behind. Proposals
//! and barriers go to the leader, and count here only once this node's state has caught up with
//! them: who was told Committed finds it in [`Follower::state`].

use crate::entry::{self, Entry};
use crate::outcome::{BarrierError, Outcome, Reason};
use crate::state::{Applier, ApplyError, EventSink, Position, State, WaitError};
use crate::{Command, ControlLog};
use core::future::Future;
use core::pin::pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zepto_core::hash::mix;
use zepto_core::limits::{
    FOLLOW_WAIT_MS, RECONNECT_MAX_MS, RECONNECT_MIN_MS, REQUEST_DEADLINE_MS_MAX,
};

/// Entries that are applied before other tasks get a turn.
const APPLY_BATCH: usize = 32;

/// The way to the leader; the node implements it over RPC. A call whose future is dropped is
/// abandoned.
pub trait LeaderLink: Send + Sync + 'static {
    /// Entries after a position, in order, within the limits of an answer; waits up to `wait` for
    /// the first and is empty when none came.
    ///
    /// # Errors
    /// No answer, or the leader says that the position is not in its log.
    fn follow(
        &self,
        after: Position,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Entry>, LinkError>> + Send;

    /// Proposes the bytes of an entry. Refused only if the leader, or the certain lack of one, says
    /// so; a lost answer is Unknown.
    fn propose(&self, entry: Vec<u8>, deadline: Duration) -> impl Future<Output = Outcome> + Send;

    /// The leader's read barrier.
    ///
    /// # Errors
    /// There is none to be had.
    fn barrier(&self, deadline: Duration)
    -> impl Future<Output = Result<u64, BarrierError>> + Send;
}

/// Why a poll brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The leader was not reached or did not answer. Tried again after a pause.
    #[error("the leader of the control log does not answer: {0}")]
    Unavailable(String),
    /// The leader's log does not contain what this node has applied. Final.
    #[error("the leader has another control log than this node: {0}")]
    Diverged(String),
}

/// Why a follower stopped. This node's topology is a true prefix still, but does not grow any more:
/// the node must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowerError {
    /// The leader's log does not contain what this node has applied.
    #[error("the leader has another control log than this node: {0}")]
    Diverged(String),
    /// An entry cannot be applied: another version, or damage.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The log, for proposers. Shared by all threads.
#[derive(Debug)]
pub struct Follower<L> {
    state: Arc<State>,
    link: Arc<L>,
    polls_failed: Arc<AtomicU64>,
}

/// The loop that polls and applies. One per follower.
#[derive(Debug)]
pub struct FollowerWorker<L> {
    link: Arc<L>,
    applier: Applier,
    seed: u64,
    polls_failed: Arc<AtomicU64>,
}

impl<L: LeaderLink> Follower<L> {
    /// An empty follower and its loop. The seed spreads the pauses after errors.
    ///
    /// The events of all entries since the log's beginning are told as they are applied.
    pub fn new(link: L, seed: u64, events: EventSink) -> (Arc<Self>, FollowerWorker<L>) {
        let (state, applier) = State::new(events);
        let link = Arc::new(link);
        let polls_failed = Arc::new(AtomicU64::new(0));
        let worker = FollowerWorker {
            link: Arc::clone(&link),
            applier,
            seed,
            polls_failed: Arc::clone(&polls_failed),
        };
        (Arc::new(Self { state, link, polls_failed }), worker)
    }

    /// The way to the leader.
    pub fn link(&self) -> &L {
        &self.link
    }

    /// Polls since the start that failed or brought nothing usable.
    pub fn polls_failed(&self) -> u64 {
        self.polls_failed.load(Ordering::Relaxed)
    }

    async fn propose_until(&self, bytes: Vec<u8>, end: Instant) -> Outcome {
        let outcome = timeout_at(end, self.link.propose(bytes, left(end))).await;
        let outcome = outcome.unwrap_or_else(|_| {
            Outcome::Unknown("the leader of the control log did not answer in time".into())
        });
        match outcome {
            Outcome::Committed { index } => match self.state.wait_for(index, left(end)).await {
                Ok(_) => Outcome::Committed { index },
                Err(error) => Outcome::Unknown(format!(
                    "the leader committed it as entry {index}, but here {error}"
                )),
            },
            Outcome::Refused { index: Some(index), why } => {
                // Whoever was refused wants to see why; the refusal stands without it.
                if let Err(error) = self.state.wait_for(index, left(end)).await {
                    tracing::debug!(%error, "a refusal came before its entry");
                }
                Outcome::Refused { index: Some(index), why }
            }
            other => other,
        }
    }
}

impl<L: LeaderLink> ControlLog for Follower<L> {
    async fn propose(&self, command: Command, deadline: Duration) -> Outcome {
        match entry::encode(&command) {
            Ok(bytes) => self.propose_until(bytes, end_of(deadline)).await,
            Err(error) => Outcome::refused(Reason::Invalid(error.to_string())),
        }
    }

    async fn read_barrier(&self, deadline: Duration) -> Result<u64, BarrierError> {
        let end = end_of(deadline);
        let index = timeout_at(end, self.link.barrier(left(end))).await;
        let index = index.map_err(|_| BarrierError::Deadline("the leader is silent".into()))??;
        match self.state.wait_for(index, left(end)).await {
            Ok(_) => Ok(index),
            Err(error @ WaitError::Deadline { .. }) => {
                Err(BarrierError::Deadline(error.to_string()))
            }
            Err(WaitError::Ended { .. }) => Err(BarrierError::Stopped),
        }
    }

    fn state(&self) -> &Arc<State> {
        &self.state
    }
}

impl<L: LeaderLink> FollowerWorker<L> {
    /// Polls and applies until `shutdown` completes. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// The leader's log is another one, or holds what this build cannot apply.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), FollowerError> {
        let mut shutdown = pin!(shutdown);
        let mut failures = 0;
        loop {
            let round = tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                round = self.round(failures) => round?,
            };
            failures = match round {
                Round::Advanced | Round::Idle => {
                    if failures > 0 {
                        let index = self.applier.position().index;
                        tracing::info!(index, "following the control log again");
                    }
                    0
                }
                Round::Failed(why) => {
                    self.polls_failed.fetch_add(1, Ordering::Relaxed);
                    if failures == 0 {
                        tracing::warn!(%why, "the control log cannot be followed");
                    }
                    failures.saturating_add(1)
                }
            };
        }
    }

    /// One poll. Cancelled only while it waits, never between applying and publishing.
    async fn round(&mut self, failures: u32) -> Result<Round, FollowerError> {
        if failures > 0 {
            sleep(self.pause(failures)).await;
        }
        let after = self.applier.position();
        let wait = Duration::from_millis(FOLLOW_WAIT_MS);
        // A leader that answers "nothing" at once must not make us ask at once.
        let pace = sleep(Duration::from_millis(RECONNECT_MIN_MS));
        let answer = timeout(wait * 2, self.link.follow(after, wait)).await;
        match answer {
            Ok(Ok(entries)) if entries.is_empty() => {
                pace.await;
                Ok(Round::Idle)
            }
            Ok(Ok(entries)) => self.apply(&entries).await,
            Ok(Err(LinkError::Diverged(why))) => Err(FollowerError::Diverged(why)),
            Ok(Err(error)) => Ok(Round::Failed(error.to_string())),
            Err(_) => Ok(Round::Failed("the leader of the control log is silent".into())),
        }
    }

    /// Applies what follows; what is there already is passed over, and from a gap on everything is
    /// asked for again.
    async fn apply(&mut self, entries: &[Entry]) -> Result<Round, FollowerError> {
        let before = self.applier.position().index;
        let mut gap = false;
        for batch in entries.chunks(APPLY_BATCH) {
            let applied = self.apply_batch(batch);
            self.applier.publish();
            if !applied? {
                gap = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        if self.applier.position().index > before {
            return Ok(Round::Advanced);
        }
        let what = if gap { "an answer that leaves a gap" } else { "only known entries" };
        Ok(Round::Failed(format!("the leader sent {what} after entry {before}")))
    }

    /// Whether all of it was applied or known; not, when it leaves a gap.
    fn apply_batch(&mut self, batch: &[Entry]) -> Result<bool, ApplyError> {
        let mut next = self.applier.position().index + 1;
        for (index, bytes) in batch {
            if *index > next {
                return Ok(false);
            }
            if *index == next {
                self.applier.step(*index, bytes)?;
                next += 1;
            }
        }
        Ok(true)
    }

    /// Doubles with every failure in a row; jitter of up to a half, so that followers which lost
    /// the leader together do not come back together.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = RECONNECT_MIN_MS << failures.saturating_sub(1).min(16);
        let full_ms = doubled.min(RECONNECT_MAX_MS);
        let jitter_ms = mix(self.seed ^ u64::from(failures)) % (full_ms / 2 + 1);
        Duration::from_millis(full_ms - jitter_ms)
    }
}

/// How a poll went.
enum Round {
    /// It brought entries.
    Advanced,
    /// There was nothing.
    Idle,
    /// It brought nothing usable; pause before the next.
    Failed(String),
}

/// Bounded, so that no deadline overflows the clock.
fn end_of(deadline: Duration) -> Instant {
    Instant::now() + deadline.min(Duration::from_millis(REQUEST_DEADLINE_MS_MAX.into()))
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
