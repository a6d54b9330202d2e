//! What an operator does to a running cluster, and what is refused with what to do instead.

use core::time::Duration;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use zepto_tests::harness::data::Made;
use zepto_tests::harness::process::zepto_host;
use zepto_tests::harness::{
    Cluster, Ended, Feeder, Host, LONG, Process, SOON, Watchdog, data, eventually, pause, run,
};

/// Runs a command of the operator at a node.
fn operate(at: &Host, words: &[&str]) -> Ended {
    run(words.iter().copied().chain(["--at", &at.address]), LONG)
}

/// What a node holds, as another one sees it.
#[track_caller]
fn held(at: &Host, name: &str, what: &str) -> u64 {
    at.member(name).expect("a member")[what].as_u64().expect("a number")
}

#[track_caller]
fn assert_exact(nodes: &[Host], made: &Made) {
    for node in nodes {
        eventually(&format!("{} answers exactly", node.name), SOON, || {
            let answer = run(["query", "summary", "--at", &node.address, "--json"], SOON);
            (answer.status.success() && answer.json() == made.expected).then_some(())
        });
    }
}

#[test]
fn a_drained_node_holds_nothing_and_can_be_stopped_without_loss() {
    let _watchdog = Watchdog::new(2 * LONG);
    let mut cluster = Cluster::fast();
    let made = data::make(cluster.path(), 50_000);
    cluster.feed(&made.file, &[]).code(0);
    let drained = operate(cluster.get("a"), &["drain", "c", "--timeout", "120s", "--json"]);
    let drained = drained.code(0).json();
    assert_eq!(drained["drained"], true, "{drained}");
    for what in ["partitions", "copies", "filling"] {
        assert_eq!(held(cluster.get("a"), "c", what), 0, "{what}");
    }
    assert_exact(&cluster.nodes, &made);
    // Whoever asks again is not refused, and does not wait.
    operate(cluster.get("b"), &["drain", "c"]).code(0);
    cluster.take("c").stop(SOON).code(0);
    cluster.wait_state("a", "c", "DEAD", SOON);
    assert_exact(&cluster.nodes, &made);
    operate(cluster.get("a"), &["member", "remove", "c"]).code(0);
    let members = operate(cluster.get("b"), &["member", "list", "--json"]).code(0).json();
    assert_eq!(names(&members), ["a", "b"]);
    assert_exact(&cluster.nodes, &made);
}

fn names(members: &Value) -> Vec<&str> {
    let members = members.as_array().expect("members").iter();
    members.map(|member| member["name"].as_str().expect("a name")).collect()
}

#[test]
fn a_node_drained_and_stopped_under_load_loses_and_refuses_nothing() {
    let _watchdog = Watchdog::new(2 * LONG);
    // The ordinary profile: whoever is only silent counts as dead after ten seconds.
    let mut cluster = Cluster::start(&[]);
    let feed = Feeder::start(cluster.get("a"));
    // Without a name it is the node that was asked.
    let drained = operate(cluster.get("b"), &["drain", "--timeout", "120s", "--json"]);
    let drained = drained.code(0).json();
    assert_eq!(drained["node"], "b", "{drained}");
    assert_eq!(held(cluster.get("a"), "b", "copies"), 0);
    cluster.take("b").stop(SOON).code(0);
    // It said goodbye, so nobody has to wait for its silence.
    cluster.wait_state("a", "b", "DEAD", Duration::from_secs(5));
    pause(Duration::from_secs(1));
    let (fed, given) = feed.finish();
    let account = fed.last_json();
    assert_eq!(account["refused"], serde_json::json!({}), "{account}");
    assert_eq!(fed.code(0).acknowledged(), given);
    for node in &cluster.nodes {
        let summary = node.summary();
        let symbols = summary["symbols"].as_object().expect("symbols");
        assert_eq!(symbols.len(), 50, "asked through {}", node.name);
        for (name, of) in symbols {
            let symbol: u64 = name[1..].parse().expect("S and a number");
            assert_eq!(of["ticks"], (given - symbol).div_ceil(50), "{name} at {}", node.name);
        }
    }
}

