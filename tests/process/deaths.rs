//! A node dies: who notices, what queries say, what goes on without it.

use rustix::process::Signal;
use serde_json::json;
use zepto_tests::harness::{Cluster, Feeder, LONG, SOON, Watchdog, data, run, system};

#[test]
fn a_query_names_the_dead_owner_and_a_partial_answer_is_marked() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::one_copy_fast();
    let made = data::make(cluster.path(), 10_000);
    cluster.feed(&made.file, &[]).code(0);
    let dead = cluster.take("b").kill();
    assert!(!dead.stderr.contains("panicked"));
    cluster.wait_state("a", "b", "DEAD", SOON);
    cluster.wait_state("c", "b", "DEAD", SOON);
    for node in &cluster.nodes {
        let at = ["query", "summary", "--at", &node.address, "--json"];
        run(at, SOON).code(1).says(&["node \"b\"", "DEAD"]);
        let partial = run(at.iter().chain(&["--partial"]), SOON).code(0);
        let answer = partial.says(&["partial", "\"b\""]).json();
        assert_eq!(answer["partial"], json!(true));
        assert_eq!(answer["missing"][0]["node"], "b");
        let total = answer["total_ticks"].as_u64().expect("a number");
        assert!(0 < total && total < 10_000, "two of three nodes hold a part: {total}");
        let symbols = answer["symbols"].as_object().expect("symbols");
        for (name, summary) in symbols {
            assert_eq!(summary, &made.expected["symbols"][name], "what is there is whole");
        }
    }
}

#[test]
fn a_query_before_the_death_is_noticed_names_the_owner_too() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&["--copies", "1"]);
    let made = data::make(cluster.path(), 1_000);
    cluster.feed(&made.file, &[]).code(0);
    cluster.take("b").kill();
    let at = &cluster.get("a").address;
    let question = ["query", "summary", "--at", at, "--timeout", "4s"];
    run(question, SOON).code(1).says(&["node \"b\""]);
}

#[test]
fn a_stopped_owner_is_suspected_then_named() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::one_copy_fast();
    cluster.get("b").process.signal(Signal::STOP);
    cluster.wait_state("a", "b", "DEAD", SOON);
    let at = &cluster.get("c").address;
    run(["query", "summary", "--at", at], SOON).code(1).says(&["node \"b\"", "DEAD"]);
    let notices = cluster.get("a").process.stderr();
    let (suspect, dead) = (notices.find("SUSPECT"), notices.rfind("DEAD"));
    assert!(suspect.is_some() && suspect < dead, "suspected before it is dead:\n{notices}");
    cluster.get("b").process.signal(Signal::CONT);
}

#[test]
fn a_node_that_slept_through_its_death_ends_and_says_why() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::fast();
    let sleeper = cluster.take("c");
    sleeper.process.signal(Signal::STOP);
    cluster.wait_state("a", "c", "DEAD", SOON);
    sleeper.process.signal(Signal::CONT);
    sleeper.process.wait(SOON).code(1).says(&["declared DEAD", "start the node again"]);
}

#[test]
fn a_short_sleep_is_only_a_suspicion() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 1_000);
    cluster.feed(&made.file, &[]).code(0);
    cluster.get("c").process.signal(Signal::STOP);
    cluster.get("a").process.wait_for("SUSPECT", SOON);
    cluster.get("c").process.signal(Signal::CONT);
    cluster.get("a").process.wait_for("no longer SUSPECT", SOON);
    cluster.wait_balanced(3);
    assert_eq!(cluster.get("b").summary(), made.expected);
}

#[test]
fn a_node_killed_in_the_middle_of_a_feed_leaves_no_segment_and_comes_back() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::fast();
    let feed = Feeder::start(cluster.get("a"));
    let old = cluster.take("b");
    let incarnation = old.incarnation;
    old.kill();
    assert_eq!(system::segments_left(), Vec::<String>::new());
    // Its data directory is unlocked and its id is free at once, as a new incarnation.
    let new = cluster.node("b");
    assert!(new.incarnation > incarnation);
    cluster.nodes.push(new);
    cluster.wait_balanced(3);
    let (fed, _) = feed.finish();
    assert!(fed.acknowledged() > 0);
    let more = data::make(cluster.path(), 1_000);
    cluster.feed(&more.file, &[]).code(0);
}
