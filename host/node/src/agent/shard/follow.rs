//! Replication lanes: to the replicas of partitions owned here, and from owners whose replica this
//! shard is.
//!
//! An owner writes what it appended into one lane per replica shard, in its order. A bind record
//! opens a partition in a lane with (epoch, next sequence); the fence checks the epoch there and
//! again with every tick, so a view that arrives in between takes effect at once. The replica
//! derives each partition sequence from the order in the lane. One cumulative cursor per lane
//! acknowledges everything before it; what the replica refuses, it names first.

use super::Identity;
use super::inlet::LaneEnd;
use super::ledger::{Ledger, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zepto_core::defect::Defect;
use zepto_core::limits::LANE_BATCH;
use zepto_core::slot::{self, Control, Slot};
use zepto_core::time::Nanos;
use zepto_core::view::{Destination, View, shard_of};
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId, ProducerId, Refusal, fence};
use zepto_transport::{Bell, Receiver, Sender, Transport};

/// Slots a tick may need in a lane: two bind records and itself.
const SLOTS_PER_TICK: u64 = 3;

struct Lane<T: Transport> {
    /// Never used again for another lane.
    number: u32,
    to: Destination,
    incarnation: Incarnation,
    sender: Sender<T>,
    bell: Option<Arc<Bell>>,
    partitions: BTreeMap<PartitionId, Epoch>,
    producers: BTreeMap<u32, ProducerId>,
    /// Partitions of which the replica refused something: its copy is not ours any more.
    out_of_step: BTreeSet<PartitionId>,
    acknowledged: u64,
    touched: bool,
    broken: bool,
}

/// The lanes to this shard's replicas.
pub(super) struct Followers<T: Transport> {
    lanes: Vec<Lane<T>>,
    /// By partition: the shards of its replicas; empty where this shard is not its owner.
    targets: Vec<Vec<Destination>>,
    wanted: Vec<Destination>,
    incarnations: BTreeMap<Destination, Incarnation>,
    next_number: u32,
}

impl<T: Transport> Followers<T> {
    pub fn new() -> Self {
        Self {
            lanes: Vec::new(),
            targets: Vec::new(),
            wanted: Vec::new(),
            incarnations: BTreeMap::new(),
            next_number: 0,
        }
    }

    pub fn wanted(&self) -> &[Destination] {
        &self.wanted
    }

    /// Takes up who the replicas are. Lanes that lead to nobody's replica are dropped: they have
    /// nothing more to confirm.
    pub fn install(&mut self, me: Identity, view: &View) {
        self.targets.clear();
        self.incarnations.clear();
        for partition in (0..view.partitions() as u32).map(PartitionId) {
            let targets = targets_of(view, me, partition);
            for &(destination, incarnation) in &targets {
                self.incarnations.insert(destination, incarnation);
            }
            self.targets.push(targets.into_iter().map(|target| target.0).collect());
        }
        let incarnations = &self.incarnations;
        self.lanes.retain(|lane| incarnations.get(&lane.to) == Some(&lane.incarnation));
        for lane in &mut self.lanes {
            let targets = &self.targets;
            lane.out_of_step.retain(|partition| {
                targets.get(partition.0 as usize).is_some_and(|to| to.contains(&lane.to))
            });
        }
        self.want();
    }

    /// A lane that was wanted is here.
    pub fn attach(&mut self, to: Destination, sender: Sender<T>, bell: Option<Arc<Bell>>) {
        let Some(&incarnation) = self.incarnations.get(&to) else { return };
        if self.lanes.iter().any(|lane| lane.to == to) {
            return;
        }
        self.next_number += 1;
        self.lanes.push(Lane {
            number: self.next_number,
            to,
            incarnation,
            sender,
            bell,
            partitions: BTreeMap::new(),
            producers: BTreeMap::new(),
            out_of_step: BTreeSet::new(),
            acknowledged: 0,
            touched: false,
            broken: false,
        });
        self.want();
    }

