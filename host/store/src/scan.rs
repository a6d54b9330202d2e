//! Tight loops over columns: exact sums of some rows of one segment.
//!
//! The usual loop has no 128-bit multiplication: it treats sizes as signed, keeps the bits that any
//! size has, and afterwards those bits and the extreme prices prove that nothing could have
//! overflowed. If they do not, an exact loop repeats the work; real data never goes there.

use zepto_abi::{Kind, Tick};
use zepto_core::limits::SEGMENT_ROWS_MAX;

use crate::query::{Aggregate, Edge, KindSet, Summary, TimeRange};
use crate::rows::Rows;
use crate::series::View;

/// The aggregate of a view's ticks of some kinds in a range of event time.
pub(crate) fn aggregate(view: &View, range: TimeRange, kinds: &KindSet) -> Aggregate {
    let mut whole = Aggregate::default();
    each_run(view, range, |run| whole.merge(&run_aggregate(run, kinds)));
    for tick in view.staged() {
        if range.contains(tick.event_time_ns) && kinds.contains(tick.kind) {
            whole.add(edge_of(tick), tick.size);
        }
    }
    whole
}

/// What a view holds in a range of event time.
pub(crate) fn summary(view: &View, range: TimeRange) -> Summary {
    let mut whole = Summary::default();
    each_run(view, range, |run| whole.merge(&run_summary(run)));
    for tick in view.staged() {
        if range.contains(tick.event_time_ns) {
            whole.merge(&tick_summary(tick));
        }
    }
    whole
}

