//! What the tests of this crate share: commands, and a log whose worker runs.

pub mod lossy;

use crate::single::{LogError, Single, SingleWorker};
use crate::state::EventSink;
use crate::{Command, ControlLog, Outcome};
use core::time::Duration;
use std::sync::Arc;
use std::thread::JoinHandle;
use zepto_core::{Incarnation, NodeId};

/// Long enough that nothing here runs into it.
pub const LONG: Duration = Duration::from_secs(60);

pub fn bootstrap() -> Command {
    Command::Bootstrap { cluster: 0xC1, bits: 4, copies: 1 }
}

pub fn join(name: &str, incarnation: u64) -> Command {
    Command::Join {
        name: name.into(),
        incarnation: Incarnation(incarnation),
        address: "host:1".into(),
        shards: 1,
        weight: 100,
        zone: String::new(),
    }
}

pub fn activate(node: u32, incarnation: u64) -> Command {
    Command::Activate { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

pub fn intern(name: &str) -> Command {
    Command::Intern { names: vec![name.into()] }
}

pub fn no_events() -> EventSink {
    Box::new(|_, _| {})
}

/// The first entries of every log: a cluster "c1" with an active node 1.
pub fn first_entries() -> [Command; 3] {
    [bootstrap(), join("a", 1), activate(1, 1)]
}

/// A log and the thread its worker runs on.
pub struct Running {
    pub log: Arc<Single>,
    worker: JoinHandle<Result<(), LogError>>,
}

impl Running {
    pub fn start((log, worker): (Arc<Single>, SingleWorker)) -> Self {
        Self { log, worker: run(worker) }
    }

    pub fn propose(&self, command: Command) -> Outcome {
        block_on(self.log.propose(command, LONG))
    }

    pub fn commit(&self, command: Command) -> u64 {
        match self.propose(command) {
            Outcome::Committed { index } => index,
            other => panic!("{other:?}"),
        }
    }

    /// Stops the log and closes its file.
    pub fn stop(self) -> Result<(), LogError> {
        self.log.stop();
        self.worker.join().unwrap()
    }

    /// Waits until the worker ends by itself.
    pub fn join(self) -> Result<(), LogError> {
        self.worker.join().unwrap()
    }
}

pub fn run(worker: SingleWorker) -> JoinHandle<Result<(), LogError>> {
    on_a_thread(move || worker.run())
}

#[expect(clippy::disallowed_methods, reason = "the node crate's part, played by the test")]
pub fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(run)
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap().block_on(future)
}