    fn want(&mut self) {
        let missing = |to: &&Destination| !self.lanes.iter().any(|lane| lane.to == **to);
        self.wanted = self.incarnations.keys().filter(missing).copied().collect();
    }

    /// Whether every replica of a partition has its lane and is in step.
    pub fn attached(&self, partition: PartitionId) -> bool {
        let carries = |lane: &Lane<T>| !lane.broken && !lane.out_of_step.contains(&partition);
        self.targets(partition)
            .iter()
            .all(|to| self.lanes.iter().any(|lane| lane.to == *to && carries(lane)))
    }

    /// Replicas that refused ticks of a partition, or whose lane is corrupt: without a refill they
    /// cannot confirm anything of it again, so the partition takes no ticks while they count.
    pub fn out_of_step(&self) -> impl Iterator<Item = (PartitionId, NodeId)> + '_ {
        let partitions = self.targets.iter().zip((0u32..).map(PartitionId));
        partitions.flat_map(move |(targets, partition)| {
            let lanes = self.lanes.iter().filter(|lane| targets.contains(&lane.to));
            lanes
                .filter(move |lane| lane.broken || lane.out_of_step.contains(&partition))
                .map(move |lane| (partition, lane.to.node))
        })
    }

    /// The replicas of a partition have to confirm all that was sent to them so far, with the
    /// batch that is being made: a tick sent twice may be among it.
    /// Under an epoch that they have not heard of yet, they first have to agree that their copies
    /// are the owner's. The caller has checked the room.
    pub fn confirm(&mut self, partition: PartitionId, ledger: &Ledger) {
        let epoch = ledger.epoch(partition);
        let next = ledger.store.next_sequence(partition).unwrap_or(1);
        let Some(targets) = self.targets.get(partition.0 as usize) else { return };
        for lane in self.lanes.iter_mut().filter(|lane| targets.contains(&lane.to)) {
            lane.bind(partition, epoch, next);
            lane.touched = true;
        }
    }

    /// Whether every replica's lane of a partition has room for one more tick.
    pub fn has_room(&self, partition: PartitionId) -> bool {
        let targets = self.targets(partition);
        let mut lanes = self.lanes.iter().filter(|lane| targets.contains(&lane.to));
        lanes.all(|lane| lane.sender.room() >= SLOTS_PER_TICK)
    }

    /// Writes an appended tick to every replica's lane. The caller has checked the room.
    pub fn send(
        &mut self,
        partition: PartitionId,
        sequence: u64,
        tick: &Slot,
        producer: u32,
        ledger: &mut Ledger,
    ) {
        let id = ledger.producers.get_mut(producer).map(|sequences| sequences.producer());
        let epoch = ledger.epoch(partition);
        let Some(targets) = self.targets.get(partition.0 as usize) else { return };
        for lane in self.lanes.iter_mut().filter(|lane| targets.contains(&lane.to)) {
            lane.bind(partition, epoch, sequence);
            if let Some(id) = id.filter(|id| lane.producers.insert(producer, *id) != Some(*id)) {
                lane.push(&Control::BindProducer { index: producer, producer: id }.slot());
            }
            let mut tick = *tick;
            tick[0] = slot::producer_word(producer, slot::producer_of(&tick).1);
            lane.push(&tick);
        }
    }

    /// Publishes what a batch wrote; returns the tails its replicas have to acknowledge.
    pub fn finish_batch(&mut self) -> Vec<(u32, u64)> {
        let mut tails = Vec::new();
        for lane in self.lanes.iter_mut().filter(|lane| lane.touched) {
            lane.touched = false;
            if Defect::AckByEarlierBatch.planted() {
                tails.push((lane.number, lane.sender.tail()));
            }
            let parked = lane.sender.publish();
            if let Some(bell) = lane.bell.as_ref().filter(|_| parked) {
                // A bell that fails leaves the replica to its longest sleep.
                if let Err(error) = bell.ring() {
                    tracing::warn!(%error, "a replica's bell");
                }
            }
            if !Defect::AckByEarlierBatch.planted() {
                tails.push((lane.number, lane.sender.head()));
            }
        }
        tails
    }

    /// Reads what the replicas acknowledged and refused; refused partitions are fenced. Returns
    /// how many were.
    pub fn poll(&mut self, ledger: &mut Ledger) -> usize {
        let mut fenced = 0;
        for lane in self.lanes.iter_mut().filter(|lane| !lane.broken) {
            match lane.poll(ledger) {
                Ok(more) => fenced += more,
                Err(error) => {
                    tracing::error!(to = %lane.to.node, %error, "a replica's lane is corrupt");
                    lane.broken = true;
                    ledger.counters.corrupt_lanes += 1;
                }
            }
        }
        fenced
    }

    /// What a lane's replica has acknowledged; a lane that is gone has nothing to confirm.
    pub fn acknowledged(&self, number: u32) -> u64 {
        let lane = self.lanes.iter().find(|lane| lane.number == number);
        lane.map_or(u64::MAX, |lane| lane.acknowledged)
    }

    fn targets(&self, partition: PartitionId) -> &[Destination] {
        self.targets.get(partition.0 as usize).map_or(&[], |targets| targets)
    }
}

