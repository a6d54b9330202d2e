//! Under load: stopping, little memory, many producers. Every row has one fate, and it is told.

use rustix::process::Signal;
use zepto_tests::harness::{Cluster, Ended, Feeder, LONG, SOON, Watchdog, data};

#[test]
fn a_stop_under_load_loses_no_account_of_any_row() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&[]);
    let feed = Feeder::start(cluster.get("a"));
    cluster.take("c").stop(SOON).code(0);
    let (fed, _) = feed.finish();
    assert!(fed.acknowledged() > 0);
}

#[test]
fn a_feed_interrupted_says_what_was_acknowledged() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let feed = Feeder::start(cluster.get("a"));
    let fed = feed.interrupt(Signal::INT).code(130);
    let acked = fed.acknowledged();
    let stored = cluster.get("a").ticks();
    let unknown = fed.last_json()["unknown"].as_u64().expect("a number");
    assert!((acked..=acked + unknown).contains(&stored), "{stored} stored: {}", fed.stdout);
}

#[test]
fn ticks_beyond_the_memory_are_refused_and_counted() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&["--memory", "2MiB", "--copies", "1"]);
    let made = data::make(cluster.path(), 500_000);
    let fed = cluster.feed(&made.file, &[]).code(1);
    let acked = fed.acknowledged();
    assert!(0 < acked && acked < 500_000, "{}", fed.stdout);
    let fed = fed.says(&["refused"]);
    assert_eq!(cluster.get("b").ticks(), acked, "what was acknowledged is there: {}", fed.stdout);
}

#[test]
fn ten_times_what_the_memory_holds_is_refused_within_the_memory_and_answers_go_on() {
    const MEMORY: u64 = 16 << 20;
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&["--memory", "16MiB", "--copies", "1"]);
    // A row takes 32 bytes or more; three nodes hold less than a tenth of these.
    let made = data::make(cluster.path(), 3_000_000);
    let feeds = [0; 5].map(|_| cluster.start_feed(&made.file, &[]));
    // Whoever asks meanwhile is answered.
    let looks = (0..10).map(|_| cluster.get("b").ticks()).collect::<Vec<u64>>();
    assert!(looks.is_sorted(), "{looks:?}");
    let fed = feeds.map(|feed| feed.wait(LONG).code(1));
    let acked: u64 = fed.iter().map(Ended::acknowledged).sum();
    assert!(0 < acked && acked < 3 * MEMORY / 32);
    for name in ["a", "b", "c"] {
        let node = cluster.get(name);
        // 27 MiB of it are tables that openraft's histograms make at the start.
        let most = MEMORY + MEMORY / 10 + (96 << 20);
        let peak = node.peak_bytes();
        assert!(peak <= most, "{name} took {peak} bytes of {most}");
    }
    assert_eq!(cluster.get("a").ticks(), acked, "what was acknowledged is there");
}

#[test]
fn three_feeds_at_the_same_time_lose_nothing() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 100_000);
    let feeds = [0; 3].map(|_| cluster.start_feed(&made.file, &[]));
    for feed in feeds {
        assert_eq!(feed.wait(LONG).code(0).acknowledged(), 100_000);
    }
    assert_eq!(cluster.get("b").ticks(), 300_000);
}
