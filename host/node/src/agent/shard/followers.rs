//! The lanes to this shard's replicas, and which partitions may take ticks.
//!
//! A batch waits for every in-sync replica and for every copy that is being filled, and a partition
//! takes ticks only while there are as many of them as copies are declared.
//!
//! What happens when...
//! * *a replica refuses something, or its lane is gone*: what was not settled of the partition is
//!   refused to its producers, who send it again; the copy is repaired meanwhile. Most often the
//!   replica knew a newer view.
//! * *a repair is refused*: by a newer epoch, then the partition is fenced until the view that
//!   explains it is here; for another reason, then that copy is another than the owner's, and the
//!   log is asked to drop it.
//! * *a replica is slow*: it pushes back, as a lane that is full.

use super::Identity;
use super::filler::Need;
use super::lane::{Lane, Refused};
use super::ledger::Ledger;
use super::route::{Route, Targets, is_filling};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zepto_client::producer::Opened;
use zepto_core::defect::Defect;
use zepto_core::slot::{self, Slot};
use zepto_core::time::Nanos;
use zepto_core::topology::{Change, What};
use zepto_core::view::{Destination, View};
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId, Refusal};
use zepto_transport::Transport;

/// The lanes to this shard's replicas.
pub(super) struct Followers<T: Transport> {
    pub(super) lanes: Vec<Lane<T>>,
    /// By partition.
    pub(super) routes: Vec<Route>,
    view: Option<Arc<View>>,
    me: Identity,
    /// Where replicas are, in sync or not.
    wanted: BTreeMap<Destination, Incarnation>,
    /// Copies that are not the owner's, and the epoch at which that was found.
    behind: BTreeMap<(PartitionId, NodeId), Epoch>,
    /// Copies that were said to be full at an epoch: while it lasts, they may come to be in sync.
    full: BTreeMap<(PartitionId, NodeId), Epoch>,
    /// Partitions of which nothing that is not settled may settle without being sent again.
    pub(super) doubts: BTreeSet<PartitionId>,
    next_number: u32,
    /// Declared copies.
    copies: usize,
    /// Something changed that others have to know.
    changed: bool,
}

impl<T: Transport> Followers<T> {
    pub fn new(me: Identity) -> Self {
        Self {
            lanes: Vec::new(),
            routes: Vec::new(),
            view: None,
            me,
            wanted: BTreeMap::new(),
            behind: BTreeMap::new(),
            full: BTreeMap::new(),
            doubts: BTreeSet::new(),
            next_number: 0,
            copies: 1,
            changed: false,
        }
    }

    /// Takes up who the replicas are. Lanes that lead to nobody's replica are dropped: they have
    /// nothing more to confirm, and what only they could confirm is in doubt.
    pub fn install(&mut self, view: &Arc<View>, ledger: &Ledger) {
        let old = self.view.replace(Arc::clone(view));
        let mut repairs = Vec::new();
        self.copies = usize::from(view.placement().copies);
        self.wanted.clear();
        for partition in (0..view.partitions() as u32).map(PartitionId) {
            let Some(targets) = Targets::of(view, self.me, partition) else { continue };
            for (to, _) in &targets.in_sync {
                // Who was not sent everything before it came to be in sync may lack some of it, and
                // so may who is still being told what was taken while it was not on the route.
                if !self.is_on_route(partition, *to) {
                    self.doubts.insert(partition);
                    repairs.push((partition, *to));
                } else if self.is_open(partition, *to) {
                    self.doubts.insert(partition);
                }
            }
            let copies = targets.in_sync.len() + 1;
            let changed =
                old.as_ref().is_none_or(|old| old.epoch(partition) != view.epoch(partition));
            if changed && copies < self.copies {
                self.doubts.insert(partition);
            }
            for (to, incarnation) in targets.in_sync.into_iter().chain(targets.filling) {
                self.wanted.insert(to, incarnation);
            }
        }
        let wanted = &self.wanted;
        self.lanes.retain(|lane| wanted.get(&lane.to) == Some(&lane.incarnation));
        let me = self.me.node;
        let owned = |(partition, node): &(PartitionId, NodeId), epoch: &mut Epoch| {
            let assignment = view.placement().assignment(*partition);
            // Once the log has decided about it, a copy that it still wants is filled anew.
            let decided = |a: &&zepto_core::topology::Assignment| {
                a.owner() == Some(me) && !(a.is_filling(*node) && a.epoch > *epoch)
            };
            assignment.filter(decided).is_some_and(|a| a.holds(*node) || a.is_filling(*node))
        };
        self.behind.retain(owned);
        self.full.retain(|(partition, _), epoch| view.epoch(*partition) == *epoch);
        for lane in &mut self.lanes {
            let node = lane.to.node;
            lane.filler.install(|partition| is_filling(view, me, partition, node));
        }
        for (partition, to) in repairs {
            for lane in self.lanes.iter_mut().filter(|lane| lane.to == to) {
                if !lane.filler.knows(partition) {
                    lane.filler.want(partition, Need::Repair, Epoch(0));
                }
            }
        }
        self.rebuild(ledger);
    }

