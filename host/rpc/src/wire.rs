//! The socket of a connection, and the records over it where the session is secure.
//!
//! A hand-shake reads and writes whole frames here; the connection's task then works on the socket
//! itself, piece by piece. Bytes that were read beyond what was wanted wait in `rest`, so that none
//! is lost between the two. There is no way back from secure to plain.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use crate::batch::{Batch, SLICES_MAX};
use crate::frame::{Frame, FrameReader, HEADER_BYTES, Unmetered};
use crate::greet::GreetingError;
use crate::secure::SecureError;
use crate::secure::records::Records;

/// Bytes read at a time during a hand-shake.
const GREETING_READ_BYTES: usize = HEADER_BYTES + 1024;

/// A connection's socket.
pub(crate) struct Wire {
    pub stream: TcpStream,
    records: Option<Box<Records>>,
    /// What came and is not yet taken, as it came.
    rest: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        Wire { stream, records: None, rest: Vec::new() }
    }

    /// From here on everything is sealed, in both directions.
    pub(crate) fn secure(&mut self, records: Records) {
        self.records = Some(Box::new(records));
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.records.is_some()
    }

    /// True while a part of a record is here.
    pub(crate) fn has_partial(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.has_partial())
    }

    /// What came behind the hand-shake.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    /// Waits for one frame of a hand-shake. A stranger can make this hold one such frame and not
    /// more; the caller sets a bound on the wait.
    pub(crate) async fn read_frame(
        &mut self,
        reader: &mut FrameReader,
    ) -> Result<Frame, GreetingError> {
        let mut buffer = [0; GREETING_READ_BYTES];
        loop {
            if let Some(frame) = self.take_frame(reader)? {
                return Ok(frame);
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(GreetingError::Closed),
                count => self.rest.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn take_frame(&mut self, reader: &mut FrameReader) -> Result<Option<Frame>, GreetingError> {
        let rest = self.take_rest();
        let mut input = rest.as_slice();
        let mut frame = None;
        if self.records.is_none() {
            frame = reader.read(&mut input, &mut Unmetered)?;
        }
        let mut plain = Vec::new();
        while frame.is_none() && self.open(&mut input, &mut plain)? {
            let mut said = plain.as_slice();
            frame = reader.read(&mut said, &mut Unmetered)?;
            if !said.is_empty() {
                return Err(SecureError::Crowded.into());
            }
        }
        self.rest = input.to_vec();
        Ok(frame)
    }

    /// Takes one record from the front of `input` and puts what it says into `plain`. False when
    /// there is no whole one; always so while the session is not secure.
    pub(crate) fn open(
        &mut self,
        input: &mut &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<bool, SecureError> {
        match &mut self.records {
            Some(records) => records.open(input, plain),
            None => Ok(false),
        }
    }

    /// Writes frames of a hand-shake, or last words.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(records) = &mut self.records else {
            return self.stream.write_all(bytes).await;
        };
        records.seal([bytes]).map_err(io::Error::other)?;
        self.stream.write_all(records.sealed()).await?;
        records.wrote(records.sealed().len());
        Ok(())
    }

    /// Offers the kernel what the batch has left to write. Returns the bytes that it took, of
    /// which [`Wire::wrote`] knows what they mean.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        batch: &Batch,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let Some(records) = &mut self.records else {
            let count = batch.slices(&mut slices);
            return poll_send(&self.stream, cx, &slices[..count]);
        };
        if records.sealed().is_empty() {
            let count = batch.slices(&mut slices);
            records.seal(slices[..count].iter().map(|slice| &**slice)).map_err(io::Error::other)?;
        }
        Pin::new(&mut self.stream).poll_write(cx, records.sealed())
    }

    /// Turns bytes that the kernel took into bytes of frames that it thereby has.
    pub(crate) fn wrote(&mut self, bytes: usize) -> usize {
        match &mut self.records {
            Some(records) => records.wrote(bytes),
            None => bytes,
        }
    }

    /// Says the last words, closes our direction, and reads until the peer closes its own. Errors
    /// mean that the peer is gone, which is what was wanted.
    pub(crate) async fn part(&mut self, last_words: &[u8]) {
        // Without last words nothing more may leave: a record that is cut must stay cut, since its
        // frames were reported as not sent.
        if !last_words.is_empty() && self.write_all(last_words).await.is_err() {
            return;
        }
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut void = [0; 1024];
        while matches!(self.stream.read(&mut void).await, Ok(count) if count > 0) {}
    }
}

/// A vectored write that never raises SIGPIPE: std's does, and kills a process that has not
/// ignored the signal, such as a C program that links this.
fn poll_send(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let nothing = &mut SendAncillaryBuffer::default();
            Ok(sendmsg(stream, slices, nothing, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return Poll::Ready(sent),
        }
    }
}
