//! What three nodes answer about a file that was fed to them.

use serde_json::{Value, json};
use std::fs;
use zepto_tests::harness::process::zepto_host;
use zepto_tests::harness::{
    Cluster, Host, LONG, Process, SOON, Watchdog, data, run, skipped, system,
};

#[test]
fn three_nodes_answer_exactly_for_the_real_file() {
    let _watchdog = Watchdog::new(2 * LONG);
    let Some((file, expected)) = data::real() else { return };
    let cluster = Cluster::start(&[]);
    let account = cluster.feed(&file, &[]).code(0).last_json();
    assert_eq!((&account["sent"], &account["acked"]), (&json!(2_062_415), &json!(2_062_415)));
    for node in &cluster.nodes {
        assert_eq!(node.summary(), expected, "asked through {}", node.name);
    }
}

#[test]
fn every_question_is_answered_the_same_by_every_node() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let made = data::make(cluster.path(), 10_000);
    cluster.feed(&made.file, &[]).code(0);
    let symbol = &made.expected["symbols"]["S7"];
    for node in &cluster.nodes {
        let ask = |what: &str, more: &[&str]| -> Value {
            let question = ["query", what, "S7", "--at", &node.address, "--json"];
            run(question.iter().chain(more), SOON).code(0).json()
        };
        assert_eq!(node.summary(), made.expected);
        assert_eq!(ask("count", &[])["ticks"], symbol["ticks"]);
        assert_eq!(ask("last", &[])["tick"]["price_1e9"], symbol["last_trade_price_1e9"]);
        assert_eq!(ask("vwap", &[])["vwap_1e9_rounded_down"], symbol["vwap_1e9_rounded_down"]);
        let bars = ask("ohlcv", &["--interval", "1h"]);
        let bar = &bars["bars"][0];
        let open_and_close = (&bar["open_1e9"], &bar["close_1e9"]);
        let first_and_last = (&symbol["first_trade_price_1e9"], &symbol["last_trade_price_1e9"]);
        assert_eq!(open_and_close, first_and_last, "{bars}");
        let range = ask("range", &["--limit", "3"]);
        let rows = range["ticks"].as_array().expect("ticks").iter();
        let rows: Vec<u64> = rows.map(|tick| tick["user"][0].as_u64().expect("a row")).collect();
        assert_eq!((rows, &range["more"]), (vec![7, 57, 107], &json!(true)));
    }
}

#[test]
fn an_empty_cluster_answers_that_it_has_nothing() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    for node in &cluster.nodes {
        assert_eq!(node.summary(), json!({"total_ticks": 0, "symbols": {}}));
        let unknown = run(["query", "last", "NONE", "--at", &node.address], SOON);
        unknown.code(1).says(&["no symbol", "NONE"]);
    }
}

#[test]
fn a_malformed_line_ends_a_feed_with_file_line_and_reason() {
    let _watchdog = Watchdog::new(LONG);
    let cluster = Cluster::start(&[]);
    let file = cluster.path().join("bad.csv");
    let good = "1,A,trade,1.5,2\n";
    let cases = [
        ("1,A,trade,much,2\n", "much"),
        ("1,A,trade,1.5\n", "`1,A,trade,1.5`"),
        ("-1,A,trade,1.5,2\n", "-1"),
        ("1,A,gift,1.5,2\n", "gift"),
        ("1,A,trade,1.5,1e999\n", "1e999"),
        ("1,,trade,1.5,2\n", "symbol"),
    ];
    for (line, word) in cases {
        fs::write(&file, format!("{}{good}{good}{line}{good}", data::HEADER)).expect("a file");
        cluster.feed(&file, &[]).code(1).says(&["bad.csv:4", word]);
        let skipped = cluster.feed(&file, &["--skip-bad"]).code(0).says(&["1 ", "line 4", word]);
        let account = skipped.last_json();
        assert_eq!((&account["acked"], &account["skipped"]), (&json!(3), &json!(1)));
    }
    fs::write(&file, "symbol,price\nA,1\n").expect("a file");
    cluster.feed(&file, &[]).code(1).says(&["bad.csv", "ts_ns,symbol,kind,price,size"]);
    cluster.feed(&file, &["--skip-bad"]).code(1).says(&["bad.csv"]);
    fs::write(&file, [0x28, 0xb5, 0x2f, 0xfd, 0, 1, 2]).expect("a file");
    cluster.feed(&file, &[]).code(1).says(&["bad.csv"]);
    cluster.feed(&cluster.path().join("absent.csv"), &[]).code(1).says(&["absent.csv"]);
    cluster.feed(cluster.path(), &[]).code(1);
}

#[test]
fn names_and_ipv6_addresses_work_everywhere() {
    let _watchdog = Watchdog::new(LONG);
    let mut listens = vec!["localhost:0"];
    match std::net::UdpSocket::bind("[::1]:0") {
        Ok(_) => listens.push("[::1]:0"),
        Err(error) => skipped(&format!("IPv6, since this kernel has none ({error})")),
    }
    for listen in listens {
        let cluster = Cluster::start(&["--listen", listen]);
        let made = data::make(cluster.path(), 1_000);
        cluster.feed(&made.file, &[]).code(0);
        for node in &cluster.nodes {
            let host = listen.trim_end_matches(":0");
            let port = node.address.rsplit(':').next().expect("a port");
            let at = format!("{host}:{port}");
            let answer = run(["query", "summary", "--at", &at, "--json"], SOON).code(0).json();
            assert_eq!(answer, made.expected, "{at}");
        }
    }
}

#[test]
fn a_full_dev_shm_changes_nothing() {
    let _watchdog = Watchdog::new(LONG);
    // In a mount namespace of its own, where /dev/shm has one page and that is taken.
    let fill = "mount -t tmpfs -o size=4k none /dev/shm && head -c 4096 /dev/zero >/dev/shm/full \
                && ! head -c 1 /dev/zero >/dev/shm/more 2>/dev/null";
    let inside = |then: &str| [format!("{fill} && {then}")];
    if !system::works("unshare", &["-m", "sh", "-c", fill]) {
        skipped("a full /dev/shm, which needs root and unshare");
        return;
    }
    if system::is_over_ucx() {
        skipped("a full /dev/shm, which UCX needs");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let start = |name: &str, seeds: &[&str]| {
        let data_dir = directory.path().join(name);
        let arguments = zepto_tests::harness::host::arguments(name, &data_dir, seeds, &[]);
        let host = zepto_host(&arguments);
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-c"]).args(inside("exec \"$0\" \"$@\""));
        command.arg(host.get_program()).args(host.get_args());
        Host::serving(name, Process::spawn(command))
    };
    let a = start("a", &[]);
    let b = start("b", &[&a.address]);
    let c = start("c", &[&a.address]);
    zepto_tests::harness::cluster::wait_balanced(&a, 3);
    let made = data::make(directory.path(), 10_000);
    let feed = zepto_host(["feed", "--to", &a.address, "--json"]);
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c"]).args(inside("exec \"$0\" \"$@\""));
    command.arg(feed.get_program()).args(feed.get_args()).arg(&made.file);
    Process::spawn(command).wait(LONG).code(0);
    for node in [&a, &b, &c] {
        assert_eq!(node.summary(), made.expected);
    }
}
