//! Nodes over UCX: the same work, the same answers, the same deaths.
//!
//! All other tests here run over UCX, too, with `ZEPTO_TRANSPORT=ucx`: see `tests/ucx.sh`.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zepto_tests::harness::cluster::wait_balanced;
use zepto_tests::harness::host::{Host, arguments};
use zepto_tests::harness::process::zepto_host;
use zepto_tests::harness::{Feeder, LONG, Process, SOON, Watchdog, data, run};

/// What UCX may use: shared memory alone, TCP alone, and both.
const LANES: [&str; 3] = ["shm", "tcp", "tcp,shm"];

#[track_caller]
fn demo(lanes: &str, more: &[&str]) -> Value {
    let mut command = zepto_host(["demo", "--transport", "ucx", "--json"]);
    command.args(more).env("UCX_TLS", lanes);
    let ended = Process::spawn(command).wait(LONG).code(0);
    let report: Value = ended.stdout.trim().parse().expect("one JSON object");
    for key in ["lost", "duplicates", "mismatches"] {
        assert_eq!(report[key], json!(0), "{key} over {lanes}: {report}");
    }
    assert_eq!(report["acked"], report["stored"], "over {lanes}: {report}");
    report
}

#[test]
fn the_demo_loses_nothing_over_any_lanes() {
    let _watchdog = Watchdog::new(LANES.len() as u32 * LONG);
    for lanes in LANES {
        assert_eq!(demo(lanes, &["--ticks", "300000"])["acked"], json!(300_000), "over {lanes}");
    }
}

#[test]
fn a_node_killed_over_any_lanes_costs_nothing() {
    let _watchdog = Watchdog::new(LANES.len() as u32 * LONG);
    for lanes in LANES {
        let report = demo(lanes, &["--kill"]);
        assert!(report["failover_ms"].is_number(), "over {lanes}: {report}");
    }
}

#[test]
fn status_says_what_ucx_is_and_does() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    // A name of loopback that does not look like one.
    let more = ["--transport", "ucx", "--copies", "1", "--listen", "127.1:0"];
    let mut command = zepto_host(arguments("a", directory.path(), &[], &more));
    command.env("UCX_TLS", "tcp");
    let node = Host::serving("a", Process::spawn(command));
    let status = Process::spawn(zepto_host(["status", "--at", &node.address])).wait(SOON).code(0);
    for text in ["over ucx", "UCX 1.", "UCX_TLS=tcp", "network devices: lo", "hooks: none"] {
        assert!(status.stdout.contains(text), "{text:?} in {}", status.stdout);
    }
}

/// A node over these lanes, of a cluster with two copies.
#[track_caller]
fn start(name: &str, lanes: &str, directory: &Path, seeds: &[&str]) -> Host {
    let more = ["--transport", "ucx", "--copies", "2"];
    let mut command = zepto_host(arguments(name, &directory.join(name), seeds, &more));
    command.env("UCX_TLS", lanes);
    Host::serving(name, Process::spawn(command))
}

/// What is fed through one is acknowledged with two copies, and both answer exactly.
#[track_caller]
fn keep_copies(nodes: [&Host; 2], through: &Host) {
    wait_balanced(nodes[0], 2);
    let directory = tempfile::tempdir().expect("a directory");
    let made = data::make(directory.path(), 10_000);
    let file = made.file.to_string_lossy().into_owned();
    run(["feed", "--to", &through.address, &file], LONG).code(0);
    for node in nodes {
        assert_eq!(node.summary(), made.expected);
    }
}

/// How many ends of lanes go by mapped memory and by message.
#[track_caller]
fn ends_of_lanes(node: &Host) -> [u32; 2] {
    let asked = Process::spawn(zepto_host(["status", "--at", &node.address]));
    let status = asked.wait(SOON).code(0).stdout;
    let (_, line) = status.split_once("ends of lanes: ").expect("its ends");
    let line = line.lines().next().unwrap_or_default();
    let numbers = line.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u32> = numbers.filter_map(|number| number.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("two numbers: {status}"))
}

