//! A plugin on strings, in both targets, and a clock that stands still.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![expect(clippy::unwrap_used, reason = "tests, and clippy sees them only in #[test] functions")]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tempfile::TempDir;
use zepto_core::env::Env;
use zepto_core::time::Nanos;
use zepto_plugin::config::Limits;
use zepto_plugin::context::{Effect, Setting};
use zepto_plugin::error::LoadError;
use zepto_plugin::file::{PluginFile, Target};
use zepto_plugin::grant::{Grant, Grants};
use zepto_plugin::instance::Fault;
use zepto_plugin::kv::Kv;
use zepto_plugin::loader::{Loaded, Loader};
use zepto_plugin::runner::{Delivery, Done, Opening, Runner, Tally};

/// A clock that moves when it is told to, and numbers that are not random.
#[derive(Default)]
pub struct StillEnv {
    now: AtomicU64,
    draws: AtomicU64,
}

impl StillEnv {
    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Env for StillEnv {
    fn now(&self) -> Nanos {
        Nanos(1_000_000_000 + self.now.load(Ordering::Relaxed))
    }

    fn wall_ns(&self) -> u64 {
        1_700_000_000_000_000_000 + self.now.load(Ordering::Relaxed)
    }

    fn random(&self) -> u64 {
        self.draws.fetch_add(1, Ordering::Relaxed)
    }
}

/// The clocks of this machine.
pub struct RealEnv(Instant);

impl RealEnv {
    #[expect(clippy::disallowed_methods, reason = "the node crate's part, played by the test")]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Env for RealEnv {
    fn now(&self) -> Nanos {
        Nanos(self.0.elapsed().as_nanos() as u64)
    }

    fn wall_ns(&self) -> u64 {
        std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64
    }

    fn random(&self) -> u64 {
        getrandom::u64().unwrap()
    }
}

/// Starts threads that nobody waits for.
pub fn spawner() -> zepto_plugin::manager::Spawn {
    Arc::new(|name, run| std::thread::Builder::new().name(name).spawn(run).map(drop))
}

/// A directory that lasts as long as the test program.
pub fn workshop() -> &'static Path {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    DIRECTORY.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// The one loader of this test program, whose clock ticks.
pub fn loader() -> &'static Arc<Loader> {
    static LOADER: OnceLock<Arc<Loader>> = OnceLock::new();
    LOADER.get_or_init(|| {
        let loader = Arc::new(Loader::new(workshop(), true, true).unwrap());
        let ticker = Arc::clone(loader.engines().ticker());
        #[expect(clippy::disallowed_methods, reason = "the node crate's part, played by the test")]
        std::thread::spawn(move || ticker.run(&AtomicBool::new(false)));
        loader
    })
}

/// Whether a C compiler that makes Wasm is there; says so where it is not.
pub fn has_wasm_compiler() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
        let both = has("clang") && has("wasm-ld");
        if !both {
            eprintln!("SKIPPED: the Wasm half of the plugin tests: no clang and wasm-ld");
        }
        both
    })
}

/// The targets that can be built here.
pub fn targets() -> Vec<Target> {
    if has_wasm_compiler() { vec![Target::Native, Target::Wasm] } else { vec![Target::Native] }
}

/// Builds a C source for a target; `defines` make variants of it.
pub fn build(source: &str, target: Target, defines: &[&str]) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stem = format!("{source}{}", defines.concat()).replace(|c: char| !c.is_alphanumeric(), "_");
    let output = workshop().join(match target {
        Target::Native => format!("{stem}.so"),
        Target::Wasm => format!("{stem}.wasm"),
    });
    static BUILDING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap();
    if output.exists() {
        return output;
    }
    let mut command = match target {
        Target::Native => {
            let mut command = Command::new("cc");
            command.args([
                "-fPIC",
                "-shared",
                "-fvisibility=hidden",
                "-Wl,-z,nodelete",
                "-pthread",
            ]);
            command
        }
        Target::Wasm => {
            let mut command = Command::new("clang");
            command.args(["--target=wasm32", "-nostdlib", "-ffreestanding", "-mbulk-memory"]);
            command.args(["-Wl,--no-entry", "-Wl,-z,stack-size=65536"]);
            command
        }
    };
    command.args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Wno-infinite-recursion"]);
    command.arg("-I").arg(top.join("../../include"));
    command.args(defines.iter().map(|define| format!("-D{define}")));
    command.arg("-o").arg(&output).arg(top.join("tests/plugins").join(source));
    let built = command.output().unwrap();
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{command:?}: {errors}");
    output
}

/// A module that is kept in the repository.
pub fn stock_module(name: &str) -> PluginFile {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = top.join(format!("../../plugins/{name}/{name}.wasm"));
    PluginFile::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; plugins/build.sh --write makes it", path.display())
    })
}

/// The same source as a library that was built with this test program; says so where it was not.
pub fn stock_library(name: &str) -> Option<PluginFile> {
    let program = std::env::current_exe().unwrap();
    let profile = program.parent().and_then(Path::parent).unwrap();
    let library = profile.join(format!("libzepto_{}.so", name.replace('-', "_")));
    if library.exists() {
        return Some(PluginFile::read(&library).unwrap());
    }
    let profile = profile.file_name().unwrap_or_default().to_string_lossy();
    let profile = if profile == "debug" { "dev" } else { &profile };
    println!(
        "SKIPPED: the native half of {name}: build the plugins first (cargo build --profile \
         {profile} -p zepto-{name})"
    );
    None
}