impl<T: Transport> Lane<T> {
    /// Opens a partition in the lane, once for each epoch.
    fn bind(&mut self, partition: PartitionId, epoch: Epoch, next: u64) {
        if self.partitions.insert(partition, epoch) != Some(epoch) {
            self.push(&Control::BindPartition { partition, epoch, next }.slot());
        }
    }

    fn push(&mut self, slot: &Slot) {
        let pushed = self.sender.push(slot);
        assert!(pushed.is_ok(), "the room was checked");
        self.touched = true;
    }

    fn poll(&mut self, ledger: &mut Ledger) -> Result<usize, zepto_transport::LaneError> {
        // Cursors first, refusals after: whatever the cursor passes was refused before it did.
        let settled = self.sender.poll()?.settled;
        let mut fenced = 0;
        while let Some(range) = self.sender.next_refusal()? {
            for index in range.first..range.end() {
                let Some(slot) = self.sender.slot(index) else { continue };
                let partition = match slot::is_control(&slot).then(|| slot::control_of(&slot)) {
                    None => ledger.partition_of(&slot),
                    Some(Ok(Control::BindPartition { partition, .. })) => partition,
                    Some(_) => continue,
                };
                if Defect::RefusalCountsAsTaken.planted() {
                    continue;
                }
                self.out_of_step.insert(partition);
                fenced += usize::from(ledger.fence(partition));
            }
        }
        self.sender.release(settled);
        self.acknowledged = settled;
        Ok(fenced)
    }
}

fn targets_of(
    view: &View,
    me: Identity,
    partition: PartitionId,
) -> Vec<(Destination, Incarnation)> {
    let placement = view.placement();
    let mine = |assignment: &&zepto_core::topology::Assignment| {
        let member = placement.member(me.node);
        assignment.owner() == Some(me.node)
            && member.is_some_and(|m| {
                m.incarnation == me.incarnation && shard_of(partition, m.shards) == me.shard
            })
    };
    let Some(assignment) = placement.assignment(partition).filter(mine) else {
        return Vec::new();
    };
    let members = assignment.replicas().filter_map(|node| placement.member(node));
    members
        .map(|member| {
            let shard = shard_of(partition, member.shards);
            (Destination { node: member.id, shard }, member.incarnation)
        })
        .collect()
}

/// A partition as one lane has bound it.
#[derive(Clone, Copy)]
struct Bound {
    epoch: Epoch,
    next: u64,
}

/// A lane from an owner.
pub(super) struct Source<T: Transport> {
    lane: Receiver<T>,
    partitions: BTreeMap<PartitionId, Bound>,
    producers: BTreeMap<u32, u32>,
}

enum Step {
    Done,
    Refuse(Refusal),
    Wait,
}

