//! The writer: one thread that appends to some partitions.
//!
//! It keeps what an append needs in small dense arrays of its own, and shares the rest with the
//! readers through `Arc`s it touches only off the hot path. An append is three cache lines: the
//! series' cursor, the partition's next sequence, and the line the row is staged in. Every
//! eighth also moves the staged rows into columns, before the row that needs their place, so
//! that a refusal changes nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use arc_swap::ArcSwapOption;
use zepto_abi::{Epoch, PartitionId, Tick};
use zepto_core::hash::partition_of;
use zepto_core::limits::{
    FIRST_SEQUENCE_MAX, PARTITION_BITS_MAX, STAGED_ROWS, SYMBOLS_MAX, TABLES_MAX,
};

use crate::budget::Budget;
use crate::counters::Counters;
use crate::partition::Partition;
use crate::retention::Expiry;
use crate::row::pack;
use crate::series::Series;
use crate::tail::Tail;
use crate::{StoreConfig, StoreError, StoreReader};

/// The dense number of a series in its store. Valid until its partition is closed; after that
/// it may come to mean another series, so it must not be kept across a close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeriesIndex(pub(crate) u32);

/// What writer and readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) partition_bits: u8,
    pub(crate) partitions: Box<[ArcSwapOption<Partition>]>,
    /// By partition, the first sequence that readers do not see. In an array, because raising
    /// them is part of every batch. It belongs to the partition that is open: readers make sure
    /// that this is the one they have.
    watermarks: Box<[AtomicU64]>,
    pub(crate) counters: Counters,
    pub(crate) budget: Arc<Budget>,
}

impl Shared {
    /// A partition that is open, and its watermark; the rows below it are visible to the caller.
    pub(crate) fn partition(&self, id: PartitionId) -> Option<(Arc<Partition>, u64)> {
        let slot = self.partitions.get(id.0 as usize)?;
        loop {
            let partition = slot.load_full()?;
            let watermark = self.watermarks[id.0 as usize].load(Acquire);
            // If the watermark is that of a later opening, then closing is visible here as well.
            if slot.load().as_ref().is_some_and(|again| Arc::ptr_eq(again, &partition)) {
                return Some((partition, watermark));
            }
        }
    }

    /// Only the writer may call it. Never lowers.
    fn raise_watermark(&self, id: u32, watermark: u64) {
        let current = &self.watermarks[id as usize];
        if watermark > current.load(Relaxed) {
            current.store(watermark, Release);
        }
    }

    pub(crate) fn watermark(&self, id: u32) -> u64 {
        self.watermarks[id as usize].load(Acquire)
    }
}

/// The one writer of some partitions. It may move between threads; all others have a
/// [`StoreReader`].
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    /// By table, by symbol: the series' index, or `NO_SERIES`.
    tables: Vec<Vec<u32>>,
    /// By series: what an append needs.
    pub(crate) cursors: Vec<Cursor>,
    /// By series: what moving rows into columns needs.
    pub(crate) tails: Vec<Tail>,
    /// Series indexes to be used again.
    free: Vec<u32>,
    /// By partition.
    next: Vec<Next>,
    /// By partition.
    partitions: Vec<Local>,
    /// Partitions appended to since the last `publish`, each once.
    touched: Vec<u32>,
    appended: u64,
    segments: u64,
    soon: [u32; 2],
    pipelined: bool,
    pub(crate) expiry: Expiry,
}

const NO_SERIES: u32 = u32::MAX;
/// Entries a table's dense index begins with; it doubles up to the largest symbol in use.
const TABLE_ENTRIES_MIN: usize = 1024;
/// Series the dense arrays begin with.
const SLOTS_MIN: usize = 64;
/// Bytes per series in the dense arrays: cursor, tail, free list, list of grown series.
const SLOT_BYTES: usize = size_of::<Cursor>() + size_of::<Tail>() + 4 + 4;

#[derive(Debug)]
pub(crate) struct Cursor {
    /// `None` once its partition is closed.
    pub(crate) series: Option<Arc<Series>>,
    pub(crate) partition: u32,
    /// Staged rows.
    pub(crate) staged: u32,
}

/// The sequence a partition gives next, and whether it is in the list of partitions to publish:
/// in one word, so that those of 4,096 partitions stay in the nearest cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Next(u64);

