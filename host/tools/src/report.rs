//! What each symbol holds, in the one shape in which it is written, read and compared.
//!
//! Both sides of the demo's check take this shape: the account of what was sent ([`crate::tally`])
//! and the nodes' answers. Here is only the shape; nothing is added up. A symbol without ticks is
//! left out, a value that does not exist (a price without trades) or did not fit is null.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::Value;
use zepto_store::query::Summary;

/// The report of a whole feed or of a whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Ticks of all symbols.
    pub total_ticks: u64,
    /// By name, sorted.
    pub symbols: BTreeMap<String, SymbolReport>,
}

/// The report of one symbol. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SymbolReport {
    /// Ticks of any kind.
    pub ticks: u64,
    /// Trades.
    pub trades: u64,
    /// Bids.
    pub bids: u64,
    /// Asks.
    pub asks: u64,
    /// Sum of the trades' sizes. A number in JSON as long as it fits 64 bits, then a string.
    #[serde(rename = "trade_size_1e9", serialize_with = "number_or_string")]
    pub trade_size: u128,
    /// Sum of the trades' prices times sizes, a string in JSON; `None` if it did not fit.
    #[serde(rename = "notional_1e18", serialize_with = "string_or_null")]
    pub notional: Option<i128>,
    /// Price of the first trade by (event time, order of arrival).
    #[serde(rename = "first_trade_price_1e9")]
    pub first_trade_price: Option<i64>,
    /// Price of the last trade by (event time, order of arrival).
    #[serde(rename = "last_trade_price_1e9")]
    pub last_trade_price: Option<i64>,
    /// Highest price of a trade.
    #[serde(rename = "high_1e9")]
    pub high: Option<i64>,
    /// Lowest price of a trade.
    #[serde(rename = "low_1e9")]
    pub low: Option<i64>,
    /// Earliest event time of any kind.
    #[serde(rename = "first_ts_ns")]
    pub first_time_ns: Option<u64>,
    /// Latest event time of any kind.
    #[serde(rename = "last_ts_ns")]
    pub last_time_ns: Option<u64>,
    /// Notional by size, rounded down; `None` without volume.
    #[serde(rename = "vwap_1e9_rounded_down")]
    pub vwap: Option<i64>,
}

impl Report {
    /// The shape of a node's answers.
    pub fn of_answers(answers: &BTreeMap<String, Summary>) -> Self {
        Self::of_symbols(
            answers.iter().map(|(name, summary)| (name.clone(), SymbolReport::of_answer(summary))),
        )
    }

    pub(crate) fn of_symbols(symbols: impl Iterator<Item = (String, SymbolReport)>) -> Self {
        let symbols: BTreeMap<_, _> = symbols.filter(|(_, symbol)| symbol.ticks > 0).collect();
        Self { total_ticks: symbols.values().map(|symbol| symbol.ticks).sum(), symbols }
    }

    /// As a JSON value, its keys in the order of the fields.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("64-bit numbers, strings and maps of them are JSON")
    }

    /// Writes it as JSON text, indented by one space like the expected results that are compared
    /// with it, and without a newline at the end.
    ///
    /// # Errors
    /// Those of the writer; what was written before stays.
    pub fn write_json(&self, writer: impl Write) -> io::Result<()> {
        let indent = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(writer, indent);
        self.serialize(&mut serializer).map_err(io::Error::from)
    }
}

impl SymbolReport {
    /// The shape of one answer.
    pub fn of_answer(summary: &Summary) -> Self {
        let trades = &summary.trades;
        Self {
            ticks: summary.ticks,
            trades: trades.count,
            bids: summary.bids,
            asks: summary.asks,
            trade_size: trades.size,
            notional: (!trades.overflow()).then_some(trades.notional),
            first_trade_price: trades.first.map(|edge| edge.price),
            last_trade_price: trades.last.map(|edge| edge.price),
            high: trades.high,
            low: trades.low,
            first_time_ns: summary.first_time_ns,
            last_time_ns: summary.last_time_ns,
            vwap: trades.vwap(),
        }
    }
}

/// The answers of a node as `query summary --json` prints them.
pub fn summary_json(answers: &BTreeMap<String, Summary>) -> Value {
    Report::of_answers(answers).to_json()
}

fn number_or_string<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    match u64::try_from(*number) {
        Ok(number) => serializer.serialize_u64(number),
        Err(_) => serializer.collect_str(number),
    }
}

fn string_or_null<S: Serializer>(number: &Option<i128>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => serializer.collect_str(number),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zepto_store::query::{Aggregate, Edge};

    use super::*;

    fn answer() -> Summary {
        let edge = |time_ns, price| Some(Edge { time_ns, sequence: 0, price });
        let trades = Aggregate {
            count: 2,
            size: 3,
            notional: -10,
            notional_carry: 0,
            first: edge(5, -3),
            last: edge(6, -4),
            high: Some(-3),
            low: Some(-4),
        };
        Summary {
            ticks: 9,
            bids: 4,
            asks: 3,
            first_time_ns: Some(1),
            last_time_ns: Some(u64::MAX),
            trades,
        }
    }

    #[test]
    fn answers_take_the_shape_of_the_expected_results() {
        let answers = BTreeMap::from([
            ("B".to_owned(), answer()),
            ("A".to_owned(), Summary { ticks: 1, ..Summary::default() }),
            ("unused".to_owned(), Summary::default()),
        ]);
        let expected = json!({
            "total_ticks": 10,
            "symbols": {
                "A": {
                    "ticks": 1, "trades": 0, "bids": 0, "asks": 0,
                    "trade_size_1e9": 0, "notional_1e18": "0",
                    "first_trade_price_1e9": null, "last_trade_price_1e9": null,
                    "high_1e9": null, "low_1e9": null,
                    "first_ts_ns": null, "last_ts_ns": null,
                    "vwap_1e9_rounded_down": null
                },
                "B": {
                    "ticks": 9, "trades": 2, "bids": 4, "asks": 3,
                    "trade_size_1e9": 3, "notional_1e18": "-10",
                    "first_trade_price_1e9": -3, "last_trade_price_1e9": -4,
                    "high_1e9": -3, "low_1e9": -4,
                    "first_ts_ns": 1, "last_ts_ns": u64::MAX,
                    "vwap_1e9_rounded_down": -4
                }
            }
        });
        // As text, since equal values may differ in the order of keys.
        assert_eq!(summary_json(&answers).to_string(), expected.to_string());
        let mut text = Vec::new();
        Report::of_answers(&answers).write_json(&mut text).unwrap();
        assert!(text.starts_with(b"{\n \"total_ticks\": 10,\n \"symbols\": {\n  \"A\": {\n"));
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn sums_beyond_64_bits_are_strings_and_an_overflow_is_null() {
        let mut summary = answer();
        summary.trades.size = u128::from(u64::MAX) + 1;
        summary.trades.notional_carry = -1;
        let json = summary_json(&BTreeMap::from([("A".to_owned(), summary)]));
        let symbol = &json["symbols"]["A"];
        assert_eq!(symbol["trade_size_1e9"], "18446744073709551616");
        assert_eq!(symbol["notional_1e18"], Value::Null);
        assert_eq!(symbol["vwap_1e9_rounded_down"], Value::Null);
    }
}
