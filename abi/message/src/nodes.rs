//! A discovery plugin's answer.

use crate::read::{Fields, List, Malformed, Message};
use crate::write::Writer;
use alloc::vec::Vec;
use core::mem::offset_of;
use zepto_abi::plugin::{self as abi, MSG_NODES, NODES_DELTA, NODES_FULL};

/// A list begins at a multiple of this.
const ALIGN: usize = 8;

/// What an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All nodes.
    Full,
    /// Nodes that came or changed, and the ids of those that went.
    Delta,
}

/// One node, as a plugin says it. Nothing of it is checked but that it is text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node<'a> {
    /// Text id.
    pub id: &'a str,
    /// IP address or DNS name.
    pub host: &'a str,
    /// JSON object, or empty.
    pub meta: &'a str,
    /// Higher wins for the same id; 0 when not known.
    pub incarnation: u64,
    /// 100 is ordinary; 0 when not known.
    pub weight: u32,
    /// Port of RPC and heartbeats.
    pub port: u16,
    /// One of `NODE_*`.
    pub state: u8,
}

/// An answer. The nodes are read one by one, as they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Nodes<'a> {
    /// Strictly increasing for each instance.
    pub revision: u64,
    /// What it holds.
    pub mode: Mode,
    nodes: List<'a>,
    removed: List<'a>,
}

impl<'a> Nodes<'a> {
    /// Reads an answer of at most so many nodes, and so many that went.
    ///
    /// # Errors
    /// When it is no such message, or has more.
    pub fn read(bytes: &'a [u8], most: u32) -> Result<Self, Malformed> {
        let fields = Message::expect(bytes, MSG_NODES)?;
        let mode = match fields.u32(offset_of!(abi::Nodes, mode)) {
            NODES_FULL => Mode::Full,
            NODES_DELTA => Mode::Delta,
            other => return Err(Malformed::Flags(other)),
        };
        Ok(Self {
            revision: fields.u64(offset_of!(abi::Nodes, revision)),
            mode,
            nodes: fields.list(offset_of!(abi::Nodes, nodes), most)?,
            removed: fields.list(offset_of!(abi::Nodes, removed), most)?,
        })
    }

    /// The nodes.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Result<Node<'a>, Malformed>> + use<'a> {
        self.nodes.iter().map(|fields| node(&fields))
    }

    /// The ids of the nodes that went.
    pub fn removed(&self) -> impl ExactSizeIterator<Item = Result<&'a str, Malformed>> + use<'a> {
        self.removed.iter().map(|span| span.text(0))
    }
}

fn node<'a>(fields: &Fields<'a>) -> Result<Node<'a>, Malformed> {
    let flags = fields.u8(offset_of!(abi::Node, flags));
    if flags != 0 {
        return Err(Malformed::Flags(flags.into()));
    }
    Ok(Node {
        id: fields.text(offset_of!(abi::Node, id))?,
        host: fields.text(offset_of!(abi::Node, host))?,
        meta: fields.text(offset_of!(abi::Node, meta))?,
        incarnation: fields.u64(offset_of!(abi::Node, incarnation)),
        weight: fields.u32(offset_of!(abi::Node, weight)),
        port: fields.u16(offset_of!(abi::Node, port)),
        state: fields.u8(offset_of!(abi::Node, state)),
    })
}

