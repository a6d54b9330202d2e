//! Copies of a partition: reading one out, row by row, while it is appended to; and writing one in
//! that begins with what came last.
//!
//! A copy goes series by series, because that is how rows lie. Every row keeps the sequence that
//! its partition gave it, so where the rows of a partition come from makes no difference to
//! readers.

use core::ops::Range;
use std::sync::Arc;

use zepto_abi::{PartitionId, Tick};
use zepto_core::limits::{FIRST_SEQUENCE_MAX, STAGED_ROWS};

use crate::row::{SEQUENCE, pack};
use crate::series::Series;
use crate::store::Next;
use crate::{Store, StoreError};

/// How far a partition has been read out. What is appended after it was begun is not part of it,
/// and what retention drops meanwhile need not be.
#[derive(Debug)]
pub struct PartitionCopy {
    series: Vec<Arc<Series>>,
    /// Series that were read to their end.
    done: usize,
    /// Rows below this sequence are not part of the copy.
    begin: u64,
    /// Rows of the next series below this sequence were read.
    from: u64,
    /// Rows from this sequence on are not part of the copy.
    end: u64,
}

impl PartitionCopy {
    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.done == self.series.len()
    }

    /// Gives out up to `max` further rows: of one series after another, each in its order. Only
    /// the thread of the store may call it, between two appends.
    pub fn read(&mut self, max: usize, mut give: impl FnMut(&Tick)) {
        let mut left = max;
        while left > 0 && self.done < self.series.len() {
            let taken = self.read_series(left, &mut give);
            left -= taken;
            if left > 0 {
                self.done += 1;
                self.from = self.begin;
            }
        }
    }

    /// Rows of the present series; fewer than `max` only at its end.
    fn read_series(&mut self, max: usize, give: &mut impl FnMut(&Tick)) -> usize {
        let series = &self.series[self.done];
        let view = series.view(self.end);
        let mut taken = 0;
        for rows in view.segments(0, u64::MAX) {
            if rows.len() == 0 || rows.sequence(rows.len() - 1) < self.from {
                continue;
            }
            let first = (0..rows.len()).find(|row| rows.sequence(*row) >= self.from);
            for row in first.unwrap_or(rows.len())..rows.len() {
                if taken == max {
                    return taken;
                }
                let tick = rows.tick(row, series.table, series.symbol);
                self.from = tick.sequence + 1;
                give(&tick);
                taken += 1;
            }
        }
        for tick in view.staged() {
            if tick.sequence < self.from {
                continue;
            }
            if taken == max {
                return taken;
            }
            self.from = tick.sequence + 1;
            give(tick);
            taken += 1;
        }
        taken
    }
}

impl Store {
    /// Begins to read out what a partition holds now, published or not, of these sequences;
    /// `None` if it is not open.
    pub fn copy_partition(&self, id: PartitionId, range: Range<u64>) -> Option<PartitionCopy> {
        let end = range.end.min(self.next_sequence(id)?);
        let partition = self.partitions[id.0 as usize].shared.as_ref()?;
        let begin = range.start;
        let series = if begin < end { partition.all_series() } else { Vec::new() };
        Some(PartitionCopy { series, done: 0, begin, from: begin, end })
    }

    /// Adds a row with the sequence it has, which must be above that of all other rows of its
    /// series. The sequence that the partition gives next stays as it is: see
    /// [`resume`](Self::resume).
    ///
    /// # Errors
    /// `OutOfBounds`: there can be no such series, or its rows do not come in order. `NotOpen`,
    /// `Full`. The row is not stored then.
    pub fn backfill(&mut self, tick: &Tick) -> Result<(), StoreError> {
        let index = self.create_series(tick.table, tick.symbol)?.0 as usize;
        if self.cursors[index].staged as usize == STAGED_ROWS {
            self.make_room(index)?;
        }
        let cursor = &mut self.cursors[index];
        let Some(series) = &cursor.series else { return Err(StoreError::NotOpen) };
        let floor = match cursor.staged {
            0 => series.staging.end(),
            staged => series.staging.word(staged as usize - 1, SEQUENCE) + 1,
        };
        if tick.sequence < floor || tick.sequence > FIRST_SEQUENCE_MAX {
            return Err(StoreError::OutOfBounds);
        }
        series.staging.put(cursor.staged as usize, &pack(tick, tick.sequence));
        cursor.staged += 1;
        self.appended += 1;
        if cursor.staged as usize == STAGED_ROWS {
            self.move_soon(index as u32);
        }
        Ok(())
    }

