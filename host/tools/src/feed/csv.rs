//! CSV feeds: `ts_ns,symbol,kind,price,size`, plain or compressed with zstd.
//!
//! One fixed buffer slides over the input; lines are found and read in place, so nothing is
//! allocated per row and a line without an end cannot grow anything. Lines end in LF or CRLF, the
//! last may do without, and empty lines are accepted at the end only. There are no quoted fields
//! and no comments, and columns have one order: whatever deviates is an error with its line.

use std::io::{self, Read};
use std::path::Path;

use super::error::{Fault, FeedError, Place, clip};
use super::file::{Account, FileFeed, Format, Step};
use super::line;
use super::source::{self, Source};
use super::window::{Next, Window};
use super::{OnBadRow, Row};

/// The first line of every CSV feed.
pub const HEADER: &str = "ts_ns,symbol,kind,price,size";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A feed from a CSV file, a pipe or standard input.
pub type CsvFeed = FileFeed<Csv>;

/// The reader of a [`CsvFeed`].
pub struct Csv {
    window: Window,
    rows: Rows,
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
        let rows = Rows { account: Account::new(file, on_bad_row), line: 0, blank: 0 };
        let mut feed = Self::new(source, total_bytes, Csv { window: Window::new(), rows });
        feed.check_header()?;
        Ok(feed)
    }

    fn check_header(&mut self) -> Result<(), FeedError> {
        let found = loop {
            let Csv { window, rows } = &mut self.format;
            match window.next_line() {
                Next::Line(line) => {
                    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
                    if line == HEADER.as_bytes() {
                        rows.line = 1;
                        return Ok(());
                    }
                    break clip(line);
                }
                Next::TooLong(start) => break clip(start),
                Next::End => return Err(FeedError::Empty { file: rows.account.file.clone() }),
                Next::More => self.fill()?,
            }
        };
        Err(FeedError::Header { file: self.format.rows.account.file.clone(), found })
    }
}

impl Format for Csv {
    #[inline]
    fn step(&mut self, out: &mut Vec<Row>) -> Result<Step, FeedError> {
        match self.window.next_line() {
            Next::Line(line) => self.rows.take(line, out)?,
            Next::TooLong(start) => self.rows.refuse_long(start)?,
            Next::End => return Ok(Step::End),
            Next::More => return Ok(Step::More),
        }
        Ok(Step::Taken)
    }

    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        self.window.fill(read)
    }

    fn place(&self) -> Place {
        Place::Line(self.rows.line)
    }

    fn account(&self) -> &Account {
        &self.rows.account
    }
}

/// Lines to rows.
struct Rows {
    account: Account,
    /// The number of the last line that was taken, counted from 1.
    line: u64,
    /// Empty lines that nothing has followed yet.
    blank: u64,
}

impl Rows {
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
        let place = Place::Line(self.line);
        let Some(symbol) = self.account.intern(place, parsed.symbol)? else { return Ok(()) };
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
        self.account.refuse(Place::Line(line), fault, field)
    }
}
