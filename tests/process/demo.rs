//! The main job: `zepto-host demo`, with its answers, its ends and what it leaves behind.

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use zepto_tests::harness::process::zepto_host;
use zepto_tests::harness::system::{Seen, children, entries, is_running, segments_left};
use zepto_tests::harness::{Ended, LONG, Process, SOON, Watchdog, data, eventually};

/// The keys that the contract of `--json` names, in its order.
const KEYS: [&str; 16] = [
    "nodes",
    "sent",
    "acked",
    "stored",
    "lost",
    "duplicates",
    "mismatches",
    "ticks_per_s",
    "symbols",
    "seconds",
    "copies",
    "kill",
    "victim",
    "detection_ms",
    "failover_ms",
    "refilled_ms",
];

/// A demo whose temporary files all go into one directory, to be seen when it has ended.
fn demo(arguments: &[&str]) -> (Command, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = zepto_host(["demo"]);
    command.args(arguments).env("TMPDIR", directory.path());
    (command, directory)
}

#[track_caller]
fn run(arguments: &[&str]) -> Ended {
    let (command, directory) = demo(arguments);
    let ended = Process::spawn(command).wait(LONG);
    nothing_is_left(directory.path());
    ended
}

#[track_caller]
fn nothing_is_left(directory: &Path) {
    assert_eq!(entries(directory), Vec::<String>::new(), "temporary files are left");
    assert_eq!(segments_left(), Vec::<String>::new(), "shared memory is left");
}

/// A demo with its three nodes, in the midst of a feed that would take very long.
#[track_caller]
fn running() -> (Process, Vec<Seen>, TempDir) {
    let (command, directory) = demo(&["--ticks", "1000000000", "--json"]);
    let demo = Process::spawn(command);
    demo.wait_for("demo: feeding", SOON);
    demo.wait_for(" acknowledged", SOON);
    let nodes = children(demo.id());
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    (demo, nodes, directory)
}

#[track_caller]
fn assert_clean(report: &Value, ticks: u64) {
    for key in ["sent", "acked", "stored"] {
        assert_eq!(report[key], json!(ticks), "{key} in {report}");
    }
    for key in ["lost", "duplicates", "mismatches"] {
        assert_eq!(report[key], json!(0), "{key} in {report}");
    }
}

#[test]
fn the_real_file_loses_nothing_and_every_node_agrees() {
    let _watchdog = Watchdog::new(2 * LONG);
    let Some((file, expected)) = data::real() else { return };
    let file = file.to_string_lossy();
    let report = run(&["--input", &file, "--json"]).code(0).last_json();
    assert_clean(&report, 2_062_415);
    assert_eq!(report["nodes"], 3);
    let symbols = expected["symbols"].as_object().expect("symbols").len();
    assert_eq!(report["symbols"], symbols);
}

#[test]
fn the_real_dbn_files_lose_nothing_and_every_node_agrees() {
    let _watchdog = Watchdog::new(2 * LONG);
    let files = [
        ("es-trades-2024-07-01.dbn.zst", 120),
        ("es-mbp1-2024-07-01.dbn.zst", 2_288),
        ("es-mbo-2024-05-08.dbn.zst", 13_796),
    ];
    for (name, records) in files {
        let Some(file) = data::real_dbn(name) else { return };
        let report = run(&["--input", &file.to_string_lossy(), "--json"]).code(0).last_json();
        assert_clean(&report, records);
        assert_eq!((&report["nodes"], &report["symbols"]), (&json!(3), &json!(1)), "{name}");
    }
}

