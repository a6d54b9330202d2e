//! What peers of the log say to each other, as bytes, and what is not believed of it.
//!
//! A message names the voter it is for: an address may belong to another one by now, and a file
//! that was lost comes back as another voter. Numbers that would run over, entries that do not
//! follow each other and memberships that contradict themselves are refused here, for openraft
//! takes its peers at their word.

use super::types::{Bytes, Entry, Membership, Payload, SnapshotMeta, Types, Vote};
use super::types::{LogId, term_of, vote_term};
use crate::outcome::{BarrierError, Outcome};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use openraft::raft::{VoteRequest, VoteResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zepto_core::limits::{
    ADDRESS_BYTES_MAX, LOG_MESSAGE_BYTES_MAX, LOG_PEERS_MAX, NODE_NAME_BYTES_MAX,
    SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES,
};

const VERSION: u8 = 1;
/// Terms and indexes stay far below the end of 64 bits; nobody counts to here.
const NUMBER_MAX: u64 = 1 << 62;

/// A request between two voters.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub from: u64,
    pub to: u64,
    pub request: Request,
}

/// What is asked. Variants are only ever added at the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    TransferLeader(TransferLeaderRequest<Types>),
    Snapshot(Box<Chunk>),
    Propose { entry: Bytes, deadline_ms: u32 },
    Barrier { deadline_ms: u32 },
}

/// What is answered. Variants are only ever added at the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    TransferLeader(TransferLeaderResponse<Types>),
    Snapshot(ChunkAnswer),
    Propose(Outcome),
    Barrier(Result<u64, BarrierError>),
}

/// A piece of a snapshot. Without bytes it asks how much of it is there already.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub vote: Vote,
    pub meta: SnapshotMeta,
    /// Of the whole snapshot.
    pub digest: u64,
    pub total: u64,
    pub offset: u64,
    pub bytes: Bytes,
}

/// What became of a piece.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ChunkAnswer {
    /// So much of it is there; go on from here.
    Have(u64),
    /// It is installed, or a later leader is known.
    Done(SnapshotResponse<Types>),
}

/// Encodes a message.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, String> {
    let bytes = postcard::to_extend(message, vec![VERSION]).map_err(|error| error.to_string())?;
    match bytes.len() {
        0..=LOG_MESSAGE_BYTES_MAX => Ok(bytes),
        length => Err(format!("a message has up to {LOG_MESSAGE_BYTES_MAX} bytes, not {length}")),
    }
}

/// Decodes a message, whole.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > LOG_MESSAGE_BYTES_MAX {
        return Err(format!("a message has up to {LOG_MESSAGE_BYTES_MAX} bytes"));
    }
    let (version, message) = bytes.split_first().ok_or("the message is empty")?;
    if *version != VERSION {
        return Err(format!("the message has version {version}, this build knows {VERSION}"));
    }
    match postcard::take_from_bytes(message) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(format!("{} bytes follow the message", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a request may be shown to openraft.
pub(crate) fn vet(request: &Request) -> Result<(), String> {
    match request {
        Request::Append(append) => vet_append(append),
        Request::Vote(ask) | Request::PreVote(ask) => {
            vet_vote(&ask.vote)?;
            vet_id(ask.last_log_id.as_ref(), &ask.vote)?;
            rule(!ask.vote.is_committed(), "a candidate that says it is elected")
        }
        Request::TransferLeader(transfer) => {
            vet_vote(transfer.from_leader())?;
            vet_id(transfer.last_log_id(), transfer.from_leader())?;
            rule(transfer.from_leader().is_committed(), "a leader that was not elected")
        }
        Request::Snapshot(chunk) => vet_chunk(chunk),
        Request::Propose { .. } | Request::Barrier { .. } => Ok(()),
    }
}

fn vet_append(append: &AppendEntriesRequest<Types>) -> Result<(), String> {
    vet_vote(&append.vote)?;
    rule(append.vote.is_committed(), "a leader that was not elected")?;
    vet_id(append.prev_log_id.as_ref(), &append.vote)?;
    vet_id(append.leader_commit.as_ref(), &append.vote)?;
    let mut last = append.prev_log_id;
    for entry in &append.entries {
        let id = &entry.log_id;
        vet_id(Some(id), &append.vote)?;
        let follows = last.map_or(0, |last| last.index + 1) == id.index;
        rule(follows, "entries that do not follow each other")?;
        rule(last.is_none_or(|last| last < *id), "terms that go back")?;
        vet_entry(entry)?;
        last = Some(*id);
    }
    Ok(())
}

fn vet_entry(entry: &Entry) -> Result<(), String> {
    match &entry.payload {
        Payload::Membership(membership) => vet_membership(membership),
        // The initial membership stands at 0, and only it.
        _ => rule(entry.log_id.index > 0, "a first entry that is no membership"),
    }
}

fn vet_chunk(chunk: &Chunk) -> Result<(), String> {
    vet_vote(&chunk.vote)?;
    rule(chunk.vote.is_committed(), "a leader that was not elected")?;
    vet_id(chunk.meta.last_log_id.as_ref(), &chunk.vote)?;
    vet_id(chunk.meta.last_membership.log_id().as_ref(), &chunk.vote)?;
    rule(chunk.meta.last_log_id.is_some(), "a snapshot of nothing")?;
    let covered = *chunk.meta.last_membership.log_id() <= chunk.meta.last_log_id;
    rule(covered, "a snapshot with a later membership")?;
    vet_membership(chunk.meta.last_membership.membership())?;
    rule((1..=SNAPSHOT_BYTES_MAX as u64).contains(&chunk.total), "a snapshot of no such length")?;
    let length = chunk.bytes.0.len();
    rule(length <= SNAPSHOT_CHUNK_BYTES, "too large a piece of a snapshot")?;
    let end = chunk.offset.checked_add(length as u64);
    rule(end.is_some_and(|end| end <= chunk.total), "a piece beyond the snapshot's end")
}

fn vet_membership(membership: &Membership) -> Result<(), String> {
    let configs = membership.get_joint_config();
    rule((1..=2).contains(&configs.len()), "neither a membership nor a joint one")?;
    rule(membership.nodes().count() <= LOG_PEERS_MAX, "too many peers")?;
    for config in configs {
        rule(!config.is_empty(), "a membership without voters")?;
        let known = config.iter().all(|id| membership.get_node(id).is_some());
        rule(known, "a voter that is no peer")?;
    }
    for (_, contact) in membership.nodes() {
        rule(contact.name.len() <= NODE_NAME_BYTES_MAX, "too long a name")?;
        rule(contact.address.len() <= ADDRESS_BYTES_MAX, "too long an address")?;
    }
    Ok(())
}

fn vet_vote(vote: &Vote) -> Result<(), String> {
    rule(vote_term(vote) < NUMBER_MAX, "a term that nobody counts to")
}

/// No entry is of a later term than its sender.
fn vet_id(id: Option<&LogId>, vote: &Vote) -> Result<(), String> {
    let Some(id) = id else { return Ok(()) };
    rule(id.index < NUMBER_MAX, "an index that nobody counts to")?;
    rule(term_of(id) <= vote_term(vote), "an entry of a later term than its sender")
}

fn rule(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}
