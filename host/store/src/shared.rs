//! What the writer and the readers share: the open partitions, and how far each can be read.
//!
//! Watermarks lie in an array of their own, because raising some hundred of them is part of every
//! batch. A place in it belongs to whichever partition is open, so a reader that takes a
//! partition and a watermark makes sure that they belong together.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use arc_swap::ArcSwapOption;
use zepto_abi::PartitionId;

use crate::budget::Budget;
use crate::counters::Counters;
use crate::partition::Partition;
use crate::pause::pause;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) partition_bits: u8,
    partitions: Box<[ArcSwapOption<Partition>]>,
    /// By partition, the first sequence that readers do not see.
    watermarks: Box<[AtomicU64]>,
    pub(crate) counters: Counters,
    pub(crate) budget: Arc<Budget>,
}

impl Shared {
    /// Bytes per partition, open or not.
    pub(crate) const PARTITION_BYTES: usize =
        size_of::<ArcSwapOption<Partition>>() + size_of::<AtomicU64>();

    pub(crate) fn new(partition_bits: u8, budget: Arc<Budget>) -> Self {
        let count = 1 << partition_bits;
        Self {
            partition_bits,
            partitions: std::iter::repeat_with(ArcSwapOption::empty).take(count).collect(),
            watermarks: std::iter::repeat_with(AtomicU64::default).take(count).collect(),
            counters: Counters::default(),
            budget,
        }
    }

    /// A partition that is open, and its watermark; the rows below it are visible to the caller.
    pub(crate) fn partition(&self, id: PartitionId) -> Option<(Arc<Partition>, u64)> {
        let slot = self.partitions.get(id.0 as usize)?;
        loop {
            let partition = slot.load_full()?;
            pause();
            let watermark = self.watermark(id);
            pause();
            // A watermark of a later opening was stored after the slot was emptied, and whoever
            // sees the one sees the other.
            if slot.load().as_ref().is_some_and(|again| Arc::ptr_eq(again, &partition)) {
                return Some((partition, watermark));
            }
        }
    }

    /// The writer opens a partition that is not open.
    pub(crate) fn open(&self, partition: Arc<Partition>, watermark: u64) {
        let index = partition.id.0 as usize;
        self.watermarks[index].store(watermark, Release);
        pause();
        self.partitions[index].store(Some(partition));
    }

    /// The writer closes a partition.
    pub(crate) fn close(&self, id: PartitionId) {
        self.partitions[id.0 as usize].store(None);
    }

    pub(crate) fn watermark(&self, id: PartitionId) -> u64 {
        self.watermarks[id.0 as usize].load(Acquire)
    }

    /// The writer raises the watermark of an open partition; it never lowers one.
    #[inline]
    pub(crate) fn raise_watermark(&self, id: PartitionId, watermark: u64) {
        let current = &self.watermarks[id.0 as usize];
        if watermark > current.load(Relaxed) {
            current.store(watermark, Release);
        }
    }
}