/// Calls `run` with all rows in columns that are in the range, in pieces of consecutive rows.
pub(crate) fn each_run(view: &View, range: TimeRange, mut run: impl FnMut(Rows<'_>)) {
    let Some(last_ns) = range.last_ns() else { return };
    for rows in view.segments(range.from_ns, last_ns) {
        each_run_of(rows, range.from_ns, last_ns, &mut run);
    }
}

/// The same for the rows of one segment, and both ends of the range included.
pub(crate) fn each_run_of(
    rows: Rows<'_>,
    from_ns: u64,
    last_ns: u64,
    mut run: impl FnMut(Rows<'_>),
) {
    if from_ns <= rows.time_bounds().0 && rows.time_bounds().1 <= last_ns {
        run(rows);
        return;
    }
    if rows.ordered {
        let from = rows.times.partition_point(|time| *time < from_ns);
        let to = from + rows.times[from..].partition_point(|time| *time <= last_ns);
        if from < to {
            run(rows.slice(from, to));
        }
        return;
    }
    let inside = |time: &u64| (from_ns..=last_ns).contains(time);
    let mut from = 0;
    while let Some(skip) = rows.times[from..].iter().position(inside) {
        from += skip;
        let len = rows.times[from..].iter().position(|time| !inside(time));
        let to = len.map_or(rows.len(), |len| from + len);
        run(rows.slice(from, to));
        from = to;
    }
}

/// The aggregate of these rows, those of some kinds.
pub(crate) fn run_aggregate(rows: Rows<'_>, kinds: &KindSet) -> Aggregate {
    // Three copies of the loop, so that the usual questions are one comparison per row.
    if *kinds == KindSet::ALL {
        aggregate_where(rows, |_| true)
    } else if let Some(single) = kinds.single() {
        aggregate_where(rows, |kind| kind == single)
    } else {
        aggregate_where(rows, |kind| kinds.contains(kind))
    }
}

fn run_summary(rows: Rows<'_>) -> Summary {
    let count = |wanted: u8| rows.kinds.iter().filter(|kind| **kind == wanted).count() as u64;
    let (first, last) = match rows.times {
        [first, .., last] if rows.ordered => (Some(*first), Some(*last)),
        times => (times.iter().min().copied(), times.iter().max().copied()),
    };
    Summary {
        ticks: rows.len() as u64,
        bids: count(Kind::BID),
        asks: count(Kind::ASK),
        first_time_ns: first,
        last_time_ns: last,
        trades: run_aggregate(rows, &KindSet::TRADES),
    }
}

fn tick_summary(tick: &Tick) -> Summary {
    let mut trades = Aggregate::default();
    if tick.kind == Kind::TRADE {
        trades.add(edge_of(tick), tick.size);
    }
    Summary {
        ticks: 1,
        bids: u64::from(tick.kind == Kind::BID),
        asks: u64::from(tick.kind == Kind::ASK),
        first_time_ns: Some(tick.event_time_ns),
        last_time_ns: Some(tick.event_time_ns),
        trades,
    }
}

pub(crate) fn edge_of(tick: &Tick) -> Edge {
    Edge { time_ns: tick.event_time_ns, sequence: tick.sequence, price: tick.price }
}

#[inline(always)]
fn aggregate_where(rows: Rows<'_>, keep: impl Fn(u8) -> bool + Copy) -> Aggregate {
    let Some((first, last)) = edges(rows, keep) else { return Aggregate::default() };
    match sums(rows, keep) {
        Some(sums) => Aggregate {
            count: sums.count,
            size: u128::from(sums.size),
            notional: sums.notional,
            notional_carry: 0,
            first: Some(first),
            last: Some(last),
            high: Some(sums.high),
            low: Some(sums.low),
        },
        None => aggregate_exactly(rows, keep),
    }
}

struct Sums {
    count: u64,
    size: u64,
    notional: i128,
    high: i64,
    low: i64,
    /// All bits that any size has.
    size_bits: u64,
}

/// Bits by which a sum over the rows of one segment may be longer than its terms.
const ROWS_BITS: u32 = SEGMENT_ROWS_MAX.ilog2() + 1;
/// Rows of a piece. Of many, all rows are wanted, or none.
const PIECE_ROWS: usize = 32;

/// `None` if the numbers are so large that a sum might not fit.
#[inline(always)]
fn sums(rows: Rows<'_>, keep: impl Fn(u8) -> bool) -> Option<Sums> {
    let mut sums =
        Sums { count: 0, size: 0, notional: 0, high: i64::MIN, low: i64::MAX, size_bits: 0 };
    let columns = rows.prices.chunks(PIECE_ROWS).zip(rows.sizes.chunks(PIECE_ROWS));
    for (kinds, (prices, sizes)) in rows.kinds.chunks(PIECE_ROWS).zip(columns) {
        let kept = kinds.iter().filter(|kind| keep(**kind)).count();
        sums.count += kept as u64;
        if kept == kinds.len() {
            prices.iter().zip(sizes).for_each(|(price, size)| sums.add(*price, *size as i64));
        } else if kept > 0 {
            for ((kind, price), size) in kinds.iter().zip(prices).zip(sizes) {
                if keep(*kind) {
                    sums.add(*price, *size as i64);
                }
            }
        }
    }
    // Below its sign no price is longer than the longer of these two; -x - 1 is as long as x.
    let below_sign = |price: i64| (price ^ (price >> 63)) as u64;
    let price_len = 64 - (below_sign(sums.high) | below_sign(sums.low)).leading_zeros();
    let size_len = 64 - sums.size_bits.leading_zeros();
    let exact = size_len + ROWS_BITS < 64 && price_len + size_len + ROWS_BITS < 127;
    exact.then_some(sums)
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, price: i64, size: i64) {
        self.size = self.size.wrapping_add(size as u64);
        self.notional = self.notional.wrapping_add(i128::from(price) * i128::from(size));
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.size_bits |= size as u64;
    }
}

#[cold]
fn aggregate_exactly(rows: Rows<'_>, keep: impl Fn(u8) -> bool) -> Aggregate {
    let mut whole = Aggregate::default();
    for row in (0..rows.len()).filter(|row| keep(rows.kinds[*row])) {
        whole.add(rows.edge(row), rows.sizes[row]);
    }
    whole
}

/// First and last in order of (time, sequence).
#[inline(always)]
fn edges(rows: Rows<'_>, keep: impl Fn(u8) -> bool + Copy) -> Option<(Edge, Edge)> {
    let kept = |row: &usize| keep(rows.kinds[*row]);
    if rows.ordered {
        let first = (0..rows.len()).find(kept)?;
        let last = (first..rows.len()).rev().find(kept)?;
        return Some((rows.edge(first), rows.edge(last)));
    }
    let all = || (0..rows.len()).filter(kept).map(|row| rows.edge(row));
    Some((all().min()?, all().max()?))
}
