//! Why a call failed, for people.

use crate::status::*;
use crate::text::zepto_str;
use ::zepto_client::ClientError;
use core::fmt::Display;
use zepto_abi::Refusal;

/// Why a call failed: free it with `zepto_error_free`.
pub struct zepto_error {
    status: zepto_status,
    text: String,
}

/// Why a call failed, on its way out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: zepto_status,
    pub text: String,
}

impl Failure {
    pub fn new(status: zepto_status, text: impl Display) -> Self {
        Self { status, text: text.to_string() }
    }

    pub fn invalid(text: impl Display) -> Self {
        Self::new(ZEPTO_E_INVALID, text)
    }

    pub fn null(what: &str) -> Self {
        Self::invalid(format!("{what} is NULL"))
    }

    /// Hands it out, if the caller wants it.
    ///
    /// # Safety
    /// `error` must be NULL or writable.
    pub unsafe fn hand_out(self, error: *mut *mut zepto_error) -> zepto_status {
        let Self { status, text } = self;
        if !error.is_null() {
            let made = Box::into_raw(Box::new(zepto_error { status, text }));
            // SAFETY: the caller's promise.
            unsafe { error.write(made) };
        }
        status
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let status = match &error {
            ClientError::Unreachable(_) => ZEPTO_E_IO,
            ClientError::Refused { reason: Refusal::UnknownSymbol, .. } => ZEPTO_E_NOT_FOUND,
            ClientError::Refused { reason: Refusal::Malformed, .. } => ZEPTO_E_INVALID,
            ClientError::Refused { .. } => ZEPTO_E_REFUSED,
            ClientError::Unknown(_) | ClientError::NotReady(_) => ZEPTO_E_TIMEOUT,
            ClientError::Protocol(_) => ZEPTO_E_VERSION,
            ClientError::Denied(_) => ZEPTO_E_DENIED,
            _ => ZEPTO_E_INTERNAL,
        };
        Self::new(status, error)
    }
}

/// What went wrong, and what to do; as long as the error is not freed. [any thread] [callback-safe]
///
/// # Safety
/// `error` must be NULL or of this library, and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_error_message(error: *const zepto_error) -> zepto_str {
    // SAFETY: the caller's promise.
    let error = unsafe { error.as_ref() };
    error.map_or(zepto_str::EMPTY, |error| zepto_str::of(&error.text))
}

/// Its status; `ZEPTO_OK` of NULL. [any thread] [callback-safe]
///
/// # Safety
/// As for `zepto_error_message`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_error_code(error: *const zepto_error) -> zepto_status {
    // SAFETY: the caller's promise.
    unsafe { error.as_ref() }.map_or(ZEPTO_OK, |error| error.status)
}

/// Frees it; NULL is fine. [any thread] [callback-safe]
///
/// # Safety
/// `error` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_error_free(error: *mut zepto_error) {
    if !error.is_null() {
        // SAFETY: the caller's promise; it was made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(error) });
    }
}
