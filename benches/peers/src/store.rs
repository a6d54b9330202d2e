//! Ticks into columns, and answers out of them.

use crate::compare::{Settings, compare, limit, ours, peer};
use crate::machine::time;
use arrow_array::builder::{Int64Builder, UInt8Builder, UInt64Builder};
use std::hint::black_box;
use zepto_abi::{Kind, Tick};
use zepto_benches::{append_all, empty, store_of, symbols, tick};
use zepto_store::StoreReader;
use zepto_store::query::{KindSet, TimeRange};

const TICKS: usize = 4 << 20;
const SYMBOLS: u32 = 1 << 13;

/// Prints the comparisons.
pub fn run(settings: Settings) {
    for (name, is_skewed) in [
        ("append until readable, 8192 symbols, uniform", false),
        ("append until readable, 8192 symbols, half of them in one of 64", true),
    ] {
        let stream = symbols(TICKS, SYMBOLS, is_skewed);
        compare(
            settings,
            name,
            vec![
                limit("one sequential log, its pages there", || log(&stream)),
                peer("arrow builders, four a symbol", || builders(&stream)),
                ours("store, memory never used before", || append(&stream, false)),
                ours("store, its pages there", || append(&stream, true)),
            ],
        );
    }
    query(settings);
}

fn log(stream: &[u32]) -> f64 {
    let mut log = vec![tick(1, 1); stream.len()];
    time(stream.len(), || {
        for (number, (symbol, place)) in stream.iter().zip(&mut log).enumerate() {
            *place = black_box(tick(*symbol, number as u64));
        }
    })
}

fn builders(stream: &[u32]) -> f64 {
    let columns = || {
        let rows = 1024;
        (
            UInt64Builder::with_capacity(rows),
            Int64Builder::with_capacity(rows),
            UInt64Builder::with_capacity(rows),
            UInt8Builder::with_capacity(rows),
        )
    };
    let mut symbols: Vec<_> = (0..SYMBOLS).map(|_| columns()).collect();
    time(stream.len(), || {
        for (number, symbol) in stream.iter().enumerate() {
            let tick = black_box(tick(*symbol, number as u64));
            let (times, prices, sizes, kinds) = &mut symbols[tick.symbol as usize];
            times.append_value(tick.event_time_ns);
            prices.append_value(tick.price);
            sizes.append_value(tick.size);
            kinds.append_value(tick.kind);
        }
    })
}

/// With `again`, the store has had as many ticks before and let them go, as under retention.
fn append(stream: &[u32], again: bool) -> f64 {
    let (mut store, reader) = store_of(SYMBOLS);
    if again {
        append_all(&mut store, stream);
        empty(&mut store, SYMBOLS);
    }
    let before = reader.counters().appended;
    let ns = time(stream.len(), || append_all(&mut store, stream));
    assert_eq!(reader.counters().appended - before, stream.len() as u64, "all of it is there");
    ns
}

/// Over a million ticks of one symbol.
fn query(settings: Settings) {
    const ROWS: usize = 1_000_000;
    let (mut store, reader) = store_of(1);
    let series = store.series(0, 0).expect("it was created");
    for number in 0..ROWS {
        store.append(series, &tick(0, number as u64)).expect("room");
    }
    store.publish();
    let ticks: Vec<Tick> = (0..ROWS).map(|number| tick(0, number as u64)).collect();
    let prices: Vec<i64> = ticks.iter().map(|tick| tick.price).collect();
    let sizes: Vec<u64> = ticks.iter().map(|tick| tick.size).collect();
    let kinds: Vec<u8> = ticks.iter().map(|tick| tick.kind).collect();
    compare(
        settings,
        "vwap over 1,000,000 ticks of one symbol, per tick",
        vec![
            limit("one pass over plain columns, the same sums", || {
                time(ROWS, || {
                    let (mut count, mut notional, mut volume) = (0u64, 0i128, 0u128);
                    let (mut high, mut low) = (i64::MIN, i64::MAX);
                    for ((price, size), kind) in prices.iter().zip(&sizes).zip(&kinds) {
                        if *kind == Kind::TRADE {
                            count += 1;
                            notional += i128::from(*price) * i128::from(*size);
                            volume += u128::from(*size);
                            high = high.max(*price);
                            low = low.min(*price);
                        }
                    }
                    black_box((count, notional, volume, high, low))
                })
            }),
            peer("one pass over the ticks as rows", || {
                time(ROWS, || {
                    let (mut notional, mut volume) = (0i128, 0u128);
                    let (mut high, mut low) = (i64::MIN, i64::MAX);
                    for tick in ticks.iter().filter(|tick| tick.kind == Kind::TRADE) {
                        notional += i128::from(tick.price) * i128::from(tick.size);
                        volume += u128::from(tick.size);
                        high = high.max(tick.price);
                        low = low.min(tick.price);
                    }
                    black_box((notional, volume, high, low))
                })
            }),
            ours("aggregate", || {
                time(ROWS, || reader.aggregate(0, 0, TimeRange::ALL, &KindSet::TRADES).vwap())
            }),
        ],
    );
    bars(settings, &reader, &ticks);
    memory(settings);
}

/// Bytes that the budget is charged for a million ticks of a thousand symbols.
fn memory(settings: Settings) {
    const TICKS: usize = 1_000_000;
    let (mut store, reader) = store_of(1000);
    let empty = reader.counters().bytes;
    for number in 0..TICKS {
        let series = store.series(0, (number % 1000) as u32).expect("it was created");
        store.append(series, &tick(0, number as u64)).expect("room");
    }
    store.publish();
    let bytes = reader.counters().bytes - empty;
    if settings.json {
        println!(
            "{}",
            serde_json::json!({ "operation": "memory", "bytes": bytes, "ticks": TICKS })
        );
    } else {
        println!("memory for a million ticks of a thousand symbols: {:.1} MB", bytes as f64 / 1e6);
    }
}

fn bars(settings: Settings, reader: &StoreReader, ticks: &[Tick]) {
    const INTERVAL_NS: u64 = 1000;
    compare(
        settings,
        "1,000 bars over 1,000,000 ticks of one symbol, per tick",
        vec![
            limit("one pass over the ticks as rows", || {
                time(ticks.len(), || {
                    let mut bars = vec![(i64::MIN, i64::MAX, 0u64, 0i128); 1 + ticks.len() / 1000];
                    for tick in ticks.iter().filter(|tick| tick.kind == Kind::TRADE) {
                        let bar = &mut bars[(tick.event_time_ns / INTERVAL_NS) as usize];
                        bar.0 = bar.0.max(tick.price);
                        bar.1 = bar.1.min(tick.price);
                        bar.2 += tick.size;
                        bar.3 += i128::from(tick.price) * i128::from(tick.size);
                    }
                    black_box(bars)
                })
            }),
            ours("ohlcv", || {
                let interval = std::num::NonZeroU64::new(INTERVAL_NS).expect("not zero");
                time(ticks.len(), || {
                    reader.ohlcv(0, 0, TimeRange::ALL, interval, &KindSet::TRADES, 2000)
                })
            }),
        ],
    );
}
