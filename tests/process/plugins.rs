//! Plugins of a node, as its operator meets them: discovery that forms a cluster, a bad one beside
//! good ticks, new versions, and what is refused.

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use zepto_tests::harness::{
    Cluster, Host, LONG, SOON, Watchdog, cluster, data, eventually, run, skipped, system,
};

/// A migration strategy that sets a timer when it starts and never returns from it.
const ENDLESS: &str = r#"(module
  (import "zepto_host_v1" "timer" (func $timer (param i64 i64 i64 i64) (result i32)))
  (memory (export "memory") 2)
  (global $ctx (mut i64) (i64.const 0))
  (data (i32.const 1024) "ZEPTOPLG\00\01\00\00\01\00\00\00\00\00\20\00\02\00\00\00")
  (func (export "zp_plugin_info_v1") (result i32) (i32.const 1024))
  (func (export "zp_plugin_open_v1") (param i64 i32 i32) (result i64)
    (global.set $ctx (local.get 0)) (i64.const 1))
  (func (export "zp_plugin_event_v1") (param i64 i32 i32) (result i32)
    (if (i32.eq (i32.load offset=8 (local.get 1)) (i32.const 0x100))
      (then (return (call $timer (global.get $ctx) (i64.const 1) (i64.const 10000000)
                                 (i64.const 0)))))
    (if (i32.eq (i32.load offset=8 (local.get 1)) (i32.const 0x110)) (then (loop $l (br $l))))
    (i32.const -2))
  (func (export "zp_plugin_close_v1") (param i64) (result i32) (i32.const 0))
  (func (export "zp_alloc_v1") (param i32) (result i32) (i32.const 65536))
  (func (export "zp_free_v1") (param i32 i32))
)"#;

/// Ports that nobody uses now, for TCP and UDP.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = tcp.local_addr().expect("an address").port();
            // Gossip is a thousand above.
            let [udp, gossip] =
                [port, port.saturating_add(1000)].map(|p| UdpSocket::bind(("127.0.0.1", p)));
            if udp.is_ok() && gossip.is_ok() && port < 64_000 {
                break (tcp, port);
            }
        }
    });
    held.map(|(_, port)| port)
}

/// Starts nodes at the same time, and waits until they are one cluster.
#[track_caller]
fn form(directory: &Path, ports: &[u16], more: impl Fn(usize) -> Vec<String>) -> Vec<Host> {
    let starting: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(i, port)| {
            let name = format!("n{i}");
            let listen = format!("127.0.0.1:{port}");
            let own = more(i);
            let mut arguments = vec!["--listen", &listen, "--profile", "fast"];
            arguments.extend(own.iter().map(String::as_str));
            let process = Host::spawn(&name, &directory.join(&name), &[], &arguments);
            (name, process)
        })
        .collect();
    let nodes: Vec<Host> =
        starting.into_iter().map(|(name, process)| Host::serving(&name, process)).collect();
    for node in &nodes {
        cluster::wait_balanced(node, ports.len());
    }
    let clusters: Vec<Value> = nodes.iter().map(|node| node.status()["cluster"].clone()).collect();
    assert!(clusters.iter().all(|cluster| *cluster == clusters[0]), "{clusters:?}");
    nodes
}

fn plugin(node: &Host) -> Value {
    node.status()["plugins"][0].clone()
}

fn write(path: &Path, bytes: &[u8]) -> PathBuf {
    fs::write(path, bytes).expect("a file");
    path.to_owned()
}

/// The stock module for static discovery, with a section that says nothing behind it: another file
/// that does the same.
fn static_module(note: u8) -> Vec<u8> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let mut bytes = fs::read(top.join("plugins/static/static.wasm")).expect("the stock module");
    bytes.extend([0, 3, 1, b'n', note]);
    bytes
}