#[test]
fn a_dbn_file_that_is_cut_ends_the_demo_unless_its_rest_may_be_skipped() {
    let _watchdog = Watchdog::new(LONG);
    let Some(file) = data::real_dbn("es-trades-2024-07-01.dbn.zst") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let cut = directory.path().join("cut.dbn");
    let whole = zstd::decode_all(fs::File::open(file).expect("a file")).expect("zstd data");
    fs::write(&cut, &whole[..whole.len() - 1]).expect("a file");
    let cut = cut.to_string_lossy();
    run(&["--input", &cut, "--json"]).code(1).says(&["cut.dbn: record 120", "--skip-bad"]);
    let skipped = run(&["--input", &cut, "--skip-bad", "--json"]).code(0);
    let report = skipped.says(&["1 malformed records skipped", "record 120"]).last_json();
    assert_clean(&report, 119);
}

#[test]
fn the_last_line_of_json_has_the_promised_keys_and_no_others() {
    let _watchdog = Watchdog::new(LONG);
    let report = run(&["--ticks", "20000", "--symbols", "100", "--json"]).code(0).last_json();
    let keys = report.as_object().expect("an object").keys().map(String::as_str);
    let (mut keys, mut promised) = (keys.collect::<Vec<_>>(), KEYS.to_vec());
    keys.sort_unstable();
    promised.sort_unstable();
    assert_eq!(keys, promised);
    assert_clean(&report, 20_000);
    assert!(report["ticks_per_s"].as_f64() > Some(0.0), "{report}");
    assert_eq!(report["copies"], 2);
    for key in ["kill", "victim", "detection_ms", "failover_ms", "refilled_ms"] {
        assert_eq!(report[key], Value::Null, "{key} in {report}");
    }
}

/// A demo in which a node is lost and comes back.
#[track_caller]
fn assert_survives(arguments: &[&str], kill: &str, victim: &str) -> Ended {
    let more = ["--ticks", "40000", "--symbols", "300", "--json"];
    let ended = run(&[arguments, &more].concat()).code(0);
    let report = ended.last_json();
    assert_clean(&report, 40_000);
    assert_eq!((&report["kill"], &report["copies"]), (&json!(kill), &json!(2)), "{report}");
    let named = report["victim"].as_str().expect("a name");
    assert!(victim.is_empty() || named == victim, "{report}");
    for key in ["detection_ms", "failover_ms", "refilled_ms"] {
        assert!(report[key].as_u64() > Some(0), "{key} in {report}");
    }
    // Nobody can take over before the death is declared.
    assert!(report["failover_ms"].as_u64() >= report["detection_ms"].as_u64(), "{report}");
    ended
}

#[test]
fn a_demo_survives_the_death_of_a_node_and_its_return() {
    let _watchdog = Watchdog::new(LONG);
    let ended = assert_survives(&["--kill"], "sigkill", "");
    ended.says(&["killed after", "declared DEAD after", "serves again at", "lost by sigkill"]);
}

#[test]
fn a_demo_survives_a_node_that_stands_still_and_wakes_up_too_late() {
    let _watchdog = Watchdog::new(LONG);
    let ended = assert_survives(&["--kill=pause", "--victim", "node-2"], "pause", "node-2");
    ended.says(&["stopped after", "found itself declared DEAD, and ended by itself"]);
}

/// A demo in the midst of `--kill=pause`: itself, its nodes, and the one that stands still.
#[track_caller]
fn paused() -> (Process, Vec<Seen>, TempDir) {
    let (command, directory) = demo(&["--kill=pause", "--json"]);
    let demo = Process::spawn(command);
    demo.wait_for("demo: feeding", SOON);
    let nodes = children(demo.id());
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    demo.wait_for(" stopped after ", SOON);
    (demo, nodes, directory)
}

#[test]
fn a_node_that_stands_still_does_not_outlive_its_demo_either() {
    let _watchdog = Watchdog::new(LONG);
    let (demo, nodes, directory) = paused();
    demo.signal(Signal::INT);
    demo.wait(SOON).code(130);
    assert!(!nodes.iter().any(|node| is_running(node.pid)), "a node goes on without its demo");
    nothing_is_left(directory.path());
    let (demo, nodes, _directory) = paused();
    demo.signal(Signal::KILL);
    drop(demo);
    eventually("its nodes have ended", SOON, || {
        (!nodes.iter().any(|node| is_running(node.pid))).then_some(())
    });
}

