//! Under load: stopping, little memory, many producers. Every row has one fate, and it is told.

use core::time::Duration;
use serde_json::Value;
use zepto_tests::harness::{Cluster, Ended, LONG, SOON, Watchdog, data, pause};

/// What became of the rows of a feed: acknowledged, refused, unknown or never sent.
#[track_caller]
fn acknowledged(fed: &Ended) -> u64 {
    let account = fed.last_json();
    let number = |key: &str| account[key].as_u64().expect("a number");
    let refused = account["refused"].as_object().expect("an object");
    let refused: u64 = refused.values().filter_map(Value::as_u64).sum();
    let sum = number("acked") + refused + number("unknown") + number("not_sent");
    assert_eq!(sum, number("sent"), "every row has one fate: {account}");
    number("acked")
}

#[test]
fn a_stop_under_load_loses_no_account_of_any_row() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 2_000_000);
    let feed = cluster.start_feed(&made.file, &[]);
    pause(Duration::from_millis(500));
    cluster.take("c").stop(SOON).code(0);
    let fed = feed.wait(LONG);
    let acked = acknowledged(&fed);
    let whole = acked == 2_000_000;
    assert_eq!(fed.status.code(), Some(if whole { 0 } else { 1 }), "{}", fed.stderr);
    assert!(acked > 0);
}

#[test]
fn a_feed_interrupted_says_what_was_acknowledged() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 2_000_000);
    let feed = cluster.start_feed(&made.file, &[]);
    pause(Duration::from_millis(300));
    feed.signal(rustix::process::Signal::INT);
    let fed = feed.wait(SOON).code(130);
    let acked = acknowledged(&fed);
    assert!(acked < 2_000_000, "it was interrupted in time");
    let stored = cluster.get("a").ticks();
    let unknown = fed.last_json()["unknown"].as_u64().expect("a number");
    assert!((acked..=acked + unknown).contains(&stored), "{stored} stored: {}", fed.stdout);
}

#[test]
fn ticks_beyond_the_memory_are_refused_and_counted() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&["--memory", "2MiB"]);
    let made = data::make(cluster.path(), 500_000);
    let fed = cluster.feed(&made.file, &[]).code(1);
    let acked = acknowledged(&fed);
    assert!(0 < acked && acked < 500_000, "{}", fed.stdout);
    let fed = fed.says(&["refused"]);
    assert_eq!(cluster.get("b").ticks(), acked, "what was acknowledged is there: {}", fed.stdout);
}

#[test]
fn three_feeds_at_the_same_time_lose_nothing() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 100_000);
    let feeds = [0; 3].map(|_| cluster.start_feed(&made.file, &[]));
    for feed in feeds {
        assert_eq!(acknowledged(&feed.wait(LONG).code(0)), 100_000);
    }
    assert_eq!(cluster.get("b").ticks(), 300_000);
}
