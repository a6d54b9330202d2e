//! Shared memory between processes of one host and one user.
//!
//! A region is a sealed memfd: its writer maps it writable once, every other mapping can only be
//! read-only, and nobody can shrink or punch it. It has no name, so nothing is left behind when a
//! process is killed. Descriptors travel over the meeting ([`Door`], [`meet`]).
//!
//! Lacks, on purpose: anything for peers under another user or in another network namespace; they
//! talk over RPC.

mod door;
mod meet;
mod message;
mod segment;

use core::ops::Range;
use std::os::fd::OwnedFd;

pub use door::{Door, DoorCounts, Knock, Met};
pub(crate) use meet::now;
pub use meet::{MeetError, Meeting, REFUSED_UNUSABLE, meet};

use crate::transport::{Line, Region, Remote, Transport, TransportError};
use segment::Segment;

/// The transport over shared memory. Holds no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shm;

/// A segment that this process writes. `Send`, one writer; it outlives the peer.
pub struct ShmRegion {
    segment: Segment,
}

/// A peer's segment, mapped read-only. `Send`; it outlives the peer.
pub struct ShmRemote {
    segment: Segment,
}

impl Transport for Shm {
    type Region = ShmRegion;
    type Remote = ShmRemote;
    type Ticket = OwnedFd;

    fn register(&self, lines: usize) -> Result<(ShmRegion, OwnedFd), TransportError> {
        let (segment, fd) = Segment::create(lines)?;
        Ok((ShmRegion { segment }, fd))
    }

    fn connect(&self, ticket: OwnedFd, lines: usize) -> Result<ShmRemote, TransportError> {
        Ok(ShmRemote { segment: Segment::open(&ticket, lines)? })
    }

    #[inline]
    fn progress(&self) -> usize {
        0
    }
}

impl Region for ShmRegion {
    #[inline(always)]
    fn lines(&self) -> usize {
        self.segment.lines().len()
    }

    #[inline(always)]
    fn write(&mut self, line: usize, value: &Line) {
        let line = &self.segment.lines()[line];
        // SAFETY: this mapping is reached through `self` alone, which is borrowed mutably. A peer,
        // even one in this process, reads the pages through a mapping of its own.
        unsafe { line.write_alone(value) };
    }

    #[inline(always)]
    fn write_with(&mut self, line: usize, first: u64, value: &Line) {
        let line = &self.segment.lines()[line];
        // SAFETY: as above.
        unsafe { line.write_alone(value) };
        line.write_word(0, first);
    }

    #[inline]
    fn read(&self, line: usize) -> Line {
        self.segment.lines()[line].read()
    }

    #[inline]
    fn put(&mut self, lines: Range<usize>) {
        // The peer sees the same pages; the store that follows publishes them.
        assert!(lines.start <= lines.end && lines.end <= self.lines());
    }

    #[inline]
    fn fence(&mut self) {
        // Every store is a Release.
    }

    #[inline]
    fn store(&mut self, line: usize, word: usize, value: u64) {
        self.segment.lines()[line].store(word, value);
    }
}

impl Remote for ShmRemote {
    #[inline]
    fn lines(&self) -> usize {
        self.segment.lines().len()
    }

    #[inline]
    fn get(&self, line: usize) -> Line {
        self.segment.lines()[line].read()
    }

    #[inline]
    fn load(&self, line: usize, word: usize) -> u64 {
        self.segment.lines()[line].load(word)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, SealFlags};

    use super::segment::SEALS;
    use super::*;

    const LINES: usize = 128;

    fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("test", flags).unwrap();
        rustix::fs::ftruncate(&fd, bytes).unwrap();
        rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
        fd
    }

    #[test]
    fn a_region_can_neither_be_written_nor_cut_by_whoever_holds_its_descriptor() {
        let (_region, fd) = Shm.register(LINES).unwrap();
        assert!(rustix::fs::fcntl_get_seals(&fd).unwrap().contains(SEALS));
        assert!(rustix::io::write(&fd, b"x").is_err(), "written through the descriptor");
        assert!(rustix::fs::ftruncate(&fd, 0).is_err(), "truncated");
        assert!(memmap2::MmapRaw::map_raw(&fd).is_err(), "mapped writable");
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        assert!(rustix::fs::fallocate(&fd, punch, 0, 4096).is_err(), "punched");
    }

    #[test]
    fn an_unsealed_segment_is_refused() {
        for missing in SEALS.iter() {
            let fd = memfd((LINES * 64) as u64, SEALS.difference(missing));
            let error = Shm.connect(fd, LINES).err().unwrap();
            assert!(matches!(error, TransportError::NotSealed), "{missing:?}: {error}");
        }
    }

    #[test]
    fn a_descriptor_that_is_no_memfd_is_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let error = Shm.connect(reader.into(), LINES).err().unwrap();
        assert!(matches!(error, TransportError::NotSealed), "{error}");
    }

    #[test]
    fn a_segment_of_another_size_is_refused() {
        let (_region, fd) = Shm.register(LINES).unwrap();
        let error = Shm.connect(fd, LINES + 1).err().unwrap();
        assert!(matches!(error, TransportError::WrongSize { found: 8192, .. }), "{error}");
    }

    #[test]
    fn a_segment_with_holes_is_refused() {
        let error = Shm.connect(memfd((LINES * 64) as u64, SEALS), LINES).err().unwrap();
        assert!(matches!(error, TransportError::Holes { allocated: 0, .. }), "{error}");
    }

    #[test]
    fn a_segment_beyond_the_limit_is_a_clear_error() {
        let error = Shm.register((1 << 40) / 64).err().unwrap();
        assert!(error.to_string().contains("1099511627776 bytes"), "{error}");
        assert!(matches!(error, TransportError::TooLarge { .. }));
        assert!(matches!(Shm.register(usize::MAX), Err(TransportError::TooLarge { .. })));
        assert!(matches!(Shm.register(0), Err(TransportError::TooLarge { .. })));
    }

    crate::conformance!(shm, || crate::conformance::Pair::new(Shm, Shm, || ()));
}
