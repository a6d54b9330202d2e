//! The store against a naive model: a vector of rows, filtered and sorted for every question.
//!
//! Random histories of appends with times in and out of order, publications, watermarks, expiry,
//! closing and reopening; after every step some random questions, at the end all of them.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use proptest::prelude::*;
use zepto_abi::{Epoch, Kind, PartitionId, Tick};
use zepto_core::hash::partition_of;
use zepto_store::query::{Aggregate, Bar, Edge, KindSet, Position, RangePage, Summary, TimeRange};
use zepto_store::{Retention, Store, StoreConfig, StoreError, StoreReader, open};

const BITS: u8 = 1;
const TABLE: u16 = 7;
const SYMBOLS: u32 = 4;
const PARTITIONS: u32 = 1 << BITS;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u32, Tick)>),
    Publish,
    Raise(u32, u64),
    Close(u32),
    Open(u32, u64),
    Expire(u64),
}

#[derive(Clone, Debug)]
struct Question {
    symbol: u32,
    range: TimeRange,
    kinds: KindSet,
    interval: NonZeroU64,
    limit: usize,
}

#[derive(Default)]
struct ModelPartition {
    epoch: u64,
    next: u64,
    watermark: u64,
    /// In order of sequence.
    rows: Vec<Tick>,
}

struct Harness {
    store: Store,
    reader: StoreReader,
    retention: Retention,
    model: BTreeMap<u32, ModelPartition>,
    openings: u64,
}

fn tick() -> impl Strategy<Value = (u32, Tick)> {
    let usual = (100i64..110, 0u64..20);
    let extreme = prop_oneof![
        Just((i64::MIN, u64::MAX)),
        Just((i64::MAX, u64::MAX)),
        Just((-1, 1u64 << 63)),
        Just((i64::MIN, 0)),
    ];
    let numbers = prop_oneof![40 => usual, 1 => extreme];
    let optional = prop_oneof![
        30 => Just((0u64, 0u8, [0u64; 2])),
        1 => (any::<u64>(), any::<u8>(), any::<[u64; 2]>()),
        1 => Just((0, 0, [1, 0])),
    ];
    let time = prop_oneof![30 => 0u64..60, 1 => Just(u64::MAX), 1 => Just(0)];
    let (trade, bid, ask) = (Just(Kind::TRADE), Just(Kind::BID), Just(Kind::ASK));
    let kind = prop_oneof![3 => trade, 3 => bid, 1 => ask, 1 => any::<u8>()];
    (0..SYMBOLS, time, kind, numbers, optional).prop_map(
        |(symbol, event_time_ns, kind, (price, size), (receive_time_ns, flags, user))| {
            // What the caller has in these is ignored.
            let (sequence, other_symbol) = (u64::MAX, 99);
            let tick = Tick {
                sequence,
                event_time_ns,
                receive_time_ns,
                symbol: other_symbol,
                table: TABLE,
                kind,
                flags,
                price,
                size,
                user,
            };
            (symbol, tick)
        },
    )
}

