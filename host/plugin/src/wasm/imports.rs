//! The host's functions as a Wasm module sees them.

use super::instance::State;
use crate::calls::{self, Memory};
use crate::context::Context;
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

/// An address of a module's memory.
type Address = u32;

/// A linker with all functions of this host.
pub(super) fn linker(engine: &Engine) -> Result<Linker<State>, LoadError> {
    let mut linker = Linker::new(engine);
    macro_rules! link {
        ($($name:ident($($arg:ident: $type:ident),*))*) => {$(
            linker.func_wrap(
                IMPORT_MODULE,
                stringify!($name),
                |mut caller: Caller<'_, State>, handle: u64 $(, $arg: $type)*| -> i32 {
                    called(&mut caller, handle, |context, memory| {
                        calls::$name(context, memory $(, calls::wide!($type $arg))*)
                    })
                },
            )
            .map_err(|error| LoadError::System(error.to_string()))?;
        )*};
    }
    calls::host_functions!(link);
    // Of a module, only the thread that runs it can call.
    link! { wake() }
    Ok(linker)
}

/// Makes a call of an instance's, if the handle that it names is its own.
fn called(
    caller: &mut Caller<'_, State>,
    handle: u64,
    call: impl FnOnce(&mut Context, &mut Linear<'_>) -> i32,
) -> i32 {
    let Some(memory) = caller.data().memory() else { return PluginStatus::BadState.code() };
    let (memory, state) = memory.data_and_store_mut(caller);
    if handle != state.context.handle() {
        return state.context.refuse_handle().code();
    }
    call(&mut state.context, &mut Linear(memory))
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
