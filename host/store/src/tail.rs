//! The growing end of one series, as its writer keeps it: staged rows go into columns here.

use std::sync::Arc;

use zepto_core::limits::{SEGMENT_ROWS_MAX, SEGMENT_ROWS_MIN};

use crate::StoreError;
use crate::budget::Budget;
use crate::pause::pause;
use crate::row::SEQUENCE;
use crate::segment::{Pushed, SegmentWriter, most_bytes};
use crate::series::Series;
use crate::staging::Staging;

#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The segment being filled.
    pub(crate) writer: Option<SegmentWriter>,
    /// Rows in columns.
    pub(crate) rows: u64,
    /// Bytes of the segments before that one, which are full.
    pub(crate) full_bytes: u64,
    /// Number of the oldest of them, if retention has noted it.
    pub(crate) oldest: Option<u64>,
    /// Staged rows that are in columns already: not zero only after a refusal in between.
    pub(crate) moved: u32,
    /// In the list of series whose rows retention has to count; stays with the index.
    pub(crate) grown: bool,
    /// Latest event time that went into columns.
    latest_ns: u64,
}

impl Tail {
    /// Adds the staged rows `from..` to the segment being filled, as many as find room, perhaps
    /// none. On `Full` none did.
    #[inline(always)]
    pub(crate) fn push(&mut self, staging: &Staging, from: usize) -> Result<Pushed, StoreError> {
        match &mut self.writer {
            Some(writer) => writer.push(staging, from),
            None => Ok(Pushed::default()),
        }
    }

    /// Begins the segment with this number for rows that found no room; adds as many as it may,
    /// at least one. Returns the number of the segment before it, now full, and what it added.
    /// On `Full` nothing has changed.
    pub(crate) fn begin_segment(
        &mut self,
        series: &Series,
        budget: &Arc<Budget>,
        number: u64,
        from: usize,
    ) -> Result<(Option<u64>, Pushed), StoreError> {
        let first_sequence = series.staging.word(from, SEQUENCE);
        let rows_max = segment_rows(self.rows);
        let mut writer = SegmentWriter::create(budget, number, rows_max, first_sequence)?;
        let pushed = writer.push(&series.staging, from)?;
        series.push_segment(writer.segment().clone());
        let full = self.writer.replace(writer);
        self.full_bytes += full.as_ref().map_or(0, |full| full.bytes() as u64);
        Ok((full.map(|full| full.segment().number), pushed))
    }

    /// These staged rows, the first that were not, are in columns now.
    #[inline(always)]
    pub(crate) fn note_moved(&mut self, series: &Series, pushed: &Pushed) {
        if !pushed.ordered || pushed.min_time_ns < self.latest_ns {
            series.set_disordered();
        }
        self.latest_ns = self.latest_ns.max(pushed.max_time_ns);
        self.rows += pushed.count as u64;
        self.moved += pushed.count as u32;
        pause();
        series.staging.moved(series.staging.word(self.moved as usize - 1, SEQUENCE) + 1);
    }

    /// Bytes that so many further rows may take, at most, whatever columns they need.
    pub(crate) fn bytes_for(&self, mut rows: usize) -> usize {
        let writer = self.writer.as_ref();
        let mut bytes = writer.map_or(0, SegmentWriter::bytes_to_come);
        let mut kept = self.rows;
        let mut room = writer.map_or(0, SegmentWriter::room);
        while rows > room {
            rows -= room;
            kept += room as u64;
            room = segment_rows(kept);
            bytes += most_bytes(room);
        }
        bytes
    }

    /// Bytes of the listed segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.full_bytes + self.writer.as_ref().map_or(0, |writer| writer.bytes() as u64)
    }

    /// Fetches what moving rows will write into the cache.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        if let Some(writer) = &self.writer {
            writer.prefetch();
        }
    }

    /// Gives up all rows: they are dropped, or go with their partition.
    pub(crate) fn clear(&mut self) -> Self {
        std::mem::replace(self, Self { grown: self.grown, ..Self::default() })
    }
}

/// Rows of the next segment of a series that has `rows` in columns: half of them to all, so that
/// what is allocated ahead stays in proportion, and few segments are made on the way.
fn segment_rows(rows: u64) -> usize {
    let rows = rows.clamp(SEGMENT_ROWS_MIN as u64, SEGMENT_ROWS_MAX as u64);
    1 << rows.ilog2()
}
