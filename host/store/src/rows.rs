//! Rows of one segment as a reader sees them: slices of its columns.

use zepto_abi::Tick;

use crate::query::{Edge, Position};
use crate::segment::Segment;

/// Rows of one segment, next to each other, as a reader sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) segment: &'a Segment,
    /// Index of the first row in its segment.
    pub(crate) from: usize,
    /// In order of time, and thus of (time, sequence).
    pub(crate) ordered: bool,
    pub(crate) times: &'a [u64],
    pub(crate) prices: &'a [i64],
    pub(crate) sizes: &'a [u64],
    pub(crate) offsets: &'a [u32],
    pub(crate) kinds: &'a [u8],
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Rows `from..to` of these.
    pub(crate) fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            from: self.from + from,
            times: &self.times[from..to],
            prices: &self.prices[from..to],
            sizes: &self.sizes[from..to],
            offsets: &self.offsets[from..to],
            kinds: &self.kinds[from..to],
            ..*self
        }
    }

    pub(crate) fn sequence(&self, row: usize) -> u64 {
        self.segment.first_sequence + u64::from(self.offsets[row])
    }

    pub(crate) fn position(&self, row: usize) -> Position {
        Position { time_ns: self.times[row], sequence: self.sequence(row) }
    }

    pub(crate) fn edge(&self, row: usize) -> Edge {
        Edge { time_ns: self.times[row], sequence: self.sequence(row), price: self.prices[row] }
    }

    /// Bounds of the event times, or wider.
    pub(crate) fn time_bounds(&self) -> (u64, u64) {
        match self.times {
            [first, .., last] if self.ordered => (*first, *last),
            _ => self.segment.time_bounds(),
        }
    }

    /// The whole row as a tick.
    pub(crate) fn tick(&self, row: usize, table: u16, symbol: u32) -> Tick {
        let optional = self.segment.optional_values(self.from + row);
        Tick {
            sequence: self.sequence(row),
            event_time_ns: self.times[row],
            receive_time_ns: optional.receive_time_ns,
            symbol,
            table,
            kind: self.kinds[row],
            flags: optional.flags,
            price: self.prices[row],
            size: self.sizes[row],
            user: optional.user,
        }
    }
}
