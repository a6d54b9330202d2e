//! The producer. One thread owns it, so a tick costs no lock: the first that uses it, until that
//! one lets it go. Any other thread gets a status.

use crate::account::{account_of, zepto_account};
use crate::client::{self, Shared, release, zepto_client};
use crate::error::{Failure, zepto_error};
use crate::handle::{Life, call, caught, clear, get, hand_out, not_in_callback};
use crate::sized::{self, grows};
use crate::status::*;
use crate::text::zepto_str;
use crate::tick::zepto_tick;
use ::zepto_client::producer::IngestError;
use ::zepto_client::{ProducerOptions, TickProducer};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

/// Acknowledged means: in as many nodes as the cluster declares copies.
pub const ZEPTO_DURABILITY_REPLICATED: u32 = 0;
/// Acknowledged means: in its owner's memory.
pub const ZEPTO_DURABILITY_MEMORY: u32 = 1;
/// Remember what becomes of the last million ticks, for `zepto_outcome`.
pub const ZEPTO_PRODUCER_TICKETS: u32 = 1;

/// How to open a producer. Zero it, and fill in what is needed.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct zepto_producer_options {
    /// `sizeof` of this struct.
    pub struct_size: u32,
    /// `ZEPTO_DURABILITY_*`.
    pub durability: u32,
    /// `ZEPTO_PRODUCER_*`.
    pub flags: u32,
    /// Ticks that may be on their way to each shard of a node, a power of two; 0 is the default.
    pub window: u32,
}
grows!(zepto_producer_options = 16);

/// A producer. Free it with `zepto_producer_free`.
pub struct zepto_producer {
    life: Life,
    /// The thread that owns it; 0 is none.
    owner: AtomicU64,
    producer: UnsafeCell<TickProducer>,
    /// Its threads, as long as it lives.
    shared: Arc<Shared>,
}

/// What tells this thread from all others that live.
#[inline(always)]
fn this_thread() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let pointer: u64;
        // SAFETY: the thread's own control block begins with its address, in every x86-64 ABI of
        // Linux; it is only read.
        unsafe {
            core::arch::asm!("mov {}, fs:0", out(reg) pointer,
                options(nostack, preserves_flags, readonly, pure));
        }
        pointer
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        thread_local! { static HERE: u8 = const { 0 }; }
        HERE.with(|here| core::ptr::from_ref(here).addr() as u64)
    }
}

impl zepto_producer {
    /// The producer, if this thread owns it, or it is nobody's.
    pub(crate) fn enter(&self) -> Result<&mut TickProducer, zepto_status> {
        let status = self.life.status();
        if status != ZEPTO_OK {
            return Err(status);
        }
        if self.owner.load(Ordering::Relaxed) != this_thread() {
            self.take()?;
        }
        self.enter_again().ok_or(ZEPTO_E_BAD_STATE)
    }

    /// The producer, if this thread owns it already.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the owner's thread is the only one that gets here")]
    fn enter_again(&self) -> Option<&mut TickProducer> {
        if !self.life.is_open() || self.owner.load(Ordering::Relaxed) != this_thread() {
            return None;
        }
        // SAFETY: only the thread that owns it comes here, and no call of it comes from within
        // another: the producer calls nobody back.
        Some(unsafe { &mut *self.producer.get() })
    }

    /// Makes it this thread's, if it is nobody's. What the last owner did is seen then.
    #[cold]
    fn take(&self) -> Result<(), zepto_status> {
        let taken =
            self.owner.compare_exchange(0, this_thread(), Ordering::Acquire, Ordering::Relaxed);
        taken.map(drop).map_err(|_| ZEPTO_E_BAD_STATE)
    }

    fn enter_told(&self) -> Result<&mut TickProducer, Failure> {
        self.life.check()?;
        self.enter().map_err(|status| {
            Failure::new(status, "it is another thread's, until that calls zepto_producer_detach")
        })
    }
}

