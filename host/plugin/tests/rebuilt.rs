//! What `plugins/build.sh` makes of the sources does the same as the committed modules: the same
//! events give the same effects.

#![expect(clippy::unwrap_used, reason = "a test, and clippy sees tests only in #[test] functions")]

mod common;

use common::{StillEnv, loader, setting};
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zepto_abi::plugin::{EV_HEALTH, EV_MIG_PLAN, EV_SNAP_BEGIN};
use zepto_message::{NodeLoad, Partition, PlanRequest, Snap};
use zepto_plugin::config::Limits;
use zepto_plugin::context::Effect;
use zepto_plugin::file::PluginFile;
use zepto_plugin::kv::Kv;
use zepto_plugin::runner::{Delivery, Opening, Runner};

const GRANTS: [&str; 6] = [
    "random",
    "metric",
    "kv",
    "udp=bind 127.0.0.1:0 peers 127.0.0.0/8",
    "http=GET https://127.0.0.1:1/*",
    "secret=token=file:/nowhere@https://127.0.0.1:1",
];

/// Name and configuration of each.
const PLUGINS: [(&str, &str); 5] = [
    ("static", r#"{"nodes": [{"id": "a", "address": "10.0.0.1:9000"}]}"#),
    ("gossip", r#"{"bind": "127.0.0.1:7946", "seeds": ["127.0.0.1:7947"]}"#),
    ("k8s", r#"{"api": "https://127.0.0.1:1", "namespace": "n", "service": "s"}"#),
    ("migrate-steady", ""),
    ("snapshot-veto", r#"{"windows": [{"from": "00:00", "to": "23:59"}]}"#),
];

fn question() -> Vec<u8> {
    let node = |id, used_bytes| NodeLoad {
        id,
        used_bytes,
        capacity_bytes: 1000,
        state: 2,
        weight: 100,
        ..NodeLoad::default()
    };
    let partition = |id| Partition { id, bytes: 100, owner: 0, ..Partition::default() };
    let (nodes, partitions) = (vec![node("a", 400), node("b", 0)], (0..4).map(partition).collect());
    PlanRequest { index: 1, reason: 1, max_moves: 4, nodes, partitions }.write()
}

/// What a module does with events.
fn effects(file: &Path, config: &str) -> Vec<String> {
    let env = Arc::new(StillEnv::default());
    let setting = setting(&GRANTS, Limits::default(), &env);
    let loaded = loader().load(&PluginFile::read(file).unwrap(), &setting).unwrap();
    let mut runner = Runner::new(&loaded, setting, 1, Kv::new(1 << 20)).unwrap();
    let address = "127.0.0.1:9000".to_owned();
    let opening = Opening { config: config.to_owned(), address, ..Opening::default() };
    runner.open(&opening).unwrap();
    let snap = Snap { snapshot_id: 1, label: "l", ..Snap::default() }.write();
    let deliveries = [
        Delivery::start(),
        Delivery::question(EV_HEALTH, Vec::new()),
        Delivery::question(EV_MIG_PLAN, question()),
        Delivery::question(EV_SNAP_BEGIN, snap),
        Delivery::timer(1, true),
        Delivery::resync(),
    ];
    let shown = |effect: &Effect| match effect {
        Effect::Reply { status, bytes, .. } => format!("reply {status} {bytes:?}"),
        Effect::Send { to, bytes, .. } => format!("send {to} {bytes:?}"),
        other => format!("{other:?}"),
    };
    let log = deliveries.iter().map(|delivery| {
        env.advance(Duration::from_secs(1));
        let done = runner.deliver(delivery).unwrap();
        let effects: Vec<String> = done.effects.iter().map(shown).collect();
        format!("{:?} {effects:?}", done.status)
    });
    log.collect()
}

/// Where the modules are that were built from the sources.
fn built(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    let name = name.replace('-', "_");
    target.join(format!("wasm/wasm32-unknown-unknown/wasm/zepto_{name}.wasm"))
}

#[test]
fn the_committed_modules_do_what_their_sources_say() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    for (name, config) in PLUGINS {
        let kept = effects(&top.join(format!("{name}/{name}.wasm")), config);
        assert!(kept.iter().any(|line| !line.ends_with(" []")), "{name} does nothing: {kept:?}");
        let built = built(name);
        if !built.exists() {
            println!("SKIPPED: {name} built anew: run plugins/build.sh first");
            continue;
        }
        assert_eq!(kept, effects(&built, config), "{name}");
    }
}
