//! What the tests of this crate share: commands, threads, and a disk that loses power.

pub mod lossy;

use crate::Command;
use crate::state::EventSink;
use core::time::Duration;
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

#[expect(clippy::disallowed_methods, reason = "the node crate's part, played by the test")]
pub fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(run)
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap().block_on(future)
}
