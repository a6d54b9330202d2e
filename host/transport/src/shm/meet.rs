//! The meeting: how two processes of one user get a lane and a bell between them.
//!
//! A receiver opens a [`Door`], an abstract unix socket, under a name that nobody can guess and
//! that peers learn over an authenticated channel. A sender calls [`meet`] with it. One message
//! goes each way: the sender's slots with its request, the receiver's credit and bell with its
//! answer. The lane needs the socket no more; both keep it, silent, because the kernel ends it when
//! either process dies. Nothing has a name on disk.
//!
//! Invariant: one visitor delays no other. Those who have not spoken stand in a bounded list, are
//! waited for together, and each is sent away when its own time is over. Lacks encryption and
//! passwords: the kernel vouches for the user at the other end.
//!
//! Everything here blocks up to the given time-out: never call it on the tick path.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use zepto_core::limits::{KNOCK_TIMEOUT_MS, KNOCKS_MAX, MEET_BYTES_MAX};

use super::Shm;
use super::message::{self, AnswerMessage, KnockMessage};
use crate::bell::Bell;
use crate::mailbox::{LaneError, LaneSpec, Offer, Receiver, Sender};
use crate::transport::TransportError;

/// Connections that the kernel holds until the door looks at them.
const BACKLOG: i32 = 128;
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

/// Visitors that a door has sent away, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Ran under another user.
    pub foreign: u64,
    /// Left, or said nothing in time.
    pub silent: u64,
    /// Sent something that is no knock.
    pub malformed: u64,
    /// Could not be let in for want of descriptors here.
    pub exhausted: u64,
}

/// A listening abstract socket. One thread at a time.
pub struct Door {
    listener: OwnedFd,
    visitors: Vec<Visitor>,
    counts: DoorCounts,
}

/// Somebody who has connected and not spoken yet.
struct Visitor {
    socket: OwnedFd,
    until: Instant,
}

impl Door {
    /// Opens a door. The name should hold 128 random bits; it vanishes with the process.
    ///
    /// # Errors
    /// [`MeetError::Name`] and [`MeetError::Os`]; nothing remains.
    pub fn bind(name: &str) -> Result<Self, MeetError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket(flags)?;
        let bad_name = |errno: Errno| MeetError::Name { name: name.into(), source: errno.into() };
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(bad_name)?;
        rustix::net::bind(&listener, &address).map_err(bad_name)?;
        rustix::net::listen(&listener, BACKLOG).map_err(MeetError::os("listen"))?;
        Ok(Self { listener, visitors: Vec::new(), counts: DoorCounts::default() })
    }

    /// Waits for a visitor who says what it wants; `None` when the time is over. Whoever says
    /// nothing in [`KNOCK_TIMEOUT_MS`], or nonsense, or is of another user, is sent away and
    /// counted.
    ///
    /// # Errors
    /// [`MeetError::Os`] when the system cannot wait at all; the door stays open.
    pub fn accept(&mut self, timeout: Duration) -> Result<Option<Knock>, MeetError> {
        let until = now() + timeout;
        // Without descriptors an accept fails at once and for as long as none is freed: the rest
        // of this call then only serves those who are in.
        let mut is_listening = true;
        loop {
            let ready = self.wait(until, is_listening)?;
            for index in ready.visitors.into_iter().rev() {
                let Visitor { socket, .. } = self.visitors.swap_remove(index);
                if let Some(knock) = self.hear(socket) {
                    return Ok(Some(knock));
                }
            }
            if ready.listener {
                is_listening = self.let_in()?;
            }
            let now = now();
            let before = self.visitors.len();
            self.visitors.retain(|visitor| visitor.until > now);
            self.counts.silent += (before - self.visitors.len()) as u64;
            if now >= until {
                return Ok(None);
            }
        }
    }

    /// Who was sent away since the door was opened.
    pub fn counts(&self) -> DoorCounts {
        self.counts
    }

    /// Waits until somebody comes or speaks, or some time-out is due.
    fn wait(&self, until: Instant, is_listening: bool) -> Result<Ready, MeetError> {
        let until = self.visitors.iter().map(|visitor| visitor.until).fold(until, Instant::min);
        let mut fds: Vec<PollFd<'_>> = self
            .visitors
            .iter()
            .map(|visitor| PollFd::new(&visitor.socket, PollFlags::IN))
            .collect();
        if is_listening && self.visitors.len() < KNOCKS_MAX {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        poll(&mut fds, until)?;
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let listener = fds.get(self.visitors.len()).is_some_and(is_ready);
        let visitors =
            (0..self.visitors.len()).filter(|&index| fds.get(index).is_some_and(is_ready));
        Ok(Ready { visitors: visitors.collect(), listener })
    }

    /// Accepts one connection; false when this process has no descriptor for it.
    fn let_in(&mut self) -> Result<bool, MeetError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) if check_user(socket.as_fd()).is_ok() => {
                let until = now() + Duration::from_millis(KNOCK_TIMEOUT_MS);
                self.visitors.push(Visitor { socket, until });
            }
            Ok(_foreign) => self.counts.foreign += 1,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.counts.exhausted += 1;
                return Ok(false);
            }
            // It left before we looked.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => (),
            Err(errno) => return Err(MeetError::os("accept")(errno)),
        }
        Ok(true)
    }

    /// Reads what a visitor has to say.
    fn hear(&mut self, socket: OwnedFd) -> Option<Knock> {
        match Knock::receive(socket) {
            Ok(knock) => Some(knock),
            Err(MeetError::Closed) => {
                self.counts.silent += 1;
                None
            }
            Err(_told) => {
                self.counts.malformed += 1;
                None
            }
        }
    }
}

