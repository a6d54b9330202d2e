//! The bytes of a log entry: one version byte, then the command in postcard's encoding.
//!
//! The same bytes lie on disk, travel to followers and enter the topology's hash, so they are
//! never encoded anew on the way. This is a format: a test pins the bytes of every command.

use zepto_core::hash;
use zepto_core::limits::LOG_ENTRY_BYTES_MAX;
use zepto_core::topology::Command;

/// The version that this build writes, and the only one it reads.
pub const VERSION: u8 = 2;

/// Why a command cannot be an entry. It was not proposed; do not try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Larger than an entry may be.
    #[error("an entry has up to {LOG_ENTRY_BYTES_MAX} bytes, this one has {0}")]
    TooLarge(usize),
    /// The encoder refused it.
    #[error("the command cannot be encoded: {0}")]
    Encoding(String),
}

/// Why bytes are no entry. Nothing was applied. From a log or a leader this is damage or another
/// version, and ends in a stop; from a proposer it is a refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the entry is empty")]
    Empty,
    /// Larger than an entry may be.
    #[error("an entry has up to {LOG_ENTRY_BYTES_MAX} bytes, this one has {0}")]
    TooLarge(usize),
    /// Written by another version of zepto.
    #[error("the entry has version {0}, this build knows version {VERSION}")]
    Version(u8),
    /// Not a command of this version.
    #[error("the entry is no command: {0}")]
    Malformed(String),
    /// Bytes follow the command.
    #[error("{0} bytes follow the command")]
    Trailing(usize),
}

/// Encodes a command.
///
/// # Errors
/// The command is larger than an entry may be.
pub fn encode(command: &Command) -> Result<Vec<u8>, EncodeError> {
    let bytes = postcard::to_extend(command, vec![VERSION]);
    let bytes = bytes.map_err(|error| EncodeError::Encoding(error.to_string()))?;
    if bytes.len() > LOG_ENTRY_BYTES_MAX {
        return Err(EncodeError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// Decodes an entry, whole.
///
/// # Errors
/// The bytes are no entry of this version.
pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
    if bytes.len() > LOG_ENTRY_BYTES_MAX {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let (version, command) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    let (command, rest) = postcard::take_from_bytes(command)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() { Ok(command) } else { Err(DecodeError::Trailing(rest.len())) }
}

/// The hash of an entry that enters the topology's.
pub fn digest(bytes: &[u8]) -> u64 {
    hash::digest(bytes)
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
