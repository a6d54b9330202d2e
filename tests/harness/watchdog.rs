//! The end of a test that hangs: says which, and ends the whole test program.
//!
//! Every wait has its own deadline and a message that explains more. This one is for whatever
//! was forgotten: nodes see their standard input close, and end too.

use core::time::Duration;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};

/// Exit code of a test program that failed, as the test harness has it.
const FAILED: i32 = 101;

/// Watches one test until it is dropped.
pub struct Watchdog {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches the calling test.
    pub fn new(limit: Duration) -> Self {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let (over, ended) = channel::<()>();
        let thread = Builder::new().name("watchdog".into()).spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test} hangs: not over after {limit:?}");
                std::process::exit(FAILED);
            }
        });
        Self { over: Some(over), thread: Some(thread.expect("a thread")) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the watchdog only waits");
        }
    }
}
