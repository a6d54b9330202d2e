//! CSV feeds: `ts_ns,symbol,kind,price,size`, plain or compressed with zstd.
//!
//! One fixed buffer slides over the input; lines are found and read in place, so nothing is
//! allocated per row and a line without an end cannot grow anything. Lines end in LF or CRLF, the
//! last may do without, and empty lines are accepted at the end only. There are no quoted fields
//! and no comments, and columns have one order: whatever deviates is an error with its line.

use std::io::Read;
use std::path::Path;

use super::error::{BadRow, Fault, FeedError, Place, Skipped, clip};
use super::line;
use super::names::{NameError, Names};
use super::source::{self, Source};
use super::window::{Next, Window};
use super::{Feed, Notes, OnBadRow, Progress, ProgressUnit, Row};

/// The first line of every CSV feed.
pub const HEADER: &str = "ts_ns,symbol,kind,price,size";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
    pub fn open(path: &Path, on_bad_row: OnBadRow) -> Result<Self, FeedError> {
        let (file, raw, total_bytes) = source::open(path)?;
        let source = Source::new(&file, raw)?;
        Self::start(file, source, total_bytes, on_bad_row)
    }

    /// Reads from anything; `file` is what errors call it.
    ///
    /// # Errors
    /// As [`CsvFeed::open`].
    pub fn from_reader(
        file: &str,
        reader: impl Read + Send + 'static,
        on_bad_row: OnBadRow,
    ) -> Result<Self, FeedError> {
        let source = Source::new(file, Box::new(reader))?;
        Self::start(file.to_owned(), source, None, on_bad_row)
    }

    pub(super) fn start(
        file: String,
        source: Source,
        total_bytes: Option<u64>,
        on_bad_row: OnBadRow,
    ) -> Result<Self, FeedError> {
        if source.is_dbn() {
            return Err(FeedError::NotCsv { file });
        }
        let rows = Rows::new(file, on_bad_row);
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
        filled.map_err(|error| source.error(&rows.file, Place::Line(rows.line), error))
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

    fn notes(&self) -> &Notes {
        &self.rows.notes
    }
}

/// Lines to rows, and the account of those that are none.
struct Rows {
    file: String,
    on_bad_row: OnBadRow,
    names: Names,
    skipped: Skipped,
    /// Always empty: every line is a row or malformed.
    notes: Notes,
    /// The number of the last line that was taken, counted from 1.
    line: u64,
    /// Empty lines that nothing has followed yet.
    blank: u64,
}

impl Rows {
    fn new(file: String, on_bad_row: OnBadRow) -> Self {
        let (names, skipped, notes) = (Names::new(), Skipped::default(), Notes::default());
        Self { file, on_bad_row, names, skipped, notes, line: 0, blank: 0 }
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
                let (file, place) = (self.file.clone(), Place::Line(self.line));
                return Err(FeedError::TooManySymbols { file, place });
            }
        };
        let line::Line { event_time_ns, kind, price, size, .. } = parsed;
        out.push(Row { event_time_ns, symbol, kind, price, size, ..Row::default() });
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
        let bad = BadRow { place: Place::Line(line), fault, field: clip(field) };
        self.skipped.refuse(self.on_bad_row, &self.file, bad)
    }
}
