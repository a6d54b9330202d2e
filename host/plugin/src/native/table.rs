//! The table of the host's functions that a native plugin is bound to: `zp_host_api`.

use super::current;
use super::library::wake;
use crate::calls::{self, Memory};
use core::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use zepto_abi::plugin::{ABI_MAJOR, ABI_MINOR, PluginStatus};

/// Memory of this process, as a native plugin names it.
struct Raw;

impl Memory for Raw {
    fn read(&self, address: u64, len: u32) -> Option<Vec<u8>> {
        if len == 0 {
            return Some(Vec::new());
        }
        let begin = address as *const u8;
        if begin.is_null() {
            return None;
        }
        // SAFETY: the plugin says that these bytes are its own and readable during the call; native
        // plugins are trusted with that. They are copied before anything looks at them, so another
        // thread of the plugin that changes them cannot confuse the reader.
        Some(unsafe { core::slice::from_raw_parts(begin, len as usize) }.to_vec())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let begin = address as *mut u8;
        if begin.is_null() {
            return None;
        }
        // SAFETY: the plugin says that so many bytes there are its own and writable during the
        // call; native plugins are trusted with that. `bytes` is the host's: they do not overlap.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), begin, bytes.len()) };
        Some(())
    }
}

type Pointer = *const c_void;

macro_rules! table {
    ($($name:ident($($arg:ident: $type:ty $(as $wide:ty)?),*))*) => {
        /// `zp_host_api`: its size and version, then the functions in the order of the header.
        #[repr(C)]
        pub(super) struct HostApi {
            struct_size: u32,
            major: u16,
            minor: u16,
            $($name: extern "C" fn(u64 $(, $type)*) -> i32,)*
            wake: extern "C" fn(u64) -> i32,
        }

        /// The one table.
        pub(super) static HOST_API: HostApi = HostApi {
            struct_size: size_of::<HostApi>() as u32,
            major: ABI_MAJOR,
            minor: ABI_MINOR,
            $($name: {
                extern "C" fn $name(handle: u64 $(, $arg: $type)*) -> i32 {
                    guarded(|| current::with(handle, |context| {
                        calls::$name(context, &mut Raw $(, $arg $(as $wide)?)*)
                    }))
                }
                $name
            },)*
            wake: {
                // The only function that any thread may call.
                extern "C" fn from_any_thread(handle: u64) -> i32 {
                    guarded(|| wake(handle))
                }
                from_any_thread
            },
        };
    };
}

table! {
    log(level: u32, p: Pointer as u64, n: u32)
    set_error(status: i32, p: Pointer as u64, n: u32)
    info(what: u32, buffer: Pointer as u64, capacity: u32, length: Pointer as u64)
    clock(id: u32, out: Pointer as u64)
    random(buffer: Pointer as u64, n: u32)
    timer(id: u64, delay_ns: u64, period_ns: u64)
    cancel(token: u64)
    emit(p: Pointer as u64, n: u32)
    reply(token: u64, status: i32, p: Pointer as u64, n: u32)
    http(p: Pointer as u64, n: u32, out: Pointer as u64)
    udp_bind(p: Pointer as u64, n: u32, out: Pointer as u64)
    udp_send(socket: u64, to: Pointer as u64, to_n: u32, p: Pointer as u64, n: u32)
    kv_get(
        k: Pointer as u64, kn: u32,
        buffer: Pointer as u64, capacity: u32, length: Pointer as u64
    )
    kv_put(k: Pointer as u64, kn: u32, v: Pointer as u64, vn: u32)
    kv_del(k: Pointer as u64, kn: u32)
    metric(kind: u32, p: Pointer as u64, n: u32, value: i64)
}

/// A panic of the host's must not leave through the plugin's code.
fn guarded(call: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(PluginStatus::Internal.code())
}
