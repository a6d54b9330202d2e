//! Who listens: the caller's function with what it is called with, until nobody wants to hear.

use crate::client::{Shared, release};
use crate::handle::{Life, callback, caught, not_in_callback};
use crate::status::*;
use crate::watch::zepto_drop_fn;
use core::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

/// A function of the caller's.
pub(crate) struct Callee<F> {
    pub function: F,
    pub user: *mut c_void,
    pub dropped: zepto_drop_fn,
}

// SAFETY: `user` is the caller's, who says that it may be used from the library's threads, one at
// a time; a function may be called from any.
unsafe impl<F> Send for Callee<F> {}

impl<F> Drop for Callee<F> {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped {
            // SAFETY: the function is the caller's, and so is what it is called with; this is the
            // last use.
            callback(|| unsafe { dropped(self.user) });
        }
    }
}

/// The place of one, as long as somebody wants it to be called.
pub(crate) struct Place<F>(Arc<Mutex<Option<Callee<F>>>>);

impl<F> Clone for Place<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> Place<F> {
    /// Does something with the one that is there; `None` when nobody is any more.
    pub fn with<R>(&self, act: impl FnOnce(&Callee<F>) -> R) -> Option<R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(act)
    }
}

impl<F> Callee<F> {
    /// Calls it, from a task. It may wait for other threads: this one's other work goes to them
    /// meanwhile.
    pub fn call(&self, call: impl FnOnce(&F, *mut c_void)) {
        tokio::task::block_in_place(|| callback(|| call(&self.function, self.user)));
    }
}

/// What a handle of a listener holds.
pub(crate) struct Listener<F> {
    life: Life,
    shared: Arc<Shared>,
    place: Place<F>,
}

impl<F> Listener<F> {
    pub fn new(shared: Arc<Shared>, callee: Callee<F>) -> Self {
        let place = Place(Arc::new(Mutex::new(Some(callee))));
        Self { life: Life::begin(), shared, place }
    }

    pub fn place(&self) -> Place<F> {
        self.place.clone()
    }

    /// Waits for a call that runs, and lets the callee go.
    fn end(self) -> zepto_status {
        let Self { life, shared, place } = self;
        if !life.is_here() {
            // A lock of a thread that is not here may never be let go.
            core::mem::forget((shared, place));
            return ZEPTO_OK;
        }
        let freed = caught(None, || {
            drop(place.0.lock().unwrap_or_else(PoisonError::into_inner).take());
            release(&life, shared);
        });
        freed.map_or(ZEPTO_E_PANIC, |()| ZEPTO_OK)
    }
}

/// Frees a handle that is a listener.
///
/// # Safety
/// `handle` must be NULL or of this library, and is not used any more.
pub(crate) unsafe fn free<H, F>(handle: *mut H, inside: fn(H) -> Listener<F>) -> zepto_status {
    if handle.is_null() {
        return ZEPTO_OK;
    }
    if let Err(failure) = not_in_callback() {
        return failure.status;
    }
    // SAFETY: the caller's promise; it was made by `Box::into_raw`.
    inside(*unsafe { Box::from_raw(handle) }).end()
}
