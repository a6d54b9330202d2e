//! Which version this is.

/// Major version of the interface: another one has another file name.
pub const ZEPTO_ABI_MAJOR: u32 = 1;
/// Minor version: functions and fields were added.
pub const ZEPTO_ABI_MINOR: u32 = 0;

const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the interface that this library has: major << 16 | minor.
/// [any thread] [callback-safe]
#[unsafe(no_mangle)]
pub extern "C" fn zepto_abi_version() -> u32 {
    ZEPTO_ABI_MAJOR << 16 | ZEPTO_ABI_MINOR
}

/// The version of zepto, for people; ends with a zero, and is there for good.
/// [any thread] [callback-safe]
#[unsafe(no_mangle)]
pub extern "C" fn zepto_version_string() -> *const core::ffi::c_char {
    TEXT.as_ptr().cast()
}
