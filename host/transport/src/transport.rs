//! The transport trait and its errors.
//!
//! Invariant: no method has a result that says "it arrived". A put may succeed into the memory of
//! a peer that is dead; only what the peer writes back is an acknowledgement.

use core::ops::Range;
use std::io;

/// The unit of every transfer: 64 bytes, one cache line, as eight words in native byte order.
pub type Line = [u64; 8];

/// A way to bytes that a peer sees, chosen once per process as a type parameter.
///
/// # Contract
///
/// A line is used either with [`write`](Region::write), [`put`](Region::put) and
/// [`get`](Remote::get), or word by word with [`store`](Region::store) and
/// [`load`](Remote::load); never both ways. The first carries data, the second the cursors that
/// say which data is complete.
///
/// Fresh memory reads as zeroes on both sides. A peer may see it before or after anything is put:
/// a reader must take zero for "nothing yet".
pub trait Transport: Sized + 'static {
    /// Memory written here.
    type Region: Region;
    /// Memory of one peer, seen here.
    type Remote: Remote;
    /// What the peer needs for [`connect`](Transport::connect). It is used once.
    type Ticket;

    /// Whether a reader that sleeps can be woken by its peer. If not, it need not say that it
    /// sleeps, and looks again by itself.
    const WAKES: bool = true;

    /// Makes `lines` zeroed lines that one peer will see.
    ///
    /// # Errors
    /// [`TransportError::TooLarge`] beyond the limit, [`TransportError::NoMemory`] when the system
    /// has no room for it. Nothing remains of a region that could not be made.
    fn register(&self, lines: usize) -> Result<(Self::Region, Self::Ticket), TransportError>;

    /// Opens a peer's region of exactly `lines` lines for reading.
    ///
    /// # Errors
    /// Whatever is wrong with the ticket; it is consumed, and nothing stays open.
    fn connect(&self, ticket: Self::Ticket, lines: usize) -> Result<Self::Remote, TransportError>;

    /// Drives outstanding work and returns how much was done. Zero where nothing is outstanding.
    fn progress(&self) -> usize;
}

/// Memory that this process writes and one peer sees.
///
/// # Panics
/// Every method panics when a line or word is outside the region: the index is the caller's own,
/// never a peer's.
pub trait Region {
    /// Lines of the region.
    fn lines(&self) -> usize;

    /// Writes a line here. Whether the peer sees it before [`put`](Region::put) is open.
    fn write(&mut self, line: usize, value: &Line);

    /// As [`write`](Region::write), with another first word.
    #[inline]
    fn write_with(&mut self, line: usize, first: u64, value: &Line) {
        let mut value = *value;
        value[0] = first;
        self.write(line, &value);
    }

    /// Reads back what [`write`](Region::write) wrote, out of our own memory.
    fn read(&self, line: usize) -> Line;

    /// Hands written lines to the peer.
    fn put(&mut self, lines: Range<usize>);

    /// Orders: whatever was put or stored before is visible to the peer before whatever is stored
    /// after. Without a fence between them a store may overtake, even another one to its own word.
    fn fence(&mut self);

    /// Goes on with what could not be done at once. Called with every look at the other side.
    #[inline(always)]
    fn go_on(&mut self) {}

    /// Whether the reader is known to be gone. Most transports never know.
    #[inline]
    fn is_left(&self) -> bool {
        false
    }

    /// Publishes one word, whole. A peer that loads the value also sees what the last
    /// [`fence`](Region::fence) ordered before it.
    fn store(&mut self, line: usize, word: usize, value: u64);
}

/// Memory that one peer writes and this process sees.
///
/// What is read may change between two reads, and a faulty peer may write anything: copy first,
/// then check the copy.
///
/// # Panics
/// Every method panics when a line or word is outside: the index is the caller's own.
pub trait Remote {
    /// Lines of the peer's region.
    fn lines(&self) -> usize;

    /// Copies a line out. It is whole only if a loaded cursor says so.
    fn get(&self, line: usize) -> Line;

    /// Loads one word that the peer stores, and with it everything that the peer's fence ordered
    /// before.
    fn load(&self, line: usize, word: usize) -> u64;

    /// Whether the writer is known to be gone. What it wrote stays. Most transports never know.
    #[inline]
    fn is_left(&self) -> bool {
        false
    }
}

/// Why memory could not be shared. In every case nothing stays open or mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// More than a region may hold, or nothing at all. Ask for a size within the limit.
    #[error("a region of {bytes} bytes is outside 64 to {bytes_max} bytes")]
    TooLarge {
        /// Bytes asked for; `u64::MAX` when the number does not fit.
        bytes: u64,
        /// Bytes that a region may have.
        bytes_max: u64,
    },
    /// The system has no room for the region. Retry once memory is free.
    #[error("no memory for a region of {bytes} bytes: {source}")]
    NoMemory {
        /// Bytes asked for.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A segment that its owner could still shrink, punch or let others write. Its owner is
    /// faulty; retrying with the same segment is useless.
    #[error("segment is not sealed: its owner could cut it away under us")]
    NotSealed,
    /// A segment of another size than agreed. Its owner is faulty.
    #[error("segment has {found} bytes, agreed were {expected}")]
    WrongSize {
        /// Bytes agreed.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A segment with holes: reading it could fail for lack of memory. Its owner is faulty.
    #[error("segment has holes: only {allocated} of {expected} bytes have memory")]
    Holes {
        /// Bytes agreed.
        expected: u64,
        /// Bytes that have memory.
        allocated: u64,
    },
    /// A descriptor that should be an eventfd and is something else.
    #[error("descriptor is not an eventfd")]
    NotABell,
    /// Bytes that are no ticket: the peer is faulty, or of another version.
    #[error("not a ticket")]
    NoTicket,
    /// The peer's memory is gone, and so is its process, most likely.
    #[error("the peer's memory is gone")]
    PeerGone,
    /// As many regions as may be are open, or wait for their readers. Retry later.
    #[error("too many regions of this worker are open or wait for their readers")]
    Busy,
    /// UCX refused a call.
    #[error("{call} of UCX: {reason}")]
    Ucx {
        /// The call.
        call: &'static str,
        /// What it said.
        reason: String,
    },
    /// The operating system refused a call. Retry if `source` is transient.
    #[error("{call}: {source}")]
    Os {
        /// The call.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl TransportError {
    #[cfg(not(loom))]
    pub(crate) fn os(call: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |errno| Self::Os { call, source: errno.into() }
    }
}

/// Checks a size against the one limit on regions and returns it in bytes.
pub(crate) fn checked_bytes(lines: usize) -> Result<usize, TransportError> {
    use zepto_core::limits::REGION_LINES_MAX;
    if lines == 0 || lines > REGION_LINES_MAX {
        let bytes = (lines as u64).saturating_mul(size_of::<Line>() as u64);
        let bytes_max = (REGION_LINES_MAX * size_of::<Line>()) as u64;
        return Err(TransportError::TooLarge { bytes, bytes_max });
    }
    Ok(lines * size_of::<Line>())
}
