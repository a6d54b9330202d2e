//! Moves a feed into a cluster through one producer, and keeps the books on the way.
//!
//! Runs on a thread that may block, one batch at a time: read rows, ask for the ids of names that
//! are new, ingest. The caller sees each batch after it was taken, so its own account covers
//! exactly what was sent. Whatever ends it, the report says what became of every row. It waits as
//! long as the cluster acknowledges anything at all, and a bounded time when it does not.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thiserror::Error;
use zepto_abi::Tick;
use zepto_client::producer::{Account, IngestError};
use zepto_client::{ClientError, TickProducer};
use zepto_core::time::Nanos;

use crate::feed::{Feed, FeedError, Row};

/// Rows that are read, sent and accounted for at a time: they stay in the second-level cache.
pub const BATCH_ROWS: usize = 4096;
/// Batches of a feed that has a pace, per second.
const PACED_BATCHES_PER_S: u64 = 50;
/// Time between two looks at whether to stop, while there is no room.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time without any acknowledgement after which the cluster is given up.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// The same, when the feed has ended with an error already: a partition without an owner keeps what
/// waits for it.
const FAILED_SETTLES_WITHIN: Duration = Duration::from_secs(2);
/// Time for the control log to issue the ids of a batch of names.
const INTERN_WITHIN: Duration = Duration::from_secs(15);

/// How far a pump has got, for those who watch it, and their way to stop it.
#[derive(Debug, Default)]
pub struct Gauges {
    sent: AtomicU64,
    settled: AtomicU64,
    feed_done: AtomicU64,
    stop: AtomicBool,
}

impl Gauges {
    /// Rows that the producer took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Rows that were acknowledged.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// How much of the feed was read, in its own unit.
    pub fn feed_done(&self) -> u64 {
        self.feed_done.load(Ordering::Relaxed)
    }

    /// Tells the pump to end as soon as it can.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether it was told to.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// Where rows go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target {
    /// Table of the symbols.
    pub table: u16,
    /// Number of the feed's first row, which its tick carries in the first user word.
    pub first_row: u64,
    /// Rows per second; `None` sends as fast as the cluster takes them.
    pub rows_per_s: Option<u64>,
}

/// Rows that were taken.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The feed's names.
    pub names: &'a [String],
    /// The cluster's id of each.
    pub ids: &'a [u32],
    /// The rows.
    pub rows: &'a [Row],
}

/// Why not all of a feed was sent or acknowledged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PumpError {
    /// The feed has an error. Rows before it were sent.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The cluster issues no symbol ids. Rows before the new names were sent.
    #[error("no ids for new symbols: {0}")]
    Symbols(#[source] ClientError),
    /// A row's partition has no owner that lives. Rows before it were sent.
    #[error("row {row} cannot be sent: its partition is offline, node {owner:?} is gone")]
    Offline {
        /// The row.
        row: u64,
        /// The node that owned it.
        owner: String,
    },
    /// A row was not taken.
    #[error("row {row} cannot be sent: {error}")]
    Ingest {
        /// The row.
        row: u64,
        /// Why.
        error: IngestError,
    },
    /// Nothing was acknowledged for a long time. What is in flight may be stored or not.
    #[error("nothing was acknowledged for {} s", STALLED_AFTER.as_secs())]
    Stalled,
    /// [`Gauges::stop`] was called. What is in flight may be stored or not.
    #[error("stopped")]
    Stopped,
}

/// What became of a feed.
#[derive(Debug)]
pub struct Pumped {
    /// What became of every row that was taken.
    pub account: Account,
    /// By index of the feed's names: the cluster's id.
    pub ids: Vec<u32>,
    /// From the first row taken to the last acknowledgement.
    pub elapsed: Duration,
    /// Whether it all went well.
    pub end: Result<(), PumpError>,
}

/// Sends the whole feed and waits until all of it is acknowledged or refused. To be called on a
/// thread that may block, not in a task. `sent` sees each batch of rows that was taken, in order.
pub fn pump(
    producer: TickProducer,
    feed: &mut dyn Feed,
    target: Target,
    gauges: &Gauges,
    mut sent: impl FnMut(Sent<'_>),
) -> Pumped {
    let started = producer.now();
    let progress = Progress { settled: 0, at: started };
    let mut pump =
        Pump { producer, target, gauges, ids: Vec::new(), row: target.first_row, progress };
    let mut first = None;
    let fed = pump.feed(feed, &mut first, &mut sent);
    // What was taken is settled whatever came after it, unless somebody is in a hurry.
    let settled = match fed {
        Ok(()) => pump.settle(STALLED_AFTER),
        Err(PumpError::Stopped | PumpError::Stalled) => Ok(()),
        Err(_) => pump.settle(FAILED_SETTLES_WITHIN),
    };
    let elapsed = pump.producer.now().since(first.unwrap_or(started));
    Pumped { account: pump.producer.account(), ids: pump.ids, elapsed, end: fed.and(settled) }
}

/// Rows of one batch: of a feed that has a pace fewer, so that it flows.
fn batch_rows(rows_per_s: Option<u64>) -> usize {
    let paced = rows_per_s.map(|rate| (rate / PACED_BATCHES_PER_S).clamp(1, BATCH_ROWS as u64));
    paced.map_or(BATCH_ROWS, |rows| rows as usize)
}

struct Pump<'a> {
    producer: TickProducer,
    target: Target,
    gauges: &'a Gauges,
    /// By index of the feed's names: the cluster's id.
    ids: Vec<u32>,
    row: u64,
    progress: Progress,
}

