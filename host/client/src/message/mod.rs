//! What nodes and clients say to each other: the requests, their answers, and their encoding.
//!
//! Encoded with postcard behind one version byte. Variants are only ever added at the end. A
//! message is data from outside: decoding fails with an error, and whoever receives it checks
//! every limit again.

mod query;
mod status;

pub use query::{Answer, AnswerBody, Ask, Leg, Missing, Of, Part, Query};
pub use status::{
    BudgetCounters, HeartbeatCounters, LogCounters, MemberStatus, PeerCounters, PluginStatus,
    ServerCounters, ShardCounters, Status,
};

use core::fmt;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use zepto_core::limits::INTERN_BATCH_MAX;
use zepto_core::topology::Placement;
use zepto_core::{Incarnation, NodeId, PartitionId};

/// Version of every message.
pub const VERSION: u8 = 4;

/// A request of a client or of another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Are you there?
    Ping,
    /// How are you, and what do you think of the others?
    Status,
    /// The placement, as soon as its index is beyond `after` or the time is up.
    Placement {
        /// Index the asker has.
        after: u64,
        /// How long the answer may wait, in milliseconds.
        wait_ms: u32,
    },
    /// Ids for names, issued now where they are new.
    Intern {
        /// The names, at most `INTERN_BATCH_MAX`.
        #[serde(deserialize_with = "bounded_names")]
        names: Vec<String>,
    },
    /// A query over the whole cluster.
    Query(Query),
    /// One owner's part of a query.
    Leg(Leg),
    /// Opens a lane over shared memory: where to meet, and with which nonce.
    Meet(LaneRequest),
    /// A node asks to be a member. Only the log's leader answers it.
    Join(JoinRequest),
    /// Where is the log's leader?
    Leader,
    /// A message of consensus, between the nodes that keep the log.
    Consensus(Vec<u8>),
    /// When did you last hear this incarnation of a member?
    Heard {
        /// The member.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// An operator's act.
    Operate(Operation),
    /// How do you stand, as long as you belong to no cluster?
    Found {
        /// Text id of who asks.
        name: String,
        /// Whether it wants to found one, and a promise to wait for it.
        claims: bool,
    },
    /// Something about the plugins of the node that is asked.
    Plugin(PluginRequest),
    /// Opens a lane over a transport whose ends tell each other where their memory is.
    Share(LaneOffer),
}

/// The answer to a request of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Ping`].
    Pong {
        /// The answering node, zero before it joined.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Placement`].
    Placement {
        /// The placement; the old one when the time was up.
        placement: Box<Placement>,
        /// Issued symbol ids: every id below this exists.
        symbols: u32,
    },
    /// To [`Request::Intern`]: one id per name, in order.
    Interned {
        /// The ids.
        ids: Vec<u32>,
    },
    /// To [`Request::Query`].
    Answer(Answer),
    /// To [`Request::Leg`].
    Part(Part),
    /// To [`Request::Meet`].
    Meet {
        /// Abstract socket name of the door; empty where there is none.
        door: String,
        /// What to say there.
        nonce: u128,
    },
    /// To [`Request::Join`].
    Joined {
        /// The member's id.
        node: NodeId,
        /// The cluster.
        cluster: u128,
        /// Index of the entry.
        index: u64,
    },
    /// To [`Request::Leader`], and to what only the log's node can do.
    Leader {
        /// Its address, if known.
        address: Option<String>,
    },
    /// To [`Request::Consensus`].
    Consensus(Vec<u8>),
    /// To [`Request::Heard`]: silence in milliseconds, `None` if never heard.
    Heard {
        /// How long it has been silent, as this observer sees it.
        silent_ms: Option<u64>,
    },
    /// To [`Request::Operate`]: it is done.
    Operated {
        /// Index of the log's entry.
        index: u64,
    },
    /// To [`Request::Found`].
    Standing(Standing),
    /// To [`Request::Plugin`]: what was done.
    Plugin(String),
    /// To [`Request::Share`].
    Share {
        /// Where the receiver's memory is, as its transport says; empty if that is another one.
        ticket: Vec<u8>,
    },
}

/// What an operator may ask about plugins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginRequest {
    /// Take a new version into service.
    Reload {
        /// Which plugin.
        name: String,
        /// Its new file, on the node's machine.
        path: String,
    },
    /// What discovery wants to remove is right.
    Confirm,
}

/// How a node stands towards one that wants to found a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It does not know yet whether it belongs to a cluster.
    Unknown,
    /// It belongs to one.
    Belongs,
    /// It belongs to none, and waits; for the one who asks, if that wants to found one.
    Waits,
    /// It belongs to none, and waits for another.
    Promised {
        /// For whom.
        to: String,
    },
}

