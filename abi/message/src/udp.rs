//! A datagram that came.

use crate::read::{Malformed, Message};
use crate::write::Writer;
use alloc::vec::Vec;
use core::mem::offset_of;
use zepto_abi::plugin::{self as abi, MSG_BYTES};

/// The body of `EV_UDP`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Its sender, `ip:port`.
    pub from: &'a str,
    /// Its bytes.
    pub data: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fields = Message::expect(bytes, MSG_BYTES)?;
        Ok(Self {
            from: fields.text(offset_of!(abi::UdpDatagram, from))?,
            data: fields.bytes(offset_of!(abi::UdpDatagram, data))?,
        })
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(MSG_BYTES, size_of::<abi::UdpDatagram>());
        writer.bytes(offset_of!(abi::UdpDatagram, from), self.from.as_bytes());
        writer.bytes(offset_of!(abi::UdpDatagram, data), self.data);
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let datagram = Datagram { from: "[::1]:9", data: b"hello" };
        assert_eq!(Datagram::read(&datagram.write()), Ok(datagram));
    }
}
