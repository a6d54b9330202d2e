//! The newest rows of a series, row by row, on their way into columns.
//!
//! Writing one row into nine columns touches nine cache lines; with ten thousand series none of
//! them is near. So a row is first written here, into one line, and eight rows later the writer
//! moves all eight into the columns and begins again at the top. Until then readers read them
//! here.
//!
//! The handover, and why a reader can neither miss a row nor see one twice: every row carries
//! its partition sequence, which only grows within a series, and `end` says that all rows below
//! it are in the columns. The writer fills the columns, raises `end`, and only then reuses a
//! slot. A reader notes `end`, copies the slots, and looks at `end` again: if it has not moved,
//! no slot was reused meanwhile, and the rows from `end` to the watermark are exactly those not
//! in columns. If it has moved, rows went into the columns, so after as many repetitions as there
//! are slots every row that was visible at the start is there. Neither side waits for the other.
//!
//! Words are atomics with relaxed order, plain moves to the processor. A row that is being
//! written may be seen torn, but then its sequence word is below `end` or not below the
//! watermark, and it is passed over. The loom test at the bottom runs through the interleavings.

#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicU64, fence};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(not(all(loom, test)))]
use std::sync::atomic::{AtomicU64, fence};

use zepto_core::limits::STAGED_ROWS;

use crate::pause::pause;
use crate::segment::prefetch;

/// Words of a row; the first is its sequence.
pub(crate) type Row<const WORDS: usize = 8> = [u64; WORDS];

#[derive(Debug)]
#[repr(align(64))]
struct Slot<const WORDS: usize>([AtomicU64; WORDS]);

#[derive(Debug)]
pub(crate) struct Staging<const ROWS: usize = STAGED_ROWS, const WORDS: usize = 8> {
    slots: [Slot<WORDS>; ROWS],
    end: AtomicU64,
}

/// What a reader found: the rows below `end` are in the columns, the others are here.
#[derive(Debug)]
pub(crate) struct Staged<const ROWS: usize = STAGED_ROWS, const WORDS: usize = 8> {
    /// No column row from here on belongs to this reading.
    pub(crate) end: u64,
    rows: [Row<WORDS>; ROWS],
    len: usize,
}

impl<const ROWS: usize, const WORDS: usize> Staged<ROWS, WORDS> {
    /// The rows in order of sequence.
    pub(crate) fn rows(&self) -> &[Row<WORDS>] {
        &self.rows[..self.len]
    }
}

impl<const ROWS: usize, const WORDS: usize> Staging<ROWS, WORDS> {
    /// Empty, for rows whose sequences begin at `end`, which is at least 1.
    pub(crate) fn new(end: u64) -> Self {
        debug_assert!(end > 0, "an empty slot has sequence zero");
        let slots = std::array::from_fn(|_| Slot(std::array::from_fn(|_| AtomicU64::new(0))));
        Self { slots, end: AtomicU64::new(end) }
    }

    /// The writer puts a row; slots are used from 0 upwards. It is visible once a watermark
    /// above it is published with release order.
    #[inline(always)]
    pub(crate) fn put(&self, slot: usize, row: &Row<WORDS>) {
        for (cell, word) in self.slots[slot % ROWS].0.iter().zip(row) {
            cell.store(*word, Relaxed);
        }
    }

    /// The writer reads back what it put.
    #[inline(always)]
    pub(crate) fn get(&self, slot: usize) -> Row<WORDS> {
        let cells = &self.slots[slot % ROWS].0;
        std::array::from_fn(|word| cells[word].load(Relaxed))
    }

    /// One word of it.
    #[inline(always)]
    pub(crate) fn word(&self, slot: usize, word: usize) -> u64 {
        self.slots[slot % ROWS].0[word].load(Relaxed)
    }

    /// The writer reads back below which sequence no row is staged.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Relaxed)
    }

    /// The writer has moved every row below `end` into the columns, or dropped it.
    pub(crate) fn moved(&self, end: u64) {
        self.end.store(end, Release);
        // The slots are written again after this, and whoever sees that must see `end` moved.
        fence(Release);
    }

    /// Reads the rows below `watermark`, which the caller has loaded with acquire order.
    pub(crate) fn read(&self, watermark: u64) -> Staged<ROWS, WORDS> {
        let mut staged = Staged { end: watermark, rows: [[0; WORDS]; ROWS], len: 0 };
        for _ in 0..=ROWS {
            let end = self.end.load(Acquire);
            staged.len = 0;
            if end >= watermark {
                return staged;
            }
            pause();
            for slot in 0..ROWS {
                let row = self.get(slot);
                if end <= row[0] && row[0] < watermark {
                    staged.rows[staged.len] = row;
                    staged.len += 1;
                }
            }
            pause();
            fence(Acquire);
            if self.end.load(Relaxed) == end {
                staged.end = end;
                return staged;
            }
        }
        // `end` moved once more than there are slots: all that was here at the start has gone
        // into the columns. The acquire load makes them visible.
        self.end.load(Acquire);
        staged.len = 0;
        staged
    }

    /// Fetches a slot into the cache.
    #[inline(always)]
    pub(crate) fn prefetch(&self, slot: usize) {
        prefetch(&raw const self.slots[slot % ROWS]);
    }

    /// Fetches what the writer needs to move rows into the cache.
    #[inline(always)]
    pub(crate) fn prefetch_all(&self) {
        (0..ROWS).for_each(|slot| self.prefetch(slot));
        prefetch(&raw const self.end);
    }
}