    /// Whether what is taken of a partition is sent there.
    fn is_on_route(&self, partition: PartitionId, to: Destination) -> bool {
        let lanes = self.route(partition).lanes().iter();
        lanes.map(|lane| &self.lanes[usize::from(*lane)]).any(|lane| lane.to == to)
    }

    /// Whether a copy there has not confirmed yet all that it was found to miss.
    fn is_open(&self, partition: PartitionId, to: Destination) -> bool {
        let open = |lane: &Lane<T>| lane.to == to && lane.filler.is_open(partition);
        self.lanes.iter().any(open)
    }

    /// A lane that was wanted is here.
    pub fn attach(&mut self, opened: Opened<T>, ledger: &Ledger) {
        if self.wanted.get(&opened.to) != Some(&opened.incarnation) {
            return;
        }
        if self.lanes.iter().any(|lane| lane.to == opened.to) {
            return;
        }
        self.next_number += 1;
        let mut lane = Lane::new(self.next_number, opened);
        // An in-sync copy may lack what an earlier lane, or an earlier owner, did not bring.
        if let Some(view) = &self.view {
            for partition in (0..view.partitions() as u32).map(PartitionId) {
                let targets = Targets::of(view, self.me, partition);
                if targets
                    .is_some_and(|targets| targets.in_sync.iter().any(|(to, _)| *to == lane.to))
                {
                    lane.filler.want(partition, Need::Repair, Epoch(0));
                }
            }
        }
        self.lanes.push(lane);
        self.rebuild(ledger);
    }

