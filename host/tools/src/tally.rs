//! The demo's own account of what was sent, exact and independent of the store.
//!
//! The nodes' answers are worth as much as what they are compared with, so nothing here shares
//! arithmetic with `zepto_store::query`: sums, extremes, order and rounding are written a second
//! time, from the rows as they were sent. It holds one record per symbol, whatever the number of
//! rows, and deliberately no rows.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use zepto_abi::Kind;
use zepto_store::query::Summary;

use crate::feed::Row;
use crate::report::{Report, SymbolReport};

/// The account of a feed.
#[derive(Debug, Default)]
pub struct Tally {
    names: Vec<String>,
    accounts: Vec<Account>,
    rows: u64,
}

/// An answer that is not what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which symbol.
    pub symbol: String,
    /// Which of its values, as it is called in JSON.
    pub field: &'static str,
    /// What the account says.
    pub expected: String,
    /// What the node says.
    pub seen: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { symbol, field, expected, seen } = self;
        write!(f, "{symbol}: {field} is {seen}, expected {expected}")
    }
}

impl Tally {
    /// An account of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds rows in the order in which they were sent; `names` are those of their feed, of which
    /// each call may have more.
    ///
    /// # Panics
    /// If a row's symbol is not among the names, which no feed does.
    pub fn add(&mut self, names: &[String], rows: &[Row]) {
        if let Some(new) = names.get(self.names.len()..) {
            self.names.extend_from_slice(new);
            self.accounts.resize_with(self.names.len(), Account::default);
        }
        for row in rows {
            self.accounts[row.symbol as usize].add(row);
        }
        self.rows += rows.len() as u64;
    }

    /// How many rows were added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many symbols have rows.
    pub fn symbols(&self) -> usize {
        self.accounts.iter().filter(|account| account.ticks > 0).count()
    }

    /// The account in the shape of a report.
    pub fn report(&self) -> Report {
        let symbols = self.names.iter().cloned();
        Report::of_symbols(symbols.zip(self.accounts.iter().map(Account::report)))
    }

    /// The account as JSON, in the shape of the expected results that come with real data.
    pub fn to_expected_json(&self) -> Value {
        self.report().to_json()
    }

    /// Every value of a node's answers that differs from the account, sorted by symbol. Symbols
    /// without ticks may be absent on either side.
    pub fn compare(&self, answers: &BTreeMap<String, Summary>) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        let accounts: BTreeMap<&str, &Account> =
            self.names.iter().map(String::as_str).zip(&self.accounts).collect();
        let nothing = (Account::default(), Summary::default());
        for (symbol, account) in &accounts {
            let answer = answers.get(*symbol).unwrap_or(&nothing.1);
            account.compare(symbol, answer, &mut mismatches);
        }
        for (symbol, answer) in answers {
            if !accounts.contains_key(symbol.as_str()) {
                nothing.0.compare(symbol, answer, &mut mismatches);
            }
        }
        mismatches.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        mismatches
    }
}

/// The account of one symbol.
#[derive(Clone, Debug, Default)]
struct Account {
    ticks: u64,
    bids: u64,
    asks: u64,
    /// Earliest and latest event time of any kind.
    times: Option<(u64, u64)>,
    trades: Option<Trades>,
}

/// The trades of one symbol, of which there is at least one.
#[derive(Clone, Debug)]
struct Trades {
    count: u64,
    size: u128,
    notional: Notional,
    first: (u64, i64),
    last: (u64, i64),
    high: i64,
    low: i64,
}

impl Account {
    fn add(&mut self, row: &Row) {
        let time = row.event_time_ns;
        self.ticks += 1;
        self.times = match self.times {
            None => Some((time, time)),
            Some((first, last)) => Some((first.min(time), last.max(time))),
        };
        match row.kind {
            Kind::BID => self.bids += 1,
            Kind::ASK => self.asks += 1,
            Kind::TRADE => match &mut self.trades {
                Some(trades) => trades.add(row),
                None => self.trades = Some(Trades::of(row)),
            },
            _ => {}
        }
    }

    fn report(&self) -> SymbolReport {
        let trades = self.trades.as_ref();
        SymbolReport {
            ticks: self.ticks,
            trades: trades.map_or(0, |trades| trades.count),
            bids: self.bids,
            asks: self.asks,
            trade_size: trades.map_or(0, |trades| trades.size),
            notional: trades.map_or(Some(0), |trades| trades.notional.sum()),
            first_trade_price: trades.map(|trades| trades.first.1),
            last_trade_price: trades.map(|trades| trades.last.1),
            high: trades.map(|trades| trades.high),
            low: trades.map(|trades| trades.low),
            first_time_ns: self.times.map(|times| times.0),
            last_time_ns: self.times.map(|times| times.1),
            vwap: trades.and_then(Trades::vwap),
        }
    }

