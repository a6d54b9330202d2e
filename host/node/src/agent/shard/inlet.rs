//! A lane from a producer: takes a batch, judges every tick, and settles what is safe.

use super::command::LaneTerms;
use super::followers::Followers;
use super::ledger::{Bound, Ledger, Taken};
use super::standing::Standing;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use zepto_core::limits::{LANE_BATCH, PRODUCERS_PER_LANE_MAX};
use zepto_core::settle::{Batch, Settling};
use zepto_core::slot::{self, Control, Slot};
use zepto_core::time::Nanos;
use zepto_core::{PartitionId, Refusal};
use zepto_transport::{LaneError, Receiver, Transport};

/// Slots between the one that is taken and the one whose series is fetched into the cache.
const LOOK_AHEAD: u64 = 16;

/// Why a lane is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneEnd {
    /// Its sender went, and everything it had published is taken.
    #[error("its sender went")]
    HungUp,
    /// Its sender never came.
    #[error("its sender did not open it in time")]
    NotOpened,
    /// Its sender broke the rules of the mailbox.
    #[error("its sender broke the lane's rules: {0}")]
    Corrupt(LaneError),
    /// Its sender broke the rules of the slots.
    #[error("its sender wrote a control record that is not allowed here")]
    BadControl,
}

impl LaneEnd {
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::BadControl)
    }
}

pub(super) struct Inlet<X: Transport> {
    /// Higher than that of every lane that was opened before.
    number: u32,
    lane: Receiver<X>,
    terms: LaneTerms,
    /// By the lane's producer index.
    bound: Vec<Option<Bound>>,
    settling: Settling,
    recheck: Option<Recheck>,
}

/// Slots that are to be looked at once more before anything settles: their partitions may no longer
/// be owned, or it is in doubt who has them.
struct Recheck {
    /// Slots from here to `consumed`.
    from: u64,
    doubts: BTreeSet<PartitionId>,
}

/// What to do with a slot.
enum Step {
    Done,
    /// Not now: a replica's lane has no room.
    Wait,
}

impl<X: Transport> Inlet<X> {
    pub fn new(number: u32, lane: Receiver<X>, terms: LaneTerms) -> Self {
        let (bound, settling) = (Vec::new(), Settling::default());
        Self { number, lane, terms, bound, settling, recheck: None }
    }

    pub fn set_parked(&mut self, parked: bool) {
        self.lane.set_parked(parked);
    }