#[test]
fn a_drain_that_leaves_fewer_members_than_copies_is_refused() {
    let _watchdog = Watchdog::new(LONG);
    let directory = TempDir::new().expect("a directory");
    let a = Host::start("a", &directory.path().join("a"), &[], &[]);
    let b = Host::start("b", &directory.path().join("b"), &[&a.address], &[]);
    zepto_tests::harness::cluster::wait_balanced(&a, 2);
    operate(&b, &["drain"]).code(1).says(&["1 members for 2 copies", "add a member first"]);
    assert_eq!(a.member("b").expect("a member")["state"], "ACTIVE");
}

#[test]
fn a_drain_that_nobody_watches_any_more_goes_on_and_says_so() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let c = cluster.get("c");
    // A member that stands still takes no copy, so the drain cannot be over before it is watched.
    cluster.get("b").process.signal(Signal::STOP);
    let watched = Process::spawn(zepto_host(["drain", "--at", &c.address]));
    cluster.wait_state("a", "c", "LEAVING", SOON);
    // The answer is on its way to the one who asked.
    pause(Duration::from_secs(1));
    watched.signal(Signal::INT);
    watched.wait(SOON).code(130).says(&["the drain of c goes on"]);
    cluster.get("b").process.signal(Signal::CONT);
    eventually("c holds nothing", LONG, || {
        (held(cluster.get("a"), "c", "copies") == 0).then_some(())
    });
}

#[test]
fn a_list_of_members_says_how_the_cluster_is() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::fast();
    let leads = |node: &&Host| node.status()["leader"] == true;
    let leader = &cluster.nodes.iter().find(leads).expect("a leader").name;
    for node in &cluster.nodes {
        let text = operate(node, &["member", "list"]).code(0).stdout;
        let words = ["4,096 partitions, copies 2: 0 short of copies, 0 moving, 0 offline"];
        let last = text.lines().last().expect("a line");
        assert!(last.starts_with(words[0]), "{text}");
        assert!(last.contains(&format!("{leader} leads the log")), "{text}");
    }
}

#[test]
fn a_drain_without_waiting_returns_at_once_and_goes_on() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::fast();
    let (a, c) = (cluster.get("a"), cluster.get("c"));
    let drained = operate(a, &["drain", "b", "--no-wait", "--json"]).code(0).json();
    assert_eq!(drained["drained"], false, "{drained}");
    eventually("b holds nothing", LONG, || (held(c, "b", "copies") == 0).then_some(()));
}

#[test]
fn a_pinned_partition_goes_to_its_node_and_back() {
    let _watchdog = Watchdog::new(2 * LONG);
    let cluster = Cluster::start(&["--profile", "fast", "--partition-bits", "4"]);
    let made = data::make(cluster.path(), 1_000);
    cluster.feed(&made.file, &[]).code(0);
    let a = cluster.get("a");
    let before = held(a, "b", "partitions");
    // Fifty symbols are in more than half of sixteen partitions.
    for symbol in 0..50 {
        operate(a, &["pin", &format!("S{symbol}"), "b"]).code(0);
    }
    eventually("b has what is pinned to it", LONG, || {
        (held(a, "b", "partitions") > 8).then_some(())
    });
    assert_exact(&cluster.nodes, &made);
    // Two symbols of one partition have one pin, so some unpins find none any more.
    for symbol in 0..50 {
        operate(a, &["unpin", &format!("S{symbol}")]);
    }
    operate(a, &["unpin", "S0"]).code(1).says(&["not pinned"]);
    eventually("b has its share again", LONG, || {
        (held(a, "b", "partitions") <= before + 1).then_some(())
    });
    assert_exact(&cluster.nodes, &made);
}

