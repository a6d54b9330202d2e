//! What a node refuses to start with, and how it says so. Nothing here may hang or panic.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use zepto_tests::harness::host::arguments;
use zepto_tests::harness::{Cluster, Ended, Host, LONG, SOON, Watchdog, now, run};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A node that must not start.
#[track_caller]
fn refused(data_dir: &Path, seeds: &[&str], more: &[&str]) -> Ended {
    run(arguments("a", data_dir, seeds, more), SOON)
}

/// Starts a node on a new directory and stops it again.
fn used(name: &str, data_dir: &Path) {
    Host::start(name, data_dir, &[], &[]).stop(SOON).code(0);
}

#[test]
fn a_port_in_use_is_named() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    // An address of this test's own: on the usual one, others come and go meanwhile.
    let tcp = TcpListener::bind("127.77.0.1:0").expect("a port");
    let taken = tcp.local_addr().expect("an address");
    let words = [&taken.port().to_string(), "in use", "--listen"];
    refused(directory.path(), &[], &["--listen", &taken.to_string()]).code(1).says(&words);
    let udp = std::net::UdpSocket::bind("127.77.0.1:0").expect("a port");
    let taken = udp.local_addr().expect("an address");
    let words = [&taken.port().to_string(), "in use", "udp"];
    refused(directory.path(), &[], &["--listen", &taken.to_string()]).code(1).says(&words);
}

#[test]
fn a_second_node_with_the_id_of_a_live_one_is_refused() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let other = directory();
    for name in ["a", "b"] {
        let seed = &cluster.get("c").address;
        let ended = run(arguments(name, &other.path().join(name), &[seed], &[]), SOON);
        ended.code(1).says(&[name, "in use", "--node-id"]);
    }
    cluster.wait_balanced(3);
}

#[test]
fn seeds_that_nobody_answers_at_end_the_start_in_time() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    // Nobody listens at a port that was just given back.
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let gone = gone.to_string();
    let (begun, more) = (now(), ["--join-timeout-ms", "1500"]);
    refused(directory.path(), &[&gone, "no-such-host.invalid:1"], &more).code(3).says(&[
        &gone,
        "no-such-host.invalid:1",
        "1500 ms",
        "--seed",
    ]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // A port that accepts and says nothing must not hold the start up either.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("its address").to_string();
    let begun = now();
    refused(directory.path(), &[&silent], &more).code(3).says(&[&silent]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn one_reachable_seed_of_several_is_enough() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    let first = Host::start("a", &directory.path().join("a"), &[], &[]);
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let seeds = [gone.to_string(), first.address.clone()];
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    let second = Host::start("b", &directory.path().join("b"), &seeds, &[]);
    zepto_tests::harness::cluster::wait_balanced(&second, 2);
}

#[test]
fn a_data_directory_of_another_node_is_not_taken() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    used("other", directory.path());
    let before = fs::read(directory.path().join("identity.toml")).expect("an identity");
    refused(directory.path(), &[], &[]).code(1).says(&["belongs to node", "other"]);
    let after = fs::read(directory.path().join("identity.toml")).expect("an identity");
    assert_eq!(after, before, "a refused start writes nothing");
    used("other", directory.path());
}

#[test]
fn a_data_directory_of_another_cluster_is_not_taken() {
    let _watchdog = Watchdog::new(LONG);
    let (ours, theirs) = (directory(), directory());
    let first = Host::start("x", &ours.path().join("x"), &[], &[]);
    Host::start("a", &ours.path().join("a"), &[&first.address], &[]).stop(SOON).code(0);
    let other = Host::start("y", &theirs.path().join("y"), &[], &[]);
    let ended = refused(&ours.path().join("a"), &[&other.address], &[]);
    ended.code(1).says(&["this is cluster", "you are of cluster"]);
    // Without a seed it finds its own cluster by its log, rather than found another one.
    let back = Host::start("a", &ours.path().join("a"), &[], &[]);
    assert_eq!(back.status()["cluster"], first.status()["cluster"]);
    back.stop(SOON).code(0);
    // Without its log, too.
    fs::remove_file(ours.path().join("a/control.redb")).expect("a log");
    refused(&ours.path().join("a"), &[], &[]).code(1).says(&["belongs to cluster", "--seed"]);
    Host::start("a", &ours.path().join("a"), &[&first.address], &[]).stop(SOON).code(0);
}

