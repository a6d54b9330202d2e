//! What can be asked, and the partial answers that merge into whole ones.
//!
//! All arithmetic is exact: prices and sizes are integers in units of 1e-9, a sum of sizes is
//! 128 bits wide and a sum of price times size 192, which is more than 2^64 ticks can fill.
//! Hence partial answers merge in any order and any grouping to the same whole, and whether a
//! sum fits 128 bits is a property of the ticks, not of the way that led to it. Nothing here
//! panics or overflows on values from outside: counts saturate.

use serde::{Deserialize, Serialize};
use zepto_abi::{Kind, Tick};

/// A half-open range of event times: `from_ns <= t < to_ns`; [`TimeRange::NO_END`] includes all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// First event time that is inside, in nanoseconds.
    pub from_ns: u64,
    /// First event time that is no longer inside, in nanoseconds.
    pub to_ns: u64,
}

impl TimeRange {
    /// As an end: no event time is too late.
    pub const NO_END: u64 = u64::MAX;
    /// Everything.
    pub const ALL: Self = Self { from_ns: 0, to_ns: Self::NO_END };

    /// The last event time that is inside, in nanoseconds; `None` when none is.
    pub const fn last_ns(&self) -> Option<u64> {
        let last = match self.to_ns {
            Self::NO_END => u64::MAX,
            0 => return None,
            to => to - 1,
        };
        if self.from_ns <= last { Some(last) } else { None }
    }

    /// Whether an event time is inside.
    #[inline]
    pub const fn contains(&self, time_ns: u64) -> bool {
        self.from_ns <= time_ns && (time_ns < self.to_ns || self.to_ns == Self::NO_END)
    }
}

/// A set of tick kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindSet([u64; 4]);

impl KindSet {
    /// Every kind.
    pub const ALL: Self = Self([u64::MAX; 4]);
    /// Trades only: the default of vwap, ohlcv and last.
    pub const TRADES: Self = Self::of(Kind::TRADE);

    /// The set of one kind.
    pub const fn of(kind: u8) -> Self {
        let mut words = [0; 4];
        words[(kind >> 6) as usize] = 1 << (kind & 63);
        Self(words)
    }

    /// The set of the kinds whose bits are set: bit k of word k / 64 is kind k.
    pub const fn of_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]])
    }

    /// The one kind of a set that has exactly one.
    pub fn single(&self) -> Option<u8> {
        let count: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        let word = self.0.iter().position(|word| *word != 0)?;
        (count == 1).then(|| (word as u32 * 64 + self.0[word].trailing_zeros()) as u8)
    }

    /// Whether a kind is in the set.
    #[inline]
    pub const fn contains(&self, kind: u8) -> bool {
        self.0[(kind >> 6) as usize] >> (kind & 63) & 1 == 1
    }
}

/// A tick's place in the order of its partition, (event time, sequence), with its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// Event time in nanoseconds.
    pub time_ns: u64,
    /// The partition's sequence.
    pub sequence: u64,
    /// Price in units of 1e-9.
    pub price: i64,
}

/// Open, high, low, close, volume and notional of some ticks; merges in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// How many ticks.
    pub count: u64,
    /// Sum of sizes, in units of 1e-9.
    pub size: u128,
    /// Sum of price times size, in units of 1e-18, when [`overflow`](Self::overflow) is false;
    /// else what is left of it after `notional_carry` times 2^128.
    pub notional: i128,
    /// What the sum of price times size has above 128 bits: the exact sum is
    /// `notional + notional_carry * 2^128`.
    pub notional_carry: i64,
    /// First in order.
    pub first: Option<Edge>,
    /// Last in order.
    pub last: Option<Edge>,
    /// Highest price; `None` without ticks.
    pub high: Option<i64>,
    /// Lowest price; `None` without ticks.
    pub low: Option<i64>,
}

impl Aggregate {
    /// Adds one tick.
    #[inline]
    pub fn add(&mut self, edge: Edge, size: u64) {
        self.count = self.count.saturating_add(1);
        self.size = self.size.saturating_add(u128::from(size));
        self.add_notional(i128::from(edge.price) * i128::from(size), 0);
        self.stretch(edge, edge);
        self.widen(edge.price, edge.price);
    }

