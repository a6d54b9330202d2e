//! Questions about the ticks of one series.

use crate::client::{self, zepto_client};
use crate::error::{Failure, zepto_error};
use crate::handle::{clear, get, hand_out};
use crate::sized::{self, grows};
use crate::status::*;
use crate::text::zepto_str;
use crate::tick::zepto_tick;
use ::zepto_client::message::{AnswerBody, Ask, Of, Part, Query};
use core::time::Duration;
use zepto_core::slot::tick_of;
use zepto_store::query::{Aggregate, Bar, KindSet, TimeRange};

/// Time for an answer where nothing is said.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Ticks or bars of a page where nothing is said.
const PAGE: u32 = 65_536;

/// A question. Zero it, and fill in what is needed.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct zepto_query {
    /// `sizeof` of this struct.
    pub struct_size: u32,
    /// Table of the symbol.
    pub table: u32,
    /// The symbol's name.
    pub symbol: zepto_str,
    /// First event time that is inside, ns since 1970.
    pub from_ns: u64,
    /// First event time that is no longer inside; 0 is none: everything from `from_ns` on.
    pub to_ns: u64,
    /// Bit k of word k / 64: ticks of kind k. All zero is trades.
    pub kinds: [u64; 4],
    /// Time for the answer, ns; 0 is ten seconds.
    pub timeout_ns: u64,
    /// Ticks or bars of one page; 0 is 65536.
    pub limit: u32,
    /// Zero.
    pub reserved: u32,
}
grows!(zepto_query = 88);

/// What some ticks come to. Prices in units of 1e-9.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct zepto_aggregate {
    /// `sizeof` of this struct.
    pub struct_size: u32,
    /// 1 if there is a vwap: there was volume, and the sums fit.
    pub has_vwap: u32,
    /// Ticks.
    pub count: u64,
    /// Volume-weighted average price, rounded down.
    pub vwap: i64,
    /// Price of the first tick, in order of event time and sequence.
    pub open: i64,
    /// Highest price.
    pub high: i64,
    /// Lowest price.
    pub low: i64,
    /// Price of the last tick.
    pub close: i64,
    /// Event time of the first tick, ns.
    pub first_time_ns: u64,
    /// Event time of the last tick, ns.
    pub last_time_ns: u64,
    /// Sum of sizes in units of 1e-9: 128 bits, the low half.
    pub size_low: u64,
    /// The high half.
    pub size_high: u64,
    /// Start of the interval, ns; 0 where it is none.
    pub start_ns: u64,
}
grows!(zepto_aggregate = 96);

/// Bars, in order; only those of intervals with ticks. Free it with `zepto_bars_free`.
pub struct zepto_bars {
    bars: Vec<Bar>,
    next_ns: u64,
}

/// A question, read.
pub(crate) struct Question {
    pub table: u16,
    pub symbol: String,
    range: TimeRange,
    kinds: KindSet,
    /// Those that are said, if any are.
    pub said_kinds: Option<KindSet>,
    pub within: Duration,
    pub limit: u32,
}

impl Question {
    /// # Safety
    /// `query` must be readable, with what it points to.
    pub unsafe fn of(query: *const zepto_query) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let query = unsafe { sized::read(query) }?;
        // SAFETY: the caller's promise.
        let symbol = unsafe { query.symbol.read("symbol") }?.to_owned();
        let table = u16::try_from(query.table);
        let table = table.map_err(|_| Failure::invalid(format!("table {}", query.table)))?;
        if query.reserved != 0 {
            let text = "fields of a version after this library's";
            return Err(Failure::new(ZEPTO_E_UNSUPPORTED, text));
        }
        let to_ns = if query.to_ns == 0 { TimeRange::NO_END } else { query.to_ns };
        let said_kinds = match query.kinds {
            [0, 0, 0, 0] => None,
            words => Some(KindSet::of_words(words)),
        };
        let kinds = said_kinds.unwrap_or(KindSet::TRADES);
        let within = match query.timeout_ns {
            0 => ANSWER_WITHIN,
            ns => Duration::from_nanos(ns),
        };
        let limit = if query.limit == 0 { PAGE } else { query.limit };
        let range = TimeRange { from_ns: query.from_ns, to_ns };
        Ok(Self { table, symbol, range, kinds, said_kinds, within, limit })
    }

    pub fn ask(self, client: &zepto_client, of: Of) -> Result<Part, Failure> {
        let Self { table, symbol, range, within, .. } = self;
        let ask = Ask::Series { table, symbol, range, of };
        let asking = client.shared.client.query(Query { ask, partial: false }, within);
        let answer = client.shared.wait(asking)??;
        match answer.body {
            AnswerBody::Series(Some(part)) => Ok(part),
            _ => Err(other()),
        }
    }
}

pub(crate) fn other() -> Failure {
    Failure::new(ZEPTO_E_VERSION, "an answer to another question")
}

/// Runs a question about one series.
///
/// # Safety
/// As for the functions.
pub(crate) unsafe fn ask(
    client: *const zepto_client,
    query: *const zepto_query,
    error: *mut *mut zepto_error,
    body: impl FnOnce(&zepto_client, Question) -> Result<(), Failure>,
) -> zepto_status {
    let asking = |client: &zepto_client| {
        // SAFETY: the caller's promise.
        body(client, unsafe { Question::of(query) }?)
    };
    // SAFETY: the caller's promise.
    unsafe { client::of(client, error, asking) }
}