#[test]
fn a_data_directory_of_another_version_is_not_taken() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    used("a", directory.path());
    let file = directory.path().join("identity.toml");
    let text = fs::read_to_string(&file).expect("an identity");
    fs::write(&file, text.replace("version = 1", "version = 99")).expect("an identity");
    refused(directory.path(), &[], &[]).code(1).says(&["version 99", "version 1"]);
    fs::write(&file, "not toml at all").expect("a file");
    refused(directory.path(), &[], &[]).code(1).says(&["identity.toml", "line 1"]);
}

#[test]
fn a_directory_with_other_files_is_neither_taken_nor_emptied() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    fs::write(directory.path().join("thesis.txt"), "years of work").expect("a file");
    refused(directory.path(), &[], &[]).code(1).says(&["not a zepto data directory"]);
    let kept = fs::read_to_string(directory.path().join("thesis.txt")).expect("the file");
    assert_eq!(kept, "years of work");
    let file = directory.path().join("thesis.txt");
    refused(&file, &[], &[]).code(1).says(&["not a directory"]);
}

#[test]
fn a_data_directory_in_use_is_not_taken() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    let _first = Host::start("a", directory.path(), &[], &[]);
    refused(directory.path(), &[], &[]).code(1).says(&["in use"]);
}

#[test]
fn a_configuration_with_a_typo_names_the_key_and_the_line() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    let file = directory.path().join("zepto.toml");
    let path = file.to_string_lossy().into_owned();
    let cases: [(&str, &[&str]); 8] = [
        ("node_id = \"a\"\nlisen = \"x\"\n", &["zepto.toml", "lisen", "line 2"]),
        ("[heartbeat]\nprofil = \"fast\"\n", &["profil", "line 2"]),
        ("[heartbeat]\nprofile = \"slow\"\n", &["slow", "fast"]),
        ("memory = \"lots\"\n", &["lots"]),
        ("shards = 3\n", &["shards", "1, 2, 4, 8 or 16"]),
        ("listen = \"nowhere\"\n", &["listen", "nowhere", "host:port"]),
        ("node_id = \n", &["zepto.toml", "line 1"]),
        ("[cluster]\ncopies = 5\n", &["cluster.copies"]),
    ];
    for (text, words) in cases {
        fs::write(&file, text).expect("a file");
        let data_dir = directory.path().join("data");
        let arguments = ["run", "--config", &path, "--data-dir", &data_dir.to_string_lossy()];
        run(arguments, SOON).code(2).says(words);
        assert!(!data_dir.exists(), "a refused start makes no directory: {text}");
    }
    run(["run", "--config", "absent.toml"], SOON).code(2).says(&["absent.toml"]);
}

#[test]
fn what_there_is_not_says_so() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    refused(directory.path(), &[], &["--transport", "rdma"]).code(2).says(&["rdma"]);
    refused(directory.path(), &[], &["--plugin", "k8s.wasm"]).code(2).says(&["plugin"]);
    refused(directory.path(), &[], &["--frobnicate"]).code(2).says(&["--frobnicate"]);
}

#[test]
fn an_address_that_others_reach_needs_insecure_bind() {
    let _watchdog = Watchdog::new(LONG);
    let directory = directory();
    let open = ["--listen", "0.0.0.0:0"];
    refused(directory.path(), &[], &open).code(2).says(&["--insecure-bind"]);
    let admin = ["--admin", "0.0.0.0:0"];
    refused(directory.path(), &[], &admin).code(2).says(&["admin", "--insecure-bind"]);
    refused(directory.path(), &[], &["--admin", "9900"]).code(2).says(&["admin", "host:port"]);
    let more = ["--listen", "0.0.0.0:0", "--insecure-bind"];
    refused(directory.path(), &[], &more).code(2).says(&["--advertise"]);
    let more = ["--listen", "0.0.0.0:0", "--insecure-bind", "--advertise", "localhost:0"];
    let node = Host::start("a", directory.path(), &[], &more);
    let members = node.status()["members"].clone();
    let address = members[0]["address"].as_str().expect("an address").to_owned();
    assert!(address.starts_with("localhost:") && !address.ends_with(":0"), "{address}");
    run(["query", "summary", "--at", &address], SOON).code(0);
    node.stop(SOON).code(0).says(&["insecure"]);
    refused(directory.path(), &[], &["--listen", "192.0.2.1:0"]).code(1).says(&["192.0.2.1"]);
}
