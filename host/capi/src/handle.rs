//! What all handles have in common, and the boundary that nothing unwinds through.

use crate::error::{Failure, zepto_error};
use crate::fork;
use crate::status::*;
use core::any::Any;
use core::cell::Cell;
use core::sync::atomic::{AtomicU8, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const BROKEN: u8 = 2;

/// Whether a handle may be used.
#[derive(Debug)]
pub(crate) struct Life {
    process: u32,
    state: AtomicU8,
}

impl Life {
    /// Of a handle that is opened now, in this process.
    pub fn begin() -> Self {
        Self { process: fork::here(), state: AtomicU8::new(OPEN) }
    }

    /// Whether it may be used.
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OPEN && fork::is_here(self.process)
    }

    /// `ZEPTO_OK`, or why it may not be used.
    #[inline]
    pub fn status(&self) -> zepto_status {
        if self.is_open() { ZEPTO_OK } else { self.why() }
    }

    #[cold]
    fn why(&self) -> zepto_status {
        let is_broken = self.state.load(Ordering::Relaxed) == BROKEN;
        if is_broken { ZEPTO_E_PANIC } else { ZEPTO_E_BAD_STATE }
    }

    /// The same with words.
    pub fn check(&self) -> Result<(), Failure> {
        match self.status() {
            ZEPTO_OK => Ok(()),
            ZEPTO_E_PANIC => {
                Err(Failure::new(ZEPTO_E_PANIC, "a panic was caught before: only free it"))
            }
            status if self.is_here() => Err(Failure::new(status, "it is closed")),
            status => Err(Failure::new(status, "the process was forked: open another one here")),
        }
    }

    /// Whether this is the process that opened it. In a child there are no threads to wait for.
    pub fn is_here(&self) -> bool {
        fork::is_here(self.process)
    }

    /// Nothing but freeing is possible from now on.
    pub fn close(&self) {
        self.state.store(CLOSED, Ordering::Relaxed);
    }

    fn break_down(&self) {
        self.state.store(BROKEN, Ordering::Relaxed);
    }
}

/// Runs a function's body. What fails is told, and a panic ends here, and the handle with it.
///
/// # Safety
/// `error` must be NULL or writable.
pub(crate) unsafe fn call(
    life: Option<&Life>,
    error: *mut *mut zepto_error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> zepto_status {
    if !error.is_null() {
        // SAFETY: the caller's promise. Whoever looks at it after success finds nothing to free.
        unsafe { error.write(core::ptr::null_mut()) };
    }
    let checked = life.map_or(Ok(()), Life::check);
    let done = match checked {
        Ok(()) => caught(life, body).unwrap_or_else(|text| Err(Failure::new(ZEPTO_E_PANIC, text))),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => ZEPTO_OK,
        // SAFETY: the caller's promise.
        Err(failure) => unsafe { failure.hand_out(error) },
    }
}

/// Runs something that may panic; the error is what the panic said.
#[inline(always)]
pub(crate) fn caught<R>(life: Option<&Life>, body: impl FnOnce() -> R) -> Result<R, String> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(done) => Ok(done),
        Err(payload) => Err(panicked(life, payload)),
    }
}

#[cold]
#[inline(never)]
fn panicked(life: Option<&Life>, payload: Box<dyn Any + Send>) -> String {
    if let Some(life) = life {
        life.break_down();
    }
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    // What a panic carries may panic when it is dropped.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(again);
    }
    format!("panic: {}", text.unwrap_or_default())
}

/// The handle behind a pointer.
///
/// # Safety
/// `handle` must be NULL or of this library, and not freed while it is used.
pub(crate) unsafe fn get<'a, T>(handle: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { handle.as_ref() }.ok_or_else(|| Failure::null(what))
}

/// Hands a new handle out.
///
/// # Safety
/// `out` must be writable.
pub(crate) unsafe fn hand_out<T>(out: *mut *mut T, value: T) {
    // SAFETY: the caller's promise.
    unsafe { out.write(Box::into_raw(Box::new(value))) };
}

/// Clears where a handle goes, so that nobody frees what was there before.
///
/// # Safety
/// `out` must be NULL or writable.
pub(crate) unsafe fn clear<T>(out: *mut *mut T, what: &str) -> Result<(), Failure> {
    if out.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(core::ptr::null_mut()) };
    Ok(())
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs the caller's code: what waits for this thread must not be called from it.
pub(crate) fn callback(call: impl FnOnce()) {
    // One may be within another: what the first one's functions log is told by a second.
    let outer = IN_CALLBACK.replace(true);
    call();
    IN_CALLBACK.set(outer);
}

/// Whether this is not the caller's code within a callback.
pub(crate) fn not_in_callback() -> Result<(), Failure> {
    if IN_CALLBACK.get() {
        let text = "not from within a callback: it would wait for itself";
        return Err(Failure::new(ZEPTO_E_REENTRANT, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{zepto_error_code, zepto_error_free, zepto_error_message};

    /// What C sees of a call: the status, and the error's text.
    fn seen(life: &Life, body: impl FnOnce() -> Result<(), Failure>) -> (zepto_status, String) {
        let mut error = core::ptr::null_mut();
        // SAFETY: it is writable.
        let status = unsafe { call(Some(life), &raw mut error, body) };
        // SAFETY: it is NULL, or the library's.
        assert_eq!(unsafe { zepto_error_code(error) }, status);
        // SAFETY: as above.
        let text = unsafe { zepto_error_message(error) };
        // SAFETY: it lives as long as the error.
        let text = unsafe { text.read("text") }.unwrap().to_owned();
        // SAFETY: nobody uses it any more.
        unsafe { zepto_error_free(error) };
        (status, text)
    }

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("again");
        }
    }

    #[test]
    fn a_panic_ends_at_the_boundary_and_the_handle_with_it() {
        let life = Life::begin();
        assert_eq!(seen(&life, || Ok(())), (ZEPTO_OK, String::new()));
        let panicked = seen(&life, || panic!("on purpose"));
        assert_eq!(panicked, (ZEPTO_E_PANIC, "panic: on purpose".into()));
        let (status, text) = seen(&life, || Ok(()));
        assert_eq!((status, life.status()), (ZEPTO_E_PANIC, ZEPTO_E_PANIC));
        assert!(text.contains("only free it"), "{text}");
        // One whose payload panics when it is dropped.
        let life = Life::begin();
        assert_eq!(seen(&life, || std::panic::panic_any(Bomb)).0, ZEPTO_E_PANIC);
    }

    #[test]
    fn what_is_closed_says_so() {
        let life = Life::begin();
        life.close();
        assert_eq!(seen(&life, || Ok(())), (ZEPTO_E_BAD_STATE, "it is closed".into()));
    }

    #[test]
    fn whoever_wants_no_error_gets_none() {
        // SAFETY: NULL is allowed.
        let status = unsafe { call(None, core::ptr::null_mut(), || Err(Failure::null("x"))) };
        assert_eq!(status, ZEPTO_E_INVALID);
    }

    #[test]
    fn within_a_callback_nothing_is_waited_for() {
        assert!(not_in_callback().is_ok());
        callback(|| assert_eq!(not_in_callback().unwrap_err().status, ZEPTO_E_REENTRANT));
        assert!(not_in_callback().is_ok());
    }
}
