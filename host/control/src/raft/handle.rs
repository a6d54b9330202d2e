//! What comes in from other peers.
//!
//! Bytes are decoded within bounds and vetted before openraft sees them. A message for another
//! voter is refused: whoever lost its file must not answer for the one it was.

use super::Raft;
use super::peers::PeerLink;
use super::propose::{Try, end_of};
use super::types::{Bytes, Snapshot, Vote};
use super::wire::{self, Chunk, ChunkAnswer, Envelope, Request, Response};
use crate::entry;
use crate::outcome::{BarrierError, Outcome, Reason};
use core::time::Duration;
use openraft::raft::SnapshotResponse;
use std::sync::{MutexGuard, PoisonError};

/// Why a message has no answer. None of these changed anything unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Not a message of this version, or one that contradicts itself.
    #[error("not a message between peers of the control log: {0}")]
    Malformed(String),
    /// It is for another voter, which has or had this address.
    #[error("the message is for voter {wanted:016x}, this is {me:016x}")]
    OtherPeer {
        /// Whom it is for.
        wanted: u64,
        /// Who got it.
        me: u64,
    },
    /// This node's consensus has ended. What the message asks for may have been done.
    #[error("consensus has ended: {0}")]
    Ended(String),
}

/// A snapshot of which pieces have come.
#[derive(Debug)]
pub(crate) struct Incoming {
    vote: Vote,
    digest: u64,
    total: u64,
    bytes: Vec<u8>,
}

impl<L: PeerLink> Raft<L> {
    /// Answers a message that came in through another peer's [`PeerLink`]. Whoever calls bounds how
    /// many are answered at the same time.
    ///
    /// # Errors
    /// It is no message, for another voter, or consensus has ended here.
    pub async fn handle(&self, request: Vec<u8>) -> Result<Vec<u8>, HandleError> {
        let envelope: Envelope = wire::decode(&request).map_err(HandleError::Malformed)?;
        drop(request);
        if envelope.to != self.id {
            return Err(HandleError::OtherPeer { wanted: envelope.to, me: self.id });
        }
        wire::vet(&envelope.request).map_err(HandleError::Malformed)?;
        let response = self.answer(envelope.request).await?;
        wire::encode(&response).map_err(HandleError::Ended)
    }

    async fn answer(&self, request: Request) -> Result<Response, HandleError> {
        match request {
            Request::Append(append) => {
                if !append.entries.is_empty() {
                    // Entries follow each other again: no snapshot is on its way.
                    *self.incoming() = None;
                }
                self.core.append_entries(append).await.map(Response::Append).map_err(ended)
            }
            Request::Vote(vote) => self.core.vote(vote).await.map(Response::Vote).map_err(ended),
            Request::PreVote(vote) => {
                self.core.pre_vote(vote).await.map(Response::Vote).map_err(ended)
            }
            Request::TransferLeader(transfer) => {
                let answer = self.core.handle_transfer_leader(transfer).await;
                answer.map(Response::TransferLeader).map_err(ended)
            }
            Request::Snapshot(chunk) => self.take_chunk(*chunk).await.map(Response::Snapshot),
            Request::Propose { entry, deadline_ms } => {
                Ok(Response::Propose(self.forwarded(entry, deadline_ms).await))
            }
            Request::Barrier { deadline_ms } => {
                Ok(Response::Barrier(self.forwarded_barrier(deadline_ms).await))
            }
        }
    }

    /// A proposal of another node. It is not sent on: who asked knows its own deadline.
    async fn forwarded(&self, bytes: Bytes, deadline_ms: u32) -> Outcome {
        let command = match entry::decode(&bytes.0) {
            Ok(command) => command,
            Err(error) => return Outcome::refused(Reason::Invalid(error.to_string())),
        };
        if let Some(over) = self.failure() {
            return Outcome::refused(over);
        }
        if !self.is_leader() {
            return Outcome::refused(Reason::NoLeader("this node does not lead".into()));
        }
        let end = end_of(Duration::from_millis(deadline_ms.into()));
        match self.write_here(bytes, &command, end).await {
            Try::Done(outcome) => outcome,
            Try::Again(why) => Outcome::refused(Reason::NoLeader(why)),
        }
    }

    async fn forwarded_barrier(&self, deadline_ms: u32) -> Result<u64, BarrierError> {
        let end = end_of(Duration::from_millis(deadline_ms.into()));
        match self.barrier_here(end).await {
            Try::Done(result) => result,
            Try::Again(why) => Err(BarrierError::NoLeader(why)),
        }
    }

    async fn take_chunk(&self, chunk: Chunk) -> Result<ChunkAnswer, HandleError> {
        let known = self.metrics().vote;
        if chunk.vote < known {
            return Ok(ChunkAnswer::Done(SnapshotResponse::new(known)));
        }
        let (vote, meta) = (chunk.vote, chunk.meta.clone());
        let bytes = {
            let mut incoming = self.incoming();
            match Incoming::take(&mut incoming, &chunk) {
                Some(have) => return Ok(ChunkAnswer::Have(have)),
                None => incoming.take().map(|incoming| incoming.bytes).unwrap_or_default(),
            }
        };
        // openraft ends when a snapshot cannot be installed, so it sees only those that can.
        let topology = super::snapshot::decode(&bytes)
            .map_err(|error| HandleError::Malformed(error.to_string()))?;
        if Some(topology.placement.index) != meta.last_log_id.map(|last| last.index) {
            return Err(HandleError::Malformed("a snapshot of another entry".into()));
        }
        drop(topology);
        let snapshot = Snapshot { meta, snapshot: Bytes(bytes.into()) };
        let answer = self.core.install_full_snapshot(vote, snapshot).await;
        answer.map(ChunkAnswer::Done).map_err(ended)
    }

    fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incoming {
    /// Adds a piece. How much is there, or `None` when all of it is.
    fn take(slot: &mut Option<Self>, chunk: &Chunk) -> Option<u64> {
        let same = slot.as_ref().is_some_and(|incoming| {
            (incoming.vote, incoming.digest, incoming.total)
                == (chunk.vote, chunk.digest, chunk.total)
        });
        if !same {
            let (vote, digest, total) = (chunk.vote, chunk.digest, chunk.total);
            *slot = Some(Self { vote, digest, total, bytes: Vec::new() });
        }
        let incoming = slot.as_mut()?;
        if chunk.offset == incoming.bytes.len() as u64 {
            incoming.bytes.extend_from_slice(&chunk.bytes.0);
        }
        let have = incoming.bytes.len() as u64;
        (have < incoming.total).then_some(have)
    }
}

fn ended(error: impl ToString) -> HandleError {
    HandleError::Ended(error.to_string())
}
