//! UCX ends when the process calls `exit`: its destructors run then, whatever other threads do.
//! From that moment on nothing of it is called. Workers end before: a thread of UCX's own serves
//! them, and that does not survive its destructors, either.

use super::sys::WorkerHandle;
use crate::transport::TransportError;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};

/// Held by whoever is in UCX.
static GATE: RwLock<()> = RwLock::new(());
static IS_CLOSED: AtomicBool = AtomicBool::new(false);
/// The process whose UCX it is. A child that was forked ends nothing of it.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Looks whether everybody is out, for some seconds. A thread that calls `exit` from within UCX
/// never is.
const LOOKS: usize = 5_000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Workers that are open, and what ends them.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

struct Open {
    worker: WorkerHandle,
    destroy: unsafe extern "C" fn(WorkerHandle),
}

// SAFETY: a worker may be used by any thread, one at a time; here it is only after all others.
unsafe impl Send for Open {}

/// As long as it is held, UCX can be called. For a moment.
pub struct Pass(#[expect(dead_code, reason = "it is held")] RwLockReadGuard<'static, ()>);

/// Nothing once the process ends.
#[inline]
pub fn enter() -> Option<Pass> {
    if IS_CLOSED.load(Ordering::Acquire) {
        return None;
    }
    let guard = GATE.read().unwrap_or_else(PoisonError::into_inner);
    // It may have waited while the gate was being closed.
    (!IS_CLOSED.load(Ordering::Acquire)).then_some(Pass(guard))
}

/// Why a call failed that came too late.
pub const TOO_LATE: &str = "this process is ending";

/// A call that came too late.
pub fn too_late(call: &'static str) -> TransportError {
    TransportError::Ucx { call, reason: TOO_LATE.into() }
}

/// Notes a worker that is open. Whoever does has a pass.
pub fn note_open(worker: WorkerHandle, destroy: unsafe extern "C" fn(WorkerHandle)) {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(Open { worker, destroy });
}

/// A worker is about to be destroyed. Whoever does it has a pass.
pub fn note_closed(worker: WorkerHandle) {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).retain(|open| open.worker != worker);
}

/// Closes the gate when the process ends. What is registered later runs earlier, so this comes
/// after UCX is loaded.
pub fn watch() {
    PROCESS.store(std::process::id(), Ordering::Release);
    // SAFETY: the function takes nothing, and is there as long as the process.
    let registered = unsafe { libc::atexit(close) };
    debug_assert_eq!(registered, 0, "there is room for one more");
}

extern "C" fn close() {
    IS_CLOSED.store(true, Ordering::Release);
    if PROCESS.load(Ordering::Acquire) != std::process::id() {
        // Sockets are shared with the parent: what ended here would end there.
        return;
    }
    for _ in 0..LOOKS {
        match GATE.try_write() {
            Ok(_) | Err(TryLockError::Poisoned(_)) => return end_workers(),
            #[expect(clippy::disallowed_methods, reason = "nothing else happens at the end")]
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_LOOKS),
        }
    }
}

fn end_workers() {
    let open = core::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    for Open { worker, destroy } in open {
        // SAFETY: it was not destroyed, and nobody is in it, nor will be.
        unsafe { destroy(worker) };
    }
}
