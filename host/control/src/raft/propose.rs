//! Proposals and read barriers, here when this node leads and through the leader when it does not.
//!
//! What is certain not to have reached the log is tried again until the deadline: there is no
//! leader yet, or it has just lost its lease. What may have reached it is never tried again.

use super::Raft;
use super::open::settle;
use super::peers::{LinkFailure, Peer, PeerLink};
use super::runtime::Runtime;
use super::types::{Answer, Bytes, Types};
use super::wire::{Request, Response};
use crate::outcome::{BarrierError, Outcome, Reason, Subject};
use crate::state::{State, WaitError};
use crate::{Command, ControlLog, entry};
use core::time::Duration;
use openraft::errors::ClientWriteError;
use openraft::impls::OneshotResponder;
use openraft::raft::ClientWriteResult;
use openraft::{AsyncRuntime, ReadPolicy};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use zepto_core::limits::REQUEST_DEADLINE_MS_MAX;

/// How a try ended.
pub(crate) enum Try<T> {
    /// With this.
    Done(T),
    /// Without any effect, and why.
    Again(String),
}

impl<L: PeerLink> Raft<L> {
    /// Proposes the bytes of an entry, as [`ControlLog::propose`] does with a command.
    pub async fn propose_entry(&self, bytes: Vec<u8>, deadline: Duration) -> Outcome {
        match entry::decode(&bytes) {
            Ok(command) => self.propose_until(bytes, &command, end_of(deadline)).await,
            Err(error) => Outcome::refused(Reason::Invalid(error.to_string())),
        }
    }

    async fn propose_until(&self, bytes: Vec<u8>, command: &Command, end: Instant) -> Outcome {
        let bytes = Bytes(bytes.into());
        loop {
            let tried = match self.leads_or_knows() {
                Ok(None) => self.write_here(bytes.clone(), command, end).await,
                Ok(Some(leader)) => self.write_there(&leader, bytes.clone(), end).await,
                Err(Try::Done(why)) => return Outcome::refused(why),
                Err(Try::Again(why)) => Try::Again(why),
            };
            match tried {
                Try::Done(outcome) => return settle(&self.state, outcome, left(end)).await,
                Try::Again(why) => {
                    if !self.pause(end).await {
                        return Outcome::refused(Reason::NoLeader(why));
                    }
                }
            }
        }
    }

    /// Nobody when this node leads, or the leader it knows.
    fn leads_or_knows(&self) -> Result<Option<Peer>, Try<Reason>> {
        if let Some(over) = self.failure() {
            return Err(Try::Done(over));
        }
        match self.leader() {
            Some(leader) if leader.id == self.id => Ok(None),
            Some(leader) => Ok(Some(leader)),
            None => Err(Try::Again("none is known".into())),
        }
    }

    /// Writes an entry as the leader, and waits for its fate.
    pub(crate) async fn write_here(
        &self,
        bytes: Bytes,
        command: &Command,
        end: Instant,
    ) -> Try<Outcome> {
        let subjects =
            self.state.with_topology(|topology| Subject::all_of(command, &topology.placement));
        let flight = match self.flights.take(bytes.0.len(), subjects) {
            Ok(flight) => flight,
            Err(why) => return Try::Done(Outcome::refused(why)),
        };
        let (responder, written) = OneshotResponder::<Types, _>::new_pair();
        if let Err(fatal) = self.core.client_write_ff(bytes, Some(responder)).await {
            let unsure = format!("the control log ended meanwhile: {fatal}");
            return Try::Done(Outcome::Unknown(unsure));
        }
        // The claim outlives a proposer that goes away.
        let (answer, answered) = oneshot::channel();
        drop(Runtime::spawn(async move {
            let result = written.await;
            drop(flight);
            if answer.send(result.ok()).is_err() {
                tracing::debug!("a proposal ended after its proposer had gone");
            }
        }));
        match timeout_at(end, answered).await {
            Ok(Ok(Some(result))) => fate(result),
            Ok(_) => Try::Done(Outcome::Unknown("the control log ended without an answer".into())),
            Err(_) => Try::Done(Outcome::Unknown("the control log did not answer in time".into())),
        }
    }

