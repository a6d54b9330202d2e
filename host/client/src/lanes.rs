//! Both ends of a lane over RPC, as rings in memory: what the connection's tasks empty and fill.
//!
//! A producer and a shard see the same mailbox whether its other end is a process on this machine
//! or a connection, so there is one cursor and one rule for everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use zepto_rpc::{LaneEnd, LaneFailure, LaneSink, LaneSource, RefusedRange};
use zepto_transport::{Bell, Heap, LaneError, Line, Receiver, Sender};

/// Bytes of a slot.
const SLOT_BYTES: usize = 64;

/// The producer's side: the ring it writes, emptied into the connection.
pub struct LaneFeed {
    ring: Receiver<Heap>,
    wake: Arc<Notify>,
    hung_up: Arc<AtomicBool>,
    /// Refusals that the ring has no room for yet; the cursors wait behind them.
    waiting: VecDeque<RefusedRange>,
    consumed: u64,
    settled: u64,
}

impl LaneFeed {
    /// Over a ring; `hung_up` is set when the lane is over.
    pub fn new(ring: Receiver<Heap>, wake: Arc<Notify>, hung_up: Arc<AtomicBool>) -> Self {
        Self { ring, wake, hung_up, waiting: VecDeque::new(), consumed: 0, settled: 0 }
    }

    /// Passes on what the other side said, refusals before the cursors that pass them.
    fn pass_on(&mut self) {
        while let Some(refusal) = self.waiting.front() {
            if self.ring.refuse(refusal.first, refusal.count, refusal.reason).is_err() {
                break;
            }
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            self.ring.consume(self.consumed - self.ring.consumed());
            self.ring.settle(self.settled);
        }
        self.ring.publish();
    }
}

impl LaneSource for LaneFeed {
    fn published(&mut self) -> Result<u64, LaneFailure> {
        if self.hung_up.load(Ordering::Acquire) {
            return Err(LaneFailure("its producer is gone".into()));
        }
        if !self.waiting.is_empty() {
            // First how many were read: there is room for as many now.
            self.ring.poll().map_err(failure)?;
            self.pass_on();
        }
        // Always parked: the producer wakes the task with every publication that it waits for.
        self.ring.set_parked(true);
        let available = self.ring.poll().map_err(failure)?;
        Ok(self.ring.consumed() + available)
    }

    fn copy(&mut self, from: u64, slots_max: usize, out: &mut Vec<u8>) -> usize {
        let end = self.ring.tail().min(from + slots_max as u64);
        for index in from..end {
            for word in self.ring.slot(index) {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        end.saturating_sub(from) as usize
    }

    fn credit(
        &mut self,
        consumed: u64,
        settled: u64,
        refusals: &[RefusedRange],
    ) -> Result<(), LaneFailure> {
        let tail = self.ring.tail();
        let known = |range: &RefusedRange| {
            range.count > 0
                && range.first >= self.settled
                && range.first.saturating_add(u64::from(range.count)) <= tail
        };
        let forward = consumed >= self.consumed && settled >= self.settled;
        if !forward || settled > consumed || consumed > tail || !refusals.iter().all(known) {
            return Err(LaneFailure("a credit that cannot be".into()));
        }
        // At most one refusal per slot of the window is under way, so this stays small.
        self.waiting.extend(refusals);
        (self.consumed, self.settled) = (consumed, settled);
        self.pass_on();
        Ok(())
    }

    fn wake(&self) -> Option<Arc<Notify>> {
        Some(Arc::clone(&self.wake))
    }

    fn closed(&mut self, _end: &LaneEnd) {
        self.hung_up.store(true, Ordering::Release);
    }
}

/// The node's side: fills a ring that a shard reads.
pub struct LaneDoor {
    ring: Sender<Heap>,
    bell: Arc<Bell>,
    hung_up: Arc<AtomicBool>,
    told: (u64, u64),
}

impl LaneDoor {
    /// Over a ring whose shard is woken by `bell`; `hung_up` is set when the lane is over.
    pub fn new(ring: Sender<Heap>, bell: Arc<Bell>, hung_up: Arc<AtomicBool>) -> Self {
        Self { ring, bell, hung_up, told: (0, 0) }
    }

    fn wake_shard(&self) {
        // Without the ring it wakes after its longest sleep.
        if let Err(error) = self.bell.ring() {
            tracing::debug!(%error, "a shard's bell");
        }
    }
}

impl LaneSink for LaneDoor {
    fn capacity(&self) -> u64 {
        self.ring.capacity()
    }

    fn push(&mut self, slots: &[u8]) -> Result<usize, LaneFailure> {
        let mut taken = 0;
        for bytes in slots.chunks_exact(SLOT_BYTES) {
            let slot: Line = core::array::from_fn(|word| {
                u64::from_le_bytes(core::array::from_fn(|byte| bytes[word * 8 + byte]))
            });
            if self.ring.push(&slot).is_err() {
                break;
            }
            taken += 1;
        }
        if self.ring.publish() || self.ring.bell_due() {
            self.wake_shard();
        }
        Ok(taken)
    }

    fn poll_credit(
        &mut self,
        refusals: &mut Vec<RefusedRange>,
    ) -> Result<Option<(u64, u64)>, LaneFailure> {
        let cursors = self.ring.poll().map_err(failure)?;
        while let Some(range) = self.ring.next_refusal().map_err(failure)? {
            refusals.push(RefusedRange {
                first: range.first,
                count: range.count,
                reason: range.reason,
            });
        }
        self.ring.release(cursors.settled);
        let now = (cursors.consumed, cursors.settled);
        if now == self.told && refusals.is_empty() {
            return Ok(None);
        }
        self.told = now;
        Ok(Some(now))
    }

    fn closed(&mut self, _end: &LaneEnd) {
        self.hung_up.store(true, Ordering::Release);
        self.wake_shard();
    }
}

fn failure(error: LaneError) -> LaneFailure {
    LaneFailure(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zepto_core::limits::LANE_REFUSALS;
    use zepto_transport::mailbox::{LaneSpec, lane};

    /// More refusals at once than the ring holds, of slots apart from one another: the rest follows
    /// when the first were read and the task was woken, once.
    #[test]
    fn refusals_beyond_the_rings_room_follow_with_one_wake() {
        let count = LANE_REFUSALS as u64 + 100;
        let slots = (2 * count).next_power_of_two();
        let spec = LaneSpec { nonce: 1, slots: slots as u32 };
        let (mut sender, receiver) = lane(&Heap, &Heap, spec).unwrap();
        let mut feed = LaneFeed::new(receiver, Arc::default(), Arc::default());
        for _ in 0..2 * count {
            sender.push(&[0; 8]).unwrap();
        }
        assert!(!sender.publish(), "the task did not sleep yet");
        assert_eq!(feed.published().unwrap(), 2 * count);
        let refused = |n| RefusedRange { first: 2 * n, count: 1, reason: 7 };
        let refusals: Vec<RefusedRange> = (0..count).map(refused).collect();
        feed.credit(2 * count, 2 * count, &refusals).unwrap();
        let read = |sender: &mut Sender<Heap>| {
            sender.poll().unwrap();
            std::iter::from_fn(|| sender.next_refusal().unwrap()).count() as u64
        };
        let first = read(&mut sender);
        assert!(first < count && sender.cursors().settled == 0, "{first}");
        feed.published().unwrap();
        assert_eq!(first + read(&mut sender), count);
        assert_eq!(sender.cursors().settled, 2 * count);
    }
}
