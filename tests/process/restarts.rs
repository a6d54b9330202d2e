//! A node stops or dies and starts again on its data directory.

use zepto_tests::harness::{Cluster, LONG, SOON, Watchdog, data, eventually, run};

#[test]
fn a_follower_comes_back_as_a_new_incarnation_that_is_empty_and_takes_ticks() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::fast();
    let made = data::make(cluster.path(), 10_000);
    cluster.feed(&made.file, &[]).code(0);
    let old = cluster.take("b");
    let (address, incarnation) = (old.address.clone(), old.incarnation);
    let held = old.status()["store"]["rows"].as_u64().expect("a number");
    assert!(held > 0);
    old.kill();
    let new = cluster.node("b");
    assert!(new.incarnation > incarnation && new.address != address);
    cluster.nodes.push(new);
    cluster.wait_balanced(3);
    // With one copy, what it had is gone, and that is never silent.
    cluster.get("a").process.wait_for("DATA LOST", SOON);
    let left = eventually("the others' ticks are still answered", SOON, || {
        let ticks = cluster.get("c").ticks();
        (ticks == 10_000 - held).then_some(ticks)
    });
    cluster.feed(&made.file, &[]).code(0);
    for node in &cluster.nodes {
        assert_eq!(node.ticks(), left + 10_000, "asked through {}", node.name);
    }
}

#[test]
fn the_node_with_the_log_comes_back_and_the_cluster_goes_on() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 10_000);
    cluster.feed(&made.file, &[]).code(0);
    let first = cluster.take("a");
    let (cluster_id, port) = (first.status()["cluster"].clone(), first.address.clone());
    first.kill();
    // The others know the log's address, so it comes back where it was.
    let more = ["--listen", port.as_str()];
    let back = zepto_tests::harness::Host::start("a", &cluster.data_dir("a"), &[], &more);
    assert_eq!(back.status()["cluster"], cluster_id);
    cluster.nodes.insert(0, back);
    cluster.wait_balanced(3);
    let before = cluster.get("a").ticks();
    assert!(before < 10_000, "with one copy, what the log's node held is gone");
    // New names are decisions of the log: they show that it decides again.
    let file = cluster.path().join("new.csv");
    let text = format!("{}1,new-name,trade,1,1\n", data::HEADER);
    std::fs::write(&file, text).expect("a file");
    cluster.feed(&file, &[]).code(0);
    cluster.feed(&made.file, &[]).code(0);
    for node in &cluster.nodes {
        assert_eq!(node.ticks(), before + 10_001, "asked through {}", node.name);
    }
}

#[test]
fn a_node_that_is_asked_to_stop_leaves_and_may_come_back() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&[]);
    cluster.take("c").stop(SOON).code(0).says(&["left the cluster"]);
    // It said goodbye, so nobody has to wait for its death to be noticed.
    cluster.wait_state("a", "c", "DEAD", SOON);
    let back = cluster.node("c");
    cluster.nodes.push(back);
    cluster.wait_balanced(3);
    let made = data::make(cluster.path(), 1_000);
    cluster.feed(&made.file, &[]).code(0);
    assert_eq!(cluster.get("c").summary(), made.expected);
}

#[test]
fn a_node_that_leaves_with_the_only_copy_is_missed_aloud() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 10_000);
    cluster.feed(&made.file, &[]).code(0);
    cluster.take("c").stop(SOON).code(0);
    cluster.wait_state("b", "c", "DEAD", SOON);
    let question = ["query", "summary", "--at", &cluster.get("b").address];
    run(question, SOON).code(1).says(&["node \"c\"", "DEAD"]);
    let back = cluster.node("c");
    cluster.nodes.push(back);
    cluster.wait_balanced(3);
    cluster.get("a").process.wait_for("DATA LOST", SOON);
    let left = cluster.get("b").ticks();
    assert!(0 < left && left < 10_000, "what the others hold is there: {left}");
}

#[test]
fn a_node_ends_when_its_standard_input_does() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&[]);
    let mut node = cluster.take("c");
    node.process.close_stdin();
    node.process.wait(SOON).code(0);
}
