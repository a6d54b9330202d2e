//! Ticks in the order in which they came: what is new since a sequence.

use zepto_abi::Tick;
use zepto_core::limits::RANGE_ROWS_MAX;

use crate::query::NewTicks;
use crate::rows::Rows;
use crate::series::View;

/// The first `limit` ticks (at least one, at most `RANGE_ROWS_MAX`) whose sequence is `from` or
/// more. `end` is the first sequence of the partition that is not readable yet.
pub(crate) fn page(view: &View, from: u64, limit: usize, end: u64) -> NewTicks {
    let limit = limit.clamp(1, RANGE_ROWS_MAX);
    // Rows stand in the order in which they came, so the new ones are at the end.
    let is_new = |rows: &Rows<'_>| rows.sequence(rows.len() - 1) >= from;
    // The newest segment may have begun after this view: it has no rows of it then.
    let rows = view.segments(0, u64::MAX).rev().filter(|rows| rows.len() > 0);
    let rows: Vec<Rows<'_>> = rows.take_while(is_new).collect();
    let mut ticks: Vec<Tick> = Vec::new();
    for rows in rows.iter().rev() {
        let room = limit + 1 - ticks.len();
        let first = first_from(*rows, from);
        let these = first..rows.len().min(first + room);
        ticks.extend(these.map(|row| rows.tick(row, view.table, view.symbol)));
        if ticks.len() > limit {
            break;
        }
    }
    let room = (limit + 1).saturating_sub(ticks.len());
    ticks.extend(view.staged().iter().filter(|tick| tick.sequence >= from).take(room));
    let more = ticks.len() > limit;
    ticks.truncate(limit);
    let last = ticks.last().filter(|_| more).map(|tick| tick.sequence + 1);
    NewTicks { ticks, next: last.unwrap_or(end) }
}

/// The first row with a sequence of `from` or more.
fn first_from(rows: Rows<'_>, from: u64) -> usize {
    let (mut low, mut high) = (0, rows.len());
    while low < high {
        let middle = low.midpoint(high);
        if rows.sequence(middle) < from { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use crate::{Retention, StoreConfig, open};
    use zepto_abi::{Epoch, Kind, Tick};
    use zepto_core::hash::partition_of;

    #[test]
    fn every_tick_is_new_once_in_the_order_in_which_it_came() {
        let retention = Retention::default();
        let config = StoreConfig { partition_bits: 1, bytes_max: 64 << 20, retention };
        let (mut store, reader) = open(config).unwrap();
        let one = 1;
        let partition = partition_of(0, one, 1);
        let other = (2..).find(|symbol| partition_of(0, *symbol, 1) == partition).unwrap();
        store.open_partition(partition, Epoch(1), 1).unwrap();
        assert_eq!(
            reader.since(0, one, u64::MAX, 10).unwrap().next,
            reader.watermark(partition).unwrap()
        );
        let series = [one, other].map(|symbol| store.create_series(0, symbol).unwrap());
        let mut from = reader.since(0, one, u64::MAX, 10).unwrap().next;
        let mut seen = Vec::new();
        for i in 0..1_000u64 {
            let tick = Tick {
                // Backwards in time: that is of no matter here.
                event_time_ns: 5_000 - i,
                symbol: one,
                kind: Kind::TRADE,
                user: [i, 0],
                ..Tick::default()
            };
            store.append(series[0], &tick).unwrap();
            if i % 3 == 0 {
                store.append(series[1], &Tick { symbol: other, ..tick }).unwrap();
            }
            if i % 37 == 0 {
                store.publish();
                let mut pages = 0;
                loop {
                    let new = reader.since(0, one, from, 10).unwrap();
                    assert!(new.ticks.len() <= 10);
                    seen.extend(new.ticks.iter().map(|tick| tick.user[0]));
                    from = new.next;
                    pages += 1;
                    if new.ticks.len() < 10 {
                        break;
                    }
                }
                assert!(pages <= 5);
            }
        }
        store.publish();
        seen.extend(
            reader.since(0, one, from, 1_000).unwrap().ticks.iter().map(|tick| tick.user[0]),
        );
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
        let end = reader.watermark(partition).unwrap();
        assert_eq!(reader.since(0, one, end + 5, 10).unwrap().next, end, "it may have begun anew");
        assert!(reader.since(0, one, end, 10).unwrap().ticks.is_empty());
    }
}
