//! Plugins: an event into each target, an answer of two and of ten thousand nodes, loading, memory.
//! `plugin.c` is built with cc and clang when the bench begins. See benches/README.md.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use zepto_client::real::Real;
use zepto_message::{Event, Mode, Node, Open, write_nodes};
use zepto_plugin::config::Limits;
use zepto_plugin::context::{Context, Setting};
use zepto_plugin::file::PluginFile;
use zepto_plugin::grant::Grants;
use zepto_plugin::instance::Instance;
use zepto_plugin::kv::Kv;
use zepto_plugin::loader::{Loaded, Loader};
use zepto_plugin::stock;
use zepto_plugin::vet::Answer;

const WITHIN: Duration = Duration::from_millis(50);
/// Kinds of events, as `plugin.c` has them.
const WAKE: u32 = 0x113;
const START: u32 = 0x100;
const RESYNC: u32 = 0x120;

/// A loader whose clock ticks as long as this lives.
struct Workshop {
    directory: TempDir,
    loader: Arc<Loader>,
    stop: Arc<AtomicBool>,
}

impl Workshop {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let loader = Loader::new(directory.path(), true, true).expect("a loader");
        let (loader, stop) = (Arc::new(loader), Arc::new(AtomicBool::new(false)));
        let (ticker, until) = (Arc::clone(loader.engines().ticker()), Arc::clone(&stop));
        let thread = std::thread::Builder::new().spawn(move || ticker.run(&until));
        thread.expect("a thread");
        Self { directory, loader, stop }
    }

    /// Builds `plugin.c`; for wasm32 or for this machine.
    fn build(&self, is_wasm: bool) -> PathBuf {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = self.directory.path().join(if is_wasm { "bench.wasm" } else { "bench.so" });
        let mut command = if is_wasm {
            let mut command = Command::new("clang");
            command.args(["--target=wasm32", "-nostdlib", "-ffreestanding", "-mbulk-memory"]);
            command.arg("-Wl,--no-entry");
            command
        } else {
            let mut command = Command::new("cc");
            command.args(["-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-z,nodelete"]);
            command
        };
        command.args(["-std=c11", "-O2", "-I"]).arg(top.join("../include"));
        command.arg("-o").arg(&output).arg(top.join("plugin.c"));
        let status = command.status().expect("cc, and clang with lld");
        assert!(status.success(), "{command:?}");
        output
    }

    fn load(&self, path: &Path) -> Loaded {
        let file = PluginFile::read(path).expect("a plugin");
        self.loader.load(&file, &setting()).expect("a plugin")
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn setting() -> Setting {
    Setting {
        name: "bench".into(),
        node_id: "n".into(),
        grants: Arc::new(Grants::default()),
        limits: Limits::default(),
        env: Arc::new(Real::new()),
        waker: Arc::new(|| {}),
    }
}

fn open(loaded: &Loaded) -> Instance {
    let mut instance =
        loaded.instantiate(Context::new(setting(), 1, Kv::default())).expect("an instance");
    let message = Open::default().write();
    assert_eq!(instance.open(&message, WITHIN).expect("it opens"), 1);
    instance.context().set_serving(true);
    instance
}

fn event(kind: u32) -> Vec<u8> {
    Event { kind, ..Event::default() }.write()
}

fn calls(c: &mut Criterion) {
    let workshop = Workshop::new();
    let mut group = c.benchmark_group("plugin");
    for (target, is_wasm) in [("native", false), ("wasm", true)] {
        let mut instance = open(&workshop.load(&workshop.build(is_wasm)));
        for (name, kind) in [
            ("an event of 72 bytes", WAKE),
            ("an answer of 2 nodes", START),
            ("an answer of 10,000 nodes", RESYNC),
        ] {
            let message = event(kind);
            group.bench_function(format!("{name}, {target}"), |b| {
                b.iter(|| {
                    let status = instance.event(black_box(&message), WITHIN).expect("it returns");
                    assert_eq!(status, 0);
                    instance.context().take_effects()
                });
            });
        }
    }
    group.finish();
}

fn checking(c: &mut Criterion) {
    let ids: Vec<String> = (0..10_000).map(|i| format!("n{i:05}")).collect();
    let node = |id| Node { id, host: "10.0.0.1", port: 9000, ..Node::default() };
    let mut nodes: Vec<Node<'_>> = ids.iter().map(|id| node(id)).collect();
    let sorted = write_nodes(1, Mode::Full, &nodes, &[]);
    nodes.reverse();
    let reversed = write_nodes(1, Mode::Full, &nodes, &[]);
    let mut group = c.benchmark_group("check an answer of 10,000 nodes");
    for (name, bytes) in [("ids ascend", &sorted), ("ids descend", &reversed)] {
        group.bench_function(name, |b| {
            b.iter(|| Answer::check(black_box(bytes).clone(), 10_000, 0).expect("it is good"));
        });
    }
    group.finish();
}

fn loading(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    group.sample_size(20);
    let workshop = Workshop::new();
    let small = PluginFile::read(&workshop.build(true)).expect("a plugin");
    let stock = stock::open("k8s.wasm".as_ref()).expect("the stock module");
    for (name, file) in [("plugin.c", &small), ("k8s.wasm", &stock)] {
        let mut setting = setting();
        // What it asks for; nothing is used.
        let grants = ["http=GET http://a/x", "metric", "kv", "random"];
        let grants: Vec<_> = grants.iter().map(|text| text.parse().expect("a grant")).collect();
        setting.grants = Arc::new(Grants::of(&grants));
        group.bench_function(format!("{name}, compiled"), |b| {
            b.iter_with_setup(Workshop::new, |fresh| {
                fresh.loader.load(file, &setting).expect("a plugin");
                fresh
            });
        });
        workshop.loader.load(file, &setting).expect("a plugin");
        group.bench_function(format!("{name}, compiled before"), |b| {
            b.iter(|| workshop.loader.load(file, &setting).expect("a plugin"));
        });
    }
    let loaded = workshop.load(&workshop.build(true));
    group.bench_function("plugin.c, another instance", |b| b.iter(|| open(&loaded)));
    group.finish();
    memory(&loaded);
}

/// Resident memory of this process, KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn memory(loaded: &Loaded) {
    const INSTANCES: u64 = 100;
    let before = resident_kib();
    let instances: Vec<Instance> = (0..INSTANCES).map(|_| open(loaded)).collect();
    let each = (resident_kib() - before) / INSTANCES;
    println!("memory of an instance of plugin.c: {each} KiB ({} instances)", instances.len());
}

criterion_group!(plugins, calls, checking, loading);
criterion_main!(plugins);
