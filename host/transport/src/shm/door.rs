//! The door: the receiver's side of a [meeting](super::meet).
//!
//! Invariant: one visitor delays no other. Those who have not spoken stand in a bounded list, are
//! waited for together, and each is sent away when its own time is over. Lacks encryption and
//! passwords: the kernel vouches for the user at the other end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags};
use zepto_core::limits::{KNOCK_TIMEOUT_MS, KNOCKS_MAX, MEET_BYTES_MAX};

use super::Shm;
use super::meet::{MeetError, REFUSED_UNUSABLE, check_length, check_user, now, poll, socket};
use super::message::{self, AnswerMessage, KnockMessage};
use crate::bell::Bell;
use crate::mailbox::{LaneSpec, Receiver};

/// Connections that the kernel holds until the door looks at them.
const BACKLOG: i32 = 128;
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
