//! One writer and several readers at once: what a reader sees is always whole and dense.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use zepto_abi::{Epoch, Kind, PartitionId, Tick};
use zepto_core::hash::partition_of;
use zepto_store::query::{KindSet, TimeRange};
use zepto_store::{Retention, Store, StoreConfig, StoreReader, open};

const BITS: u8 = 1;
const TABLE: u16 = 0;
const SYMBOLS: u32 = 5;
const ROWS: u64 = 400_000;
const READERS: u64 = 2;

fn store(retention: Retention) -> (Store, StoreReader) {
    let config = StoreConfig { partition_bits: BITS, bytes_max: 1 << 30, retention };
    let (mut store, reader) = open(config).unwrap();
    for partition in 0..1 << BITS {
        store.open_partition(PartitionId(partition), Epoch(1), 1).unwrap();
    }
    (store, reader)
}

/// A tick whose fields all follow from one number.
fn numbered(number: u64, generation: u64) -> Tick {
    Tick {
        event_time_ns: number / 3,
        // Not zero only now and then, so that columns appear in the middle of segments.
        receive_time_ns: if number.is_multiple_of(97) { number } else { 0 },
        kind: Kind::TRADE,
        flags: if number.is_multiple_of(131) { 7 } else { 0 },
        price: number as i64 * 5,
        size: number * 3,
        user: [number, generation],
        ..Tick::default()
    }
}

fn assert_whole(tick: &Tick) {
    let expected = numbered(tick.user[0], tick.user[1]);
    let Tick { sequence, symbol, table, .. } = *tick;
    assert_eq!(*tick, Tick { sequence, symbol, table, ..expected });
}

/// All pages of all that is visible of a symbol.
fn read_all(reader: &StoreReader, symbol: u32, page: usize) -> Vec<Tick> {
    let mut ticks = Vec::new();
    let mut after = None;
    loop {
        let answer = reader.range(TABLE, symbol, TimeRange::ALL, after, page);
        ticks.extend(answer.ticks);
        after = answer.next;
        if after.is_none() {
            return ticks;
        }
    }
}

/// Runs the writer against readers that repeat their check until it is done, and once after.
fn race(write: impl FnOnce(), check: impl Fn(u64) + Sync) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..READERS {
            let (done, check) = (&done, &check);
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    check(number);
                }
                check(number);
            });
        }
        write();
        done.store(true, Relaxed);
    });
}

#[test]
fn readers_see_every_row_below_the_watermark_and_each_row_whole() {
    let (mut store, reader) = store(Retention::default());
    let write = || {
        for number in 1..=ROWS {
            let symbol = (number * number % 11 % u64::from(SYMBOLS)) as u32;
            let series = store.create_series(TABLE, symbol).unwrap();
            store.append(series, &numbered(number, 0)).unwrap();
            if number % (1 + number % 37) == 0 {
                store.publish();
            }
        }
        store.publish();
    };
    race(write, |number| {
        for partition in 0..1 << BITS {
            let id = PartitionId(partition);
            let watermark = reader.watermark(id).unwrap();
            let mut seen = vec![false; watermark as usize];
            let of_partition = |symbol: &u32| partition_of(TABLE, *symbol, BITS) == id;
            for symbol in (0..SYMBOLS).filter(of_partition) {
                let page = if number == 0 { 1 << 16 } else { 1000 };
                for tick in read_all(&reader, symbol, page) {
                    assert_whole(&tick);
                    if tick.sequence < watermark {
                        assert!(!std::mem::replace(&mut seen[tick.sequence as usize], true));
                    }
                }
            }
            assert!(seen[1..].iter().all(|seen| *seen), "a row below {watermark} is missing");
        }
    });
}

