//! Sources of ticks: where rows come from before a producer sends them.
//!
//! A feed is pulled in batches by its caller, holds a bounded amount of memory whatever it reads,
//! and skips nothing silently: a malformed line or record ends it, or is counted by reason when the
//! caller asked for that. It deliberately knows neither nodes nor symbol ids: [`Row::symbol`] is an
//! index into the feed's own list of names, which the caller maps to ids of the cluster.

use std::fmt;
use std::io::Read;
use std::path::Path;

mod buffer;
pub mod csv;
pub mod dbn;
pub mod decimal;
pub mod error;
mod file;
pub mod generate;
mod line;
mod names;
pub mod notes;
mod source;
mod window;

pub use csv::CsvFeed;
pub use error::{BadRow, Fault, FeedError, Place, Skipped};
pub use generate::GeneratedFeed;
pub use notes::Notes;

use dbn::DbnFeed;
use source::{Raw, Source};

/// What to do with a malformed line or record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadRow {
    /// End the feed with [`FeedError::Row`].
    Fail,
    /// Leave it out, and count it in [`Feed::skipped`].
    Skip,
}

/// Opens a file; the path `-` is standard input. What it holds, CSV or DBN, and whether it is
/// compressed with zstd, is told by its first bytes, not by its name.
///
/// # Errors
/// Every [`FeedError`] that says "Nothing was read", and those of reading.
pub fn open(path: &Path, on_bad_row: OnBadRow) -> Result<Box<dyn Feed>, FeedError> {
    let (file, raw, total_bytes) = source::open(path)?;
    start(file, raw, total_bytes, on_bad_row)
}

/// Reads from anything; `file` is what errors call it.
///
/// # Errors
/// As [`open`].
pub fn from_reader(
    file: &str,
    reader: impl Read + Send + 'static,
    on_bad_row: OnBadRow,
) -> Result<Box<dyn Feed>, FeedError> {
    start(file.to_owned(), Box::new(reader), None, on_bad_row)
}

fn start(
    file: String,
    raw: Raw,
    total_bytes: Option<u64>,
    on_bad_row: OnBadRow,
) -> Result<Box<dyn Feed>, FeedError> {
    let source = Source::new(&file, raw)?;
    if source.is_dbn() {
        Ok(Box::new(DbnFeed::start(file, source, total_bytes, on_bad_row)?))
    } else {
        Ok(Box::new(CsvFeed::start(file, source, total_bytes, on_bad_row)?))
    }
}

/// One market event of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// When it happened, in nanoseconds since the Unix epoch.
    pub event_time_ns: u64,
    /// When the feed's source received it, in nanoseconds since the Unix epoch, or zero.
    pub receive_time_ns: u64,
    /// Index into [`Feed::names`].
    pub symbol: u32,
    /// One of [`zepto_abi::Kind`].
    pub kind: u8,
    /// Price in units of 1e-9.
    pub price: i64,
    /// Size in units of 1e-9; zero is a price level that went away.
    pub size: u64,
    /// The source's own bits, zero where it has none; of a DBN feed, see [`dbn`].
    pub flags: u8,
    /// The source's own word, zero where it has none; of a DBN feed, see [`dbn`].
    pub word: u64,
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

    /// Malformed lines or records that were left out, by reason. Always empty unless skipping was
    /// asked for.
    fn skipped(&self) -> &Skipped;

    /// What else the feed has that did not become rows, counted.
    fn notes(&self) -> &Notes;
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
