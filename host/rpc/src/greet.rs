//! The beginning of a conversation: proof of the secret, if there is one, and the HELLO.
//!
//! Until a HELLO is read a connection holds a small buffer and nothing else, however much the
//! stranger declares or sends. Whether there is a proof is settled by this side's configuration
//! alone, never by what the peer offers, so nobody can talk the two out of it.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use crate::frame::{Body, Frame, FrameError, FrameReader, Kind, encode_frame};
use crate::hello::{Hello, HelloError, HelloRefusal, HelloReply};
use crate::secure::noise::{self, Initiator};
use crate::secure::{Authentication, ClusterSecret, KeyId, SecureError};
use crate::wire::Wire;

/// Why a peer never got past the HELLO.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer closed the connection during the hand-shake")]
    Closed,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Hello(#[from] HelloError),
    #[error("the first frame must be a HELLO")]
    NoHello,
    #[error("{0}")]
    Secure(#[from] SecureError),
    #[error(
        "this cluster has a secret and the peer gave no proof of it; set \
         ZEPTO_CLUSTER_SECRET_FILE, or give --secret-file"
    )]
    Plain,
    #[error(
        "this node has no cluster secret and the peer uses one; give this node the secret, or \
         start the peer without ZEPTO_CLUSTER_SECRET_FILE and --secret-file"
    )]
    NoSecret,
    #[error(
        "the cluster key {0} of the peer is not known to this node; both need the same cluster \
         secret"
    )]
    UnknownKey(KeyId),
    #[error("the peer answered without a proof of the cluster secret; nothing was said to it")]
    Downgrade,
    /// The peer's own words.
    #[error("{text}")]
    Refused { reason: HelloRefusal, text: String },
}

impl GreetingError {
    /// What to tell the peer; nothing to one that does not speak our language at all, or not in
    /// this session.
    pub(crate) fn refusal(&self) -> Option<HelloRefusal> {
        match self {
            GreetingError::Io(_) | GreetingError::Closed => None,
            GreetingError::Frame(FrameError::Magic { .. }) => None,
            GreetingError::Frame(FrameError::Version { .. }) => Some(HelloRefusal::Version),
            GreetingError::Hello(HelloError::Version { .. }) => Some(HelloRefusal::Version),
            GreetingError::Secure(SecureError::Length(_)) => Some(HelloRefusal::Malformed),
            GreetingError::Secure(SecureError::Proof) => Some(HelloRefusal::Secret),
            GreetingError::Secure(_) => None,
            GreetingError::Plain | GreetingError::NoSecret | GreetingError::UnknownKey(_) => {
                Some(HelloRefusal::Secret)
            }
            _ => Some(HelloRefusal::Malformed),
        }
    }

    fn count(&self, secret: &ClusterSecret) {
        let counters = secret.counters();
        match self {
            GreetingError::Plain => counters.refused_plain.one(),
            GreetingError::UnknownKey(_) => counters.refused_key.one(),
            GreetingError::Secure(SecureError::Length(_) | SecureError::Proof) => {
                counters.refused_proof.one();
            }
            GreetingError::Secure(_) => counters.refused_record.one(),
            _ => {}
        }
    }
}

/// The side that was connected to: checks the peer's proof, if there is a secret, and reads its
/// HELLO.
pub(crate) async fn receive(
    wire: &mut Wire,
    reader: &mut FrameReader,
    secret: Option<&ClusterSecret>,
) -> Result<(Hello, Authentication), GreetingError> {
    wire.stream.set_nodelay(true)?;
    let first = wire.read_frame(reader).await;
    let Some(secret) = secret else {
        let frame = first?;
        if frame.header.kind == Kind::Noise {
            return Err(GreetingError::NoSecret);
        }
        return Ok((hello(frame)?, Authentication::Nothing));
    };
    let received = match first {
        Ok(frame) => receive_secure(wire, reader, secret, frame).await,
        Err(error) => Err(error),
    };
    match &received {
        Ok(_) => secret.counters().accepted.one(),
        Err(error) => error.count(secret),
    }
    let (hello, key) = received?;
    Ok((hello, Authentication::ClusterSecret(key)))
}