    /// Replicas that have no lane yet.
    pub fn missing(&self) -> impl Iterator<Item = (Destination, Incarnation)> + '_ {
        let has = |to: &Destination| self.lanes.iter().any(|lane| lane.to == *to);
        self.wanted.iter().filter(move |(to, _)| !has(to)).map(|(to, life)| (*to, *life))
    }

    /// What the log should decide: copies that are full, and those that are not their owner's.
    pub fn changes(&mut self, ledger: &Ledger) -> Vec<Change> {
        let Some(view) = self.view.clone() else { return Vec::new() };
        let mut said = Vec::new();
        let change = |partition, what| Change { partition, epoch: view.epoch(partition), what };
        let behind = self.behind.keys();
        let mut changes: Vec<Change> =
            behind.map(|(partition, node)| change(*partition, What::Drop(*node))).collect();
        for lane in &self.lanes {
            let node = lane.to.node;
            for partition in lane.filler.full() {
                let assignment = view.placement().assignment(partition);
                let filling = assignment.is_some_and(|a| a.is_filling(node));
                if filling && !self.behind.contains_key(&(partition, node)) {
                    let epoch = view.epoch(partition);
                    if self.full.insert((partition, node), epoch) != Some(epoch) {
                        said.push(partition);
                    }
                    changes.push(change(partition, What::Admit(node)));
                }
            }
        }
        // From now on they may come to be in sync at any moment.
        said.into_iter().for_each(|partition| self.refresh(partition, ledger));
        changes
    }

    /// What a copy that is being filled needs when it cannot go on as it is.
    fn need_of_filling(&self, partition: PartitionId, node: NodeId, held: Epoch) -> Need {
        if self.is_said_full(partition, node, held) { Need::Mend } else { Need::Fill }
    }

    /// Whether the log was asked to count this copy among those in sync.
    fn is_said_full(&self, partition: PartitionId, node: NodeId, epoch: Epoch) -> bool {
        self.full.get(&(partition, node)) == Some(&epoch)
    }

    /// Whether others have to look at [`Self::missing`] and [`Self::changes`] again.
    pub fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// Works every route out anew.
    fn rebuild(&mut self, ledger: &Ledger) {
        let count = self.view.as_ref().map_or(0, |view| view.partitions());
        self.routes.clear();
        self.routes.resize(count, Route::NONE);
        self.lanes.iter_mut().for_each(|lane| lane.reserve_for(count));
        for partition in (0..count as u32).map(PartitionId) {
            self.refresh(partition, ledger);
        }
        self.changed = true;
    }

    fn refresh(&mut self, partition: PartitionId, ledger: &Ledger) {
        let route = self.work_out(partition, ledger);
        if let Some(slot) = self.routes.get_mut(partition.0 as usize) {
            *slot = route;
        }
    }

    fn work_out(&mut self, partition: PartitionId, ledger: &Ledger) -> Route {
        let mut slot = Route::NONE;
        let Some(view) = self.view.clone() else { return slot };
        let Some(targets) = Targets::of(&view, self.me, partition) else { return slot };
        let mut copies = 1;
        for (to, _) in targets.in_sync {
            let place = self.lanes.iter().position(|lane| lane.to == to);
            let behind = self.behind.contains_key(&(partition, to.node));
            match place.filter(|place| !behind && self.lanes[*place].filler.counts(partition)) {
                Some(place) => {
                    slot.add(place);
                    copies += 1;
                }
                None => slot.whole = false,
            }
        }
        slot.end_in_sync();
        let epoch = view.epoch(partition);
        // Who was said to be full may be in sync by now: then nothing may settle that it lacks.
        let binds = |this: &Self, node| {
            this.is_said_full(partition, node, epoch) && !Defect::SaidFullHoldsNothingUp.planted()
        };
        let mut filling = targets.filling;
        filling.sort_by_key(|(to, _)| !binds(self, to.node));
        for (to, _) in filling {
            let binds = binds(self, to.node);
            let behind = self.behind.contains_key(&(partition, to.node));
            let place = self.lanes.iter().position(|lane| lane.to == to);
            let Some(place) = place.filter(|_| !behind) else {
                slot.whole &= !binds;
                continue;
            };
            let need = self.need_of_filling(partition, to.node, epoch);
            let filler = &mut self.lanes[place].filler;
            if !filler.knows(partition) {
                filler.want(partition, need, Epoch(0));
            }
            if filler.begun_at(partition).is_some() {
                copies += usize::from(filler.counts(partition));
                slot.add(place);
            }
            if binds {
                slot.end_binding();
            }
            slot.whole &= !binds || filler.counts(partition);
        }
        slot.enough = slot.whole && copies >= self.copies;
        debug_assert!(ledger.epoch(partition) == view.epoch(partition), "one view at a time");
        slot
    }

    #[inline]
    pub(super) fn route(&self, partition: PartitionId) -> &Route {
        self.routes.get(partition.0 as usize).unwrap_or(&Route::NONE)
    }

    /// Whether a tick of a partition may be taken: for a producer that waits for the owner only, or
    /// for all copies.
    ///
    /// # Errors
    /// Why not, for now.
    #[inline]
    pub fn admits(&self, partition: PartitionId, memory_only: bool) -> Result<(), Refusal> {
        let route = self.route(partition);
        if route.enough || (memory_only && route.whole) {
            Ok(())
        } else {
            Err(Refusal::NotEnoughCopies)
        }
    }

    /// Whether every lane of a partition has room for one more tick.
    #[inline]
    pub fn has_room(&self, partition: PartitionId) -> bool {
        let mut lanes = self.route(partition).lanes().iter();
        lanes.all(|lane| {
            let lane = &self.lanes[usize::from(*lane)];
            lane.has_room() && lane.filler.has_room()
        })
    }

    /// Writes an appended tick to every replica's lane. The caller has checked the room.
    #[inline]
    pub fn send(
        &mut self,
        partition: PartitionId,
        sequence: u64,
        tick: &Slot,
        producer: u32,
        ledger: &mut Ledger,
    ) {
        let route = *self.route(partition);
        let id = ledger.producers.get_mut(producer).map(|sequences| sequences.producer());
        let epoch = ledger.epoch(partition);
        let mut tick = *tick;
        tick[0] = slot::producer_word(producer, slot::producer_of(&tick).1);
        for lane in route.lanes() {
            let lane = &mut self.lanes[usize::from(*lane)];
            lane.bind(partition, epoch, sequence, ledger);
            if let Some(id) = id {
                lane.introduce(producer, id);
            }
            lane.send(&tick);
            lane.filler.note_tick(partition);
        }
    }

    /// The replicas of a partition have to confirm all that was sent to them so far, with the
    /// batch that is being made: a tick sent twice may be among it. Under an epoch that they have
    /// not heard of yet, they first have to agree that their copies are the owner's. The caller has
    /// checked the room.
    pub fn confirm(&mut self, partition: PartitionId, ledger: &Ledger) {
        let epoch = ledger.epoch(partition);
        let next = ledger.store.next_sequence(partition).unwrap_or(1);
        let route = *self.route(partition);
        for lane in route.lanes() {
            let lane = &mut self.lanes[usize::from(*lane)];
            lane.bind(partition, epoch, next, ledger);
            lane.touch();
        }
    }

    /// Asks the in-sync replicas of a partition, and who may be one by now, whether they still go
    /// along: their answer is an acknowledgement of what is returned. `None` if it cannot be asked
    /// now.
    pub fn ask(&mut self, partition: PartitionId, ledger: &Ledger) -> Option<Vec<(u32, u64)>> {
        let route = *self.route(partition);
        let places = route.binding_lanes();
        let has_room = |lane: &u16| self.lanes[usize::from(*lane)].has_room();
        if !route.whole || !places.iter().all(has_room) {
            return None;
        }
        let epoch = ledger.epoch(partition);
        let next = ledger.store.next_sequence(partition)?;
        let asked = places.iter().map(|place| {
            let lane = &mut self.lanes[usize::from(*place)];
            lane.bind_again(partition, epoch, next, ledger.floor(partition));
            (lane.number, lane.head())
        });
        Some(asked.collect())
    }

    /// Publishes what a batch wrote; returns the tails its replicas have to acknowledge.
    pub fn finish_batch(&mut self) -> Vec<(u32, u64)> {
        let lanes = self.lanes.iter_mut();
        lanes.filter_map(|lane| Some((lane.number, lane.finish_batch()?))).collect()
    }

    /// Whether all in-sync replicas of a partition go along, and who may be one by now, and have
    /// acknowledged everything that they were found to miss.
    pub fn is_whole(&self, partition: PartitionId) -> bool {
        let route = self.route(partition);
        let done = |lane: &u16| !self.lanes[usize::from(*lane)].filler.is_open(partition);
        route.whole && route.binding_lanes().iter().all(done)
    }

    /// Whether a partition is whole with as many in-sync copies as declared.
    pub fn is_sound(&self, partition: PartitionId) -> bool {
        self.is_whole(partition) && self.route(partition).in_sync_lanes().len() + 1 >= self.copies
    }

    /// How it stands with every partition and lane, for a failed test's story.
    pub fn story(&self) -> String {
        let lanes = self.lanes.iter().map(Lane::story).collect::<Vec<_>>();
        let routes = self.routes.iter().enumerate().filter(|(_, route)| !route.enough);
        let short = routes.map(|(p, route)| (p, route.whole)).collect::<Vec<_>>();
        format!("lanes {lanes:?}, behind {:?}, not enough {short:?}", self.behind)
    }

    /// Publishes what was asked.
    pub fn publish(&mut self) {
        self.lanes.iter_mut().for_each(Lane::publish);
    }

    /// Sends what copies miss; returns how many slots.
    pub fn fill(&mut self, ledger: &mut Ledger, now: Nanos) -> usize {
        let mut changed = Vec::new();
        let sent = self.lanes.iter_mut().map(|lane| lane.fill(ledger, now, &mut changed)).sum();
        // New ticks go to copies that were begun, and are taken once enough of them count.
        changed.into_iter().for_each(|partition| self.refresh(partition, ledger));
        sent
    }

    /// Reads what the replicas acknowledged and refused. Returns whether anything is in doubt.
    pub fn poll(&mut self, ledger: &mut Ledger, now: Nanos) -> bool {
        let (mut refused, mut over, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for lane in &mut self.lanes {
            let said = lane.poll(ledger);
            refused.extend(said.refused.into_iter().map(|refused| (lane.number, refused)));
            if said.is_over {
                over.push(lane.number);
            }
            if lane.filler.acknowledge(lane.acknowledged(), &mut counts) {
                self.changed = true;
            }
        }
        if !refused.is_empty() || !over.is_empty() {
            for (lane, refused) in refused {
                self.judge(lane, refused, ledger, now);
            }
            over.into_iter().for_each(|lane| self.lose(lane, ledger));
            self.rebuild(ledger);
        }
        counts.into_iter().for_each(|partition| self.refresh(partition, ledger));
        self.keep_abreast(ledger);
        !self.doubts.is_empty()
    }

    /// A replica refused something: what to do about that copy.
    fn judge(&mut self, number: u32, refused: Refused, ledger: &mut Ledger, now: Nanos) {
        let Refused { partition, reason, index, begin } = refused;
        let Some(place) = self.lanes.iter().position(|lane| lane.number == number) else { return };
        let Some(view) = &self.view else { return };
        let node = self.lanes[place].to.node;
        let Some(filling) = is_filling(view, self.me.node, partition, node) else { return };
        let held = ledger.epoch(partition);
        let need = match filling {
            true => self.need_of_filling(partition, node, held),
            false => Need::Repair,
        };
        let lane = &mut self.lanes[place];
        // What was refused before the present job began belongs to the story that it repairs.
        if lane.filler.begun_at(partition).is_some_and(|begun| index < begun) {
            return;
        }
        self.doubts.insert(partition);
        match begin {
            // The replica knows better: nothing here before the view does too.
            Some(epoch) if epoch == held && reason == Refusal::StaleEpoch => {
                lane.filler.want(partition, need, held);
                ledger.fence(partition);
            }
            Some(epoch) if epoch == held => {
                tracing::warn!(%partition, %node, %reason, "a copy is not its owner's");
                self.behind.insert((partition, node), held);
            }
            _ => lane.filler.want_again(partition, need, reason, now),
        }
    }

    /// A lane is gone. Its replica is still what it was: another lane is opened, and what the
    /// replica may have missed is sent again.
    fn lose(&mut self, number: u32, ledger: &mut Ledger) {
        let Some(place) = self.lanes.iter().position(|lane| lane.number == number) else { return };
        let lane = self.lanes.remove(place);
        tracing::warn!(to = %lane.to.node, "a replica's lane is gone");
        ledger.counters.broken_lanes += 1;
        let Some(view) = self.view.clone() else { return };
        if Defect::LostLaneCountsAsTaken.planted() {
            return;
        }
        for partition in (0..view.partitions() as u32).map(PartitionId) {
            let Some(targets) = Targets::of(&view, self.me, partition) else { continue };
            if targets.in_sync.iter().chain(&targets.filling).any(|(to, _)| *to == lane.to) {
                self.doubts.insert(partition);
            }
        }
    }

    /// What a lane's replica has acknowledged; a lane that is gone has nothing to confirm.
    pub fn acknowledged(&self, number: u32) -> u64 {
        let lane = self.lanes.iter().find(|lane| lane.number == number);
        lane.map_or(u64::MAX, Lane::acknowledged)
    }

    /// Whether a lane is there.
    pub fn has_lane(&self, number: u32) -> bool {
        self.lanes.iter().any(|lane| lane.number == number)
    }
}
