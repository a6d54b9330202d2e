//! Whether this process is a child of the one that opened a handle: threads do not come along
//! through a fork, so nothing works there, and nothing may be waited for.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Once;

/// How often this process was forked off since the library was first used.
static FORKS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    /// Of the C library, which std is linked with.
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// In which process a handle is opened.
pub(crate) fn here() -> u32 {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler does nothing but count, which is allowed after a fork. It stays, as
        // does the library, which is linked never to be unmapped. Without memory for it, a child
        // is not noticed; nothing else depends on it.
        let _no_memory = unsafe { pthread_atfork(None, None, Some(in_child)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// Whether a handle of such a process is used in it.
#[inline(always)]
pub(crate) fn is_here(opened: u32) -> bool {
    FORKS.load(Ordering::Relaxed) == opened
}
