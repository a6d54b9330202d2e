//! The admin HTTP of real nodes, asked with bytes on a socket as any watcher would.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zepto_client::message::{Request, Response};
use zepto_core::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX};
use zepto_node::config::{Config, HeartbeatConfig, ProfileName};
use zepto_node::{Running, StartError, start};
use zepto_plugin::config::PluginConfig;
use zepto_transport::Shm;

const SOON: Duration = Duration::from_secs(30);

fn config(name: &str, dir: &tempfile::TempDir, seeds: Vec<String>) -> Config {
    Config {
        node_id: name.into(),
        listen: "127.0.0.1:0".into(),
        admin: "127.0.0.1:0".into(),
        seeds,
        data_dir: dir.path().join(name),
        heartbeat: HeartbeatConfig { profile: ProfileName::Fast },
        ..Config::default()
    }
}

/// A discovery plugin that counts something, and tells the same twice.
const TALKATIVE: &str = r#"(module
  (import "zepto_host_v1" "emit" (func $emit (param i64 i32 i32) (result i32)))
  (import "zepto_host_v1" "metric" (func $metric (param i64 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 2)
  (global $ctx (mut i64) (i64.const 0))
  (data (i32.const 1024) "ZEPTOPLG\00\01\00\00\01\00\00\00\00\00\20\00\01\00\00\00")
  (data (i32.const 2048) "\40\00\00\00\40\00\00\00\02\00\00\00\00\00\00\00\01")
  (data (i32.const 4096) "polls")
  (func (export "zp_plugin_info_v1") (result i32) (i32.const 1024))
  (func (export "zp_plugin_open_v1") (param i64 i32 i32) (result i64)
    (global.set $ctx (local.get 0)) (i64.const 1))
  (func (export "zp_plugin_event_v1") (param i64 i32 i32) (result i32)
    (drop (call $metric (global.get $ctx) (i32.const 1) (i32.const 4096) (i32.const 5)
                        (i64.const 1)))
    (drop (call $emit (global.get $ctx) (i32.const 2048) (i32.const 64)))
    (call $emit (global.get $ctx) (i32.const 2048) (i32.const 64)))
  (func (export "zp_plugin_close_v1") (param i64) (result i32) (i32.const 0))
  (func (export "zp_alloc_v1") (param i32) (result i32) (i32.const 65536))
  (func (export "zp_free_v1") (param i32 i32))
)"#;

/// A node that founds a cluster by that plugin.
async fn talkative(name: &str, dir: &tempfile::TempDir) -> Running<Shm> {
    let file = dir.path().join("talkative.wasm");
    std::fs::write(&file, wat::parse_str(TALKATIVE).expect("a module")).expect("a file");
    let mut plugin = PluginConfig::of("talkative".into(), file);
    plugin.grants = vec!["metric".parse().expect("a grant")];
    let config = Config { plugins: vec![plugin], expect: Some(1), ..config(name, dir, Vec::new()) };
    start::<Shm>(config).await.expect("starts")
}

async fn node(name: &str, dir: &tempfile::TempDir, seeds: Vec<String>) -> Running<Shm> {
    start::<Shm>(config(name, dir, seeds)).await.expect("starts")
}

/// Sends bytes and returns all that comes back.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer));
    // A reset behind the answer concerns what was not read of the request.
    drop(read.await.expect("must not hang"));
    String::from_utf8(answer).expect("text")
}

/// Status code and body of a page.
async fn get(address: SocketAddr, page: &str) -> (u16, String) {
    let request = format!("GET {page} HTTP/1.1\r\nHost: zepto\r\n\r\n");
    let answer = exchange(address, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (code(head), body.to_owned())
}

fn code(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).expect("a status line");
    code.parse().expect("a number")
}

fn admin(node: &Running<Shm>) -> SocketAddr {
    node.admin_address().expect("an admin HTTP")
}

async fn eventually(what: &str, address: SocketAddr, page: &str, holds: impl Fn(&str) -> bool) {
    for _ in 0..1500 {
        let (_, body) = get(address, page).await;
        if holds(&body) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain for: {what}");
}

/// Families of a page: name -> (type, labels of its samples).
fn families(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a name and a type");
            current = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            let twice = families.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
            assert!(twice.is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a name");
            assert_eq!(name, current, "a sample stands under its family: {line}");
            let value = line.rsplit(' ').next().expect("a value");
            assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
            let labels = line.split_once('{').map_or("", |(_, rest)| rest);
            let keys = labels.split("=\"").map(|part| part.rsplit([',', '"']).next());
            let keys: Vec<_> = keys.flatten().map(|key| key.trim_start_matches('"')).collect();
            let family = families.get_mut(name).expect("just entered");
            family.1.extend(keys[..keys.len() - 1].iter().map(|key| (*key).to_owned()));
        }
    }
    families
}

