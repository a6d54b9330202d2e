//! Ticks in order of (event time, sequence): pages of a range, and the last one.
//!
//! A page needs the smallest keys behind a position. In a series that is in order those are the
//! next rows, found by bisection, and the page costs what it holds. Otherwise any later segment
//! may hold an earlier tick, so the segments' bounds are looked at, but rows only of those that
//! can still contribute.

use zepto_abi::Tick;
use zepto_core::limits::{RANGE_ROWS_MAX, SEGMENT_ROWS_MAX};

use crate::query::{KindSet, Position, RangePage, TimeRange};
use crate::rows::Rows;
use crate::scan::each_run_of;
use crate::series::View;

/// The first `limit` ticks (at least one, at most `RANGE_ROWS_MAX`) of the range after a position.
pub(crate) fn page(
    view: &View,
    range: TimeRange,
    after: Option<Position>,
    limit: usize,
) -> RangePage {
    let Some(last_ns) = range.last_ns() else { return RangePage::default() };
    let from_ns = after.map_or(range.from_ns, |after| range.from_ns.max(after.time_ns));
    let limit = limit.clamp(1, RANGE_ROWS_MAX);
    // One more, to know whether there are more.
    let mut smallest = Smallest { wanted: limit + 1, ticks: Vec::new(), bound: None };
    for rows in view.segments(from_ns, last_ns) {
        if view.ordered && smallest.ticks.len() == smallest.wanted {
            break;
        }
        if smallest.is_beyond(rows.time_bounds().0) {
            continue;
        }
        each_run_of(rows, from_ns, last_ns, |run| {
            let skipped = after.map_or(0, |after| rows_until(run, after));
            let room = smallest.wanted - smallest.ticks.len().min(smallest.wanted);
            let len = if view.ordered { room } else { run.len() };
            let behind = |row: &usize| after.is_none_or(|after| after < run.position(*row));
            for row in (skipped..run.len()).filter(behind).take(len) {
                smallest.add(run.tick(row, view.table, view.symbol));
            }
        });
        smallest.prune();
    }
    let inside = |tick: &&Tick| {
        (from_ns..=last_ns).contains(&tick.event_time_ns)
            && after.is_none_or(|after| after < Position::of(tick))
    };
    view.staged().iter().filter(inside).for_each(|tick| smallest.add(*tick));
    smallest.into_page(limit)
}

/// The last tick of some kinds in a range.
pub(crate) fn last(view: &View, range: TimeRange, kinds: &KindSet) -> Option<Tick> {
    let last_ns = range.last_ns()?;
    let wanted = |tick: &&Tick| range.contains(tick.event_time_ns) && kinds.contains(tick.kind);
    let mut best =
        view.staged().iter().filter(wanted).max_by_key(|tick| Position::of(tick)).copied();
    for rows in view.segments(range.from_ns, last_ns).rev() {
        let latest = rows.time_bounds().1;
        if best.is_some_and(|best| latest < best.event_time_ns) {
            if view.ordered {
                break;
            }
            continue;
        }
        let mut found = false;
        each_run_of(rows, range.from_ns, last_ns, |run| {
            let mut kept = (0..run.len()).rev().filter(|row| kinds.contains(run.kinds[*row]));
            let row = match run.ordered {
                true => kept.next(),
                false => kept.max_by_key(|row| run.position(*row)),
            };
            let Some(row) = row else { return };
            found = true;
            if best.is_none_or(|best| Position::of(&best) < run.position(row)) {
                best = Some(run.tick(row, view.table, view.symbol));
            }
        });
        if view.ordered && found {
            break;
        }
    }
    best
}

/// How many of the first rows are surely not after the position; none if they are not in order.
fn rows_until(run: Rows<'_>, after: Position) -> usize {
    if !run.ordered {
        return 0;
    }
    let from = run.times.partition_point(|time| *time < after.time_ns);
    let equal = run.times[from..].partition_point(|time| *time == after.time_ns);
    let (mut low, mut high) = (from, from + equal);
    while low < high {
        let middle = low.midpoint(high);
        if run.sequence(middle) <= after.sequence { low = middle + 1 } else { high = middle }
    }
    low
}

/// Collects ticks, and of them keeps the smallest.
struct Smallest {
    wanted: usize,
    ticks: Vec<Tick>,
    /// Once there are enough, ticks from here on are not among the smallest.
    bound: Option<Position>,
}

impl Smallest {
    fn is_beyond(&self, time_ns: u64) -> bool {
        self.bound.is_some_and(|bound| bound.time_ns < time_ns)
    }

    fn add(&mut self, tick: Tick) {
        if self.bound.is_none_or(|bound| Position::of(&tick) < bound) {
            self.ticks.push(tick);
        }
    }

    /// Drops what is too much; rarely enough that each tick is looked at a few times in all.
    fn prune(&mut self) {
        if self.ticks.len() >= 2 * self.wanted + SEGMENT_ROWS_MAX {
            self.ticks.select_nth_unstable_by_key(self.wanted - 1, Position::of);
            self.ticks.truncate(self.wanted);
            self.bound = self.ticks.last().map(Position::of);
        }
    }

    fn into_page(mut self, limit: usize) -> RangePage {
        if !self.ticks.is_sorted_by_key(Position::of) {
            self.ticks.sort_unstable_by_key(Position::of);
        }
        let more = self.ticks.len() > limit;
        self.ticks.truncate(limit);
        let next = self.ticks.last().filter(|_| more).map(Position::of);
        RangePage { ticks: self.ticks, next }
    }
}
