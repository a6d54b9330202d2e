//! What can be wrong with a feed, and the account of lines and records that were skipped.
//!
//! A line or record has a [`Fault`] (its reason, a closed list that can be counted); a feed has a
//! [`FeedError`]. Text from the input is escaped and clipped before it is repeated, so that a
//! hostile file can neither flood nor rewrite a terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use thiserror::Error;
use zepto_core::limits::{
    CSV_LINE_BYTES_MAX, FEED_FIELD_CLIP_BYTES, FEED_SKIPPED_KEPT_MAX, SYMBOL_NAME_BYTES_MAX,
    SYMBOLS_MAX,
};

use super::csv::HEADER;

/// Where in a feed something is, counted from 1: zero is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a CSV feed, the header included.
    Line(u64),
    /// A record of a DBN feed, the metadata not included.
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Record(number) => write!(f, "record {number}"),
        }
    }
}

/// A file and a place in it: `file:3` is what editors take for a line.
fn at(file: &str, place: Place) -> String {
    match place {
        Place::Line(number) => format!("{file}:{number}"),
        Place::Record(_) => format!("{file}: {place}"),
    }
}

/// Why a feed cannot go on. Every variant ends the feed; rows before it were delivered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The file cannot be opened. Nothing was read; retry once the cause is gone.
    #[error("{file}: cannot open: {source}")]
    Open {
        /// The file as the user named it.
        file: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The name is of something that holds no bytes to read. Nothing was read.
    #[error("{file}: is {what}, not a file")]
    NotAFile {
        /// The file as the user named it.
        file: String,
        /// What it is instead.
        what: &'static str,
    },
    /// There is not one byte, not even a header. Nothing was read.
    #[error("{file}: is empty; expected the header `{HEADER}`")]
    Empty {
        /// The file as the user named it.
        file: String,
    },
    /// The file is in a format that is recognised but not read. Nothing was read.
    #[error("{file}: is {what}; expected CSV or DBN, plain or compressed with zstd")]
    Format {
        /// The file as the user named it.
        file: String,
        /// What its first bytes say.
        what: &'static str,
    },
    /// The first line is not the header. Nothing was read.
    #[error("{file}:1: expected the header `{HEADER}`, found `{found}`")]
    Header {
        /// The file as the user named it.
        file: String,
        /// The first line, escaped and clipped.
        found: String,
    },
    /// A feed that was asked to be CSV is DBN. Nothing was read.
    #[error("{file}: is in Databento Binary Encoding, not CSV")]
    NotCsv {
        /// The file as the user named it.
        file: String,
    },
    /// A version of DBN that is not read. Nothing was read.
    #[error("{file}: is DBN version {version}; versions 1 to 3 are read")]
    DbnVersion {
        /// The file as the user named it.
        file: String,
        /// Its version.
        version: u8,
    },
    /// A DBN file whose records are no ticks, or not only of one kind. Nothing was read.
    #[error("{file}: holds {schema}; of DBN, the schemas trades, mbp-1 and mbo are read")]
    DbnSchema {
        /// The file as the user named it.
        file: String,
        /// What it holds.
        schema: String,
    },
    /// The metadata of a DBN file is malformed or beyond a limit. Nothing was read.
    #[error("{file}: the DBN metadata is malformed: {reason}")]
    DbnMetadata {
        /// The file as the user named it.
        file: String,
        /// Why, escaped and clipped where it repeats the file.
        reason: String,
    },
    /// A record of a DBN file has a length that no record has, so nobody can tell where the next
    /// one begins. Skipping does not help.
    #[error("{file}: record {record} claims {bytes} bytes: the rest of the file cannot be read")]
    DbnLength {
        /// The file as the user named it.
        file: String,
        /// Its number, counted from 1.
        record: u64,
        /// Its length, as it says.
        bytes: usize,
    },
    /// A line or record is malformed, and skipping was not asked for. Repair it, or skip.
    #[error("{}: {}", at(.file, .bad.place), .bad.what())]
    Row {
        /// The file as the user named it.
        file: String,
        /// Place, reason and field.
        bad: BadRow,
    },
    /// More different symbols than a cluster can intern. Skipping does not help.
    #[error("{}: more than {SYMBOLS_MAX} different symbols", at(.file, *.place))]
    TooManySymbols {
        /// The file as the user named it.
        file: String,
        /// Where the symbol is that is one too many.
        place: Place,
    },
    /// Reading failed underway. Worth a retry from the start if the device recovers.
    #[error("{file}: cannot read on after {after}: {source}")]
    Read {
        /// The file as the user named it.
        file: String,
        /// The last line or record that was read.
        after: Place,
        /// What the operating system says.
        source: io::Error,
    },
    /// The compressed data ends before its end mark: the file was cut, or is still being written.
    #[error("{file}: the zstd data is cut off after {after}")]
    Truncated {
        /// The file as the user named it.
        file: String,
        /// The last line or record that was read.
        after: Place,
    },
    /// The compressed data is damaged, or something else follows it.
    #[error("{file}: the zstd data is damaged after {after}: {source}")]
    Corrupt {
        /// The file as the user named it.
        file: String,
        /// The last line or record that was read.
        after: Place,
        /// What the decoder says.
        source: io::Error,
    },
    /// A feed cannot be generated over that many symbols. Nothing was made.
    #[error("cannot generate a feed of {symbols} symbols: 1 to {SYMBOLS_MAX} are possible")]
    SymbolCount {
        /// What was asked for.
        symbols: u32,
    },
    /// The feed failed before and has nothing more to give. Do not retry.
    #[error("{file}: the feed has ended with an error before")]
    AfterError {
        /// The file as the user named it.
        file: String,
    },
}

