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
    host_functions!(imports);
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
