//! How long partitions took no ticks, seen from the one producer that feeds the cluster.
//!
//! Measured at the main producer itself, not with probes: it sends to every affected partition
//! anyway, and the time that counts is when *it* is told that a tick is safe. Of each partition
//! that the killed node had a copy of (as owner or as replica: neither can acknowledge without it)
//! two times are kept: when the first tick after the kill was sent, and when the first of those was
//! acknowledged.
//!
//! A partition to which nothing was sent while it could not take anything says nothing about how
//! long that was. So one counts if its first tick was sent before the node was declared dead, or
//! had to wait conspicuously long for its acknowledgement.

use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use zepto_core::NodeId;
use zepto_core::slot::{self, Slot};
use zepto_core::topology::Placement;
use zepto_core::view::View;

use super::verify::TABLE;
use crate::pump::{BATCH_ROWS, Sent};

/// A tick that waited for so long was held up.
const HELD_UP: Duration = Duration::from_millis(100);

/// What took ticks so long after the death is worth a line of the log.
const LATE: Duration = Duration::from_millis(500);

/// What the producer's thread notes and the scenario reads.
#[derive(Debug)]
pub(super) struct Outage {
    /// Routes; which partition a symbol is in never changes.
    view: Arc<View>,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    rows: u64,
    /// By partition: rows that were sent.
    fed: Vec<u64>,
    kill: Option<Killed>,
    /// When the last batch was over: a row of the next one was sent after that.
    batch: Duration,
}

#[derive(Debug)]
struct Killed {
    at: Instant,
    /// Rows from this number on were certainly sent after the kill.
    from_row: u64,
    /// By partition.
    partitions: Vec<Partition>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Partition {
    is_owned: bool,
    is_held: bool,
    sent: Option<Duration>,
    acked: Option<Duration>,
}

/// What the outage came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// From the kill until the last of these partitions had acknowledged a tick.
    pub(super) length: Duration,
    /// Partitions that count, and how many of them the killed node owned.
    pub(super) partitions: usize,
    pub(super) owned: usize,
    /// Those of them that never acknowledged a tick.
    pub(super) never: usize,
}

impl Outage {
    pub(super) fn new(view: Arc<View>) -> Self {
        let fed = vec![0; view.partitions()];
        Self { view, notes: Mutex::new(Notes { fed, ..Notes::default() }) }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition_of(&self, table: u16, symbol: u32) -> usize {
        self.view.route(table, symbol).partition.0 as usize
    }

    /// A batch was sent.
    pub(super) fn sent(&self, sent: Sent<'_>) {
        let mut notes = self.notes();
        let Notes { rows, fed, kill, batch } = &mut *notes;
        for row in sent.rows {
            let Some(&id) = sent.ids.get(row.symbol as usize) else { continue };
            let place = self.partition_of(TABLE, id);
            fed[place] += 1;
            if let Some(kill) = kill.as_mut().filter(|kill| *rows >= kill.from_row) {
                kill.partitions[place].sent.get_or_insert(*batch);
            }
            *rows += 1;
        }
        if let Some(kill) = kill {
            *batch = kill.at.elapsed();
        }
    }

    /// A tick was acknowledged.
    pub(super) fn acknowledged(&self, slot: &Slot) {
        let mut notes = self.notes();
        let batch = notes.batch;
        let Some(kill) = &mut notes.kill else { return };
        if slot::tick_of(slot).user[0] < kill.from_row {
            return;
        }
        let (table, symbol) = slot::series_of(slot);
        let partition = &mut kill.partitions[self.partition_of(table, symbol)];
        if partition.acked.is_none() {
            partition.acked = Some(kill.at.elapsed());
            // The batch is not over yet.
            partition.sent.get_or_insert(batch);
        }
    }

    /// How many ticks went to partitions of a node so far.
    pub(super) fn fed_to(&self, placement: &Placement, node: NodeId) -> u64 {
        let notes = self.notes();
        placement.owned_by(node).filter_map(|p| notes.fed.get(p.0 as usize)).sum()
    }

    /// A node was killed at a moment; it is certain by now that it does nothing any more.
    pub(super) fn begin(&self, at: Instant, placement: &Placement, node: NodeId) {
        let partitions = placement.assignments.iter().map(|assignment| Partition {
            is_owned: assignment.owner() == Some(node),
            is_held: assignment.holds(node),
            ..Partition::default()
        });
        let partitions = partitions.collect();
        let mut notes = self.notes();
        // Of the batch that is on its way, some rows may have been sent before.
        let from_row = notes.rows + BATCH_ROWS as u64;
        notes.batch = at.elapsed();
        notes.kill = Some(Killed { at, from_row, partitions });
    }

    /// Whether an affected partition waits for an acknowledgement now.
    pub(super) fn is_on(&self) -> bool {
        let notes = self.notes();
        let mut partitions = notes.kill.iter().flat_map(|kill| &kill.partitions);
        partitions.any(|p| p.is_held && p.sent.is_some() && p.acked.is_none())
    }

    /// What it came to; `declared` is when the node was declared dead.
    pub(super) fn measure(&self, declared: Duration) -> Measured {
        let notes = self.notes();
        let mut measured = Measured::default();
        for partition in notes.kill.iter().flat_map(|kill| &kill.partitions) {
            let Some(sent) = partition.sent.filter(|_| partition.is_held) else { continue };
            let waited = partition.acked.map(|acked| acked.saturating_sub(sent));
            if sent >= declared && waited.is_some_and(|waited| waited < HELD_UP) {
                continue;
            }
            if partition.acked.is_none_or(|acked| acked > declared + LATE) {
                tracing::debug!(?partition, "late");
            }
            measured.partitions += 1;
            measured.owned += usize::from(partition.is_owned);
            measured.never += usize::from(partition.acked.is_none());
            measured.length = measured.length.max(partition.acked.unwrap_or_default());
        }
        measured
    }
}

#[cfg(test)]
mod tests {
    use zepto_abi::Tick;
    use zepto_core::Epoch;
    use zepto_core::topology::{Assignment, Topology};

