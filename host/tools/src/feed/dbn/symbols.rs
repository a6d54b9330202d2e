//! What an instrument is called, which depends on the day.
//!
//! Built once from the metadata and sorted, so that a lookup is a binary search whatever the file
//! holds: intervals in any order and any number cost n log n. Lacks names for instruments that the
//! metadata does not name on that day; they are called by their number.

use std::borrow::Cow;

use dbn::{MappingInterval, Metadata, SType};

/// The names of instruments, by number and time.
#[derive(Debug)]
pub(super) struct Symbols(Vec<Interval>);

#[derive(Debug)]
struct Interval {
    instrument: u32,
    start_ns: u64,
    /// The first time that is no longer inside.
    end_ns: u64,
    name: String,
}

/// For how long a name that was found holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    instrument: u32,
    start_ns: u64,
    end_ns: u64,
}

impl Found {
    /// Whether it is the answer for this instrument and time too.
    #[inline]
    pub(super) fn covers(&self, instrument: u32, time_ns: u64) -> bool {
        self.instrument == instrument && (self.start_ns..self.end_ns).contains(&time_ns)
    }
}

impl Symbols {
    /// The names that the metadata gives to numbers; none, if it names something else.
    ///
    /// # Errors
    /// A number that is none.
    pub(super) fn new(metadata: &Metadata) -> Result<Self, String> {
        let by_name = metadata.stype_out == SType::InstrumentId;
        if !by_name && metadata.stype_in != Some(SType::InstrumentId) {
            return Ok(Self(Vec::new()));
        }
        let mut intervals = Vec::new();
        for mapping in &metadata.mappings {
            // Where an interval has no symbol, it is not known what it maps to.
            for interval in mapping.intervals.iter().filter(|interval| !interval.symbol.is_empty())
            {
                let (number, name) = if by_name {
                    (&interval.symbol, &mapping.raw_symbol)
                } else {
                    (&mapping.raw_symbol, &interval.symbol)
                };
                let instrument =
                    number.parse().map_err(|_| format!("{number:?} is no instrument's number"))?;
                let (start_ns, end_ns) = times(interval);
                intervals.push(Interval { instrument, start_ns, end_ns, name: name.clone() });
            }
        }
        intervals.sort_by_key(|interval| (interval.instrument, interval.start_ns));
        Ok(Self(intervals))
    }

    /// The name of an instrument at a time, and for which times it is the same.
    pub(super) fn find(&self, instrument: u32, time_ns: u64) -> (Found, Cow<'_, str>) {
        let after =
            self.0.partition_point(|of| (of.instrument, of.start_ns) <= (instrument, time_ns));
        let (before, after) = self.0.split_at(after);
        let before = before.last().filter(|interval| interval.instrument == instrument);
        let after = after.first().filter(|interval| interval.instrument == instrument);
        let next_ns = after.map_or(u64::MAX, |interval| interval.start_ns);
        match before {
            Some(interval) if time_ns < interval.end_ns => {
                let (start_ns, end_ns) = (interval.start_ns, interval.end_ns.min(next_ns));
                (Found { instrument, start_ns, end_ns }, Cow::Borrowed(&interval.name))
            }
            before => {
                // An interval that ends before it starts names nothing, from its start on.
                let start_ns = before.map_or(0, |interval| interval.end_ns.max(interval.start_ns));
                let found = Found { instrument, start_ns, end_ns: next_ns };
                (found, Cow::Owned(instrument.to_string()))
            }
        }
    }
}

/// The days of an interval as times; whatever is before 1970 or after 2554 is cut.
fn times(interval: &MappingInterval) -> (u64, u64) {
    let [start, end] = [interval.start_date, interval.end_date].map(|day| {
        let time_ns = day.midnight().assume_utc().unix_timestamp_nanos();
        u64::try_from(time_ns.max(0)).unwrap_or(u64::MAX)
    });
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(instrument: u32, start_ns: u64, end_ns: u64, name: &str) -> Interval {
        Interval { instrument, start_ns, end_ns, name: name.into() }
    }

    #[test]
    fn a_name_holds_from_its_first_day_until_its_last_and_the_number_elsewhere() {
        let symbols = Symbols(vec![
            interval(7, 10, 20, "A"),
            interval(7, 20, 30, "B"),
            interval(7, 40, 50, "C"),
            interval(8, 0, 100, "D"),
        ]);
        let cases = [
            (7, 0, "7", (0, 10)),
            (7, 10, "A", (10, 20)),
            (7, 19, "A", (10, 20)),
            (7, 20, "B", (20, 30)),
            (7, 30, "7", (30, 40)),
            (7, 49, "C", (40, 50)),
            (7, 50, "7", (50, u64::MAX)),
            (8, 99, "D", (0, 100)),
            (9, 5, "9", (0, u64::MAX)),
            (0, 5, "0", (0, u64::MAX)),
        ];
        for (instrument, time_ns, name, (start_ns, end_ns)) in cases {
            let (found, seen) = symbols.find(instrument, time_ns);
            assert_eq!(seen, name, "{instrument} at {time_ns}");
            assert_eq!(found, Found { instrument, start_ns, end_ns });
            assert!(found.covers(instrument, time_ns));
            assert!(!found.covers(instrument + 1, time_ns));
        }
    }

    #[test]
    fn of_overlapping_intervals_the_later_start_counts_and_an_answer_is_that_of_all_it_covers() {
        let symbols = Symbols(vec![
            interval(7, 0, 100, "A"),
            interval(7, 10, 20, "B"),
            interval(7, 30, 25, "C"),
            interval(7, 40, 45, "D"),
        ]);
        for (time_ns, name) in [(5, "A"), (15, "B"), (25, "7"), (35, "7"), (42, "D"), (60, "7")] {
            assert_eq!(symbols.find(7, time_ns).1, name, "{time_ns}");
        }
        for time_ns in 0..120 {
            let (found, name) = symbols.find(7, time_ns);
            for other in (0..120).filter(|other| found.covers(7, *other)) {
                assert_eq!(symbols.find(7, other), (found, name.clone()), "{time_ns}, {other}");
            }
        }
    }
}
