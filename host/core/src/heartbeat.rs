//! The heartbeat packet: 24 bytes that every version understands, and a 40-byte trailer.
//!
//! | offset | field | |
//! |---|---|---|
//! | 0 | magic u32 | 0x41504558 |
//! | 4 | node u32 | sender's id, issued by the log |
//! | 8 | seq u64 | grows by one per packet and incarnation |
//! | 16 | timestamp u64 | sender's wall clock, ns since the Unix epoch; read for skew only |
//! | 24 | incarnation u64 | which life of the sender |
//! | 32 | topology index u64 | what the sender has installed; a higher one: ask the log |
//! | 40 | topology hash u64 | equal index, other hash: the sender's state is not ours |
//! | 48 | MAC, 16 bytes | zero without a cluster secret |
//!
//! Little-endian. A bare 24-byte packet shows contact, never readiness; where there is a cluster
//! secret it shows nothing. The code is made and checked by whoever has the keys, over the encoded
//! bytes; here it is 16 bytes like any others.

use zepto_abi::{Incarnation, NodeId};

/// First word of every heartbeat.
pub const MAGIC: u32 = 0x4150_4558;
/// Bytes of a bare packet.
pub const BARE_BYTES: usize = 24;
/// Bytes of a packet with its trailer.
pub const BYTES: usize = 64;
/// Where the authentication code begins; it is over all bytes before it.
pub const MAC_OFFSET: usize = 48;

/// What a node says about itself, several times a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Sender.
    pub node: NodeId,
    /// Packet number within the incarnation.
    pub seq: u64,
    /// Sender's wall clock in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// What only a whole packet says.
    pub trailer: Option<Trailer>,
}

/// The part that shows readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Sender's incarnation.
    pub incarnation: Incarnation,
    /// Topology index the sender has installed.
    pub topology_index: u64,
    /// Hash of that topology.
    pub topology_hash: u64,
    /// Authentication code; zero without a cluster secret.
    pub mac: [u8; 16],
}

/// Bytes that are no heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatError {
    /// Neither 24 nor 64 bytes.
    #[error("a heartbeat is 24 or 64 bytes, this packet has {0}")]
    Length(usize),
    /// Another protocol's packet.
    #[error("magic {0:#010x} is not a heartbeat's")]
    Magic(u32),
    /// Id zero is nobody's.
    #[error("node id 0 sends no heartbeats")]
    Nobody,
}

impl Heartbeat {
    /// The packet; 24 bytes of it count when there is no trailer.
    pub fn encode(&self) -> ([u8; BYTES], usize) {
        let mut bytes = [0; BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.timestamp_ns.to_le_bytes());
        let Some(trailer) = &self.trailer else { return (bytes, BARE_BYTES) };
        bytes[24..32].copy_from_slice(&trailer.incarnation.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&trailer.topology_index.to_le_bytes());
        bytes[40..48].copy_from_slice(&trailer.topology_hash.to_le_bytes());
        bytes[MAC_OFFSET..].copy_from_slice(&trailer.mac);
        (bytes, BYTES)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// Any other length, magic or a zero node id; nothing else can be wrong with bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeartbeatError> {
        let trailer = match bytes.len() {
            BARE_BYTES => None,
            BYTES => Some(Trailer {
                incarnation: Incarnation(word(bytes, 24)),
                topology_index: word(bytes, 32),
                topology_hash: word(bytes, 40),
                mac: core::array::from_fn(|i| bytes[MAC_OFFSET + i]),
            }),
            length => return Err(HeartbeatError::Length(length)),
        };
        let magic = word(bytes, 0) as u32;
        if magic != MAGIC {
            return Err(HeartbeatError::Magic(magic));
        }
        let node = NodeId((word(bytes, 0) >> 32) as u32);
        if node == NodeId(0) {
            return Err(HeartbeatError::Nobody);
        }
        Ok(Self { node, seq: word(bytes, 8), timestamp_ns: word(bytes, 16), trailer })
    }
}

/// The little-endian word at an offset; the caller has checked the length.
fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(core::array::from_fn(|i| bytes[offset + i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(trailer: bool) -> Heartbeat {
        Heartbeat {
            node: NodeId(7),
            seq: 9,
            timestamp_ns: 11,
            trailer: trailer.then_some(Trailer {
                incarnation: Incarnation(13),
                topology_index: 17,
                topology_hash: 19,
                mac: [23; 16],
            }),
        }
    }

    #[test]
    fn both_packets_come_back_and_the_first_24_bytes_are_the_same() {
        let ((bare, 24), (whole, 64)) = (sample(false).encode(), sample(true).encode()) else {
            panic!("lengths")
        };
        assert_eq!(bare[..24], whole[..24]);
        assert_eq!(&bare[..4], b"XEPA");
        assert_eq!(Heartbeat::decode(&bare[..24]), Ok(sample(false)));
        assert_eq!(Heartbeat::decode(&whole), Ok(sample(true)));
    }

    #[test]
    fn every_other_length_is_refused() {
        let (whole, _) = sample(true).encode();
        for length in (0..64).filter(|length| *length != 24) {
            let refused = Heartbeat::decode(&whole[..length]);
            assert_eq!(refused, Err(HeartbeatError::Length(length)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_heartbeat_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok(heartbeat) = Heartbeat::decode(&bytes) {
                let (again, length) = heartbeat.encode();
                prop_assert_eq!(&again[..length], &bytes[..]);
            }
        }
    }
}
