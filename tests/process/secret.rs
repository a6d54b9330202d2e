//! The cluster secret as an operator meets it: files, flags, the environment, and what is refused.

use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use zepto_tests::harness::host::arguments;
use zepto_tests::harness::process::zepto_host;
use zepto_tests::harness::{
    Ended, Host, LONG, Process, SOON, Watchdog, eventually, run, skipped, system,
};

const VARIABLE: &str = "ZEPTO_CLUSTER_SECRET_FILE";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A directory with a file that holds a key.
fn secret(name: &str, key: &str, directory: &TempDir) -> String {
    let file: PathBuf = directory.path().join(name);
    fs::write(&file, format!("# {name}\n{key}\n")).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&file, mode).expect("permissions");
    file.to_string_lossy().into_owned()
}

#[track_caller]
fn status(address: &str, more: &[&str]) -> Ended {
    let arguments = ["status", "--at", address, "--json"];
    run(arguments.iter().chain(more), SOON)
}

#[test]
fn nodes_with_one_secret_form_a_cluster_and_everybody_else_is_refused_with_the_reason() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let ours = secret("ours", KEY, &directory);
    let theirs = secret("theirs", "another-key-of-32-characters-----", &directory);
    let flag = ["--secret-file", &ours];
    let a = Host::start("a", &directory.path().join("a"), &[], &flag);
    // One by the flag, one by the environment.
    let mut command = zepto_host(arguments("b", &directory.path().join("b"), &[&a.address], &[]));
    command.env(VARIABLE, &ours);
    let b = Host::serving("b", Process::spawn(command));
    eventually("both are active", SOON, || {
        let status = status(&b.address, &flag).code(0).json();
        let members = status["members"].as_array()?.clone();
        (members.iter().filter(|member| member["state"] == "ACTIVE").count() == 2).then_some(())
    });

    let joins = |name: &str, more: &[&str]| {
        run(arguments(name, &directory.path().join(name), &[&a.address], more), SOON)
    };
    let other = ["--secret-file", &theirs];
    joins("c", &other).code(1).says(&["cluster key", "is not known to this node"]);
    joins("d", &[]).code(1).says(&["this cluster has a secret", VARIABLE, "--secret-file"]);
    status(&a.address, &[]).code(1).says(&["this cluster has a secret", VARIABLE]);
    status(&a.address, &other).code(1).says(&["is not known to this node"]);
    let feed = directory.path().join("feed.csv");
    fs::write(&feed, "ts_ns,symbol,kind,price,size\n1,A,trade,1.5,2\n").expect("a file");
    let feed = feed.to_string_lossy();
    run(["feed", &feed, "--to", &a.address], SOON).code(1).says(&["this cluster has a secret"]);
    let fed = run(["feed", &feed, "--to", &a.address, "--json", "--secret-file", &ours], SOON);
    assert_eq!(fed.code(0).acknowledged(), 1);
    let mut query = zepto_host(["query", "count", "--at", &b.address, "--json"]);
    query.env(VARIABLE, &ours);
    let counted = Process::spawn(query).wait(SOON).code(0).stdout;
    assert!(counted.contains('1'), "{counted}");

    b.stop(SOON).code(0);
    let said = a.stop(SOON).code(0).says(&["peer refused", "is not known to this node"]);
    assert!(!said.stderr.contains(KEY), "a key must never be shown");
}

#[test]
fn a_file_that_is_no_secret_ends_every_command_before_anything_happens() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let short = secret("short", "hunter2-hunter2", &directory);
    let absent = directory.path().join("absent").to_string_lossy().into_owned();
    let data_dir = directory.path().join("data");
    let pipe = directory.path().join("pipe").to_string_lossy().into_owned();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    let files =
        [(&short, "15 characters"), (&absent, "absent"), (&pipe, "it is not a regular file")];
    for (file, words) in files {
        let flag = ["--secret-file", file];
        let ended = run(arguments("a", &data_dir, &[], &flag), SOON);
        let stderr = ended.code(2).says(&[words]).stderr;
        assert!(!stderr.contains("hunter2"), "what the file holds is never shown: {stderr}");
        assert!(!data_dir.exists(), "a refused start makes no directory");
        for command in [
            &["status", "--at", "127.0.0.1:1"][..],
            &["query", "count", "--at", "127.0.0.1:1"],
            &["demo", "--ticks", "1"],
        ] {
            run(command.iter().chain(&flag), SOON).code(2).says(&[words]);
        }
    }
}

#[test]
fn a_secret_makes_an_open_address_legal_and_one_that_others_may_read_is_warned_of() {
    let _watchdog = Watchdog::new(LONG);
    if system::is_over_ucx() {
        skipped("an open address, which UCX makes insecure whatever the secret");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = secret("secret", KEY, &directory);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&file, mode).expect("permissions");
    let more = ["--listen", "0.0.0.0:0", "--advertise", "localhost:0", "--secret-file", &file];
    let node = Host::start("a", &directory.path().join("a"), &[], &more);
    let ended = node.stop(SOON).code(0).says(&["read by others than its owner", "644"]);
    assert!(!ended.stderr.contains("insecure"), "{}", ended.stderr);
}

#[test]
fn the_demo_is_exact_under_a_secret_too() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let file = secret("secret", KEY, &directory);
    let size = ["--nodes", "2", "--ticks", "20000", "--symbols", "50"];
    let demo = ["demo", "--json", "--secret-file", &file];
    let proven = run(demo.iter().chain(&size), LONG).code(0).last_json();
    assert_eq!((&proven["stored"], &proven["lost"]), (&20000.into(), &0.into()));
}
