//! One lane to a shard of a replica.
//!
//! The owner writes what it appended in its order. A bind record opens a partition in the lane with
//! (epoch, next sequence). One cumulative cursor acknowledges everything before it; what the
//! replica refuses, it names first.

use super::filler::Filler;
use super::ledger::Ledger;
use std::collections::BTreeSet;
use zepto_client::producer::{Link, Opened};
use zepto_core::defect::Defect;
use zepto_core::slot::{self, Control, Slot};
use zepto_core::view::Destination;
use zepto_core::{Epoch, Incarnation, PartitionId, ProducerId, Refusal};
use zepto_transport::{LaneError, Transport};

/// Slots a tick may need in a lane: two bind records, what is unsettled, and itself.
const SLOTS_PER_TICK: u64 = 4;

pub(super) struct Lane<T: Transport> {
    /// Never used again for another lane.
    pub number: u32,
    pub to: Destination,
    pub incarnation: Incarnation,
    pub filler: Filler,
    link: Link<T>,
    /// By partition: the epoch at which it is bound.
    bound: Vec<Epoch>,
    /// By the shard's index: the producer that the lane knows by it.
    producers: Vec<ProducerId>,
    acknowledged: u64,
    /// What was written before this index is acknowledged in every lane, or its replica was told
    /// the floor.
    safe: u64,
    /// Where the lane stood when the present checkpoint began.
    checkpoint: u64,
    /// Slots that are kept for floors.
    reserve: u64,
    /// Partitions whose floor the replica has yet to be told, before anything else.
    pub untold: BTreeSet<PartitionId>,
    /// Something was written that the present batch waits for.
    touched: bool,
}

/// Something that a replica refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub partition: PartitionId,
    pub reason: Refusal,
    /// The slot.
    pub index: u64,
    /// The epoch at which a fill or a repair was to begin, if that was refused.
    pub begin: Option<Epoch>,
}

/// What a lane's replica has said since the last look.
#[derive(Default)]
pub(super) struct Said {
    pub refused: Vec<Refused>,
    /// It has broken the rules, or is gone.
    pub is_over: bool,
}

impl<T: Transport> Lane<T> {
    pub fn new(number: u32, opened: Opened<T>) -> Self {
        let Opened { to, incarnation, link } = opened;
        Self {
            number,
            to,
            incarnation,
            filler: Filler::default(),
            link,
            bound: Vec::new(),
            producers: Vec::new(),
            acknowledged: 0,
            safe: 0,
            checkpoint: 0,
            reserve: 0,
            untold: BTreeSet::new(),
            touched: false,
        }
    }

    /// How it stands, for a failed test's story.
    pub fn story(&self) -> String {
        let (head, acknowledged, room) = (self.link.head(), self.acknowledged, self.room());
        let (number, to) = (self.number, self.to.node);
        let filler = &self.filler;
        format!("{number} to {to}: head {head}, {acknowledged}, room {room}, {filler:?}")
    }

    /// Slots that a floor may need: a bind record, and itself.
    pub const SLOTS_PER_FLOOR: u64 = 2;

    /// Free slots, as far as the lane may run ahead of what is settled (see [`super::doubts`]).
    #[inline]
    fn room(&self) -> u64 {
        if Defect::LanesOutOfStep.planted() {
            return self.link.room();
        }
        let limit = self.safe + self.link.capacity() - self.reserve;
        self.link.room().min(limit.saturating_sub(self.link.head()))
    }

    /// Free slots for floors. Where more of them come at once than were kept for, they are told
    /// late rather than never.
    pub fn telling_room(&self) -> u64 {
        self.link.room()
    }

    /// Keeps slots for the floors of so many partitions, but not too much of a small lane.
    pub fn reserve_for(&mut self, partitions: usize) {
        let slots = partitions as u64 * Self::SLOTS_PER_FLOOR;
        self.reserve = slots.min(self.link.capacity() / 4);
    }

