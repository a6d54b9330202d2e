//! What an instance is opened with.

use crate::read::{Malformed, Message};
use crate::write::Writer;
use alloc::vec::Vec;
use core::mem::offset_of;
use zepto_abi::plugin::{self as abi, MSG_OPEN};

/// Seeds that a reader takes from one message.
const SEEDS_READ_MAX: u32 = 1024;

/// What an instance is opened with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open<'a> {
    /// The host's minor version; its major one is the interface's.
    pub host_minor: u16,
    /// Capabilities granted, `CAP_*`.
    pub granted_caps: u64,
    /// Memory the instance may have, bytes; 0 is unlimited.
    pub mem_limit_bytes: u64,
    /// Time for one event, ns.
    pub event_budget_ns: u64,
    /// Bytes of the largest message either side may send.
    pub max_msg_bytes: u32,
    /// Nodes of the largest answer.
    pub max_nodes: u32,
    /// Which life of the node this is.
    pub incarnation: u64,
    /// Name of the instance.
    pub instance: &'a str,
    /// Text id of the node.
    pub node_id: &'a str,
    /// `host:port` at which others reach the node.
    pub address: &'a str,
    /// JSON, or empty.
    pub config: &'a str,
    /// The configured seeds, each `host:port`.
    pub seeds: Vec<&'a str>,
}

impl<'a> Open<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fields = Message::expect(bytes, MSG_OPEN)?;
        let seeds = fields.list(offset_of!(abi::Open, seeds), SEEDS_READ_MAX)?;
        Ok(Self {
            host_minor: fields
                .u32(offset_of!(abi::Open, host_minor))
                .try_into()
                .unwrap_or(u16::MAX),
            granted_caps: fields.u64(offset_of!(abi::Open, granted_caps)),
            mem_limit_bytes: fields.u64(offset_of!(abi::Open, mem_limit_bytes)),
            event_budget_ns: fields.u64(offset_of!(abi::Open, event_budget_ns)),
            max_msg_bytes: fields.u32(offset_of!(abi::Open, max_msg_bytes)),
            max_nodes: fields.u32(offset_of!(abi::Open, max_nodes)),
            incarnation: fields.u64(offset_of!(abi::Open, incarnation)),
            instance: fields.text(offset_of!(abi::Open, instance))?,
            node_id: fields.text(offset_of!(abi::Open, node_id))?,
            address: fields.text(offset_of!(abi::Open, address))?,
            config: fields.text(offset_of!(abi::Open, config))?,
            seeds: seeds.iter().map(|span| span.text(0)).collect::<Result<_, _>>()?,
        })
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(MSG_OPEN, size_of::<abi::Open>());
        writer.u32(offset_of!(abi::Open, host_major), abi::ABI_MAJOR.into());
        writer.u32(offset_of!(abi::Open, host_minor), self.host_minor.into());
        writer.u64(offset_of!(abi::Open, granted_caps), self.granted_caps);
        writer.u64(offset_of!(abi::Open, mem_limit_bytes), self.mem_limit_bytes);
        writer.u64(offset_of!(abi::Open, event_budget_ns), self.event_budget_ns);
        writer.u32(offset_of!(abi::Open, max_msg_bytes), self.max_msg_bytes);
        writer.u32(offset_of!(abi::Open, max_nodes), self.max_nodes);
        writer.u64(offset_of!(abi::Open, incarnation), self.incarnation);
        writer.bytes(offset_of!(abi::Open, instance), self.instance.as_bytes());
        writer.bytes(offset_of!(abi::Open, node_id), self.node_id.as_bytes());
        writer.bytes(offset_of!(abi::Open, address), self.address.as_bytes());
        writer.bytes(offset_of!(abi::Open, config), self.config.as_bytes());
        let stride = size_of::<abi::Span>();
        let first = writer.list(offset_of!(abi::Open, seeds), self.seeds.len(), stride);
        for (i, seed) in self.seeds.iter().enumerate() {
            writer.bytes(first + i * stride, seed.as_bytes());
        }
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let open = Open {
            host_minor: 3,
            granted_caps: abi::CAP_KV,
            mem_limit_bytes: 8 << 20,
            event_budget_ns: 50_000_000,
            max_msg_bytes: 4 << 20,
            max_nodes: 10_000,
            incarnation: 9,
            instance: "k8s",
            node_id: "zepto-0",
            address: "10.0.0.1:9000",
            config: "{}",
            seeds: alloc::vec!["a:1", "b:2"],
        };
        assert_eq!(Open::read(&open.write()), Ok(open));
    }
}
