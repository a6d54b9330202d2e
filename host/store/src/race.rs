//! One writer and several readers at once: what a reader sees is always whole and dense.
//!
//! The writer goes on until the readers have looked often enough, so that they do meet, however
//! the threads are scheduled. Retention keeps the series short, so that they can look often.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use zepto_abi::{Epoch, Kind, PartitionId, Tick};
use zepto_core::hash::partition_of;

use crate::pause::pause;
use crate::query::{KindSet, TimeRange};
use crate::{Retention, Store, StoreConfig, StoreReader, open};

const BITS: u8 = 1;
const TABLE: u16 = 0;
const SYMBOLS: u32 = 5;
const READERS: u64 = 2;
/// How often the readers look at least, all together.
const LOOKS: u64 = 10_000;
/// How many of the newest rows they look at.
const RECENT: u64 = 150;
/// How many rows of each series are kept.
const KEPT: u64 = 2000;

fn store(retention: Retention) -> (Store, StoreReader) {
    let config = StoreConfig { partition_bits: BITS, bytes_max: 1 << 30, retention };
    let (mut store, reader) = open(config).unwrap();
    for partition in 0..1 << BITS {
        store.open_partition(PartitionId(partition), Epoch(1), 1).unwrap();
    }
    (store, reader)
}

fn keeping(rows: u64) -> Retention {
    Retention { rows_per_series_max: Some(rows), ..Retention::default() }
}

/// A tick whose fields all follow from one number; three have the same time.
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

#[derive(PartialEq)]
enum Look {
    Done,
    TooLate,
}

/// The newest rows below a watermark, when a row's number is its sequence: from which number on,
/// and their range of time.
fn recent(watermark: u64) -> (u64, TimeRange) {
    let from_ns = watermark.saturating_sub(RECENT) / 3;
    ((3 * from_ns).max(1), TimeRange { from_ns, to_ns: TimeRange::NO_END })
}

/// Runs the writer's steps against readers until they have looked often enough. A look that was
/// interrupted for so long that retention took what it looked at says so, and does not count.
fn race(mut write: impl FnMut(u64), look: impl Fn() -> Look + Sync) {
    let looks = AtomicU64::new(0);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    while looks.load(Relaxed) < LOOKS {
                        if look() == Look::Done {
                            looks.fetch_add(1, Relaxed);
                        }
                    }
                })
            })
            .collect();
        let mut number = 0;
        while !readers.iter().all(|reader| reader.is_finished()) {
            number += 1;
            write(number);
        }
    });
}