    /// Whether there is room for one more tick, and for what may have to be said before it.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.room() >= SLOTS_PER_TICK && self.untold.is_empty()
    }

    /// Whether its replica has acknowledged what was written when the checkpoint began.
    pub fn is_past_checkpoint(&self) -> bool {
        self.acknowledged >= self.checkpoint
    }

    /// All lanes are past their checkpoints: the next one begins.
    pub fn next_checkpoint(&mut self) {
        self.safe = self.safe.max(self.checkpoint);
        self.checkpoint = self.head();
    }

    /// Whether it has run half a turn ahead.
    pub fn is_ahead(&self) -> bool {
        self.head() - self.safe > self.link.capacity() / 2 && !Defect::LanesOutOfStep.planted()
    }

    /// Its replica was told the floors of all that was written before this index.
    pub fn stands_at(&mut self, index: u64) {
        self.safe = self.safe.max(index);
    }

    /// Slots that may be filled with earlier ticks: half of the lane stays for new ones, unless
    /// there are none.
    pub fn fill_room(&self) -> u64 {
        let (free, capacity) = (self.link.room(), self.link.capacity());
        let part = if free == capacity {
            free.saturating_sub(2)
        } else {
            free.saturating_sub(capacity / 2)
        };
        if self.untold.is_empty() { part.min(self.room()) } else { 0 }
    }

    /// What its replica has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Index of the next slot.
    pub fn head(&self) -> u64 {
        self.link.head()
    }

    /// Opens a partition in the lane, once for each epoch.
    #[inline]
    pub fn bind(&mut self, partition: PartitionId, epoch: Epoch, next: u64, ledger: &Ledger) {
        let place = partition.0 as usize;
        if self.bound.get(place) != Some(&epoch) {
            self.bind_again(partition, epoch, next, ledger.floor(partition));
        }
    }

    /// Opens a partition even if it is open: the replica has to say once more that it goes along.
    #[inline(never)]
    pub fn bind_again(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        next: u64,
        floor: Option<u64>,
    ) {
        self.open(partition, epoch, next);
        self.push_floor(partition, floor);
        self.touched = true;
    }

    fn open(&mut self, partition: PartitionId, epoch: Epoch, next: u64) {
        self.push(&Control::BindPartition { partition, epoch, next }.slot());
        self.note_bound(partition, epoch);
    }

    /// Says what the floor of a partition is that a record before has opened, if it has one.
    pub fn push_floor(&mut self, partition: PartitionId, floor: Option<u64>) {
        if let Some(from) = floor {
            self.push(&Control::Unsettled { partition, from }.slot());
        }
    }

    /// Says from where on a partition that is open may have what is not settled.
    pub fn tell_floor(&mut self, partition: PartitionId, ledger: &Ledger) {
        let epoch = ledger.epoch(partition);
        if self.bound.get(partition.0 as usize) != Some(&epoch) {
            self.open(partition, epoch, ledger.store.next_sequence(partition).unwrap_or(1));
        }
        self.push_floor(partition, Some(ledger.unsettled(partition)));
    }

    /// Notes a bind that another record made.
    pub fn note_bound(&mut self, partition: PartitionId, epoch: Epoch) {
        let place = partition.0 as usize;
        if self.bound.len() <= place {
            self.bound.resize(place + 1, Epoch(0));
        }
        self.bound[place] = epoch;
    }

    /// Makes the lane know a producer by the shard's index.
    #[inline]
    pub fn introduce(&mut self, index: u32, producer: ProducerId) {
        let place = index as usize;
        if self.producers.get(place) == Some(&producer) {
            return;
        }
        if self.producers.len() <= place {
            self.producers.resize(place + 1, ProducerId(0));
        }
        self.producers[place] = producer;
        self.push(&Control::BindProducer { index, producer }.slot());
    }

    /// Writes a slot that the present batch waits for. The caller has checked the room.
    #[inline]
    pub fn send(&mut self, slot: &Slot) {
        self.push(slot);
        self.touched = true;
    }

    /// Writes a slot. The caller has checked the room.
    #[inline]
    pub fn push(&mut self, slot: &Slot) {
        let pushed = self.link.push(slot);
        assert!(pushed.is_ok(), "the room was checked");
    }

    /// The batch also waits for what was written before it.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// Publishes what the batch wrote, if it wrote anything here; returns the index that has to be
    /// acknowledged.
    pub fn finish_batch(&mut self) -> Option<u64> {
        if !core::mem::take(&mut self.touched) {
            return None;
        }
        let before = self.link.tail();
        self.publish();
        Some(if Defect::AckByEarlierBatch.planted() { before } else { self.link.head() })
    }

    /// Publishes what was written.
    pub fn publish(&mut self) {
        self.link.publish();
    }

    /// Reads what the replica acknowledged and refused.
    pub fn poll(&mut self, ledger: &Ledger) -> Said {
        let mut said = Said::default();
        match self.read(ledger, &mut said) {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(to = %self.to.node, %error, "a replica's lane is corrupt");
                said.is_over = true;
            }
        }
        self.link.wake();
        said.is_over |= self.link.is_left();
        said
    }

    fn read(&mut self, ledger: &Ledger, said: &mut Said) -> Result<(), LaneError> {
        // Cursors first, refusals after: whatever the cursor passes was refused before it did.
        let settled = self.link.poll()?.settled;
        while let Some(range) = self.link.next_refusal()? {
            // A code of a later version is still a refusal.
            let reason = Refusal::from_code(range.reason).unwrap_or(Refusal::Malformed);
            for index in range.first..range.end() {
                let Some(slot) = self.link.slot(index) else { continue };
                let control = slot::is_control(&slot).then(|| slot::control_of(&slot));
                let partition = match control {
                    None => Some(ledger.partition_of(&slot)),
                    Some(control) => control.ok().and_then(|control| control.partition()),
                };
                let begin = match control {
                    Some(Ok(Control::BeginFill { epoch, .. })) => Some(epoch),
                    _ => None,
                };
                if let Some(partition) =
                    partition.filter(|_| !Defect::RefusalCountsAsTaken.planted())
                {
                    said.refused.push(Refused { partition, reason, index, begin });
                }
            }
        }
        self.link.release(settled);
        self.acknowledged = settled;
        Ok(())
    }
}