/// Writes an answer.
pub fn write_nodes(revision: u64, mode: Mode, nodes: &[Node<'_>], removed: &[&str]) -> Vec<u8> {
    // All at once: in a small memory, a buffer that doubles leaves holes that nothing fits into.
    let texts = nodes.iter().map(|node| node.id.len() + node.host.len() + node.meta.len());
    let texts: usize = texts.chain(removed.iter().map(|id| id.len())).sum();
    let lists = nodes.len() * size_of::<abi::Node>() + removed.len() * size_of::<abi::Span>();
    let buffer = Vec::with_capacity(size_of::<abi::Nodes>() + lists + texts + 2 * ALIGN);
    let mut writer = Writer::over(buffer, MSG_NODES, size_of::<abi::Nodes>());
    writer.u64(offset_of!(abi::Nodes, revision), revision);
    let mode = if mode == Mode::Full { NODES_FULL } else { NODES_DELTA };
    writer.u32(offset_of!(abi::Nodes, mode), mode);
    let stride = size_of::<abi::Node>();
    let first = writer.list(offset_of!(abi::Nodes, nodes), nodes.len(), stride);
    for (i, node) in nodes.iter().enumerate() {
        let at = first + i * stride;
        writer.bytes(at + offset_of!(abi::Node, id), node.id.as_bytes());
        writer.bytes(at + offset_of!(abi::Node, host), node.host.as_bytes());
        writer.bytes(at + offset_of!(abi::Node, meta), node.meta.as_bytes());
        writer.u64(at + offset_of!(abi::Node, incarnation), node.incarnation);
        writer.u32(at + offset_of!(abi::Node, weight), node.weight);
        writer.u16(at + offset_of!(abi::Node, port), node.port);
        writer.u8(at + offset_of!(abi::Node, state), node.state);
    }
    let stride = size_of::<abi::Span>();
    let first = writer.list(offset_of!(abi::Nodes, removed), removed.len(), stride);
    for (i, id) in removed.iter().enumerate() {
        writer.bytes(first + i * stride, id.as_bytes());
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: u32 = 100;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let full = Node {
            id: "a",
            host: "10.0.0.1",
            meta: "{\"rack\":1}",
            incarnation: 7,
            weight: 200,
            port: 9000,
            state: 2,
        };
        let plain = Node { id: "b", host: "b.example", port: 1, ..Node::default() };
        let bytes = write_nodes(3, Mode::Delta, &[full, plain], &["c", "dd"]);
        let nodes = Nodes::read(&bytes, MOST).unwrap();
        assert_eq!((nodes.revision, nodes.mode), (3, Mode::Delta));
        assert_eq!(nodes.nodes().collect::<Result<Vec<_>, _>>().unwrap(), [full, plain]);
        assert_eq!(nodes.removed().collect::<Result<Vec<_>, _>>().unwrap(), ["c", "dd"]);
    }

    #[test]
    fn a_million_nodes_are_refused_before_any_is_read() {
        let mut bytes = write_nodes(1, Mode::Full, &[], &[]);
        let at = offset_of!(abi::Nodes, nodes) + offset_of!(abi::List, count);
        bytes[at..at + 4].copy_from_slice(&1_000_000u32.to_le_bytes());
        let error = Nodes::read(&bytes, 10_000).unwrap_err();
        assert_eq!(error, Malformed::TooMany { count: 1_000_000, most: 10_000 });
        assert_eq!(error.status(), abi::PluginStatus::TooBig);
    }

    #[test]
    fn flags_and_modes_of_the_future_are_refused() {
        let written = write_nodes(1, Mode::Full, &[Node { id: "a", ..Node::default() }], &[]);
        let mut bytes = written.clone();
        bytes[offset_of!(abi::Nodes, mode)] = 2;
        assert_eq!(Nodes::read(&bytes, MOST).unwrap_err(), Malformed::Flags(2));
        let mut bytes = written;
        bytes[size_of::<abi::Nodes>() + offset_of!(abi::Node, flags)] = 1;
        let nodes = Nodes::read(&bytes, MOST).unwrap();
        assert_eq!(nodes.nodes().next().unwrap(), Err(Malformed::Flags(1)));
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_panics(at in 0usize..400, value in any::<u8>()) {
            let node = Node { id: "a", host: "h", port: 1, ..Node::default() };
            let mut bytes = write_nodes(3, Mode::Delta, &[node; 3], &["c"]);
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(nodes) = Nodes::read(&bytes, MOST) {
                prop_assert!(nodes.nodes().count() <= MOST as usize);
                nodes.nodes().for_each(drop);
                nodes.removed().for_each(drop);
            }
        }
    }
}