#[test]
fn all_ways_to_ask_agree_on_what_is_there_while_it_grows() {
    let (mut store, reader) = store(Retention::default());
    let symbol = 3;
    let series = store.create_series(TABLE, symbol).unwrap();
    let write = || {
        for number in 1..=ROWS {
            assert_eq!(store.append(series, &numbered(number, 0)), Ok(number));
            if number.is_multiple_of(5) {
                store.publish();
            }
        }
    };
    race(write, |_| {
        let id = partition_of(TABLE, symbol, BITS);
        let before = reader.watermark(id).unwrap() - 1;
        let whole = reader.aggregate(TABLE, symbol, TimeRange::ALL, &KindSet::TRADES);
        let summary = reader.symbol_summary(TABLE, symbol, TimeRange::ALL);
        let interval = NonZeroU64::new(1000).unwrap();
        let bars = reader.ohlcv(TABLE, symbol, TimeRange::ALL, interval, &KindSet::TRADES, 1 << 16);
        let last = reader.last(TABLE, symbol, TimeRange::ALL, &KindSet::ALL);
        let after = reader.watermark(id).unwrap() - 1;

        let sum_to = |n: u64| u128::from(n) * u128::from(n + 1) / 2;
        assert!((before..=after).contains(&whole.count));
        assert_eq!(whole.size, 3 * sum_to(whole.count));
        assert_eq!(whole.high, (whole.count > 0).then_some(whole.count as i64 * 5));
        assert!((before..=after).contains(&summary.ticks));
        assert_eq!(summary.trades.size, 3 * sum_to(summary.ticks));
        let in_bars: u64 = bars.bars.iter().map(|bar| bar.aggregate.count).sum();
        assert!((before..=after).contains(&in_bars));
        assert!((before..=after).contains(&last.map_or(0, |tick| tick.sequence)));
    });
}

#[test]
fn expiry_takes_the_oldest_rows_and_leaves_no_hole() {
    let retention = Retention {
        rows_per_series_max: Some(500),
        age_max_ns: Some(1000),
        ..Retention::default()
    };
    let (mut store, reader) = store(retention);
    let symbol = 1;
    let series = store.create_series(TABLE, symbol).unwrap();
    let write = || {
        for number in 1..=ROWS {
            let tick = numbered(number, 0);
            store.append(series, &tick).unwrap();
            if number.is_multiple_of(3) {
                store.publish();
            }
            if number.is_multiple_of(64) {
                // Now and then as if nothing had come for long: then all of it goes.
                let quiet_ns = if number.is_multiple_of(4096) { 5000 } else { 0 };
                store.expire(tick.event_time_ns + quiet_ns);
            }
        }
    };
    race(write, |_| {
        let answer = reader.range(TABLE, symbol, TimeRange::ALL, None, 1 << 16);
        answer.ticks.iter().for_each(assert_whole);
        for pair in answer.ticks.windows(2) {
            assert_eq!(pair[0].user[0] + 1, pair[1].user[0], "a hole in the middle");
        }
    });
    assert!(reader.counters().expired_by_age > 0 && reader.counters().expired_by_count > 0);
}

#[test]
fn an_answer_never_mixes_two_openings_of_a_partition() {
    let (mut store, reader) = store(Retention::default());
    let symbol = 2;
    let id = partition_of(TABLE, symbol, BITS);
    let write = || {
        for generation in 0..ROWS / 200 {
            store.close_partition(id);
            // Later openings begin lower, so that an old watermark would show too much.
            let first_sequence = 1 + (ROWS - generation) * 1000;
            store.open_partition(id, Epoch(generation), first_sequence).unwrap();
            let series = store.create_series(TABLE, symbol).unwrap();
            for number in 0..generation % 50 {
                store.append(series, &numbered(number, generation)).unwrap();
                if number == generation % 37 {
                    store.publish();
                }
            }
        }
    };
    race(write, |_| {
        let ticks = read_all(&reader, symbol, 1 << 16);
        ticks.iter().for_each(assert_whole);
        let Some(generation) = ticks.first().map(|tick| tick.user[1]) else { return };
        assert!(ticks.iter().all(|tick| tick.user[1] == generation));
        assert!(ticks.len() as u64 <= generation % 37 + 1, "more than was published");
    });
}