#[test]
fn nodes_that_start_at_once_and_know_each_other_by_discovery_found_one_cluster() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let ports = free_ports::<3>();
    let all = ports.iter().enumerate();
    let all =
        all.map(|(i, port)| json!({"id": format!("n{i}"), "address": format!("127.0.0.1:{port}")}));
    let config = format!("static={}", json!({"nodes": all.collect::<Vec<_>>()}));
    let arguments = |_| {
        ["--plugin", "static.wasm", "--plugin-config", &config, "--expect", "3"]
            .map(str::to_owned)
            .into()
    };
    let nodes = form(directory.path(), &ports, arguments);
    for node in &nodes {
        assert_eq!(plugin(node)["nodes"], 2, "itself apart");
        assert_eq!(plugin(node)["state"], "running");
    }
    // Who comes back finds the others again, with whatever discovery says.
    let mut nodes = nodes;
    let gone = nodes.remove(0);
    gone.kill();
    let listen = format!("127.0.0.1:{}", ports[0]);
    let mut more = vec!["--listen", listen.as_str(), "--profile", "fast"];
    let own: Vec<String> = arguments(0);
    more.extend(own.iter().map(String::as_str));
    let back = Host::start("n0", &directory.path().join("n0"), &[], &more);
    cluster::wait_balanced(&back, 3);
    assert_eq!(back.status()["cluster"], nodes[0].status()["cluster"]);
}

/// Builds a native plugin as plugins/README.md says.
fn native(directory: &Path, compiler: &str, source: &str) -> Option<String> {
    if !system::works(compiler, &["--version"]) {
        skipped(&format!("native plugins by {compiler}, which is not here"));
        return None;
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let file = directory.join(format!("{source}-{}.so", compiler.replace('+', "p")));
    let mut command = Command::new(compiler);
    command.args(["-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]);
    command.arg(if source.ends_with(".cpp") { "-std=c++17" } else { "-std=c11" });
    command.arg("-I").arg(top.join("include")).arg("-Wl,-z,nodelete").arg("-o").arg(&file);
    let output = command.arg(top.join("c-examples").join(source)).output().expect("a compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(file.display().to_string())
}

#[test]
fn the_examples_in_c_and_cpp_are_discovery_of_real_nodes() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    for (c, cpp) in [("cc", "c++"), ("clang", "clang++")] {
        let Some(list) = native(directory.path(), cpp, "discovery_plugin.cpp") else { continue };
        let Some(two) = native(directory.path(), c, "discovery_plugin.c") else { continue };
        let ports = free_ports::<2>();
        let all = ports.iter().enumerate().map(|(i, port)| format!("n{i}=127.0.0.1:{port}"));
        let config = format!("list={}", json!(all.collect::<Vec<_>>().join(" ")));
        let own = format!("list={list}");
        let arguments = |_| {
            let of_cluster = ["--expect", "2", "--copies", "1", "--allow-native"];
            let of_plugin = ["--plugin", own.as_str(), "--plugin-config", config.as_str()];
            of_cluster.iter().chain(&of_plugin).map(|argument| (*argument).to_owned()).collect()
        };
        let nodes = form(&directory.path().join(cpp), &ports, arguments);
        assert!(nodes.iter().all(|node| plugin(node)["nodes"] == 1), "itself apart");
        // The other one always says the same two, and they are not there.
        let two = format!("two={two}");
        let more = ["--profile", "fast", "--allow-native", "--plugin", two.as_str()];
        let third = directory.path().join(c);
        let third = Host::start("third", &third, &[nodes[0].address.as_str()], &more);
        eventually("it knows two", SOON, || (plugin(&third)["nodes"] == 2).then_some(()));
        assert_eq!(plugin(&third)["state"], "running");
    }
}

#[test]
fn gossip_needs_nothing_but_a_seed() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let ports = free_ports::<3>();
    let seed = format!("127.0.0.1:{}", ports[0]);
    let nodes = form(directory.path(), &ports, |i| {
        let mut arguments = vec!["--plugin".to_owned(), "gossip.wasm".to_owned()];
        if i > 0 {
            arguments.extend(["--seed".to_owned(), seed.clone()]);
        }
        arguments
    });
    for node in &nodes {
        eventually(&format!("{} knows both others", node.name), SOON, || {
            (plugin(node)["nodes"] == 2).then_some(())
        });
    }
}

#[test]
fn a_plugin_that_never_returns_takes_nothing_from_the_ticks() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let path =
        write(&directory.path().join("endless.wasm"), &wat::parse_str(ENDLESS).expect("a module"));
    let path = path.to_string_lossy().into_owned();
    let policy = "endless=max=100000/10m;backoff=1ms..1ms";
    let cluster = Cluster::start(&["--plugin", &path, "--on-failure", policy]);
    let made = data::make(cluster.path(), 300_000);
    let fed = cluster.feed(&made.file, &[]).code(0);
    assert_eq!(fed.acknowledged(), 300_000);
    for node in &cluster.nodes {
        let seen = plugin(node);
        assert!(seen["faults"].as_u64() > Some(3), "{seen}");
        assert!(seen["last_error"].as_str().is_some_and(|e| e.contains("interrupt")), "{seen}");
        assert_eq!(node.summary(), made.expected);
    }
}

#[test]
fn a_new_version_is_taken_by_command_and_by_signal_and_a_bad_one_changes_nothing() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let file = write(&directory.path().join("own.wasm"), &static_module(1));
    let path = file.to_string_lossy().into_owned();
    let more = ["--plugin", path.as_str(), "--copies", "1"];
    let node = Host::start("a", &directory.path().join("a"), &[], &more);
    let listed = run(["plugin", "list", "--at", &node.address], SOON).code(0);
    assert!(
        listed.stdout.contains("own") && listed.stdout.contains("running"),
        "{}",
        listed.stdout
    );
    let first = plugin(&node)["sha256"].clone();

    let reload = |file: &Path| {
        let file = file.to_string_lossy().into_owned();
        run(["plugin", "reload", "own", &file, "--at", &node.address], SOON)
    };
    let bad = write(&directory.path().join("bad.wasm"), &static_module(1)[..5000]);
    reload(&bad).code(1).says(&["ZP-LOAD-002"]);
    reload(&bad).code(1).says(&["quarantine"]);
    reload(&directory.path().join("none.wasm")).code(1).says(&["No such file"]);
    assert_eq!(plugin(&node)["sha256"], first);
    let other = write(&directory.path().join("other.wasm"), &static_module(2));
    reload(&other).code(0);
    assert_ne!(plugin(&node)["sha256"], first);
    assert_eq!(plugin(&node)["state"], "probation");
    run(["plugin", "reload", "no", &path, "--at", &node.address], SOON).code(1).says(&["own"]);

    // The file that was taken last is the one that is read again.
    write(&other, &static_module(3));
    node.process.signal(Signal::HUP);
    let second = plugin(&node)["sha256"].clone();
    eventually("the file is read again", SOON, || {
        let seen = plugin(&node)["sha256"].clone();
        (seen != second && seen != first).then_some(())
    });
    run(["member", "confirm", "--at", &node.address], SOON).code(0);
    node.stop(SOON).code(0);
}

