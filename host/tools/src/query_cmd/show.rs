//! Answers as text and as JSON.
//!
//! JSON carries integers in the units in which they are stored; text carries the same numbers as
//! exact decimals. A missing value is null, or a dash.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use zepto_abi::Tick;
use zepto_client::message::Missing;
use zepto_store::query::{Aggregate, Bar, Summary};

use super::QueryArgs;
use crate::argument::{show_kind, show_time};
use crate::failure::Failure;
use crate::feed::decimal::Units;
use crate::format::{self, Align, Table};
use crate::report::Report;

const DASH: &str = "-";

/// The owners whose part an answer lacks.
#[derive(Debug, Default)]
pub(super) struct Missed(Vec<Missing>);

impl Missed {
    /// Says on standard error who is missing.
    pub(super) fn warn(missing: Vec<Missing>) -> Self {
        for one in &missing {
            let Missing { node, why } = one;
            eprintln!("zepto-host: warning: partial answer, without node {node:?}: {why}");
        }
        Self(missing)
    }

    /// The fields that mark a partial answer; none for a whole one.
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        if !self.0.is_empty() {
            let missing = self.0.iter().map(|one| json!({"node": one.node, "why": one.why}));
            fields.insert("partial".into(), Value::Bool(true));
            fields.insert("missing".into(), missing.collect());
        }
        fields
    }
}

fn print_object(mut object: Value, missed: &Missed) -> Result<(), Failure> {
    if let Value::Object(fields) = &mut object {
        fields.extend(missed.fields());
    }
    format::print(&format!("{object}\n"))
}

pub(super) fn summary(
    args: &QueryArgs,
    answers: &BTreeMap<String, Summary>,
    missed: &Missed,
) -> Result<(), Failure> {
    let report = Report::of_answers(answers);
    if args.json {
        return format::print(&summary_json(&report, missed)?);
    }
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("SYMBOL", Left),
        ("TICKS", Right),
        ("TRADES", Right),
        ("BIDS", Right),
        ("ASKS", Right),
        ("VOLUME", Right),
        ("FIRST", Right),
        ("HIGH", Right),
        ("LOW", Right),
        ("LAST", Right),
        ("VWAP", Right),
    ]);
    for (name, symbol) in &report.symbols {
        table.row([
            name.clone(),
            symbol.ticks.to_string(),
            symbol.trades.to_string(),
            symbol.bids.to_string(),
            symbol.asks.to_string(),
            size(symbol.trade_size),
            price(symbol.first_trade_price),
            price(symbol.high),
            price(symbol.low),
            price(symbol.last_trade_price),
            price(symbol.vwap),
        ]);
    }
    let total = format::count(report.total_ticks);
    let symbols = format::count(report.symbols.len() as u64);
    format::print(&format!("{}{total} ticks of {symbols} symbols\n", table.take_text()))
}

/// The report to the byte, when nobody is missing.
fn summary_json(report: &Report, missed: &Missed) -> Result<String, Failure> {
    let mut text = Vec::new();
    if missed.0.is_empty() {
        report.write_json(&mut text)?;
    } else {
        let mut object = report.to_json();
        if let Value::Object(fields) = &mut object {
            fields.extend(missed.fields());
        }
        let failed = |error| Failure::failed("cannot write the answer", error);
        text = serde_json::to_vec_pretty(&object).map_err(failed)?;
    }
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| Failure::failed("cannot write the answer", error))
}

pub(super) fn count(
    args: &QueryArgs,
    symbol: Option<&str>,
    ticks: Option<u64>,
    missed: &Missed,
) -> Result<(), Failure> {
    if args.json {
        return print_object(json!({"symbol": symbol, "ticks": ticks}), missed);
    }
    let text = ticks.map_or_else(|| DASH.to_owned(), |ticks| ticks.to_string());
    format::print(&format!("{text}\n"))
}

pub(super) fn vwap(
    args: &QueryArgs,
    symbol: &str,
    aggregate: Option<&Aggregate>,
    missed: &Missed,
) -> Result<(), Failure> {
    let vwap = aggregate.and_then(Aggregate::vwap);
    let notional = aggregate.filter(|some| !some.overflow()).map(|some| some.notional);
    if args.json {
        let object = json!({
            "symbol": symbol,
            "vwap_1e9_rounded_down": vwap,
            "vwap": vwap.map(|vwap| Units(vwap.into()).to_string()),
            "ticks": aggregate.map(|some| some.count),
            "size_1e9": aggregate.map(|some| number(some.size)),
            "notional_1e18": notional.map(|notional| notional.to_string()),
        });
        return print_object(object, missed);
    }
    let Some(aggregate) = aggregate else { return format::print("-\n") };
    let exact = vwap.map_or_else(|| "no volume".to_owned(), |vwap| format!("{vwap} x 1e-9"));
    format::print(&format!(
        "vwap      {} ({exact}, rounded down)\nticks     {}\nvolume    {}\nnotional  {}\n",
        price(vwap),
        aggregate.count,
        size(aggregate.size),
        notional.map_or_else(|| "does not fit 128 bits".to_owned(), format::notional),
    ))
}