struct Ready {
    visitors: Vec<usize>,
    listener: bool,
}

/// A visitor with a lane to offer. Dropping it closes the connection without a word.
#[derive(Debug)]
pub struct Knock {
    socket: OwnedFd,
    slots: OwnedFd,
    message: KnockMessage,
}

impl Knock {
    /// Nonce and capacity of the lane offered.
    pub fn spec(&self) -> LaneSpec {
        self.message.spec
    }

    /// What the visitor asks for; its bytes are not checked here.
    pub fn request(&self) -> &[u8] {
        &self.message.request
    }

    /// Takes the lane: maps the visitor's slots, checks them, and sends credit, bell and answer.
    ///
    /// # Errors
    /// [`MeetError::Lane`] if the slots are unusable, which the visitor is told;
    /// [`MeetError::Closed`] if it has left; [`MeetError::TooLong`]. Nothing remains.
    pub fn accept(self, bell: &Bell, answer: &[u8]) -> Result<Met, MeetError> {
        check_length(answer)?;
        let Self { socket, slots, message } = self;
        let (receiver, credit) = match open_receiver(slots, message.spec) {
            Ok(opened) => opened,
            Err(error) => {
                // Its going away too would add nothing to the error that we return.
                refuse(socket.as_fd(), REFUSED_UNUSABLE, &error.to_string()).ok();
                return Err(error);
            }
        };
        let answer = AnswerMessage { status: 0, body: answer.to_vec() }.encode();
        message::send(socket.as_fd(), &answer, &[credit.as_fd(), bell.as_fd()])?;
        Ok(Met { receiver, peer: socket })
    }

    /// Sends the visitor away. The text is cut to what a meeting carries.
    ///
    /// # Errors
    /// [`MeetError::Closed`] if it has left already; [`MeetError::Malformed`] for reason 0, which
    /// would mean accepted.
    pub fn refuse(self, reason: u16, text: &str) -> Result<(), MeetError> {
        if reason == 0 {
            return Err(MeetError::Malformed { what: "0 is no reason for a refusal" });
        }
        refuse(self.socket.as_fd(), reason, text)
    }

    /// Reads the knock that is waiting in the socket.
    fn receive(socket: OwnedFd) -> Result<Self, MeetError> {
        let result = message::receive(socket.as_fd()).and_then(|(bytes, descriptors)| {
            let message = KnockMessage::decode(&bytes)?;
            Ok((message, message::exactly::<1>(descriptors)?))
        });
        match result {
            Ok((message, [slots])) => Ok(Self { socket, slots, message }),
            Err(error) => {
                if !matches!(error, MeetError::Closed) {
                    // Telling it is a courtesy; it may be gone.
                    refuse(socket.as_fd(), REFUSED_UNUSABLE, &error.to_string()).ok();
                }
                Err(error)
            }
        }
    }
}

/// What a receiver brings home from a meeting.
pub struct Met {
    /// Its end of the lane.
    pub receiver: Receiver<Shm>,
    /// The socket they met over. Nothing more is said there: it becomes readable when the sender's
    /// process ends or drops its end, and that is how the receiver learns of it.
    pub peer: OwnedFd,
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

fn open_receiver(slots: OwnedFd, spec: LaneSpec) -> Result<(Receiver<Shm>, OwnedFd), MeetError> {
    let (mut receiver, credit) = Receiver::accept(&Shm, slots, spec)?;
    if !receiver.open()? {
        return Err(MeetError::Malformed { what: "the slots have no header" });
    }
    Ok((receiver, credit))
}

fn refuse(socket: BorrowedFd<'_>, reason: u16, text: &str) -> Result<(), MeetError> {
    let body = text.as_bytes().iter().copied().take(MEET_BYTES_MAX).collect();
    message::send(socket, &AnswerMessage { status: reason, body }.encode(), &[])
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, MeetError> {
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

fn check_user(socket: BorrowedFd<'_>) -> Result<(), MeetError> {
    let found = message::peer_uid(socket)?;
    let ours = rustix::process::geteuid().as_raw();
    if found != ours {
        return Err(MeetError::Foreign { found, ours });
    }
    Ok(())
}

fn check_length(bytes: &[u8]) -> Result<(), MeetError> {
    if bytes.len() > MEET_BYTES_MAX {
        return Err(MeetError::TooLong { bytes: bytes.len(), bytes_max: MEET_BYTES_MAX });
    }
    Ok(())
}

/// Waits for any of the descriptors; false when the time is over or a signal came.
fn poll(fds: &mut [PollFd<'_>], until: Instant) -> Result<bool, MeetError> {
    let timeout = Timespec::try_from(until.saturating_duration_since(now())).ok();
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(MeetError::os("poll")(errno)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the meeting is a real edge, and never simulated")]
fn now() -> Instant {
    Instant::now()
}
