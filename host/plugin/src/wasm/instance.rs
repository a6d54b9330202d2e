//! One instance of a Wasm plugin. After a trap it is never called again: wasmtime would allow it,
//! and its memory may be anything by then.

use super::engine::Module;
use super::ticker::{Ticker, ticks};
use crate::context::{Context, Phase};
use crate::error::LoadError;
use crate::instance::{Fault, FaultKind};
use core::time::Duration;
use std::sync::Arc;
use wasmtime::{
    Instance, Memory, Store, StoreLimits, StoreLimitsBuilder, Trap, TypedFunc, WasmParams,
    WasmResults,
};
use zepto_core::limits::PLUGIN_OPEN_MS;
use zepto_message::Info;

/// Elements of a module's tables.
const TABLE_ELEMENTS_MAX: usize = 4096;
/// Bytes of the inbox before an event needs more.
const INBOX_BYTES: u32 = 4096;
/// Messages are 8-aligned.
const ALIGN: u32 = 8;

/// Time for the functions that only make room or describe.
const GLUE_WITHIN: Duration = Duration::from_millis(PLUGIN_OPEN_MS);

/// What the store of an instance holds.
pub(super) struct State {
    pub context: Context,
    limits: StoreLimits,
    memory: Option<Memory>,
}

impl State {
    /// The instance's memory; none while its start function runs.
    pub fn memory(&self) -> Option<Memory> {
        self.memory
    }
}

/// An instance of a Wasm plugin.
pub struct WasmInstance {
    machine: Machine,
    memory: Memory,
    functions: Functions,
    inbox: (u32, u32),
    handle: i64,
}

/// What runs its code. Apart from the functions, so that a call borrows its function: a clone of
/// one counts up and down in four places that all threads share.
struct Machine {
    store: Store<State>,
    ticker: Arc<Ticker>,
    is_dead: bool,
}

struct Functions {
    info: TypedFunc<(), u32>,
    open: TypedFunc<(u64, u32, u32), i64>,
    event: TypedFunc<(i64, u32, u32), i32>,
    close: TypedFunc<i64, i32>,
    alloc: TypedFunc<u32, u32>,
    free: TypedFunc<(u32, u32), ()>,
}

impl Functions {
    fn of(instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<Self> {
        Ok(Self {
            info: instance.get_typed_func(&mut *store, "zp_plugin_info_v1")?,
            open: instance.get_typed_func(&mut *store, "zp_plugin_open_v1")?,
            event: instance.get_typed_func(&mut *store, "zp_plugin_event_v1")?,
            close: instance.get_typed_func(&mut *store, "zp_plugin_close_v1")?,
            alloc: instance.get_typed_func(&mut *store, "zp_alloc_v1")?,
            free: instance.get_typed_func(&mut *store, "zp_free_v1")?,
        })
    }
}

impl WasmInstance {
    /// Instantiates a module. Its start function runs, if it has one, under the deadline of `open`.
    ///
    /// # Errors
    /// When it wants more memory than it may have, or its start function fails.
    pub fn new(module: &Module, context: Context) -> Result<Self, LoadError> {
        let engine = module.pre.module().engine().clone();
        let memory_max = context.setting().limits.memory.0 as usize;
        let limits = StoreLimitsBuilder::new()
            .memory_size(memory_max)
            .memories(1)
            .tables(8)
            .table_elements(TABLE_ELEMENTS_MAX)
            .instances(1)
            .build();
        let mut store = Store::new(&engine, State { context, limits, memory: None });
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(ticks(Duration::from_millis(PLUGIN_OPEN_MS)));
        let ticking = module.ticker.enter();
        let instance = module.pre.instantiate(&mut store);
        drop(ticking);
        let link = |error: wasmtime::Error| LoadError::Link(fault_of(&error).text);
        let instance = instance.map_err(link)?;
        let functions = Functions::of(&instance, &mut store).map_err(link)?;
        let memory = instance.get_memory(&mut store, "memory");
        let memory = memory.ok_or_else(|| LoadError::NotAPlugin("it has no memory".into()))?;
        store.data_mut().memory = Some(memory);
        let machine = Machine { store, ticker: Arc::clone(&module.ticker), is_dead: false };
        Ok(Self { machine, memory, functions, inbox: (0, 0), handle: -1 })
    }

    /// The host's side of it.
    pub fn context(&mut self) -> &mut Context {
        &mut self.machine.store.data_mut().context
    }