async fn receive_secure(
    wire: &mut Wire,
    reader: &mut FrameReader,
    secret: &ClusterSecret,
    first: Frame,
) -> Result<(Hello, KeyId), GreetingError> {
    if first.header.kind != Kind::Noise {
        return Err(GreetingError::Plain);
    }
    let proof = whole(first)?;
    let id = noise::key_id(&proof)?;
    let key = secret.key_with(id).await.ok_or(GreetingError::UnknownKey(id))?;
    let (records, answer) = noise::respond(&key, &proof)?;
    wire.write_all(&encode_frame(Kind::Noise, 0, 0, &answer)).await?;
    wire.secure(records);
    // Only now the peer shows that the proof was its own and not a recorded one.
    Ok((hello(wire.read_frame(reader).await?)?, id))
}

/// The side that connected: proves the secret, if there is one, says HELLO and reads the answer.
pub(crate) async fn introduce(
    wire: &mut Wire,
    reader: &mut FrameReader,
    hello: &Hello,
    secret: Option<&ClusterSecret>,
) -> Result<HelloReply, GreetingError> {
    let payload = hello.encode()?;
    if let Some(secret) = secret {
        let proved = prove(wire, reader, secret).await;
        proved.inspect_err(|error| error.count(secret))?;
    }
    wire.write_all(&encode_frame(Kind::Hello, 0, 0, &payload)).await?;
    let answer = wire.read_frame(reader).await;
    if let (Some(secret), Err(error)) = (secret, &answer) {
        error.count(secret);
    }
    reply(answer?)
}

async fn prove(
    wire: &mut Wire,
    reader: &mut FrameReader,
    secret: &ClusterSecret,
) -> Result<(), GreetingError> {
    let key = secret.key_to_connect().await;
    let (initiator, proof) = Initiator::begin(&key)?;
    wire.write_all(&encode_frame(Kind::Noise, 0, 0, &proof)).await?;
    let answer = wire.read_frame(reader).await?;
    if answer.header.kind == Kind::Noise {
        wire.secure(initiator.finish(&whole(answer)?)?);
        return Ok(());
    }
    // Anybody may refuse in the clear; a welcome in the clear is none.
    match reply(answer)? {
        HelloReply::Refused { code, text } => {
            Err(GreetingError::Refused { reason: HelloRefusal::from_code(code), text })
        }
        HelloReply::Accepted { .. } => Err(GreetingError::Downgrade),
    }
}

fn hello(frame: Frame) -> Result<Hello, GreetingError> {
    match frame.header.kind {
        Kind::Hello => Ok(Hello::decode(&whole(frame)?)?),
        _ => Err(GreetingError::NoHello),
    }
}

fn reply(frame: Frame) -> Result<HelloReply, GreetingError> {
    match frame.header.kind {
        Kind::HelloReply => Ok(HelloReply::decode(&whole(frame)?)?),
        kind => {
            let text = format!("the peer answered with {kind:?}");
            Err(HelloError::Malformed(text).into())
        }
    }
}

fn whole(frame: Frame) -> Result<Vec<u8>, GreetingError> {
    match frame.body {
        Body::Whole(payload) => Ok(payload),
        Body::Discarded => Err(io::Error::from(io::ErrorKind::OutOfMemory).into()),
    }
}

/// Longest time that a refused peer gets to read why.
const REFUSE_TIME_MAX: Duration = Duration::from_secs(1);

/// Tells a peer why it may not come in, and gives it a moment, at most `linger`, to read that.
pub(crate) async fn refuse(mut wire: Wire, reason: HelloRefusal, text: &str, linger: Duration) {
    let Ok(payload) = HelloReply::refused(reason, text).encode() else {
        return;
    };
    let frame = encode_frame(Kind::HelloReply, 0, 0, &payload);
    if timeout(linger.min(REFUSE_TIME_MAX), wire.part(&frame)).await.is_err() {
        tracing::debug!("a refused peer did not close in time");
    }
}