impl Next {
    const TOUCHED: u64 = 1;

    fn untouched(sequence: u64) -> Self {
        Self(sequence << 1)
    }

    fn sequence(self) -> u64 {
        self.0 >> 1
    }

    fn is_touched(self) -> bool {
        self.0 & Self::TOUCHED != 0
    }

    fn after(self) -> Self {
        Self((self.0 + 2) | Self::TOUCHED)
    }
}

/// What the writer knows of a partition beside its next sequence.
#[derive(Debug, Default)]
pub(crate) struct Local {
    shared: Option<Arc<Partition>>,
    first_sequence: u64,
    /// How many series.
    series: u32,
}

/// A partition's data after it was closed. Dropping it frees what no reader holds, about 0.1 us
/// per thousand ticks; a shard with better things to do may send it to another thread first.
#[derive(Debug)]
pub struct ClosedPartition {
    _partition: Arc<Partition>,
    _series: Vec<(Arc<Series>, Tail)>,
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
    let count = 1usize << config.partition_bits;
    let budget = Arc::new(Budget::new(config.bytes_max));
    // The slot, the watermark and the next sequence, the list of touched ones, and the rest.
    let per_partition = 8 + 8 + 8 + 4 + size_of::<Local>();
    budget.take(count * per_partition + usize::from(TABLES_MAX) * size_of::<Vec<u32>>())?;
    let shared = Arc::new(Shared {
        partition_bits: config.partition_bits,
        partitions: std::iter::repeat_with(ArcSwapOption::empty).take(count).collect(),
        watermarks: std::iter::repeat_with(AtomicU64::default).take(count).collect(),
        counters: Counters::default(),
        budget,
    });
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
        soon: [NO_SERIES; 2],
        pipelined: true,
        expiry: Expiry::new(config.retention),
    };
    Ok((store, StoreReader::new(shared)))
}

/// Appending: called for every tick.
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
    #[inline]
    pub fn partition_of(&self, series: SeriesIndex) -> PartitionId {
        PartitionId(self.cursors[series.0 as usize].partition)
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
        if full && self.pipelined {
            self.move_soon(index as u32);
        }
        Ok(taken.sequence())
    }

    /// Fetches what [`append`](Self::append) to this series will write into the cache.
    #[inline(always)]
    pub fn prefetch(&self, series: SeriesIndex) {
        let cursor = &self.cursors[series.0 as usize];
        if let Some(series) = &cursor.series {
            series.staging.prefetch(cursor.staged as usize);
        }
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
                self.shared.raise_watermark(id, sequence);
            }
        }
        self.shared.counters.appended.set(self.appended);
    }

    /// Shows readers the ticks of a partition with sequences below `watermark`, which is no more
    /// than the next sequence: what is beyond that is ignored. It never lowers the watermark.
    ///
    /// # Errors
    /// `NotOpen`.
    pub fn raise_watermark(&mut self, id: PartitionId, watermark: u64) -> Result<(), StoreError> {
        self.open_local(id)?;
        let end = self.next[id.0 as usize].sequence();
        self.shared.raise_watermark(id.0, watermark.min(end));
        self.shared.counters.appended.set(self.appended);
        Ok(())
    }

    /// All slots of a series are taken, and another row comes.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, index: usize) -> Result<(), StoreError> {
        let moved = self.move_staged(index);
        self.count_refusal(moved)
    }

    /// Moves the staged rows of a series into columns, so that all its slots are free. On an
    /// error, the rows that did move are noted and the others stay staged.
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
                let (sealed, begun) = tail.begin_segment(series, budget, self.segments, from)?;
                self.expiry.note_growth(index, sealed.as_ref(), &mut tail.grown);
                self.segments += 1;
                pushed = begun;
            }
            tail.note_moved(series, &pushed);
        }
        tail.moved = 0;
        cursor.staged = 0;
        Ok(())
    }

    /// The slots of a series are full. To move its rows needs some fifteen cache lines, so that
    /// is done in three steps, each when the next series has come so far: fetch what says where
    /// the lines are, fetch them, move.
    #[inline(never)]
    fn move_soon(&mut self, index: u32) {
        let [fetched, located] = self.soon;
        self.soon = [index, fetched];
        if let Some(tail) = self.tails.get(index as usize) {
            prefetch_bytes(tail);
        }
        if let Some(tail) = self.tails.get(fetched as usize) {
            tail.prefetch();
            if let Some(series) = &self.cursors[fetched as usize].series {
                series.staging.prefetch_all();
            }
        }
        let full = |cursor: &Cursor| cursor.staged as usize == STAGED_ROWS;
        if self.cursors.get(located as usize).is_some_and(full) {
            // Refused or closed: the next append to it says so.
            self.move_staged(located as usize).ok();
        }
    }

    pub fn set_pipelined(&mut self, on: bool) {
        self.pipelined = on;
    }

    fn count_refusal<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(result, Err(StoreError::Full)) {
            self.shared.counters.refused_full.add(1);
        }
        result
    }
}

