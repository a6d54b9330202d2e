//! One sealed memfd, mapped: writable in its owner, read-only everywhere else.
//!
//! Invariant: a mapping in hand never faults. All its memory is allocated before it is mapped (a
//! full system is an error here, not a SIGBUS later), and the seals forbid everybody to take any
//! of it away. The reading side checks both before it maps.

use std::os::fd::OwnedFd;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;

use crate::lines::SharedLine;
use crate::transport::{Line, TransportError, checked_bytes};

/// Nobody changes the size, nobody but the first mapping writes or punches, and this is final.
pub(super) const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// A mapped segment. It keeps no descriptor open.
pub(super) struct Segment {
    map: MmapRaw,
    lines: usize,
}

impl Segment {
    /// Makes a segment and maps it writable, for the last time that anybody can.
    pub(super) fn create(lines: usize) -> Result<(Self, OwnedFd), TransportError> {
        let bytes = checked_bytes(lines)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("zepto-lane", flags)
            .map_err(TransportError::os("memfd_create"))?;
        allocate(&fd, bytes as u64)?;
        let map = MmapOptions::new()
            .len(bytes)
            .populate()
            .map_raw(&fd)
            .map_err(|source| TransportError::Os { call: "mmap", source })?;
        advise_huge(&map);
        rustix::fs::fcntl_add_seals(&fd, SEALS)
            .map_err(TransportError::os("fcntl(F_ADD_SEALS)"))?;
        Ok((Self { map, lines }, fd))
    }

    /// Maps a peer's segment read-only, once it is certain that it will stay whole.
    pub(super) fn open(fd: &OwnedFd, lines: usize) -> Result<Self, TransportError> {
        let bytes = checked_bytes(lines)?;
        check(fd, bytes as u64)?;
        let map = MmapOptions::new()
            .len(bytes)
            .populate()
            .map_raw_read_only(fd)
            .map_err(|source| TransportError::Os { call: "mmap", source })?;
        advise_huge(&map);
        Ok(Self { map, lines })
    }

    #[inline(always)]
    pub(super) fn lines(&self) -> &[SharedLine] {
        // SAFETY: the mapping is page-aligned and `lines * 64` bytes long, lives as long as
        // `self`, and cannot be shrunk (sealed). A line is made of atomics, valid for any bytes,
        // so another process may write it meanwhile. Where the mapping is read-only it is held by
        // a `ShmRemote`, which only does relaxed loads.
        unsafe { core::slice::from_raw_parts(self.map.as_ptr().cast::<SharedLine>(), self.lines) }
    }
}

/// Gives the whole segment memory, which also sets its size.
fn allocate(fd: &OwnedFd, bytes: u64) -> Result<(), TransportError> {
    loop {
        match rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => (),
            Err(errno @ (Errno::NOSPC | Errno::NOMEM | Errno::DQUOT | Errno::FBIG)) => {
                return Err(TransportError::NoMemory { bytes, source: errno.into() });
            }
            Err(errno) => return Err(TransportError::os("fallocate")(errno)),
        }
    }
}

/// Makes sure that a peer's segment has the size and the memory agreed, for good.
fn check(fd: &OwnedFd, bytes: u64) -> Result<(), TransportError> {
    let seals = match rustix::fs::fcntl_get_seals(fd) {
        Ok(seals) => seals,
        Err(Errno::INVAL) => return Err(TransportError::NotSealed),
        Err(errno) => return Err(TransportError::os("fcntl(F_GET_SEALS)")(errno)),
    };
    if !seals.contains(SEALS) {
        return Err(TransportError::NotSealed);
    }
    let stat = rustix::fs::fstat(fd).map_err(TransportError::os("fstat"))?;
    let found = u64::try_from(stat.st_size).unwrap_or(0);
    if found != bytes {
        return Err(TransportError::WrongSize { expected: bytes, found });
    }
    let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if allocated < bytes {
        return Err(TransportError::Holes { expected: bytes, allocated });
    }
    Ok(())
}

/// Lets the kernel gather the pages of a large ring into huge ones where shared memory may have
/// them. Only a hint: most systems are configured not to, and then it changes nothing.
fn advise_huge(map: &MmapRaw) {
    const HUGE_PAGE_BYTES: usize = 2 << 20;
    if map.len() >= HUGE_PAGE_BYTES {
        map.advise(Advice::HugePage).ok();
    }
}

const _: () = assert!(align_of::<SharedLine>() == size_of::<Line>());
