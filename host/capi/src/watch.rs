//! Tells a program that the cluster has changed.

use crate::client::{self, Shared, release, zepto_client};
use crate::error::{Failure, zepto_error};
use crate::handle::{Life, callback, caught, clear, hand_out, not_in_callback};
use crate::status::*;
use core::ffi::c_void;
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

/// Called when the cluster has changed, with the index of the log that it has changed to. It must
/// not throw. Functions that are not [callback-safe] refuse to be called from it.
pub type zepto_change_fn = Option<unsafe extern "C" fn(user: *mut c_void, index: u64)>;

/// Called once, after the last use of `user`.
pub type zepto_drop_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// A watch. Free it with `zepto_watch_free`.
pub struct zepto_watch {
    life: Life,
    shared: Arc<Shared>,
    told: Arc<Mutex<Option<Told>>>,
}

/// Whom to tell, and with what.
struct Told {
    changed: unsafe extern "C" fn(*mut c_void, u64),
    user: *mut c_void,
    dropped: zepto_drop_fn,
}

// SAFETY: `user` is the caller's, who says that it may be used from the library's threads, one at
// a time.
unsafe impl Send for Told {}

impl Told {
    fn tell(&self, index: u64) {
        // SAFETY: the function is the caller's, and so is what it is called with, until it is
        // dropped.
        callback(|| unsafe { (self.changed)(self.user, index) });
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped {
            // SAFETY: as above, and this is the last use.
            callback(|| unsafe { dropped(self.user) });
        }
    }
}

/// Has `changed` called whenever the cluster changes: from one of the library's threads, never two
/// calls at once, and once soon after this. `user_drop`, which may be NULL, is called after the
/// last call. On failure nothing is taken, and it is not called. [any thread] [not callback-safe]
///
/// # Safety
/// `client` must be of this library, `changed` callable with `user` from any thread, `out`
/// writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_watch_open(
    client: *const zepto_client,
    changed: zepto_change_fn,
    user: *mut c_void,
    user_drop: zepto_drop_fn,
    out: *mut *mut zepto_watch,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        not_in_callback()?;
        let changed = changed.ok_or_else(|| Failure::null("changed"))?;
        let told = Arc::new(Mutex::new(Some(Told { changed, user, dropped: user_drop })));
        client.shared.spawn(watch(client.shared.client.clone(), Arc::clone(&told)));
        let shared = Arc::clone(&client.shared);
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_watch { life: Life::begin(), shared, told }) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { client::of(client, error, body) }
}

/// Tells of every change until nobody wants to hear of them.
async fn watch(client: ::zepto_client::Client, told: Arc<Mutex<Option<Told>>>) {
    /// Longest time without a look at whether somebody still does.
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    let mut known = 0;
    loop {
        let beyond = |placement: &zepto_core::topology::Placement| placement.index > known;
        let changed = client.wait_until("change", LOOK_EVERY, beyond).await.is_ok();
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(told) = &*told else { return };
        if changed {
            known = client.view().index();
            // It may wait for other threads: this one's other work goes to them meanwhile.
            tokio::task::block_in_place(|| told.tell(known));
        }
    }
}

/// Ends it, and frees it; NULL is fine. No call runs when it returns, and `user_drop` has been
/// called. From within a callback it is refused, and nothing is freed.
/// [any thread] [not callback-safe]
///
/// # Safety
/// `watch` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_watch_free(watch: *mut zepto_watch) -> zepto_status {
    if watch.is_null() {
        return ZEPTO_OK;
    }
    if let Err(failure) = not_in_callback() {
        return failure.status;
    }
    // SAFETY: the caller's promise; it was made by `Box::into_raw`.
    let zepto_watch { life, shared, told } = *unsafe { Box::from_raw(watch) };
    if !life.is_here() {
        // A lock of a thread that is not here may never be let go.
        core::mem::forget((shared, told));
        return ZEPTO_OK;
    }
    let freed = caught(None, || {
        // Waits for a call that runs.
        drop(told.lock().unwrap_or_else(PoisonError::into_inner).take());
        release(&life, shared);
    });
    freed.map_or(ZEPTO_E_PANIC, |()| ZEPTO_OK)
}