/// What is wrong with a line or record. Closed, so that skipped ones can be counted by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// An empty line that is not at the end.
    Blank,
    /// More or fewer fields than the header.
    FieldCount,
    /// Longer than a line may be.
    LineTooLong,
    /// The time is not an unsigned whole number.
    TimeNotANumber,
    /// The time does not fit 64 bits.
    TimeOverflow,
    /// No symbol.
    SymbolEmpty,
    /// The symbol is longer than a name may be.
    SymbolTooLong,
    /// The symbol is not UTF-8.
    SymbolNotUtf8,
    /// The symbol holds white space, a control character or a quotation mark.
    SymbolCharacter,
    /// The kind is none of those that a feed may name.
    KindUnknown,
    /// The price is not a plain decimal number.
    PriceNotANumber,
    /// The price is finer than 1e-9.
    PriceTooFine,
    /// The price does not fit.
    PriceOverflow,
    /// The size is not a plain decimal number.
    SizeNotANumber,
    /// The size is finer than 1e-9.
    SizeTooFine,
    /// The size does not fit.
    SizeOverflow,
    /// The size is below zero.
    SizeNegative,
    /// The file ends within the record.
    RecordTruncated,
    /// The record is shorter than its type, or no whole number of words.
    RecordLength,
    /// A type of record that DBN does not have.
    RecordType,
    /// A market event of another schema than the file's.
    RecordSchema,
    /// The action is none of those that DBN has.
    ActionUnknown,
    /// The side is none of those that DBN has.
    SideUnknown,
    /// The record has no event time.
    TimeUndefined,
    /// A trade or a fill has no price.
    PriceUndefined,
    /// An event that must have a size has none.
    SizeUndefined,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("empty line before the end"),
            Self::FieldCount => write!(f, "not the fields `{HEADER}`"),
            Self::LineTooLong => write!(f, "line longer than {CSV_LINE_BYTES_MAX} bytes"),
            Self::TimeNotANumber => f.write_str("ts_ns is not a whole number of nanoseconds"),
            Self::TimeOverflow => f.write_str("ts_ns does not fit 64 bits"),
            Self::SymbolEmpty => f.write_str("symbol is empty"),
            Self::SymbolTooLong => {
                write!(f, "symbol is longer than {SYMBOL_NAME_BYTES_MAX} bytes")
            }
            Self::SymbolNotUtf8 => f.write_str("symbol is not UTF-8"),
            Self::SymbolCharacter => {
                f.write_str("symbol holds white space, a control character or a quotation mark")
            }
            Self::KindUnknown => f.write_str("kind is none of trade, bid, ask, fill, clear, other"),
            Self::PriceNotANumber => f.write_str("price is not a plain decimal number"),
            Self::PriceTooFine => f.write_str("price has more than 9 decimals"),
            Self::PriceOverflow => f.write_str("price does not fit 64 bits in units of 1e-9"),
            Self::SizeNotANumber => f.write_str("size is not a plain decimal number"),
            Self::SizeTooFine => f.write_str("size has more than 9 decimals"),
            Self::SizeOverflow => f.write_str("size does not fit 64 bits in units of 1e-9"),
            Self::SizeNegative => f.write_str("size is negative"),
            Self::RecordTruncated => f.write_str("the file ends within the record"),
            Self::RecordLength => f.write_str("the record has not the length of its type"),
            Self::RecordType => f.write_str("no record of DBN has this type"),
            Self::RecordSchema => f.write_str("the record is not of the file's schema"),
            Self::ActionUnknown => f.write_str("action is none of A, C, F, M, N, R, T"),
            Self::SideUnknown => f.write_str("side is none of A, B, N"),
            Self::TimeUndefined => f.write_str("ts_event is undefined"),
            Self::PriceUndefined => f.write_str("a trade or fill has no price"),
            Self::SizeUndefined => f.write_str("size is undefined"),
        }
    }
}

