//! A TCP connection that is never waited for, with what is to be written and what was read.

use crate::failure::{Result, While as _, fail, go_on};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// One connection.
pub struct Link {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Link {
    /// To a port of this machine.
    pub fn connect(port: u16) -> Result<Self> {
        let doing = format!("port {port}");
        let stream = TcpStream::connect(("127.0.0.1", port)).doing(&doing)?;
        stream.set_nodelay(true).doing(&doing)?;
        stream.set_nonblocking(true).doing(&doing)?;
        let input = vec![0; READ_BYTES];
        Ok(Self { stream, out: Vec::new(), written: 0, input, taken: 0, filled: 0 })
    }

    /// What is to be written next.
    #[inline]
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What was read and not taken yet.
    #[inline]
    pub fn unread(&self) -> &[u8] {
        &self.input[self.taken..self.filled]
    }

    /// So many bytes of it are understood.
    #[inline]
    pub fn take(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.filled);
    }

    /// Writes and reads what is possible now. Whether anything was.
    pub fn pump(&mut self) -> Result<bool> {
        let wrote = self.write()?;
        Ok(self.read()? || wrote)
    }

    fn write(&mut self) -> Result<bool> {
        let before = self.written;
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return fail("the server takes nothing more"),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return fail(format!("writing to the server: {error}")),
            }
        }
        let moved = self.written > before;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written > READ_BYTES {
            self.out.drain(..self.written);
            self.written = 0;
        }
        Ok(moved)
    }

    fn read(&mut self) -> Result<bool> {
        if self.taken > 0 {
            self.input.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        if self.filled == self.input.len() {
            return fail("an answer of the server is too long");
        }
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => fail("the server closed the connection"),
            Ok(bytes) => {
                self.filled += bytes;
                Ok(true)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(false)
            }
            Err(error) => fail(format!("reading from the server: {error}")),
        }
    }

    /// Sleeps until something can be read, or written if there is something to write.
    pub fn wait(&self, within: Duration) -> Result<()> {
        let mut flags = PollFlags::IN;
        if self.written < self.out.len() {
            flags |= PollFlags::OUT;
        }
        let within =
            Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.stream, flags)], Some(&within)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => fail(format!("waiting for the server: {error}")),
        }
    }

    /// Waits for an answer: `understand` takes it from what was read, once it is whole.
    pub fn answer<T>(
        &mut self,
        within: Duration,
        mut understand: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let until = Instant::now() + within;
        loop {
            go_on()?;
            let moved = self.pump()?;
            if let Some(answer) = understand(self)? {
                return Ok(answer);
            }
            if Instant::now() > until {
                return fail("the server does not answer");
            }
            if !moved {
                self.wait(Duration::from_millis(20))?;
            }
        }
    }
}

/// The first line of some bytes, without its end, and the length with it.
pub fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].strip_suffix(b"\r")?, end + 1))
}

/// Decimal digits as a number.
pub fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
