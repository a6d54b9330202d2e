//! The boundary: what [`crate::export!`] makes of a [`crate::Plugin`]. Not for authors.

/// Gives the host's functions, as the header has them, to a macro; both targets make their own of
/// them. Not `wake`, which the SDK does not use.
macro_rules! host_functions {
    ($with:ident) => {
        $with! {
            log(level: u32, p: *const u8, n: u32);
            set_error(code: i32, p: *const u8, n: u32);
            info(what: u32, buffer: *mut u8, capacity: u32, len: *mut u32);
            clock(id: u32, out: *mut u64);
            random(buffer: *mut u8, n: u32);
            timer(id: u64, delay_ns: u64, period_ns: u64);
            cancel(token: u64);
            emit(p: *const u8, n: u32);
            reply(token: u64, status: i32, p: *const u8, n: u32);
            http(p: *const u8, n: u32, out: *mut u64);
            udp_bind(p: *const u8, n: u32, out: *mut u64);
            udp_send(socket: u64, to: *const u8, to_n: u32, p: *const u8, n: u32);
            kv_get(k: *const u8, kn: u32, buffer: *mut u8, capacity: u32, len: *mut u32);
            kv_put(k: *const u8, kn: u32, v: *const u8, vn: u32);
            kv_del(k: *const u8, kn: u32);
            metric(kind: u32, p: *const u8, n: u32, value: i64);
        }
    };
}

// Before the calls, which use its macro.
#[macro_use]
#[cfg_attr(target_family = "wasm", path = "imports_wasm.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "imports_native.rs")]
pub(crate) mod imports;
pub(crate) mod calls;
mod serve;

#[cfg(not(target_family = "wasm"))]
pub use imports::bind;
pub use serve::Slot;

/// The messages that the host hands over, for the length of one call.
///
/// # Safety
/// `at` is null, or `len` bytes there are readable and unchanged until the call returns: the host
/// promises that of `open` and `event`.
pub unsafe fn message<'a>(at: *const u8, len: u32) -> &'a [u8] {
    if at.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller promises it.
    unsafe { core::slice::from_raw_parts(at, len as usize) }
}

/// Room for the host's messages.
#[cfg(target_family = "wasm")]
pub fn alloc(len: u32) -> *mut u8 {
    use std::alloc::{Layout, alloc};
    let Ok(layout) = Layout::from_size_align(len.max(1) as usize, 16) else {
        return core::ptr::null_mut();
    };
    // SAFETY: the layout has at least one byte.
    unsafe { alloc(layout) }
}

/// Takes that room back.
///
/// # Safety
/// It came from [`alloc`] with the same length, and is not used any more.
#[cfg(target_family = "wasm")]
pub unsafe fn free(at: *mut u8, len: u32) {
    use std::alloc::{Layout, dealloc};
    if let Ok(layout) = Layout::from_size_align(len.max(1) as usize, 16)
        && !at.is_null()
    {
        // SAFETY: the caller promises that it came from `alloc` with this layout.
        unsafe { dealloc(at, layout) }
    }
}

/// Makes a plugin of a type that implements [`crate::Plugin`]. Once in a crate that is built as a
/// `cdylib`.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[allow(unsafe_code, reason = "the boundary itself, which the SDK writes for the author")]
        const _: () = {
            static SLOT: $crate::glue::Slot<$plugin> = $crate::glue::Slot::new();

            #[used]
            #[cfg_attr(not(target_family = "wasm"), unsafe(link_section = "zepto_plugin"))]
            static ABOUT: [u8; 256] = <$plugin as $crate::Plugin>::ABOUT.bytes();

            #[unsafe(no_mangle)]
            extern "C" fn zp_plugin_info_v1() -> *const u8 {
                ABOUT.as_ptr()
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn zp_plugin_open_v1(ctx: u64, at: *const u8, len: u32) -> i64 {
                // SAFETY: the host promises the message for the length of the call.
                SLOT.open(ctx, unsafe { $crate::glue::message(at, len) })
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn zp_plugin_event_v1(instance: i64, at: *const u8, len: u32) -> i32 {
                // SAFETY: the host promises the message for the length of the call.
                SLOT.event(instance, unsafe { $crate::glue::message(at, len) })
            }

            #[unsafe(no_mangle)]
            extern "C" fn zp_plugin_close_v1(instance: i64) -> i32 {
                SLOT.close(instance)
            }

            #[cfg(target_family = "wasm")]
            #[unsafe(no_mangle)]
            extern "C" fn zp_alloc_v1(len: u32) -> *mut u8 {
                $crate::glue::alloc(len)
            }

            #[cfg(target_family = "wasm")]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn zp_free_v1(at: *mut u8, len: u32) {
                // SAFETY: the host gives back what `zp_alloc_v1` gave it.
                unsafe { $crate::glue::free(at, len) }
            }

            #[cfg(not(target_family = "wasm"))]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn zp_plugin_bind_v1(table: *const core::ffi::c_void) -> i32 {
                // SAFETY: the host's table is there for good.
                unsafe { $crate::glue::bind(table) }
            }
        };
    };
}
