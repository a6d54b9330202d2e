//! Exactly once, per (producer, partition): last + 1 is new, at or below last is a duplicate, a
//! gap is refused.
//!
//! A producer numbers its ticks densely *per partition*, so one number per pair remembers every
//! tick it ever sent there. The lane carries the low half of the sequence; the distance to the
//! last accepted one restores the rest.

use crate::defect::Defect;
use crate::limits::{PARTITION_BITS_MAX, PRODUCERS_PER_SHARD_MAX};
use crate::time::Nanos;
use core::time::Duration;
use hashbrown::HashMap;
use zepto_abi::{PartitionId, ProducerId, Refusal};

/// Sequences below the last accepted one that still count as duplicates.
pub const PRODUCER_WINDOW: u32 = 1 << 16;

/// What a producer's next sequence means to the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one: append it and remember it.
    New,
    /// Stored already: settle it again, store nothing.
    Duplicate,
    /// Not to be stored.
    Refused(Refusal),
}

/// Judges the low half of a sequence against the last accepted one.
#[inline(always)]
pub const fn judge(last: u64, sequence_low: u32) -> Verdict {
    let distance = sequence_low.wrapping_sub(last as u32);
    if distance == 1 {
        Verdict::New
    } else if distance == 0 || distance > u32::MAX - PRODUCER_WINDOW {
        Verdict::Duplicate
    } else if distance > i32::MAX as u32 {
        Verdict::Refused(Refusal::TooOld)
    } else if last == 0 {
        // Nothing of this producer is known here: it expired, or the partition lost its data.
        Verdict::Refused(Refusal::UnknownProducer)
    } else {
        Verdict::Refused(Refusal::OutOfOrder)
    }
}

const PAGE: usize = 512;

/// The last accepted sequences of one producer, by partition.
#[derive(Debug)]
pub struct Sequences {
    producer: ProducerId,
    /// Touched on every bind, for expiry.
    seen: Nanos,
    /// Lanes that have the producer bound now.
    lanes: u32,
    /// Which lane speaks for the producer: the latest that introduced it.
    session: u32,
    pages: Vec<Option<Box<[u64; PAGE]>>>,
}

impl Sequences {
    /// The producer.
    pub fn producer(&self) -> ProducerId {
        self.producer
    }

    /// A lane from the producer itself introduces it. Lanes are numbered as they were opened: what
    /// still comes over an earlier one, which the producer has given up, is no longer its word,
    /// even if it is the introduction.
    pub fn begin_session(&mut self, lane: u32) {
        self.session = self.session.max(lane);
    }

    /// Whether a lane still speaks for the producer.
    #[inline]
    pub fn speaks(&self, lane: u32) -> bool {
        self.session == lane
    }

    /// The last accepted sequence in a partition; zero when there was none.
    #[inline]
    pub fn last(&self, partition: PartitionId) -> u64 {
        let partition = if Defect::DedupeAcrossPartitions.planted() { 0 } else { partition.0 };
        match self.pages.get(partition as usize / PAGE) {
            Some(Some(page)) => page[partition as usize % PAGE],
            _ => 0,
        }
    }

    /// Remembers an accepted sequence.
    #[inline]
    pub fn accept(&mut self, partition: PartitionId, sequence: u64) {
        let partition = if Defect::DedupeAcrossPartitions.planted() { 0 } else { partition.0 };
        let page = partition as usize / PAGE;
        if let Some(Some(page)) = self.pages.get_mut(page) {
            page[partition as usize % PAGE] = sequence;
        } else {
            self.grow(page)[partition as usize % PAGE] = sequence;
        }
    }

    /// Forgets a partition, which left or lost its data.
    pub fn forget(&mut self, partition: PartitionId) {
        if let Some(Some(page)) = self.pages.get_mut(partition.0 as usize / PAGE) {
            page[partition.0 as usize % PAGE] = 0;
        }
    }

    #[cold]
    fn grow(&mut self, page: usize) -> &mut [u64; PAGE] {
        debug_assert!(page < (1 << PARTITION_BITS_MAX) / PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        self.pages[page].get_or_insert_with(|| Box::new([0; PAGE]))
    }
}

/// The producers one shard knows, by a dense index.
#[derive(Debug)]
pub struct Producers {
    index: HashMap<u64, u32, foldhash::fast::FixedState>,
    slots: Vec<Option<Sequences>>,
    max: usize,
}

impl Default for Producers {
    fn default() -> Self {
        Self::new(PRODUCERS_PER_SHARD_MAX)
    }
}

impl Producers {
    /// Idle producers without a lane are forgotten after this, when their place is needed.
    pub const IDLE: Duration = Duration::from_secs(600);

    /// Room for `max` producers.
    pub fn new(max: usize) -> Self {
        let hasher = foldhash::fast::FixedState::with_seed(0x7a65_7074_6f00_0001);
        Self { index: HashMap::with_hasher(hasher), slots: Vec::new(), max }
    }

