//! The host's functions as a Wasm module sees them.

use super::instance::State;
use crate::calls::{self, Memory};
use crate::error::LoadError;
use std::collections::BTreeSet;
use wasmtime::{Caller, Engine, FuncType, Linker, Val, ValType};
use zepto_abi::plugin::{IMPORT_MODULE, PluginStatus};

/// The linear memory of an instance.
struct Linear<'a>(&'a mut [u8]);

impl Memory for Linear<'_> {
    fn read(&self, address: u64, len: u32) -> Option<Vec<u8>> {
        let begin = usize::try_from(address).ok()?;
        let end = begin.checked_add(len as usize)?;
        self.0.get(begin..end).map(<[u8]>::to_vec)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let begin = usize::try_from(address).ok()?;
        let end = begin.checked_add(bytes.len())?;
        self.0.get_mut(begin..end)?.copy_from_slice(bytes);
        Some(())
    }
}

macro_rules! link {
    ($linker:ident: $($name:ident($($arg:ident: $type:ty $(as $wide:ty)?),*))*) => {$(
        $linker.func_wrap(
            IMPORT_MODULE,
            stringify!($name),
            |mut caller: Caller<'_, State>, handle: u64 $(, $arg: $type)*| -> i32 {
                let Some(memory) = caller.data().memory() else {
                    return PluginStatus::BadState.code();
                };
                let (memory, state) = memory.data_and_store_mut(&mut caller);
                if handle != state.context.handle() {
                    state.context.count_refusal("bad_handle");
                    return PluginStatus::BadHandle.code();
                }
                calls::$name(&mut state.context, &mut Linear(memory) $(, $arg $(as $wide)?)*)
            },
        )
        .map_err(|error| LoadError::System(error.to_string()))?;
    )*};
}

/// A linker with all functions of this host.
pub(super) fn linker(engine: &Engine) -> Result<Linker<State>, LoadError> {
    let mut linker = Linker::new(engine);
    link! { linker:
        log(level: u32, p: u32 as u64, n: u32)
        set_error(status: i32, p: u32 as u64, n: u32)
        info(what: u32, buffer: u32 as u64, capacity: u32, length: u32 as u64)
        clock(id: u32, out: u32 as u64)
        random(buffer: u32 as u64, n: u32)
        timer(id: u64, delay_ns: u64, period_ns: u64)
        cancel(token: u64)
        emit(p: u32 as u64, n: u32)
        reply(token: u64, status: i32, p: u32 as u64, n: u32)
        http(p: u32 as u64, n: u32, out: u32 as u64)
        udp_bind(p: u32 as u64, n: u32, out: u32 as u64)
        udp_send(socket: u64, to: u32 as u64, to_n: u32, p: u32 as u64, n: u32)
        kv_get(k: u32 as u64, kn: u32, buffer: u32 as u64, capacity: u32, length: u32 as u64)
        kv_put(k: u32 as u64, kn: u32, v: u32 as u64, vn: u32)
        kv_del(k: u32 as u64, kn: u32)
        metric(kind: u32, p: u32 as u64, n: u32, value: i64)
        wake()
    }
    Ok(linker)
}

/// Adds functions that this host does not have: calling one says so.
pub(super) fn add_unknown(
    linker: &mut Linker<State>,
    module: &wasmtime::Module,
    unknown: &BTreeSet<String>,
) -> Result<(), LoadError> {
    for import in module.imports().filter(|import| unknown.contains(import.name())) {
        let Some(ty) = import.ty().func().cloned() else { continue };
        let ty = FuncType::new(module.engine(), ty.params(), [ValType::I32]);
        let unsupported = |_: Caller<'_, State>, _: &[Val], results: &mut [Val]| {
            results.fill(Val::I32(PluginStatus::Unsupported.code()));
            Ok(())
        };
        let added = linker.func_new(IMPORT_MODULE, import.name(), ty, unsupported);
        added.map_err(|error| LoadError::Link(error.to_string()))?;
    }
    Ok(())
}
