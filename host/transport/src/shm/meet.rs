//! The meeting: how two processes of one user get a lane and a bell between them.
//!
//! A receiver opens a [`Door`](super::Door), an abstract unix socket, under a name that nobody can
//! guess and that peers learn over an authenticated channel. A sender calls [`meet`] with it. One
//! message goes each way: the sender's slots with its request, the receiver's credit and bell with
//! its answer. The lane needs the socket no more; both keep it, silent, because the kernel ends it
//! when either process dies. Nothing has a name on disk.
//!
//! Here are the errors, the sender's side, and what both sides share. Invariant: whatever goes
//! wrong, each side has closed what it received. Everything blocks up to the given time-out: never
//! call it on the tick path.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use zepto_core::limits::MEET_BYTES_MAX;

use super::Shm;
use super::message::{self, AnswerMessage, KnockMessage};
use crate::bell::Bell;
use crate::mailbox::{LaneError, LaneSpec, Offer, Sender};
use crate::transport::TransportError;

/// The reason given to a visitor whose segment or message is unusable. Every other reason is the
/// application's.
pub const REFUSED_UNUSABLE: u16 = u16::MAX;

/// Why two processes did not meet. In every case each side has closed whatever it received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeetError {
    /// The name cannot be one of an abstract socket, or is taken. Choose another.
    #[error("cannot open a door named {name:?}: {source}")]
    Name {
        /// The name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody listens under that name. Ask the peer for its name again.
    #[error("nobody is behind that door")]
    Absent,
    /// The peer runs under another user. Do not retry.
    #[error("the peer runs under user {found}, we under {ours}")]
    Foreign {
        /// The peer's effective user id.
        found: u32,
        /// Ours.
        ours: u32,
    },
    /// The peer did not answer in time. It may still do so; a retry takes a fresh nonce.
    #[error("no answer in time")]
    Deadline,
    /// The peer closed the connection without a word. Retry if it may have restarted.
    #[error("the peer closed the connection")]
    Closed,
    /// A request or an answer is longer than the limit. Nothing was sent.
    #[error("{bytes} bytes are more than the {bytes_max} of a meeting")]
    TooLong {
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// The peer sent something that is no message. Do not retry.
    #[error("malformed message: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The peer speaks another version.
    #[error("the peer speaks version {found} of the meeting, we speak {ours}")]
    Version {
        /// The peer's.
        found: u16,
        /// Ours.
        ours: u16,
    },
    /// The peer said no.
    #[error("refused with reason {reason}: {text}")]
    Refused {
        /// A code of the application's, or [`REFUSED_UNUSABLE`].
        reason: u16,
        /// For people.
        text: String,
    },
    /// The lane could not be made, or the peer's memory is not a lane's.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The operating system refused a call. Retry if `source` is transient.
    #[error("{call}: {source}")]
    Os {
        /// The call.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl MeetError {
    pub(super) fn os(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Os { call, source: errno.into() }
    }
}

impl From<TransportError> for MeetError {
    fn from(error: TransportError) -> Self {
        Self::Lane(error.into())
    }
}

/// What a sender brings home from a meeting.
pub struct Meeting {
    /// Its end of the lane.
    pub sender: Sender<Shm>,
    /// Rung when the sender's `publish` says so.
    pub bell: Bell,
    /// The receiver's answer; its bytes are not checked here.
    pub answer: Vec<u8>,
    /// The socket they met over: readable when the receiver's process ends or drops its end.
    pub peer: OwnedFd,
}

/// Knocks at a door and offers a lane. Blocks up to `timeout`.
///
/// # Errors
/// [`MeetError`]; nothing remains on this side. After [`MeetError::Deadline`] the receiver may
/// still hold its end of a lane whose sender is gone.
pub fn meet(
    name: &str,
    spec: LaneSpec,
    request: &[u8],
    timeout: Duration,
) -> Result<Meeting, MeetError> {
    check_length(request)?;
    let until = now() + timeout;
    let (offer, slots) = Sender::offer(&Shm, spec)?;
    let socket = connect(name, timeout)?;
    check_user(socket.as_fd())?;
    let knock = KnockMessage { spec, request: request.to_vec() }.encode();
    message::send(socket.as_fd(), &knock, &[slots.as_fd()])?;
    drop(slots);
    loop {
        let mut fds = [PollFd::new(&socket, PollFlags::IN)];
        if poll(&mut fds, until)? {
            break;
        }
        if now() >= until {
            return Err(MeetError::Deadline);
        }
    }
    let (bytes, descriptors) = message::receive(socket.as_fd())?;
    finish(offer, AnswerMessage::decode(&bytes)?, descriptors, socket)
}

fn finish(
    offer: Offer<Shm>,
    answer: AnswerMessage,
    descriptors: Vec<OwnedFd>,
    peer: OwnedFd,
) -> Result<Meeting, MeetError> {
    let AnswerMessage { status, body } = answer;
    if status != 0 {
        let text = String::from_utf8_lossy(&body).into_owned();
        return Err(MeetError::Refused { reason: status, text });
    }
    let [credit, bell] = message::exactly(descriptors)?;
    let bell = Bell::from_fd(bell)?;
    let mut sender = offer.complete(&Shm, credit)?;
    if !sender.open()? {
        return Err(MeetError::Malformed { what: "the credit has no header" });
    }
    Ok(Meeting { sender, bell, answer: body, peer })
}

pub(super) fn socket(flags: SocketFlags) -> Result<OwnedFd, MeetError> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(MeetError::os("socket"))
}

fn connect(name: &str, timeout: Duration) -> Result<OwnedFd, MeetError> {
    let socket = socket(SocketFlags::CLOEXEC)?;
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())
        .map_err(|errno| MeetError::Name { name: name.into(), source: errno.into() })?;
    // Connecting waits while the door's backlog is full; zero would mean for ever.
    let timeout = timeout.max(Duration::from_millis(1));
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))
        .map_err(MeetError::os("setsockopt(SO_SNDTIMEO)"))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(socket),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Err(MeetError::Absent),
        Err(Errno::AGAIN | Errno::INTR) => Err(MeetError::Deadline),
        Err(errno) => Err(MeetError::os("connect")(errno)),
    }
}

pub(super) fn check_user(socket: BorrowedFd<'_>) -> Result<(), MeetError> {
    let found = message::peer_uid(socket)?;
    let ours = rustix::process::geteuid().as_raw();
    if found != ours {
        return Err(MeetError::Foreign { found, ours });
    }
    Ok(())
}

pub(super) fn check_length(bytes: &[u8]) -> Result<(), MeetError> {
    if bytes.len() > MEET_BYTES_MAX {
        return Err(MeetError::TooLong { bytes: bytes.len(), bytes_max: MEET_BYTES_MAX });
    }
    Ok(())
}

/// Waits for any of the descriptors; false when the time is over or a signal came.
pub(super) fn poll(fds: &mut [PollFd<'_>], until: Instant) -> Result<bool, MeetError> {
    let timeout = Timespec::try_from(until.saturating_duration_since(now())).ok();
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(MeetError::os("poll")(errno)),
    }
}

#[expect(clippy::disallowed_methods, reason = "for real edges, which are never simulated")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