    fn compare(&self, symbol: &str, answer: &Summary, mismatches: &mut Vec<Mismatch>) {
        let (expected, seen) = (self.report(), SymbolReport::of_answer(answer));
        let trade_times = self.trades.as_ref().map(|trades| (trades.first.0, trades.last.0));
        let edges = answer.trades.first.zip(answer.trades.last);
        let seen_times = edges.map(|(first, last)| (first.time_ns, last.time_ns));
        if expected == seen && trade_times == seen_times {
            return;
        }
        let mut check = |field, expected: String, seen: String| {
            if expected != seen {
                mismatches.push(Mismatch { symbol: symbol.to_owned(), field, expected, seen });
            }
        };
        for ((field, expected), (_, seen)) in values(&expected).into_iter().zip(values(&seen)) {
            check(field, expected, seen);
        }
        let time = |times: Option<(u64, u64)>| text(times.map(|times| times.0));
        check("first_trade_ts_ns", time(trade_times), time(seen_times));
        let time = |times: Option<(u64, u64)>| text(times.map(|times| times.1));
        check("last_trade_ts_ns", time(trade_times), time(seen_times));
    }
}

impl Trades {
    fn of(row: &Row) -> Self {
        let at = (row.event_time_ns, row.price);
        Self {
            count: 1,
            size: row.size.into(),
            notional: Notional::default().plus(row),
            first: at,
            last: at,
            high: row.price,
            low: row.price,
        }
    }

    fn add(&mut self, row: &Row) {
        let at = (row.event_time_ns, row.price);
        self.count += 1;
        self.size += u128::from(row.size);
        self.notional = self.notional.plus(row);
        // Of equal times the first to arrive is first, and the last to arrive is last.
        if at.0 < self.first.0 {
            self.first = at;
        }
        if at.0 >= self.last.0 {
            self.last = at;
        }
        if row.price > self.high {
            self.high = row.price;
        }
        if row.price < self.low {
            self.low = row.price;
        }
    }

    /// The quotient, less one where division cut off a negative remainder.
    fn vwap(&self) -> Option<i64> {
        let (notional, size) = (self.notional.sum()?, i128::try_from(self.size).ok()?);
        if size == 0 {
            return None;
        }
        let quotient = notional / size;
        let cut_up = notional % size != 0 && notional < 0;
        i64::try_from(if cut_up { quotient - 1 } else { quotient }).ok()
    }
}

/// A sum of prices times sizes, exact for as many rows as there can be: the upper and the lower 64
/// bits of every product are added up apart.
#[derive(Clone, Copy, Debug, Default)]
struct Notional {
    upper: i128,
    lower: u128,
}

impl Notional {
    fn plus(self, row: &Row) -> Self {
        // Below 2^127 whatever the row says.
        let product = i128::from(row.price) * i128::from(row.size);
        let (upper, lower) = (product >> 64, product as u64);
        Self { upper: self.upper + upper, lower: self.lower + u128::from(lower) }
    }

    /// `None` if it does not fit.
    fn sum(self) -> Option<i128> {
        let carried = i128::try_from(self.lower >> 64).ok()?;
        let upper = i64::try_from(self.upper + carried).ok()?;
        Some((i128::from(upper) << 64) | i128::from(self.lower as u64))
    }
}

/// Every value of a report under its name in JSON, as text.
fn values(report: &SymbolReport) -> [(&'static str, String); 13] {
    [
        ("ticks", report.ticks.to_string()),
        ("trades", report.trades.to_string()),
        ("bids", report.bids.to_string()),
        ("asks", report.asks.to_string()),
        ("trade_size_1e9", report.trade_size.to_string()),
        ("notional_1e18", report.notional.map_or("too large".to_owned(), |sum| sum.to_string())),
        ("first_trade_price_1e9", text(report.first_trade_price)),
        ("last_trade_price_1e9", text(report.last_trade_price)),
        ("high_1e9", text(report.high)),
        ("low_1e9", text(report.low)),
        ("first_ts_ns", text(report.first_time_ns)),
        ("last_ts_ns", text(report.last_time_ns)),
        ("vwap_1e9_rounded_down", text(report.vwap)),
    ]
}

fn text(value: Option<impl fmt::Display>) -> String {
    value.map_or("none".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests;
