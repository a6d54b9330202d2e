//! The hand-shake: who connects, who answers, and why a connection is refused.
//!
//! Nothing but one HELLO is read from an unknown peer, and at most `HELLO_BYTES_MAX` of it. The
//! protocol versions come first in the payload and are read before the rest, so that peers of
//! different versions refuse each other with a text instead of misreading each other. What a peer
//! says here is believed; where there is a cluster secret it is said only after both sides proved
//! that they know it (see [`crate::secure`]), inside the session that the proof opened.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zepto_abi::{Incarnation, NodeId};
use zepto_core::limits::{
    HELLO_BYTES_MAX, HELLO_EXTRA_BYTES_MAX, HOST_IDENTITY_BYTES_MAX, NODE_NAME_BYTES_MAX,
    REASON_BYTES_MAX,
};

/// Oldest protocol version this side speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest protocol version this side speaks.
pub const PROTOCOL_MAX: u16 = 1;

/// What a peer wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A node of the cluster.
    Node,
    /// A producer, a reader or a tool.
    Client,
}

/// Who a process is: the same facts in a HELLO and in the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster, or `None` when the process does not know it yet.
    pub cluster: Option<u128>,
    /// The node's number; zero for nobody.
    #[serde(with = "NodeIdFormat")]
    pub node: NodeId,
    /// The node's text id, or a client's name for people.
    pub name: Option<String>,
    /// Which life of the process this is.
    #[serde(with = "IncarnationFormat")]
    pub incarnation: Incarnation,
    /// Node or client.
    pub role: Role,
    /// Names the machine and its namespaces; equal bytes mean that memory can be shared.
    #[serde(with = "bytes")]
    pub host: Vec<u8>,
    /// How far the process has followed the control log.
    pub topology_index: u64,
    /// Milliseconds of silence after which this side pings.
    pub ping_after_ms: u32,
    /// Milliseconds of silence after which this side gives up.
    pub ping_dead_ms: u32,
}

impl Identity {
    /// A client that belongs to no cluster, with the default ping intervals.
    pub fn client(name: &str) -> Identity {
        Identity {
            cluster: None,
            node: NodeId(0),
            name: Some(name.to_owned()),
            incarnation: Incarnation(0),
            role: Role::Client,
            host: Vec::new(),
            topology_index: 0,
            ping_after_ms: zepto_core::limits::PING_AFTER_MS as u32,
            ping_dead_ms: zepto_core::limits::PING_DEAD_MS as u32,
        }
    }

    fn check(&self) -> Result<(), HelloError> {
        let name_bytes = self.name.as_ref().map_or(0, String::len);
        within("name", name_bytes, NODE_NAME_BYTES_MAX)?;
        within("host identity", self.host.len(), HOST_IDENTITY_BYTES_MAX)
    }
}

/// The first frame of the side that connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol version the peer speaks.
    pub protocol_min: u16,
    /// Newest protocol version the peer speaks.
    pub protocol_max: u16,
    /// Who it is.
    pub identity: Identity,
    /// The application's own bytes, bounded.
    #[serde(with = "bytes")]
    pub extra: Vec<u8>,
}

impl Hello {
    /// A HELLO of this build's protocol versions.
    pub fn new(identity: Identity) -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            identity,
            extra: Vec::new(),
        }
    }
}

/// The welcome that a server gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Who the server is.
    pub identity: Identity,
    /// The application's own bytes, bounded.
    #[serde(with = "bytes")]
    pub extra: Vec<u8>,
}

/// The answer to a HELLO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// Come in.
    Accepted {
        /// The version both sides will speak.
        protocol: u16,
        /// Requests the peer may have in flight on this connection.
        requests_max: u32,
        /// Who answers.
        welcome: Welcome,
    },
    /// Not on this connection; it is closed after this frame.
    Refused {
        /// The number of a [`HelloRefusal`].
        code: u16,
        /// For people: what is wrong and what to do.
        text: String,
    },
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u16)]
pub enum HelloRefusal {
    /// No protocol version in common. Permanent until one side is upgraded.
    Version = 1,
    /// Another cluster. Permanent: an address is wrong.
    Cluster = 2,
    /// A newer life of the same node is known. Permanent for this process.
    Incarnation = 3,
    /// The server has all the connections it may have. Try later, or elsewhere.
    Full = 4,
    /// The server is stopping. Try elsewhere.
    Draining = 5,
    /// The server has not started yet. Try later.
    NotReady = 6,
    /// Not permitted.
    Denied = 7,
    /// The HELLO could not be read.
    Malformed = 8,
    /// One side has a cluster secret and the other has none, or another. Permanent until the same
    /// secret is given to both.
    Secret = 9,
}

impl HelloRefusal {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The refusal for a number; one that this version does not know counts as `Denied`.
    pub const fn from_code(code: u16) -> HelloRefusal {
        match code {
            1 => HelloRefusal::Version,
            2 => HelloRefusal::Cluster,
            3 => HelloRefusal::Incarnation,
            4 => HelloRefusal::Full,
            5 => HelloRefusal::Draining,
            6 => HelloRefusal::NotReady,
            8 => HelloRefusal::Malformed,
            9 => HelloRefusal::Secret,
            _ => HelloRefusal::Denied,
        }
    }

