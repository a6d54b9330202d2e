//! Retention: what is dropped, in which order, and how much per call.
//!
//! Rows go in whole segments from the old end of a series, and a segment with a row at or above
//! the watermark stays: it may not be acknowledged yet. Each call does a bounded amount of work,
//! so that a shard can afford it between two batches. A reader that holds a dropped segment
//! keeps its memory, and the budget keeps counting it; retention by bytes does not, else a slow
//! reader would make it drop everything.

use std::collections::{BTreeMap, VecDeque};

use zepto_abi::PartitionId;
use zepto_core::limits::{EXPIRE_SEGMENTS_MAX, EXPIRE_SERIES_MAX};

use crate::row::unpack;
use crate::segment::Segment;
use crate::tail::Tail;
use crate::{Retention, Store};

/// What retention remembers between its calls; none of it grows beyond the number of series.
#[derive(Debug)]
pub(crate) struct Expiry {
    retention: Retention,
    /// Bytes of all listed segments.
    pub(crate) bytes: u64,
    /// The oldest full segment of each series that has one: its number, which grows from segment
    /// to segment, and the series. Only when bytes are bounded.
    oldest: BTreeMap<u64, u32>,
    /// Series that got a segment, to have their rows counted. Only when rows are bounded.
    grown: VecDeque<u32>,
    /// Where the round over the series goes on that looks for old ticks.
    next_series: usize,
}

impl Expiry {
    pub(crate) fn new(retention: Retention) -> Self {
        Self {
            retention,
            bytes: 0,
            oldest: BTreeMap::new(),
            grown: VecDeque::new(),
            next_series: 0,
        }
    }

    /// A series got a new segment, and `full` is the one before it.
    pub(crate) fn note_growth(&mut self, index: usize, full: u64, tail: &mut Tail) {
        if self.retention.bytes_max.is_some() && tail.oldest.is_none() {
            self.set_oldest(index, tail, Some(full));
        }
        if self.retention.rows_per_series_max.is_some() && !tail.grown {
            tail.grown = true;
            self.grown.push_back(index as u32);
        }
    }

    /// The oldest full segment of a series is another one now, or none.
    pub(crate) fn set_oldest(&mut self, index: usize, tail: &mut Tail, oldest: Option<u64>) {
        if let Some(before) = tail.oldest {
            self.oldest.remove(&before);
        }
        tail.oldest = oldest.filter(|_| self.retention.bytes_max.is_some());
        if let Some(number) = tail.oldest {
            self.oldest.insert(number, index as u32);
        }
    }
}

impl Store {
    /// Drops ticks that the [`Retention`] no longer keeps, at most 64 segments, and returns how
    /// many. `now_ns` is the present in the terms of the ticks' event times. To be called
    /// regularly: it also does its rounds in steps.
    pub fn expire(&mut self, now_ns: u64) -> u64 {
        let mut left = EXPIRE_SEGMENTS_MAX;
        let Retention { rows_per_series_max, bytes_max, age_max_ns } = self.expiry.retention;
        let by_count = rows_per_series_max.map_or(0, |max| self.by_count(max, &mut left));
        let by_bytes = bytes_max.map_or(0, |max| self.by_bytes(max, &mut left));
        let oldest_ns = age_max_ns.map_or(0, |max| now_ns.saturating_sub(max));
        let by_age = if oldest_ns > 0 { self.by_age(oldest_ns, &mut left) } else { 0 };
        let counters = &self.shared.counters;
        counters.appended.set(self.appended);
        counters.expired_by_count.add(by_count);
        counters.expired_by_bytes.add(by_bytes);
        counters.expired_by_age.add(by_age);
        by_count + by_bytes + by_age
    }

    fn by_count(&mut self, rows_max: u64, left: &mut usize) -> u64 {
        let mut rows = 0;
        for _ in 0..self.expiry.grown.len().min(EXPIRE_SERIES_MAX) {
            let Some(entry) = self.expiry.grown.pop_front() else { break };
            let index = entry as usize;
            self.tails[index].grown = false;
            let mut kept = self.tails[index].rows + u64::from(self.unmoved(index));
            let dropped = self.drop_full(index, left, |segment| {
                kept -= segment.len() as u64;
                kept >= rows_max
            });
            if dropped.held_up {
                self.tails[index].grown = true;
                self.expiry.grown.push_back(entry);
            }
            rows += dropped.rows;
        }
        rows
    }

