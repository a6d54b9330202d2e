//! The ticks of a series, page by page.

use crate::client::zepto_client;
use crate::error::{Failure, zepto_error};
use crate::handle::{clear, hand_out};
use crate::query::{Question, ask, other, zepto_query};
use crate::status::*;
use crate::tick::zepto_tick;
use ::zepto_client::message::{Of, Part};
use zepto_core::slot::tick_of;
use zepto_store::query::Position;

/// Ticks, in order of event time and sequence. Free it with `zepto_ticks_free`.
pub struct zepto_ticks {
    ticks: Vec<zepto_tick>,
    next: Option<Position>,
}

impl zepto_ticks {
    pub(crate) fn rows(&self) -> &[zepto_tick] {
        &self.ticks
    }
}

/// The ticks of a series, of the kinds that the query says, or of every kind where it says none, a
/// page of them: those after the last of `after`, or from the beginning when that is NULL. [any
/// thread] [not callback-safe]
///
/// # Safety
/// As for `zepto_ohlcv`; `after` must be NULL or of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_range(
    client: *const zepto_client,
    query: *const zepto_query,
    after: *const zepto_ticks,
    out: *mut *mut zepto_ticks,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client, question: Question| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise.
        let after = unsafe { after.as_ref() };
        let after = match after {
            None => None,
            Some(before) => {
                let next = before.next;
                Some(next.ok_or_else(|| Failure::new(ZEPTO_E_NOT_FOUND, "that was the last page"))?)
            }
        };
        let kinds = question.said_kinds;
        let of = Of::Range { after, limit: question.limit };
        let Part::Range { ticks, next } = question.ask(client, of)? else { return Err(other()) };
        let ticks = ticks.iter().map(|words| zepto_tick::of(&tick_of(words)));
        let ticks = ticks.filter(|tick| kinds.is_none_or(|kinds| kinds.contains(tick.kind)));
        let ticks = ticks.collect();
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_ticks { ticks, next }) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { ask(client, query, error, body) }
}

/// How many ticks there are; 0 of NULL. [any thread] [callback-safe]
///
/// # Safety
/// `ticks` must be NULL or of this library, and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ticks_count(ticks: *const zepto_ticks) -> usize {
    // SAFETY: the caller's promise.
    unsafe { ticks.as_ref() }.map_or(0, |ticks| ticks.ticks.len())
}

/// The first of them, the others follow; NULL when there are none. [any thread] [callback-safe]
///
/// # Safety
/// As for `zepto_ticks_count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ticks_data(ticks: *const zepto_ticks) -> *const zepto_tick {
    // SAFETY: the caller's promise.
    let ticks = unsafe { ticks.as_ref() };
    match ticks {
        Some(ticks) if !ticks.ticks.is_empty() => ticks.ticks.as_ptr(),
        _ => core::ptr::null(),
    }
}

/// 1 when there are more: ask again with these as `after`. [any thread] [callback-safe]
///
/// # Safety
/// As for `zepto_ticks_count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ticks_more(ticks: *const zepto_ticks) -> i32 {
    // SAFETY: the caller's promise.
    i32::from(unsafe { ticks.as_ref() }.is_some_and(|ticks| ticks.next.is_some()))
}

/// Frees it; NULL is fine. [any thread] [callback-safe]
///
/// # Safety
/// `ticks` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ticks_free(ticks: *mut zepto_ticks) {
    if !ticks.is_null() {
        // SAFETY: the caller's promise; it was made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(ticks) });
    }
}
