//! What is stored here, and what this shard is to every partition.

use super::Identity;
use super::fill::{Fill, Fills, Recent};
use super::inlet::LaneEnd;
use super::source::Origin;
use super::standing::Standing;
use std::collections::BTreeMap;
use zepto_client::message::ShardCounters;
use zepto_core::dedupe::{Producers, Verdict, judge};
use zepto_core::defect::Defect;
use zepto_core::limits::{FILL_WAITING_MAX, FIRST_SEQUENCE_MAX};
use zepto_core::slot::{self, Slot};
use zepto_core::time::Nanos;
use zepto_core::view::View;
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId, Refusal};
use zepto_store::{SeriesIndex, Store, StoreError};

/// A producer as one of its lanes has it bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// The shard's index of the producer.
    pub index: u32,
    /// The lane that bound it; over once the producer has opened another one to this shard.
    pub lane: u32,
}

/// How a tick was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Appended; nobody else needs it.
    Stored,
    /// Appended with this partition sequence; its replicas need it.
    Led(PartitionId, u64),
    /// It was here already, in this partition.
    Duplicate(PartitionId),
}

pub(super) struct Ledger {
    pub store: Store,
    pub producers: Producers,
    pub counters: ShardCounters,
    pub recent: Recent,
    standings: Vec<Standing>,
    epochs: Vec<Epoch>,
    /// By partition: when it last began empty.
    since: Vec<Epoch>,
    fills: Fills,
    /// Of which owner's ticks a copy here is a part, and the last lane that said so.
    owners: BTreeMap<PartitionId, Origin>,
    /// From which sequence on an owned partition may have what is not settled, though its
    /// watermark is above: it was promoted, or copies of it went. Gone once all copies have it.
    floors: BTreeMap<PartitionId, u64>,
    /// The owner's floors of partitions that are copies here.
    told: BTreeMap<PartitionId, u64>,
    /// Whether any partition owned here has replicas.
    replicated: bool,
    /// Partitions whose end is to be noted with the next batch, though it adds nothing to them.
    marked: Vec<PartitionId>,
    draining: bool,
}