/// A burst of ticks, most bursts with growing times, as feeds are.
fn burst() -> impl Strategy<Value = Step> {
    let one_symbol = any::<prop::sample::Index>();
    (prop::collection::vec(tick(), 1..120), any::<u8>(), 0u64..40, one_symbol).prop_map(
        |(mut ticks, shape, base, index)| {
            if shape % 4 != 0 {
                let mut time = base;
                for (at, (_, tick)) in ticks.iter_mut().enumerate() {
                    time += u64::from(at % 7 == 6);
                    tick.event_time_ns = time;
                }
            }
            if shape % 3 == 0 {
                let symbol = index.index(SYMBOLS as usize) as u32;
                ticks.iter_mut().for_each(|(of, _)| *of = symbol);
            }
            Step::Append(ticks)
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => burst(),
        6 => Just(Step::Publish),
        3 => (0..PARTITIONS, 0u64..50).prop_map(|(p, back)| Step::Raise(p, back)),
        1 => (0..PARTITIONS).prop_map(Step::Close),
        2 => (0..PARTITIONS, 1u64..1000).prop_map(|(p, next)| Step::Open(p, next)),
        4 => (0u64..90).prop_map(Step::Expire),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let range = prop_oneof![
        2 => Just(TimeRange::ALL),
        6 => (0u64..70, 0u64..70).prop_map(|(from_ns, to_ns)| TimeRange { from_ns, to_ns }),
        1 => (0u64..70).prop_map(|from_ns| TimeRange { from_ns, to_ns: TimeRange::NO_END }),
    ];
    let kinds = prop_oneof![
        Just(KindSet::ALL),
        Just(KindSet::TRADES),
        Just(KindSet::of(Kind::BID).union(KindSet::of(Kind::ASK))),
        any::<u8>().prop_map(KindSet::of),
    ];
    (0..SYMBOLS, range, kinds, 1u64..40, 1usize..50).prop_map(
        |(symbol, range, kinds, interval, limit)| Question {
            symbol,
            range,
            kinds,
            interval: NonZeroU64::new(interval).unwrap(),
            limit,
        },
    )
}

fn retention() -> impl Strategy<Value = Retention> {
    prop_oneof![
        Just(Retention::default()),
        (0u64..60).prop_map(|n| Retention { rows_per_series_max: Some(n), ..Default::default() }),
        (0u64..9000).prop_map(|n| Retention { bytes_max: Some(n), ..Default::default() }),
        (0u64..40).prop_map(|n| Retention { age_max_ns: Some(n), ..Default::default() }),
        (0u64..60, 0u64..9000, 0u64..40).prop_map(|(rows, bytes, age)| Retention {
            rows_per_series_max: Some(rows),
            bytes_max: Some(bytes),
            age_max_ns: Some(age),
        }),
    ]
}

impl Harness {
    fn new(retention: Retention) -> Self {
        let config = StoreConfig { partition_bits: BITS, bytes_max: 64 << 20, retention };
        let (store, reader) = open(config).unwrap();
        let mut harness = Self { store, reader, retention, model: BTreeMap::new(), openings: 0 };
        for partition in 0..PARTITIONS {
            harness.apply(&Step::Open(partition, 1));
        }
        harness
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(ticks) => {
                ticks.iter().for_each(|(symbol, tick)| self.append(*symbol, tick))
            }
            Step::Publish => {
                self.store.publish();
                self.model.values_mut().for_each(|p| p.watermark = p.next);
            }
            Step::Raise(partition, back) => {
                let raised = match self.model.get_mut(partition) {
                    None => Err(StoreError::NotOpen),
                    Some(model) => {
                        let watermark = model.next.saturating_sub(*back);
                        model.watermark = model.watermark.max(watermark);
                        Ok(())
                    }
                };
                let next = self.store.next_sequence(PartitionId(*partition)).unwrap_or(9);
                let watermark = next.saturating_sub(*back);
                assert_eq!(self.store.raise_watermark(PartitionId(*partition), watermark), raised);
            }
            Step::Close(partition) => {
                let was_open = self.model.remove(partition).is_some();
                assert_eq!(self.store.close_partition(PartitionId(*partition)).is_some(), was_open);
            }
            Step::Open(partition, next) => {
                self.openings += 1;
                let (id, epoch) = (PartitionId(*partition), Epoch(self.openings));
                let opened = self.store.open_partition(id, epoch, *next);
                if self.model.contains_key(partition) {
                    assert_eq!(opened, Err(StoreError::AlreadyOpen));
                } else {
                    assert_eq!(opened, Ok(()));
                    let (next, watermark) = (*next, *next);
                    let opening =
                        ModelPartition { epoch: epoch.0, next, watermark, rows: Vec::new() };
                    self.model.insert(*partition, opening);
                }
            }
            Step::Expire(now) => self.expire(*now),
        }
    }

    fn append(&mut self, symbol: u32, tick: &Tick) {
        let id = partition_of(TABLE, symbol, BITS);
        let Some(model) = self.model.get_mut(&id.0) else {
            assert_eq!(self.store.series(TABLE, symbol), None);
            assert_eq!(self.store.create_series(TABLE, symbol), Err(StoreError::NotOpen));
            return;
        };
        let series = self.store.create_series(TABLE, symbol).unwrap();
        assert_eq!(self.store.series(TABLE, symbol), Some(series));
        assert_eq!(self.store.partition_of(series), id);
        assert_eq!(self.store.append(series, tick), Ok(model.next));
        model.rows.push(Tick { sequence: model.next, symbol, ..*tick });
        model.next += 1;
    }

    /// Which segments go is the store's business. What the model demands: of each series the
    /// oldest visible rows and no others, not more than retention allows to go, and that the
    /// numbers agree.
    fn expire(&mut self, now: u64) {
        let dropped = self.store.expire(now);
        let mut gone = 0;
        for (partition, model) in &mut self.model {
            for symbol in (0..SYMBOLS).filter(|s| partition_of(TABLE, *s, BITS).0 == *partition) {
                let visible =
                    |tick: &Tick| tick.symbol == symbol && tick.sequence < model.watermark;
                let kept = self.reader.range(TABLE, symbol, TimeRange::ALL, None, 1 << 16).ticks;
                let oldest = kept.iter().map(|tick| tick.sequence).min().unwrap_or(u64::MAX);
                let before = model.rows.iter().filter(|t| t.symbol == symbol).count() as u64;
                let expired: Vec<Tick> = model
                    .rows
                    .iter()
                    .filter(|t| visible(t) && t.sequence < oldest)
                    .copied()
                    .collect();
                model.rows.retain(|tick| !visible(tick) || tick.sequence >= oldest);
                gone += expired.len() as u64;
                if let Retention { rows_per_series_max: None, bytes_max: None, age_max_ns } =
                    self.retention
                {
                    let limit = age_max_ns.map_or(0, |age| now.saturating_sub(age));
                    assert!(expired.iter().all(|tick| tick.event_time_ns < limit));
                }
                if let Retention {
                    rows_per_series_max: Some(max),
                    bytes_max: None,
                    age_max_ns: None,
                } = self.retention
                {
                    assert!(expired.is_empty() || before - expired.len() as u64 >= max);
                }
            }
        }
        assert_eq!(dropped, gone);
    }

    /// Visible rows of a symbol in the order of answers.
    fn rows(&self, symbol: u32, range: TimeRange) -> Vec<Tick> {
        let id = partition_of(TABLE, symbol, BITS);
        let Some(model) = self.model.get(&id.0) else { return Vec::new() };
        let mut rows: Vec<Tick> = model
            .rows
            .iter()
            .filter(|t| t.symbol == symbol && t.sequence < model.watermark)
            .filter(|t| range.contains(t.event_time_ns))
            .copied()
            .collect();
        rows.sort_by_key(|tick| (tick.event_time_ns, tick.sequence));
        rows
    }

    fn ask(&self, question: &Question) {
        let Question { symbol, range, kinds, interval, limit } = *question;
        let rows = self.rows(symbol, range);
        let kept: Vec<Tick> = rows.iter().filter(|t| kinds.contains(t.kind)).copied().collect();
        let reader = &self.reader;

        assert_eq!(reader.aggregate(TABLE, symbol, range, &kinds), naive_aggregate(&kept));
        assert_eq!(reader.last(TABLE, symbol, range, &kinds), kept.last().copied());
        assert_eq!(reader.symbol_summary(TABLE, symbol, range), naive_summary(&rows));

        let mut bars: BTreeMap<u64, Vec<Tick>> = BTreeMap::new();
        for tick in &kept {
            let start = tick.event_time_ns / interval * interval.get();
            bars.entry(start).or_default().push(*tick);
        }
        let mut bars = bars
            .iter()
            .map(|(start_ns, rows)| Bar { start_ns: *start_ns, aggregate: naive_aggregate(rows) });
        let expected: Vec<Bar> = bars.by_ref().take(limit).collect();
        let answer = reader.ohlcv(TABLE, symbol, range, interval, &kinds, limit);
        assert_eq!(answer.bars, expected);
        assert_eq!(answer.next_start_ns, bars.next().map(|bar| bar.start_ns));

        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let RangePage { ticks, next } = reader.range(TABLE, symbol, range, after, limit);
            assert!(ticks.len() <= limit);
            pages.extend(ticks);
            let Some(next) = next else { break };
            assert_eq!(Some(next), pages.last().map(Position::of));
            after = Some(next);
        }
        assert_eq!(pages, rows);
    }

    fn check_state(&self) {
        let counters = self.reader.counters();
        let rows: usize = self.model.values().map(|partition| partition.rows.len()).sum();
        let open = self.model.iter().map(|(id, model)| (PartitionId(*id), Epoch(model.epoch)));
        let mut open: Vec<_> = open.collect();
        self.reader.summary(&open).expect("open").iter().for_each(|(table, symbol, summary)| {
            assert_eq!(*table, TABLE);
            assert_eq!(*summary, naive_summary(&self.rows(*symbol, TimeRange::ALL)));
        });
        if let Some((_, epoch)) = open.last_mut() {
            epoch.0 += 1;
            assert_eq!(self.reader.summary(&open), None, "one is of another epoch");
        }
        for partition in 0..PARTITIONS {
            let id = PartitionId(partition);
            let model = self.model.get(&partition);
            assert_eq!(self.reader.epoch(id), model.map(|model| Epoch(model.epoch)));
            assert_eq!(self.reader.watermark(id), model.map(|model| model.watermark));
            assert_eq!(self.store.next_sequence(id), model.map(|model| model.next));
            assert_eq!(self.store.is_open(id), model.is_some());
        }
        assert_eq!(counters.partitions, self.model.len() as u64);
        assert_eq!(counters.refused_full, 0);
        if counters.appended > 0 && self.model.values().all(|p| p.watermark == p.next) {
            assert_eq!(counters.rows, rows as u64);
        }
    }
}