#[test]
fn a_kill_that_cannot_be_survived_is_refused_before_anything_starts() {
    let _watchdog = Watchdog::new(LONG);
    let refused = |arguments: &[&str], says: &str| {
        run(arguments).code(2).says(&[says]);
    };
    refused(&["--kill", "--nodes", "2"], "at least 3 nodes");
    refused(&["--kill", "--copies", "1"], "at least 3 nodes");
    refused(&["--kill", "--victim", "node-9"], "node-9");
    refused(&["--kill", "--ticks", "1000"], "at least 12,288 rows");
    refused(&["--copies", "4"], "3 nodes cannot hold 4 copies");
}

#[test]
fn the_same_seed_feeds_the_same_ticks_and_another_seed_others() {
    let _watchdog = Watchdog::new(LONG);
    let answers = |seed: &str| {
        let ended = run(&["--ticks", "20000", "--symbols", "2000", "--seed", seed, "--json"]);
        let report = ended.code(0).last_json();
        assert_clean(&report, 20_000);
        // How many of 2,000 Zipf symbols occur depends on nothing but the feed.
        report["symbols"].clone()
    };
    let first = answers("7");
    assert_eq!(answers("7"), first);
    assert_ne!(answers("8"), first);
}

#[test]
fn a_demo_of_one_or_five_nodes_works_too() {
    let _watchdog = Watchdog::new(LONG);
    for nodes in ["1", "5"] {
        let report = run(&["--nodes", nodes, "--ticks", "20000", "--json"]).code(0).last_json();
        assert_clean(&report, 20_000);
        assert_eq!(report["nodes"].to_string(), nodes);
    }
}

#[test]
fn a_malformed_line_ends_the_demo_unless_it_may_be_skipped() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bad.csv");
    let rows = "1,A,trade,1.5,2\n1,A,trade,x,2\n2,B,bid,3,4\n";
    fs::write(&file, format!("{}{rows}", data::HEADER)).expect("a file");
    let file = file.to_string_lossy();
    run(&["--input", &file, "--json"]).code(1).says(&["bad.csv:3", "`x`"]);
    let skipped = run(&["--input", &file, "--skip-bad", "--json"]).code(0);
    let report = skipped.says(&["line 3", "`x`"]).last_json();
    assert_clean(&report, 2);
}

#[test]
fn a_demo_says_which_node_was_killed_and_fails() {
    let _watchdog = Watchdog::new(LONG);
    let (demo, nodes, directory) = running();
    let victim = &nodes[1];
    let name = victim.option("--node-id").expect("its name").to_owned();
    let pid = rustix::process::Pid::from_raw(victim.pid.cast_signed()).expect("an id");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
    demo.wait(SOON).code(1).says(&[&name, "signal"]);
    assert!(!nodes.iter().any(|node| is_running(node.pid)), "a node goes on without its demo");
    nothing_is_left(directory.path());
}

#[test]
fn ctrl_c_ends_the_demo_with_its_nodes_and_leaves_nothing() {
    let _watchdog = Watchdog::new(LONG);
    for signal in [Signal::INT, Signal::TERM] {
        let (demo, nodes, directory) = running();
        demo.signal(signal);
        demo.wait(SOON).code(130);
        assert!(!nodes.iter().any(|node| is_running(node.pid)), "a node goes on without its demo");
        nothing_is_left(directory.path());
    }
}

#[test]
fn nodes_end_when_their_demo_is_killed() {
    let _watchdog = Watchdog::new(LONG);
    let (demo, nodes, _directory) = running();
    demo.signal(Signal::KILL);
    drop(demo);
    eventually("its nodes have ended", SOON, || {
        (!nodes.iter().any(|node| is_running(node.pid))).then_some(())
    });
    assert_eq!(segments_left(), Vec::<String>::new());
}
