//! The first frame of a stranger: read with bounds, or answered with the reason it is not.
//!
//! Until a HELLO is read a connection holds a small buffer and nothing else, however much the
//! stranger declares or sends.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::duplex::part;
use crate::frame::{Body, FrameError, FrameReader, HEADER_BYTES, Kind, Unmetered, encode_frame};
use crate::hello::{Hello, HelloError, HelloRefusal, HelloReply};

/// Why a peer never got past the HELLO.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer closed the connection before its HELLO was complete")]
    Closed,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Hello(#[from] HelloError),
    #[error("the first frame must be a HELLO")]
    NoHello,
}

impl GreetingError {
    /// What to tell the peer; nothing to one that does not speak our language at all.
    pub(crate) fn refusal(&self) -> Option<HelloRefusal> {
        match self {
            GreetingError::Io(_) | GreetingError::Closed => None,
            GreetingError::Frame(FrameError::Magic { .. }) => None,
            GreetingError::Frame(FrameError::Version { .. }) => Some(HelloRefusal::Version),
            GreetingError::Hello(HelloError::Version { .. }) => Some(HelloRefusal::Version),
            _ => Some(HelloRefusal::Malformed),
        }
    }
}

/// Reads one HELLO into a buffer that a stranger cannot make larger. What comes behind it goes
/// into `early`.
pub(crate) async fn read_hello(
    stream: &mut TcpStream,
    reader: &mut FrameReader,
    early: &mut Vec<u8>,
) -> Result<Hello, GreetingError> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; HEADER_BYTES + 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(GreetingError::Closed);
        }
        let mut input = &buffer[..count];
        let Some(frame) = reader.read(&mut input, &mut Unmetered)? else {
            continue;
        };
        let (Kind::Hello, Body::Whole(payload)) = (frame.header.kind, frame.body) else {
            return Err(GreetingError::NoHello);
        };
        early.extend_from_slice(input);
        return Ok(Hello::decode(&payload)?);
    }
}

/// Longest time that a refused peer gets to read why.
const REFUSE_TIME_MAX: Duration = Duration::from_secs(1);

/// Tells a peer why it may not come in, and gives it a moment, at most `linger`, to read that.
pub(crate) async fn refuse(
    mut stream: TcpStream,
    reason: HelloRefusal,
    text: &str,
    linger: Duration,
) {
    let Ok(payload) = HelloReply::refused(reason, text).encode() else {
        return;
    };
    let frame = encode_frame(Kind::HelloReply, 0, 0, &payload);
    if timeout(linger.min(REFUSE_TIME_MAX), part(&mut stream, &frame)).await.is_err() {
        tracing::debug!("a refused peer did not close in time");
    }
}
