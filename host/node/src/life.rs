//! What runs for a node: its threads and tasks, ended together.
//!
//! Dropping it tells everything to stop and waits for nothing; [`Life::end`] waits.

use crate::link::Log;
use crate::shards::ShardThreads;
use crate::start_error::StartError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::task::JoinSet;

/// Threads and tasks of one node.
#[derive(Default)]
pub(crate) struct Life {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Aborted when dropped.
    tasks: JoinSet<()>,
    shards: Option<ShardThreads>,
    log: Option<Log>,
}

impl Life {
    /// Runs a loop on a thread of its own until its flag is set.
    pub fn thread(
        &mut self,
        name: &'static str,
        run: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> Result<(), StartError> {
        let stop = Arc::clone(&self.stop);
        let thread = std::thread::Builder::new().name(name.into());
        let spawned = thread.spawn(move || run(&stop));
        self.threads.push(spawned.map_err(|error| StartError::system("a thread", error))?);
        Ok(())
    }

    /// Runs a task until the node ends.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The shards' threads are this life's.
    pub fn keep_shards(&mut self, shards: ShardThreads) {
        self.shards = Some(shards);
    }

    /// The log that a thread of this life writes.
    pub fn keep_log(&mut self, log: Log) {
        self.log = Some(log);
    }

    /// Ends everything and waits for it: tasks, shards, log, the other threads.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
        self.stop.store(true, Ordering::Release);
        if let Some(log) = self.log.take() {
            log.stop().await;
        }
        let (shards, threads) = (self.shards.take(), core::mem::take(&mut self.threads));
        let joined = tokio::task::spawn_blocking(move || {
            if let Some(shards) = shards {
                shards.stop();
            }
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread had panicked");
                }
            }
        });
        if joined.await.is_err() {
            tracing::error!("ending the threads panicked");
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(shards) = self.shards.take() {
            shards.stop();
        }
    }
}
