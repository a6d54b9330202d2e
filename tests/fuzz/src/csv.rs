//! CSV feeds: every line becomes a row or is counted, however the bytes arrive.
//!
//! The input's first two bytes choose whether a header stands before the rest, and the size of the
//! pieces in which it arrives. Without a header, anything may come of it, but it ends.

use std::io::{self, Read};

use zepto_tools::feed::csv::HEADER;
use zepto_tools::feed::decimal::Units;
use zepto_tools::feed::{CsvFeed, Feed, OnBadRow, Row};

use crate::Target;

/// See the module. Each of a few readings has its buffer of 256 KiB.
pub const TARGET: Target =
    Target { name: "csv", run, seeds, bytes_fixed: 3 << 20, bytes_per_byte: 1 << 10 };

/// Rows after which a feed is long enough: a compressed one can be endless.
const ROWS_ENOUGH: usize = 1 << 16;
const BATCH_ROWS: usize = 100;
const KINDS: [&str; 6] = ["other", "trade", "bid", "ask", "fill", "clear"];

/// Gives its bytes in pieces.
pub(crate) struct Pieces {
    bytes: io::Cursor<Vec<u8>>,
    piece: usize,
}

impl Pieces {
    pub(crate) fn new(bytes: Vec<u8>, piece: usize) -> Self {
        Self { bytes: io::Cursor::new(bytes), piece }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(self.piece);
        self.bytes.read(&mut buffer[..room])
    }
}

/// What a feed gave in the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    pub(crate) rows: Vec<Row>,
    pub(crate) names: Vec<String>,
    pub(crate) skipped: u64,
    /// Records that are no ticks.
    pub(crate) noted: u64,
    pub(crate) error: Option<String>,
}

/// Reads a feed to its end or its error.
pub(crate) fn drain(feed: &mut dyn Feed) -> Drained {
    let mut rows = Vec::new();
    let error = loop {
        let before = rows.len();
        match feed.next_batch(&mut rows, BATCH_ROWS) {
            Ok(0) => break None,
            Ok(count) => assert!(count <= BATCH_ROWS && rows.len() == before + count),
            Err(error) => break Some(error.to_string()),
        }
        if rows.len() > ROWS_ENOUGH {
            break None;
        }
    };
    if error.is_some() {
        assert!(feed.next_batch(&mut rows, 1).is_err(), "an error is final");
    }
    assert!(rows.iter().all(|row| (row.symbol as usize) < feed.names().len()));
    let notes = feed.notes().counts().iter();
    let noted = notes.filter(|(what, _)| what.contains("no tick")).map(|(_, count)| count).sum();
    Drained { rows, names: feed.names().to_vec(), skipped: feed.skipped().total(), noted, error }
}

/// Any bytes as a file, or as the lines of one.
pub fn run(input: &[u8]) {
    let (choice, piece) = (input.first().copied().unwrap_or(0), input.get(1).copied().unwrap_or(0));
    let body = input.get(2..).unwrap_or_default();
    if choice & 1 == 1 {
        if let Ok(mut feed) = open(body.to_vec(), usize::MAX, OnBadRow::Fail) {
            drain(&mut feed);
        }
        return;
    }
    let file = [HEADER.as_bytes(), b"\n", body].concat();
    let read = |file: &[u8], piece, on_bad_row| {
        let mut feed = open(file.to_vec(), piece, on_bad_row).expect("the header is sound");
        drain(&mut feed)
    };
    let lenient = read(&file, usize::MAX, OnBadRow::Skip);
    assert_eq!(lenient.error, None, "malformed lines were to be skipped");
    assert_eq!(lenient.rows.len() as u64 + lenient.skipped, lines(body));
    assert_eq!(read(&file, usize::from(piece) + 1, OnBadRow::Skip), lenient);
    let strict = read(&file, usize::MAX, OnBadRow::Fail);
    assert_eq!(strict.error.is_some(), lenient.skipped > 0);
    assert!(lenient.rows.starts_with(&strict.rows));

    let again = read(&written(&lenient), usize::MAX, OnBadRow::Fail);
    assert_eq!(again, Drained { skipped: 0, ..lenient });
}

fn open(
    bytes: Vec<u8>,
    piece: usize,
    on_bad_row: OnBadRow,
) -> Result<CsvFeed, zepto_tools::feed::FeedError> {
    CsvFeed::from_reader("fuzz.csv", Pieces::new(bytes, piece), on_bad_row)
}

/// Lines by another way: empty ones at the end do not count.
fn lines(body: &[u8]) -> u64 {
    let lines = body.split(|byte| *byte == b'\n');
    let is_blank = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).is_empty();
    let last = lines.clone().zip(1..).filter(|(line, _)| !is_blank(line)).last();
    last.map_or(0, |(_, number)| number)
}

fn written(drained: &Drained) -> Vec<u8> {
    let mut text = format!("{HEADER}\n");
    for row in &drained.rows {
        let (symbol, kind) = (&drained.names[row.symbol as usize], KINDS[usize::from(row.kind)]);
        let (price, size) = (Units(row.price.into()), Units(row.size.into()));
        text += &format!("{},{symbol},{kind},{price},{size}\n", row.event_time_ns);
    }
    text.into_bytes()
}

fn seeds() -> Vec<Vec<u8>> {
    let rows = "1723161253937085768,spot:BTCUSDT,bid,61737.63000000,0.00000000\n\
                7,A,trade,-1.5,2\r\n7,A,Ask,0.000000001,18446744073.709551615\n\
                0,\u{20bf},fill,+9223372036.854775807,.5\n9,A,clear,0,0\n\n9,A,other,0,-0\n";
    let malformed = "1,A,sell,1,1\n,,,,\n1;2\n1,A,bid,1e9,1\n1,A B,bid,1,1\n\n\n1,A,bid,1,1";
    let file = format!("{HEADER}\n{rows}");
    let long = format!("1,{},bid,{:01000},1\n", "S".repeat(65), 1);
    [(0, rows), (0, malformed), (0, &long), (1, &file), (1, "\u{feff}ts_ns,symbol")]
        .map(|(choice, text)| [&[choice, 6][..], text.as_bytes()].concat())
        .to_vec()
}