#[test]
fn readers_see_every_row_below_the_watermark_and_each_row_whole() {
    let (mut store, reader) = store(keeping(KEPT));
    let write = |number: u64| {
        let symbol = (number * number % 11 % u64::from(SYMBOLS)) as u32;
        let id = partition_of(TABLE, symbol, BITS);
        let series = store.create_series(TABLE, symbol).unwrap();
        let sequence = store.next_sequence(id).unwrap();
        assert_eq!(store.append(series, &numbered(sequence, 0)), Ok(sequence));
        if number.is_multiple_of(1 + number % 37) {
            store.publish();
            store.expire(0);
        }
    };
    race(write, || {
        for id in (0..1 << BITS).map(PartitionId) {
            let watermark = reader.watermark(id).unwrap();
            let (from, range) = recent(watermark);
            let mut seen = vec![false; (watermark - from) as usize];
            let of_partition = |symbol: &u32| partition_of(TABLE, *symbol, BITS) == id;
            for symbol in (0..SYMBOLS).filter(of_partition) {
                let mut after = None;
                loop {
                    let page = reader.range(TABLE, symbol, range, after, 50);
                    for tick in page.ticks {
                        assert_whole(&tick);
                        assert_eq!(tick.sequence, tick.user[0]);
                        if tick.sequence < watermark {
                            let index = (tick.sequence - from) as usize;
                            assert!(!std::mem::replace(&mut seen[index], true), "twice");
                        }
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
            }
            if reader.watermark(id).unwrap() > watermark + KEPT / 2 {
                return Look::TooLate;
            }
            assert!(seen.iter().all(|seen| *seen), "a row from {from} to {watermark} is missing");
        }
        Look::Done
    });
}

#[test]
fn all_ways_to_ask_agree_on_what_is_there_while_it_grows() {
    let (mut store, reader) = store(keeping(KEPT));
    let symbol = 3;
    let id = partition_of(TABLE, symbol, BITS);
    let series = store.create_series(TABLE, symbol).unwrap();
    let write = |number: u64| {
        assert_eq!(store.append(series, &numbered(number, 0)), Ok(number));
        if number.is_multiple_of(5) {
            store.publish();
            store.expire(0);
        }
    };
    race(write, || {
        let watermark = reader.watermark(id).unwrap();
        let (from, range) = recent(watermark);
        let interval = NonZeroU64::new(10).unwrap();
        let whole = reader.aggregate(TABLE, symbol, range, &KindSet::TRADES);
        let summary = reader.symbol_summary(TABLE, symbol, range);
        let bars = reader.ohlcv(TABLE, symbol, range, interval, &KindSet::TRADES, 1 << 16);
        let last = reader.last(TABLE, symbol, range, &KindSet::ALL);
        let end = reader.watermark(id).unwrap();

        if end > watermark + KEPT / 2 {
            return Look::TooLate;
        }

        let sum = |from: u64, end: u64| u128::from(end - from) * u128::from(from + end - 1) / 2;
        for (count, size) in [
            (whole.count, whole.size),
            (summary.ticks, summary.trades.size),
            bars.bars.iter().fold((0, 0), |(count, size), bar| {
                (count + bar.aggregate.count, size + bar.aggregate.size)
            }),
        ] {
            assert!((watermark..=end).contains(&(from + count)));
            assert_eq!(size, 3 * sum(from, from + count));
        }
        let last = last.map_or(0, |tick| tick.sequence);
        assert!((watermark..=end).contains(&(last + 1)));
        Look::Done
    });
}

#[test]
fn expiry_takes_the_oldest_rows_and_leaves_no_hole() {
    let (mut store, reader) = store(Retention { age_max_ns: Some(1000), ..keeping(100) });
    let symbol = 1;
    let series = store.create_series(TABLE, symbol).unwrap();
    let write = |number: u64| {
        let tick = numbered(number, 0);
        store.append(series, &tick).unwrap();
        store.publish();
        if number.is_multiple_of(64) {
            store.expire(tick.event_time_ns);
        }
        if number % 160 >= 150 {
            // As if nothing had come for long: then all of it goes.
            store.expire(tick.event_time_ns + 5000);
        }
    };
    race(write, || {
        let answer = reader.range(TABLE, symbol, TimeRange::ALL, None, 1 << 16);
        answer.ticks.iter().for_each(assert_whole);
        for pair in answer.ticks.windows(2) {
            assert_eq!(pair[0].user[0] + 1, pair[1].user[0], "a hole in the middle");
        }
        Look::Done
    });
    assert!(reader.counters().expired_by_age > 0 && reader.counters().expired_by_count > 0);
}

#[test]
fn an_answer_never_mixes_two_openings_of_a_partition() {
    let (mut store, reader) = store(Retention::default());
    let symbol = 2;
    let id = partition_of(TABLE, symbol, BITS);
    let published = |generation: u64| generation % 37;
    let write = |generation: u64| {
        store.close_partition(id);
        // Every other opening begins higher, so that its watermark would show too much.
        let first_sequence = if generation.is_multiple_of(2) { 1 } else { 1000 };
        store.open_partition(id, Epoch(generation), first_sequence).unwrap();
        let series = store.create_series(TABLE, symbol).unwrap();
        for number in 0..published(generation) + 20 {
            store.append(series, &numbered(number, generation)).unwrap();
            if number + 1 == published(generation) {
                store.publish();
            }
        }
    };
    race(write, || {
        let ticks = reader.range(TABLE, symbol, TimeRange::ALL, None, 1 << 16).ticks;
        ticks.iter().for_each(assert_whole);
        let Some(first) = ticks.first() else { return Look::Done };
        let generation = first.user[1];
        assert!(ticks.iter().all(|tick| tick.user[1] == generation), "two openings in one");
        assert_eq!(ticks.len() as u64, published(generation), "not what was published");
        Look::Done
    });
}

#[test]
fn a_summary_at_an_epoch_has_all_that_was_there_when_it_began() {
    let (mut store, reader) = store(Retention::default());
    let symbol = 2;
    let id = partition_of(TABLE, symbol, BITS);
    let (latest, met) = (AtomicU64::new(1), AtomicU64::new(0));
    let write = |number: u64| {
        store.close_partition(id);
        store.open_partition(id, Epoch(2 * number), 1).unwrap();
        let series = store.create_series(TABLE, symbol).unwrap();
        for row in 0..10 {
            store.append(series, &numbered(row, number)).unwrap();
        }
        // A copy that is promoted: nobody could read it until now.
        let epoch = 2 * number + 1;
        latest.store(epoch, Relaxed);
        store.raise_watermark(id, 11).unwrap();
        pause();
        store.set_epoch(id, Epoch(epoch)).unwrap();
        // For a while, so that it is met.
        (0..10_000).take_while(|_| met.load(Relaxed) < epoch).for_each(|_| std::hint::spin_loop());
    };
    race(write, || {
        let epoch = latest.load(Relaxed);
        let summaries = reader.summary(&[(id, Epoch(epoch))]);
        let Some(summaries) = summaries.filter(|_| epoch > 1) else { return Look::TooLate };
        let ticks: u64 = summaries.iter().map(|(_, _, summary)| summary.ticks).sum();
        assert_eq!(ticks, 10, "of a partition that is open at the epoch");
        met.store(epoch, Relaxed);
        Look::Done
    });
}
