//! Who a node is among those that gossip, and which of two lives of it counts.

use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use foca::Identity;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;
use zepto_sdk::abi::{HOST_BYTES, NODE_ID_BYTES};
use zepto_sdk::{is_host, is_node_id};

/// Bytes of memory that are reckoned for a member, and for each byte of its texts. It is in the
/// table, among the news for others, and in an answer, and tables grow by doubling.
const MEMBER_BYTES: u64 = 760;
const TEXT_COPIES: u64 = 6;

/// A text that is shared: every message, timer and member holds some. The hash is there because
/// foca looks for members one by one, and there may be thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    hash: u64,
    text: Option<Arc<str>>,
}

impl Text {
    pub fn as_str(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let shared = (!text.is_empty()).then(|| Arc::from(text));
        Self { hash: fnv(text.as_bytes()), text: shared }
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// FNV-1a: it keeps texts apart that differ by accident, not those that somebody has sought out.
pub fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer).map(Self::from)
    }
}

/// One life of a node. Two of the same id are ordered: the later one counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Text id of the node; empty for whoever is at an address.
    pub id: Text,
    /// Which life of the node.
    pub incarnation: u64,
    /// Which life in gossip within that: it is another after each start of this plugin, and after
    /// the others had given the node up.
    pub life: u64,
    /// Where it gossips.
    pub gossip: SocketAddr,
    /// Host of the node's own address; empty when it is the IP address that it gossips at.
    pub host: Text,
    /// Port of the node's own address.
    pub port: u16,
}

impl Peer {
    /// Whoever is at an address.
    pub fn at(gossip: SocketAddr) -> Self {
        Self { id: "".into(), incarnation: 0, life: 0, gossip, host: "".into(), port: 0 }
    }

    /// Whether it names no node.
    pub fn is_anyone(&self) -> bool {
        self.id.as_str().is_empty()
    }

    /// Bytes of memory that a member needs, at most.
    pub const COST_MAX: u64 = MEMBER_BYTES + TEXT_COPIES * (NODE_ID_BYTES + HOST_BYTES) as u64;

    /// Bytes of memory that it needs as a member.
    pub fn cost(&self) -> u64 {
        let texts = self.id.as_str().len() + self.host.as_str().len();
        MEMBER_BYTES + TEXT_COPIES * texts as u64
    }

    /// Host of the node's own address.
    pub fn host(&self) -> String {
        if self.host.as_str().is_empty() {
            self.gossip.ip().to_string()
        } else {
            self.host.to_string()
        }
    }

    /// Whether the node takes it in an answer: it refuses the whole answer for one that it does
    /// not, and anyone who reaches the socket can make one up.
    pub fn is_sound(&self) -> bool {
        let is_id = is_node_id(self.id.as_str());
        let host = self.host.as_str();
        is_id && is_reachable(self.gossip) && self.port != 0 && (host.is_empty() || is_host(host))
    }
}

/// Whether a datagram can be sent there, and reaches one machine.
pub fn is_reachable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

impl Identity for Peer {
    /// The hash of the id. Whoever makes up an id of the same hash could as well take the id.
    type Addr = u64;

    /// Never: foca would come back at once and every time. [`crate::swim::Swim`] does that itself,
    /// with a pause, so that two nodes with the same id do not drive each other out at full speed.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> u64 {
        self.id.hash
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self > other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: &str) -> Peer {
        Peer { id: id.into(), port: 9000, ..Peer::at("10.0.0.1:7946".parse().unwrap()) }
    }

    #[test]
    fn the_later_life_counts_wherever_it_is() {
        let old = Peer { incarnation: 5, life: 9, ..peer("a") };
        let restarted = Peer { incarnation: 6, ..Peer::at("10.0.0.9:7946".parse().unwrap()) };
        let restarted = Peer { id: "a".into(), port: 9000, ..restarted };
        let returned = Peer { life: 10, ..old.clone() };
        for (later, earlier) in [(&restarted, &old), (&returned, &old), (&restarted, &returned)] {
            assert!(later.win_addr_conflict(earlier) && !earlier.win_addr_conflict(later));
            assert_eq!(later.addr(), earlier.addr());
        }
    }

    #[test]
    fn what_the_node_would_refuse_is_not_sound() {
        assert!(peer("a").is_sound() && peer("ä.b_c").is_sound());
        for id in ["", "a b", "a\u{1b}[0m", &"x".repeat(NODE_ID_BYTES + 1)] {
            assert!(!peer(id).is_sound(), "{id:?}");
        }
        for host in ["a.example", "fd00::1", "localhost", "10.0.0.1", ""] {
            assert!(Peer { host: host.into(), ..peer("a") }.is_sound(), "{host:?}");
        }
        for host in ["..", "a b", "1.2.3", "-a", "a/b", &"a.".repeat(128), &"a".repeat(64)] {
            assert!(!Peer { host: host.into(), ..peer("a") }.is_sound(), "{host:?}");
        }
        assert!(!Peer { port: 0, ..peer("a") }.is_sound());
        for gossip in ["0.0.0.0:1", "10.0.0.1:0", "224.0.0.1:1", "255.255.255.255:1", "[::]:1"] {
            let gossip = gossip.parse().unwrap();
            assert!(!Peer { gossip, ..peer("a") }.is_sound(), "{gossip}");
        }
    }

    #[test]
    fn the_host_is_the_address_it_gossips_at_unless_it_says_another() {
        assert_eq!(peer("a").host(), "10.0.0.1");
        assert_eq!(Peer { host: "a.example".into(), ..peer("a") }.host(), "a.example");
    }
}
