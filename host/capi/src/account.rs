//! What became of a producer's ticks: of all of them, and of each.

use crate::error::Failure;
use crate::producer::{of, zepto_producer};
use crate::sized::{self, grows};
use crate::status::*;
use crate::text::zepto_str;
use ::zepto_client::TickProducer;
use ::zepto_client::producer::{Account, Outcome};
use zepto_abi::Refusal;

/// Reasons of a refusal that an account tells apart; those of later versions are in the last.
pub const ZEPTO_REFUSALS: usize = 24;

/// What became of all ticks: accepted = acknowledged + refused + in_flight + parked.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct zepto_account {
    /// `sizeof` of this struct.
    pub struct_size: u32,
    /// Why ticks wait, if they do: a `zepto_refusal_text` of it tells; 0 is nothing.
    pub parked_for: u32,
    /// Taken by ingest.
    pub accepted: u64,
    /// There, with the durability that was asked for.
    pub acknowledged: u64,
    /// Not there, for good.
    pub refused: u64,
    /// On their way. After a deadline: unknown, there or not.
    pub in_flight: u64,
    /// Waiting in this process for an owner: not sent to the one they wait for.
    pub parked: u64,
    /// Refused by reason.
    pub refused_by: [u64; ZEPTO_REFUSALS],
}
grows!(zepto_account = 240);

/// What became of all ticks so far. [owner's thread] [callback-safe]
///
/// # Safety
/// `producer` must be of this library, `account` writable, its `struct_size` filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_account_get(
    producer: *mut zepto_producer,
    account: *mut zepto_account,
) -> zepto_status {
    let body = |producer: &mut TickProducer| {
        // SAFETY: the caller's promise.
        unsafe { sized::write(account, &account_of(&producer.account())) }
    };
    // SAFETY: the caller's promise.
    unsafe { of(producer, core::ptr::null_mut(), body) }
}

pub(crate) fn account_of(account: &Account) -> zepto_account {
    let mut refused_by = [0; ZEPTO_REFUSALS];
    for (reason, count) in &account.refused {
        refused_by[usize::from(reason.code()).min(ZEPTO_REFUSALS - 1)] += count;
    }
    zepto_account {
        struct_size: size_of::<zepto_account>() as u32,
        parked_for: match account.parked_for {
            Some(reason) if account.parked > 0 => reason.code().into(),
            _ => 0,
        },
        accepted: account.accepted,
        acknowledged: account.settled,
        refused: account.refused_total(),
        in_flight: account.in_flight,
        parked: account.parked,
        refused_by,
    }
}

/// The ticket of the tick that was taken last: how many were taken by then, so they count up by
/// one. 0 when nothing was taken, or the producer is not this thread's. [owner's thread]
/// [callback-safe]
///
/// # Safety
/// `producer` must be of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_last_ticket(producer: *mut zepto_producer) -> u64 {
    // SAFETY: the caller's promise.
    let producer = unsafe { producer.as_ref() };
    producer.and_then(|it| it.enter().ok()).map_or(0, |producer| producer.last_ticket())
}

/// What became of a tick, as of the last call that read what owners said: `ZEPTO_OK` when it is
/// acknowledged; `ZEPTO_E_BUSY` when that is not known yet; `ZEPTO_E_REFUSED` when it is not there,
/// and `reason`, which may be NULL, gets the number of why; `ZEPTO_E_NOT_FOUND` when it is too long
/// ago, or tickets are not kept. [owner's thread] [callback-safe]
///
/// # Safety
/// `producer` must be of this library, `reason` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_outcome(
    producer: *mut zepto_producer,
    ticket: u64,
    reason: *mut u32,
) -> zepto_status {
    let mut why = 0;
    let body = |producer: &mut TickProducer| match producer.outcome(ticket) {
        Outcome::Acknowledged => Ok(()),
        Outcome::Waiting => Err(Failure::new(ZEPTO_E_BUSY, "not known yet")),
        Outcome::Refused(refusal) => {
            why = refusal.code().into();
            Err(Failure::new(ZEPTO_E_REFUSED, refusal))
        }
        Outcome::Forgotten => Err(Failure::new(ZEPTO_E_NOT_FOUND, "not kept")),
    };
    // SAFETY: the caller's promise.
    let status = unsafe { of(producer, core::ptr::null_mut(), body) };
    if !reason.is_null() {
        // SAFETY: the caller's promise.
        unsafe { reason.write(why) };
    }
    status
}

/// A reason of a refusal, for people; "unknown" for one of a later version. There for good.
/// [any thread] [callback-safe]
#[unsafe(no_mangle)]
pub extern "C" fn zepto_refusal_text(reason: u32) -> zepto_str {
    let refusal = u16::try_from(reason).ok().and_then(Refusal::from_code);
    zepto_str::of(refusal.map_or("unknown", Refusal::text))
}
