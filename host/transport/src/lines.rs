//! A cache line that two sides share: one writes it, the other may read it at any moment.
//!
//! Data is read word by word with relaxed atomics: a read that overlaps a write of a faulty peer
//! yields a mixture of words, never undefined behaviour. Cursors are stored with Release and
//! loaded with Acquire; there is no other ordering and no lock.
//!
//! Under loom the data is a plain cell instead, whose every unordered access is an error, which
//! checks more than relaxed words could.

use crate::sync::{AtomicU64, Ordering, fence};
use crate::transport::Line;

/// One line. Zeroed memory is a valid line.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct SharedLine {
    words: [AtomicU64; 8],
    #[cfg(loom)]
    data: loom::cell::UnsafeCell<Line>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<SharedLine>() == size_of::<Line>());

#[cfg(loom)]
// SAFETY: loom's cell panics on every access that is not ordered after the conflicting one, so
// no data race goes on unnoticed.
unsafe impl Sync for SharedLine {}

impl SharedLine {
    /// Writes the data, unordered.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn write(&self, value: &Line) {
        for (word, value) in self.words.iter().zip(value) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    /// Writes the data, unordered, as one plain copy: 1.7 ns a push instead of 2.8.
    ///
    /// # Safety
    /// Until this returns, nobody else in this process may access the line *at this address*.
    /// Other processes, and other mappings of the same pages, may read it meanwhile: to this
    /// program they are the outside world, which gets a mixture of words at worst.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) unsafe fn write_alone(&self, value: &Line) {
        let line = self.words.as_ptr().cast_mut().cast::<Line>();
        // SAFETY: aligned, 64 bytes, made of atomics and so writable through a shared reference;
        // by this function's contract there is no race.
        unsafe { line.write(*value) };
    }

    /// Writes one word of the data, unordered.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn write_word(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Relaxed);
    }

    /// Copies the data out, unordered.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn read(&self) -> Line {
        core::array::from_fn(|word| self.words[word].load(Ordering::Relaxed))
    }

    #[cfg(loom)]
    pub(crate) fn write(&self, value: &Line) {
        // SAFETY: loom has checked that no other access is unordered with this one.
        self.data.with_mut(|data| unsafe { *data = *value });
    }

    #[cfg(loom)]
    pub(crate) fn read(&self) -> Line {
        // SAFETY: loom has checked that no write is unordered with this one.
        self.data.with(|data| unsafe { *data })
    }

    /// Stores a cursor after everything before it.
    #[inline(always)]
    pub(crate) fn store(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Release);
    }

    /// Loads a cursor before everything after it.
    ///
    /// A relaxed load and a fence, because Rust allows only relaxed loads on memory that is
    /// mapped read-only. The machine code is that of an Acquire load.
    #[inline(always)]
    pub(crate) fn load(&self, word: usize) -> u64 {
        let value = self.words[word].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        value
    }
}
