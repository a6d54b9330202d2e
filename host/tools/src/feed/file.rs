//! A feed from a file, a pipe or standard input: what is the same whatever its format.
//!
//! A [`Format`] cuts the input into pieces and makes rows of them. Here is when it reads more, what
//! ends a feed for good, and the account of what became no row.

use std::io;

use super::error::{BadRow, Fault, FeedError, Place, Skipped, clip};
use super::names::{NameError, Names};
use super::source::Source;
use super::{Feed, Notes, OnBadRow, Progress, ProgressUnit, Row};

/// A feed whose input is in one format.
pub struct FileFeed<F> {
    source: Source,
    total_bytes: Option<u64>,
    failed: bool,
    pub(super) format: F,
}

/// One format's reader.
pub trait Format: Send {
    /// Takes the next piece of what is held: a row, or what is none and counted.
    ///
    /// # Errors
    /// What ends the feed.
    fn step(&mut self, out: &mut Vec<Row>) -> Result<Step, FeedError>;

    /// Reads more, once.
    ///
    /// # Errors
    /// The reader's.
    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<()>;

    /// The last piece that was taken.
    fn place(&self) -> Place;

    /// Names, and what became no row.
    fn account(&self) -> &Account;
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A piece was taken.
    Taken,
    /// Nothing whole is held: read more.
    More,
    /// Nothing is held, and nothing will come.
    End,
}

impl<F: Format> FileFeed<F> {
    pub(super) fn new(source: Source, total_bytes: Option<u64>, format: F) -> Self {
        Self { source, total_bytes, failed: false, format }
    }

    pub(super) fn fill(&mut self) -> Result<(), FeedError> {
        let Self { source, format, .. } = self;
        let filled = format.fill(&mut |room| source.read(room));
        filled.map_err(|error| source.error(&format.account().file, format.place(), error))
    }

    /// [`Feed::next_batch`] of a feed that has not failed.
    fn batch(&mut self, out: &mut Vec<Row>, max: usize) -> Result<(), FeedError> {
        let before = out.len();
        while out.len() - before < max {
            match self.format.step(out)? {
                Step::Taken => {}
                Step::End => break,
                // What there is goes out before anything waits for more.
                Step::More if out.len() > before => break,
                Step::More => self.fill()?,
            }
        }
        Ok(())
    }
}

impl<F: Format> Feed for FileFeed<F> {
    fn names(&self) -> &[String] {
        self.format.account().names.as_slice()
    }

    fn next_batch(&mut self, out: &mut Vec<Row>, max: usize) -> Result<usize, FeedError> {
        if self.failed {
            return Err(FeedError::AfterError { file: self.format.account().file.clone() });
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
        &self.format.account().skipped
    }

    fn notes(&self) -> &Notes {
        &self.format.account().notes
    }
}

/// What a file's names are, and what of it became no row.
pub struct Account {
    pub(super) file: String,
    on_bad_row: OnBadRow,
    names: Names,
    skipped: Skipped,
    pub(super) notes: Notes,
}

impl Account {
    pub(super) fn new(file: String, on_bad_row: OnBadRow) -> Self {
        let (names, skipped, notes) = (Names::new(), Skipped::default(), Notes::default());
        Self { file, on_bad_row, names, skipped, notes }
    }

    /// The index of a name; `None` if the row that has it was refused.
    #[inline]
    pub(super) fn intern(&mut self, place: Place, name: &[u8]) -> Result<Option<u32>, FeedError> {
        match self.names.intern(name) {
            Ok(symbol) => Ok(Some(symbol)),
            Err(NameError::Fault(fault)) => self.refuse(place, fault, name).map(|()| None),
            Err(NameError::TooMany) => {
                Err(FeedError::TooManySymbols { file: self.file.clone(), place })
            }
        }
    }

    /// Does with a malformed row what was asked for.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        place: Place,
        fault: Fault,
        field: &[u8],
    ) -> Result<(), FeedError> {
        let bad = BadRow { place, fault, field: clip(field) };
        match self.on_bad_row {
            OnBadRow::Fail => Err(FeedError::Row { file: self.file.clone(), bad }),
            OnBadRow::Skip => {
                self.skipped.count(bad);
                Ok(())
            }
        }
    }
}