/// Sums the two halves of each product apart, so that nothing can overflow.
fn naive_aggregate(rows: &[Tick]) -> Aggregate {
    let (mut high_half, mut low_half) = (0i128, 0u128);
    for tick in rows {
        let product = i128::from(tick.price) * i128::from(tick.size);
        high_half += product >> 64;
        low_half += (product as u128) & u128::from(u64::MAX);
    }
    high_half += (low_half >> 64) as i128;
    let notional = ((high_half as u128) << 64 | low_half & u128::from(u64::MAX)) as i128;
    let edge = |tick: &Tick| Edge {
        time_ns: tick.event_time_ns,
        sequence: tick.sequence,
        price: tick.price,
    };
    Aggregate {
        count: rows.len() as u64,
        size: rows.iter().map(|tick| u128::from(tick.size)).sum(),
        notional,
        notional_carry: ((high_half - (notional >> 64)) >> 64) as i64,
        first: rows.first().map(edge),
        last: rows.last().map(edge),
        high: rows.iter().map(|tick| tick.price).max(),
        low: rows.iter().map(|tick| tick.price).min(),
    }
}

fn naive_summary(rows: &[Tick]) -> Summary {
    let of = |kind: u8| rows.iter().filter(|tick| tick.kind == kind).copied().collect::<Vec<_>>();
    Summary {
        ticks: rows.len() as u64,
        bids: of(Kind::BID).len() as u64,
        asks: of(Kind::ASK).len() as u64,
        first_time_ns: rows.first().map(|tick| tick.event_time_ns),
        last_time_ns: rows.last().map(|tick| tick.event_time_ns),
        trades: naive_aggregate(&of(Kind::TRADE)),
    }
}

proptest! {
    #[test]
    fn every_answer_is_that_of_the_naive_model(
        retention in retention(),
        history in prop::collection::vec((step(), question()), 1..40),
        questions in prop::collection::vec(question(), 12),
    ) {
        let mut harness = Harness::new(retention);
        for (step, question) in &history {
            harness.apply(step);
            harness.ask(question);
        }
        harness.apply(&Step::Publish);
        harness.check_state();
        questions.iter().for_each(|question| harness.ask(question));
    }
}
