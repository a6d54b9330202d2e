//! What this shard is to a partition changes: by the view, by a freeze, by a fence. And what it
//! then knows of what may not be settled.

use super::super::Identity;
use super::super::standing::Standing;
use super::Ledger;
use std::collections::BTreeSet;
use zepto_core::defect::Defect;
use zepto_core::limits::FILL_RECENT_MAX;
use zepto_core::view::View;
use zepto_core::{Epoch, PartitionId};

impl Ledger {
    /// From which sequence on an owned partition may have what is not settled.
    pub fn unsettled(&self, partition: PartitionId) -> u64 {
        let watermark = self.store.watermark(partition).unwrap_or(1);
        self.floors.get(&partition).map_or(watermark, |floor| watermark.min(*floor))
    }

    /// The floor of an owned partition, if it has one.
    pub fn floor(&self, partition: PartitionId) -> Option<u64> {
        self.floors.get(&partition).copied()
    }

    /// The owner of a copy says that it has a floor.
    pub fn note_floor(&mut self, partition: PartitionId, from: u64) {
        self.told.insert(partition, from);
    }

    /// A copy takes no more of a partition until it is opened again: what it cannot know of as
    /// settled now, it will not learn of.
    pub fn keep_floor(&mut self, partition: PartitionId) {
        if let Some(end) = self.store.next_sequence(partition) {
            let floor = self.inherited(partition, end);
            self.told.insert(partition, floor);
        }
    }

    /// From which sequence on a copy that is promoted may have what is not settled. A floor that
    /// lies so far back that a new copy could not let all of it wait is passed over.
    fn inherited(&self, partition: PartitionId, end: u64) -> u64 {
        let recent = self.recent.unsettled(partition, end);
        let told = self.told.get(&partition).copied();
        let told = told.filter(|from| end.saturating_sub(*from) <= FILL_RECENT_MAX);
        told.map_or(recent, |from| recent.min(from))
    }

    /// Forgets the floors of partitions all of whose copies are known to have everything.
    /// Returns which.
    pub fn drop_floors(&mut self, is_sound: impl Fn(PartitionId) -> bool) -> BTreeSet<PartitionId> {
        if self.floors.is_empty() {
            return BTreeSet::new();
        }
        let sound: BTreeSet<PartitionId> =
            self.floors.keys().copied().filter(|partition| is_sound(*partition)).collect();
        self.floors.retain(|partition, _| !sound.contains(partition));
        sound
    }

    /// Copies of a partition went, and with them what only they had confirmed.
    pub fn doubt(&mut self, partition: PartitionId) {
        let unsettled = self.unsettled(partition);
        self.floors.insert(partition, unsettled);
    }

    /// Takes up a view: opens, closes and promotes until every partition's standing is the view's.
    pub fn install(&mut self, me: Identity, view: &View) {
        self.standings.resize(view.partitions(), Standing::Outside);
        self.epochs.resize(view.partitions(), Epoch(0));
        self.since.resize(view.partitions(), Epoch(0));
        for partition in (0..view.partitions() as u32).map(PartitionId) {
            let next = Standing::of(view, me, partition);
            let assignment = view.placement().assignment(partition);
            let since = assignment.map_or(Epoch(0), |assignment| assignment.since);
            if core::mem::replace(&mut self.since[partition.0 as usize], since) != since {
                // It began anew: nothing that is here is part of it.
                self.change(partition, Standing::Outside, Epoch(0));
            }
            self.change(partition, next, view.epoch(partition));
        }
        let replicated = [Standing::Leader, Standing::Frozen, Standing::Fenced];
        self.replicated = self.standings.iter().any(|standing| replicated.contains(standing));
    }

