//! Values of the command line that need more than `FromStr`, or that several commands take: times,
//! lengths of time, kinds, tables.
//!
//! All exact: a time or a length is a whole number of nanoseconds, and text that stands for
//! anything finer, or that does not fit, is an error that says what to write instead.

use core::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use zepto_abi::Kind;
use zepto_core::limits::TABLES_MAX;
use zepto_store::query::KindSet;

/// Names of the kinds that zepto gives a meaning to.
const KINDS: [(&str, u8); 6] = [
    ("trade", Kind::TRADE),
    ("bid", Kind::BID),
    ("ask", Kind::ASK),
    ("fill", Kind::FILL),
    ("clear", Kind::CLEAR),
    ("other", Kind::OTHER),
];

/// Which table symbols are in.
#[derive(Args, Clone, Copy, Debug)]
pub struct TableArgs {
    /// Table of the symbol
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(..i64::from(TABLES_MAX))
    )]
    pub table: u16,
}

/// Reads a time: nanoseconds since 1970, or RFC 3339.
///
/// # Errors
/// What to write instead.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let hint = "write nanoseconds since 1970, or RFC 3339 such as 2024-08-08T23:55:00.5Z";
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return text.parse().map_err(|_| format!("does not fit 64 bits; {hint}"));
    }
    let time: Timestamp = text.parse().map_err(|_| hint.to_owned())?;
    u64::try_from(time.as_nanosecond()).map_err(|_| "is before 1970 or after 2554".to_owned())
}

/// A time as RFC 3339 with nanoseconds, in UTC; as a bare number where a calendar has no such day.
pub fn show_time(time_ns: u64) -> String {
    match Timestamp::from_nanosecond(time_ns.into()) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => time_ns.to_string(),
    }
}

/// Reads a length of time in nanoseconds, such as `500ms`, `1s` or `1m`; not zero.
///
/// # Errors
/// What to write instead.
pub fn parse_interval(text: &str) -> Result<u64, String> {
    let hint = "write a number with its unit: 500ms, 1s, 1m, 1h";
    let length: SignedDuration = text.parse().map_err(|_| hint.to_owned())?;
    match u64::try_from(length.as_nanos()) {
        Ok(0) => Err(format!("an interval of zero has no bars; {hint}")),
        Ok(nanos) => Ok(nanos),
        Err(_) => Err(format!("is negative or does not fit 64 bits; {hint}")),
    }
}

/// Reads a time to wait, as [`parse_interval`] does.
///
/// # Errors
/// What to write instead.
pub fn parse_wait(text: &str) -> Result<Duration, String> {
    parse_interval(text).map(Duration::from_nanos)
}

/// Reads kinds: `trade,bid`, numbers for the user's own, or `all`.
///
/// # Errors
/// Which one is none, and which there are.
pub fn parse_kinds(text: &str) -> Result<KindSet, String> {
    if text == "all" {
        return Ok(KindSet::ALL);
    }
    let mut set: Option<KindSet> = None;
    for name in text.split(',').map(str::trim) {
        let named = KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let kind = named.or_else(|| name.parse().ok().filter(|kind| *kind != Kind::CONTROL));
        let kind = kind.ok_or_else(|| {
            format!("{name:?} is no kind; write trade, bid, ask, fill, clear, other, 0 to 254, all")
        })?;
        set = Some(set.map_or(KindSet::of(kind), |set| set.union(KindSet::of(kind))));
    }
    set.ok_or_else(|| "names no kind".to_owned())
}

/// A kind's name, or its number.
pub fn show_kind(kind: u8) -> String {
    match KINDS.iter().find(|(_, known)| *known == kind) {
        Some((name, _)) => (*name).to_owned(),
        None => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_nanoseconds_or_rfc_3339_and_exact() {
        let cases = [
            ("0", 0),
            ("1723161599999231384", 1_723_161_599_999_231_384),
            ("18446744073709551615", u64::MAX),
            ("1970-01-01T00:00:00Z", 0),
            ("2024-08-08T23:59:59.999231384Z", 1_723_161_599_999_231_384),
            ("2024-08-09T01:59:59.999231384+02:00", 1_723_161_599_999_231_384),
        ];
        for (text, time_ns) in cases {
            assert_eq!(parse_time(text), Ok(time_ns), "{text}");
        }
        for text in [
            "",
            "-1",
            "1.5",
            "yesterday",
            "2024-08-08",
            "2024-08-08T23:59:59",
            "1969-12-31T23:59:59Z",
            "18446744073709551616",
            "2555-01-01T00:00:00Z",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_shown_time_reads_back_as_itself() {
        for time_ns in [0, 1, 1_723_161_599_999_231_384, u64::MAX] {
            assert_eq!(parse_time(&show_time(time_ns)), Ok(time_ns));
        }
        assert_eq!(show_time(1_723_161_599_000_000_001), "2024-08-08T23:59:59.000000001Z");
    }

    #[test]
    fn an_interval_has_a_unit_and_is_not_zero() {
        let cases = [("1s", 1_000_000_000), ("1m", 60_000_000_000), ("500ms", 500_000_000)];
        for (text, nanos) in cases {
            assert_eq!(parse_interval(text), Ok(nanos), "{text}");
        }
        assert_eq!(parse_interval("1h30m"), Ok(5_400_000_000_000));
        for text in ["", "0s", "-1s", "1", "1 parsec", "999999999h"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn kinds_are_names_or_numbers_and_a_wrong_one_is_named() {
        assert_eq!(parse_kinds("trade"), Ok(KindSet::TRADES));
        let both = KindSet::TRADES.union(KindSet::of(200));
        assert_eq!(parse_kinds("trade, 200"), Ok(both));
        assert_eq!(parse_kinds("all"), Ok(KindSet::ALL));
        for text in ["", "trade,", "trades", "255", "-1"] {
            assert!(parse_kinds(text).is_err_and(|error| error.contains("kind")), "{text}");
        }
        for kind in 0..=254 {
            assert_eq!(parse_kinds(&show_kind(kind)), Ok(KindSet::of(kind)));
        }
    }
}