#[cold]
fn status_of(error: IngestError) -> zepto_status {
    match error {
        IngestError::Busy => ZEPTO_E_BUSY,
        IngestError::Offline => ZEPTO_E_REFUSED,
        IngestError::UnknownSymbol => ZEPTO_E_NOT_FOUND,
        IngestError::Malformed => ZEPTO_E_INVALID,
        _ => ZEPTO_E_INTERNAL,
    }
}

/// Opens a producer; `options` may be NULL. It sends each tick to its owner: over shared memory on
/// the same machine, over the network otherwise. [any thread] [not callback-safe]
///
/// # Safety
/// `client` must be of this library, `options` NULL or readable, `out` writable, `error` NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_producer_open(
    client: *const zepto_client,
    options: *const zepto_producer_options,
    out: *mut *mut zepto_producer,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        not_in_callback()?;
        let mut wanted = ProducerOptions::default();
        if !options.is_null() {
            // SAFETY: the caller's promise.
            wanted = wanted_by(unsafe { sized::read(options) }?)?;
        }
        let producer = client.shared.client.producer(wanted);
        let opened = zepto_producer {
            life: Life::begin(),
            owner: AtomicU64::new(0),
            producer: UnsafeCell::new(producer),
            shared: Arc::clone(&client.shared),
        };
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, opened) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { client::of(client, error, body) }
}

fn wanted_by(options: zepto_producer_options) -> Result<ProducerOptions, Failure> {
    let default = ProducerOptions::default();
    let memory_only = match options.durability {
        ZEPTO_DURABILITY_REPLICATED => false,
        ZEPTO_DURABILITY_MEMORY => true,
        other => return Err(Failure::invalid(format!("durability {other}"))),
    };
    if options.flags & !ZEPTO_PRODUCER_TICKETS != 0 {
        return Err(Failure::new(ZEPTO_E_UNSUPPORTED, "flags of a version after this library's"));
    }
    let lane_slots = match options.window {
        0 => default.lane_slots,
        window if window.is_power_of_two() && (64..=default.lane_slots).contains(&window) => window,
        window => {
            let text = format!("window {window}: a power of two, 64 to {}", default.lane_slots);
            return Err(Failure::invalid(text));
        }
    };
    Ok(ProducerOptions { lane_slots, memory_only, tickets: options.flags != 0 })
}

/// The id of a symbol's name, issued now where it is new. What was taken goes its way meanwhile.
/// [owner's thread] [not callback-safe]
///
/// # Safety
/// `producer` must be of this library, `name` readable, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_symbol(
    producer: *mut zepto_producer,
    name: zepto_str,
    timeout_ns: u64,
    out: *mut u32,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |producer: &mut TickProducer| {
        if out.is_null() {
            return Err(Failure::null("out"));
        }
        // SAFETY: the caller's promise.
        let name = unsafe { name.read("name") }?.to_owned();
        not_in_callback()?;
        let ids = producer.symbols(&[name], Duration::from_nanos(timeout_ns))?;
        let id = ids.first().copied();
        let id = id.ok_or_else(|| Failure::new(ZEPTO_E_INTERNAL, "a name without an id"))?;
        // SAFETY: the caller's promise.
        unsafe { out.write(id) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { of(producer, error, body) }
}

/// Takes a tick and returns at once: `ZEPTO_OK`, or `ZEPTO_E_BUSY` when there is no room just now,
/// `ZEPTO_E_REFUSED` when nobody owns its partition, `ZEPTO_E_NOT_FOUND` when its symbol's id was
/// never issued. Whatever is not OK was not taken. What was taken may wait here until the next
/// `zepto_poll`, so call that often, and always when there is nothing to take.
/// [owner's thread] [callback-safe]
///
/// # Safety
/// `producer` must be of this library, `tick` readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ingest(
    producer: *mut zepto_producer,
    tick: *const zepto_tick,
) -> zepto_status {
    // SAFETY: the caller's promise.
    let Some(producer) = (unsafe { producer.as_ref() }) else { return ZEPTO_E_INVALID };
    // SAFETY: the caller's promise.
    let Some(tick) = (unsafe { tick.as_ref() }) else { return ZEPTO_E_INVALID };
    // Nothing is called on this way, so that it needs no stack frame; all else is another function.
    let taken = caught(Some(&producer.life), || {
        producer.enter_again().is_some_and(|it| it.ingest_now(tick.slot()))
    });
    if let Ok(true) = taken { ZEPTO_OK } else { ingest_slowly(producer, tick) }
}

