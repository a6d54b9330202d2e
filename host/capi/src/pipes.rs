//! SIGPIPE in the library's own threads: a write to a connection that the other side has closed
//! must not end a program that never heard of it. Blocked there, it stays with the thread; the
//! program's own threads and handlers are as they were.

use core::ffi::c_int;

/// A set of signals of Linux' C libraries: 1024 bits.
#[repr(C)]
struct Signals([u64; 16]);

const SIG_BLOCK: c_int = 0;
const SIGPIPE: c_int = 13;

unsafe extern "C" {
    fn pthread_sigmask(how: c_int, set: *const Signals, old: *mut Signals) -> c_int;
}

/// Blocks it in the thread that calls this.
pub(crate) fn block_in_this_thread() {
    let mut set = Signals([0; 16]);
    set.0[0] = 1 << (SIGPIPE - 1);
    // SAFETY: the set is readable, and what was blocked before is not asked for. It fails for no
    // signal that there is.
    let _blocked = unsafe { pthread_sigmask(SIG_BLOCK, &raw const set, core::ptr::null_mut()) };
}