/// Opening and closing: called when placement changes, or a series is new.
impl Store {
    /// Opens a partition, empty, whose next tick gets `next_sequence`: 1 for a new one.
    ///
    /// # Errors
    /// `AlreadyOpen`; `OutOfBounds` if there is no such partition or `next_sequence` is zero or
    /// above `FIRST_SEQUENCE_MAX`; `Full`.
    pub fn open_partition(
        &mut self,
        id: PartitionId,
        epoch: Epoch,
        next_sequence: u64,
    ) -> Result<(), StoreError> {
        let local = self.partitions.get(id.0 as usize).ok_or(StoreError::OutOfBounds)?;
        if next_sequence == 0 || next_sequence > FIRST_SEQUENCE_MAX {
            return Err(StoreError::OutOfBounds);
        }
        if local.shared.is_some() {
            return Err(StoreError::AlreadyOpen);
        }
        let partition = Partition::create(&self.shared.budget, id, epoch);
        let partition = self.count_refusal(partition)?;
        self.partitions[id.0 as usize] =
            Local { shared: Some(partition.clone()), first_sequence: next_sequence, series: 0 };
        self.next[id.0 as usize] = Next::untouched(next_sequence);
        // Release order, and between closing and opening: see `Shared::partition`.
        self.shared.watermarks[id.0 as usize].store(next_sequence, Release);
        self.shared.partitions[id.0 as usize].store(Some(partition));
        self.shared.counters.partitions.add(1);
        Ok(())
    }

    /// Closes a partition: readers that come now find nothing, its series are gone, and its
    /// memory is free once what is returned is dropped and the readers that are at it are done.
    /// `None` if it was not open.
    pub fn close_partition(&mut self, id: PartitionId) -> Option<ClosedPartition> {
        let local = self.partitions.get_mut(id.0 as usize)?;
        let partition = local.shared.take()?;
        if self.next[id.0 as usize].is_touched() {
            self.touched.retain(|touched| *touched != id.0);
        }
        self.shared.partitions[id.0 as usize].store(None);
        let mut closed = Vec::with_capacity(local.series as usize);
        let mut rows = 0;
        for series in partition.all_series() {
            let cursor = &mut self.cursors[series.index as usize];
            let tail = std::mem::take(&mut self.tails[series.index as usize]);
            rows += tail.rows + u64::from(cursor.staged - tail.moved);
            self.expiry.bytes -= tail.bytes();
            // No room, so that an append by a stale index leaves the hot path and is refused.
            *cursor = Cursor { series: None, staged: STAGED_ROWS as u32, ..*cursor };
            self.tables[usize::from(series.table)][series.symbol as usize] = NO_SERIES;
            self.free.push(series.index);
            closed.push((series, tail));
        }
        let counters = &self.shared.counters;
        counters.appended.set(self.appended);
        counters.closed.add(rows);
        counters.series.sub(closed.len() as u64);
        counters.partitions.sub(1);
        Some(ClosedPartition { _partition: partition, _series: closed })
    }

    /// Sets the epoch that readers see beside the partition's data.
    ///
    /// # Errors
    /// `NotOpen`.
    pub fn set_epoch(&mut self, id: PartitionId, epoch: Epoch) -> Result<(), StoreError> {
        self.open_local(id)?.1.set_epoch(epoch);
        Ok(())
    }

    /// Whether a partition is open.
    pub fn is_open(&self, id: PartitionId) -> bool {
        self.open_local(id).is_ok()
    }