    fn change(&mut self, partition: PartitionId, next: Standing, epoch: Epoch) {
        use Standing::{Fenced, Filling, Frozen, Leader, Outside, Owner, Replica};
        let slot = partition.0 as usize;
        let (was, old_epoch) = (self.standings[slot], self.epochs[slot]);
        self.epochs[slot] = epoch;
        match (was, next) {
            (Outside, Outside) => return,
            // Nothing was decided about it; who froze it thaws it.
            (Frozen, Owner | Leader) if old_epoch == epoch => return,
            (_, Outside) => self.close(partition),
            // An owner opens it when it begins to fill it; until then what is here stays.
            (Outside | Replica | Filling, Filling) => {}
            (_, Filling) => self.close(partition),
            (Outside, _) => self.open(partition, epoch),
            (Owner | Leader | Fenced | Frozen, Replica) => self.demote(partition, epoch),
            // Who was filled may not have seen the view in which it came to be in sync.
            (Replica | Filling, Owner | Leader) => self.promote(partition, epoch),
            (Leader | Fenced | Frozen, Owner) => {
                // The only copy that is wanted: what it has is the truth, all of it readable.
                let end = self.store.next_sequence(partition).unwrap_or(1);
                self.raise(partition, end);
                self.renew(partition, epoch);
            }
            _ if old_epoch != epoch => self.renew(partition, epoch),
            _ => {}
        }
        self.standings[slot] = next;
    }

    /// An owner that became an in-sync replica keeps what it has: it may be the owner again before
    /// the new one has said a word. If it holds more than that one, which never settled, they
    /// differ in length: the new owner finds that out before it takes a tick, and has the copy
    /// filled anew.
    fn demote(&mut self, partition: PartitionId, epoch: Epoch) {
        let unsettled = self.unsettled(partition);
        self.floors.remove(&partition);
        self.told.insert(partition, unsettled);
        self.owners.remove(&partition);
        self.renew(partition, epoch);
    }

    /// What a promoted replica has is the truth now, all of it readable.
    fn promote(&mut self, partition: PartitionId, epoch: Epoch) {
        // A repair that was not finished brought nothing that was acknowledged.
        self.fills.end(partition);
        let end = self.store.next_sequence(partition).unwrap_or(1);
        let floor = match Defect::AcknowledgedIsSettled.planted() {
            true => end,
            false => self.inherited(partition, end),
        };
        self.floors.insert(partition, floor);
        self.told.remove(&partition);
        self.raise(partition, end);
        self.renew(partition, epoch);
    }

    /// A partition that the budget has no room for stays closed: its ticks are refused.
    fn open(&mut self, partition: PartitionId, epoch: Epoch) {
        if let Err(error) = self.store.open_partition(partition, epoch, 1) {
            tracing::error!(%partition, %error, "cannot open a partition");
        }
    }

    /// Drops a copy.
    pub fn close(&mut self, partition: PartitionId) {
        drop(self.store.close_partition(partition));
        self.fills.end(partition);
        self.producers.forget(partition);
        self.floors.remove(&partition);
        self.told.remove(&partition);
        self.owners.remove(&partition);
        self.recent.forget(partition);
    }

    fn renew(&mut self, partition: PartitionId, epoch: Epoch) {
        if let Err(error) = self.store.set_epoch(partition, epoch) {
            tracing::error!(%partition, %error, "cannot renew a partition");
        }
    }

    /// Lets readers see a partition's ticks below a sequence. A closed partition has no readers.
    pub fn raise(&mut self, partition: PartitionId, to: u64) {
        if let Err(error) = self.store.raise_watermark(partition, to) {
            tracing::debug!(%partition, %error, "a watermark stays");
        }
    }

    /// Takes no more ticks for those of these partitions that are owned, and says which they are;
    /// one may be frozen already, when a thaw was lost.
    pub fn freeze(&mut self, partitions: &[PartitionId]) -> Vec<PartitionId> {
        let mut frozen = Vec::new();
        for &partition in partitions {
            // Alone it has nobody to give it to.
            if matches!(self.standing(partition), Standing::Leader | Standing::Frozen) {
                self.standings[partition.0 as usize] = Standing::Frozen;
                frozen.push(partition);
            }
        }
        frozen
    }

    /// Ends a freeze that led to nothing.
    pub fn thaw(&mut self, partitions: &[PartitionId]) {
        for &partition in partitions {
            if self.standing(partition) == Standing::Frozen {
                self.standings[partition.0 as usize] = Standing::Leader;
            }
        }
    }

    /// A replica refused this partition: another epoch holds it by now.
    pub fn fence(&mut self, partition: PartitionId) -> bool {
        let fenced = matches!(self.standing(partition), Standing::Leader | Standing::Frozen);
        if fenced {
            self.standings[partition.0 as usize] = Standing::Fenced;
        }
        fenced
    }
}
