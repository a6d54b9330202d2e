//! The doorbell: an eventfd that wakes a receiver which sleeps.
//!
//! One bell serves every lane of a receiver, and its senders hold duplicates of the descriptor.
//! Ringing never waits and a ring is never lost: it stays until [`Bell::clear`]. How a lane
//! decides that a ring is due is told in [`mailbox`](crate::mailbox).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::transport::TransportError;

/// An eventfd. `Send` and `Sync`; every method may be called from any thread.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
}

impl Bell {
    /// A bell that has not rung.
    ///
    /// # Errors
    /// [`TransportError::Os`] when the process has no descriptor left.
    pub fn new() -> Result<Self, TransportError> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(TransportError::os("eventfd"))?;
        Ok(Self { fd })
    }

    /// A peer's bell. The descriptor is proved to be an eventfd and made non-blocking, so that
    /// ringing it cannot wait for the peer.
    ///
    /// # Errors
    /// [`TransportError::NotABell`]; the descriptor is closed.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TransportError> {
        use std::os::fd::AsRawFd;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map_err(|source| TransportError::Os { call: "readlink", source })?;
        if link.as_os_str() != "anon_inode:[eventfd]" {
            return Err(TransportError::NotABell);
        }
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(TransportError::os("fcntl(F_GETFL)"))?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
            .map_err(TransportError::os("fcntl(F_SETFL)"))?;
        Ok(Self { fd })
    }

    /// A second handle of the same bell.
    ///
    /// # Errors
    /// [`TransportError::Os`] when the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self, TransportError> {
        let fd = self.fd.try_clone();
        Ok(Self { fd: fd.map_err(|source| TransportError::Os { call: "dup", source })? })
    }

    /// Wakes whoever waits, now or at the next [`wait`](Bell::wait). One system call, never waits.
    ///
    /// # Errors
    /// None that a working peer can cause; the sleeper then wakes at its time-out.
    pub fn ring(&self) -> io::Result<()> {
        match rustix::io::write(&self.fd, &1u64.to_ne_bytes()) {
            // A saturated counter means that it has rung long since.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sleeps until the bell rings or the time is over; true if it has rung. May return early
    /// with `false` when a signal arrives. Does not clear the bell.
    ///
    /// # Errors
    /// The system's, when it cannot wait at all.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        // Too long for the kernel's clock is as good as for ever.
        let timeout = Timespec::try_from(timeout).ok();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the ring away; true if there was one. Clear first, then look at the lanes, else a
    /// ring in between would be lost.
    ///
    /// # Errors
    /// The system's, when the descriptor cannot be read.
    pub fn clear(&self) -> io::Result<bool> {
        match rustix::io::read(&self.fd, &mut [0u8; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_stays_until_it_is_cleared() {
        let bell = Bell::new().unwrap();
        assert!(!bell.wait(Duration::ZERO).unwrap());
        bell.ring().unwrap();
        bell.try_clone().unwrap().ring().unwrap();
        assert!(bell.wait(Duration::from_secs(10)).unwrap());
        assert!(bell.wait(Duration::ZERO).unwrap(), "waiting does not clear");
        assert!(bell.clear().unwrap());
        assert!(!bell.clear().unwrap(), "one clear takes every ring");
        assert!(!bell.wait(Duration::ZERO).unwrap());
    }

    #[test]
    fn a_saturated_bell_does_not_block_whoever_rings() {
        let bell = Bell::new().unwrap();
        rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        bell.ring().unwrap();
        assert!(bell.clear().unwrap());
    }

    #[test]
    fn a_pipe_is_no_bell() {
        let (_reader, writer) = std::io::pipe().unwrap();
        assert!(matches!(Bell::from_fd(writer.into()), Err(TransportError::NotABell)));
    }

    #[test]
    fn a_blocking_eventfd_of_a_peer_is_made_non_blocking() {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let bell = Bell::from_fd(fd).unwrap();
        assert!(!bell.clear().unwrap(), "an unrung bell answers instead of waiting");
    }
}