    /// Whether no tick was appended to a partition since it was opened; also true if it is not
    /// open.
    pub fn is_empty(&self, id: PartitionId) -> bool {
        let first = |(local, _): (&Local, _)| local.first_sequence;
        self.open_local(id).map(first).ok() == self.next_sequence(id)
    }

    /// The sequence that a partition's next tick will get.
    pub fn next_sequence(&self, id: PartitionId) -> Option<u64> {
        self.is_open(id).then(|| self.next[id.0 as usize].sequence())
    }

    /// The series of a (table, symbol), created if it does not exist.
    ///
    /// # Errors
    /// `OutOfBounds` if there can be no such table or symbol; `NotOpen` if its partition is not;
    /// `Full`.
    pub fn create_series(&mut self, table: u16, symbol: u32) -> Result<SeriesIndex, StoreError> {
        if let Some(series) = self.series(table, symbol) {
            return Ok(series);
        }
        let created = self.try_create_series(table, symbol);
        self.count_refusal(created)
    }

    fn try_create_series(&mut self, table: u16, symbol: u32) -> Result<SeriesIndex, StoreError> {
        if table >= TABLES_MAX || symbol >= SYMBOLS_MAX {
            return Err(StoreError::OutOfBounds);
        }
        let id = partition_of(table, symbol, self.shared.partition_bits);
        self.open_local(id)?;
        // Room first, and room that turns out not to be needed is kept for the next series.
        self.ensure_table(table, symbol)?;
        self.ensure_slot()?;
        let next = self.next[id.0 as usize].sequence();
        let local = &mut self.partitions[id.0 as usize];
        let Some(partition) = &local.shared else { return Err(StoreError::NotOpen) };
        let index = self.free.last().copied().unwrap_or(self.cursors.len() as u32);
        let budget = &self.shared.budget;
        let series = Series::create(budget, (table, symbol), index, next)?;
        partition.insert(series.clone(), local.series as usize)?;
        local.series += 1;
        let cursor = Cursor { series: Some(series), partition: id.0, staged: 0 };
        if self.free.pop().is_some() {
            self.cursors[index as usize] = cursor;
        } else {
            self.cursors.push(cursor);
            self.tails.push(Tail::default());
        }
        self.tables[usize::from(table)][symbol as usize] = index;
        self.shared.counters.series.add(1);
        Ok(SeriesIndex(index))
    }

    /// Makes the dense index of a table reach a symbol.
    fn ensure_table(&mut self, table: u16, symbol: u32) -> Result<(), StoreError> {
        let entries = &mut self.tables[usize::from(table)];
        let needed = symbol as usize + 1;
        if needed <= entries.len() {
            return Ok(());
        }
        let len = needed.next_power_of_two().max(TABLE_ENTRIES_MIN);
        self.shared.budget.take((len - entries.len()) * size_of::<u32>())?;
        entries.reserve_exact(len - entries.len());
        entries.resize(len, NO_SERIES);
        Ok(())
    }

    /// Makes room for one more series in the dense arrays.
    fn ensure_slot(&mut self) -> Result<(), StoreError> {
        let len = self.cursors.len();
        if !self.free.is_empty() || len < self.cursors.capacity() {
            return Ok(());
        }
        let more = len.max(SLOTS_MIN);
        self.shared.budget.take(more * SLOT_BYTES)?;
        self.cursors.reserve_exact(more);
        self.tails.reserve_exact(more);
        // Neither list is ever longer than the others, so closing and expiry allocate nothing.
        self.free.reserve_exact(len + more);
        self.expiry.reserve_series(len + more);
        Ok(())
    }

    fn open_local(&self, id: PartitionId) -> Result<(&Local, &Arc<Partition>), StoreError> {
        let local = self.partitions.get(id.0 as usize).ok_or(StoreError::NotOpen)?;
        local.shared.as_ref().map(|shared| (local, shared)).ok_or(StoreError::NotOpen)
    }
}

fn prefetch_bytes<T>(value: &T) {
    let start: *const u8 = (&raw const *value).cast();
    for line in 0..size_of::<T>().div_ceil(64) {
        crate::segment::prefetch(start.wrapping_add(64 * line));
    }
}
