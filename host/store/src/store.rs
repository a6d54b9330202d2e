//! The writer: one thread that appends to some partitions.
//!
//! It keeps what an append needs in small dense arrays of its own, and touches what it shares
//! with the readers only to write a row. An append is three cache lines: the series' cursor, its
//! partition's next sequence, and the line the row is staged in. When the staged rows are eight,
//! they are moved into columns a little later, once the lines they go to are in the cache; at the
//! latest the next append to the series does it first, so that a refusal changes nothing.

use std::sync::Arc;

use zepto_abi::{PartitionId, Tick};
use zepto_core::limits::{PARTITION_BITS_MAX, STAGED_ROWS, TABLES_MAX};

use crate::budget::Budget;
use crate::partition::Partition;
use crate::retention::Expiry;
use crate::row::pack;
use crate::segment::prefetch;
use crate::series::Series;
use crate::shared::Shared;
use crate::tail::Tail;
use crate::{StoreConfig, StoreError, StoreReader};

/// The dense number of a series in its store. Valid until its partition is closed; after that
/// it may come to mean another series, so it must not be kept across a close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeriesIndex(pub(crate) u32);

/// The one writer of some partitions. It may move between threads; all others have a
/// [`StoreReader`].
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    /// By table, by symbol: the series' index, or `NO_SERIES`.
    pub(crate) tables: Vec<Vec<u32>>,
    /// By series: what an append needs.
    pub(crate) cursors: Vec<Cursor>,
    /// By series: what moving rows into columns needs.
    pub(crate) tails: Vec<Tail>,
    /// Series indexes to be used again.
    pub(crate) free: Vec<u32>,
    /// By partition.
    pub(crate) next: Vec<Next>,
    /// By partition.
    pub(crate) partitions: Vec<Local>,
    /// Partitions appended to since the last `publish`, each once.
    pub(crate) touched: Vec<u32>,
    /// Ticks ever appended.
    pub(crate) appended: u64,
    /// Segments ever begun.
    segments: u64,
    /// Series whose staged rows are to be moved: the newest, and the one before it.
    full: [u32; 2],
    pub(crate) expiry: Expiry,
}

/// No series has this index.
pub(crate) const NO_SERIES: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Cursor {
    /// `None` once its partition is closed; then its slots count as full.
    pub(crate) series: Option<Arc<Series>>,
    pub(crate) partition: u32,
    /// Staged rows.
    pub(crate) staged: u32,
}

/// The sequence a partition gives next, and whether it is in the list of touched ones: in one
/// word, so that those of 4,096 partitions stay in the nearest cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Next(u64);

impl Next {
    pub(crate) fn untouched(sequence: u64) -> Self {
        Self(sequence << 1)
    }

    #[inline(always)]
    pub(crate) fn sequence(self) -> u64 {
        self.0 >> 1
    }

    #[inline(always)]
    pub(crate) fn is_touched(self) -> bool {
        self.0 & 1 != 0
    }

    /// After one append.
    #[inline(always)]
    fn after(self) -> Self {
        Self((self.0 + 2) | 1)
    }
}

/// What else the writer knows of a partition.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// `None` while it is not open.
    pub(crate) shared: Option<Arc<Partition>>,
    pub(crate) first_sequence: u64,
    /// How many series.
    pub(crate) series: u32,
}

/// A store without partitions, and its first reader.
///
/// # Errors
/// `OutOfBounds` if `partition_bits` is not 1 to 16; `Full` if the budget does not even hold the
/// tables of partitions, some 50 bytes for each.
pub fn open(config: StoreConfig) -> Result<(Store, StoreReader), StoreError> {
    if config.partition_bits == 0 || config.partition_bits > PARTITION_BITS_MAX {
        return Err(StoreError::OutOfBounds);
    }
    let count = 1 << config.partition_bits;
    let budget = Arc::new(Budget::new(config.bytes_max));
    let own_bytes = size_of::<Next>() + size_of::<Local>() + size_of::<u32>();
    budget.take(count * (Shared::PARTITION_BYTES + own_bytes))?;
    budget.take(usize::from(TABLES_MAX) * size_of::<Vec<u32>>())?;
    let shared = Arc::new(Shared::new(config.partition_bits, budget));
    let store = Store {
        shared: shared.clone(),
        tables: vec![Vec::new(); usize::from(TABLES_MAX)],
        cursors: Vec::new(),
        tails: Vec::new(),
        free: Vec::new(),
        next: vec![Next::default(); count],
        partitions: std::iter::repeat_with(Local::default).take(count).collect(),
        touched: Vec::with_capacity(count),
        appended: 0,
        segments: 0,
        full: [NO_SERIES; 2],
        expiry: Expiry::new(config.retention),
    };
    Ok((store, StoreReader::new(shared)))
}

impl Store {
    /// The series of a (table, symbol), if it was created and its partition is open.
    #[inline(always)]
    pub fn series(&self, table: u16, symbol: u32) -> Option<SeriesIndex> {
        let index = *self.tables.get(usize::from(table))?.get(symbol as usize)?;
        (index != NO_SERIES).then_some(SeriesIndex(index))
    }

    /// The partition of a series.
    ///
    /// # Panics
    /// If the index is from another store.
    #[inline(always)]
    pub fn partition_of(&self, series: SeriesIndex) -> PartitionId {
        PartitionId(self.cursors[series.0 as usize].partition)
    }

