//! The host's functions, from the table that it binds a native plugin to.

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};
use zepto_abi::plugin::{ABI_MAJOR, PluginStatus};

macro_rules! table {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        /// `zp_host_api`.
        #[repr(C)]
        pub(super) struct Table {
            struct_size: u32,
            major: u16,
            minor: u16,
            $(pub(super) $name: Option<unsafe extern "C" fn(u64 $(, $type)*) -> i32>,)*
            wake: Option<unsafe extern "C" fn(u64) -> i32>,
        }
    };
}

host_functions!(table);

/// What every version of the table begins with.
#[repr(C)]
struct Head {
    struct_size: u32,
    major: u16,
    _minor: u16,
}

/// The host's table; null before the library is bound, as in tests of its own.
static TABLE: AtomicPtr<Table> = AtomicPtr::new(core::ptr::null_mut());

/// `zp_plugin_bind_v1`.
///
/// # Safety
/// `table` is null, or the host's table, which is there for good.
pub unsafe fn bind(table: *const c_void) -> i32 {
    let table = table.cast::<Table>();
    if table.is_null() {
        return PluginStatus::Version.code();
    }
    // SAFETY: every version of the table begins with these 8 bytes, and nobody writes to them.
    let head = unsafe { table.cast::<Head>().read() };
    // A table that has all functions of this version is of this minor version or a newer one.
    if head.major != ABI_MAJOR || (head.struct_size as usize) < size_of::<Table>() {
        return PluginStatus::Version.code();
    }
    TABLE.store(table.cast_mut(), Ordering::Release);
    PluginStatus::Ok.code()
}

pub(super) fn table() -> Option<&'static Table> {
    let table = TABLE.load(Ordering::Acquire);
    // SAFETY: it is null, or was checked by `bind` and is there for good; nobody writes to it.
    unsafe { table.as_ref() }
}

/// Calls a function of the host.
macro_rules! host {
    ($name:ident($($arg:expr),*)) => {
        match $crate::glue::imports::table().and_then(|table| table.$name) {
            // SAFETY: every pointer is that of a slice or reference which lives through the call,
            // with its length; the host keeps none of them.
            Some(function) => unsafe { function($($arg),*) },
            None => zepto_abi::plugin::PluginStatus::Unsupported.code(),
        }
    };
}

/// A panic is caught at the boundary and told as an error; nothing is to be done here.
pub fn log_panics(_ctx: u64) {}