#[test]
fn another_configuration_is_read_by_signal_and_a_wrong_one_changes_nothing() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("zepto.toml");
    let configure = |text: &str| {
        let text = format!("[[plugins]]\nfile = \"static.wasm\"\n{text}");
        fs::write(&file, text).expect("a file");
    };
    let member = |id: &str, port| format!("{{ id = \"{id}\", address = \"127.0.0.1:{port}\" }}");
    configure(&format!("config = {{ nodes = [{}] }}", member("a", 1)));
    let path = file.to_string_lossy().into_owned();
    let more = ["--config", path.as_str(), "--copies", "1"];
    let node = Host::start("a", &directory.path().join("a"), &[], &more);
    assert_eq!(plugin(&node)["nodes"], 0, "itself apart");

    configure(&format!("config = {{ nodes = [{}, {}] }}", member("a", 1), member("b", 2)));
    node.process.signal(Signal::HUP);
    eventually("it knows of the other", SOON, || (plugin(&node)["nodes"] == 1).then_some(()));
    configure("config = { nodes = 7 }");
    node.process.signal(Signal::HUP);
    node.process.wait_for("goes on with the configuration that it has", SOON);
    configure("wrong = 1");
    node.process.signal(Signal::HUP);
    node.process.wait_for("nothing is read again", SOON);
    assert_eq!(plugin(&node)["nodes"], 1);
    node.stop(SOON).code(0);
}

