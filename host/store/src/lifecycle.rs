//! Opening and closing partitions, and creating series: what changes when placement does, or
//! when a symbol is new.

use std::sync::Arc;

use zepto_abi::{Epoch, PartitionId};
use zepto_core::hash::partition_of;
use zepto_core::limits::{FIRST_SEQUENCE_MAX, STAGED_ROWS, SYMBOLS_MAX, TABLES_MAX};

use crate::partition::Partition;
use crate::series::Series;
use crate::store::{Cursor, Local, NO_SERIES, Next, SeriesIndex};
use crate::tail::Tail;
use crate::{Store, StoreError};

/// Entries a table's dense index begins with; it doubles up to the largest symbol in use.
const TABLE_ENTRIES_MIN: usize = 1024;
/// Series the dense arrays begin with.
const SLOTS_MIN: usize = 64;
/// Bytes per series in the dense arrays (cursor, tail, free list) and in retention's lists.
const SLOT_BYTES: usize = size_of::<Cursor>() + size_of::<Tail>() + 4 + 32;

/// The data of a partition that was closed. Dropping it frees what no reader holds, two blocks
/// of memory for each thousand ticks; a thread with better things to do may send it to another.
#[derive(Debug)]
pub struct ClosedPartition {
    _partition: Arc<Partition>,
    _series: Vec<(Arc<Series>, Tail)>,
}

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
        self.shared.open(partition, next_sequence);
        self.shared.counters.partitions.add(1);
        Ok(())
    }

    /// Closes a partition: readers that come now find nothing, its series are gone, and its
    /// memory is free once what is returned is dropped and the readers that are at it are done.
    /// `None` if it was not open.
    pub fn close_partition(&mut self, id: PartitionId) -> Option<ClosedPartition> {
        let partition = self.partitions.get_mut(id.0 as usize)?.shared.take()?;
        self.shared.close(id);
        if self.next[id.0 as usize].is_touched() {
            self.touched.retain(|touched| *touched != id.0);
        }
        let all_series = partition.all_series();
        let mut closed = Vec::with_capacity(all_series.len());
        let mut rows = 0;
        for series in all_series {
            let cursor = &mut self.cursors[series.index as usize];
            let mut tail = self.tails[series.index as usize].clear();
            rows += tail.rows + u64::from(cursor.staged - tail.moved);
            self.expiry.bytes -= tail.bytes();
            self.expiry.set_oldest(series.index as usize, &mut tail, None);
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
        self.open_partition_at(id).ok_or(StoreError::NotOpen)?.set_epoch(epoch);
        Ok(())
    }

    /// Whether a partition is open.
    pub fn is_open(&self, id: PartitionId) -> bool {
        self.open_partition_at(id).is_some()
    }

    /// Whether no tick was appended to a partition since it was opened; true also if it is not
    /// open.
    pub fn is_empty(&self, id: PartitionId) -> bool {
        let first = |next| self.partitions[id.0 as usize].first_sequence == next;
        self.next_sequence(id).is_none_or(first)
    }

    /// The sequence that a partition's next tick will get; `None` if it is not open.
    pub fn next_sequence(&self, id: PartitionId) -> Option<u64> {
        self.open_partition_at(id)?;
        Some(self.next[id.0 as usize].sequence())
    }

    /// The first sequence of a partition that readers do not see yet; `None` if it is not open.
    pub fn watermark(&self, id: PartitionId) -> Option<u64> {
        self.open_partition_at(id)?;
        Some(self.shared.watermark(id))
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
        let next_sequence = self.next_sequence(id).ok_or(StoreError::NotOpen)?;
        // Room first, and room that turns out not to be needed is kept for the next series.
        self.ensure_table(table, symbol)?;
        self.ensure_slot()?;
        let local = &mut self.partitions[id.0 as usize];
        let partition = local.shared.as_ref().ok_or(StoreError::NotOpen)?;
        let index = self.free.last().copied().unwrap_or(self.cursors.len() as u32);
        let budget = &self.shared.budget;
        let series = Series::create(budget, (table, symbol), index, next_sequence)?;
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
        self.free.reserve_exact(len + more - self.free.len());
        Ok(())
    }

    fn open_partition_at(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(id.0 as usize)?.shared.as_deref()
    }
}