    /// Adds another part of the same whole.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.size = self.size.saturating_add(other.size);
        self.add_notional(other.notional, other.notional_carry);
        if let (Some(first), Some(last)) = (other.first, other.last) {
            self.stretch(first, last);
        }
        if let (Some(high), Some(low)) = (other.high, other.low) {
            self.widen(high, low);
        }
    }

    /// Whether the sum of price times size does not fit `notional`.
    pub const fn overflow(&self) -> bool {
        self.notional_carry != 0
    }

    /// Volume-weighted average price in units of 1e-9, rounded down; `None` without volume, or
    /// when the notional overflowed.
    pub fn vwap(&self) -> Option<i64> {
        let size = i128::try_from(self.size).ok().filter(|size| *size > 0 && !self.overflow())?;
        i64::try_from(self.notional.div_euclid(size)).ok()
    }

    /// Addition of 192-bit two's complement numbers. A number's two halves are unique, so equal
    /// sums are equal fields however they came about.
    fn add_notional(&mut self, amount: i128, carry: i64) {
        let (sum, wrapped) = self.notional.overflowing_add(amount);
        self.notional = sum;
        let wrap = match (wrapped, amount < 0) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => -1,
        };
        self.notional_carry = self.notional_carry.wrapping_add(carry).wrapping_add(wrap);
    }

    fn stretch(&mut self, first: Edge, last: Edge) {
        self.first = Some(self.first.map_or(first, |edge| edge.min(first)));
        self.last = Some(self.last.map_or(last, |edge| edge.max(last)));
    }

    fn widen(&mut self, high: i64, low: i64) {
        self.high = Some(self.high.map_or(high, |price| price.max(high)));
        self.low = Some(self.low.map_or(low, |price| price.min(low)));
    }
}

/// What a symbol holds: ticks by kind, their span, and the aggregate of its trades.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Ticks of any kind.
    pub ticks: u64,
    /// Bids.
    pub bids: u64,
    /// Asks.
    pub asks: u64,
    /// Earliest event time of any kind, in nanoseconds.
    pub first_time_ns: Option<u64>,
    /// Latest event time of any kind, in nanoseconds.
    pub last_time_ns: Option<u64>,
    /// The trades.
    pub trades: Aggregate,
}

impl Summary {
    /// Adds another part of the same symbol.
    pub fn merge(&mut self, other: &Self) {
        self.ticks = self.ticks.saturating_add(other.ticks);
        self.bids = self.bids.saturating_add(other.bids);
        self.asks = self.asks.saturating_add(other.asks);
        self.first_time_ns = earlier(self.first_time_ns, other.first_time_ns);
        self.last_time_ns = self.last_time_ns.max(other.last_time_ns);
        self.trades.merge(&other.trades);
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// One bar: the aggregate of an interval of event time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Start of the interval, a multiple of its length, in nanoseconds.
    pub start_ns: u64,
    /// What is in it.
    pub aggregate: Aggregate,
}

/// Bars in order of time; only intervals that have ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bars {
    /// The bars.
    pub bars: Vec<Bar>,
    /// There are more: where the first interval after these begins that has ticks, in
    /// nanoseconds. Ask again from here.
    pub next_start_ns: Option<u64>,
}

/// Ticks in order of (event time, sequence), every field as it was sent but `sequence`, which is
/// the partition's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangePage {
    /// The ticks.
    pub ticks: Vec<Tick>,
    /// There are more: ask again with this as `after`.
    pub next: Option<Position>,
}

/// What is new of a series, in the order in which it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTicks {
    /// The ticks.
    pub ticks: Vec<Tick>,
    /// The sequence from which the next ones are new.
    pub next: u64,
}

/// Where a range read goes on: after the tick with this (event time, sequence).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Event time in nanoseconds.
    pub time_ns: u64,
    /// The partition's sequence.
    pub sequence: u64,
}

impl Position {
    /// The position of a tick that was read.
    pub const fn of(tick: &Tick) -> Self {
        Self { time_ns: tick.event_time_ns, sequence: tick.sequence }
    }
}