impl Ledger {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            producers: Producers::default(),
            counters: ShardCounters::default(),
            recent: Recent::default(),
            standings: Vec::new(),
            epochs: Vec::new(),
            since: Vec::new(),
            fills: Fills::default(),
            owners: BTreeMap::new(),
            floors: BTreeMap::new(),
            told: BTreeMap::new(),
            replicated: false,
            marked: Vec::new(),
            draining: false,
        }
    }

    #[inline]
    pub fn standing(&self, partition: PartitionId) -> Standing {
        self.standings.get(partition.0 as usize).copied().unwrap_or(Standing::Outside)
    }

    /// The epoch of a partition in the installed view.
    pub fn epoch(&self, partition: PartitionId) -> Epoch {
        self.epochs.get(partition.0 as usize).copied().unwrap_or(Epoch(0))
    }

    /// Whether ticks of a partition may settle here.
    pub fn owns(&self, partition: PartitionId) -> bool {
        self.standing(partition).settles()
    }

    /// The partition of a slot.
    pub fn partition_of(&self, slot: &Slot) -> PartitionId {
        let (table, symbol) = slot::series_of(slot);
        let bits = self.standings.len().trailing_zeros().max(1) as u8;
        zepto_core::hash::partition_of(table, symbol, bits)
    }

    /// The series of a tick and its partition. A series that exists says its partition itself, so
    /// the hash is needed only for a new one.
    #[inline]
    pub fn find(&mut self, slot: &Slot) -> Result<(SeriesIndex, PartitionId), Refusal> {
        let (table, symbol) = slot::series_of(slot);
        match self.store.series(table, symbol) {
            Some(series) => Ok((series, self.store.partition_of(series))),
            None => self.create(slot),
        }
    }

    /// Fetches into the cache what a tick's series will be written with.
    #[inline]
    pub fn prefetch(&self, slot: &Slot) {
        let (table, symbol) = slot::series_of(slot);
        if let Some(series) = self.store.series(table, symbol) {
            self.store.prefetch(series);
        }
    }

    #[cold]
    fn create(&mut self, slot: &Slot) -> Result<(SeriesIndex, PartitionId), Refusal> {
        let partition = self.partition_of(slot);
        match self.standing(partition) {
            Standing::Owner | Standing::Leader | Standing::Replica | Standing::Filling => {}
            _ => return Err(Refusal::NotOwner),
        }
        let (table, symbol) = slot::series_of(slot);
        let series = self.store.create_series(table, symbol).map_err(|error| refusal(&error))?;
        Ok((series, partition))
    }

    /// Judges a tick of an owned partition and appends it if it is new.
    #[inline]
    pub fn take(
        &mut self,
        slot: &Slot,
        series: SeriesIndex,
        partition: PartitionId,
        producer: Option<Bound>,
    ) -> Result<Taken, Refusal> {
        let standing = self.standing(partition);
        if !standing.takes() || self.draining {
            return Err(self.refusal_of(standing));
        }
        let bound = producer.ok_or(Refusal::UnknownProducer)?;
        let sequences = self.producers.get_mut(bound.index);
        // A lane that its producer has given up for another says nothing any more: the other may
        // already have been told that this tick is refused.
        let sequences = sequences.filter(|sequences| sequences.speaks(bound.lane));
        let sequences = sequences.ok_or(Refusal::UnknownProducer)?;
        let last = sequences.last(partition);
        match judge(last, slot::producer_of(slot).1) {
            Verdict::New => {}
            Verdict::Duplicate => return Ok(Taken::Duplicate(partition)),
            Verdict::Refused(reason) => return Err(reason),
        }
        let appended = self.store.append(series, &slot::tick_of(slot));
        let sequence = appended.map_err(|error| refusal(&error))?;
        sequences.accept(partition, last + 1);
        self.counters.appended += 1;
        Ok(if standing == Standing::Owner {
            Taken::Stored
        } else {
            Taken::Led(partition, sequence)
        })
    }

    /// Appends a tick as replica, with the owner's decisions taken over. While the copy is filled
    /// the tick waits for those before it.
    pub fn append_replica(
        &mut self,
        slot: &Slot,
        partition: PartitionId,
        producer: u32,
        sequence_low: u32,
    ) -> Result<(), Refusal> {
        if self.fills.is_empty() || self.fills.get(partition).is_none() {
            let (series, _) = self.find(slot)?;
            self.store.append(series, &slot::tick_of(slot)).map_err(|error| refusal(&error))?;
        } else {
            let sequence = self.fills.get(partition).map_or(0, |fill| fill.next);
            let mut row = *slot;
            row[0] = sequence;
            if !self.fills.wait(partition, row) {
                return Err(Refusal::Overloaded);
            }
            if let Some(fill) = self.fills.get_mut(partition) {
                fill.next += 1;
                let last = fill.accepted.entry(producer).or_default();
                *last += u64::from(sequence_low.wrapping_sub(*last as u32));
            }
            self.counters.replicated += 1;
            return Ok(());
        }
        let sequences = self.producers.get_mut(producer).ok_or(Refusal::UnknownProducer)?;
        let last = sequences.last(partition);
        sequences.accept(partition, last + u64::from(sequence_low.wrapping_sub(last as u32)));
        self.counters.replicated += 1;
        Ok(())
    }

    /// The sequence of a replica's next tick, if that lane may bring one.
    pub fn next_of(&self, partition: PartitionId, lane: u32) -> Option<u64> {
        match self.fills.get(partition) {
            Some(fill) => (fill.lane == lane).then_some(fill.next),
            None => self.store.next_sequence(partition),
        }
    }

    /// A lane begins to fill a copy: whatever was here is dropped.
    pub fn begin_fill(
        &mut self,
        partition: PartitionId,
        lane: &Origin,
        next: u64,
        unsettled: u64,
    ) -> Result<(), Refusal> {
        if next == 0 || next > FIRST_SEQUENCE_MAX || unsettled > next {
            return Err(Refusal::Malformed);
        }
        self.is_latest(partition, lane)?;
        self.close(partition);
        let epoch = self.epoch(partition);
        self.store.open_partition(partition, epoch, 1).map_err(|error| refusal(&error))?;
        self.note_owner(partition, lane);
        self.fills.begin(partition, Fill::new(lane.number, next, 0, unsettled));
        self.counters.fills_begun += 1;
        Ok(())
    }

    /// A lane begins to repair an in-sync copy, which may lack what is not settled. What is here
    /// must be a part of what its owner has: so it is if the copy was that owner's before, and
    /// else only if both are equally long.
    pub fn begin_repair(
        &mut self,
        partition: PartitionId,
        lane: &Origin,
        next: u64,
        unsettled: u64,
    ) -> Result<(), Refusal> {
        self.is_latest(partition, lane)?;
        if self.fills.get(partition).is_some_and(|fill| fill.kept == 0) {
            // Half a copy cannot be repaired.
            return Err(Refusal::OutOfOrder);
        }
        // What an earlier repair brought counts for nothing before all of it is here.
        self.fills.end(partition);
        let mine = self.store.next_sequence(partition).ok_or(Refusal::OutOfOrder)?;
        let same = self.owner_of(partition) == Some((lane.node, lane.incarnation));
        let fits = same && (unsettled..=next).contains(&mine);
        if !fits && mine != next {
            return Err(Refusal::OutOfOrder);
        }
        self.note_owner(partition, lane);
        self.fills.begin(partition, Fill::new(lane.number, next, mine, unsettled));
        Ok(())
    }

    /// Whose copy this is: of which owner's ticks it is a part.
    fn owner_of(&self, partition: PartitionId) -> Option<(NodeId, Incarnation)> {
        self.owners.get(&partition).map(|origin| (origin.node, origin.incarnation))
    }

    /// Whether no later lane of the same owner has spoken of a partition. What an earlier one still
    /// brings was sent before its owner gave it up: it must not undo what came since.
    pub fn is_latest(&self, partition: PartitionId, lane: &Origin) -> Result<(), Refusal> {
        let from = (lane.node, lane.incarnation);
        let later =
            |seen: &Origin| (seen.node, seen.incarnation) == from && seen.number > lane.number;
        let outdated = self.owners.get(&partition).is_some_and(later);
        if outdated { Err(Refusal::StaleEpoch) } else { Ok(()) }
    }

    /// The copy is a part of what this owner has.
    pub fn note_owner(&mut self, partition: PartitionId, lane: &Origin) {
        self.told.remove(&partition);
        self.owners.insert(partition, *lane);
    }

    /// Whether a lane is the one that fills a copy.
    pub fn is_filled_by(&self, partition: PartitionId, lane: u32) -> Result<(), Refusal> {
        match self.fills.get(partition) {
            Some(fill) if fill.lane == lane || Defect::OldFillAccepted.planted() => Ok(()),
            _ => Err(Refusal::StaleEpoch),
        }
    }

    /// What a producer had got stored before the fill began.
    pub fn accepted(
        &mut self,
        partition: PartitionId,
        lane: u32,
        producer: Option<u32>,
        last: u64,
    ) -> Result<(), Refusal> {
        self.is_filled_by(partition, lane)?;
        let producer = producer.ok_or(Refusal::UnknownProducer)?;
        if Defect::DedupeAheadOfContent.planted()
            && let Some(sequences) = self.producers.get_mut(producer)
        {
            sequences.accept(partition, last);
        }
        if let Some(fill) = self.fills.get_mut(partition) {
            fill.accepted.insert(producer, last);
        }
        Ok(())
    }

    /// A row of a copy that is being filled; whether it could be taken.
    pub fn take_row(&mut self, slot: &Slot, partition: PartitionId, lane: u32) -> bool {
        if self.is_filled_by(partition, lane).is_err() {
            return false;
        }
        let Some(fill) = self.fills.get_mut(partition) else { return false };
        if slot[0] >= fill.start {
            return false;
        }
        fill.rows += 1;
        self.counters.rows_filled += 1;
        let mut row = *slot;
        if Defect::CopyWithoutIdentity.planted() && fill.kept == 0 {
            row[0] = fill.rows;
        }
        if row[0] < fill.kept {
            if !Defect::RepairAppendsTwice.planted() {
                return true;
            }
            row[0] = fill.next;
            fill.next += 1;
        }
        if row[0] >= fill.unsettled {
            return self.fills.wait(partition, row);
        }
        self.store.backfill(&slot::tick_of(&row)).is_ok()
    }

    /// All rows of a copy have come: what waited takes its place behind them.
    pub fn end_fill(
        &mut self,
        partition: PartitionId,
        lane: u32,
        rows: u64,
    ) -> Result<(), Refusal> {
        self.is_filled_by(partition, lane)?;
        let Some(fill) = self.fills.get(partition) else { return Err(Refusal::StaleEpoch) };
        if fill.rows != rows {
            self.give_up_fill(partition, lane);
            return Err(Refusal::OutOfOrder);
        }
        let Some(mut fill) = self.fills.end(partition) else { return Err(Refusal::StaleEpoch) };
        if fill.kept > 0 {
            // A copy that may be in sync takes all of it or nothing: half of it cannot be undone,
            // and without what it had, what is settled would have a copy less.
            self.store.ensure_room(fill.waiting_rows()).map_err(|error| refusal(&error))?;
        }
        fill.waiting.sort_by_key(|row| row[0]);
        for row in &fill.waiting {
            if let Err(error) = self.store.backfill(&slot::tick_of(row)) {
                // Part of it is stored already: the copy is neither what it was nor whole.
                self.close(partition);
                return Err(refusal(&error));
            }
        }
        self.store.resume(partition, fill.next).map_err(|error| refusal(&error))?;
        for (producer, last) in fill.accepted {
            if let Some(sequences) = self.producers.get_mut(producer) {
                sequences.accept(partition, last);
            }
        }
        Ok(())
    }

    /// A lane from an owner is gone, and what it was about to bring. A copy that was to be repaired
    /// is what it was before; half a copy is none.
    pub fn forget_source(&mut self, lane: u32) {
        for partition in self.fills.of_lane(lane) {
            self.give_up_fill(partition, lane);
        }
    }

    /// What a lane is filling will not be whole.
    pub fn give_up_fill(&mut self, partition: PartitionId, lane: u32) {
        if self.fills.get(partition).is_some_and(|fill| fill.lane == lane)
            && self.fills.end(partition).is_some_and(|fill| fill.kept == 0)
        {
            self.close(partition);
        }
    }

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

    /// From which sequence on a copy that is promoted may have what is not settled. A floor that
    /// lies so far back that a new copy could not let all of it wait is passed over.
    fn inherited(&self, partition: PartitionId, end: u64) -> u64 {
        let recent = self.recent.unsettled(partition, end);
        let told = self.told.get(&partition).copied();
        let told = told.filter(|from| end.saturating_sub(*from) <= FILL_WAITING_MAX as u64 / 2);
        told.map_or(recent, |from| recent.min(from))
    }

    /// Forgets the floors of partitions all of whose copies are known to have everything.
    /// Returns which.
    pub fn drop_floors(&mut self, is_sound: impl Fn(PartitionId) -> bool) -> Vec<PartitionId> {
        let sound: Vec<PartitionId> =
            self.floors.keys().copied().filter(|partition| is_sound(*partition)).collect();
        self.floors.retain(|partition, _| !sound.contains(partition));
        sound
    }

    /// Copies of a partition went, and with them what only they had confirmed.
    pub fn doubt(&mut self, partition: PartitionId) {
        let unsettled = self.unsettled(partition);
        self.floors.insert(partition, unsettled);
    }

    /// The next batch settles a tick that an earlier one appended to this partition: once it is
    /// settled, readers must see it.
    pub fn mark(&mut self, partition: PartitionId) {
        if !self.marked.contains(&partition) {
            self.marked.push(partition);
        }
    }

    /// Makes what was appended since the last call readable where this is the only copy, and says
    /// how far the others' watermarks may rise once their replicas have it: (partition, end of its
    /// sequences).
    pub fn publish(&mut self) -> Vec<(PartitionId, u64)> {
        let (standings, mut led) = (&self.standings, core::mem::take(&mut self.marked));
        self.store.publish_where(|partition| {
            let standing = standings[partition.0 as usize];
            if standing == Standing::Leader {
                led.push(partition);
            }
            standing == Standing::Owner
        });
        let end = |partition| self.store.next_sequence(partition).map(|next| (partition, next));
        led.into_iter().filter_map(end).collect()
    }

    /// How it stands, for a failed test's story.
    pub fn story(&self) -> String {
        let standings: Vec<_> = self.standings.iter().zip(&self.epochs).collect();
        format!("{standings:?}, fills {:?}, floors {:?}", self.fills, self.floors)
    }

    /// Whether any partition owned here has replicas.
    pub fn replicated(&self) -> bool {
        self.replicated
    }

    #[cold]
    fn refusal_of(&self, standing: Standing) -> Refusal {
        if self.draining && matches!(standing, Standing::Owner | Standing::Leader) {
            Refusal::Draining
        } else {
            Refusal::NotOwner
        }
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
    /// the new one has said a word. If it holds more than that one, which never settled, they differ
    /// in length: the new owner finds that out before it takes a tick, and has the copy filled anew.
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

    /// Takes no more ticks for those of these partitions that are owned, and says which they are.
    pub fn freeze(&mut self, partitions: &[PartitionId]) -> Vec<PartitionId> {
        let mut frozen = Vec::new();
        for &partition in partitions {
            // Alone it has nobody to give it to.
            if self.standing(partition) == Standing::Leader {
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

    /// Refuses every tick from now on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// A lane ended.
    pub fn close_lane(&mut self, end: &LaneEnd, bound: impl IntoIterator<Item = u32>, now: Nanos) {
        if end.is_corrupt() {
            tracing::warn!(%end, "a lane was closed");
            self.counters.corrupt_lanes += 1;
        }
        for index in bound {
            self.producers.unbind(index, now);
        }
    }
}

fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Full => Refusal::Overloaded,
        StoreError::NotOpen => Refusal::NotOwner,
        _ => Refusal::LimitReached,
    }
}
