//! DBN feeds: Databento Binary Encoding, versions 1 to 3, schemas `trades`, `mbp-1` and `mbo`.
//!
//! One record becomes one row. Which, is said here, and done in `event`:
//!
//! | of the row | from the record |
//! |---|---|
//! | kind | action T: trade; F: fill; R: clear; A, C, M: bid, ask or (no side) other; N: other |
//! | event time | `ts_event` |
//! | receive time | `ts_recv`, zero if undefined |
//! | price | `price`, which is in units of 1e-9 already; zero if undefined |
//! | size | `size` times 1e9 |
//! | symbol | the metadata's name for `instrument_id` on the day of `ts_recv`, else its number |
//! | flags | `flags`, of which DBN leaves the lowest bit unused; here it says [`PRICE_UNDEFINED`] |
//! | word | action in the highest byte, then side, then [`ORDER_ID_BITS`] bits of `order_id` |
//!
//! An order id that does not fit its bits is left out: all of them are ones, and [`Feed::notes`]
//! counts it. The levels beside the event itself, in `mbp-1`, are not taken.
//!
//! Records are cut out of a fixed buffer and checked for their length before the `dbn` crate sees
//! them, which reads them through references that must be aligned. The metadata may be large,
//! since it names every instrument; it costs memory as it arrives, never as it claims.

use std::io;

use dbn::RType;
use dbn::decode::dbn::fsm::DbnFsm;
use zepto_core::limits::DBN_BUFFER_BYTES;

use super::buffer::Buffer;
use super::error::{Fault, FeedError, Place};
use super::file::{Account, FileFeed, Format, Step};
use super::source::Source;
use super::{OnBadRow, Row};
use event::Event;
use metadata::Metadata;
use symbols::{Found, Symbols};

mod event;
mod metadata;
mod symbols;

pub use event::{ORDER_ID_BITS, PRICE_UNDEFINED};

/// Bytes of the part that all records have, its length first.
const HEADER_BYTES: usize = 16;
/// A record's length is in units of so many bytes.
const LENGTH_UNIT_BYTES: usize = 4;

/// A feed from a DBN file, a pipe or standard input, which [`super::open`] makes.
pub(super) type DbnFeed = FileFeed<Dbn>;

/// The reader of a [`DbnFeed`].
pub(super) struct Dbn {
    buffer: Buffer,
    records: Records,
}

impl DbnFeed {
    /// Reads the metadata; `source` must have said that it is DBN.
    ///
    /// # Errors
    /// Every [`FeedError`] that says "Nothing was read", and those of reading.
    pub(super) fn start(
        file: String,
        mut source: Source,
        total_bytes: Option<u64>,
        on_bad_row: OnBadRow,
    ) -> Result<Self, FeedError> {
        let metadata = metadata::read(&file, &mut source)?;
        let records = Records::new(file, metadata, on_bad_row);
        let dbn = Dbn { buffer: Buffer::new(DBN_BUFFER_BYTES), records };
        Ok(Self::new(source, total_bytes, dbn))
    }
}

impl Format for Dbn {
    #[inline]
    fn step(&mut self, out: &mut Vec<Row>) -> Result<Step, FeedError> {
        match next(&self.buffer) {
            Next::Record(bytes) => self.records.take(self.buffer.take(bytes), out)?,
            Next::Cut(bytes) => {
                self.buffer.take(bytes);
                self.records.refuse_cut()?;
            }
            Next::Impossible(bytes) => return Err(self.records.impossible(bytes)),
            Next::End => return Ok(Step::End),
            Next::More => return Ok(Step::More),
        }
        Ok(Step::Taken)
    }

    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        self.buffer.fill(read)
    }

    fn place(&self) -> Place {
        self.records.place()
    }

    fn account(&self) -> &Account {
        &self.records.account
    }
}

/// What comes next in the input, with its length in bytes.
enum Next {
    /// A whole record.
    Record(usize),
    /// The beginning of a record with which the input ends.
    Cut(usize),
    /// No record is that short.
    Impossible(usize),
    /// Nothing whole: read more.
    More,
    /// Nothing, and nothing will come.
    End,
}

