//! The account against feeds whose sums are known.

use proptest::prelude::*;
use serde_json::json;
use zepto_store::query::Edge;

use super::*;

const A: u32 = 0;
const B: u32 = 1;

fn row(event_time_ns: u64, symbol: u32, kind: u8, price: i64, size: u64) -> Row {
    Row { event_time_ns, symbol, kind, price, size, ..Row::default() }
}

fn names() -> Vec<String> {
    vec!["A".to_owned(), "B".to_owned()]
}

fn tally(rows: &[Row]) -> Tally {
    let mut tally = Tally::new();
    tally.add(&names(), rows);
    tally
}

/// Out of order in time, with equal times, both signs of price, and every kind.
fn rows() -> Vec<Row> {
    vec![
        row(50, A, Kind::BID, 99, 0),
        row(30, A, Kind::TRADE, 100, 3),
        row(20, A, Kind::TRADE, 101, 2),
        row(20, A, Kind::TRADE, 97, 1),
        row(40, A, Kind::TRADE, 105, 1),
        row(40, A, Kind::TRADE, 104, 1),
        row(35, A, Kind::TRADE, 90, 0),
        row(10, A, Kind::ASK, 107, 5),
        row(60, A, Kind::CLEAR, 0, 0),
        row(30, B, Kind::TRADE, -7, 2),
        row(31, B, Kind::TRADE, -8, 1),
        row(31, B, Kind::OTHER, 1, 1),
        row(31, B, Kind::FILL, 1, 1),
    ]
}

/// What a node that stored these rows answers, by the store's own arithmetic.
fn answers(rows: &[Row]) -> BTreeMap<String, Summary> {
    let mut answers = BTreeMap::new();
    for (sequence, row) in (1..).zip(rows) {
        let summary: &mut Summary =
            answers.entry(names()[row.symbol as usize].clone()).or_default();
        let time = Some(row.event_time_ns);
        let is = |kind| u64::from(row.kind == kind);
        summary.merge(&Summary {
            ticks: 1,
            bids: is(Kind::BID),
            asks: is(Kind::ASK),
            first_time_ns: time,
            last_time_ns: time,
            ..Summary::default()
        });
        if row.kind == Kind::TRADE {
            let edge = Edge { time_ns: row.event_time_ns, sequence, price: row.price };
            summary.trades.add(edge, row.size);
        }
    }
    answers
}

#[test]
fn the_account_of_a_handful_of_rows_is_what_one_works_out_by_hand() {
    let expected = json!({
        "total_ticks": 13,
        "symbols": {
            "A": {
                "ticks": 9, "trades": 6, "bids": 1, "asks": 1,
                "trade_size_1e9": 8, "notional_1e18": "808",
                "first_trade_price_1e9": 101, "last_trade_price_1e9": 104,
                "high_1e9": 105, "low_1e9": 90,
                "first_ts_ns": 10, "last_ts_ns": 60,
                "vwap_1e9_rounded_down": 101
            },
            "B": {
                "ticks": 4, "trades": 2, "bids": 0, "asks": 0,
                "trade_size_1e9": 3, "notional_1e18": "-22",
                "first_trade_price_1e9": -7, "last_trade_price_1e9": -8,
                "high_1e9": -7, "low_1e9": -8,
                "first_ts_ns": 30, "last_ts_ns": 31,
                "vwap_1e9_rounded_down": -8
            }
        }
    });
    let tally = tally(&rows());
    assert_eq!(tally.to_expected_json().to_string(), expected.to_string());
    assert_eq!((tally.rows(), tally.symbols()), (13, 2));
}

#[test]
fn names_may_appear_while_rows_come_and_unused_ones_are_left_out() {
    let mut tally = Tally::new();
    tally.add(&names()[..1], &rows()[..9]);
    tally.add(&names(), &rows()[9..]);
    tally.add(&[names(), vec!["C".to_owned()]].concat(), &[]);
    assert_eq!(tally.report(), self::tally(&rows()).report());
    assert_eq!(tally.compare(&answers(&rows())), []);
}

#[test]
fn right_answers_have_no_mismatch_and_empty_ones_may_be_absent_or_present() {
    let tally = tally(&rows()[..9]);
    let mut answers = answers(&rows()[..9]);
    assert_eq!(tally.compare(&answers), []);
    answers.insert("B".to_owned(), Summary::default());
    answers.insert("never sent".to_owned(), Summary::default());
    assert_eq!(tally.compare(&answers), []);
}

/// A change of one value of an answer, and the values in which it must be seen.
type Change = (fn(&mut Summary), &'static [&'static str]);

