//! The real environment: the process' clocks, the system's randomness, and a way to wait.
//!
//! The only place outside tests that asks for the time.

use core::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use zepto_core::env::Env;
use zepto_core::time::Nanos;

/// Clocks and randomness of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Real {
    origin: Instant,
}

impl Real {
    /// An environment whose monotonic clock starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the real environment")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// Waits a little for another thread or process, longer the longer it has been in vain:
    /// `rounds` counts the calls since something last happened.
    #[expect(clippy::disallowed_methods, reason = "this is the real environment")]
    pub fn pause(rounds: u32) {
        match rounds {
            0..64 => core::hint::spin_loop(),
            64..320 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}

impl Default for Real {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for Real {
    #[expect(clippy::disallowed_methods, reason = "this is the real environment")]
    fn now(&self) -> Nanos {
        Nanos(Instant::now().duration_since(self.origin).as_nanos() as u64)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the real environment")]
    fn wall_ns(&self) -> u64 {
        // A clock before 1970 is as good as none; nothing is ordered by it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_nanos() as u64
    }

    fn random(&self) -> u64 {
        random()
    }
}

/// 64 bits of the system's randomness.
///
/// # Panics
/// When the system has none: nothing that needs a fresh id can be right then.
pub fn random() -> u64 {
    match getrandom::u64() {
        Ok(bits) => bits,
        Err(error) => panic!("the system gives no random bits: {error}"),
    }
}

/// 128 bits of it.
pub fn random_128() -> u128 {
    (u128::from(random()) << 64) | u128::from(random())
}