pub(super) fn last(
    args: &QueryArgs,
    symbol: &str,
    tick: Option<Tick>,
    missed: &Missed,
) -> Result<(), Failure> {
    if args.json {
        let tick = tick.as_ref().map(tick_json);
        return print_object(json!({"symbol": symbol, "tick": tick}), missed);
    }
    let Some(tick) = tick else { return format::print("no tick\n") };
    let mut table = tick_table();
    table.row(tick_cells(&tick));
    format::print(&table.take_text())
}

/// Bars, page by page. Nothing is printed before the first page, which may not come.
pub(super) struct Bars {
    json: bool,
    start: String,
    interval_ns: u64,
    printed: u64,
    table: Table,
}

impl Bars {
    pub(super) fn new(args: &QueryArgs, symbol: &str, interval_ns: u64) -> Self {
        let symbol = json!(symbol);
        let start = format!("{{\"symbol\":{symbol},\"interval_ns\":{interval_ns},\"bars\":[");
        use Align::{Left, Right};
        let table = Table::new(&[
            ("START                         ", Left),
            ("OPEN", Right),
            ("HIGH", Right),
            ("LOW", Right),
            ("CLOSE", Right),
            ("VOLUME", Right),
            ("VWAP", Right),
            ("TICKS", Right),
        ]);
        Self { json: args.json, start, interval_ns, printed: 0, table }
    }

    pub(super) fn page(&mut self, bars: &[Bar]) -> Result<(), Failure> {
        let mut text = core::mem::take(&mut self.start);
        for Bar { start_ns, aggregate } in bars {
            if self.json {
                separate(&mut text, self.printed);
                text.push_str(&bar_json(*start_ns, aggregate).to_string());
            } else {
                self.table.row(bar_cells(*start_ns, aggregate));
            }
            self.printed += 1;
        }
        if !self.json {
            text = self.table.take_text();
        }
        format::print(&text)
    }

    pub(super) fn end(self, next_ns: Option<u64>, missed: &Missed) -> Result<(), Failure> {
        if self.json {
            let mut fields = missed.fields();
            fields.insert("next_start_ns".into(), json!(next_ns));
            return format::print(&format!("{}]{}\n", self.start, rest(&fields)));
        }
        if let Some(next_ns) = next_ns {
            let length = self.interval_ns;
            eprintln!(
                "more bars of {length} ns follow; --from {next_ns} goes on, or raise --limit"
            );
        }
        Ok(())
    }
}

/// Ticks, page by page, like [`Bars`].
pub(super) struct Ticks {
    json: bool,
    start: String,
    printed: u64,
    table: Table,
}

impl Ticks {
    pub(super) fn new(args: &QueryArgs, symbol: &str) -> Self {
        let start = format!("{{\"symbol\":{},\"ticks\":[", json!(symbol));
        Self { json: args.json, start, printed: 0, table: tick_table() }
    }

    pub(super) fn page(&mut self, ticks: &[Tick]) -> Result<(), Failure> {
        let mut text = core::mem::take(&mut self.start);
        for tick in ticks {
            if self.json {
                separate(&mut text, self.printed);
                text.push_str(&tick_json(tick).to_string());
            } else {
                self.table.row(tick_cells(tick));
            }
            self.printed += 1;
        }
        if !self.json {
            text = self.table.take_text();
        }
        format::print(&text)
    }

    pub(super) fn end(self, has_more: bool, missed: &Missed) -> Result<(), Failure> {
        if self.json {
            let mut fields = missed.fields();
            fields.insert("more".into(), Value::Bool(has_more));
            return format::print(&format!("{}]{}\n", self.start, rest(&fields)));
        }
        if has_more {
            eprintln!("more ticks follow; raise --limit or narrow --from and --to");
        }
        Ok(())
    }
}

fn separate(text: &mut String, printed: u64) {
    if printed > 0 {
        text.push(',');
    }
}

/// Fields as they go on in an object that has some already, and its end.
fn rest(fields: &Map<String, Value>) -> String {
    let fields: String = fields.iter().map(|(k, v)| format!(",{}:{v}", json!(k))).collect();
    format!("{fields}}}")
}

