//! A node ends under load, and with two copies nothing that was acknowledged is missed.

use core::time::Duration;
use rustix::process::Signal;
use std::collections::BTreeMap;
use zepto_tests::harness::{
    Cluster, Feeder, Host, LONG, SOON, Watchdog, data, eventually, pause, run,
};

/// The feed's rows by symbol, asked through a node.
#[track_caller]
fn rows(node: &Host) -> BTreeMap<String, u64> {
    let summary = node.summary();
    let symbols = summary["symbols"].as_object().expect("symbols").iter();
    symbols.map(|(name, of)| (name.clone(), of["ticks"].as_u64().expect("a number"))).collect()
}

/// What the feed was given, row i being of symbol i % 50, is there once: no row fewer, none twice.
#[track_caller]
fn assert_whole(cluster: &Cluster, given: u64) {
    let of = |symbol: u64| (given - symbol).div_ceil(50);
    let expected: BTreeMap<_, _> =
        (0..50).map(|symbol| (format!("S{symbol}"), of(symbol))).collect();
    for node in &cluster.nodes {
        assert_eq!(rows(node), expected, "asked through {}", node.name);
    }
}

#[test]
fn a_node_killed_under_load_is_replaced_and_every_row_is_there_once() {
    let _watchdog = Watchdog::new(2 * LONG);
    let mut cluster = Cluster::fast();
    let feed = Feeder::start(cluster.get("a"));
    cluster.take("b").kill();
    // The two that are left have all partitions again, with two copies of each.
    cluster.wait_balanced(2);
    let (fed, given) = feed.finish();
    assert_eq!(fed.code(0).acknowledged(), given);
    assert_whole(&cluster, given);
    // So that the next death loses nothing either.
    let back = cluster.node("b");
    cluster.nodes.push(back);
    cluster.wait_balanced(3);
    cluster.take("c").kill();
    cluster.wait_balanced(2);
    assert_whole(&cluster, given);
}

#[test]
fn a_node_stopped_under_load_is_replaced_and_acknowledges_nothing_when_it_wakes() {
    let _watchdog = Watchdog::new(2 * LONG);
    let mut cluster = Cluster::fast();
    let feed = Feeder::start(cluster.get("a"));
    let sleeper = cluster.take("c");
    sleeper.process.signal(Signal::STOP);
    cluster.wait_state("a", "c", "DEAD", SOON);
    cluster.wait_balanced(2);
    sleeper.process.signal(Signal::CONT);
    sleeper.process.wait(SOON).code(1).says(&["declared DEAD"]);
    let (fed, given) = feed.finish();
    assert_eq!(fed.code(0).acknowledged(), given);
    assert_whole(&cluster, given);
}

#[test]
fn the_leader_killed_under_load_is_replaced_and_every_row_is_there_once() {
    let _watchdog = Watchdog::new(2 * LONG);
    let mut cluster = Cluster::fast();
    let leads = |node: &&Host| node.status()["leader"] == true;
    let leader = cluster.nodes.iter().find(leads).expect("a leader").name.clone();
    let through = cluster.nodes.iter().find(|node| node.name != leader).expect("another");
    let feed = Feeder::start(through);
    cluster.take(&leader).kill();
    cluster.wait_balanced(2);
    let (fed, given) = feed.finish();
    assert_eq!(fed.code(0).acknowledged(), given);
    assert_whole(&cluster, given);
}

#[test]
fn ticks_of_a_dead_node_are_answered_without_anybody_doing_anything() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::fast();
    let made = data::make(cluster.path(), 10_000);
    cluster.feed(&made.file, &[]).code(0);
    cluster.take("b").kill();
    for node in &cluster.nodes {
        eventually(&format!("{} answers exactly", node.name), SOON, || {
            let answer = run(["query", "summary", "--at", &node.address, "--json"], SOON);
            (answer.status.success() && answer.json() == made.expected).then_some(())
        });
    }
}

#[test]
fn two_of_three_killed_leave_one_that_acknowledges_nothing() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::fast();
    let made = data::make(cluster.path(), 1_000);
    cluster.feed(&made.file, &[]).code(0);
    cluster.take("b").kill();
    cluster.take("c").kill();
    // Without a majority it cannot know whether others live on and decide, so its claim runs out.
    let alone = cluster.get("a");
    eventually("a has lost its majority", SOON, || {
        (alone.status()["log"]["has_leader"] == false).then_some(())
    });
    let feed = cluster.start_feed(&made.file, &[]);
    pause(Duration::from_secs(3));
    feed.signal(Signal::INT);
    let fed = feed.wait(SOON).code(130);
    assert_eq!(fed.acknowledged(), 0);
}

#[test]
fn terms_do_not_grow_at_rest_nor_under_load() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::fast();
    let term = |node: &Host| node.status()["log"]["term"].as_u64().expect("a term");
    let before: Vec<u64> = cluster.nodes.iter().map(term).collect();
    let made = data::make(cluster.path(), 300_000);
    cluster.feed(&made.file, &[]).code(0);
    pause(Duration::from_secs(5));
    let after: Vec<u64> = cluster.nodes.iter().map(term).collect();
    assert_eq!(after, before, "nobody stood for election");
}