/// When something was acknowledged last.
struct Progress {
    settled: u64,
    at: Nanos,
}

impl Pump<'_> {
    fn feed(
        &mut self,
        feed: &mut dyn Feed,
        first: &mut Option<Nanos>,
        sent: &mut impl FnMut(Sent<'_>),
    ) -> Result<(), PumpError> {
        let batch_rows = batch_rows(self.target.rows_per_s);
        let mut rows = Vec::with_capacity(batch_rows);
        loop {
            rows.clear();
            self.await_turn(*first)?;
            let read = feed.next_batch(&mut rows, batch_rows);
            self.learn(feed.names())?;
            first.get_or_insert_with(|| self.producer.now());
            let before = self.row;
            let taken = rows.iter().try_for_each(|row| self.take(row));
            let rows = &rows[..(self.row - before) as usize];
            sent(Sent { names: feed.names(), ids: &self.ids, rows });
            self.producer.poll();
            self.gauges.sent.store(self.row - self.target.first_row, Ordering::Relaxed);
            self.gauges.settled.store(self.producer.account().settled, Ordering::Relaxed);
            self.gauges.feed_done.store(feed.progress().done, Ordering::Relaxed);
            taken?;
            if self.gauges.is_stopped() {
                return Err(PumpError::Stopped);
            }
            if read? == 0 {
                return Ok(());
            }
        }
    }

    /// Where there is a pace, lets time pass until it is the next batch's turn. What is late goes
    /// at once.
    fn await_turn(&mut self, first: Option<Nanos>) -> Result<(), PumpError> {
        let (Some(rate), Some(first)) = (self.target.rows_per_s, first) else { return Ok(()) };
        let due_ns = u128::from(self.row - self.target.first_row) * 1_000_000_000;
        let due = Duration::from_nanos((due_ns / u128::from(rate.max(1))) as u64);
        loop {
            let left = due.saturating_sub(self.producer.now().since(first));
            if left.is_zero() {
                return Ok(());
            }
            if self.gauges.is_stopped() {
                return Err(PumpError::Stopped);
            }
            self.producer.rest(left.min(LOOK_EVERY));
        }
    }

    /// Asks for the ids of names that are new.
    fn learn(&mut self, names: &[String]) -> Result<(), PumpError> {
        let new = names.get(self.ids.len()..).unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        let ids = self.producer.symbols(new, INTERN_WITHIN).map_err(PumpError::Symbols)?;
        self.ids.extend(ids);
        Ok(())
    }

    #[inline]
    fn take(&mut self, row: &Row) -> Result<(), PumpError> {
        let tick = Tick {
            event_time_ns: row.event_time_ns,
            receive_time_ns: row.receive_time_ns,
            symbol: self.ids.get(row.symbol as usize).copied().unwrap_or(u32::MAX),
            table: self.target.table,
            kind: row.kind,
            flags: row.flags,
            price: row.price,
            size: row.size,
            user: [self.row, row.word],
            ..Tick::default()
        };
        match self.producer.ingest_wait(&tick, LOOK_EVERY) {
            Ok(()) => {
                self.row += 1;
                Ok(())
            }
            Err(error) => self.take_late(&tick, error),
        }
    }

    #[cold]
    fn take_late(&mut self, tick: &Tick, mut error: IngestError) -> Result<(), PumpError> {
        self.wait_begins();
        while error == IngestError::Busy {
            self.look(STALLED_AFTER)?;
            match self.producer.ingest_wait(tick, LOOK_EVERY) {
                Ok(()) => {
                    self.row += 1;
                    return Ok(());
                }
                Err(next) => error = next,
            }
        }
        let row = self.row;
        Err(match error {
            IngestError::Offline => {
                let view = self.producer.view();
                let owner = view.owner(view.route(tick.table, tick.symbol).partition);
                let owner = owner.map_or_else(|| "nobody".into(), |member| member.name.clone());
                PumpError::Offline { row, owner }
            }
            error => PumpError::Ingest { row, error },
        })
    }

    /// Waits until everything is acknowledged or refused.
    fn settle(&mut self, patience: Duration) -> Result<(), PumpError> {
        self.wait_begins();
        loop {
            let account = self.producer.flush(LOOK_EVERY);
            self.gauges.settled.store(account.settled, Ordering::Relaxed);
            if account.is_final() {
                return Ok(());
            }
            self.look(patience)?;
        }
    }

    /// The time that the feed took is no time without an answer.
    fn wait_begins(&mut self) {
        let settled = self.producer.account().settled;
        self.progress = Progress { settled, at: self.producer.now() };
    }

    /// Whether there is a reason not to wait any longer.
    fn look(&mut self, patience: Duration) -> Result<(), PumpError> {
        if self.gauges.is_stopped() {
            return Err(PumpError::Stopped);
        }
        let (account, now) = (self.producer.account(), self.producer.now());
        tracing::debug!(row = self.row, ?account, "waiting");
        let settled = account.settled;
        self.gauges.settled.store(settled, Ordering::Relaxed);
        if settled != self.progress.settled {
            self.progress = Progress { settled, at: now };
        }
        if now.since(self.progress.at) > patience {
            return Err(PumpError::Stalled);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_feed_goes_in_small_batches_and_a_fast_one_in_whole_ones() {
        let rates = [None, Some(0), Some(2_000), Some(100_000), Some(u64::MAX)];
        assert_eq!(rates.map(batch_rows), [4096, 1, 40, 2000, 4096]);
    }
}