/// A malformed line or record, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Where it is.
    pub place: Place,
    /// Its reason.
    pub fault: Fault,
    /// The offending field, or the line where no field is to blame; escaped and clipped.
    pub field: String,
}

impl BadRow {
    /// The reason and the field.
    fn what(&self) -> String {
        let Self { fault, field, .. } = self;
        if field.is_empty() { fault.to_string() } else { format!("{fault}: `{field}`") }
    }
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what())
    }
}

/// Malformed lines or records that were left out: all counted by reason, the first few kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    counts: BTreeMap<Fault, u64>,
    first: Vec<BadRow>,
}

impl Skipped {
    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many per reason; reasons that did not occur are absent.
    pub fn by_fault(&self) -> &BTreeMap<Fault, u64> {
        &self.counts
    }

    /// The first few, in the order of the file.
    pub fn first(&self) -> &[BadRow] {
        &self.first
    }

    /// Counts one, and keeps it if it is among the first.
    pub(super) fn count(&mut self, bad: BadRow) {
        *self.counts.entry(bad.fault).or_default() += 1;
        if self.first.len() < FEED_SKIPPED_KEPT_MAX {
            self.first.push(bad);
        }
    }
}

/// One reason per line with its count, then the first places; without a newline at the end.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.first.first().map(|bad| bad.place) {
            Some(Place::Record(_)) => "records",
            _ => "lines",
        };
        write!(f, "{} malformed {what} skipped", self.total())?;
        for (fault, count) in &self.counts {
            write!(f, "\n  {count} x {fault}")?;
        }
        for bad in &self.first {
            write!(f, "\n  {bad}")?;
        }
        if self.total() > self.first.len() as u64 { f.write_str("\n  ...") } else { Ok(()) }
    }
}

/// Bytes of the input as they may be shown: escaped, and clipped with a sign that they were.
pub(crate) fn clip(bytes: &[u8]) -> String {
    let Some(shown) =
        bytes.get(..FEED_FIELD_CLIP_BYTES).filter(|_| bytes.len() > FEED_FIELD_CLIP_BYTES)
    else {
        return escape(bytes);
    };
    // A character cut in two at the end would look like bytes that are not UTF-8.
    let whole = match std::str::from_utf8(shown) {
        Err(error) if error.error_len().is_none() => &shown[..error.valid_up_to()],
        _ => shown,
    };
    format!("{}...", escape(whole))
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\'' | '"' | '\\' => text.push(character),
                _ => text.extend(character.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            text.extend(byte.escape_ascii().map(char::from));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_the_input_is_escaped_and_clipped() {
        assert_eq!(clip(b"12.5"), "12.5");
        assert_eq!(clip(b"\x1b[2J\xff\n"), "\\u{1b}[2J\\xff\\n");
        assert_eq!(clip(&[b'a'; 100]), format!("{}...", "a".repeat(FEED_FIELD_CLIP_BYTES)));
        let umlauts = "\u{e4}".repeat(100);
        let shifted = format!("x{umlauts}");
        assert!(clip(shifted.as_bytes()).ends_with("\u{e4}..."));
        assert!(!clip(shifted.as_bytes()).contains("\\x"));
    }

    #[test]
    fn skipped_lines_are_all_counted_but_only_the_first_are_kept() {
        let mut skipped = Skipped::default();
        for line in 2..2 + 3 * FEED_SKIPPED_KEPT_MAX as u64 {
            let fault = if line % 3 == 0 { Fault::Blank } else { Fault::PriceOverflow };
            skipped.count(BadRow { place: Place::Line(line), fault, field: String::new() });
        }
        assert_eq!(skipped.total(), 3 * FEED_SKIPPED_KEPT_MAX as u64);
        assert_eq!(skipped.by_fault()[&Fault::Blank], FEED_SKIPPED_KEPT_MAX as u64);
        assert_eq!(skipped.first().len(), FEED_SKIPPED_KEPT_MAX);
        assert_eq!(skipped.first()[0].place, Place::Line(2));
        assert!(skipped.to_string().starts_with("30 malformed lines skipped\n  10 x empty line"));
    }
}