    async fn write_there(&self, leader: &Peer, entry: Bytes, end: Instant) -> Try<Outcome> {
        let left = left(end);
        let request = Request::Propose { entry, deadline_ms: millis(left) };
        match self.wire.call(leader, request, left).await {
            Ok(Response::Propose(Outcome::Refused {
                index: None,
                why: why @ (Reason::NoLeader(_) | Reason::Stopped | Reason::Failed(_)),
            })) => Try::Again(format!("{leader} says that {why}")),
            Ok(Response::Propose(outcome)) => Try::Done(outcome),
            Ok(_) => Try::Done(Outcome::Unknown(format!("{leader} gave a strange answer"))),
            Err(LinkFailure::Unreachable(why)) => {
                Try::Again(format!("{leader} is not reached: {why}"))
            }
            Err(LinkFailure::Unknown(why)) => {
                Try::Done(Outcome::Unknown(format!("{leader} did not answer: {why}")))
            }
        }
    }

    /// An index that covers all that was committed before, as the leader knows it.
    pub(crate) async fn barrier_here(&self, end: Instant) -> Try<Result<u64, BarrierError>> {
        match timeout_at(end, self.core.get_read_log_id(ReadPolicy::ReadIndex)).await {
            Ok(Ok((read, _applied))) => Try::Done(Ok(read.index())),
            Ok(Err(error)) => match error.fatal() {
                Some(fatal) => Try::Done(Err(BarrierError::Failed(fatal.to_string()))),
                None => Try::Again(error.to_string()),
            },
            Err(_) => Try::Done(Err(BarrierError::Deadline("no majority answers".into()))),
        }
    }

    async fn barrier_there(&self, leader: &Peer, end: Instant) -> Try<Result<u64, BarrierError>> {
        let left = left(end);
        let request = Request::Barrier { deadline_ms: millis(left) };
        match self.wire.call(leader, request, left).await {
            Ok(Response::Barrier(Ok(index))) => Try::Done(Ok(index)),
            Ok(Response::Barrier(Err(why))) => Try::Again(format!("{leader} says that {why}")),
            Ok(_) => Try::Again(format!("{leader} gave a strange answer")),
            Err(why) => Try::Again(format!("{leader}: {why}")),
        }
    }

    async fn barrier(&self, end: Instant) -> Result<u64, BarrierError> {
        loop {
            let tried = match self.leads_or_knows() {
                Ok(None) => self.barrier_here(end).await,
                Ok(Some(leader)) => self.barrier_there(&leader, end).await,
                Err(Try::Done(Reason::Stopped)) => return Err(BarrierError::Stopped),
                Err(Try::Done(over)) => return Err(BarrierError::Failed(over.to_string())),
                Err(Try::Again(why)) => Try::Again(why),
            };
            match tried {
                Try::Done(result) => return result,
                Try::Again(why) => {
                    if !self.pause(end).await {
                        return Err(BarrierError::NoLeader(why));
                    }
                }
            }
        }
    }

    /// Waits a little for the leader to change; whether there is time for another try.
    async fn pause(&self, end: Instant) -> bool {
        let pause = self.wire.times.heartbeat / 4;
        if left(end) <= pause {
            return false;
        }
        sleep(pause).await;
        true
    }
}

impl<L: PeerLink> ControlLog for Raft<L> {
    async fn propose(&self, command: Command, deadline: Duration) -> Outcome {
        match entry::encode(&command) {
            Ok(bytes) => self.propose_until(bytes, &command, end_of(deadline)).await,
            Err(error) => Outcome::refused(Reason::Invalid(error.to_string())),
        }
    }

    async fn read_barrier(&self, deadline: Duration) -> Result<u64, BarrierError> {
        let end = end_of(deadline);
        let index = self.barrier(end).await?;
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

/// What openraft says of an entry.
fn fate(result: ClientWriteResult<Types>) -> Try<Outcome> {
    match result {
        Ok(written) => {
            let index = written.log_id.index;
            Try::Done(match written.data {
                Answer::Changed | Answer::Passed => Outcome::Committed { index },
                Answer::Refused(refused) => {
                    Outcome::Refused { index: Some(index), why: Reason::Topology(refused) }
                }
            })
        }
        // Only this one says that it was not appended.
        Err(ClientWriteError::ForwardToLeader(forward)) => Try::Again(forward.to_string()),
        Err(error) => Try::Done(Outcome::Unknown(error.to_string())),
    }
}

/// Bounded, so that no deadline overflows the clock.
pub(crate) fn end_of(deadline: Duration) -> Instant {
    Instant::now() + deadline.min(Duration::from_millis(REQUEST_DEADLINE_MS_MAX.into()))
}

pub(crate) fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

fn millis(left: Duration) -> u32 {
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
}