/// Count, vwap, open, high, low, close and volume of a series' ticks; of none, all is zero.
/// [any thread] [not callback-safe]
///
/// # Safety
/// `client` must be of this library, `query` readable, `out` writable with its `struct_size` filled
/// in, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_aggregate_get(
    client: *const zepto_client,
    query: *const zepto_query,
    out: *mut zepto_aggregate,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client, question: Question| {
        let of = Of::Aggregate(question.kinds);
        let Part::Aggregate(aggregate) = question.ask(client, of)? else { return Err(other()) };
        // SAFETY: the caller's promise.
        unsafe { sized::write(out, &aggregate_of(&aggregate, 0)) }
    };
    // SAFETY: the caller's promise.
    unsafe { ask(client, query, error, body) }
}

fn aggregate_of(aggregate: &Aggregate, start_ns: u64) -> zepto_aggregate {
    let vwap = aggregate.vwap();
    let (first, last) = (aggregate.first, aggregate.last);
    zepto_aggregate {
        struct_size: size_of::<zepto_aggregate>() as u32,
        has_vwap: u32::from(vwap.is_some()),
        count: aggregate.count,
        vwap: vwap.unwrap_or(0),
        open: first.map_or(0, |edge| edge.price),
        high: aggregate.high.unwrap_or(0),
        low: aggregate.low.unwrap_or(0),
        close: last.map_or(0, |edge| edge.price),
        first_time_ns: first.map_or(0, |edge| edge.time_ns),
        last_time_ns: last.map_or(0, |edge| edge.time_ns),
        size_low: aggregate.size as u64,
        size_high: (aggregate.size >> 64) as u64,
        start_ns,
    }
}

/// The number of a series' ticks. [any thread] [not callback-safe]
///
/// # Safety
/// As for `zepto_aggregate_get`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_count(
    client: *const zepto_client,
    query: *const zepto_query,
    out: *mut u64,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client, question: Question| {
        if out.is_null() {
            return Err(Failure::null("out"));
        }
        let of = Of::Aggregate(question.kinds);
        let Part::Aggregate(aggregate) = question.ask(client, of)? else { return Err(other()) };
        // SAFETY: the caller's promise.
        unsafe { out.write(aggregate.count) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { ask(client, query, error, body) }
}

/// The last tick of a series, in order of event time and sequence; `ZEPTO_E_NOT_FOUND` when there
/// is none. [any thread] [not callback-safe]
///
/// # Safety
/// As for `zepto_aggregate_get`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_last(
    client: *const zepto_client,
    query: *const zepto_query,
    out: *mut zepto_tick,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client, question: Question| {
        if out.is_null() {
            return Err(Failure::null("out"));
        }
        let of = Of::Last(question.kinds);
        let Part::Last(last) = question.ask(client, of)? else { return Err(other()) };
        let last = last.ok_or_else(|| Failure::new(ZEPTO_E_NOT_FOUND, "no such tick"))?;
        // SAFETY: the caller's promise.
        unsafe { out.write(zepto_tick::of(&tick_of(&last))) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { ask(client, query, error, body) }
}

/// A series in bars of `interval_ns`. When there are more than a page has, `zepto_bars_next_ns`
/// says where the next begins. [any thread] [not callback-safe]
///
/// # Safety
/// `client` must be of this library, `query` readable, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ohlcv(
    client: *const zepto_client,
    query: *const zepto_query,
    interval_ns: u64,
    out: *mut *mut zepto_bars,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client, question: Question| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        if interval_ns == 0 {
            return Err(Failure::invalid("bars of no length"));
        }
        let of = Of::Bars { interval_ns, kinds: question.kinds, limit: question.limit };
        let Part::Bars { bars, next_ns } = question.ask(client, of)? else { return Err(other()) };
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_bars { bars, next_ns: next_ns.unwrap_or(0) }) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { ask(client, query, error, body) }
}

/// How many bars there are; 0 of NULL. [any thread] [callback-safe]
///
/// # Safety
/// `bars` must be NULL or of this library, and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_bars_count(bars: *const zepto_bars) -> usize {
    // SAFETY: the caller's promise.
    unsafe { bars.as_ref() }.map_or(0, |bars| bars.bars.len())
}

/// Where the next bar begins, to be asked for with that as `from_ns`; 0 when there are no more.
/// [any thread] [callback-safe]
///
/// # Safety
/// As for `zepto_bars_count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_bars_next_ns(bars: *const zepto_bars) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { bars.as_ref() }.map_or(0, |bars| bars.next_ns)
}

/// Fills in the `place`th bar, from 0. [any thread] [callback-safe]
///
/// # Safety
/// `bars` must be of this library, `out` writable, its `struct_size` filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_bars_at(
    bars: *const zepto_bars,
    place: usize,
    out: *mut zepto_aggregate,
) -> zepto_status {
    let body = || {
        // SAFETY: the caller's promise.
        let bars = unsafe { get(bars, "bars") }?;
        let bar = bars.bars.get(place);
        let bar = bar.ok_or_else(|| Failure::new(ZEPTO_E_NOT_FOUND, "no such bar"))?;
        // SAFETY: the caller's promise.
        unsafe { sized::write(out, &aggregate_of(&bar.aggregate, bar.start_ns)) }
    };
    // SAFETY: no error is wanted.
    unsafe { crate::handle::call(None, core::ptr::null_mut(), body) }
}

/// Frees it; NULL is fine. [any thread] [callback-safe]
///
/// # Safety
/// `bars` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_bars_free(bars: *mut zepto_bars) {
    if !bars.is_null() {
        // SAFETY: the caller's promise; it was made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(bars) });
    }
}
