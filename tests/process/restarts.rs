//! A node stops or dies and starts again on its data directory.

use zepto_tests::harness::{Cluster, Host, LONG, SOON, Watchdog, data, eventually};

#[test]
fn the_only_copy_comes_back_as_a_new_incarnation_that_is_empty_and_takes_ticks() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::one_copy_fast();
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
fn the_founder_comes_back_and_the_cluster_goes_on_meanwhile() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::fast();
    let made = data::make(cluster.path(), 10_000);
    cluster.feed(&made.file, &[]).code(0);
    let founder = cluster.take("a");
    let cluster_id = founder.status()["cluster"].clone();
    founder.kill();
    // New names are decisions of the log: they show that the others decide without it.
    let file = cluster.path().join("new.csv");
    let text = format!("{}1,new-name,trade,1,1\n", data::HEADER);
    std::fs::write(&file, text).expect("a file");
    cluster.feed(&file, &[]).code(0);
    let back = cluster.node("a");
    assert_eq!(back.status()["cluster"], cluster_id);
    cluster.nodes.insert(0, back);
    cluster.wait_balanced(3);
    cluster.feed(&made.file, &[]).code(0);
    for node in &cluster.nodes {
        assert_eq!(node.ticks(), 20_001, "asked through {}", node.name);
    }
}

#[test]
fn all_nodes_killed_come_back_with_the_cluster_but_not_the_ticks_and_say_so() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::fast();
    let made = data::make(cluster.path(), 1_000);
    cluster.feed(&made.file, &[]).code(0);
    let cluster_id = cluster.get("a").status()["cluster"].clone();
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.address.clone()).collect();
    cluster.nodes.drain(..).for_each(|node| drop(node.kill()));
    // They find each other where they were; each starts before the others do.
    let starts = ["a", "b", "c"].into_iter().zip(&addresses);
    let starting: Vec<_> = starts
        .map(|(name, address)| {
            let more = ["--profile", "fast", "--listen", address.as_str()];
            (name, Host::spawn(name, &cluster.data_dir(name), &[], &more))
        })
        .collect();
    for (name, process) in starting {
        cluster.nodes.push(Host::serving(name, process));
    }
    cluster.wait_balanced(3);
    assert_eq!(cluster.get("c").status()["cluster"], cluster_id);
    let lost = cluster.nodes.iter().any(|node| node.process.stderr().contains("DATA LOST"));
    assert!(lost, "what only memory held is missed aloud");
    cluster.feed(&made.file, &[]).code(0);
    assert_eq!(cluster.get("b").summary(), made.expected);
}

#[test]
fn a_node_that_is_asked_to_stop_leaves_its_ticks_behind_and_may_come_back() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 1_000);
    cluster.feed(&made.file, &[]).code(0);
    cluster.take("c").stop(SOON).code(0).says(&["left the cluster"]);
    // It said goodbye, so nobody has to wait for its death to be noticed.
    cluster.wait_state("a", "c", "DEAD", SOON);
    assert_eq!(cluster.get("b").summary(), made.expected);
    let back = cluster.node("c");
    cluster.nodes.push(back);
    cluster.wait_balanced(3);
    assert_eq!(cluster.get("c").summary(), made.expected);
}

#[test]
fn a_node_ends_when_its_standard_input_does() {
    let _watchdog = Watchdog::new(LONG);
    let mut cluster = Cluster::start(&[]);
    let mut node = cluster.take("c");
    node.process.close_stdin();
    node.process.wait(SOON).code(0);
}