fn bar_json(start_ns: u64, aggregate: &Aggregate) -> Value {
    json!({
        "start_ns": start_ns,
        "open_1e9": aggregate.first.map(|edge| edge.price),
        "high_1e9": aggregate.high,
        "low_1e9": aggregate.low,
        "close_1e9": aggregate.last.map(|edge| edge.price),
        "size_1e9": number(aggregate.size),
        "vwap_1e9_rounded_down": aggregate.vwap(),
        "ticks": aggregate.count,
    })
}

fn bar_cells(start_ns: u64, aggregate: &Aggregate) -> [String; 8] {
    [
        show_time(start_ns),
        price(aggregate.first.map(|edge| edge.price)),
        price(aggregate.high),
        price(aggregate.low),
        price(aggregate.last.map(|edge| edge.price)),
        size(aggregate.size),
        price(aggregate.vwap()),
        aggregate.count.to_string(),
    ]
}

fn tick_json(tick: &Tick) -> Value {
    json!({
        "event_time_ns": tick.event_time_ns,
        "sequence": tick.sequence,
        "kind": show_kind(tick.kind),
        "price_1e9": tick.price,
        "size_1e9": tick.size,
        "receive_time_ns": tick.receive_time_ns,
        "flags": tick.flags,
        "user": tick.user,
    })
}

fn tick_table() -> Table {
    use Align::{Left, Right};
    Table::new(&[
        ("EVENT TIME                    ", Left),
        ("KIND ", Left),
        ("       PRICE", Right),
        ("        SIZE", Right),
        ("    USER", Right),
    ])
}

fn tick_cells(tick: &Tick) -> [String; 5] {
    [
        show_time(tick.event_time_ns),
        show_kind(tick.kind),
        Units(tick.price.into()).to_string(),
        Units(tick.size.into()).to_string(),
        tick.user[0].to_string(),
    ]
}

fn price(price: Option<i64>) -> String {
    price.map_or_else(|| DASH.to_owned(), |price| Units(price.into()).to_string())
}

fn size(size: u128) -> String {
    // 2^127 units are more than 2^63 of the largest sizes.
    i128::try_from(size).map_or_else(|_| format!("{size} x 1e-9"), |size| Units(size).to_string())
}

/// A number while it fits 64 bits, then a string.
fn number(size: u128) -> Value {
    u64::try_from(size).map_or_else(|_| json!(size.to_string()), |size| json!(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed() -> Missed {
        Missed(vec![Missing { node: "b".into(), why: "gone".into() }])
    }

    #[test]
    fn a_partial_answer_is_marked_and_names_who_is_missing() {
        let report = Report::default();
        let whole = summary_json(&report, &Missed::default()).unwrap();
        assert_eq!(whole, "{\n \"total_ticks\": 0,\n \"symbols\": {}\n}\n");
        let partial: Value =
            serde_json::from_str(&summary_json(&report, &missed()).unwrap()).unwrap();
        assert_eq!(partial["partial"], true);
        assert_eq!(partial["missing"], json!([{"node": "b", "why": "gone"}]));
        let closed = format!("{{\"ticks\":[{}", "]".to_owned() + &rest(&missed().fields()));
        let streamed: Value = serde_json::from_str(&closed).unwrap();
        assert_eq!(streamed["missing"][0]["node"], "b");
    }

    #[test]
    fn a_tick_keeps_every_field_in_json_and_its_decimals_in_text() {
        let tick = Tick {
            sequence: 9,
            event_time_ns: 1_723_161_599_999_231_384,
            kind: 200,
            flags: 3,
            price: -1_500_000_000,
            size: 1,
            user: [7, u64::MAX],
            ..Tick::default()
        };
        let expected = json!({
            "event_time_ns": 1_723_161_599_999_231_384u64, "sequence": 9, "kind": "200",
            "price_1e9": -1_500_000_000, "size_1e9": 1, "receive_time_ns": 0, "flags": 3,
            "user": [7, u64::MAX],
        });
        assert_eq!(tick_json(&tick), expected);
        let cells = tick_cells(&tick);
        assert_eq!(cells[..4], ["2024-08-08T23:59:59.999231384Z", "200", "-1.5", "0.000000001"]);
    }

    #[test]
    fn sizes_beyond_64_bits_stay_exact() {
        assert_eq!(number(u64::MAX.into()), json!(u64::MAX));
        assert_eq!(number(u128::from(u64::MAX) + 1), json!("18446744073709551616"));
        assert_eq!(size(1_500_000_000), "1.5");
    }
}