    /// Its descriptor.
    ///
    /// # Errors
    /// When it traps, or there is none where it says.
    pub fn info(&mut self) -> Result<Info, LoadError> {
        let at = self.machine.call(GLUE_WITHIN, Phase::Idle, &self.functions.info, ());
        let at = at.map_err(|fault| LoadError::Open(fault.to_string()))? as usize;
        let bytes = self.memory.data(&self.machine.store).get(at..).unwrap_or_default();
        Info::read(bytes)
            .ok_or_else(|| LoadError::NotAPlugin("zp_plugin_info_v1 gives no descriptor".into()))
    }

    /// `open`; the plugin's handle, or its status.
    ///
    /// # Errors
    /// When it traps or is too slow.
    pub fn open(&mut self, message: &[u8], within: Duration) -> Result<i64, Fault> {
        let (at, len) = self.put(message)?;
        let parameters = (self.context().handle(), at, len);
        let open = &self.functions.open;
        self.handle = self.machine.call(within, Phase::Working, open, parameters)?;
        Ok(self.handle)
    }

    /// `event`; its status.
    ///
    /// # Errors
    /// When it traps or is too slow.
    pub fn event(&mut self, message: &[u8], within: Duration) -> Result<i32, Fault> {
        let (at, len) = self.put(message)?;
        let parameters = (self.handle, at, len);
        self.machine.call(within, Phase::Working, &self.functions.event, parameters)
    }

    /// `close`; its status.
    ///
    /// # Errors
    /// When it traps or is too slow.
    pub fn close(&mut self, within: Duration) -> Result<i32, Fault> {
        self.machine.call(within, Phase::Closing, &self.functions.close, self.handle)
    }

    /// Bytes of its memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.machine.store)
    }

    /// Copies a message into the inbox, which grows when it must.
    fn put(&mut self, message: &[u8]) -> Result<(u32, u32), Fault> {
        let len = u32::try_from(message.len());
        let len = len.map_err(|_| Fault::new(FaultKind::Broken, "a message above 4 GiB".into()))?;
        if len > self.inbox.1 {
            self.grow(len)?;
        }
        let (at, capacity) = self.inbox;
        // On every use: nothing that a plugin said once is believed twice.
        let begin = at as usize;
        let memory = self.memory.data_mut(&mut self.machine.store);
        let space = memory.get_mut(begin..begin + capacity as usize);
        match space.and_then(|space| space.get_mut(..message.len())) {
            Some(space) if at != 0 && at.is_multiple_of(ALIGN) => space.copy_from_slice(message),
            _ => {
                self.machine.is_dead = true;
                let text = format!(
                    "zp_alloc_v1 gave {at:#x} for {capacity} bytes; if it has no more, \
                     --limit NAME:mem=... gives it more"
                );
                return Err(Fault::new(FaultKind::Broken, text));
            }
        }
        Ok((at, len))
    }

    /// Another inbox: with room for more than this message, or for this one at least.
    fn grow(&mut self, len: u32) -> Result<(), Fault> {
        let Functions { alloc, free, .. } = &self.functions;
        let inbox = core::mem::take(&mut self.inbox);
        if inbox.0 != 0 {
            self.machine.call(GLUE_WITHIN, Phase::Idle, free, inbox)?;
        }
        let roomy = len.max(INBOX_BYTES).checked_next_power_of_two().unwrap_or(len);
        for capacity in [roomy, len.next_multiple_of(ALIGN)] {
            self.inbox = (self.machine.call(GLUE_WITHIN, Phase::Idle, alloc, capacity)?, capacity);
            if self.inbox.0 != 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Machine {
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        within: Duration,
        phase: Phase,
        function: &TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R, Fault> {
        if self.is_dead {
            return Err(Fault::new(FaultKind::Broken, "it failed before".into()));
        }
        self.store.set_epoch_deadline(ticks(within));
        self.store.data_mut().context.set_phase(phase);
        let ticking = self.ticker.enter();
        let result = function.call(&mut self.store, parameters);
        drop(ticking);
        self.store.data_mut().context.set_phase(Phase::Idle);
        result.map_err(|error| {
            self.is_dead = true;
            fault_of(&error)
        })
    }
}

fn fault_of(error: &wasmtime::Error) -> Fault {
    let kind = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => FaultKind::Deadline,
        Some(_) => FaultKind::Trap,
        None => FaultKind::Broken,
    };
    Fault::new(kind, format!("{error:?}"))
}
