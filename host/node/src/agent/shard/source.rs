//! A lane from an owner whose replica this shard is.
//!
//! The replica derives each partition sequence from the order in the lane. The fence checks the
//! epoch at every bind and again with every tick, so a view that arrives in between takes effect
//! at once. One cumulative cursor acknowledges everything before it; what is refused, is named
//! first.

use super::inlet::LaneEnd;
use super::ledger::Ledger;
use super::standing::Standing;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zepto_core::limits::{LANE_BATCH, LANE_OPEN_TIMEOUT_MS, PRODUCERS_PER_SHARD_MAX};
use zepto_core::slot::{self, Control, Slot};
use zepto_core::time::Nanos;
use zepto_core::topology::{Member, MemberState};
use zepto_core::view::View;
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId, Refusal, fence};
use zepto_transport::{Receiver, Transport};

/// Slots between the one that is taken and the one whose series is fetched into the cache.
const LOOK_AHEAD: u64 = 16;
/// Time for an owner to open its lane. One that cannot may not be able to say so, either.
const OPEN_WITHIN: Duration = Duration::from_millis(2 * LANE_OPEN_TIMEOUT_MS);
/// No producer has this index.
const UNBOUND: u32 = u32::MAX;

/// A partition as a lane has bound it.
#[derive(Clone, Copy)]
struct Bound {
    epoch: Epoch,
    next: u64,
}

/// Rows that a record has announced.
struct Announced {
    partition: PartitionId,
    left: u32,
    digest: u64,
    sum: u64,
    /// The record was refused, or one of the rows could not be taken: the others are passed over.
    void: bool,
}

/// Where a lane comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// Never used again for another lane.
    pub number: u32,
    /// The owner.
    pub node: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
}

/// A lane from an owner.
pub(super) struct Source<X: Transport> {
    from: Origin,
    lane: Receiver<X>,
    hung_up: Arc<AtomicBool>,
    /// When it was first looked at.
    since: Option<Nanos>,
    /// The log knows that this life of its owner is over: some transports never notice.
    is_over: bool,
    /// By partition: as it is bound, or why it is not.
    partitions: Vec<Result<Bound, Refusal>>,
    /// By the lane's producer index: the shard's, or [`UNBOUND`].
    producers: Vec<u32>,
    rows: Option<Announced>,
    turn: u32,
}

enum Step {
    Done,
    Refuse(Refusal),
    Wait,
}

impl<X: Transport> Source<X> {
    pub fn new(from: Origin, lane: Receiver<X>, hung_up: Arc<AtomicBool>) -> Self {
        let (partitions, producers) = (Vec::new(), Vec::new());
        let (since, is_over, rows, turn) = (None, false, None, 0);
        Self { from, lane, hung_up, since, is_over, partitions, producers, rows, turn }
    }

    /// Compares its owner with a view.
    pub fn install(&mut self, view: &View) {
        let ended = |member: &Member| {
            member.incarnation > self.from.incarnation
                || member.incarnation == self.from.incarnation && member.state == MemberState::Dead
        };
        self.is_over |= view.placement().member(self.from.node).is_some_and(ended);
    }

    pub fn number(&self) -> u32 {
        self.from.number
    }

    /// How it stands, for a failed test's story.
    pub fn story(&self) -> String {
        let (from, lane) = (&self.from, &self.lane);
        format!("{from:?}: tail {}, taken {}", lane.tail(), lane.consumed())
    }

    pub fn set_parked(&mut self, parked: bool) {
        self.lane.set_parked(parked);
    }

