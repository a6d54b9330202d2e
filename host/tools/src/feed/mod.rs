//! Sources of ticks: where rows come from before a producer sends them.
//!
//! A feed is pulled in batches by its caller, holds a bounded amount of memory whatever it reads,
//! and skips nothing silently: a malformed line ends it, or is counted by reason when the caller
//! asked for that. It deliberately knows neither nodes nor symbol ids: [`Row::symbol`] is an index
//! into the feed's own list of names, which the caller maps to ids of the cluster.

use std::fmt;

pub mod csv;
pub mod decimal;
pub mod error;
pub mod generate;
mod line;
mod names;
mod source;
mod window;

pub use csv::{CsvFeed, OnBadLine};
pub use error::{BadLine, Fault, FeedError, Skipped};
pub use generate::GeneratedFeed;

/// One market event of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// When it happened, in nanoseconds since the Unix epoch.
    pub event_time_ns: u64,
    /// Index into [`Feed::names`].
    pub symbol: u32,
    /// One of [`zepto_abi::Kind`].
    pub kind: u8,
    /// Price in units of 1e-9.
    pub price: i64,
    /// Size in units of 1e-9; zero is a price level that went away.
    pub size: u64,
}

/// A source of rows. One thread pulls; feeds may move between threads.
pub trait Feed: Send {
    /// Names seen so far, in order of appearance. Any batch may append; none is ever removed.
    fn names(&self) -> &[String];

    /// Appends up to `max` rows to `out` and says how many. Zero, for a `max` above zero, is the
    /// end of the feed. Fewer than `max` is not: a feed returns what it has rather than wait for
    /// more. Reading a pipe blocks for the first row for as long as the pipe's other end is
    /// silent.
    ///
    /// # Errors
    /// Rows before the error are in `out`. Every error is final: the next call returns
    /// [`FeedError::AfterError`].
    fn next_batch(&mut self, out: &mut Vec<Row>, max: usize) -> Result<usize, FeedError>;

    /// How many rows there will be in all, where that is known beforehand.
    fn rows_expected(&self) -> Option<u64>;

    /// How far the feed has got.
    fn progress(&self) -> Progress;

    /// Malformed lines that were left out, by reason. Always empty unless skipping was asked for.
    fn skipped(&self) -> &Skipped;
}

/// How far a feed has got, for a progress display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read from the file (compressed, if it is), or rows generated.
    pub done: u64,
    /// What `done` will be at the end; `None` for a pipe.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: ProgressUnit,
}

/// What a [`Progress`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressUnit {
    /// Bytes of the file.
    Bytes,
    /// Rows.
    Rows,
}

impl fmt::Display for ProgressUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Rows => "rows",
        })
    }
}
