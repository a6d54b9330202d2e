//! What a handler asked for.

use crate::grant::UdpGrant;
use crate::http::Prepared;
use crate::vet::Answer;
use core::fmt;
use std::net::SocketAddr;

/// Something that the manager does once the handler has returned.
pub enum Effect {
    /// A discovery plugin's answer, checked.
    Nodes(Answer),
    /// The reply to a question.
    Reply {
        /// The question.
        token: u64,
        /// Zero, or why not.
        status: i32,
        /// The answer, not checked.
        bytes: Vec<u8>,
    },
    /// A timer is set.
    Timer {
        /// Its id.
        id: u64,
        /// Time until it runs out, ns.
        delay_ns: u64,
        /// Time until it does so again, ns; 0 is never.
        period_ns: u64,
    },
    /// A timer, request or socket is given up.
    Cancel(u64),
    /// A request is to be made.
    Http {
        /// Its token.
        token: u64,
        /// What and where.
        request: Box<Prepared>,
    },
    /// A socket is to be bound.
    Bind {
        /// Its token.
        token: u64,
        /// Where.
        address: SocketAddr,
        /// Whom it speaks with.
        grant: UdpGrant,
    },
    /// A datagram is to be sent.
    Send {
        /// The socket's token.
        token: u64,
        /// To whom.
        to: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl Effect {
    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Nodes(answer) => answer.len(),
            Self::Reply { bytes, .. } | Self::Send { bytes, .. } => bytes.len(),
            Self::Http { request, .. } => request.bytes(),
            Self::Timer { .. } | Self::Cancel(_) | Self::Bind { .. } => 0,
        }
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(answer) => write!(f, "nodes of revision {}", answer.revision()),
            Self::Reply { token, status, bytes } => {
                write!(f, "reply {token:#x}: {status}, {} bytes", bytes.len())
            }
            Self::Timer { id, delay_ns, period_ns } => {
                write!(f, "timer {id} in {delay_ns} ns, every {period_ns} ns")
            }
            Self::Cancel(token) => write!(f, "cancel {token:#x}"),
            Self::Http { token, request } => write!(f, "http {token:#x}: {request:?}"),
            Self::Bind { token, address, .. } => write!(f, "bind {token:#x}: {address}"),
            Self::Send { token, to, bytes } => {
                write!(f, "send {token:#x}: {} bytes to {to}", bytes.len())
            }
        }
    }
}