    /// Fetches into the cache what an [`append`](Self::append) to this series will write: to be
    /// called some sixteen ticks ahead, where the ticks to come are known.
    #[inline(always)]
    pub fn prefetch(&self, series: SeriesIndex) {
        if let Some(Cursor { series: Some(series), staged, .. }) =
            self.cursors.get(series.0 as usize)
        {
            series.staging.prefetch(*staged as usize);
        }
    }

    /// Appends a tick to a series, whatever its own `sequence`, `table` and `symbol` say, and
    /// returns the sequence its partition gave it. Readers see it once the watermark is above.
    ///
    /// # Errors
    /// `Full`: the rows before it have no place in the budget. `NotOpen`: the series' partition
    /// was closed. The tick is not stored then, and no sequence is used.
    ///
    /// # Panics
    /// If the index is from another store.
    #[inline(always)]
    pub fn append(&mut self, series: SeriesIndex, tick: &Tick) -> Result<u64, StoreError> {
        let index = series.0 as usize;
        if self.cursors[index].staged as usize == STAGED_ROWS {
            self.make_room(index)?;
        }
        let cursor = &mut self.cursors[index];
        let Some(series) = &cursor.series else { return Err(StoreError::NotOpen) };
        let next = &mut self.next[cursor.partition as usize];
        let taken = *next;
        *next = taken.after();
        series.staging.put(cursor.staged as usize, &pack(tick, taken.sequence()));
        cursor.staged += 1;
        let full = cursor.staged as usize == STAGED_ROWS;
        self.appended += 1;
        if !taken.is_touched() {
            self.touched.push(cursor.partition);
        }
        if full {
            self.move_soon(index as u32);
        }
        Ok(taken.sequence())
    }

    /// Shows readers everything that was appended: for partitions with one copy.
    pub fn publish(&mut self) {
        self.publish_where(|_| true);
    }

    /// Like [`publish`](Self::publish), but only the partitions that `only` is true for. The
    /// others are not asked about again before the next append to them: their watermark is the
    /// caller's to raise.
    pub fn publish_where(&mut self, mut only: impl FnMut(PartitionId) -> bool) {
        for id in self.touched.drain(..) {
            let sequence = self.next[id as usize].sequence();
            self.next[id as usize] = Next::untouched(sequence);
            if only(PartitionId(id)) {
                self.shared.raise_watermark(PartitionId(id), sequence);
            }
        }
        self.shared.counters.appended.set(self.appended);
    }

    /// Shows readers the ticks of a partition with sequences below `watermark`: for partitions
    /// with more copies. Beyond the next sequence there is nothing to show, and a watermark is
    /// never lowered.
    ///
    /// # Errors
    /// `NotOpen`.
    pub fn raise_watermark(&mut self, id: PartitionId, watermark: u64) -> Result<(), StoreError> {
        let end = self.next_sequence(id).ok_or(StoreError::NotOpen)?;
        self.shared.raise_watermark(id, watermark.min(end));
        self.shared.counters.appended.set(self.appended);
        Ok(())
    }

    /// The slots of a series are full. Moving its rows writes some fifteen cache lines, so it is
    /// done in three steps, each when another series has come so far: fetch what says where the
    /// lines are, fetch them, move.
    #[inline(never)]
    pub(crate) fn move_soon(&mut self, index: u32) {
        let [before, ripe] = self.full;
        self.full = [index, before];
        prefetch(&raw const self.tails[index as usize]);
        if let Some(tail) = self.tails.get(before as usize) {
            tail.prefetch();
            self.cursors[before as usize].series.iter().for_each(|it| it.staging.prefetch_all());
        }
        let full = |cursor: &Cursor| cursor.staged as usize == STAGED_ROWS;
        if self.cursors.get(ripe as usize).is_some_and(full) {
            // If it is refused, or the partition is closed, the next append will say so.
            self.move_staged(ripe as usize).ok();
        }
    }

    /// All slots of a series are taken, and another row comes.
    #[cold]
    #[inline(never)]
    pub(crate) fn make_room(&mut self, index: usize) -> Result<(), StoreError> {
        let moved = self.move_staged(index);
        self.count_refusal(moved)
    }

    /// Moves the staged rows of a series, whose slots are full, into columns. On an error, those
    /// that did move are noted and the others stay staged.
    #[inline(never)]
    fn move_staged(&mut self, index: usize) -> Result<(), StoreError> {
        let bytes = self.tails[index].bytes();
        let moved = self.try_move_staged(index);
        self.expiry.bytes += self.tails[index].bytes() - bytes;
        moved
    }

    #[inline(always)]
    fn try_move_staged(&mut self, index: usize) -> Result<(), StoreError> {
        let cursor = &mut self.cursors[index];
        let Some(series) = &cursor.series else { return Err(StoreError::NotOpen) };
        let tail = &mut self.tails[index];
        while (tail.moved as usize) < STAGED_ROWS {
            let from = tail.moved as usize;
            let mut pushed = tail.push(&series.staging, from)?;
            if pushed.count == 0 {
                let budget = &self.shared.budget;
                let (full, begun) = tail.begin_segment(series, budget, self.segments, from)?;
                if let Some(full) = full {
                    self.expiry.note_growth(index, full, tail);
                }
                self.segments += 1;
                pushed = begun;
            }
            tail.note_moved(series, &pushed);
        }
        tail.moved = 0;
        cursor.staged = 0;
        Ok(())
    }

    pub(crate) fn count_refusal<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(result, Err(StoreError::Full)) {
            self.shared.counters.refused_full.add(1);
        }
        result
    }
}