    /// The shard's indices of the producers this lane has bound.
    pub fn bound(&self) -> impl Iterator<Item = u32> + '_ {
        self.bound.iter().flatten().map(|bound| bound.index)
    }

    /// How far the lane is: (published, taken, settled), in slots since it was opened.
    pub fn progress(&self) -> (u64, u64, u64) {
        (self.lane.tail(), self.lane.consumed(), self.lane.settled())
    }

    /// Takes up to a batch.
    pub fn drain<T: Transport>(
        &mut self,
        ledger: &mut Ledger,
        followers: &mut Followers<T>,
        now: Nanos,
    ) -> Result<usize, LaneEnd> {
        let available = self.lane.poll().map_err(LaneEnd::Corrupt)?;
        if available == 0 {
            let hung_up = self.lane.is_left() || self.terms.hung_up.load(Ordering::Acquire);
            // What was published before the sender went is visible now; look once more. What waits
            // for replicas still has to become readable.
            let over = hung_up && self.lane.poll().map_err(LaneEnd::Corrupt)? == 0;
            return if over && self.settling.is_empty() { Err(LaneEnd::HungUp) } else { Ok(0) };
        }
        // Earlier slots are refused before later ones: their sender relies on the order.
        if !self.go_on_rechecking(ledger) {
            return Ok(0);
        }
        let first = self.lane.consumed();
        let end = first + available.min(LANE_BATCH as u64);
        let mut at = first;
        while at < end {
            if at + LOOK_AHEAD < end {
                ledger.prefetch(&self.lane.slot(at + LOOK_AHEAD));
            }
            let slot = self.lane.slot(at);
            match self.step(at, &slot, ledger, followers, now)? {
                Step::Done => at += 1,
                Step::Wait => break,
            }
        }
        if at > first {
            self.finish(at, at - first, ledger, followers);
        }
        Ok((at - first) as usize)
    }

    #[inline]
    fn step<T: Transport>(
        &mut self,
        at: u64,
        slot: &Slot,
        ledger: &mut Ledger,
        followers: &mut Followers<T>,
        now: Nanos,
    ) -> Result<Step, LaneEnd> {
        if slot::is_control(slot) {
            return self.bind(slot, ledger, now);
        }
        let taken = match ledger.find(slot) {
            Ok((series, partition)) => {
                let led = ledger.standing(partition) == Standing::Leader;
                let admitted = match led {
                    true => followers.admits(partition, self.terms.memory_only),
                    false => Ok(()),
                };
                if led && admitted.is_ok() && !followers.has_room(partition) {
                    return Ok(Step::Wait);
                }
                let index = slot::producer_of(slot).0 as usize;
                let producer = self.bound.get(index).copied().flatten();
                admitted.and_then(|()| ledger.take(slot, series, partition, producer))
            }
            Err(reason) => Err(reason),
        };
        Ok(match taken {
            Ok(Taken::Stored) => Step::Done,
            Ok(Taken::Led(partition, sequence)) => {
                // It was stored under a bound producer.
                if let Some(Some(bound)) = self.bound.get(slot::producer_of(slot).0 as usize) {
                    followers.send(partition, sequence, slot, bound.index, ledger);
                }
                Step::Done
            }
            Ok(Taken::Duplicate(partition)) => {
                ledger.counters.duplicates += 1;
                // It is here, but its replicas need not have it yet, nor may readers see it.
                if ledger.standing(partition) == Standing::Leader {
                    followers.confirm(partition, ledger);
                    ledger.mark(partition);
                }
                Step::Done
            }
            Err(reason) => self.refuse(at, reason, ledger),
        })
    }

    /// A full ring of refusals waits for the sender to read them.
    #[cold]
    fn refuse(&mut self, at: u64, reason: Refusal, ledger: &mut Ledger) -> Step {
        if self.lane.refuse(at, 1, reason.code()).is_err() {
            return Step::Wait;
        }
        ledger.counters.refused += 1;
        ledger.counters.refused_by.add(reason.code(), 1);
        Step::Done
    }

    #[cold]
    fn bind(&mut self, slot: &Slot, ledger: &mut Ledger, now: Nanos) -> Result<Step, LaneEnd> {
        let Ok(Control::BindProducer { index, producer }) = slot::control_of(slot) else {
            return Err(LaneEnd::BadControl);
        };
        if index >= PRODUCERS_PER_LANE_MAX {
            return Err(LaneEnd::BadControl);
        }
        let index = index as usize;
        if self.bound.len() <= index {
            self.bound.resize(index + 1, None);
        }
        if let Some(old) = self.bound[index] {
            ledger.producers.unbind(old.index, now);
        }
        // Without a place for it, its ticks are refused as an unknown producer's.
        self.bound[index] = ledger.producers.bind(producer, now).ok().and_then(|index| {
            ledger.producers.get_mut(index)?.begin_session(self.number);
            Some(Bound { index, lane: self.number })
        });
        Ok(Step::Done)
    }

    /// Settles a batch at once, or notes what it waits for.
    fn finish<T: Transport>(
        &mut self,
        end: u64,
        count: u64,
        ledger: &mut Ledger,
        followers: &mut Followers<T>,
    ) {
        self.lane.consume(count);
        let tails = followers.finish_batch();
        if !ledger.replicated() && self.settling.is_empty() {
            ledger.store.publish();
            self.lane.settle(end);
        } else {
            let marks = ledger.publish();
            self.settling.note(Batch { end, tails, marks });
            if self.terms.memory_only && self.recheck.is_none() {
                // The owner has it, and that is enough to acknowledge; readable it is later.
                self.lane.settle(end);
            }
        }
        self.lane.publish();
    }

    /// Settles what the replicas have confirmed by now.
    pub fn settle<T: Transport>(&mut self, ledger: &mut Ledger, followers: &Followers<T>) -> usize {
        if !self.go_on_rechecking(ledger) || self.settling.is_empty() {
            return 0;
        }
        let raise = |partition, to| {
            if ledger.owns(partition) {
                ledger.raise(partition, to);
            }
        };
        match self.settling.settled(|lane| followers.acknowledged(lane), raise) {
            Some(end) => {
                self.lane.settle(end.max(self.lane.settled()));
                self.lane.publish();
                1
            }
            None => 0,
        }
    }

    /// Refuses what has not settled and is no longer owned, or is in doubt: it may be lost here, or
    /// be here only. Its producer sends it again.
    pub fn recheck(&mut self, ledger: &Ledger, doubts: &BTreeSet<PartitionId>) {
        let earlier = self.recheck.take().map(|recheck| recheck.doubts).unwrap_or_default();
        let doubts = &earlier | doubts;
        self.settling.forget(|partition| !ledger.owns(partition) || doubts.contains(&partition));
        self.recheck = Some(Recheck { from: self.lane.settled(), doubts });
        self.go_on_rechecking(ledger);
    }

    /// Whether there is nothing left to be looked at.
    #[inline]
    fn go_on_rechecking(&mut self, ledger: &Ledger) -> bool {
        self.recheck.is_none() || self.look_again(ledger)
    }

    #[cold]
    fn look_again(&mut self, ledger: &Ledger) -> bool {
        let Some(mut recheck) = self.recheck.take() else { return true };
        while recheck.from < self.lane.consumed() {
            let slot = self.lane.slot(recheck.from);
            let reason = match slot::is_control(&slot) {
                true => None,
                false => {
                    let partition = ledger.partition_of(&slot);
                    let doubted = recheck.doubts.contains(&partition);
                    match ledger.owns(partition) {
                        false => Some(Refusal::NotOwner),
                        true => doubted.then_some(Refusal::NotEnoughCopies),
                    }
                }
            };
            if let Some(reason) = reason
                && self.lane.refuse(recheck.from, 1, reason.code()).is_err()
            {
                self.recheck = Some(recheck);
                break;
            }
            recheck.from += 1;
        }
        self.lane.publish();
        self.recheck.is_none()
    }
}
