//! One series, the ticks of one (table, symbol), as the writer and the readers share it.
//!
//! Its rows are in segments, listed in the directory, and the newest of them in staging. A
//! [`View`] is what one reader sees of it: all rows below one watermark, whatever the writer does
//! meanwhile, less only what retention drops before the reader has laid hands on it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwapOption;
use zepto_abi::Tick;
use zepto_core::limits::STAGED_ROWS;

use crate::StoreError;
use crate::budget::Budget;
use crate::directory::Directory;
use crate::pause::pause;
use crate::row::unpack;
use crate::rows::Rows;
use crate::segment::Segment;
use crate::staging::Staging;

#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) staging: Staging,
    directory: ArcSwapOption<Directory>,
    /// All rows in columns are in order of time. Cleared before staging says that the row that
    /// breaks it is in the columns, and never set again.
    ordered: AtomicBool,
    pub(crate) table: u16,
    pub(crate) symbol: u32,
    /// The writer's index of it.
    pub(crate) index: u32,
    budget: Arc<Budget>,
}

/// Charged for a series: itself with the counts of `Arc`, and its first directory.
const SERIES_BYTES: usize = size_of::<Series>() + 64 + 160;

impl Series {
    /// An empty series whose sequences begin at `first_sequence`.
    pub(crate) fn create(
        budget: &Arc<Budget>,
        (table, symbol): (u16, u32),
        index: u32,
        first_sequence: u64,
    ) -> Result<Arc<Self>, StoreError> {
        budget.take(SERIES_BYTES)?;
        Ok(Arc::new(Self {
            staging: Staging::new(first_sequence),
            directory: ArcSwapOption::empty(),
            ordered: AtomicBool::new(true),
            table,
            symbol,
            index,
            budget: budget.clone(),
        }))
    }

    /// The writer adds the newest segment, with its first rows in it.
    pub(crate) fn push_segment(&self, segment: Arc<Segment>) {
        let directory = self.directory.load();
        let next = match directory.as_deref() {
            Some(directory) => directory.push(segment),
            None => Directory::default().push(segment),
        };
        if let Some(next) = next {
            self.directory.store(Some(Arc::new(next)));
        }
    }

    /// The writer drops the oldest segments of the present directory.
    pub(crate) fn drop_oldest(&self, directory: &Directory, count: usize) {
        self.directory.store(Some(Arc::new(directory.without_oldest(count))));
    }

    /// The writer drops everything; the staged rows are below `end`.
    pub(crate) fn drop_all(&self, end: u64) {
        // In this order: a reader in between sees the newest rows only, not the oldest.
        self.directory.store(None);
        pause();
        self.staging.moved(end);
    }

    pub(crate) fn directory(&self) -> Option<Arc<Directory>> {
        self.directory.load_full()
    }

    pub(crate) fn set_disordered(&self) {
        self.ordered.store(false, Relaxed);
    }

    /// The rows below `watermark`, which the caller has loaded with acquire order.
    pub(crate) fn view(&self, watermark: u64) -> View {
        pause();
        let staged = self.staging.read(watermark);
        pause();
        let rows = staged.rows();
        let mut ticks = [Tick::default(); STAGED_ROWS];
        for (tick, row) in ticks.iter_mut().zip(rows) {
            *tick = unpack(row, self.table, self.symbol);
        }
        View {
            table: self.table,
            symbol: self.symbol,
            below: staged.end,
            ordered: self.ordered.load(Relaxed),
            // After staging: what has left it is in this directory or expired.
            directory: self.directory.load_full(),
            staged: ticks,
            staged_len: rows.len(),
        }
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        self.budget.give_back(SERIES_BYTES);
    }
}

/// What one reader sees of a series: never changes.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) table: u16,
    pub(crate) symbol: u32,
    /// Column rows from this sequence on are not part of the view.
    below: u64,
    /// The column rows are in order of time.
    pub(crate) ordered: bool,
    directory: Option<Arc<Directory>>,
    staged: [Tick; STAGED_ROWS],
    staged_len: usize,
}

impl View {
    /// The rows in columns, piece by piece, oldest first; of segments that may have event times
    /// from `from_ns` to `last_ns`.
    pub(crate) fn segments(
        &self,
        from_ns: u64,
        last_ns: u64,
    ) -> impl DoubleEndedIterator<Item = Rows<'_>> {
        self.directory.iter().flat_map(move |directory| {
            directory
                .overlapping(from_ns, last_ns, self.ordered)
                .map(|segment| segment.rows(self.below, self.ordered))
        })
    }

    /// The rows not yet in columns, in order of sequence, which is above that of all others.
    pub(crate) fn staged(&self) -> &[Tick] {
        &self.staged[..self.staged_len]
    }
}
