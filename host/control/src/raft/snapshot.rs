//! The bytes of a snapshot: the whole topology as of one entry.
//!
//! One version byte, a digest of what follows, the placement, and all symbol names in the order of
//! their ids. This is a format, on disk and on the wire. It is trusted as little as a message: what
//! comes out of [`decode`] obeys every rule of a topology, or does not come out.

use serde::Deserialize;
use zepto_core::hash::digest;
use zepto_core::limits::{SNAPSHOT_BYTES_MAX, SYMBOLS_MAX};
use zepto_core::symbols::Symbols;
use zepto_core::topology::{Placement, Topology};

const VERSION: u8 = 1;
const HEAD: usize = 9;

/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// Too short to be one, or longer than one may be.
    #[error("a snapshot has {HEAD} to {SNAPSHOT_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
    /// Written by another version of zepto.
    #[error("the snapshot has version {0}, this build knows version {VERSION}")]
    Version(u8),
    /// Not what was written.
    #[error("the snapshot is damaged")]
    Digest,
    /// Not a topology.
    #[error("the snapshot is no topology: {0}")]
    Malformed(String),
}

/// The snapshot of a topology.
pub(crate) fn encode(topology: &Topology) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = vec![0; HEAD];
    bytes = postcard::to_extend(&topology.placement, bytes).map_err(malformed)?;
    bytes = postcard::to_extend(&topology.symbols.len(), bytes).map_err(malformed)?;
    for id in 0..topology.symbols.len() {
        let name = topology.symbols.name(id).unwrap_or_default();
        bytes = postcard::to_extend(name, bytes).map_err(malformed)?;
    }
    if bytes.len() > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotError::Length(bytes.len()));
    }
    let sum = digest(&bytes[HEAD..]).to_le_bytes();
    bytes[0] = VERSION;
    bytes[1..HEAD].copy_from_slice(&sum);
    Ok(bytes)
}

/// The topology that a snapshot is of.
pub(crate) fn decode(bytes: &[u8]) -> Result<Topology, SnapshotError> {
    if bytes.len() > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotError::Length(bytes.len()));
    }
    let (head, body) = bytes.split_at_checked(HEAD).ok_or(SnapshotError::Length(bytes.len()))?;
    if head[0] != VERSION {
        return Err(SnapshotError::Version(head[0]));
    }
    if head[1..] != digest(body).to_le_bytes() {
        return Err(SnapshotError::Digest);
    }
    let (placement, body) = take::<Placement>(body)?;
    placement.check().map_err(malformed)?;
    let (count, mut body) = take::<u32>(body)?;
    if count > SYMBOLS_MAX {
        return Err(malformed("too many symbols"));
    }
    let mut symbols = Symbols::default();
    for id in 0..count {
        let (name, rest) = take::<&str>(body)?;
        if symbols.intern(name).map_err(malformed)? != id {
            return Err(malformed(format!("two symbols are called {name}")));
        }
        body = rest;
    }
    match body.len() {
        0 => Ok(Topology { placement, symbols }),
        rest => Err(malformed(format!("{rest} bytes follow it"))),
    }
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), SnapshotError> {
    postcard::take_from_bytes(bytes).map_err(malformed)
}

fn malformed(error: impl ToString) -> SnapshotError {
    SnapshotError::Malformed(error.to_string())
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