    /// The shard's indices of the producers this lane has bound.
    pub fn bound(&self) -> impl Iterator<Item = u32> + '_ {
        self.producers.iter().copied().filter(|index| *index != UNBOUND)
    }

    /// Takes up to a batch and acknowledges it.
    pub fn drain(&mut self, ledger: &mut Ledger, now: Nanos) -> Result<usize, LaneEnd> {
        let mut available = self.lane.poll().map_err(LaneEnd::Corrupt)?;
        if available == 0 {
            if self.is_overdue(now) {
                return Err(LaneEnd::NotOpened);
            }
            if !self.is_over && !self.lane.is_left() && !self.hung_up.load(Ordering::Acquire) {
                return Ok(0);
            }
            // What is here of what the sender published is visible now; look once more.
            available = self.lane.poll().map_err(LaneEnd::Corrupt)?;
            if available == 0 {
                return Err(LaneEnd::HungUp);
            }
        }
        let first = self.lane.consumed();
        self.turn_at(first, ledger);
        // Never across a turn: everything of a batch is noted as of the same one.
        let turn_ends = (first / self.lane.capacity() + 1) * self.lane.capacity();
        let end = (first + available.min(LANE_BATCH as u64)).min(turn_ends);
        let mut at = first;
        while at < end {
            if at + LOOK_AHEAD < end {
                ledger.prefetch(&self.lane.slot(at + LOOK_AHEAD));
            }
            let slot = self.lane.slot(at);
            let step = if self.rows.is_some() {
                self.take_row(&slot, ledger)
            } else if slot::is_control(&slot) {
                self.obey(&slot, ledger, now)?
            } else {
                self.append(&slot, ledger)
            };
            match step {
                Step::Done => {}
                Step::Wait => break,
                Step::Refuse(reason) => {
                    if self.lane.refuse(at, 1, reason.code()).is_err() {
                        // The record is obeyed again, from the beginning.
                        self.rows = None;
                        break;
                    }
                    ledger.counters.refused += 1;
                    ledger.counters.refused_by.add(reason.code(), 1);
                }
            }
            at += 1;
        }
        if at > first {
            self.lane.consume(at - first);
            self.lane.settle(at);
            self.lane.publish();
        }
        Ok((at - first) as usize)
    }

    fn is_overdue(&mut self, now: Nanos) -> bool {
        let since = *self.since.get_or_insert(now);
        !self.lane.is_open() && now.since(since) > OPEN_WITHIN
    }

    /// Counts the lane's turns: see [`super::fill::Recent`].
    fn turn_at(&mut self, at: u64, ledger: &mut Ledger) {
        let turn = (at / self.lane.capacity()) as u32;
        if turn != self.turn || at == 0 {
            self.turn = turn;
            ledger.recent.turn(self.from.number, turn);
        }
    }

    fn obey(&mut self, slot: &Slot, ledger: &mut Ledger, now: Nanos) -> Result<Step, LaneEnd> {
        Ok(match slot::control_of(slot).map_err(|_| LaneEnd::BadControl)? {
            Control::BindProducer { index, producer } => {
                let place = index as usize;
                if place >= PRODUCERS_PER_SHARD_MAX {
                    return Err(LaneEnd::BadControl);
                }
                if self.producers.len() <= place {
                    self.producers.resize(place + 1, UNBOUND);
                }
                match ledger.producers.bind(producer, now) {
                    Ok(bound) => {
                        let old = core::mem::replace(&mut self.producers[place], bound);
                        if old != UNBOUND {
                            ledger.producers.unbind(old, now);
                        }
                        Step::Done
                    }
                    Err(reason) => Step::Refuse(reason),
                }
            }
            Control::BindPartition { partition, epoch, next } => {
                self.bind(partition, epoch, next, ledger)
            }
            Control::BeginFill { partition, epoch, next, unsettled, keep } => {
                self.begin(partition, epoch, (next, unsettled), keep, ledger)
            }
            Control::Accepted { index, partition, last } => {
                let producer = self.producer(index);
                let bound = self.bound_to(partition, ledger);
                let lane = self.from.number;
                match bound.and_then(|_| ledger.accepted(partition, lane, producer, last)) {
                    Ok(()) => Step::Done,
                    Err(reason) => self.give_up(partition, reason, ledger),
                }
            }
            Control::Rows { partition, count, digest } => {
                let bound = self.bound_to(partition, ledger);
                let known = bound.and_then(|_| ledger.is_filled_by(partition, self.from.number));
                let void = known.is_err();
                if count > 0 {
                    let (left, sum) = (count, 0);
                    self.rows = Some(Announced { partition, left, digest, sum, void });
                }
                known.map_or_else(|reason| self.give_up(partition, reason, ledger), |()| Step::Done)
            }
            Control::Unsettled { partition, from } => match self.bound_to(partition, ledger) {
                Ok(_) => {
                    ledger.note_floor(partition, from);
                    Step::Done
                }
                Err(reason) => self.give_up(partition, reason, ledger),
            },
            Control::Filled { partition, rows } => {
                let bound = self.bound_to(partition, ledger);
                match bound.and_then(|_| ledger.end_fill(partition, self.from.number, rows)) {
                    Ok(()) => Step::Done,
                    Err(reason) => self.give_up(partition, reason, ledger),
                }
            }
        })
    }

    fn producer(&self, index: u32) -> Option<u32> {
        self.producers.get(index as usize).copied().filter(|index| *index != UNBOUND)
    }

    /// Refuses a record, and all that comes of its partition before it is bound again.
    #[cold]
    fn give_up(&mut self, partition: PartitionId, reason: Refusal, ledger: &mut Ledger) -> Step {
        self.unbind(partition, reason, ledger);
        Step::Refuse(reason)
    }

    /// Nothing of the partition is taken any more before it is bound again: all of it is refused
    /// for the same reason.
    fn unbind(&mut self, partition: PartitionId, reason: Refusal, ledger: &mut Ledger) {
        if let Some(bound) = self.partitions.get_mut(partition.0 as usize) {
            if bound.is_ok() {
                ledger.keep_floor(partition);
            }
            *bound = Err(reason);
        }
    }

    fn bind(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        next: u64,
        ledger: &mut Ledger,
    ) -> Step {
        match fence::check(ledger.epoch(partition), epoch) {
            // The owner knows a newer view; ours comes from the log, not from its message.
            Err(Refusal::AheadEpoch) => return Step::Wait,
            Err(reason) => return self.give_up(partition, reason, ledger),
            Ok(()) => {}
        }
        if !matches!(ledger.standing(partition), Standing::Replica | Standing::Filling) {
            return self.give_up(partition, Refusal::NotOwner, ledger);
        }
        // A copy that is shorter lacks something, and one that is longer has what the owner never
        // had: ticks of an earlier owner that were not acknowledged. Both need a refill.
        if ledger.next_of(partition, self.from.number) != Some(next) {
            return self.give_up(partition, Refusal::OutOfOrder, ledger);
        }
        if let Err(reason) = ledger.is_latest(partition, &self.from) {
            return self.give_up(partition, reason, ledger);
        }
        ledger.note_owner(partition, &self.from);
        self.note_bound(partition, Bound { epoch, next });
        Step::Done
    }

    fn note_bound(&mut self, partition: PartitionId, bound: Bound) {
        let place = partition.0 as usize;
        if self.partitions.len() <= place {
            // The ledger knows the partition, so its number is within bounds.
            self.partitions.resize(place + 1, Err(Refusal::StaleEpoch));
        }
        self.partitions[place] = Ok(bound);
    }

    fn begin(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        (next, unsettled): (u64, u64),
        keep: bool,
        ledger: &mut Ledger,
    ) -> Step {
        match fence::check(ledger.epoch(partition), epoch) {
            Err(Refusal::AheadEpoch) => return Step::Wait,
            Err(reason) => return self.give_up(partition, reason, ledger),
            Ok(()) => {}
        }
        let begun = match (ledger.standing(partition), keep) {
            (Standing::Filling, false) => ledger.begin_fill(partition, &self.from, next, unsettled),
            (Standing::Replica | Standing::Filling, true) => {
                ledger.begin_repair(partition, &self.from, next, unsettled)
            }
            _ => Err(Refusal::NotOwner),
        };
        match begun {
            Ok(()) => {
                ledger.recent.note(partition, self.from.number, self.turn, unsettled);
                self.note_bound(partition, Bound { epoch, next });
                Step::Done
            }
            Err(reason) => self.give_up(partition, reason, ledger),
        }
    }

    /// The partition as it is bound, if the fence still passes it.
    fn bound_to(&self, partition: PartitionId, ledger: &Ledger) -> Result<Bound, Refusal> {
        let bound = self.partitions.get(partition.0 as usize).copied();
        let bound = bound.unwrap_or(Err(Refusal::StaleEpoch))?;
        // The view may have moved on since the bind: the fence is asked again.
        fence::check(ledger.epoch(partition), bound.epoch)?;
        Ok(bound)
    }

    fn append(&mut self, slot: &Slot, ledger: &mut Ledger) -> Step {
        let partition = ledger.partition_of(slot);
        let bound = match self.bound_to(partition, ledger) {
            Ok(bound) => bound,
            Err(reason) => return self.give_up(partition, reason, ledger),
        };
        if ledger.next_of(partition, self.from.number) != Some(bound.next) {
            return self.give_up(partition, Refusal::OutOfOrder, ledger);
        }
        let (index, low) = slot::producer_of(slot);
        let Some(producer) = self.producer(index) else {
            return self.give_up(partition, Refusal::UnknownProducer, ledger);
        };
        match ledger.append_replica(slot, partition, producer, low) {
            Ok(()) => {
                ledger.recent.note(partition, self.from.number, self.turn, bound.next);
                let next = bound.next + 1;
                self.partitions[partition.0 as usize] = Ok(Bound { next, ..bound });
                Step::Done
            }
            Err(reason) => self.give_up(partition, reason, ledger),
        }
    }

    /// One of the rows that were announced. What is wrong with them, the next record of the
    /// partition is refused for.
    fn take_row(&mut self, slot: &Slot, ledger: &mut Ledger) -> Step {
        let Some(rows) = &mut self.rows else { return Step::Done };
        let partition = rows.partition;
        rows.left -= 1;
        rows.sum = rows.sum.wrapping_add(slot::digest(slot));
        let is_last = rows.left == 0;
        let fits = !slot::is_control(slot) && ledger.partition_of(slot) == partition;
        let whole = !is_last || rows.sum == rows.digest;
        let lane = self.from.number;
        let taken = match rows.void {
            true => Ok(()),
            false if fits && whole => ledger.take_row(slot, partition, lane),
            false => Err(Refusal::Malformed),
        };
        if let Err(reason) = taken {
            rows.void = true;
            ledger.give_up_fill(partition, lane);
            self.unbind(partition, reason, ledger);
        }
        if is_last {
            self.rows = None;
        }
        Step::Done
    }
}
