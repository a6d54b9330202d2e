//! What a snapshot hook is told.

use crate::read::{Malformed, Message};
use crate::write::Writer;
use alloc::vec::Vec;
use core::mem::offset_of;
use zepto_abi::plugin::{self as abi, MSG_BYTES};

/// The body of `EV_SNAP_BEGIN` and its like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snap<'a> {
    /// Which snapshot.
    pub snapshot_id: u64,
    /// Index of the topology that the cut belongs to.
    pub index: u64,
    /// Ticks it holds; 0 while that is not known.
    pub ticks: u64,
    /// Bytes it holds; 0 while that is not known.
    pub bytes: u64,
    /// Where it is.
    pub uri: &'a str,
    /// What it is called.
    pub label: &'a str,
}

impl<'a> Snap<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fields = Message::expect(bytes, MSG_BYTES)?;
        Ok(Self {
            snapshot_id: fields.u64(offset_of!(abi::Snap, snapshot_id)),
            index: fields.u64(offset_of!(abi::Snap, index)),
            ticks: fields.u64(offset_of!(abi::Snap, ticks)),
            bytes: fields.u64(offset_of!(abi::Snap, bytes)),
            uri: fields.text(offset_of!(abi::Snap, uri))?,
            label: fields.text(offset_of!(abi::Snap, label))?,
        })
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(MSG_BYTES, size_of::<abi::Snap>());
        writer.u64(offset_of!(abi::Snap, snapshot_id), self.snapshot_id);
        writer.u64(offset_of!(abi::Snap, index), self.index);
        writer.u64(offset_of!(abi::Snap, ticks), self.ticks);
        writer.u64(offset_of!(abi::Snap, bytes), self.bytes);
        writer.bytes(offset_of!(abi::Snap, uri), self.uri.as_bytes());
        writer.bytes(offset_of!(abi::Snap, label), self.label.as_bytes());
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let snap =
            Snap { snapshot_id: 1, index: 2, ticks: 3, bytes: 4, uri: "file:///x", label: "l" };
        assert_eq!(Snap::read(&snap.write()), Ok(snap));
    }
}
