//! From a text to a connected socket: resolve, then try every address.
//!
//! Each address gets its share of the time that is left, so that one that swallows packets does
//! not use up the time of those that answer. Names are resolved again at every connect.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::hello::HelloRefusal;

/// Addresses tried for one name.
const ADDRESSES_MAX: usize = 8;

/// Why there is no connection. Nothing was executed anywhere.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name could not be resolved. Retry later, or correct it.
    #[error("cannot resolve {address}: {text}")]
    Resolve {
        /// What was to be resolved.
        address: String,
        /// What the resolver said.
        text: String,
    },
    /// No address took the connection. Retry later.
    #[error("cannot connect to {address}: {text}")]
    Unreachable {
        /// The peer.
        address: String,
        /// What each address said.
        text: String,
    },
    /// Connected, but no answer to the HELLO in time. Retry later.
    #[error("{address} accepted the connection but did not answer the HELLO in time")]
    HelloTimeout {
        /// The peer.
        address: String,
    },
    /// Connected, but the hand-shake failed: most likely not a zepto node.
    #[error("hand-shake with {address}: {text}")]
    Handshake {
        /// The peer.
        address: String,
        /// What went wrong.
        text: String,
    },
    /// The peer, or this side, refused the other. See [`HelloRefusal`] for when to retry.
    #[error("{address} refused the connection: {text}")]
    Refused {
        /// The peer.
        address: String,
        /// Why.
        reason: HelloRefusal,
        /// For people.
        text: String,
    },
    /// The last attempt failed a moment ago; the next one is not due yet.
    #[error("{address} is not tried again for {} ms: {last}", .wait.as_millis())]
    Backoff {
        /// The peer.
        address: String,
        /// Time until the next attempt.
        wait: std::time::Duration,
        /// The error of the last attempt.
        last: String,
    },
    /// The caller's deadline passed while another caller's attempt was under way.
    #[error("no connection to {address} before the deadline")]
    Deadline {
        /// The peer.
        address: String,
    },
    /// The pool holds as many peers as it may.
    #[error("no room for {address}: the pool holds {peers_max} peers")]
    TooManyPeers {
        /// The peer.
        address: String,
        /// The limit.
        peers_max: usize,
    },
}

impl ConnectError {
    /// The peer that was to be reached.
    pub fn address(&self) -> &str {
        match self {
            ConnectError::Resolve { address, .. }
            | ConnectError::Unreachable { address, .. }
            | ConnectError::HelloTimeout { address }
            | ConnectError::Handshake { address, .. }
            | ConnectError::Refused { address, .. }
            | ConnectError::Backoff { address, .. }
            | ConnectError::Deadline { address }
            | ConnectError::TooManyPeers { address, .. } => address,
        }
    }
}

/// A connected socket with small-packet delay switched off.
pub(crate) async fn connect_any(
    address: &str,
    config: &Config,
    until: Instant,
) -> Result<TcpStream, ConnectError> {
    let unresolved = |text: String| ConnectError::Resolve { address: address.to_owned(), text };
    let resolving_until = until.min(Instant::now() + config.connect_timeout);
    let addresses: Vec<SocketAddr> = match timeout_at(resolving_until, lookup_host(address)).await {
        Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
        Ok(Err(error)) => return Err(unresolved(error.to_string())),
        Err(_) => return Err(unresolved("no answer in time".to_owned())),
    };
    if addresses.is_empty() {
        return Err(unresolved("the name has no address".to_owned()));
    }
    let mut failures = Vec::new();
    for (index, peer) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = until.min(now + config.connect_timeout).saturating_duration_since(now);
        let share = left / (addresses.len() - index) as u32;
        match connect_one(*peer, now + share).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(format!("{peer}: {error}")),
        }
    }
    let text = failures.join("; ");
    Err(ConnectError::Unreachable { address: address.to_owned(), text })
}

async fn connect_one(peer: SocketAddr, until: Instant) -> io::Result<TcpStream> {
    let stream = match timeout_at(until, TcpStream::connect(peer)).await {
        Ok(result) => result?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