#[test]
fn what_must_not_be_loaded_is_refused_before_the_node_starts() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let module = write(&directory.path().join("own.wasm"), &static_module(1));
    let module = module.to_string_lossy().into_owned();
    let text = write(&directory.path().join("text.wasm"), b"no module");
    let text = text.to_string_lossy().into_owned();
    let hash = format!("own={}", "0".repeat(64));
    let two = ["--plugin", module.as_str(), "--plugin", "static.wasm"];
    let cases: [(&[&str], &str); 10] = [
        (&two, "own is for discovery already"),
        (&["--expect", "3"], "--plugin"),
        (&["--plugin", "/nowhere/x.wasm"], "No such file"),
        (&["--plugin", &text], "ZP-LOAD-002"),
        (&["--plugin", &module, "--plugin-sha256", &hash], "ZP-LOAD-001"),
        (&["--plugin", &module, "--plugin-config", "own={\"node\": 1}"], "unknown field"),
        (&["--plugin", &module, "--grant", "own:everything"], "there is random"),
        (&["--plugin", &module, "--grant", "other:kv"], "there is own"),
        (&["--plugin", "k8s.wasm"], "--plugin-config"),
        (&["--plugin", "gossip.wasm"], "bind"),
    ];
    for (i, (more, words)) in cases.iter().enumerate() {
        let data_dir = directory.path().join(format!("data-{i}"));
        let data_dir = data_dir.to_string_lossy().into_owned();
        let mut arguments = vec!["run", "--node-id", "a", "--listen", "127.0.0.1:0"];
        arguments.extend(["--data-dir", &data_dir]);
        arguments.extend(*more);
        run(arguments, SOON).code(2).says(&[words]);
    }
}

#[test]
fn native_code_is_loaded_only_where_that_is_allowed() {
    let _watchdog = Watchdog::new(LONG);
    let directory = tempfile::tempdir().expect("a directory");
    let exe = std::env::current_exe().expect("a path");
    let library = exe.ancestors().nth(2).expect("target/ci").join("libzepto_static.so");
    if !library.exists() {
        skipped("native plugins: build the workspace first");
        return;
    }
    let path = library.to_string_lossy().into_owned();
    let data_dir = directory.path().join("a").to_string_lossy().into_owned();
    let arguments = ["run", "--node-id", "a", "--data-dir", &data_dir, "--plugin", &path];
    run(arguments, SOON).code(2).says(&["ZP-LOAD-006", "--allow-native"]);
    let named = format!("own={path}");
    let more = ["--plugin", named.as_str(), "--allow-native", "--copies", "1"];
    let node = Host::start("b", &directory.path().join("b"), &[], &more);
    assert_eq!(plugin(&node)["target"], "native");
    node.stop(SOON).code(0);
}

#[test]
fn a_file_is_checked_without_a_node() {
    let directory = tempfile::tempdir().expect("a directory");
    for stock in ["static.wasm", "k8s.wasm", "gossip.wasm"] {
        let object = run(["plugin", "check", stock, "--json"], SOON).code(0).json();
        assert_eq!((&object["ok"], &object["stock"]), (&json!(true), &json!(true)), "{object}");
        assert_eq!(object["kinds"], json!(["discovery"]));
    }
    let own = write(&directory.path().join("own.wasm"), &static_module(1));
    let shown = run(["plugin", "check", &own.to_string_lossy()], SOON).code(0);
    assert!(shown.stdout.contains("would be loaded"), "{}", shown.stdout);
    assert!(!shown.stdout.contains("comes with zepto"), "{}", shown.stdout);
    let wasi = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#;
    let wasi = write(&directory.path().join("wasi.wasm"), &wat::parse_str(wasi).expect("a module"));
    let refused = run(["plugin", "check", &wasi.to_string_lossy(), "--json"], SOON).code(1);
    assert!(refused.stdout.contains("not for WASI"), "{}", refused.stdout);
    // What it would want is judged as a node would, and its names are harmless.
    let variant = |from: &str, to: &str| {
        assert!(ENDLESS.contains(from), "{from}");
        let bytes = wat::parse_str(ENDLESS.replace(from, to)).expect("a module");
        write(&directory.path().join("variant.wasm"), &bytes).to_string_lossy().into_owned()
    };
    let future = variant(
        "\\02\\00\\00\\00\")",
        "\\02\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\01\")",
    );
    run(["plugin", "check", &future], SOON).code(1).says(&["which this host does not have"]);
    let large = variant("\"memory\") 2)", "\"memory\") 256)");
    run(["plugin", "check", &large], SOON).code(1).says(&["exceeds memory limits"]);
    run(["plugin", "check", &large, "--limit", "mem=32MiB"], SOON).code(0);
    let rude = variant("\"zepto_host_v1\" \"timer\"", "\"zepto_host_v1\" \"\\1b]0;owned\\07\"");
    let refused = run(["plugin", "check", &rude, "--json"], SOON).code(1);
    for output in [&refused.stdout, &refused.stderr] {
        assert!(!output.contains('\u{1b}'), "{output:?}");
    }
}
