//! One port number for both: TCP for requests, UDP for heartbeats.
//!
//! Either both sockets are bound to the same port or none is. Made for the start of a process: a
//! name is resolved in the calling thread.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Attempts to find a port that is free for both protocols.
const ATTEMPTS_MAX: usize = 64;
/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// Why a port could not be bound. Nothing is left bound.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The text is no address. Correct it.
    #[error(
        "cannot listen on {address}: {text}; write HOST:PORT, such as 127.0.0.1:9000 or [::1]:9000"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        text: String,
    },
    /// Somebody else has the port.
    #[error(
        "port {} of {} is in use by another process ({protocol}); choose another --listen",
        .address.port(),
        .address.ip()
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// "tcp" or "udp".
        protocol: &'static str,
    },
    /// The address belongs to another machine.
    #[error("{} is not an address of this machine; choose another --listen", .address.ip())]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// A port that only privileged processes may bind.
    #[error("port {} needs privileges; choose one above 1023 for --listen", .address.port())]
    Denied {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else the operating system says.
    #[error("cannot listen on {address} ({protocol}): {source}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// "tcp" or "udp".
        protocol: &'static str,
        /// What it says.
        source: io::Error,
    },
}

/// Two sockets with one port, both non-blocking.
#[derive(Debug)]
pub struct Bound {
    /// Listens. `tokio::net::TcpListener::from_std` takes it inside a runtime.
    pub tcp: TcpListener,
    /// For heartbeats.
    pub udp: UdpSocket,
    /// The address of both, with the port that was chosen.
    pub address: SocketAddr,
}

/// Binds TCP and UDP to `address`: `127.0.0.1:9000`, `[::1]:0` or `host:9000`. Port 0 chooses one
/// that is free for both. Of a name's addresses, the first that can be bound is taken.
pub fn bind(address: &str) -> Result<Bound, BindError> {
    let invalid = |text: String| BindError::Address { address: address.to_owned(), text };
    let candidates = address.to_socket_addrs().map_err(|error| invalid(error.to_string()))?;
    let mut last = None;
    for candidate in candidates {
        match bind_both(candidate) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| invalid("the name has no address".to_owned())))
}

fn bind_both(wanted: SocketAddr) -> Result<Bound, BindError> {
    let mut attempt = 1;
    loop {
        let tcp = listen(wanted).map_err(|error| explain(wanted, "tcp", error))?;
        let address = tcp.local_addr().map_err(|error| explain(wanted, "tcp", error))?;
        match datagram(address) {
            Ok(udp) => return Ok(Bound { tcp, udp, address }),
            // Free for TCP, taken for UDP: the next attempt gets another port.
            Err(error)
                if wanted.port() == 0
                    && error.kind() == ErrorKind::AddrInUse
                    && attempt < ATTEMPTS_MAX =>
            {
                attempt += 1;
            }
            Err(error) => return Err(explain(address, "udp", error)),
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node takes its port back while old connections still time out.
    socket.set_reuse_address(true)?;
    prepare(&socket, address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn datagram(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    prepare(&socket, address)?;
    Ok(socket.into())
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        // The same meaning whatever the machine's default is: an IPv6 address is IPv6 only,
        // except that [::] takes both.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())
}

fn explain(address: SocketAddr, protocol: &'static str, source: io::Error) -> BindError {
    match source.kind() {
        ErrorKind::AddrInUse => BindError::InUse { address, protocol },
        ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
        ErrorKind::PermissionDenied => BindError::Denied { address },
        _ => BindError::Io { address, protocol, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_and_udp_get_the_same_port_on_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
            let bound = bind(address).expect(address);
            assert_ne!(bound.address.port(), 0);
            assert_eq!(bound.tcp.local_addr().expect("bound"), bound.address);
            assert_eq!(bound.udp.local_addr().expect("bound"), bound.address);
        }
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do() {
        let first = bind("127.0.0.1:0").expect("free");
        let port = first.address.port();
        let error = bind(&format!("127.0.0.1:{port}")).expect_err("taken").to_string();
        let expected = format!(
            "port {port} of 127.0.0.1 is in use by another process (tcp); choose another --listen"
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn a_port_taken_for_udp_alone_is_refused_too_and_leaves_nothing_bound() {
        // A port that was free for both a moment ago.
        let Bound { udp, address, .. } = bind("127.0.0.1:0").expect("free");
        let error = bind(&address.to_string()).expect_err("taken");
        assert!(matches!(error, BindError::InUse { protocol: "udp", .. }), "{error}");
        drop(udp);
        bind(&address.to_string()).expect("free again, so TCP was not left bound");
    }

    #[test]
    fn addresses_that_cannot_be_bound_say_why() {
        let cases = [
            ("192.0.2.1:0", "192.0.2.1 is not an address of this machine"),
            ("nonsense", "cannot listen on nonsense"),
            ("127.0.0.1", "write HOST:PORT"),
            ("127.0.0.1:70000", "cannot listen on 127.0.0.1:70000"),
        ];
        for (address, text) in cases {
            let error = bind(address).expect_err(address).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
