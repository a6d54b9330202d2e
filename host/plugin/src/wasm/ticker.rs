//! The clock behind the deadlines of Wasm calls: it ticks once a millisecond while a call runs, and
//! sleeps otherwise.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::OnceLock;
use std::thread::Thread;
use wasmtime::Engine;

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the clock sleeps.
const AWAKE_TICKS: u32 = 50;
/// Longest sleep, after which it looks whether it is still wanted: a node that stops waits for it.
const SLEEP: Duration = Duration::from_millis(100);

/// The clock of one engine.
pub struct Ticker {
    engine: Engine,
    calls: AtomicUsize,
    sleeps: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            calls: AtomicUsize::new(0),
            sleeps: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Ticks until told to stop. Without it no call is interrupted: it must run before any plugin
    /// does.
    pub fn run(&self, stop: &AtomicBool) {
        self.thread.get_or_init(std::thread::current);
        let mut idle = 0;
        while !stop.load(Ordering::Acquire) {
            if self.calls.load(Ordering::SeqCst) > 0 {
                idle = 0;
            } else {
                idle += 1;
            }
            if idle < AWAKE_TICKS {
                std::thread::park_timeout(TICK);
                self.engine.increment_epoch();
                continue;
            }
            self.sleeps.store(true, Ordering::SeqCst);
            // A call that began before the store is seen here; one after it wakes this thread.
            if self.calls.load(Ordering::SeqCst) == 0 {
                std::thread::park_timeout(SLEEP);
            }
            self.sleeps.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }

    /// Ticks as long as the guard lives.
    pub(super) fn enter(&self) -> Ticking<'_> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.sleeps.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Ticking(self)
    }
}

/// A call that runs.
pub(super) struct Ticking<'a>(&'a Ticker);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ticks until a deadline has passed for certain.
pub(super) fn ticks(within: Duration) -> u64 {
    within.as_millis() as u64 + 1
}
