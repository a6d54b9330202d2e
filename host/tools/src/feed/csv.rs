//! CSV feeds: `ts_ns,symbol,kind,price,size`, plain or compressed with zstd.
//!
//! One fixed buffer slides over the input; lines are found and read in place, so nothing is
//! allocated per row and a line without an end cannot grow anything. Lines end in LF or CRLF, the
//! last may do without, and empty lines are accepted at the end only. There are no quoted fields
//! and no comments, and columns have one order: whatever deviates is an error with its line.

use std::io::Read;
use std::path::Path;

use super::error::{BadLine, Fault, FeedError, Skipped, clip};
use super::line;
use super::names::{NameError, Names};
use super::source::{self, Source};
use super::window::{Next, Window};
use super::{Feed, Progress, ProgressUnit, Row};

/// The first line of every CSV feed.
pub const HEADER: &str = "ts_ns,symbol,kind,price,size";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What to do with a malformed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadLine {
    /// End the feed with [`FeedError::Line`].
    Fail,
    /// Leave it out, and count it in [`Feed::skipped`].
    Skip,
}

/// A feed from a CSV file, a pipe or standard input.
pub struct CsvFeed {
    source: Source,
    window: Window,
    rows: Rows,
    total_bytes: Option<u64>,
    failed: bool,
}

impl CsvFeed {
    /// Opens a file and checks its header; the path `-` is standard input. What the file is
    /// compressed with is told by its first bytes, not by its name.
    ///
    /// # Errors
    /// Every [`FeedError`] that says "Nothing was read", and those of reading.
    pub fn open(path: &Path, on_bad_line: OnBadLine) -> Result<Self, FeedError> {
        let (file, raw, total_bytes) = source::open(path)?;
        Self::start(file, raw, total_bytes, on_bad_line)
    }

    /// Reads from anything; `file` is what errors call it.
    ///
    /// # Errors
    /// As [`CsvFeed::open`].
    pub fn from_reader(
        file: &str,
        reader: impl Read + Send + 'static,
        on_bad_line: OnBadLine,
    ) -> Result<Self, FeedError> {
        Self::start(file.to_owned(), Box::new(reader), None, on_bad_line)
    }

    fn start(
        file: String,
        raw: Box<dyn Read + Send>,
        total_bytes: Option<u64>,
        on_bad_line: OnBadLine,
    ) -> Result<Self, FeedError> {
        let source = Source::new(&file, raw)?;
        let rows = Rows::new(file, on_bad_line);
        let mut feed = Self { source, window: Window::new(), rows, total_bytes, failed: false };
        feed.check_header()?;
        Ok(feed)
    }

    fn check_header(&mut self) -> Result<(), FeedError> {
        let found = loop {
            match self.window.next_line() {
                Next::Line(line) => {
                    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
                    if line == HEADER.as_bytes() {
                        self.rows.line = 1;
                        return Ok(());
                    }
                    break clip(line);
                }
                Next::TooLong(start) => break clip(start),
                Next::End => return Err(FeedError::Empty { file: self.rows.file.clone() }),
                Next::More => self.fill()?,
            }
        };
        Err(FeedError::Header { file: self.rows.file.clone(), found })
    }

    fn fill(&mut self) -> Result<(), FeedError> {
        let Self { source, window, rows, .. } = self;
        let filled = window.fill(|buffer| source.read(buffer));
        filled.map_err(|error| source.error(&rows.file, rows.line, error))
    }

    /// [`Feed::next_batch`] of a feed that has not failed.
    fn batch(&mut self, out: &mut Vec<Row>, max: usize) -> Result<(), FeedError> {
        let before = out.len();
        while out.len() - before < max {
            match self.window.next_line() {
                Next::Line(line) => self.rows.take(line, out)?,
                Next::TooLong(start) => self.rows.refuse_long(start)?,
                Next::End => break,
                // What there is goes out before anything waits for more.
                Next::More if out.len() > before => break,
                Next::More => self.fill()?,
            }
        }
        Ok(())
    }
}

impl Feed for CsvFeed {
    fn names(&self) -> &[String] {
        self.rows.names.as_slice()
    }

    fn next_batch(&mut self, out: &mut Vec<Row>, max: usize) -> Result<usize, FeedError> {
        if self.failed {
            return Err(FeedError::AfterError { file: self.rows.file.clone() });
        }
        let before = out.len();
        let batch = self.batch(out, max);
        self.failed = batch.is_err();
        batch.map(|()| out.len() - before)
    }

    fn rows_expected(&self) -> Option<u64> {
        None
    }

    fn progress(&self) -> Progress {
        let done = self.source.bytes();
        Progress { done, total: self.total_bytes, unit: ProgressUnit::Bytes }
    }

    fn skipped(&self) -> &Skipped {
        &self.rows.skipped
    }
}

/// Lines to rows, and the account of those that are none.
struct Rows {
    file: String,
    on_bad_line: OnBadLine,
    names: Names,
    skipped: Skipped,
    /// The number of the last line that was taken, counted from 1.
    line: u64,
    /// Empty lines that nothing has followed yet.
    blank: u64,
}

impl Rows {
    fn new(file: String, on_bad_line: OnBadLine) -> Self {
        let (names, skipped) = (Names::new(), Skipped::default());
        Self { file, on_bad_line, names, skipped, line: 0, blank: 0 }
    }

    #[inline]
    fn take(&mut self, line: &[u8], out: &mut Vec<Row>) -> Result<(), FeedError> {
        self.line += 1;
        if line.is_empty() {
            self.blank += 1;
            return Ok(());
        }
        if self.blank > 0 {
            self.refuse_blank()?;
        }
        let parsed = match line::parse(line) {
            Ok(parsed) => parsed,
            Err(bad) => return self.refuse(self.line, bad.fault, bad.field),
        };
        let symbol = match self.names.intern(parsed.symbol) {
            Ok(symbol) => symbol,
            Err(NameError::Fault(fault)) => return self.refuse(self.line, fault, parsed.symbol),
            Err(NameError::TooMany) => {
                return Err(FeedError::TooManySymbols { file: self.file.clone(), line: self.line });
            }
        };
        let line::Line { event_time_ns, kind, price, size, .. } = parsed;
        out.push(Row { event_time_ns, symbol, kind, price, size });
        Ok(())
    }

    #[cold]
    fn refuse_long(&mut self, start: &[u8]) -> Result<(), FeedError> {
        self.line += 1;
        self.refuse_blank()?;
        self.refuse(self.line, Fault::LineTooLong, start)
    }

    /// The empty lines before this one turned out not to be at the end.
    #[cold]
    fn refuse_blank(&mut self) -> Result<(), FeedError> {
        let blank = std::mem::take(&mut self.blank);
        (self.line - blank..self.line).try_for_each(|line| self.refuse(line, Fault::Blank, b""))
    }

    #[cold]
    fn refuse(&mut self, line: u64, fault: Fault, field: &[u8]) -> Result<(), FeedError> {
        let bad = BadLine { line, fault, field: clip(field) };
        match self.on_bad_line {
            OnBadLine::Fail => Err(FeedError::Line { file: self.file.clone(), bad }),
            OnBadLine::Skip => {
                self.skipped.count(bad);
                Ok(())
            }
        }
    }
}