/// What an operator may ask for. Nodes are named by their text ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// A member gives everything away; it goes on until it is stopped.
    Drain {
        /// Which.
        node: String,
    },
    /// A member that is dead is forgotten.
    Remove {
        /// Which.
        node: String,
    },
    /// A symbol's partition is to be at a member.
    Pin {
        /// Table of the symbol.
        table: u16,
        /// The symbol.
        symbol: String,
        /// The member.
        node: String,
    },
    /// A symbol's partition may be anywhere again.
    Unpin {
        /// Table of the symbol.
        table: u16,
        /// The symbol.
        symbol: String,
    },
    /// A member's share.
    Weight {
        /// Which.
        node: String,
        /// Its new weight.
        weight: u16,
    },
    /// A member's failure zone.
    Zone {
        /// Which.
        node: String,
        /// The zone, or empty.
        zone: String,
    },
    /// Partitions whose last copy is gone begin anew, empty.
    Recover {
        /// How many there are, so that nobody accepts more than was shown.
        partitions: u32,
    },
}

/// A lane that a producer asks for, over shared memory or over the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRequest {
    /// The node it is meant for: another incarnation refuses.
    pub node: NodeId,
    /// The incarnation the producer's view knows.
    pub incarnation: Incarnation,
    /// The shard.
    pub shard: u16,
    /// Slots of the lane.
    pub slots: u32,
    /// What it is for.
    pub purpose: LanePurpose,
}

/// A lane's sending end, as it is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOffer {
    /// The lane.
    pub lane: LaneRequest,
    /// Its number, fresh and random.
    pub nonce: u128,
    /// Where the sender's memory is, as its transport says.
    pub ticket: Vec<u8>,
}

/// What a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LanePurpose {
    /// A producer's ticks.
    Producer {
        /// Settle what the owner has taken, without waiting for replicas.
        memory_only: bool,
    },
    /// An owner's ticks to a replica.
    Replica {
        /// The owner.
        owner: NodeId,
        /// This life of it.
        incarnation: Incarnation,
    },
}

/// Who wants to join, with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Text id.
    pub name: String,
    /// Incarnation.
    pub incarnation: Incarnation,
    /// Where it is reached.
    pub address: String,
    /// Shard threads.
    pub shards: u16,
    /// Weight of its share.
    pub weight: u16,
    /// Failure zone, or empty.
    pub zone: String,
    /// The cluster its data directory belongs to, if any.
    pub cluster: Option<u128>,
    /// The id of its file of the log.
    pub voter: u64,
}

/// Bytes that are no message of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Nothing at all.
    #[error("an empty message")]
    Empty,
    /// Another version's message.
    #[error("message version {0}, this is version {VERSION}")]
    Version(u8),
    /// Not what was expected.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// A message as bytes.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    let bytes = vec![VERSION];
    // Writing into a growing vector cannot fail for these types; an empty message says so if it
    // does.
    postcard::to_extend(message, bytes).unwrap_or_default()
}

/// Bytes as a message.
///
/// # Errors
/// When they are of another version, cut short, too long, or not a message at all.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, MessageError> {
    match bytes.split_first() {
        None => Err(MessageError::Empty),
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            Ok(_) => Err(MessageError::Malformed("bytes behind its end".into())),
            Err(error) => Err(MessageError::Malformed(error.to_string())),
        },
        Some((&version, _)) => Err(MessageError::Version(version)),
    }
}

/// The partition of a leg, for those who route it.
pub fn partition_of(leg: &Leg, bits: u8) -> Option<PartitionId> {
    match leg {
        Leg::Summary { .. } => None,
        Leg::Series { table, symbol, .. } => {
            Some(zepto_core::hash::partition_of(*table, *symbol, bits))
        }
    }
}

/// A name costs its sender one byte and the receiver a hundred times as much, so the limit holds
/// while they are read.
fn bounded_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {INTERN_BATCH_MAX} names")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = from.next_element()? {
                if names.len() == INTERN_BATCH_MAX {
                    return Err(A::Error::invalid_length(names.len() + 1, &self));
                }
                names.push(name);
            }
            Ok(names)
        }
    }
    from.deserialize_seq(Names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zepto_store::query::{KindSet, TimeRange};

    #[test]
    fn names_beyond_the_limit_are_refused_before_they_take_memory() {
        let request = |count| Request::Intern { names: vec![String::new(); count] };
        let most = request(INTERN_BATCH_MAX);
        assert_eq!(decode::<Request>(&encode(&most)), Ok(most));
        let more = decode::<Request>(&encode(&request(INTERN_BATCH_MAX + 1)));
        assert!(matches!(more, Err(MessageError::Malformed(_))));
    }

    #[test]
    fn messages_come_back_and_every_cut_is_an_error() {
        let request = Request::Query(Query {
            ask: Ask::Series {
                table: 3,
                symbol: "spot:BTCUSDT".into(),
                range: TimeRange { from_ns: 5, to_ns: 9 },
                of: Of::Bars { interval_ns: 60, kinds: KindSet::TRADES, limit: 10 },
            },
            partial: true,
        });
        let bytes = encode(&request);
        assert_eq!(decode::<Request>(&bytes), Ok(request));
        for end in 0..bytes.len() {
            assert!(decode::<Request>(&bytes[..end]).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(decode::<Request>(&longer), Err(MessageError::Malformed(_))));
    }

    #[test]
    fn another_version_says_which() {
        assert_eq!(decode::<Request>(&[9, 0]), Err(MessageError::Version(9)));
        assert_eq!(decode::<Request>(&[]), Err(MessageError::Empty));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = VERSION; }
            let _request = decode::<Request>(&bytes);
            let _response = decode::<Response>(&bytes);
        }
    }
}
