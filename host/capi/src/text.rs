//! Text in both directions.

use crate::error::Failure;
use core::ffi::c_char;

/// Borrowed text: UTF-8, not terminated. `ptr` may be NULL when `len` is 0.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct zepto_str {
    /// Its first byte.
    pub ptr: *const c_char,
    /// Its length in bytes.
    pub len: usize,
}

impl zepto_str {
    /// Nothing.
    pub(crate) const EMPTY: Self = Self { ptr: core::ptr::null(), len: 0 };

    /// The text, which lives as long as what it is a part of.
    pub(crate) fn of(text: &str) -> Self {
        Self { ptr: text.as_ptr().cast(), len: text.len() }
    }

    /// The caller's text.
    ///
    /// # Safety
    /// `ptr` must be readable for `len` bytes for as long as the text is used.
    pub(crate) unsafe fn read<'a>(self, what: &str) -> Result<&'a str, Failure> {
        if self.len == 0 {
            return Ok("");
        }
        if self.ptr.is_null() {
            return Err(Failure::invalid(format!("{what}: NULL with a length")));
        }
        if isize::try_from(self.len).is_err() {
            return Err(Failure::invalid(format!("{what}: no length")));
        }
        // SAFETY: the caller's promise; not NULL, and no longer than memory can be.
        let bytes = unsafe { core::slice::from_raw_parts(self.ptr.cast::<u8>(), self.len) };
        core::str::from_utf8(bytes).map_err(|_| Failure::invalid(format!("{what}: not UTF-8")))
    }
}

/// Text of the library's: free it with `zepto_text_free`.
pub struct zepto_text(String);

impl zepto_text {
    pub(crate) fn new(text: String) -> *mut Self {
        Box::into_raw(Box::new(Self(text)))
    }
}

/// What it says, as long as it is not freed; nothing of NULL. [any thread] [callback-safe]
///
/// # Safety
/// `text` must be NULL or of this library, and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_text_str(text: *const zepto_text) -> zepto_str {
    // SAFETY: the caller's promise.
    let text = unsafe { text.as_ref() };
    text.map_or(zepto_str::EMPTY, |text| zepto_str::of(&text.0))
}

/// Frees it; NULL is fine. [any thread] [callback-safe]
///
/// # Safety
/// `text` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_text_free(text: *mut zepto_text) {
    if !text.is_null() {
        // SAFETY: the caller's promise; it was made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(text) });
    }
}