#[cold]
#[inline(never)]
fn ingest_slowly(producer: &zepto_producer, tick: &zepto_tick) -> zepto_status {
    let taken = caught(Some(&producer.life), || {
        producer.enter().and_then(|it| it.ingest(tick.slot()).map_err(status_of))
    });
    taken.map_or(ZEPTO_E_PANIC, |taken| taken.map_or_else(|status| status, |()| ZEPTO_OK))
}

/// Takes a tick, and waits for room for so long: `ZEPTO_E_BUSY` when there was none.
/// [owner's thread] [not callback-safe]
///
/// # Safety
/// As for `zepto_ingest`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ingest_wait(
    producer: *mut zepto_producer,
    tick: *const zepto_tick,
    timeout_ns: u64,
) -> zepto_status {
    // SAFETY: the caller's promise.
    let Some(producer) = (unsafe { producer.as_ref() }) else { return ZEPTO_E_INVALID };
    // SAFETY: the caller's promise.
    let Some(tick) = (unsafe { tick.as_ref() }) else { return ZEPTO_E_INVALID };
    if let Err(failure) = not_in_callback() {
        return failure.status;
    }
    let within = Duration::from_nanos(timeout_ns);
    let taken = caught(Some(&producer.life), || {
        producer.enter().and_then(|it| it.ingest_wait(tick.slot(), within).map_err(status_of))
    });
    taken.map_or(ZEPTO_E_PANIC, |taken| taken.map_or_else(|status| status, |()| ZEPTO_OK))
}

/// Takes `count` ticks, in order, as far as there is room, and sends them on their way. `taken`
/// gets how many, which is all of them if the status is `ZEPTO_OK`; the status is about the first
/// that was not taken. [owner's thread] [callback-safe]
///
/// # Safety
/// `producer` must be of this library, `ticks` readable for `count` ticks, `taken` NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_ingest_batch(
    producer: *mut zepto_producer,
    ticks: *const zepto_tick,
    count: usize,
    taken: *mut usize,
) -> zepto_status {
    let mut done = 0;
    // SAFETY: the caller's promise.
    let handle = unsafe { producer.as_ref() };
    let ended = match handle {
        Some(handle) if count == 0 || !ticks.is_null() => {
            let taking = caught(Some(&handle.life), || {
                let producer = match handle.enter() {
                    Ok(producer) => producer,
                    Err(status) => return status,
                };
                // SAFETY: the caller's promise: so many are there.
                let ticks = unsafe { batch(ticks, count) };
                let mut ended = ZEPTO_OK;
                for tick in ticks {
                    if let Err(error) = producer.ingest(tick.slot()) {
                        ended = status_of(error);
                        break;
                    }
                    done += 1;
                }
                producer.publish();
                ended
            });
            taking.unwrap_or(ZEPTO_E_PANIC)
        }
        _ => ZEPTO_E_INVALID,
    };
    if !taken.is_null() {
        // SAFETY: the caller's promise.
        unsafe { taken.write(done) };
    }
    ended
}

/// # Safety
/// `ticks` must be readable for `count` ticks, or `count` zero.
unsafe fn batch<'a>(ticks: *const zepto_tick, count: usize) -> &'a [zepto_tick] {
    if count == 0 {
        return &[];
    }
    // SAFETY: as is.
    unsafe { core::slice::from_raw_parts(ticks, count) }
}

/// Sends what was taken, and reads what owners said, without waiting: for when there is nothing to
/// take. [owner's thread] [callback-safe]
///
/// # Safety
/// `producer` must be of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_poll(producer: *mut zepto_producer) -> zepto_status {
    // SAFETY: the caller's promise.
    let Some(producer) = (unsafe { producer.as_ref() }) else { return ZEPTO_E_INVALID };
    let polled = caught(Some(&producer.life), || producer.enter().map(TickProducer::poll));
    polled.map_or(ZEPTO_E_PANIC, |polled| polled.map_or_else(|status| status, |_| ZEPTO_OK))
}

