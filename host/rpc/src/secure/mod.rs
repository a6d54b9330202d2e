//! What a cluster secret is for: sessions that only its holders can open, and signed heartbeats.
//!
//! Both sides of a connection prove that they know the same key by a Noise hand-shake
//! (`Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s`, from the crate `snow`) before either says anything
//! else. It gives fresh session keys, and from then on everything travels in [`records`]: sealed,
//! numbered runs of bytes, so that a record that was changed, repeated, swapped or left out does
//! not open and ends the connection. What a peer says about itself in its HELLO travels inside, and
//! is thereby bound to the session. Keys that leak later open no recorded session.
//!
//! Every holder of the secret is trusted equally: there are no certificates and no roles here.
//! [`Authentication`] in `PeerInfo` says which key a peer proved; roles can be told by that later.

mod counts;
mod file;
mod heartbeat;
mod key;
pub(crate) mod noise;
pub(crate) mod records;

pub use counts::SecretCounts;
pub use file::{ClusterSecret, SecretError};
pub use heartbeat::HeartbeatKeys;
pub use key::KeyId;

use thiserror::Error;

/// How the peer of a session proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// Not at all: there is no cluster secret, and the peer is whoever it says.
    Nothing,
    /// It knows the cluster secret with this id.
    ClusterSecret(KeyId),
}

/// Why a session cannot be, or go on being, secure. The connection is over; nothing of what did
/// not open was executed. Worth another connection, except for [`SecureError::Proof`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecureError {
    /// A message of the hand-shake is not of its one possible length.
    #[error("a proof of the cluster secret has {0} bytes, not {bytes}", bytes = noise::NOISE_BYTES)]
    Length(usize),
    /// The peer names the key, but does not know it.
    #[error("the peer did not prove that it knows the cluster secret")]
    Proof,
    /// A record declares a length that no record has. Nothing was allocated for it.
    #[error(
        "a record declares {declared} bytes, not {min} to {max}",
        min = records::RECORD_BYTES_MIN
    )]
    RecordLength {
        /// The declared length in bytes.
        declared: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A record was changed, repeated, swapped or left out on its way, or is of another session.
    #[error("a record did not open: it was changed, repeated or left out on its way")]
    Record,
    /// Something follows a frame of the hand-shake in its own record.
    #[error("a record of the hand-shake holds more than its frame")]
    Crowded,
    /// The cryptography does not work here, such as without randomness.
    #[error("cannot secure the connection: {0}")]
    Internal(String),
}