    use super::*;
    use crate::feed::Row;

    /// Sixteen partitions in turn of (1, 2), (2, 3) and (3, 1).
    fn placement() -> Placement {
        let mut placement = Topology::empty().placement;
        placement.bits = 4;
        placement.assignments = (0..16u32)
            .map(|p| Assignment::of(Epoch(1), &[NodeId(p % 3 + 1), NodeId((p + 1) % 3 + 1)]))
            .collect();
        placement
    }

    /// Symbols by the partition in which they are.
    fn symbols(outage: &Outage) -> Vec<u32> {
        let find = |p| (0..9999).find(|id| outage.partition_of(TABLE, *id) == p).unwrap();
        (0..16).map(find).collect()
    }

    fn send(outage: &Outage, id: u32, rows: usize) {
        let rows = vec![Row { symbol: 0, ..Row::default() }; rows];
        outage.sent(Sent { names: &["A".into()], ids: &[id], rows: &rows });
    }

    fn acknowledge(outage: &Outage, symbol: u32, row: u64) {
        let tick = Tick { symbol, table: TABLE, user: [row, 0], ..Tick::default() };
        outage.acknowledged(&slot::slot_of(&tick));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_partition_that_waited_is_the_length_of_the_outage() {
        let outage = Outage::new(Arc::new(View::compile(placement())));
        let ids = symbols(&outage);
        send(&outage, ids[0], 10);
        assert_eq!(outage.fed_to(&placement(), NodeId(1)), 10);
        assert_eq!(outage.fed_to(&placement(), NodeId(2)), 0);
        outage.begin(Instant::now(), &placement(), NodeId(1));
        let from = 10 + BATCH_ROWS as u64;
        send(&outage, ids[0], BATCH_ROWS);
        assert!(!outage.is_on(), "these may have been sent before");
        send(&outage, ids[0], 1);
        send(&outage, ids[1], 1);
        send(&outage, ids[2], 1);
        assert!(outage.is_on());
        tokio::time::advance(Duration::from_millis(2000)).await;
        acknowledge(&outage, ids[1], from + 1);
        acknowledge(&outage, ids[0], 5);
        assert!(outage.is_on(), "that tick was sent before the kill");
        acknowledge(&outage, ids[2], from + 2);
        tokio::time::advance(Duration::from_millis(500)).await;
        acknowledge(&outage, ids[0], from);
        assert!(!outage.is_on());
        // A partition that gets its first tick later, and takes it at once.
        send(&outage, ids[1], 1);
        send(&outage, ids[3], 1);
        acknowledge(&outage, ids[3], from + 4);
        let measured = outage.measure(Duration::from_millis(2000));
        let length = Duration::from_millis(2500);
        assert_eq!(measured, Measured { length, partitions: 2, owned: 1, never: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_takes_nothing_any_more_is_told() {
        let outage = Outage::new(Arc::new(View::compile(placement())));
        let ids = symbols(&outage);
        outage.begin(Instant::now(), &placement(), NodeId(3));
        send(&outage, ids[2], BATCH_ROWS + 1);
        let measured = outage.measure(Duration::from_secs(2));
        assert_eq!((measured.never, measured.owned), (1, 1));
    }
}
