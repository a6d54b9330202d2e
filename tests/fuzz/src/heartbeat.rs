//! Heartbeat packets: what is accepted is exactly what would have been sent.

use zepto_core::heartbeat::{Heartbeat, Trailer};
use zepto_core::{Incarnation, NodeId};

use crate::Target;

/// See the module.
pub const TARGET: Target =
    Target { name: "heartbeat", run, seeds, bytes_fixed: 0, bytes_per_byte: 0 };

/// Any bytes as a packet.
pub fn run(input: &[u8]) {
    if let Ok(heartbeat) = Heartbeat::decode(input) {
        let (packet, bytes) = heartbeat.encode();
        assert_eq!(&packet[..bytes], input);
        assert_ne!(heartbeat.node, NodeId(0));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let trailer = Trailer {
        incarnation: Incarnation(13),
        topology_index: 17,
        topology_hash: 19,
        mac: [23; 16],
    };
    let packet = |trailer| {
        let heartbeat = Heartbeat { node: NodeId(7), seq: 9, timestamp_ns: 11, trailer };
        let (packet, bytes) = heartbeat.encode();
        packet[..bytes].to_vec()
    };
    vec![packet(None), packet(Some(trailer))]
}