    fn by_bytes(&mut self, bytes_max: u64, left: &mut usize) -> u64 {
        let mut rows = 0;
        let mut from = 0;
        for _ in 0..EXPIRE_SERIES_MAX {
            if self.expiry.bytes <= bytes_max || *left == 0 {
                break;
            }
            let Some((number, index)) = self.expiry.oldest.range(from..).next() else { break };
            let (number, index) = (*number, *index as usize);
            let dropped = self.drop_full(index, left, |segment| segment.number == number);
            if dropped.held_up {
                // At the watermark: the next oldest instead.
                from = number + 1;
            }
            rows += dropped.rows;
        }
        rows
    }

    fn by_age(&mut self, oldest_ns: u64, left: &mut usize) -> u64 {
        let mut rows = 0;
        for _ in 0..self.cursors.len().min(EXPIRE_SERIES_MAX) {
            if *left == 0 {
                break;
            }
            let index = self.expiry.next_series % self.cursors.len();
            self.expiry.next_series = index + 1;
            let old = |segment: &Segment| segment.time_bounds().1 < oldest_ns;
            rows += self.drop_full(index, left, old).rows;
            rows += self.drop_rest(index, oldest_ns);
        }
        rows
    }

    /// Drops the oldest segments of a series for as long as `drop` says so, but not the one that
    /// is being filled.
    fn drop_full(
        &mut self,
        index: usize,
        left: &mut usize,
        mut drop: impl FnMut(&Segment) -> bool,
    ) -> Dropped {
        let mut dropped = Dropped::default();
        let cursor = &self.cursors[index];
        let tail = &mut self.tails[index];
        let (Some(series), Some(writer)) = (&cursor.series, &tail.writer) else { return dropped };
        let Some(directory) = series.directory() else { return dropped };
        let watermark = self.shared.watermark(PartitionId(cursor.partition));
        let filling = writer.segment().number;
        let mut full = directory.segments().take_while(|it| it.number != filling).peekable();
        let (mut count, mut bytes) = (0, 0);
        while let Some(segment) = full.peek()
            && drop(segment)
        {
            if *left == 0 || segment.end_sequence() > watermark {
                dropped.held_up = true;
                break;
            }
            *left -= 1;
            count += 1;
            bytes += segment.bytes() as u64;
            dropped.rows += segment.len() as u64;
            full.next();
        }
        if count > 0 {
            let oldest = full.peek().map(|segment| segment.number);
            series.drop_oldest(&directory, count);
            tail.rows -= dropped.rows;
            tail.full_bytes -= bytes;
            self.expiry.bytes -= bytes;
            self.expiry.set_oldest(index, tail, oldest);
        }
        dropped
    }

    /// Drops all that a series has, when it is no more than the segment being filled and staged
    /// rows, all of them before `oldest_ns`: a series that went quiet.
    fn drop_rest(&mut self, index: usize, oldest_ns: u64) -> u64 {
        let cursor = &mut self.cursors[index];
        let tail = &mut self.tails[index];
        let Some(series) = &cursor.series else { return 0 };
        let mut rows = 0;
        let mut end = 0;
        if let Some(writer) = &tail.writer {
            let filling = writer.segment();
            if tail.rows != filling.len() as u64 || filling.time_bounds().1 >= oldest_ns {
                return 0;
            }
            rows = tail.rows;
            end = filling.end_sequence();
        }
        for slot in tail.moved..cursor.staged {
            let staged = unpack(&series.staging.get(slot as usize), series.table, series.symbol);
            if staged.event_time_ns >= oldest_ns {
                return 0;
            }
            rows += 1;
            end = staged.sequence + 1;
        }
        if rows == 0 || end > self.shared.watermark(PartitionId(cursor.partition)) {
            return 0;
        }
        series.drop_all(end);
        self.expiry.bytes -= tail.bytes();
        tail.clear();
        cursor.staged = 0;
        rows
    }

    /// Rows that are only staged.
    fn unmoved(&self, index: usize) -> u32 {
        self.cursors[index].staged - self.tails[index].moved
    }
}

/// What became of the oldest segments of a series.
#[derive(Debug, Default)]
struct Dropped {
    rows: u64,
    /// More should go, but may not: at this call's bound, or at the watermark.
    held_up: bool,
}