/// Nodes change over one after the other, so for a while both kinds have to get on.
#[test]
fn nodes_over_ucx_and_over_shared_memory_keep_each_others_copies() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let start = |name: &str, transport: &str, seeds: &[&str]| {
        let more = ["--transport", transport, "--copies", "2"];
        Host::start(name, &directory.path().join(name), seeds, &more)
    };
    let old = start("a", "shm", &[]);
    let new = start("b", "ucx", &[&old.address]);
    keep_copies([&old, &new], &new);
}

/// The way that is taken is the one that was chosen: not RPC, which would do as well.
#[test]
fn copies_go_by_the_way_that_ucx_was_given() {
    let _watchdog = Watchdog::new(LANES.len() as u32 * LONG);
    for lanes in LANES {
        let directory = tempfile::tempdir().expect("a directory");
        let a = start("a", lanes, directory.path(), &[]);
        let b = start("b", lanes, directory.path(), &[&a.address]);
        keep_copies([&a, &b], &b);
        for node in [&a, &b] {
            let said = node.process.stderr();
            assert!(!said.contains("it goes over RPC"), "over {lanes}: {said}");
            let [mapped, carried] = ends_of_lanes(node);
            let (way, other) = if lanes == "tcp" { (carried, mapped) } else { (mapped, carried) };
            assert!(way > 0 && other == 0, "over {lanes}: {mapped} mapped, {carried} by message");
        }
    }
}

#[test]
fn memory_is_mapped_only_where_both_ends_may() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let a = start("a", "tcp", directory.path(), &[]);
    let b = start("b", "tcp,shm", directory.path(), &[&a.address]);
    keep_copies([&a, &b], &b);
    for node in [&a, &b] {
        let [mapped, carried] = ends_of_lanes(node);
        assert!(mapped == 0 && carried > 0, "{mapped} mapped, {carried} by message");
    }
}

/// As when a network device was not up yet when one of them started. Nothing remains of a lane that
/// was tried: also not where one node reaches the other and not the other way round.
#[test]
fn nodes_that_ucx_cannot_bring_together_keep_each_others_copies_nevertheless() {
    let _watchdog = Watchdog::new(2 * LONG);
    for lanes in ["tcp", "tcp,shm"] {
        let directory = tempfile::tempdir().expect("a directory");
        let a = start("a", lanes, directory.path(), &[]);
        let b = start("b", "shm", directory.path(), &[&a.address]);
        keep_copies([&a, &b], &a);
        let said = [a.process.stderr(), b.process.stderr()].concat();
        assert!(said.contains("it goes over RPC"), "{said}");
        if lanes != "tcp" {
            b.process.wait_for("its sender did not open it in time", LONG);
        }
    }
}

#[test]
fn a_producer_beside_a_node_over_ucx_shares_memory_with_it() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let more = ["--transport", "ucx", "--copies", "1"];
    let node = Host::start("a", &directory.path().join("a"), &[], &more);
    let maps = || {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", node.process.id()));
        maps.expect("it runs").contains("memfd:zepto-lane")
    };
    assert!(!maps(), "nobody feeds yet");
    let feeder = Feeder::start(&node);
    assert!(maps(), "the feed's lane is shared");
    let (ended, _) = feeder.finish();
    ended.code(0);
}

#[test]
fn what_cannot_be_is_one_clear_line() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let more = ["--transport", "ucx", "--ucx-library", "libucp-of-nowhere.so.0"];
    let command = zepto_host(arguments("a", directory.path(), &[], &more));
    let ended = Process::spawn(command).wait(SOON).code(1);
    assert!(ended.stderr.contains("libucx0"), "{}", ended.stderr);
    let elsewhere = tempfile::tempdir().expect("a directory");
    let secret = elsewhere.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").expect("it is written");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&secret, private).expect("it is ours");
    let secret = secret.to_string_lossy();
    let open = ["--listen", "0.0.0.0:0", "--advertise", "127.0.0.1:0", "--secret-file", &*secret];
    let more = [&["--transport", "ucx"][..], &open].concat();
    let command = zepto_host(arguments("a", directory.path(), &[], &more));
    Process::spawn(command).wait(SOON).code(2).says(&["neither authenticates", "--insecure-bind"]);
    let more = ["--transport", "infiniband"];
    let command = zepto_host(arguments("a", directory.path(), &[], &more));
    Process::spawn(command).wait(SOON).code(2).says(&["shm and ucx"]);
}
