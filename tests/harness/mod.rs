//! Real processes for tests: `zepto-host` as users run it, with deadlines on everything.
//!
//! Invariant: whatever is started is ended, by id, also when a test panics or is killed: nodes end
//! with the pipe to their standard input. Lacks everything that is not visible from outside.

pub mod binary;
pub mod cluster;
pub mod data;
pub mod feeder;
pub mod host;
pub mod process;
pub mod system;
pub mod watchdog;

pub use cluster::Cluster;
pub use feeder::Feeder;
pub use host::Host;
pub use process::{Ended, Process, run};
pub use watchdog::Watchdog;

use core::time::Duration;
use std::io::Write;
use std::time::Instant;

/// Time for what is expected at once, on a machine that does much else.
pub const SOON: Duration = Duration::from_secs(30);
/// Time for a command that moves millions of ticks in a build with debug assertions.
pub const LONG: Duration = Duration::from_secs(180);
/// Time between two looks at something that changes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The time, from the real clock: these tests are about real time.
#[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits without doing anything.
#[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Says that something is not tested here, past the test harness, which would keep it to itself.
pub fn skipped(why: &str) {
    // One write, so that two tests' words do not mix; nobody can be told that it failed.
    drop(std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()));
}

/// Looks again and again until there is a result.
///
/// # Panics
/// When there is none within the limit: `what` did not happen.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let until = now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < until, "within {limit:?} this did not happen: {what}");
        pause(LOOK_EVERY);
    }
}