impl<T: Transport> Source<T> {
    pub fn new(lane: Receiver<T>) -> Self {
        Self { lane, partitions: BTreeMap::new(), producers: BTreeMap::new() }
    }

    pub fn set_parked(&mut self, parked: bool) {
        self.lane.set_parked(parked);
    }

    /// The shard's indices of the producers this lane has bound.
    pub fn bound(&self) -> impl Iterator<Item = u32> + '_ {
        self.producers.values().copied()
    }

    /// Takes up to a batch and acknowledges it.
    pub fn drain(&mut self, ledger: &mut Ledger, now: Nanos) -> Result<usize, LaneEnd> {
        let available = self.lane.poll().map_err(LaneEnd::Corrupt)?;
        let first = self.lane.consumed();
        let end = first + available.min(LANE_BATCH as u64);
        let mut at = first;
        while at < end {
            let slot = self.lane.slot(at);
            let step = if slot::is_control(&slot) {
                self.bind(&slot, ledger, now)?
            } else {
                self.append(&slot, ledger)
            };
            match step {
                Step::Done => {}
                Step::Wait => break,
                Step::Refuse(reason) => {
                    if self.lane.refuse(at, 1, reason.code()).is_err() {
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

    fn bind(&mut self, slot: &Slot, ledger: &mut Ledger, now: Nanos) -> Result<Step, LaneEnd> {
        match slot::control_of(slot).map_err(|_| LaneEnd::BadControl)? {
            Control::BindProducer { index, producer } => {
                match ledger.producers.bind(producer, now) {
                    Ok(bound) => {
                        if let Some(old) = self.producers.insert(index, bound) {
                            ledger.producers.unbind(old, now);
                        }
                        Ok(Step::Done)
                    }
                    Err(reason) => Ok(Step::Refuse(reason)),
                }
            }
            Control::BindPartition { partition, epoch, next } => {
                Ok(self.bind_partition(partition, epoch, next, ledger))
            }
        }
    }

    fn bind_partition(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        next: u64,
        ledger: &Ledger,
    ) -> Step {
        self.partitions.remove(&partition);
        match fence::check(ledger.epoch(partition), epoch) {
            // The owner knows a newer view; ours comes from the log, not from its message.
            Err(Refusal::AheadEpoch) => return Step::Wait,
            Err(reason) => return Step::Refuse(reason),
            Ok(()) => {}
        }
        if ledger.standing(partition) != Standing::Replica {
            return Step::Refuse(Refusal::NotOwner);
        }
        // A copy that is shorter lacks something, and one that is longer has what the owner never
        // had: ticks of an earlier owner that were not acknowledged. Both need a refill.
        if next != ledger.store.next_sequence(partition).unwrap_or(1) {
            return Step::Refuse(Refusal::OutOfOrder);
        }
        self.partitions.insert(partition, Bound { epoch, next });
        Step::Done
    }

    fn append(&mut self, slot: &Slot, ledger: &mut Ledger) -> Step {
        let partition = ledger.partition_of(slot);
        let Some(bound) = self.partitions.get_mut(&partition) else {
            return Step::Refuse(Refusal::StaleEpoch);
        };
        // The view may have moved on since the bind: the fence is asked again.
        if let Err(reason) = fence::check(ledger.epoch(partition), bound.epoch) {
            self.partitions.remove(&partition);
            return Step::Refuse(reason);
        }
        let (index, low) = slot::producer_of(slot);
        let sequence = bound.next;
        bound.next += 1;
        if sequence != ledger.store.next_sequence(partition).unwrap_or(1) {
            self.partitions.remove(&partition);
            return Step::Refuse(Refusal::OutOfOrder);
        }
        let Some(producer) = self.producers.get(&index).copied() else {
            return Step::Refuse(Refusal::UnknownProducer);
        };
        match ledger.append_replica(slot, partition, producer, low) {
            Ok(()) => Step::Done,
            Err(reason) => {
                self.partitions.remove(&partition);
                Step::Refuse(reason)
            }
        }
    }
}
