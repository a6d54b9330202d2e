//! A day of real market data, read and accounted for exactly.
//!
//! The data is not part of the project: where it is absent these tests say so and pass.

use std::fs;
use std::path::{Path, PathBuf};

use zepto_tools::feed::{CsvFeed, Feed, OnBadLine, ProgressUnit};
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
    let mut feed = CsvFeed::open(&path, OnBadLine::Fail).unwrap();
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
