//! The growing end of one series, as its writer keeps it: staged rows go into columns here.

use std::sync::Arc;

use zepto_abi::Tick;
use zepto_core::limits::{SEGMENT_ROWS_MAX, SEGMENT_ROWS_MIN};

use crate::StoreError;
use crate::budget::Budget;
use crate::segment::SegmentWriter;
use crate::series::Series;

#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The segment being filled.
    pub(crate) writer: Option<SegmentWriter>,
    /// Rows in columns.
    pub(crate) rows: u64,
    /// Bytes of the listed segments.
    pub(crate) bytes: u64,
    /// Staged rows that are in columns already: not zero only after a refusal in between.
    pub(crate) moved: u32,
    /// In the list of series whose row count retention has to look at.
    pub(crate) grown: bool,
    /// Latest event time that went into columns.
    latest_ns: u64,
}

impl Tail {
    /// Adds rows to the segment being filled; returns how many found room, perhaps none. On
    /// `Full` none did.
    pub(crate) fn push(&mut self, rows: &[Tick]) -> Result<usize, StoreError> {
        let Some(writer) = &mut self.writer else { return Ok(0) };
        let bytes = writer.segment().bytes();
        let pushed = writer.push(rows);
        // Also when it was refused: one column of two may have been added.
        self.bytes += (writer.segment().bytes() - bytes) as u64;
        pushed
    }

    /// Begins the segment with this number for rows that found no room; adds as many as it may,
    /// at least one. Returns the segment before it, now sealed, and how many. On `Full` nothing
    /// has changed.
    pub(crate) fn begin_segment(
        &mut self,
        series: &Series,
        budget: &Arc<Budget>,
        number: u64,
        rows: &[Tick],
    ) -> Result<(Option<SegmentWriter>, usize), StoreError> {
        let Some(first) = rows.first() else { return Ok((None, 0)) };
        let rows_max = segment_rows(self.rows);
        let mut writer = SegmentWriter::create(budget, number, rows_max, first.sequence)?;
        let count = writer.push(rows)?;
        self.bytes += writer.segment().bytes() as u64;
        series.push_segment(writer.segment().clone());
        Ok((self.writer.replace(writer), count))
    }

    /// Forgets all rows: they were dropped.
    pub(crate) fn clear(&mut self) {
        *self = Self { grown: self.grown, ..Self::default() };
    }

    /// These staged rows are in columns now.
    pub(crate) fn note_moved(&mut self, series: &Series, rows: &[Tick]) {
        for row in rows {
            if row.event_time_ns < self.latest_ns {
                series.set_disordered();
            }
            self.latest_ns = self.latest_ns.max(row.event_time_ns);
        }
        self.rows += rows.len() as u64;
        self.moved += rows.len() as u32;
        if let Some(last) = rows.last() {
            series.staging.moved(last.sequence + 1);
        }
    }
}

/// Rows of the next segment of a series that has `rows` in columns: a quarter to a half of
/// them, so that what is allocated ahead stays in proportion.
fn segment_rows(rows: u64) -> usize {
    let half = (rows / 2).clamp(SEGMENT_ROWS_MIN as u64, SEGMENT_ROWS_MAX as u64);
    1 << half.ilog2()
}