    /// Whether so many rows of each of these series, of which none is named twice, can be
    /// backfilled for certain. Series that are not there yet are made.
    ///
    /// # Errors
    /// `Full`, when they may not find room; what [`backfill`](Self::backfill) says of a series.
    pub fn ensure_room(
        &mut self,
        rows: impl IntoIterator<Item = ((u16, u32), usize)>,
    ) -> Result<(), StoreError> {
        let mut bytes = 0;
        for ((table, symbol), rows) in rows {
            let index = self.create_series(table, symbol)?.0 as usize;
            // Whatever is staged may have to move into columns too.
            let staged = self.cursors[index].staged as usize;
            if staged + rows > STAGED_ROWS {
                bytes += self.tails[index].bytes_for(staged + rows);
            }
        }
        let fits = bytes as u64 <= self.shared.budget.left();
        self.count_refusal(if fits { Ok(()) } else { Err(StoreError::Full) })
    }

    /// The partition gives this sequence next: all rows below it are there. It must be above that
    /// of all its rows.
    ///
    /// # Errors
    /// `NotOpen`, `OutOfBounds`.
    pub fn resume(&mut self, id: PartitionId, next_sequence: u64) -> Result<(), StoreError> {
        let next = self.next_sequence(id).ok_or(StoreError::NotOpen)?;
        if next_sequence < next || next_sequence > FIRST_SEQUENCE_MAX {
            return Err(StoreError::OutOfBounds);
        }
        self.next[id.0 as usize] = Next::untouched(next_sequence);
        self.touched.retain(|touched| *touched != id.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::TimeRange;
    use crate::{Retention, StoreConfig, StoreReader};
    use zepto_abi::Epoch;

    const P: PartitionId = PartitionId(0);

    fn store() -> (Store, StoreReader) {
        let retention = Retention::default();
        let config = StoreConfig { partition_bits: 1, bytes_max: 64 << 20, retention };
        let (mut store, reader) = crate::open(config).unwrap();
        store.open_partition(P, Epoch(1), 1).unwrap();
        (store, reader)
    }

    /// Symbols of the partition that the tests use.
    fn symbols() -> Vec<u32> {
        let mine = |symbol: &u32| zepto_core::hash::partition_of(0, *symbol, 1) == P;
        (0..20).filter(mine).collect()
    }

    fn tick(symbol: u32, n: u64) -> Tick {
        Tick { symbol, event_time_ns: n / 3, price: n as i64, user: [n, n % 7], ..Tick::default() }
    }

    fn fill(store: &mut Store, from: u64, count: u64) {
        let symbols = symbols();
        for n in from..from + count {
            // Some series are long, others short.
            let symbol = symbols[(n % 5 * n % symbols.len() as u64) as usize];
            let series = store.create_series(0, symbol).unwrap();
            assert_eq!(store.append(series, &tick(symbol, n)), Ok(n));
        }
    }

    fn contents(reader: &StoreReader) -> Vec<Tick> {
        let mut all = Vec::new();
        for symbol in symbols() {
            all.extend(reader.range(0, symbol, TimeRange::ALL, None, 1 << 16).ticks);
        }
        all
    }

    #[test]
    fn a_copy_that_is_read_while_ticks_come_is_what_was_there_at_its_beginning() {
        for chunk in [1, 3, 8, 100, 1 << 20] {
            let (mut source, reader) = store();
            fill(&mut source, 1, 5_000);
            source.publish();
            let before = contents(&reader);
            let mut copy = source.copy_partition(P, 0..u64::MAX).unwrap();
            let (mut target, copied) = store();
            let mut next = 5_001;
            while !copy.is_done() {
                let mut rows = Vec::new();
                copy.read(chunk, |tick| rows.push(*tick));
                assert!(rows.len() <= chunk);
                rows.iter().for_each(|tick| target.backfill(tick).unwrap());
                // The source goes on meanwhile.
                if next < 6_000 {
                    fill(&mut source, next, 10);
                    next += 10;
                }
            }
            target.resume(P, 5_001).unwrap();
            target.publish_where(|_| false);
            target.raise_watermark(P, 5_001).unwrap();
            assert_eq!(contents(&copied), before, "in chunks of {chunk}");
            // What came meanwhile follows with the sequences it has.
            fill(&mut target, 5_001, next - 5_001);
            target.publish();
            source.publish();
            assert_eq!(contents(&copied), contents(&reader));
        }
    }

    #[test]
    fn what_was_said_to_fit_fits() {
        let (mut fitted, mut refused) = (0, 0);
        for bytes_max in (8_000..60_000).step_by(1_777) {
            for before in [0, 5, 100, 300] {
                let retention = Retention::default();
                let config = StoreConfig { partition_bits: 1, bytes_max, retention };
                let (mut store, _reader) = crate::open(config).unwrap();
                if store.open_partition(P, Epoch(1), 1).is_err() {
                    continue;
                }
                let symbols = symbols();
                let row = |n: u64| Tick {
                    sequence: n,
                    flags: 1,
                    receive_time_ns: n,
                    ..tick(symbols[n as usize % symbols.len()], n)
                };
                if (1..=before).any(|n| store.backfill(&row(n)).is_err()) {
                    continue;
                }
                let rows: Vec<Tick> = (before + 1..before + 150).map(row).collect();
                let of = |symbol| rows.iter().filter(|row| row.symbol == symbol).count();
                let counts = symbols.iter().map(|symbol| ((0, *symbol), of(*symbol)));
                match store.ensure_room(counts) {
                    Ok(()) => {
                        rows.iter().for_each(|row| store.backfill(row).unwrap());
                        fitted += 1;
                    }
                    Err(error) => {
                        assert_eq!(error, StoreError::Full);
                        refused += 1;
                    }
                }
            }
        }
        assert!(fitted > 10 && refused > 10, "{fitted} fitted, {refused} were refused");
    }

    #[test]
    fn rows_of_a_series_that_do_not_come_in_order_are_refused() {
        let (mut store, _) = store();
        let symbol = symbols()[0];
        let at = |sequence| Tick { sequence, ..tick(symbol, sequence) };
        for sequence in (10..40).step_by(3) {
            assert_eq!(store.backfill(&at(sequence)), Ok(()));
            assert_eq!(store.backfill(&at(sequence)), Err(StoreError::OutOfBounds));
            assert_eq!(store.backfill(&at(9)), Err(StoreError::OutOfBounds));
        }
        let far = FIRST_SEQUENCE_MAX + 1;
        assert_eq!(store.backfill(&at(far)), Err(StoreError::OutOfBounds));
        assert_eq!(store.resume(P, far), Err(StoreError::OutOfBounds));
        assert_eq!(store.resume(PartitionId(1), 5), Err(StoreError::NotOpen));
        store.close_partition(P);
        assert_eq!(store.backfill(&at(50)), Err(StoreError::NotOpen));
    }

    #[test]
    fn a_part_of_a_partition_is_its_rows_with_these_sequences() {
        let (mut source, _) = store();
        fill(&mut source, 1, 3_000);
        let read = |range| {
            let mut copy = source.copy_partition(P, range).unwrap();
            let mut rows = Vec::new();
            while !copy.is_done() {
                copy.read(100, |tick| rows.push(tick.sequence));
            }
            rows.sort_unstable();
            rows
        };
        assert_eq!(read(0..1_000), (1..1_000).collect::<Vec<_>>());
        assert_eq!(read(1_000..u64::MAX), (1_000..3_001).collect::<Vec<_>>());
        assert_eq!(read(2_999..2_999), []);
    }

    #[test]
    fn an_empty_partition_is_copied_at_once() {
        let (source, _) = store();
        let mut copy = source.copy_partition(P, 0..u64::MAX).unwrap();
        assert!(copy.is_done());
        copy.read(10, |_| panic!("there is nothing"));
        assert!(source.copy_partition(PartitionId(1), 0..9).is_none());
    }
}