/// Sends what was taken, and waits until all of it is acknowledged or refused: `ZEPTO_OK`, also
/// when some were refused, which `account` tells; `ZEPTO_E_TIMEOUT` when the deadline passed
/// before. `account` may be NULL. [owner's thread] [not callback-safe]
///
/// # Safety
/// `producer` must be of this library, `account` NULL or writable, its `struct_size` filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_flush(
    producer: *mut zepto_producer,
    timeout_ns: u64,
    account: *mut zepto_account,
) -> zepto_status {
    let body = |producer: &mut TickProducer| {
        not_in_callback()?;
        let done = producer.flush(Duration::from_nanos(timeout_ns));
        if !account.is_null() {
            // SAFETY: the caller's promise.
            unsafe { sized::write(account, &account_of(&done)) }?;
        }
        if done.is_final() {
            return Ok(());
        }
        let text = format!("{} on their way, {} waiting", done.in_flight, done.parked);
        Err(Failure::new(ZEPTO_E_TIMEOUT, text))
    };
    // SAFETY: the caller's promise.
    unsafe { of(producer, core::ptr::null_mut(), body) }
}

/// Lets it go: the next thread that uses it owns it. [owner's thread] [callback-safe]
///
/// # Safety
/// `producer` must be of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_producer_detach(producer: *mut zepto_producer) -> zepto_status {
    // SAFETY: the caller's promise.
    let Some(producer) = (unsafe { producer.as_ref() }) else { return ZEPTO_E_INVALID };
    if let Err(status) = producer.enter() {
        return status;
    }
    producer.owner.store(0, Ordering::Release);
    ZEPTO_OK
}

/// Takes nothing from now on. What is not acknowledged yet may be lost: flush before. It is freed
/// later. [owner's thread] [callback-safe]
///
/// # Safety
/// `producer` must be of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_producer_close(producer: *mut zepto_producer) -> zepto_status {
    // SAFETY: the caller's promise.
    let Some(producer) = (unsafe { producer.as_ref() }) else { return ZEPTO_E_INVALID };
    if let Err(status) = producer.enter() {
        return status;
    }
    producer.life.close();
    ZEPTO_OK
}

/// Frees it; NULL is fine. What is not acknowledged may be lost: flush before. Nobody may be using
/// it. [any thread] [not callback-safe]
///
/// # Safety
/// `producer` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_producer_free(producer: *mut zepto_producer) -> zepto_status {
    if producer.is_null() {
        return ZEPTO_OK;
    }
    if let Err(failure) = not_in_callback() {
        return failure.status;
    }
    // SAFETY: the caller's promise; it was made by `Box::into_raw`.
    let opened = *unsafe { Box::from_raw(producer) };
    let freed = caught(None, || {
        let zepto_producer { life, producer, shared, .. } = opened;
        if life.is_here() {
            drop(producer);
        } else {
            core::mem::forget(producer);
        }
        release(&life, shared);
    });
    freed.map_or(ZEPTO_E_PANIC, |()| ZEPTO_OK)
}

/// Runs a function of a producer's.
///
/// # Safety
/// `producer` must be NULL or of this library, `error` NULL or writable.
pub(crate) unsafe fn of(
    producer: *mut zepto_producer,
    error: *mut *mut zepto_error,
    body: impl FnOnce(&mut TickProducer) -> Result<(), Failure>,
) -> zepto_status {
    // SAFETY: the caller's promise.
    match unsafe { get(producer.cast_const(), "producer") } {
        Ok(handle) => {
            // SAFETY: the caller's promise.
            unsafe { call(Some(&handle.life), error, || body(handle.enter_told()?)) }
        }
        // SAFETY: the caller's promise.
        Err(failure) => unsafe { failure.hand_out(error) },
    }
}