#[test]
fn a_weight_changes_the_shares_and_a_zone_is_shown() {
    let _watchdog = Watchdog::new(2 * LONG);
    let cluster = Cluster::fast();
    let made = data::make(cluster.path(), 10_000);
    cluster.feed(&made.file, &[]).code(0);
    let a = cluster.get("a");
    operate(a, &["weight", "b", "200"]).code(0);
    // Half of all, where it was a third.
    eventually("b has half", LONG, || (held(a, "b", "partitions") >= 2_000).then_some(()));
    operate(a, &["zone", "b", "rack-2"]).code(0);
    eventually("everybody knows the zone", SOON, || {
        let list = operate(cluster.get("c"), &["member", "list"]).code(0).stdout;
        list.lines().any(|l| l.starts_with("b ") && l.contains("rack-2  ")).then_some(())
    });
    let status = run(["status", "--at", &a.address], SOON).code(0).stdout;
    assert!(status.contains("weight 200, zone rack-2"), "{status}");
    operate(a, &["weight", "b", "0"]).code(0);
    eventually("b owns nothing", LONG, || (held(a, "b", "partitions") == 0).then_some(()));
    assert_exact(&cluster.nodes, &made);
}

#[test]
fn lost_partitions_begin_empty_once_the_loss_is_accepted() {
    let _watchdog = Watchdog::new(2 * LONG);
    let mut cluster = Cluster::one_copy_fast();
    let made = data::make(cluster.path(), 1_000);
    cluster.feed(&made.file, &[]).code(0);
    let kept = ["a", "c"].map(|name| held(cluster.get("a"), name, "partitions"));
    cluster.take("b").kill();
    cluster.wait_state("a", "b", "DEAD", SOON);
    let a = cluster.get("a");
    let offline = a.status()["offline"].as_u64().expect("a number");
    assert_eq!(offline + kept.iter().sum::<u64>(), 4096);
    operate(a, &["member", "remove", "b"]).code(1).says(&["last copy", "recover"]);
    let count = offline.to_string();
    let words = [&count, "held last", "by b", "lost", "--accept-loss"];
    operate(a, &["recover"]).code(2).says(&words);
    assert_eq!(a.status()["offline"], offline, "nothing was done");
    operate(a, &["recover", "--partitions", "1", "--accept-loss"]).code(1).says(&["offline"]);
    let done = operate(a, &["recover", "--accept-loss", "--json"]);
    let done = done.code(0).json();
    assert_eq!((&done["recovered"], &done["held_by"]["b"]), (&offline.into(), &offline.into()));
    a.process.wait_for("DATA LOST", SOON);
    cluster.wait_balanced(2);
    operate(a, &["member", "remove", "b"]).code(0);
    // What is written from now on is there.
    let more = data::make(cluster.path(), 2_000);
    cluster.feed(&more.file, &[]).code(0);
    let left = run(["query", "count", "S0", "--at", &a.address, "--json"], SOON).code(0).json();
    assert!(left["ticks"].as_u64() >= Some(40), "{left}");
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_do() {
    let _watchdog = Watchdog::new(LONG);
    let directory = TempDir::new().expect("a directory");
    let only = Host::start("a", &directory.path().join("a"), &[], &["--copies", "1"]);
    operate(&only, &["drain", "a"]).code(1).says(&["add a member first", "just stop the node"]);
    for command in [&["drain", "x"][..], &["member", "remove", "x"], &["weight", "x", "5"]] {
        operate(&only, command).code(1).says(&["no member \"x\"", "there are a"]);
    }
    operate(&only, &["member", "remove", "a"]).code(1).says(&["not dead", "drain and stop"]);
    operate(&only, &["pin", "S1", "a"]).code(1).says(&["no symbol \"S1\"", "query summary"]);
    operate(&only, &["weight", "a", "1001"]).code(2).says(&["1001", "1000"]);
    operate(&only, &["zone", "a", "two words"]).code(1).says(&["zone", "white space"]);
    let nothing = operate(&only, &["recover", "--accept-loss"]).code(0);
    assert!(nothing.stdout.contains("nothing was done"), "{}", nothing.stdout);
    run(["drain", "a"], SOON).code(2).says(&["--at"]);
    let gone = only.address.clone();
    only.stop(SOON).code(0);
    run(["drain", "a", "--at", &gone], Duration::from_secs(60)).code(3).says(&[&gone, "running"]);
}