#[inline]
fn next(buffer: &Buffer) -> Next {
    let held = buffer.held();
    let Some(length) = held.first() else {
        return if buffer.has_ended() { Next::End } else { Next::More };
    };
    let bytes = usize::from(*length) * LENGTH_UNIT_BYTES;
    if bytes < HEADER_BYTES {
        Next::Impossible(bytes)
    } else if bytes <= held.len() {
        Next::Record(bytes)
    } else if buffer.has_ended() {
        Next::Cut(held.len())
    } else {
        Next::More
    }
}

/// Why a record is no row, and the bytes that are to blame.
struct Bad<'a> {
    fault: Fault,
    field: &'a [u8],
}

/// Records to rows.
struct Records {
    account: Account,
    /// The one type of record that becomes rows, and its length in bytes.
    rtype: RType,
    record_bytes: usize,
    /// Holds one record at a time: gives access to its fields without unsafe code of ours.
    reader: DbnFsm,
    symbols: Symbols,
    /// The name of the record before, most often the next one's too.
    last: Option<(Found, u32)>,
    /// The number of the last record that was taken, counted from 1.
    number: u64,
}

impl Records {
    fn new(file: String, metadata: Metadata, on_bad_row: OnBadRow) -> Self {
        let Metadata { reader, rtype, record_bytes, symbols } = metadata;
        Self {
            account: Account::new(file, on_bad_row),
            rtype,
            record_bytes,
            reader,
            symbols,
            last: None,
            number: 0,
        }
    }

    #[inline]
    fn take(&mut self, record: &[u8], out: &mut Vec<Row>) -> Result<(), FeedError> {
        self.number += 1;
        let event = match self.event(record) {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(()),
            Err(bad) => return self.refuse(bad.fault, bad.field),
        };
        let kind = match event.kind() {
            Ok(kind) => kind,
            Err(fault) => return self.refuse(fault, event.blame(fault)),
        };
        let Some(symbol) = self.symbol(event.instrument_id, event.named_at_ns())? else {
            return Ok(());
        };
        if !event.order_id_fits() {
            self.account.notes.count("order id too large to be kept");
        }
        out.push(event.row(kind, symbol));
        Ok(())
    }

    /// The market event that a record is; `None` for one that is something else, and counted.
    #[inline]
    fn event<'a>(&mut self, record: &'a [u8]) -> Result<Option<Event>, Bad<'a>> {
        let rtype = record.get(1..2).unwrap_or_default();
        let bad = |fault, field| Bad { fault, field };
        if rtype != [self.rtype as u8] {
            let known = rtype.first().and_then(|rtype| RType::try_from(*rtype).ok());
            let known = known.ok_or(bad(Fault::RecordType, rtype))?;
            let note = event::note(known).ok_or(bad(Fault::RecordSchema, rtype))?;
            self.account.notes.count(note);
            return Ok(None);
        }
        if record.len() != self.record_bytes {
            return Err(bad(Fault::RecordLength, b""));
        }
        event::read(&mut self.reader, record).map(Some).ok_or(bad(Fault::RecordLength, b""))
    }

    /// The index of the name that an instrument has at a time; `None` if that was refused.
    #[inline]
    fn symbol(&mut self, instrument: u32, time_ns: u64) -> Result<Option<u32>, FeedError> {
        if let Some((found, symbol)) = &self.last
            && found.covers(instrument, time_ns)
        {
            return Ok(Some(*symbol));
        }
        let (found, name) = self.symbols.find(instrument, time_ns);
        let symbol = self.account.intern(Place::Record(self.number), name.as_bytes())?;
        if let Some(symbol) = symbol {
            self.last = Some((found, symbol));
        }
        Ok(symbol)
    }

    fn place(&self) -> Place {
        Place::Record(self.number)
    }

    /// The input ended inside a record.
    #[cold]
    fn refuse_cut(&mut self) -> Result<(), FeedError> {
        self.number += 1;
        self.refuse(Fault::RecordTruncated, b"")
    }

    #[cold]
    fn impossible(&self, bytes: usize) -> FeedError {
        FeedError::DbnLength { file: self.account.file.clone(), record: self.number + 1, bytes }
    }

    #[cold]
    fn refuse(&mut self, fault: Fault, field: &[u8]) -> Result<(), FeedError> {
        self.account.refuse(self.place(), fault, field)
    }
}
