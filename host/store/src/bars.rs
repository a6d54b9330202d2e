//! Bars: the aggregates of equal intervals of event time, those that have ticks.
//!
//! Consecutive rows of one interval are summed by the same loop as everything else. A bar is
//! complete only when every segment has been seen that may have ticks of it, so in a series that
//! is not in order all are looked at; the bars kept meanwhile are never more than asked for.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use zepto_core::limits::BARS_MAX;

use crate::query::{Aggregate, Bar, Bars, KindSet, TimeRange};
use crate::rows::Rows;
use crate::scan::{each_run_of, edge_of, run_aggregate};
use crate::series::View;

/// The first `limit` bars (at least one, at most `BARS_MAX`) of a range.
pub(crate) fn bars(
    view: &View,
    range: TimeRange,
    interval_ns: NonZeroU64,
    kinds: &KindSet,
    limit: usize,
) -> Bars {
    let Some(last_ns) = range.last_ns() else { return Bars::default() };
    let limit = limit.clamp(1, BARS_MAX);
    let mut first = First { bars: BTreeMap::new(), wanted: limit + 1 };
    for rows in view.segments(range.from_ns, last_ns) {
        if first.is_beyond(rows.time_bounds().0) {
            if view.ordered {
                break;
            }
            continue;
        }
        each_run_of(rows, range.from_ns, last_ns, |run| first.add_run(run, interval_ns, kinds));
    }
    for tick in view.staged() {
        if range.contains(tick.event_time_ns) && kinds.contains(tick.kind) {
            let mut one = Aggregate::default();
            one.add(edge_of(tick), tick.size);
            first.add(start_of(tick.event_time_ns, interval_ns), &one);
        }
    }
    first.into_bars(limit)
}

fn start_of(time_ns: u64, interval_ns: NonZeroU64) -> u64 {
    time_ns - time_ns % interval_ns
}

/// Collects bars by their start, and of them keeps the first.
struct First {
    bars: BTreeMap<u64, Aggregate>,
    wanted: usize,
}

impl First {
    /// There are enough, and ticks from this time on are in none of them.
    fn is_beyond(&self, time_ns: u64) -> bool {
        // The last one is only to know that there are more.
        self.bars.len() == self.wanted
            && self.bars.last_key_value().is_some_and(|(start, _)| *start <= time_ns)
    }

    fn add_run(&mut self, run: Rows<'_>, interval_ns: NonZeroU64, kinds: &KindSet) {
        let mut from = 0;
        while let Some(time) = run.times.get(from) {
            let start = start_of(*time, interval_ns);
            // Compared by length, as the end of the last interval is beyond 64 bits.
            let inside = |time: &u64| start <= *time && *time - start < interval_ns.get();
            let len = match run.ordered {
                true => run_len(&run.times[from..], inside),
                false => run.times[from..].iter().take_while(|time| inside(time)).count(),
            };
            let aggregate = run_aggregate(run.slice(from, from + len), kinds);
            if aggregate.count > 0 {
                self.add(start, &aggregate);
            }
            from += len;
        }
    }

    fn add(&mut self, start_ns: u64, aggregate: &Aggregate) {
        if self.bars.len() == self.wanted
            && self.bars.last_key_value().is_some_and(|(last, _)| *last < start_ns)
        {
            return;
        }
        self.bars.entry(start_ns).or_default().merge(aggregate);
        if self.bars.len() > self.wanted {
            self.bars.pop_last();
        }
    }

    fn into_bars(mut self, limit: usize) -> Bars {
        let more = if self.bars.len() > limit { self.bars.pop_last() } else { None };
        let bar = |(start_ns, aggregate)| Bar { start_ns, aggregate };
        Bars {
            bars: self.bars.into_iter().map(bar).collect(),
            next_start_ns: more.map(|(start, _)| start),
        }
    }
}

/// How many of the first times are inside, when those that are come first. Doubling steps before
/// bisection: cheap for a bar of three ticks and for one of a thousand.
fn run_len(times: &[u64], inside: impl Fn(&u64) -> bool) -> usize {
    let mut step = 1;
    while times.get(step).is_some_and(&inside) {
        step *= 2;
    }
    let from = step / 2;
    let to = times.len().min(step);
    from + times[from..to].partition_point(inside)
}
