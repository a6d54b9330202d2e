//! Why a measurement has no result, and how a user ends one early.
//!
//! Nothing here panics on what servers answer: a failure goes up with its reason, and everything
//! that was started or created on the way is dropped, which stops and removes it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why there is no result, for people.
#[derive(Debug)]
pub struct Failure(pub String);

/// A result, or why there is none.
pub type Result<T> = std::result::Result<T, Failure>;

/// No result, for this reason.
pub fn fail<T>(why: impl Into<String>) -> Result<T> {
    Err(Failure(why.into()))
}

/// Says what was being done when it failed.
pub trait While<T> {
    /// Adds it to the failure.
    fn doing(self, what: &str) -> Result<T>;
}

impl<T, E: fmt::Display> While<T> for std::result::Result<T, E> {
    fn doing(self, what: &str) -> Result<T> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C or SIGTERM makes [`go_on`] fail; a second one ends the process at once.
pub fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing("a runtime for signals")?;
    let wait = async {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                // Servers end with this process; only directories stay behind.
                std::process::exit(130);
            }
            eprintln!("interrupted: stopping the servers; a second signal ends this at once");
        }
    };
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || runtime.block_on(wait)).doing("a thread for signals")?;
    Ok(())
}

/// Fails once the user wants to stop.
#[inline]
pub fn go_on() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { fail("interrupted") } else { Ok(()) }
}