/// Both, as far as they are there.
pub fn stock(name: &str) -> impl Iterator<Item = PluginFile> {
    core::iter::once(stock_module(name)).chain(stock_library(name))
}

/// Builds a module from text.
pub fn module(text: &str) -> PluginFile {
    let bytes = wat::parse_str(text).unwrap();
    PluginFile::of(Path::new("test.wasm"), bytes.into()).unwrap()
}

/// What an instance is made with: everything that these grants say.
pub fn setting(grants: &[&str], limits: Limits, env: &Arc<StillEnv>) -> Setting {
    let grants: Vec<Grant> = grants.iter().map(|text| text.parse().unwrap()).collect();
    Setting {
        name: "puppet".into(),
        node_id: "n0".into(),
        grants: Arc::new(Grants::of(&grants)),
        limits,
        env: Arc::clone(env) as Arc<dyn Env>,
        waker: Arc::new(|| {}),
    }
}

/// An instance of the plugin on strings.
pub struct Puppet {
    pub runner: Runner,
    pub env: Arc<StillEnv>,
    pub target: Target,
}

/// Numbers of the host's functions.
pub mod call {
    pub const LOG: u32 = 0;
    pub const SET_ERROR: u32 = 1;
    pub const INFO: u32 = 2;
    pub const CLOCK: u32 = 3;
    pub const RANDOM: u32 = 4;
    pub const TIMER: u32 = 5;
    pub const CANCEL: u32 = 6;
    pub const EMIT: u32 = 7;
    pub const REPLY: u32 = 8;
    pub const HTTP: u32 = 9;
    pub const UDP_BIND: u32 = 10;
    pub const UDP_SEND: u32 = 11;
    pub const KV_GET: u32 = 12;
    pub const KV_PUT: u32 = 13;
    pub const KV_DEL: u32 = 14;
    pub const METRIC: u32 = 15;
    pub const WAKE: u32 = 16;
}

/// What a call came to.
#[derive(Debug)]
pub struct Called {
    pub status: i32,
    pub effects: Vec<Effect>,
}

/// The body of an event that has the puppet do something.
pub fn body(numbers: [u64; 3], first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    body.extend((first.len() as u32).to_le_bytes());
    body.extend((second.len() as u32).to_le_bytes());
    body.extend_from_slice(first);
    body.extend_from_slice(second);
    body
}

impl Puppet {
    pub fn loaded(target: Target, setting: &Setting) -> Loaded {
        let path = build("puppet.c", target, &[]);
        loader().load(&PluginFile::read(&path).unwrap(), setting).unwrap()
    }

    pub fn with(target: Target, grants: &[&str], limits: Limits) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let env = Arc::new(StillEnv::default());
        let setting = setting(grants, limits, &env);
        let loaded = Self::loaded(target, &setting);
        let kv = Kv::new(setting.grants.kv_bytes.unwrap_or_default());
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed) as u32;
        let mut runner = Runner::new(&loaded, setting, generation, kv).unwrap();
        runner.open(&Opening::default()).unwrap();
        runner.deliver(&Delivery::start()).unwrap();
        Self { runner, env, target }
    }

    pub fn new(target: Target, grants: &[&str]) -> Self {
        Self::with(target, grants, Limits::default())
    }

    /// Has it call a function of the host.
    pub fn call(&mut self, number: u32, numbers: [u64; 3], first: &[u8], second: &[u8]) -> Called {
        let done = self.deliver(0x900 + number, body(numbers, first, second)).unwrap();
        Called { status: done.status.unwrap(), effects: done.effects }
    }

    /// Has it do something bad.
    pub fn misbehave(&mut self, kind: u32, numbers: [u64; 3]) -> Result<i32, Fault> {
        Ok(self.deliver(kind, body(numbers, &[], &[]))?.status.unwrap())
    }

    pub fn deliver(&mut self, kind: u32, body: Vec<u8>) -> Result<Done, Fault> {
        self.runner.deliver(&Delivery::notice(kind, 0, 0, body))
    }

    pub fn ask(&mut self, kind: u32, body: Vec<u8>) -> Result<Done, Fault> {
        self.runner.deliver(&Delivery::question(kind, body))
    }

    pub fn tally(&mut self) -> Tally {
        self.runner.tally()
    }

    /// How often calls were refused for a reason.
    pub fn refused(&mut self, reason: &str) -> u64 {
        self.tally().refusals.get(reason).copied().unwrap_or_default()
    }
}

/// Why a module is not loaded, or not opened.
pub fn refusal(file: &PluginFile) -> String {
    let env = Arc::new(StillEnv::default());
    let setting = setting(&[], Limits::default(), &env);
    let opened = loader().load(file, &setting).and_then(|loaded| {
        let mut runner = Runner::new(&loaded, setting.clone(), 1, Kv::default())?;
        runner.open(&Opening::default())
    });
    opened.map_or_else(|error: LoadError| error.to_string(), |done| panic!("it opened: {done:?}"))
}
