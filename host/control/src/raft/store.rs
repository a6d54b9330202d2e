//! The log as openraft sees it: what waits for the disk and the newest entries in memory, the rest
//! read back from the file.
//!
//! Every write goes through one bounded queue to the [`DiskWorker`](super::DiskWorker), which
//! writes in order; so a vote, a truncation and an append cannot overtake one another.

use super::disk::{Change, Disk, Notes};
use super::types::{Entry, LogId, Types, Vote};
use super::worker::{Done, Write};
use core::fmt::Debug;
use core::ops::{Bound, Range, RangeBounds};
use futures_util::{Stream, StreamExt, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use zepto_core::limits::{APPEND_BYTES_MAX, APPLY_BATCH_MAX, LOG_CACHE_BYTES};

/// The log of one voter. Clones are the same log.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Write>,
}

/// What the log's users and its worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub disk: Disk,
    mirror: Mutex<Mirror>,
}

/// What is known of the log without reading the file.
#[derive(Debug)]
struct Mirror {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// The index of the first entry.
    first: u64,
    last: Option<LogId>,
    /// The newest entries, up to `last`. All that are not on disk yet are among them.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// Entries below this index are on disk.
    durable: u64,
}

impl Shared {
    pub fn new(disk: Disk, notes: &Notes) -> Self {
        let mirror = Mirror {
            vote: notes.vote,
            committed: notes.committed,
            purged: notes.purged,
            first: next(notes.purged),
            last: notes.last,
            tail: VecDeque::new(),
            tail_bytes: 0,
            durable: next(notes.last),
        };
        Self { disk, mirror: Mutex::new(mirror) }
    }

    /// These changes are on disk now.
    pub fn written(&self, change: &Change) {
        if let Change::Append(entries) = change {
            let mut mirror = self.lock();
            let end = entries.last().map_or(0, |entry| entry.log_id.index + 1);
            mirror.durable = mirror.durable.max(end);
            mirror.trim();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirror {
    /// The index after the last entry of the tail, less its length.
    fn tail_start(&self) -> u64 {
        next(self.last) - self.tail.len() as u64
    }

    fn push(&mut self, entry: Entry) {
        if self.last.is_none() {
            self.first = entry.log_id.index;
        }
        self.last = Some(entry.log_id);
        self.tail_bytes += weight(&entry);
        self.tail.push_back(entry);
    }

    fn trim(&mut self) {
        while self.tail_bytes > LOG_CACHE_BYTES && self.tail_start() < self.durable {
            let Some(entry) = self.tail.pop_front() else { break };
            self.tail_bytes -= weight(&entry);
        }
    }

    fn truncate(&mut self, after: Option<LogId>) {
        if next(self.last) <= next(after) {
            return;
        }
        while self.last.is_some_and(|last| Some(last.index) > after.map(|after| after.index)) {
            let Some(entry) = self.tail.pop_back() else { break };
            self.tail_bytes -= weight(&entry);
            self.last = self.tail.back().map(|entry| entry.log_id);
        }
        self.last = after;
        self.durable = self.durable.min(next(after));
    }

    fn purge(&mut self, upto: LogId) {
        self.purged = Some(upto);
        self.first = upto.index + 1;
        while self.tail.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            let Some(entry) = self.tail.pop_front() else { break };
            self.tail_bytes -= weight(&entry);
        }
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
            self.durable = self.durable.max(next(self.last));
        }
    }
}

impl LogStore {
    pub fn new(shared: Arc<Shared>, queue: mpsc::Sender<Write>) -> Self {
        Self { shared, queue }
    }

    /// The file.
    pub fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    /// Writes a change; it is on disk when this returns.
    pub async fn write(&self, change: Change) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        self.send(Write::Change(change, Done::Tell(done))).await?;
        written.await.map_err(|_| gone())?
    }

    /// Writes what is queued, and ends the worker.
    pub async fn stop(&self) {
        if self.send(Write::Stop).await.is_err() {
            tracing::debug!("the disk worker of the control log had ended before");
        }
    }

    async fn send(&self, write: Write) -> io::Result<()> {
        self.queue.send(write).await.map_err(|_| gone())
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (range, from_memory) = {
            let mirror = self.shared.lock();
            let range = range.start.max(mirror.first)..range.end.min(next(mirror.last));
            if range.is_empty() {
                return Ok(Vec::new());
            }
            let start = mirror.tail_start();
            let tail = range.start.max(start)..range.end;
            let wanted = tail.filter_map(|index| mirror.tail.get((index - start) as usize));
            (range.start..range.end.min(start), wanted.cloned().collect::<Vec<_>>())
        };
        let mut entries = Vec::new();
        if !range.is_empty() {
            let end = range.end;
            entries = self.shared.disk.read(range, bytes_max).map_err(io::Error::other)?;
            // At the front a purge may have come between; at the end it is the limit.
            if entries.last().is_some_and(|last| last.log_id.index + 1 < end) {
                return Ok(entries);
            }
        }
        let mut bytes: usize = entries.iter().map(weight).sum();
        for entry in from_memory {
            bytes = bytes.saturating_add(weight(&entry));
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(half_open(&range), usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.lock().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, APPEND_BYTES_MAX)
    }

    /// In batches, so that a node far behind does not hold all of it at once.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let state = Some((self.clone(), half_open(&range)));
        let batches = stream::unfold(state, |state| async move {
            let (store, range) = state?;
            if range.is_empty() {
                return None;
            }
            let end = range.end.min(range.start.saturating_add(APPLY_BATCH_MAX as u64));
            match store.read(range.start..end, APPEND_BYTES_MAX) {
                Ok(entries) if entries.is_empty() => None,
                Ok(entries) => {
                    let rest = range.start + entries.len() as u64..range.end;
                    Some((entries.into_iter().map(Ok).collect::<Vec<_>>(), Some((store, rest))))
                }
                Err(error) => Some((vec![Err(error)], None)),
            }
        });
        batches.map(stream::iter).flatten()
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let mirror = self.shared.lock();
        Ok(LogState { last_purged_log_id: mirror.purged, last_log_id: mirror.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(Change::Vote(*vote)).await?;
        self.shared.lock().vote = Some(*vote);
        Ok(())
    }

    /// Not waited for: it is written with whatever is written next.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.lock().committed = committed;
        self.send(Write::Change(Change::Committed(committed), Done::Nobody)).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut mirror = self.shared.lock();
            for entry in &entries {
                // Where an empty log begins is not for the store to say.
                if mirror.last.is_some() && entry.log_id.index != next(mirror.last) {
                    return Err(io::Error::other(format!(
                        "entry {} would leave a gap",
                        entry.log_id.index
                    )));
                }
                mirror.push(entry.clone());
            }
        }
        self.send(Write::Change(Change::Append(entries), Done::Flushed(done))).await
    }

    async fn truncate_after(&mut self, after: Option<LogId>) -> Result<(), io::Error> {
        // Nothing is appended before this returns, so all earlier appends are on disk by then.
        self.write(Change::Truncate(after)).await?;
        self.shared.lock().truncate(after);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.write(Change::Purge(upto)).await?;
        self.shared.lock().purge(upto);
        Ok(())
    }
}

fn next(last: Option<LogId>) -> u64 {
    last.map_or(0, |last| last.index + 1)
}

/// About what an entry takes in memory.
pub(crate) fn weight(entry: &Entry) -> usize {
    let bytes = match &entry.payload {
        openraft::EntryPayload::Normal(bytes) => bytes.0.len(),
        _ => 0,
    };
    bytes + size_of::<Entry>()
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn gone() -> io::Error {
    io::Error::other("the disk worker of the control log has ended")
}
