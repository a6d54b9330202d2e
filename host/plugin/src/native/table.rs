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

/// An address of this process.
type Address = *const c_void;

macro_rules! table {
    ($($name:ident($($arg:ident: $type:ident),*))*) => {
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
                        calls::$name(context, &mut Raw $(, calls::wide!($type $arg))*)
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

calls::host_functions!(table);

/// A panic of the host's must not leave through the plugin's code.
fn guarded(call: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(PluginStatus::Internal.code())
}
