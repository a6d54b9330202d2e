//! The host's functions, imported from `zepto_host_v1`.

macro_rules! imports {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        #[link(wasm_import_module = "zepto_host_v1")]
        unsafe extern "C" {
            $(pub fn $name(ctx: u64 $(, $arg: $type)*) -> i32;)*
        }
    };
}

pub(super) mod raw {
    imports! {
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
}

/// Calls a function of the host.
macro_rules! host {
    ($name:ident($($arg:expr),*)) => {
        // SAFETY: every pointer is that of a slice or reference which lives through the call, with
        // its length; the host checks addresses and keeps none of them.
        unsafe { $crate::glue::imports::raw::$name($($arg),*) }
    };
}

/// A panic aborts, which the host sees as a trap: its text is logged first.
pub fn log_panics(ctx: u64) {
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.to_string();
        let _left_out = super::calls::log(ctx, zepto_abi::plugin::LOG_ERROR, text.as_bytes());
    }));
}
