//! The loop that writes: all that is queued becomes one durable transaction, then all are told.
//!
//! A failed write is final: everybody who waits is told, now and later, and only a new process
//! tries again. A note of what is committed alone is not worth a sync: it waits for the next write,
//! or for the end.

use super::disk::Change;
use super::store::{self, Shared};
use super::types::{LogId, Types};
use crate::file::LogError;
use core::sync::atomic::{AtomicU64, Ordering};
use openraft::storage::IOFlushed;
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use zepto_core::limits::{DISK_QUEUE_MAX, PROPOSAL_BYTES_MAX};

/// The loop that writes the log. One per log; it must run for the log to start.
#[derive(Debug)]
pub struct DiskWorker {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Write>,
    transactions: Arc<AtomicU64>,
    /// A note that waits for company.
    held: Option<Option<LogId>>,
}

/// What the worker is told.
pub(crate) enum Write {
    /// Write this.
    Change(Change, Done),
    /// Write what came before, and end.
    Stop,
}

/// Whom to tell that it is written.
pub(crate) enum Done {
    /// openraft.
    Flushed(IOFlushed<Types>),
    /// Someone who waits.
    Tell(oneshot::Sender<io::Result<()>>),
    /// Nobody.
    Nobody,
}

impl DiskWorker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        transactions: Arc<AtomicU64>,
    ) -> (mpsc::Sender<Write>, Self) {
        let (sender, queue) = mpsc::channel(DISK_QUEUE_MAX);
        (sender, Self { shared, queue, transactions, held: None })
    }

    /// Writes until the log is stopped. Blocks; run it on a thread of its own.
    ///
    /// # Errors
    /// The disk failed. Everybody who waits has been told, and the log takes nothing more.
    pub fn run(mut self) -> Result<(), LogError> {
        while let Some(write) = self.queue.blocking_recv() {
            if !self.round(write)? {
                break;
            }
        }
        self.finish()
    }

    /// The same on a runtime, for simulations: `pause` is awaited before each write to the disk,
    /// and what is dropped meanwhile was never written.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub async fn run_here<F: Future<Output = ()>>(
        mut self,
        mut pause: impl FnMut() -> F,
    ) -> Result<(), LogError> {
        while let Some(write) = self.queue.recv().await {
            pause().await;
            if !self.round(write)? {
                break;
            }
        }
        self.finish()
    }

    /// Writes this and all else that is queued; whether to go on.
    fn round(&mut self, first: Write) -> Result<bool, LogError> {
        let (mut batch, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        let mut stopped = false;
        while let Some(write) = next {
            match write {
                Write::Stop => {
                    stopped = true;
                    break;
                }
                Write::Change(Change::Committed(committed), _) => self.held = Some(committed),
                Write::Change(change, done) => {
                    bytes += weight(&change);
                    batch.push((change, done));
                }
            }
            let full = batch.len() >= DISK_QUEUE_MAX || bytes > PROPOSAL_BYTES_MAX;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        if !batch.is_empty() {
            self.write(batch)?;
        }
        Ok(!stopped)
    }

    fn write(&mut self, batch: Vec<(Change, Done)>) -> Result<(), LogError> {
        let note = self.held.take().map(Change::Committed);
        // The note may be of entries in this very batch, so it comes last.
        let changes = batch.iter().map(|(change, _)| change).chain(&note);
        let result = self.shared.disk.write(changes);
        self.transactions.fetch_add(1, Ordering::Relaxed);
        for (change, done) in batch {
            match &result {
                Ok(()) => {
                    self.shared.written(&change);
                    done.tell(Ok(()));
                }
                Err(error) => done.tell(Err(io::Error::other(error.to_string()))),
            }
        }
        result
    }

    fn finish(&mut self) -> Result<(), LogError> {
        match self.held.take() {
            Some(committed) => self.shared.disk.write([&Change::Committed(committed)].into_iter()),
            None => Ok(()),
        }
    }
}

impl Drop for DiskWorker {
    /// Also after an error or a panic: nobody waits for a worker that is gone.
    fn drop(&mut self) {
        self.queue.close();
        while let Ok(write) = self.queue.try_recv() {
            if let Write::Change(_, done) = write {
                done.tell(Err(io::Error::other("the disk worker of the control log has ended")));
            }
        }
    }
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Flushed(done) => done.io_completed(result),
            Self::Tell(done) => {
                if let Err(result) = done.send(result) {
                    tracing::debug!(?result, "a write ended after its writer had gone");
                }
            }
            Self::Nobody => {}
        }
    }
}

impl core::fmt::Debug for Write {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Change(change, _) => write!(f, "{change:?}"),
            Self::Stop => write!(f, "Stop"),
        }
    }
}

fn weight(change: &Change) -> usize {
    match change {
        Change::Append(entries) => entries.iter().map(store::weight).sum(),
        Change::Snapshot(_, bytes) => bytes.0.len(),
        _ => 0,
    }
}
