//! System V segments, by which workers on one machine share memory.
//!
//! UCX allocates a region's memory as such a segment where it may (`UCX_TLS`), and a peer attaches
//! it by its number. That is what `ucp_rkey_ptr` does for it, too, but only as far as the endpoint
//! knows the peer: an endpoint that UCX has made itself, for a peer that connected first, knows no
//! more than messages need (UCX 1.13). And a remote key is believed: one that comes late ends the
//! process.

use super::NUMBER;
use crate::lines::SharedLine;
use crate::transport::{Line, TransportError};
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null};

/// A segment of a peer, attached here.
pub struct Segment {
    lines: NonNull<SharedLine>,
}

// SAFETY: it is attached for the whole process, and made of atomics.
unsafe impl Send for Segment {}

impl Segment {
    /// Attaches the memory of a region: so many lines, and one that has the region's number. A
    /// segment's number may be another's by the time that it comes.
    ///
    /// # Errors
    /// When it is gone, not to be had, shorter, or not that region's.
    pub fn attach(number: i32, lines: u64, region: u64) -> Result<Self, TransportError> {
        // SAFETY: it is attached wherever there is room.
        let at = unsafe { libc::shmat(number, null(), 0) };
        if at.addr() == usize::MAX {
            return Err(refused("shmat"));
        }
        let first = NonNull::new(at.cast::<SharedLine>()).ok_or(TransportError::PeerGone)?;
        // From here on it is detached when it is dropped, and keeps its number until then.
        let segment = Self { lines: first };
        let expected = lines.saturating_add(1).saturating_mul(size_of::<Line>() as u64);
        let found = length(number)?;
        if found < expected {
            return Err(TransportError::WrongSize { expected, found });
        }
        // SAFETY: so many lines are there, and one more.
        let last = unsafe { segment.lines.add(lines as usize) };
        // SAFETY: pages are aligned, and attached as long as `segment` is there; a line is made of
        // atomics, valid for any bytes, so others may write it meanwhile.
        let last = unsafe { last.as_ref() };
        if last.load(NUMBER) == region { Ok(segment) } else { Err(TransportError::PeerGone) }
    }

    /// Its first line.
    #[inline(always)]
    pub fn lines(&self) -> NonNull<SharedLine> {
        self.lines
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: it was attached there, and nothing refers to it any more.
        unsafe { libc::shmdt(self.lines.as_ptr().cast()) };
    }
}

fn length(number: i32) -> Result<u64, TransportError> {
    let mut about = MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: it only writes what it is given room for.
    if unsafe { libc::shmctl(number, libc::IPC_STAT, about.as_mut_ptr()) } != 0 {
        return Err(refused("shmctl"));
    }
    // SAFETY: zeroes are valid for it, and it was filled in.
    Ok(unsafe { about.assume_init() }.shm_segsz as u64)
}

/// Why a call failed just now.
fn refused(call: &'static str) -> TransportError {
    let source = std::io::Error::last_os_error();
    match source.raw_os_error() {
        Some(libc::EINVAL | libc::EIDRM) => TransportError::PeerGone,
        _ => TransportError::Os { call, source },
    }
}

/// The number of the segment that begins at an address: none where it is other memory, or where
/// that cannot be found out.
pub fn number_at(address: usize) -> Option<i32> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    // A file that is mapped may have any name.
    let maps = String::from_utf8_lossy(&maps);
    maps.lines().find(|line| start_of(line) == Some(address)).and_then(number_in)
}

fn start_of(line: &str) -> Option<usize> {
    usize::from_str_radix(line.split_once('-')?.0, 16).ok()
}

/// Out of a line such as `7f12-7f34 rw-s 00000000 00:01 32794 /SYSV00000000 (deleted)`.
fn number_in(line: &str) -> Option<i32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    match fields.as_slice() {
        [_, _, offset, _, inode, path, ..] if path.starts_with("/SYSV") => {
            let is_whole = offset.bytes().all(|digit| digit == b'0');
            inode.parse().ok().filter(|_| is_whole)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_no_segment() {
        let byte = Box::new(0_u8);
        assert_eq!(number_at(core::ptr::from_ref(&*byte).addr()), None);
        assert_eq!(number_at(0), None);
        assert_eq!(number_in("7f1-7f2 rw-s 00001000 00:01 7 /SYSV00000000 (deleted)"), None);
    }

    #[test]
    fn a_regions_memory_is_attached_until_it_is_gone_and_nothing_else_is() {
        const LAST: u64 = 4096 / size_of::<Line>() as u64 - 1;
        // SAFETY: plain system calls; the segment is removed below.
        let number = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o600) };
        let attach = |lines, region| Segment::attach(number, lines, region);
        let first = attach(LAST, 0).expect("it is there");
        assert_eq!(number_at(first.lines().addr().get()), Some(number));
        // SAFETY: the last line of the page that is attached.
        let line = unsafe { first.lines().add(LAST as usize) };
        // SAFETY: as above.
        unsafe { line.as_ref() }.store(NUMBER, 5);
        let second = attach(LAST, 5).expect("once more");
        assert!(matches!(attach(LAST, 6), Err(TransportError::PeerGone)), "another region's");
        let longer = attach(LAST + 1, 5).err();
        assert!(matches!(longer, Some(TransportError::WrongSize { found: 4096, .. })));
        assert!(attach(u64::MAX, 5).is_err());
        // SAFETY: as above.
        assert_eq!(unsafe { libc::shmctl(number, libc::IPC_RMID, core::ptr::null_mut()) }, 0);
        assert!(attach(LAST, 5).is_ok(), "as long as somebody has it");
        drop((first, second));
        assert!(matches!(attach(LAST, 5), Err(TransportError::PeerGone)));
    }
}
