//! How a call ended. The numbers are those of `zepto_abi::Status`.

use zepto_abi::Status;

/// How a call ended: `ZEPTO_OK`, or one of `ZEPTO_E_*`, which are negative.
pub type zepto_status = i32;

/// It happened.
pub const ZEPTO_OK: i32 = 0;
/// An argument is wrong: NULL, not UTF-8, a struct_size that cannot be.
pub const ZEPTO_E_INVALID: i32 = -1;
/// This version of the library cannot do that.
pub const ZEPTO_E_UNSUPPORTED: i32 = -2;
/// A member does not let this process in: the cluster secret is not the same.
pub const ZEPTO_E_DENIED: i32 = -3;
/// There is no such thing.
pub const ZEPTO_E_NOT_FOUND: i32 = -4;
/// Beyond a limit.
pub const ZEPTO_E_TOO_BIG: i32 = -5;
/// No memory for it.
pub const ZEPTO_E_NO_MEMORY: i32 = -6;
/// No room now, or not known yet: try again.
pub const ZEPTO_E_BUSY: i32 = -7;
/// The deadline passed. What was asked may or may not have happened.
pub const ZEPTO_E_TIMEOUT: i32 = -8;
/// Given up.
pub const ZEPTO_E_CANCELED: i32 = -9;
/// Not now: closed, another thread's, or in a child after a fork.
pub const ZEPTO_E_BAD_STATE: i32 = -10;
/// Called from within a callback, where this function must not be.
pub const ZEPTO_E_REENTRANT: i32 = -11;
/// The cluster refused it, and it did not happen.
pub const ZEPTO_E_REFUSED: i32 = -12;
/// The system failed, or no member of the cluster can be reached.
pub const ZEPTO_E_IO: i32 = -13;
/// A defect of the library.
pub const ZEPTO_E_INTERNAL: i32 = -14;
/// A panic was caught: this handle can only be freed.
pub const ZEPTO_E_PANIC: i32 = -15;
/// Versions do not fit.
pub const ZEPTO_E_VERSION: i32 = -16;

const _: () = {
    let all = [
        (ZEPTO_OK, Status::Ok),
        (ZEPTO_E_INVALID, Status::Invalid),
        (ZEPTO_E_UNSUPPORTED, Status::Unsupported),
        (ZEPTO_E_DENIED, Status::Denied),
        (ZEPTO_E_NOT_FOUND, Status::NotFound),
        (ZEPTO_E_TOO_BIG, Status::TooBig),
        (ZEPTO_E_NO_MEMORY, Status::NoMemory),
        (ZEPTO_E_BUSY, Status::Busy),
        (ZEPTO_E_TIMEOUT, Status::Timeout),
        (ZEPTO_E_CANCELED, Status::Canceled),
        (ZEPTO_E_BAD_STATE, Status::BadState),
        (ZEPTO_E_REENTRANT, Status::Reentrant),
        (ZEPTO_E_REFUSED, Status::Refused),
        (ZEPTO_E_IO, Status::Io),
        (ZEPTO_E_INTERNAL, Status::Internal),
        (ZEPTO_E_PANIC, Status::Panic),
        (ZEPTO_E_VERSION, Status::Version),
    ];
    assert!(all.len() == Status::ALL.len());
    let mut i = 0;
    while i < all.len() {
        assert!(all[i].0 == all[i].1.code());
        i += 1;
    }
};
