//! openraft's network over the node's [`PeerLink`].
//!
//! Every call has a deadline, and an answer of the wrong kind is a failure like no answer. A peer
//! that is not reached is asked again after a pause that grows up to the shortest election
//! time-out, so that it is not a standing start when it comes back.
//!
//! Architecture invariant: a peer is called where the membership in force says that it is. openraft
//! keeps a channel as long as its id is a peer, also when a new life of the peer has another
//! address.

use super::peers::{LinkFailure, Peer, PeerLink};
use super::store;
use super::times::Times;
use super::types::{Bytes, Contact, Snapshot, Types, Vote};
use super::wire::{self, Chunk, ChunkAnswer, Envelope, Request, Response};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use openraft::raft::{VoteRequest, VoteResponse};
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{OptionalSend, RaftMetrics};
use std::sync::{Arc, OnceLock};
use tokio::time::timeout;
use zepto_core::hash::digest;
use zepto_core::limits::{APPEND_MIB_MS, SNAPSHOT_CHUNK_BYTES, SNAPSHOT_CHUNK_MS};

/// The node's link, and who speaks on it.
#[derive(Debug)]
pub(crate) struct Wire<L> {
    pub link: L,
    pub me: u64,
    pub times: Times,
    pub failures: AtomicU64,
    /// What consensus says of itself, once it runs.
    pub metrics: OnceLock<WatchReceiverOf<Types, RaftMetrics<Types>>>,
}

/// Makes channels.
#[derive(Debug)]
pub(crate) struct Net<L>(pub Arc<Wire<L>>);

/// The way to one peer.
#[derive(Debug)]
pub(crate) struct Channel<L> {
    wire: Arc<Wire<L>>,
    to: Peer,
}

type Result<T> = core::result::Result<T, RPCError<Types>>;

impl<L: PeerLink> Wire<L> {
    /// Where a peer is now.
    fn current(&self, to: &Peer) -> Option<Peer> {
        let metrics = self.metrics.get()?.borrow_watched();
        let contact = metrics.membership_config.membership().get_node(&to.id)?;
        Some(Peer::new(to.id, contact))
    }

    /// One request and its answer.
    pub async fn call(
        &self,
        to: &Peer,
        request: Request,
        deadline: Duration,
    ) -> core::result::Result<Response, LinkFailure> {
        let answer = self.exchange(to, request, deadline).await;
        if let Err(error) = &answer {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%to, %error, "a call to a peer of the control log failed");
        }
        answer
    }

    async fn exchange(
        &self,
        to: &Peer,
        request: Request,
        deadline: Duration,
    ) -> core::result::Result<Response, LinkFailure> {
        let envelope = Envelope { from: self.me, to: to.id, request };
        let bytes = wire::encode(&envelope).map_err(LinkFailure::Unreachable)?;
        match timeout(deadline, self.link.call(to, bytes, deadline)).await {
            Ok(answer) => wire::decode(&answer?).map_err(LinkFailure::Unknown),
            Err(_) => Err(LinkFailure::Unknown(format!("silent for {deadline:?}"))),
        }
    }
}

impl<L: PeerLink> Channel<L> {
    async fn ask(&self, request: Request, deadline: Duration) -> Result<Response> {
        let current = self.wire.current(&self.to);
        self.wire.call(current.as_ref().unwrap_or(&self.to), request, deadline).await.map_err(
            |failure| match failure {
                LinkFailure::Unreachable(text) => {
                    RPCError::Unreachable(Unreachable::from_string(text))
                }
                LinkFailure::Unknown(text) => RPCError::Network(NetworkError::from_string(text)),
            },
        )
    }

    /// For a small message, whose answer may wait for the peer's disk.
    fn short(&self) -> Duration {
        self.wire.times.connect + self.wire.times.send
    }

    /// For entries: what was lost is sent again soon, what is large has its time.
    fn long(&self, append: &AppendEntriesRequest<Types>) -> Duration {
        let bytes: usize = append.entries.iter().map(store::weight).sum();
        let transfer = Duration::from_millis((bytes as u64 * APPEND_MIB_MS) >> 20);
        self.wire.times.election_min + transfer
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Snapshot,
    ) -> Result<SnapshotResponse<Types>> {
        let data = &snapshot.snapshot.0;
        let (digest, total) = (digest(data), data.len() as u64);
        // The first piece is empty: it asks where an earlier try ended.
        let (mut offset, mut end) = (0, 0);
        loop {
            let chunk = Chunk {
                vote,
                meta: snapshot.meta.clone(),
                digest,
                total,
                offset: offset as u64,
                bytes: Bytes(data[offset..end].into()),
            };
            let deadline = Duration::from_millis(SNAPSHOT_CHUNK_MS);
            match self.ask(Request::Snapshot(Box::new(chunk)), deadline).await? {
                Response::Snapshot(ChunkAnswer::Done(answer)) => return Ok(answer),
                Response::Snapshot(ChunkAnswer::Have(there)) if there < total => {
                    // A whole piece that changes nothing would be sent for ever.
                    if end > offset && there as usize == offset {
                        return Err(confused("a piece of the snapshot was not taken"));
                    }
                    offset = there as usize;
                    end = data.len().min(offset + SNAPSHOT_CHUNK_BYTES);
                }
                _ => return Err(confused("to a piece of a snapshot")),
            }
        }
    }
}

impl<L: PeerLink> RaftNetworkFactory<Types> for Net<L> {
    type Network = Channel<L>;

    async fn new_client(&mut self, target: u64, contact: &Contact) -> Channel<L> {
        Channel { wire: Arc::clone(&self.0), to: Peer::new(target, contact) }
    }
}

impl<L: PeerLink> RaftNetworkV2<Types> for Channel<L> {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        append: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>> {
        let deadline = match append.entries.is_empty() {
            true => self.short(),
            false => self.long(&append),
        };
        let from_start = append.prev_log_id.is_none();
        match self.ask(Request::Append(append), deadline).await? {
            // Nothing can conflict with the log's beginning.
            Response::Append(AppendEntriesResponse::Conflict) if from_start => {
                Err(confused("a conflict before the first entry"))
            }
            Response::Append(answer) => Ok(answer),
            _ => Err(confused("to entries")),
        }
    }

    async fn vote(
        &mut self,
        vote: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>> {
        match self.ask(Request::Vote(vote), option.soft_ttl()).await? {
            Response::Vote(answer) => Ok(answer),
            _ => Err(confused("to a candidate")),
        }
    }

    async fn pre_vote(
        &mut self,
        vote: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>> {
        match self.ask(Request::PreVote(vote), option.soft_ttl()).await? {
            Response::Vote(answer) => Ok(answer),
            _ => Err(confused("to a candidate")),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> core::result::Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = self.send_snapshot(vote, &snapshot) => Ok(answer?),
        }
    }

    async fn transfer_leader(
        &mut self,
        transfer: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>> {
        match self.ask(Request::TransferLeader(transfer), option.soft_ttl()).await? {
            Response::TransferLeader(answer) => Ok(answer),
            _ => Err(confused("to a transfer")),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let times = self.wire.times;
        let doubling = core::iter::successors(Some(times.heartbeat / 4), move |pause| {
            Some((*pause * 2).min(times.election_min))
        });
        Some(Backoff::new(doubling))
    }
}

fn confused(what: &str) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(format!("the peer gave a strange answer: {what}")))
}
