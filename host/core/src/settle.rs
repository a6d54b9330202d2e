//! When a batch of an ingress lane may be settled: once every replica lane it was written to has
//! acknowledged the tail noted for it.
//!
//! O(replica lanes) per batch, no bitmaps: cursors are cumulative, so it is enough to compare the
//! tails noted when the batch was appended with what each lane has acknowledged since.

use crate::defect::Defect;
use std::collections::VecDeque;

/// The tails of one batch: (replica lane, index its replica must have acknowledged).
pub type Tails = Vec<(u32, u64)>;

#[derive(Debug)]
struct Batch {
    end: u64,
    tails: Tails,
}

/// Batches of one ingress lane that wait for their replicas, oldest first.
#[derive(Debug, Default)]
pub struct Settling {
    batches: VecDeque<Batch>,
}

impl Settling {
    /// Notes that ingress slots below `end` are appended here and written up to `tails`.
    pub fn note(&mut self, end: u64, tails: Tails) {
        debug_assert!(self.batches.back().is_none_or(|last| last.end <= end));
        self.batches.push_back(Batch { end, tails });
    }

    /// Up to where the lane may settle now, given what each replica lane has acknowledged; a lane
    /// that is gone has nothing more to confirm and answers `u64::MAX`.
    pub fn settled(&mut self, acknowledged: impl Fn(u32) -> u64) -> Option<u64> {
        let mut end = None;
        while let Some(batch) = self.batches.front() {
            let confirmed = batch.tails.iter().all(|&(lane, tail)| acknowledged(lane) >= tail);
            if !confirmed && !Defect::AckBeforeReplicas.planted() {
                break;
            }
            end = Some(batch.end);
            self.batches.pop_front();
        }
        end
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

    #[test]
    fn a_batch_settles_only_when_every_replica_has_it() {
        let mut settling = Settling::default();
        settling.note(10, vec![(0, 5), (1, 7)]);
        settling.note(20, vec![(0, 9)]);
        assert_eq!(settling.settled(|_| 5), None);
        assert_eq!(settling.settled(|lane| [5, 7][lane as usize]), Some(10));
        assert_eq!(settling.settled(|lane| [8, 7][lane as usize]), None);
        assert_eq!(settling.settled(|_| 9), Some(20));
        assert!(settling.is_empty());
    }

    #[test]
    fn a_later_batch_never_overtakes_an_earlier_one() {
        let mut settling = Settling::default();
        settling.note(10, vec![(0, 5)]);
        settling.note(20, vec![]);
        assert_eq!(settling.settled(|_| 0), None);
        assert_eq!(settling.settled(|_| 5), Some(20));
    }
}