/// The table of `host/METRICS.md` in the same form.
fn table() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../METRICS.md");
    let text = std::fs::read_to_string(file).expect("the table");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_page_and_its_table_name_the_same_families() {
    let dir = tempfile::tempdir().expect("a directory");
    let keeper = talkative("a", &dir).await;
    let follower = node("b", &dir, vec![keeper.address().to_string()]).await;
    eventually("what the plugin counts", admin(&keeper), "/metrics", |page| {
        page.contains("zepto_plugin_metric{plugin=\"talkative\",name=\"polls\"} 1")
            && page.contains("zepto_plugin_calls_refused_total{")
    })
    .await;
    // The follower asks the keeper, so it has a peer, and after a while a round trip.
    eventually("a round trip", admin(&follower), "/metrics", |page| {
        page.contains("zepto_peer_rtt_last_seconds{")
    })
    .await;
    let table = table();
    let (code, page) = get(admin(&follower), "/metrics").await;
    assert_eq!(code, 200);
    assert!(page.ends_with("# EOF\n"));
    let mut seen = families(&page);
    for (name, (_, labels)) in families(&get(admin(&keeper), "/metrics").await.1) {
        seen.get_mut(&name).expect("every node has every family").1.extend(labels);
    }
    let names = |families: &BTreeMap<String, _>| families.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&seen), names(&table), "left the page, right the table");
    for (name, family) in &seen {
        assert_eq!(Some(family), table.get(name), "{name}");
    }
    follower.stop().await;
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_of_the_page_are_those_of_the_status() {
    let dir = tempfile::tempdir().expect("a directory");
    let keeper = node("a", &dir, Vec::new()).await;
    let follower = node("b", &dir, vec![keeper.address().to_string()]).await;
    eventually("two active members, and a ready one", admin(&keeper), "/metrics", |page| {
        page.contains("\nzepto_members{state=\"active\"} 2")
            && page.contains("\nzepto_node_ready 1")
    })
    .await;
    let (code, status) = get(admin(&keeper), "/status").await;
    assert_eq!(code, 200);
    let status: Value = serde_json::from_str(&status).expect("one JSON object");
    let rpc = keeper.address().to_string();
    let asked = zepto_client::ask_once(&rpc, None, &Request::Status, SOON);
    let Ok(Response::Status(over_rpc)) = asked.await else { panic!("no status") };
    let over_rpc = serde_json::to_value(&*over_rpc).expect("JSON");
    let keys = |object: &Value| -> Vec<String> {
        object.as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(keys(&status), keys(&over_rpc), "the object that `status --json` prints");
    assert_eq!((&status["name"], &status["node"]), (&over_rpc["name"], &over_rpc["node"]));

    let page = get(admin(&keeper), "/metrics").await.1;
    let value = |sample: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(sample));
        line.unwrap_or_else(|| panic!("{sample} is not there")).trim().parse().expect("a number")
    };
    assert_eq!(value("zepto_partitions "), 4096.0);
    // One of two votes, and so it leads.
    assert_eq!(value("zepto_control_log_voters "), 1.0);
    assert_eq!(value("zepto_control_log_leader "), 1.0);
    assert_eq!(value("zepto_control_log_has_leader "), 1.0);
    assert_eq!(value("zepto_node_ready "), 1.0);
    assert_eq!(value("zepto_budget_limit_bytes{budget=\"ticks\"} "), (1u64 << 30) as f64);
    assert!(value("zepto_control_log_transactions_total ") >= 1.0);
    assert!(value("zepto_rpc_requests_answered_total ") >= 1.0, "the follower asked");
    assert!(value("zepto_rpc_received_bytes_total ") > 0.0);
    eventually("heartbeats", admin(&keeper), "/metrics", |page| {
        let heard =
            page.lines().find_map(|line| line.strip_prefix("zepto_heartbeats_heard_total "));
        heard.is_some_and(|count| count != "0")
    })
    .await;
    follower.stop().await;
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_ready_once_it_is_active_and_no_more_once_it_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node("a", &dir, Vec::new()).await;
    let address = admin(&node);
    eventually("ready", address, "/readyz", |body| body == "ready\n").await;
    assert_eq!(get(address, "/healthz").await, (200, "alive\n".to_owned()));
    // Asked again and again during the stop: the answers are 200, then 503, then nobody.
    let watching = tokio::spawn(async move {
        let mut answers = Vec::new();
        while let Ok(mut stream) = TcpStream::connect(address).await {
            let request = b"GET /readyz HTTP/1.1\r\nHost: z\r\n\r\n";
            let mut answer = Vec::new();
            if stream.write_all(request).await.is_err()
                || stream.read_to_end(&mut answer).await.is_err()
                || answer.is_empty()
            {
                break;
            }
            let answer = String::from_utf8(answer).expect("text");
            answers.push((code(&answer), answer));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        answers
    });
    let report = node.stop().await;
    assert!(report.left && report.drain.is_complete(), "{report}");
    let answers = watching.await.expect("watched");
    assert!(answers.is_sorted_by_key(|(code, _)| *code), "never ready again");
    let (code, last) = answers.last().expect("an answer");
    assert!(*code == 503 && last.ends_with("this node is stopping\n"), "{last}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_join_yet_says_so_and_is_alive() {
    let dir = tempfile::tempdir().expect("a directory");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let seed = silent.local_addr().expect("bound").to_string();
    // The port must be known before the node is.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("bound");
    drop(port);
    let admin = address.to_string();
    let config = Config { admin, join_timeout_ms: 1500, ..config("a", &dir, vec![seed]) };
    let starting = tokio::spawn(start::<Shm>(config));
    while TcpStream::connect(address).await.is_err() {
        assert!(!starting.is_finished(), "it must wait for its seed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let why = "this node has not joined a cluster yet\n".to_owned();
    assert_eq!(get(address, "/readyz").await, (503, why.clone()));
    assert_eq!(get(address, "/status").await, (503, why));
    assert_eq!(get(address, "/healthz").await, (200, "alive\n".to_owned()));
    let (code, page) = get(address, "/metrics").await;
    assert_eq!(code, 200);
    assert!(page.contains("zepto_node_ready 0"), "{page}");
    let error = starting.await.expect("no panic").err().expect("nobody answers");
    assert!(matches!(error, StartError::Join(_)), "{error}");
    assert!(TcpStream::connect(address).await.is_err(), "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_page_or_no_question_gets_a_plain_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node("a", &dir, Vec::new()).await;
    let address = admin(&node);
    let (code, text) = get(address, "/").await;
    assert_eq!((code, text.as_str()), (404, "there is /metrics, /healthz, /readyz, /status\n"));
    let cases = [
        ("POST /metrics HTTP/1.1\r\nHost: z\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 405),
        ("DELETE /status HTTP/1.1\r\nHost: z\r\n\r\n".to_owned(), 405),
        ("GET /metrics HTTP/1.1\r\nHost: z\r\nContent-Length: 999999999\r\n\r\n".to_owned(), 413),
        ("GET /metrics HTTP/1.1\r\nHost: z\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 413),
        (format!("GET /{} HTTP/1.1\r\nHost: z\r\n\r\n", "x".repeat(ADMIN_HEAD_BYTES_MAX)), 431),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(ADMIN_HEAD_BYTES_MAX)), 431),
        ("this is no HTTP\r\n\r\n".to_owned(), 400),
    ];
    for (request, expected) in cases {
        let answer = exchange(address, request.as_bytes()).await;
        assert_eq!(code_of(&answer), Some(expected), "{:.60}: {answer:.200}", request);
    }
    let head = exchange(address, b"HEAD /healthz HTTP/1.1\r\nHost: z\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(get(address, "/healthz").await.0, 200, "and goes on");
    node.stop().await;
}

fn code_of(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_watchers_hold_a_bounded_number_of_places_for_a_bounded_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node("a", &dir, Vec::new()).await;
    let address = admin(&node);
    let mut silent = Vec::new();
    for _ in 0..3 * ADMIN_CONNECTIONS_MAX {
        silent.push(TcpStream::connect(address).await.expect("the kernel takes it"));
    }
    // Behind all of them in the queue, and answered once their time for a head is over.
    assert_eq!(get(address, "/healthz").await, (200, "alive\n".to_owned()));
    drop(silent);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_others_reach_needs_leave_and_a_taken_one_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = Config { admin: "0.0.0.0:0".into(), ..config("a", &dir, Vec::new()) };
    let error = start::<Shm>(open).await.err().expect("refused");
    assert!(matches!(error, StartError::InsecureAdmin(_)), "{error}");
    assert!(error.to_string().contains("--insecure-bind"), "{error}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = taken.local_addr().expect("bound").to_string();
    let taken = Config { admin: admin.clone(), ..config("a", &dir, Vec::new()) };
    let error = start::<Shm>(taken).await.err().expect("refused").to_string();
    assert!(error.contains(&admin) && error.contains("--admin"), "{error}");

    let off = Config { admin: "off".into(), ..config("a", &dir, Vec::new()) };
    let node = start::<Shm>(off).await.expect("starts");
    assert_eq!(node.admin_address(), None);
    node.stop().await;
}
