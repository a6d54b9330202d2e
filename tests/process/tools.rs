//! The command line itself: help, completions, configuration, commands that reach nobody.

use std::fs;
use std::net::TcpListener;
use zepto_tests::harness::{Host, LONG, Process, SOON, Watchdog, run};

const COMMANDS: [&str; 13] = [
    "run",
    "demo",
    "feed",
    "query",
    "status",
    "drain",
    "member",
    "pin",
    "unpin",
    "weight",
    "zone",
    "recover",
    "completions",
];

#[test]
fn every_command_explains_itself() {
    let _watchdog = Watchdog::new(LONG);
    let help = run(["--help"], SOON).code(0).stdout;
    for command in COMMANDS {
        assert!(help.contains(command), "{command} is not in the help:\n{help}");
        let help = run([command, "--help"], SOON).code(0).stdout;
        assert!(help.contains("Usage:") && help.lines().count() > 5, "{command}:\n{help}");
    }
    let version = run(["--version"], SOON).code(0).stdout;
    assert!(version.starts_with("zepto-host "), "{version}");
}

#[test]
fn completions_exist_for_every_common_shell() {
    let _watchdog = Watchdog::new(LONG);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(["completions", shell], SOON).code(0).stdout;
        assert!(script.contains("zepto-host") && script.contains("node-id"), "{shell}");
    }
    run(["completions", "tcsh-of-1983"], SOON).code(2);
}

#[test]
fn a_printed_configuration_is_accepted_and_printed_again_equal() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data").to_string_lossy().into_owned();
    let flags = ["--node-id", "n1", "--listen", "127.0.0.1:0", "--memory", "64MiB"];
    let flags = flags.iter().chain(&["--seed", "localhost:1", "--seed", "localhost:2"]);
    let arguments = ["run", "--data-dir", &data_dir];
    let arguments = arguments.iter().chain(flags).chain(&["--profile", "fast", "--print-config"]);
    let printed = run(arguments, SOON).code(0).stdout;
    for words in ["n1", "64MiB", "localhost:2", "fast"] {
        assert!(printed.contains(words), "{words} is not in force:\n{printed}");
    }
    let file = directory.path().join("zepto.toml");
    fs::write(&file, &printed).expect("a file");
    let file = file.to_string_lossy();
    let again = run(["run", "--config", &file, "--print-config"], SOON).code(0).stdout;
    assert_eq!(again, printed);
    // A flag wins over the file.
    let arguments = ["run", "--config", &file, "--node-id", "n2", "--print-config"];
    assert!(run(arguments, SOON).code(0).stdout.contains("node_id = \"n2\""));
}

#[test]
fn a_configuration_file_starts_a_node() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("zepto.toml");
    let data_dir = directory.path().join("data");
    let text = format!(
        "node_id = \"from-file\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n",
        data_dir.display()
    );
    fs::write(&file, text).expect("a file");
    let mut command = zepto_tests::harness::process::zepto_host(["--config"]);
    command.arg(&file).args(["--announce", "--exit-with-stdin"]);
    let node = Host::serving("from-file", Process::spawn(command));
    assert_eq!(node.status()["name"], "from-file");
    node.stop(SOON).code(0);
}

#[test]
fn commands_that_reach_nobody_say_so_with_their_own_code() {
    let _watchdog = Watchdog::new(LONG);
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let gone = gone.to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let made = zepto_tests::harness::data::make(directory.path(), 100);
    let file = made.file.to_string_lossy();
    run(["status", "--at", &gone], SOON).code(3).says(&[&gone]);
    run(["query", "summary", "--at", &gone], SOON).code(3).says(&[&gone]);
    run(["feed", &file, "--to", &gone], SOON).code(3).says(&[&gone]);
    run(["status", "--at", "no-such-host.invalid:1"], SOON).code(3).says(&["no-such-host"]);
    run(["status", "--at", "nonsense"], SOON).code(3).says(&["nonsense"]);
    run(["query", "median", "A", "--at", &gone], SOON).code(2).says(&["median"]);
    run(["query", "last", "--at", &gone], SOON).code(2).says(&["symbol"]);
}

#[test]
fn a_port_that_speaks_something_else_is_no_cluster() {
    let _watchdog = Watchdog::new(LONG);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = other.local_addr().expect("its address").to_string();
    let server = std::thread::Builder::new().spawn(move || {
        use std::io::Write;
        while let Ok((mut stream, _)) = other.accept() {
            // Whoever asked may have gone by now.
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    drop(server.expect("a thread"));
    let status = run(["status", "--at", &at], SOON);
    assert!(matches!(status.status.code(), Some(1 | 3)), "{status:?}");
    status.says(&[&at]);
}
