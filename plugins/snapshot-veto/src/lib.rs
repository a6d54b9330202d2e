//! Snapshot hook: no snapshot begins at certain times of day, and none that is in quarantine is
//! restored. `{"windows": [{"from": "08:00", "to": "16:30"}]}`, in UTC.
#![deny(unsafe_code)]

use serde::Deserialize;
use zepto_sdk::{About, Error, Host, Open, Plugin, Snap, Status, capability};

const MINUTE_NS: u64 = 60_000_000_000;
const DAY_MINUTES: u32 = 24 * 60;
/// How the label of a snapshot begins that must not be restored.
const QUARANTINE: &str = "quarantine";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    windows: Vec<Window>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    from: String,
    to: String,
}

/// The times of day, and whether it may count.
#[derive(Debug)]
pub struct Veto {
    /// Minutes of the day: from, and until before. The second may be on the next day.
    windows: Vec<(u32, u32)>,
    may_count: bool,
}

fn parse(json: &str) -> Result<Vec<(u32, u32)>, Error> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let config: Config = serde_json::from_str(json).map_err(|error| {
        Error::invalid(format!(
            "configuration: {error}; write {{\"windows\": [{{\"from\": \"08:00\", \"to\": \
             \"16:30\"}}]}}"
        ))
    })?;
    let window = |window: &Window| Ok((minutes(&window.from)?, minutes(&window.to)?));
    config.windows.iter().map(window).collect()
}

/// Minutes since midnight of `HH:MM`.
fn minutes(text: &str) -> Result<u32, Error> {
    let digits = |text: &str, limit: u32| {
        let number = text.parse::<u32>().ok().filter(|number| *number < limit);
        number.filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
    };
    let read = text
        .split_once(':')
        .and_then(|(hour, minute)| Some(digits(hour, 24)? * 60 + digits(minute, 60)?));
    let wrong = || format!("configuration: {text:?} is no time of day in UTC; write \"08:00\"");
    read.ok_or_else(|| Error::invalid(wrong()))
}

/// Until when no snapshot begins, if none may begin now; both in minutes of the day.
fn vetoed(windows: &[(u32, u32)], now: u32) -> Option<u32> {
    let into = |from: u32| (now + DAY_MINUTES - from) % DAY_MINUTES;
    // One that ends when it begins lasts all day.
    let length = |from: u32, to: u32| match (to + DAY_MINUTES - from) % DAY_MINUTES {
        0 => DAY_MINUTES,
        length => length,
    };
    let over = windows.iter().filter(|(from, to)| into(*from) < length(*from, *to));
    over.max_by_key(|(from, to)| length(*from, *to) - into(*from)).map(|(_, to)| *to)
}

impl Veto {
    fn count(&self, host: &Host, name: &str) {
        if self.may_count {
            host.count(name, 1);
        }
    }
}

impl Plugin for Veto {
    const ABOUT: About = About::snapshot("snapshot-veto", env!("CARGO_PKG_VERSION"), "zepto")
        .uses(capability::METRIC);

    fn open(_: &Host, open: &Open<'_>) -> Result<Self, Error> {
        let may_count = open.granted_caps & capability::METRIC != 0;
        Ok(Self { windows: parse(open.config)?, may_count })
    }

    fn start(&mut self, _: &Host) -> Result<(), Error> {
        Ok(())
    }

    fn config(&mut self, _: &Host, json: &str) -> Result<(), Error> {
        self.windows = parse(json)?;
        Ok(())
    }

    fn snapshot_begins(&mut self, host: &Host, _: &Snap<'_>) -> Result<(), Error> {
        let now = (host.moment().wall_ns / MINUTE_NS % u64::from(DAY_MINUTES)) as u32;
        let Some(until) = vetoed(&self.windows, now) else { return Ok(()) };
        let text = format!("no snapshot until {:02}:{:02} UTC", until / 60, until % 60);
        Err(Error::new(Status::BadState, text))
    }

    fn snapshot_done(&mut self, host: &Host, _: &Snap<'_>) -> Result<(), Error> {
        self.count(host, "snapshot_done");
        Ok(())
    }

    fn snapshot_aborted(&mut self, host: &Host, _: &Snap<'_>, _: Status) -> Result<(), Error> {
        self.count(host, "snapshot_aborted");
        Ok(())
    }

    fn snapshot_restores(&mut self, _: &Host, snap: &Snap<'_>) -> Result<(), Error> {
        if !snap.label.starts_with(QUARANTINE) {
            return Ok(());
        }
        let text = format!("snapshot {:?} is in quarantine", snap.label);
        Err(Error::new(Status::BadState, text))
    }
}

zepto_sdk::export!(Veto);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_span_midnight_and_the_last_to_end_counts() {
        let windows = parse(
            r#"{"windows": [{"from": "08:00", "to": "16:30"},
            {"from": "22:00", "to": "02:00"}, {"from": "16:00", "to": "17:00"}]}"#,
        );
        let at = |text| vetoed(windows.as_ref().unwrap(), minutes(text).unwrap());
        for free in ["07:59", "17:00", "21:59", "02:00"] {
            assert_eq!(at(free), None, "{free}");
        }
        for (time, until) in [("08:00", "16:30"), ("16:29", "17:00"), ("00:30", "02:00")] {
            assert_eq!(at(time), Some(minutes(until).unwrap()), "{time}");
        }
        assert_eq!(vetoed(&[(60, 60)], 59), Some(60), "all day");
        for wrong in ["8:00", "24:00", "08:60", "0800", "+8:00", "08:0 "] {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
        assert!(parse(r#"{"window": []}"#).unwrap_err().text.contains("write {\"windows\""));
    }
}
