//! The thread of one instance: it takes one job at a time, and is never waited for without a
//! deadline. A native plugin that hangs keeps its thread; nobody else notices.

use crate::error::LoadError;
use crate::instance::Fault;
use crate::runner::{Delivery, Done, Opening, Runner, Tally};
use core::time::Duration;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Starts a thread, by name. The node crate's part: only it starts threads.
pub type Spawn = Arc<dyn Fn(String, Box<dyn FnOnce() + Send>) -> std::io::Result<()> + Send + Sync>;

/// What the thread is asked to do.
pub(super) enum Job {
    /// Open the instance.
    Open(Opening, oneshot::Sender<Result<Done, LoadError>>),
    /// Deliver an event.
    Deliver(Delivery, oneshot::Sender<Result<Done, Fault>>),
    /// Nobody waits for the reply to a question any more.
    ForgetQuestion(u64),
    /// What it had in the outside world is over.
    Silence,
    /// Tell what is counted.
    Tally(oneshot::Sender<Tally>),
    /// Close the instance.
    Close(Duration, oneshot::Sender<()>),
}

/// Jobs that wait for one thread: the manager asks for one at a time, and forgets questions.
const JOBS_MAX: usize = 256;

/// Starts the thread of an instance.
pub(super) fn start(
    spawn: &Spawn,
    name: &str,
    runner: Runner,
) -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel(JOBS_MAX);
    spawn(format!("zp-{name}"), Box::new(move || run(runner, jobs)))?;
    Ok(sender)
}

/// Works until the instance is closed, or nobody is left to ask.
fn run(mut runner: Runner, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        // Who asked may have given up; then there is nobody to tell.
        match job {
            Job::Open(opening, reply) => drop(reply.send(runner.open(&opening))),
            Job::Deliver(delivery, reply) => drop(reply.send(runner.deliver(&delivery))),
            Job::ForgetQuestion(token) => runner.forget_question(token),
            Job::Silence => runner.forget_all(),
            Job::Tally(reply) => drop(reply.send(runner.tally())),
            Job::Close(within, reply) => {
                runner.close(within);
                let _gone = reply.send(());
                return;
            }
        }
    }
}
