//! Real market data, CSV and DBN, read and accounted for exactly.
//!
//! The data is not part of the project: where it is absent these tests say so and pass.

use std::fs;
use std::path::{Path, PathBuf};

use zepto_abi::Kind;
use zepto_tools::feed::dbn::PRICE_UNDEFINED;
use zepto_tools::feed::{self, CsvFeed, Feed, OnBadRow, ProgressUnit, Row};
use zepto_tools::tally::Tally;

const BATCH_ROWS: usize = 4096;

fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn the_account_of_real_data_equals_the_published_results() {
    let Some(path) = data("crypto-2024-08-08.csv.zst") else { return };
    let Some(expected) = data("crypto-2024-08-08.expected.json") else { return };
    let mut feed = CsvFeed::open(&path, OnBadRow::Fail).unwrap();
    let (mut tally, mut rows) = (Tally::new(), Vec::new());
    while feed.next_batch(&mut rows, BATCH_ROWS).unwrap() > 0 {
        tally.add(feed.names(), &rows);
        rows.clear();
    }

    let expected = fs::read_to_string(expected).unwrap();
    let expected_json: serde_json::Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(tally.to_expected_json(), expected_json);
    // Also the order of keys, and as it is written, to the byte.
    assert_eq!(tally.to_expected_json().to_string(), expected_json.to_string());
    let mut text = Vec::new();
    tally.report().write_json(&mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), expected.trim_end());

    assert_eq!(tally.rows(), 2_062_415);
    let progress = feed.progress();
    assert_eq!(progress.unit, ProgressUnit::Bytes);
    assert_eq!(Some(progress.done), progress.total);
    assert_eq!(feed.skipped().total(), 0);
}

/// The fields of a DBN record by their published offsets: no code of the reader under test.
struct Raw<'a>(&'a [u8]);

impl Raw<'_> {
    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    /// The row that the record is; each of the files has one symbol.
    fn row(&self) -> Row {
        // In market by order the order id comes first, and flags and channel before the action.
        let is_mbo = self.0[1] == 0xa0;
        let (price, action, flags, received) =
            if is_mbo { (24, 38, 36, 40) } else { (16, 28, 30, 32) };
        let (action, side) = (self.0[action], self.0[action + 1]);
        let kind = match (action, side) {
            (b'T', _) => Kind::TRADE,
            (b'F', _) => Kind::FILL,
            (b'R', _) => Kind::CLEAR,
            (_, b'B') => Kind::BID,
            (_, b'A') => Kind::ASK,
            _ => Kind::OTHER,
        };
        let order_id = if is_mbo { self.u64(16) } else { 0 };
        let has_price = self.u64(price) != i64::MAX as u64;
        Row {
            event_time_ns: self.u64(8),
            receive_time_ns: self.u64(received),
            symbol: 0,
            kind,
            price: if has_price { self.u64(price) as i64 } else { 0 },
            size: u64::from(self.u32(price + 8)) * 1_000_000_000,
            flags: self.0[flags] | u8::from(!has_price),
            word: u64::from(action) << 56 | u64::from(side) << 48 | order_id,
        }
    }
}

/// The rows of a file by the second way.
fn rows_by_offset(path: &Path) -> Vec<Row> {
    let bytes = zstd::decode_all(fs::File::open(path).expect("a file")).expect("zstd data");
    let metadata_bytes = Raw(&bytes).u32(4) as usize;
    let mut rest = &bytes[8 + metadata_bytes..];
    let mut rows = Vec::new();
    while let Some(words) = rest.first() {
        let (record, behind) = rest.split_at(4 * usize::from(*words));
        rows.push(Raw(record).row());
        rest = behind;
    }
    rows
}

/// What a file holds, counted by hand (with another program, in another language).
struct Counted {
    file: &'static str,
    symbol: &'static str,
    /// Trades, bids, asks, fills, clears, others.
    kinds: [usize; 6],
    /// By action: A, C, F, M, R, T.
    actions: [usize; 6],
    size_sum: u128,
    price_sum: i128,
    without_price: usize,
}

const COUNTED: [Counted; 3] = [
    Counted {
        file: "es-trades-2024-07-01.dbn.zst",
        symbol: "ESU4",
        kinds: [120, 0, 0, 0, 0, 0],
        actions: [0, 0, 0, 0, 0, 120],
        size_sum: 253,
        price_sum: 663_482_000_000_000,
        without_price: 0,
    },
    Counted {
        file: "es-mbp1-2024-07-01.dbn.zst",
        symbol: "ESU4",
        kinds: [120, 1_006, 1_153, 0, 0, 9],
        actions: [1_061, 989, 0, 118, 0, 120],
        size_sum: 3_147,
        price_sum: 12_650_284_250_000_000,
        without_price: 0,
    },
    Counted {
        file: "es-mbo-2024-05-08.dbn.zst",
        symbol: "ESM4",
        kinds: [5, 8_398, 5_387, 5, 1, 0],
        actions: [13_678, 80, 5, 27, 1, 5],
        size_sum: 46_308,
        price_sum: 71_581_483_750_000_000,
        without_price: 1,
    },
];

#[test]
fn every_row_of_the_real_dbn_files_is_what_its_record_says() {
    for counted in COUNTED {
        let Some(path) = data(counted.file) else { return };
        let mut feed = feed::open(&path, OnBadRow::Fail).unwrap();
        let mut rows = Vec::new();
        while feed.next_batch(&mut rows, 777).unwrap() > 0 {}
        assert_eq!(feed.names(), [counted.symbol]);
        assert!(feed.notes().is_empty() && feed.skipped().total() == 0);
        assert_eq!(Some(feed.progress().done), feed.progress().total);

        assert!(rows == rows_by_offset(&path), "{}: rows differ", counted.file);
        let count = |wanted: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| wanted(row)).count();
        let kinds = [Kind::TRADE, Kind::BID, Kind::ASK, Kind::FILL, Kind::CLEAR, Kind::OTHER];
        assert_eq!(kinds.map(|kind| count(&|row| row.kind == kind)), counted.kinds);
        let by_action = |action: u8| count(&|row| row.word >> 56 == u64::from(action));
        assert_eq!([b'A', b'C', b'F', b'M', b'R', b'T'].map(by_action), counted.actions);
        let size_sum: u128 = rows.iter().map(|row| u128::from(row.size)).sum();
        assert_eq!(size_sum, counted.size_sum * 1_000_000_000);
        assert_eq!(rows.iter().map(|row| i128::from(row.price)).sum::<i128>(), counted.price_sum);
        assert_eq!(count(&|row| row.flags & PRICE_UNDEFINED != 0), counted.without_price);
    }
}
