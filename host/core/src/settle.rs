//! When a batch of an ingress lane may be settled: once every replica lane it was written to has
//! acknowledged the tail noted for it.
//!
//! O(replica lanes) per batch, no bitmaps: cursors are cumulative, so it is enough to compare the
//! tails noted when the batch was appended with what each lane has acknowledged since.

use crate::defect::Defect;
use std::collections::VecDeque;
use zepto_abi::PartitionId;

/// What a batch waits for, and what its settling makes readable.
#[derive(Debug, Default)]
pub struct Batch {
    /// Ingress slots below this index are in the batch or in an earlier one.
    pub end: u64,
    /// (replica lane, index its replica must have acknowledged).
    pub tails: Vec<(u32, u64)>,
    /// (partition, end of its sequences with this batch): how far its watermark may rise.
    pub marks: Vec<(PartitionId, u64)>,
}

/// Batches of one ingress lane that wait for their replicas, oldest first.
#[derive(Debug, Default)]
pub struct Settling {
    batches: VecDeque<Batch>,
}

impl Settling {
    /// Notes a batch that is appended here and written to its replicas' lanes.
    pub fn note(&mut self, batch: Batch) {
        debug_assert!(self.batches.back().is_none_or(|last| last.end <= batch.end));
        self.batches.push_back(batch);
    }

    /// Up to where the lane may settle now, given what each replica lane has acknowledged; a lane
    /// that is gone has nothing more to confirm and answers `u64::MAX`. Every settled batch's
    /// marks go to `raise` first: the watermark rises before the acknowledgement leaves.
    pub fn settled(
        &mut self,
        acknowledged: impl Fn(u32) -> u64,
        mut raise: impl FnMut(PartitionId, u64),
    ) -> Option<u64> {
        let mut end = None;
        while let Some(batch) = self.batches.front() {
            let confirmed = batch.tails.iter().all(|&(lane, tail)| acknowledged(lane) >= tail);
            if !confirmed && !Defect::AckBeforeReplicas.planted() {
                break;
            }
            end = Some(batch.end);
            for &(partition, sequence) in &batch.marks {
                raise(partition, sequence);
            }
            self.batches.pop_front();
        }
        end
    }

    /// Batches that wait no longer make these partitions readable: what they have of them is sent
    /// again, and marked then.
    pub fn forget(&mut self, mut is_void: impl FnMut(PartitionId) -> bool) {
        for batch in &mut self.batches {
            batch.marks.retain(|(partition, _)| !is_void(*partition));
        }
    }

    /// Batches that wait.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(end: u64, tails: Vec<(u32, u64)>) -> Batch {
        Batch { end, tails, marks: vec![(PartitionId(3), end)] }
    }

    fn settled(settling: &mut Settling, acknowledged: impl Fn(u32) -> u64) -> Option<u64> {
        let mut raised = None;
        let end = settling.settled(acknowledged, |partition, to| {
            assert_eq!(partition, PartitionId(3));
            raised = Some(to);
        });
        assert_eq!(raised, end, "the watermark follows");
        end
    }

    #[test]
    fn a_batch_settles_only_when_every_replica_has_it() {
        let mut settling = Settling::default();
        settling.note(batch(10, vec![(0, 5), (1, 7)]));
        settling.note(batch(20, vec![(0, 9)]));
        assert_eq!(settled(&mut settling, |_| 5), None);
        assert_eq!(settled(&mut settling, |lane| [5, 7][lane as usize]), Some(10));
        assert_eq!(settled(&mut settling, |lane| [8, 7][lane as usize]), None);
        assert_eq!(settled(&mut settling, |_| 9), Some(20));
        assert!(settling.is_empty());
    }

    #[test]
    fn a_later_batch_never_overtakes_an_earlier_one() {
        let mut settling = Settling::default();
        settling.note(batch(10, vec![(0, 5)]));
        settling.note(batch(20, vec![]));
        assert_eq!(settled(&mut settling, |_| 0), None);
        assert_eq!(settled(&mut settling, |_| 5), Some(20));
    }
}
