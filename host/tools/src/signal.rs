//! Waiting for a person or a supervisor to end a command.
//!
//! A supervisor may also hold the other end of a command's standard input, which ends when the
//! supervisor does, however that comes about.

use std::io::Read;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// SIGINT and SIGTERM. While one of these lives, and ever after, neither ends the process by
/// itself.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|e| Failure::failed("cannot listen to signals", e));
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one. Dropping the future loses none.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// SIGHUP, which asks for files to be read again.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Starts to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self, Failure> {
        let listened = signal(SignalKind::hangup());
        listened.map(Self).map_err(|e| Failure::failed("cannot listen to signals", e))
    }

    /// Waits for the next one. Dropping the future loses none.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Waits for the end of standard input if that is `wanted`, else for ever. What is read is of no
/// interest, and an input that fails is over as well.
pub async fn stdin_end(wanted: bool) {
    if !wanted {
        return core::future::pending().await;
    }
    let ended = tokio::task::spawn_blocking(|| {
        let mut bytes = [0; 256];
        let mut input = std::io::stdin().lock();
        while input.read(&mut bytes).is_ok_and(|read| read > 0) {}
    });
    if let Err(error) = ended.await {
        eprintln!("zepto-host: cannot watch the standard input: {error}");
    }
}
