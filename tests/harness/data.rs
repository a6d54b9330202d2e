//! What is fed: the real file where it is, or rows made here with answers known by construction.

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The header of a CSV feed.
pub const HEADER: &str = "ts_ns,symbol,kind,price,size\n";

/// The real file and the answers it must give, if this machine has them.
pub fn real() -> Option<(PathBuf, Value)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let file = data.join("crypto-2024-08-08.csv.zst");
    if !file.exists() {
        super::skipped("the real file, since ../shared/data is not beside the repository");
        return None;
    }
    let expected = std::fs::read(data.join("crypto-2024-08-08.expected.json"));
    let expected = serde_json::from_slice(&expected.expect("the answers beside the file"));
    Some((file, expected.expect("JSON")))
}

/// A real DBN file, if this machine has it.
pub fn real_dbn(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if !file.exists() {
        super::skipped("the real DBN files, since ../shared/data is not beside the repository");
        return None;
    }
    Some(file)
}

/// A file of rows with round-robin symbols, and the answers that any query must give.
#[derive(Debug)]
pub struct Made {
    /// The file.
    pub file: PathBuf,
    /// The summary of all of it.
    pub expected: Value,
}

/// Symbols of a made file.
const SYMBOLS: u64 = 50;
/// First event time of a made file.
const START_NS: u64 = 1_700_000_000_000_000_000;
const UNIT: u64 = 1_000_000_000;

/// Writes `rows` trades of 50 symbols: row i has time start + i, price i + 1 and size 2.
pub fn make(directory: &Path, rows: u64) -> Made {
    assert!(rows >= SYMBOLS, "each symbol has a row");
    let mut text = HEADER.to_owned();
    for row in 0..rows {
        let (time, symbol, price) = (START_NS + row, row % SYMBOLS, row + 1);
        writeln!(text, "{time},S{symbol},trade,{price},2").expect("a string takes it");
    }
    let file = directory.join(format!("made-{rows}.csv"));
    std::fs::write(&file, text).expect("a temporary file");
    let symbols = (0..SYMBOLS).map(|symbol| (format!("S{symbol}"), answers(rows, symbol)));
    let symbols: serde_json::Map<String, Value> = symbols.collect();
    Made { file, expected: json!({"total_ticks": rows, "symbols": symbols}) }
}

/// In closed form, so that nothing is shared with what is tested.
fn answers(rows: u64, symbol: u64) -> Value {
    let count = (rows - symbol).div_ceil(SYMBOLS);
    let first = symbol;
    let last = symbol + (count - 1) * SYMBOLS;
    // Prices are an arithmetic series from first + 1 to last + 1; every size is 2.
    let price_sum = u128::from(first + last + 2) * u128::from(count) / 2;
    let unit = u128::from(UNIT);
    json!({
        "ticks": count,
        "trades": count,
        "bids": 0,
        "asks": 0,
        "trade_size_1e9": 2 * count * UNIT,
        "notional_1e18": (2 * price_sum * unit * unit).to_string(),
        "first_trade_price_1e9": (first + 1) * UNIT,
        "last_trade_price_1e9": (last + 1) * UNIT,
        "high_1e9": (last + 1) * UNIT,
        "low_1e9": (first + 1) * UNIT,
        "first_ts_ns": START_NS + first,
        "last_ts_ns": START_NS + last,
        "vwap_1e9_rounded_down": (price_sum * unit / u128::from(count)) as u64,
    })
}