const CHANGES: [Change; 20] = [
    (|answer| answer.ticks += 1, &["ticks"]),
    (|answer| answer.bids += 1, &["bids"]),
    (|answer| answer.asks -= 1, &["asks"]),
    (|answer| answer.first_time_ns = Some(11), &["first_ts_ns"]),
    (|answer| answer.first_time_ns = None, &["first_ts_ns"]),
    (|answer| answer.last_time_ns = Some(61), &["last_ts_ns"]),
    (|answer| answer.trades.count -= 1, &["trades"]),
    (|answer| answer.trades.size += 1, &["trade_size_1e9", "vwap_1e9_rounded_down"]),
    (|answer| answer.trades.size += 1 << 64, &["trade_size_1e9", "vwap_1e9_rounded_down"]),
    (|answer| answer.trades.notional += 1, &["notional_1e18"]),
    (|answer| answer.trades.notional += 8, &["notional_1e18", "vwap_1e9_rounded_down"]),
    (|answer| answer.trades.notional_carry += 1, &["notional_1e18", "vwap_1e9_rounded_down"]),
    (|answer| edge(&mut answer.trades.first).price += 1, &["first_trade_price_1e9"]),
    (|answer| edge(&mut answer.trades.first).time_ns += 1, &["first_trade_ts_ns"]),
    (|answer| edge(&mut answer.trades.last).price -= 1, &["last_trade_price_1e9"]),
    (|answer| edge(&mut answer.trades.last).time_ns += 1, &["last_trade_ts_ns"]),
    (|answer| answer.trades.high = Some(106), &["high_1e9"]),
    (|answer| answer.trades.high = None, &["high_1e9"]),
    (|answer| answer.trades.low = Some(89), &["low_1e9"]),
    (|answer| answer.trades.low = None, &["low_1e9"]),
];

fn edge(edge: &mut Option<Edge>) -> &mut Edge {
    edge.as_mut().unwrap()
}

#[test]
fn every_single_changed_value_is_found_and_named() {
    let (tally, right) = (tally(&rows()), answers(&rows()));
    for (number, (change, fields)) in CHANGES.iter().enumerate() {
        let mut wrong = right.clone();
        change(wrong.get_mut("A").unwrap());
        let found = tally.compare(&wrong);
        let named: Vec<_> = found.iter().map(|mismatch| mismatch.field).collect();
        assert_eq!(named, *fields, "change {number}");
        assert!(found.iter().all(|mismatch| mismatch.symbol == "A"));
    }
}

#[test]
fn a_mismatch_says_what_was_expected_and_what_was_seen() {
    let mut wrong = answers(&rows());
    wrong.get_mut("B").unwrap().trades.high = None;
    let found = tally(&rows()).compare(&wrong);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "B: high_1e9 is none, expected -7");
}

#[test]
fn a_symbol_that_is_missing_or_was_never_sent_is_found() {
    let mut wrong = answers(&rows());
    let moved = wrong.remove("B").unwrap();
    wrong.insert("0".to_owned(), moved);
    let found = tally(&rows()).compare(&wrong);
    let ticks: Vec<_> = found
        .iter()
        .filter(|mismatch| mismatch.field == "ticks")
        .map(|mismatch| (&*mismatch.symbol, &*mismatch.expected, &*mismatch.seen))
        .collect();
    assert_eq!(ticks, [("0", "0", "4"), ("B", "4", "0")]);
}

#[test]
fn a_notional_beyond_128_bits_is_said_and_not_wrong() {
    for price in [i64::MAX, i64::MIN] {
        let rows = [row(1, A, Kind::TRADE, price, u64::MAX); 3];
        let tally = tally(&rows);
        let report = tally.report().symbols.remove("A").unwrap();
        assert_eq!((report.notional, report.vwap), (None, None));
        assert_eq!(report.trade_size, 3 * u128::from(u64::MAX));
        assert_eq!(tally.compare(&answers(&rows)), []);
    }
}

#[test]
fn a_notional_that_only_passes_through_what_does_not_fit_is_exact() {
    let prices = [i64::MAX, i64::MAX, i64::MAX, i64::MIN, i64::MIN, i64::MIN];
    let rows = prices.map(|price| row(1, A, Kind::TRADE, price, u64::MAX));
    let report = tally(&rows).report().symbols.remove("A").unwrap();
    assert_eq!(report.notional, Some(-3 * i128::from(u64::MAX)));
    assert_eq!(report.vwap, Some(-1));
    assert_eq!(tally(&rows).compare(&answers(&rows)), []);
}

fn price() -> impl Strategy<Value = i64> {
    prop_oneof![-10i64..10, -1_000_000_000_000i64..1_000_000_000_000, any::<i64>()]
}

proptest! {
    #[test]
    fn two_independent_calculations_agree_on_any_rows(
        rows in prop::collection::vec(
            (0u64..8, 0u32..2, 0u8..7, price(), prop_oneof![0u64..10, any::<u64>()])
                .prop_map(|(time, symbol, kind, price, size)| row(time, symbol, kind, price, size)),
            0..60,
        ),
    ) {
        prop_assert_eq!(tally(&rows).compare(&answers(&rows)), []);
    }
}
