//! The compiler, one per process, and what it makes of a module.

use super::cache::Cache;
use super::imports;
use super::instance::State;
use super::scan::{Scan, scan};
use super::ticker::Ticker;
use crate::error::LoadError;
use crate::file::PluginFile;
use std::path::Path;
use std::sync::Arc;
use wasmtime::{Config, Engine, InstancePre, Linker, OptLevel};

/// Bytes of a plugin's stack. The thread that calls it has more.
const STACK_BYTES: usize = 256 << 10;
/// Address space kept for one memory: most need no more, and larger ones move once.
const RESERVED_BYTES: u64 = 8 << 20;
const GUARD_BYTES: u64 = 64 << 10;

/// What all Wasm plugins of a process share.
pub struct Engines {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    ticker: Arc<Ticker>,
}

impl Engines {
    /// A compiler that keeps its work in a directory. `signals` lets it install handlers for
    /// SIGILL, SIGFPE and SIGSEGV, which only a program of our own may.
    ///
    /// # Errors
    /// When the machine is none that it compiles for.
    pub fn new(cache: Option<&Path>, signals: bool) -> Result<Self, LoadError> {
        let system = |error: wasmtime::Error| LoadError::System(error.to_string());
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .epoch_interruption(true)
            .max_wasm_stack(STACK_BYTES)
            .memory_reservation(RESERVED_BYTES)
            .memory_reservation_for_growth(0)
            .memory_guard_size(GUARD_BYTES)
            .signals_based_traps(signals)
            .wasm_memory64(false)
            .wasm_multi_memory(false)
            .wasm_tail_call(false)
            .wasm_relaxed_simd(false)
            .wasm_wide_arithmetic(false);
        let engine = Engine::new(&config).map_err(system)?;
        let cache = cache.and_then(|directory| {
            let opened = Cache::open(directory, &engine);
            opened
                .map_err(|error| {
                    let directory = directory.display();
                    tracing::warn!(%error, %directory, "compiled modules are not kept");
                })
                .ok()
        });
        let linker = imports::linker(&engine)?;
        let ticker = Arc::new(Ticker::new(engine.clone()));
        Ok(Self { engine, linker, cache, ticker })
    }

    /// The clock of the deadlines: a thread must run it before any plugin is opened.
    pub fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    /// Compiles a module, or takes what was compiled before, and resolves its imports.
    ///
    /// # Errors
    /// Why it is no plugin.
    pub fn load(&self, file: &PluginFile) -> Result<Module, LoadError> {
        let scan = scan(&file.bytes)?;
        let kept = self.cache.as_ref().and_then(|cache| cache.get(&self.engine, file.sha256));
        let is_cached = kept.is_some();
        let module = match kept {
            Some(module) => module,
            None => self.compile(file)?,
        };
        let mut linker = self.linker.clone();
        imports::add_unknown(&mut linker, &module, &scan.unknown)?;
        let pre = linker.instantiate_pre(&module);
        let pre = pre.map_err(|error| LoadError::Link(format!("{error:#}")))?;
        Ok(Module { pre, scan, is_cached, ticker: Arc::clone(&self.ticker) })
    }

    fn compile(&self, file: &PluginFile) -> Result<wasmtime::Module, LoadError> {
        let module = wasmtime::Module::new(&self.engine, &file.bytes);
        let module = module.map_err(|error| LoadError::NotAPlugin(format!("{error:#}")))?;
        if let Some(cache) = &self.cache {
            cache.put(file.sha256, &module);
        }
        Ok(module)
    }
}

/// A module that is ready to be instantiated.
#[derive(Clone)]
pub struct Module {
    pub(super) pre: InstancePre<State>,
    /// What was read of it before it was compiled.
    pub scan: Scan,
    /// Whether it was compiled before.
    pub is_cached: bool,
    pub(super) ticker: Arc<Ticker>,
}
