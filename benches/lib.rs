//! What the benches share: a placement of a thousand nodes, and reproducible streams of symbols.
#![forbid(unsafe_code)]

use zepto_core::hash::mix;
use zepto_core::topology::{Command, Topology};
use zepto_core::view::View;
use zepto_core::{Incarnation, NodeId};

/// The topology of a cluster whose partitions are spread over `nodes` nodes.
pub fn topology(nodes: u32, bits: u8) -> Topology {
    let mut topology = Topology::empty();
    let mut index = 0;
    let mut apply = |topology: &mut Topology, command: &Command| {
        index += 1;
        topology.apply(index, 0, command);
    };
    apply(&mut topology, &Command::Bootstrap { cluster: 1, bits, copies: 1 });
    for node in 1..=nodes {
        let join = Command::Join {
            name: format!("n{node}"),
            incarnation: Incarnation(1),
            address: "127.0.0.1:1".into(),
            shards: 1,
            weight: 100,
            zone: String::new(),
        };
        apply(&mut topology, &join);
    }
    for node in (1..=nodes).map(NodeId) {
        apply(&mut topology, &Command::Activate { node, incarnation: Incarnation(1) });
    }
    // The first to be active got everything; spread it as its owner would.
    for (partition, assignment) in topology.placement.assignments.iter_mut().enumerate() {
        assignment.copies[0] = NodeId(mix(partition as u64) as u32 % nodes + 1);
    }
    topology
}

/// The view of [`topology`].
pub fn view(nodes: u32, bits: u8) -> View {
    View::compile(topology(nodes, bits).placement)
}

/// A reproducible stream of symbols below `symbols`, a power of two: uniform, or with half of
/// the ticks in one symbol of 64.
pub fn symbols(count: usize, symbols: u32, is_skewed: bool) -> Vec<u32> {
    (0..count as u64)
        .map(|i| {
            let draw = mix(i);
            let range = if is_skewed && draw & 1 == 0 { symbols / 64 } else { symbols };
            (draw >> 32) as u32 & (range.max(1) - 1)
        })
        .collect()
}
