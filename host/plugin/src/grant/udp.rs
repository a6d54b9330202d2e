//! Sockets that a plugin may have, and whom it may speak with.

use core::fmt;
use core::str::FromStr;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// One socket, and the networks it may exchange datagrams with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpGrant {
    /// The only address it may be bound to; port 0 allows every port of it.
    pub bind: SocketAddr,
    peers: Vec<IpNet>,
}

impl UdpGrant {
    /// Whether a socket may be bound there.
    pub fn allows_bind(&self, address: SocketAddr) -> bool {
        self.bind == address || (self.bind.port() == 0 && self.bind.ip() == address.ip())
    }

    /// Whether datagrams may be exchanged with an address.
    pub fn allows_peer(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.peers.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for UdpGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("grant udp={text}: {why}; write udp=bind 0.0.0.0:7946 peers 10.0.0.0/16")
        };
        let rest = text.strip_prefix("bind ").ok_or_else(|| wrong("no address to bind"))?;
        let (bind, peers) = rest.split_once(" peers ").ok_or_else(|| wrong("no networks"))?;
        let bind = bind.parse().map_err(|_| wrong("that is no IP address with a port"))?;
        let network = |text: &str| {
            let network =
                text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| wrong(&format!("{text:?} is no network")))
        };
        Ok(Self { bind, peers: peers.split(',').map(network).collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for UdpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers: Vec<String> = self.peers.iter().map(IpNet::to_string).collect();
        write!(f, "bind {} peers {}", self.bind, peers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_bound_and_speaks_where_it_may() {
        let grant: UdpGrant = "bind 127.0.0.1:0 peers 10.0.0.0/8,192.168.1.7".parse().unwrap();
        assert!(grant.allows_bind("127.0.0.1:7946".parse().unwrap()));
        assert!(!grant.allows_bind("0.0.0.0:7946".parse().unwrap()));
        for (address, may) in [
            ("10.1.2.3", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(grant.allows_peer(address.parse().unwrap()), may, "{address}");
        }
        let fixed: UdpGrant = "bind 127.0.0.1:1 peers ::/0".parse().unwrap();
        assert!(!fixed.allows_bind("127.0.0.1:2".parse().unwrap()));
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        for text in [
            "",
            "bind a:1 peers 10.0.0.0/8",
            "bind 1.2.3.4:5",
            "peers 10.0.0.0/8",
            "bind 1.2.3.4 peers 10.0.0.0/8",
            "bind 1.2.3.4:5 peers 10.0.0.0/40",
            "bind 1.2.3.4:5 peers ",
        ] {
            assert!(text.parse::<UdpGrant>().is_err(), "{text}");
        }
    }
}
