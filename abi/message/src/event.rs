//! What the host delivers.

use crate::read::{Malformed, Message};
use crate::write::Writer;
use alloc::vec::Vec;
use core::mem::offset_of;
use zepto_abi::plugin as abi;

/// An event. Its clocks are part of it, so that a handler needs no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// One of `EV_*`.
    pub kind: u32,
    /// 1, 2, 3 and so on, for each instance.
    pub seq: u64,
    /// Which request, socket, timer or question it belongs to.
    pub token: u64,
    /// Monotonic time, ns.
    pub mono_ns: u64,
    /// Time since 1970, ns.
    pub wall_ns: u64,
    /// Monotonic time by which the handler returns, ns.
    pub deadline_ns: u64,
    /// How what it tells of ended: a status of the host.
    pub status: i32,
    /// Whether a reply is expected.
    pub needs_reply: bool,
    /// What it carries: a message, or plain bytes.
    pub body: &'a [u8],
}

impl<'a> Event<'a> {
    /// Reads an event.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let message = Message::read(bytes)?;
        let fields = message.fields();
        Ok(Self {
            kind: message.kind(),
            seq: fields.u64(offset_of!(abi::Event, seq)),
            token: fields.u64(offset_of!(abi::Event, token)),
            mono_ns: fields.u64(offset_of!(abi::Event, mono_ns)),
            wall_ns: fields.u64(offset_of!(abi::Event, wall_ns)),
            deadline_ns: fields.u64(offset_of!(abi::Event, deadline_ns)),
            status: fields.i32(offset_of!(abi::Event, status)),
            needs_reply: fields.u32(offset_of!(abi::Event, needs_reply)) != 0,
            body: fields.bytes(offset_of!(abi::Event, body))?,
        })
    }

    /// Writes it into a buffer that was used before.
    pub fn write_over(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mut writer = Writer::over(bytes, self.kind, size_of::<abi::Event>());
        writer.u64(offset_of!(abi::Event, seq), self.seq);
        writer.u64(offset_of!(abi::Event, token), self.token);
        writer.u64(offset_of!(abi::Event, mono_ns), self.mono_ns);
        writer.u64(offset_of!(abi::Event, wall_ns), self.wall_ns);
        writer.u64(offset_of!(abi::Event, deadline_ns), self.deadline_ns);
        writer.u32(offset_of!(abi::Event, status), self.status.cast_unsigned());
        writer.u32(offset_of!(abi::Event, needs_reply), self.needs_reply.into());
        if !self.body.is_empty() {
            writer.message(offset_of!(abi::Event, body), self.body);
        }
        writer.finish()
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        self.write_over(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written_in_a_buffer_with_anything_in_it() {
        let event = Event {
            kind: abi::EV_UDP,
            seq: 1,
            token: abi::TOKEN_BIT | 2,
            mono_ns: 3,
            wall_ns: 4,
            deadline_ns: 5,
            status: -6,
            needs_reply: true,
            body: b"body",
        };
        let bytes = event.write_over(alloc::vec![0xff; 1000]);
        assert_eq!(Event::read(&bytes), Ok(event));
        assert_eq!(bytes.len(), size_of::<abi::Event>() + 4);
    }
}
