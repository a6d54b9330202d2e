//! Tells a program that the cluster has changed.

use crate::client::{self, zepto_client};
use crate::error::{Failure, zepto_error};
use crate::handle::{clear, hand_out, not_in_callback};
use crate::listener::{Callee, Listener, Place, free};
use crate::status::*;
use core::ffi::c_void;
use core::time::Duration;
use std::sync::Arc;

/// Called when the cluster has changed, with the index of the log that it has changed to. It must
/// not throw. Functions that are not [callback-safe] refuse to be called from it.
pub type zepto_change_fn = Option<unsafe extern "C" fn(user: *mut c_void, index: u64)>;

/// Called once, after the last use of `user`.
pub type zepto_drop_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// A watch. Free it with `zepto_watch_free`.
pub struct zepto_watch(Listener<Changed>);

type Changed = unsafe extern "C" fn(*mut c_void, u64);

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
        let callee = Callee { function: changed, user, dropped: user_drop };
        let listener = Listener::new(Arc::clone(&client.shared), callee);
        client.shared.spawn(watch(client.shared.client.clone(), listener.place()));
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_watch(listener)) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { client::of(client, error, body) }
}

/// Tells of every change until nobody wants to hear of them.
async fn watch(client: ::zepto_client::Client, place: Place<Changed>) {
    /// Longest time without a look at whether somebody still does.
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    let mut known = 0;
    loop {
        let beyond = |placement: &zepto_core::topology::Placement| placement.index > known;
        let changed = client.wait_until("change", LOOK_EVERY, beyond).await.is_ok();
        let told = place.with(|callee| {
            if changed {
                known = client.view().index();
                // SAFETY: the function is the caller's, and so is what it is called with, until
                // it is dropped.
                callee.call(|changed, user| unsafe { changed(user, known) });
            }
        });
        if told.is_none() {
            return;
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
    // SAFETY: the caller's promise.
    unsafe { free(watch, |watch| watch.0) }
}