    /// Finds or adds a producer for one more lane and returns its index here.
    ///
    /// # Errors
    /// `LimitReached` when all places are taken by producers that are in use.
    pub fn bind(&mut self, producer: ProducerId, now: Nanos) -> Result<u32, Refusal> {
        if let Some(&index) = self.index.get(&producer.0) {
            if let Some(Some(sequences)) = self.slots.get_mut(index as usize) {
                sequences.seen = now;
                sequences.lanes += 1;
            }
            return Ok(index);
        }
        let index = self.place(now).ok_or(Refusal::LimitReached)?;
        self.index.insert(producer.0, index);
        self.slots[index as usize] =
            Some(Sequences { producer, seen: now, lanes: 1, session: 0, pages: Vec::new() });
        Ok(index)
    }

    /// A lane that had bound the producer is gone.
    pub fn unbind(&mut self, index: u32, now: Nanos) {
        if let Some(Some(sequences)) = self.slots.get_mut(index as usize) {
            sequences.seen = now;
            sequences.lanes = sequences.lanes.saturating_sub(1);
        }
    }

    /// The sequences of a bound producer.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Sequences> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// Forgets a partition for every producer.
    pub fn forget(&mut self, partition: PartitionId) {
        for sequences in self.slots.iter_mut().flatten() {
            sequences.forget(partition);
        }
    }

    /// Every producer with ticks in a partition, by its index here.
    pub fn known_in(&self, partition: PartitionId) -> impl Iterator<Item = u32> + '_ {
        let slots = self.slots.iter().zip(0u32..);
        let known = move |sequences: &Sequences| sequences.last(partition) > 0;
        slots.filter(move |(slot, _)| slot.as_ref().is_some_and(known)).map(|(_, index)| index)
    }

    /// How many producers are known.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn place(&mut self, now: Nanos) -> Option<u32> {
        if self.slots.len() < self.max {
            self.slots.push(None);
            return Some(self.slots.len() as u32 - 1);
        }
        let idle = |slot: &Option<Sequences>| match slot {
            Some(sequences) => sequences.lanes == 0 && now.since(sequences.seen) >= Self::IDLE,
            None => true,
        };
        let index = self.slots.iter().position(idle)?;
        if let Some(old) = self.slots[index].take() {
            self.index.remove(&old.producer.0);
        }
        Some(index as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sequence_is_new_once_and_a_gap_is_refused() {
        assert_eq!(judge(0, 1), Verdict::New);
        assert_eq!(judge(7, 7), Verdict::Duplicate);
        assert_eq!(judge(7, 1), Verdict::Duplicate);
        assert_eq!(judge(7, 9), Verdict::Refused(Refusal::OutOfOrder));
        assert_eq!(judge(0, 9), Verdict::Refused(Refusal::UnknownProducer));
        assert_eq!(judge(200_000, 1), Verdict::Refused(Refusal::TooOld));
    }

    proptest! {
        #[test]
        fn the_low_half_is_enough(last in 1u64..1 << 40, back in 0u64..u64::from(PRODUCER_WINDOW)) {
            prop_assert_eq!(judge(last, (last + 1) as u32), Verdict::New);
            if back <= last {
                prop_assert_eq!(judge(last, (last - back) as u32), Verdict::Duplicate);
            }
            prop_assert_eq!(judge(last, (last + 2 + back) as u32),
                Verdict::Refused(Refusal::OutOfOrder));
        }
    }

    #[test]
    fn partitions_of_one_producer_are_numbered_apart() {
        let mut producers = Producers::default();
        let index = producers.bind(ProducerId(5), Nanos(0)).unwrap();
        let sequences = producers.get_mut(index).unwrap();
        sequences.accept(PartitionId(1), 10);
        sequences.accept(PartitionId(4000), 3);
        assert_eq!(sequences.last(PartitionId(1)), 10);
        assert_eq!(sequences.last(PartitionId(4000)), 3);
        assert_eq!(sequences.last(PartitionId(2)), 0);
    }

    #[test]
    fn only_idle_producers_without_a_lane_make_room() {
        let mut producers = Producers::new(2);
        let day = Nanos::from_millis(86_400_000);
        let kept = producers.bind(ProducerId(1), Nanos(0)).unwrap();
        let idle = producers.bind(ProducerId(2), Nanos(0)).unwrap();
        assert_eq!(producers.bind(ProducerId(3), day), Err(Refusal::LimitReached));
        producers.unbind(idle, Nanos(0));
        assert_eq!(producers.bind(ProducerId(3), Nanos(1)), Err(Refusal::LimitReached));
        assert_eq!(producers.bind(ProducerId(3), day), Ok(idle));
        assert_eq!(producers.bind(ProducerId(1), day), Ok(kept));
    }
}
