//! Why a connection ended. One reason per connection, the same for everybody who asks.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::frame::FrameError;
use crate::secure::SecureError;

/// Why a connection ended. It is over in every case; a new one may be opened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side was done with it.
    #[error("closed by this side")]
    Finished,
    /// The peer said that it stops, answered what it had accepted, and closed.
    #[error("the peer said goodbye: {0}")]
    GoAway(String),
    /// The peer closed the connection between two frames.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The peer closed the connection inside a frame.
    #[error("the peer closed the connection in the middle of a frame")]
    Truncated,
    /// The peer was silent for too long, pings included.
    #[error("the peer was silent for {} ms", .0.as_millis())]
    Silent(Duration),
    /// The peer began a frame and did not finish it in time.
    #[error("the peer did not finish a frame in {} ms", .0.as_millis())]
    SlowFrame(Duration),
    /// The peer took no bytes for too long.
    #[error("the peer took no bytes for {} ms", .0.as_millis())]
    Stalled(Duration),
    /// The bytes were no frames.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The bytes were no records of this session: somebody changed, repeated or left out some.
    #[error("{0}")]
    Secure(#[from] SecureError),
    /// A frame that has no place in this conversation.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The socket failed.
    #[error("the connection failed: {text}")]
    Io {
        /// The operating system's kind of error.
        kind: io::ErrorKind,
        /// Its text.
        text: String,
    },
    /// The runtime or the server stopped under the connection.
    #[error("stopped")]
    Stopped,
}

impl CloseReason {
    pub(crate) fn io(error: &io::Error) -> CloseReason {
        CloseReason::Io { kind: error.kind(), text: error.to_string() }
    }

    /// True when the peer is to blame for what it sent.
    pub fn is_fault(&self) -> bool {
        matches!(self, CloseReason::Frame(_) | CloseReason::Protocol(_) | CloseReason::Secure(_))
    }
}