    /// True when the same HELLO may be accepted later.
    pub const fn is_transient(self) -> bool {
        matches!(self, HelloRefusal::Full | HelloRefusal::Draining | HelloRefusal::NotReady)
    }
}

/// A hand-shake payload that cannot be read or sent. The connection is not established.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HelloError {
    /// No version in common. Permanent until one side is upgraded.
    #[error(
        "protocol versions {min} to {max} of the peer and {PROTOCOL_MIN} to {PROTOCOL_MAX} of \
         this side have none in common"
    )]
    Version {
        /// Oldest version of the peer.
        min: u16,
        /// Newest version of the peer.
        max: u16,
    },
    /// A part of it is above its limit.
    #[error("the {part} has {bytes} bytes, more than the {bytes_max} allowed")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The bytes are not of this format.
    #[error("the hand-shake cannot be decoded: {0}")]
    Malformed(String),
}

impl Hello {
    /// The payload of a HELLO frame.
    pub fn encode(&self) -> Result<Vec<u8>, HelloError> {
        self.identity.check()?;
        within("extra part", self.extra.len(), HELLO_EXTRA_BYTES_MAX)?;
        to_bytes(self)
    }

    /// Reads a HELLO; the versions first, then, if there is one in common, the rest.
    pub fn decode(payload: &[u8]) -> Result<Hello, HelloError> {
        let ((min, max), _) = postcard::take_from_bytes::<(u16, u16)>(payload).map_err(unread)?;
        if common_protocol(min, max).is_none() {
            return Err(HelloError::Version { min, max });
        }
        let hello: Hello = from_bytes(payload)?;
        hello.identity.check()?;
        within("extra part", hello.extra.len(), HELLO_EXTRA_BYTES_MAX)?;
        Ok(hello)
    }
}

impl HelloReply {
    /// A refusal; a text beyond the limit is cut.
    pub fn refused(reason: HelloRefusal, text: &str) -> HelloReply {
        let end = text.floor_char_boundary(REASON_BYTES_MAX as usize);
        HelloReply::Refused { code: reason.code(), text: text[..end].to_owned() }
    }

    /// The payload of a HELLO reply frame.
    pub fn encode(&self) -> Result<Vec<u8>, HelloError> {
        self.check()?;
        to_bytes(self)
    }

    /// Reads a reply.
    pub fn decode(payload: &[u8]) -> Result<HelloReply, HelloError> {
        let reply: HelloReply = from_bytes(payload)?;
        reply.check()?;
        Ok(reply)
    }

    fn check(&self) -> Result<(), HelloError> {
        match self {
            HelloReply::Accepted { protocol, welcome, .. } => {
                if common_protocol(*protocol, *protocol).is_none() {
                    return Err(HelloError::Version { min: *protocol, max: *protocol });
                }
                welcome.identity.check()?;
                within("extra part", welcome.extra.len(), HELLO_EXTRA_BYTES_MAX)
            }
            HelloReply::Refused { text, .. } => {
                within("text", text.len(), REASON_BYTES_MAX as usize)
            }
        }
    }
}

/// The newest version that both sides speak.
pub fn common_protocol(min: u16, max: u16) -> Option<u16> {
    let newest = max.min(PROTOCOL_MAX);
    (newest >= min.max(PROTOCOL_MIN)).then_some(newest)
}

/// The checks that every node makes of a peer: the same cluster, where both know theirs, and no
/// older life of a node that is known (`newest`). Everything else is the handler's to decide.
pub fn admit(
    cluster: Option<u128>,
    newest: Option<Incarnation>,
    peer: &Identity,
) -> Result<(), (HelloRefusal, String)> {
    if let (Some(ours), Some(theirs)) = (cluster, peer.cluster)
        && ours != theirs
    {
        let text = format!("this is cluster {ours:032x}, you are of cluster {theirs:032x}");
        return Err((HelloRefusal::Cluster, text));
    }
    if let Some(newest) = newest
        && peer.incarnation < newest
    {
        let name = peer.name.as_deref().unwrap_or("this node");
        let text = format!(
            "{name} with incarnation {newest} is known here, yours is the older {}",
            peer.incarnation
        );
        return Err((HelloRefusal::Incarnation, text));
    }
    Ok(())
}

fn within(part: &'static str, bytes: usize, bytes_max: usize) -> Result<(), HelloError> {
    if bytes > bytes_max {
        return Err(HelloError::TooLong { part, bytes, bytes_max });
    }
    Ok(())
}

fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, HelloError> {
    let bytes = postcard::to_stdvec(value).map_err(unread)?;
    within("hand-shake", bytes.len(), HELLO_BYTES_MAX as usize)?;
    Ok(bytes)
}

fn from_bytes<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, HelloError> {
    within("hand-shake", payload.len(), HELLO_BYTES_MAX as usize)?;
    match postcard::take_from_bytes(payload).map_err(unread)? {
        (value, []) => Ok(value),
        (_, rest) => Err(HelloError::Malformed(format!("{} bytes too many", rest.len()))),
    }
}

fn unread(error: postcard::Error) -> HelloError {
    HelloError::Malformed(error.to_string())
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NodeId")]
struct NodeIdFormat(u32);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Incarnation")]
struct IncarnationFormat(u64);

/// Byte strings that are taken from the input as a slice: a plain `Vec<u8>` would first reserve
/// what its length claims.
mod bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}
