//! The types that openraft is told to use, and nothing else of ours.

use super::runtime::Runtime;
use core::fmt;
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_std::{CommittedLeaderId, LeaderId};
use openraft::{OptionalSend, RaftTypeConfig};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;
use zepto_core::limits::LOG_ENTRY_BYTES_MAX;
use zepto_core::topology::Refused;

/// One leader per term at most, voter ids of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Bytes;
    type R = Answer;
    type NodeId = u64;
    type Node = Contact;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T: OptionalSend + 'static> = openraft::impls::OneshotResponder<Self, T>;
    type Batch<T: OptionalSend + 'static> = openraft::impls::InlineBatch<T>;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type Vote = openraft::impls::Vote<LeaderId<u64, u64>>;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId<u64>>;
pub(crate) type Payload = openraft::EntryPayload<Bytes, u64, Contact>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId<u64>, Payload>;
pub(crate) type Membership = openraft::Membership<u64, Contact>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId<u64>, u64, Contact>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId<u64>, u64, Contact>;
pub(crate) type Snapshot = openraft::storage::Snapshot<CommittedLeaderId<u64>, u64, Contact, Bytes>;

/// The id of an entry.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId::new(term, 0).to_committed(), index }
}

/// The term an entry was proposed in.
pub(crate) fn term_of(id: &LogId) -> u64 {
    *id.leader_id
}

/// The term of a vote.
pub(crate) fn vote_term(vote: &Vote) -> u64 {
    vote.leader_id().term
}

/// Bytes that are shared and not copied: an entry as it was proposed, or a whole snapshot.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub Arc<[u8]>);

/// What became of an entry when it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is consensus' own.
    Passed,
    /// It changed the topology.
    Changed,
    /// The topology did not allow it.
    Refused(Refused),
}

/// How a peer is called and reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contact {
    /// The node's text id.
    pub name: String,
    /// Where it is reached.
    pub address: String,
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "up to {LOG_ENTRY_BYTES_MAX} bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                match bytes.len() {
                    0..=LOG_ENTRY_BYTES_MAX => Ok(Bytes(bytes.into())),
                    length => Err(E::invalid_length(length, &self)),
                }
            }
        }

        deserializer.deserialize_bytes(Read)
    }
}
