//! What is stored here, and what this shard is to every partition.

use super::Identity;
use super::inlet::LaneEnd;
use zepto_client::message::ShardCounters;
use zepto_core::dedupe::{Producers, Verdict, judge};
use zepto_core::slot::{self, Slot};
use zepto_core::time::Nanos;
use zepto_core::view::{View, shard_of};
use zepto_core::{Epoch, PartitionId, Refusal};
use zepto_store::{SeriesIndex, Store, StoreError};

/// What this shard is to a partition, by its installed view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: another shard's, another node's, or nobody's.
    Outside,
    /// Its owner, alone.
    Owner,
    /// Its owner, with replicas.
    Leader,
    /// A replica.
    Replica,
    /// Its owner, but a replica knows better; until the view explains it.
    Fenced,
    /// Its owner, giving it away empty.
    Frozen,
}

/// A producer as one of its lanes has it bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// The shard's index of the producer.
    pub index: u32,
    /// Over once the producer opens another lane to this shard.
    pub session: u32,
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
    standings: Vec<Standing>,
    epochs: Vec<Epoch>,
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
            standings: Vec::new(),
            epochs: Vec::new(),
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
        matches!(self.standing(partition), Standing::Owner | Standing::Leader)
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
            Standing::Owner | Standing::Leader | Standing::Replica => {}
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
        if !matches!(standing, Standing::Owner | Standing::Leader) || self.draining {
            return Err(self.refusal_of(standing));
        }
        let bound = producer.ok_or(Refusal::UnknownProducer)?;
        let sequences = self.producers.get_mut(bound.index);
        // A lane that its producer has given up for another says nothing any more: the other may
        // already have been told that this tick is refused.
        let sequences = sequences.filter(|sequences| sequences.speaks(bound.session));
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

    /// Appends a tick as replica, with the owner's decisions taken over.
    pub fn append_replica(
        &mut self,
        slot: &Slot,
        partition: PartitionId,
        producer: u32,
        sequence_low: u32,
    ) -> Result<(), Refusal> {
        let (series, _) = self.find(slot)?;
        let sequences = self.producers.get_mut(producer).ok_or(Refusal::UnknownProducer)?;
        self.store.append(series, &slot::tick_of(slot)).map_err(|error| refusal(&error))?;
        let last = sequences.last(partition);
        sequences.accept(partition, last + u64::from(sequence_low.wrapping_sub(last as u32)));
        self.counters.replicated += 1;
        Ok(())
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
        for partition in (0..view.partitions() as u32).map(PartitionId) {
            let next = standing_in(view, me, partition);
            self.change(partition, next, view.epoch(partition));
        }
        self.replicated = self.standings.contains(&Standing::Leader);
    }

    fn change(&mut self, partition: PartitionId, next: Standing, epoch: Epoch) {
        let slot = partition.0 as usize;
        let (was, old_epoch) = (self.standings[slot], self.epochs[slot]);
        self.epochs[slot] = epoch;
        match (was, next) {
            (Standing::Frozen, Standing::Owner | Standing::Leader) if old_epoch == epoch => {
                // Nothing was decided about it; who froze it thaws it.
                return;
            }
            (Standing::Outside, Standing::Outside) => {}
            (_, Standing::Outside) => self.close(partition),
            (Standing::Outside, _) => self.open(partition, epoch),
            // An owner that became a replica may hold what never settled; it starts again empty.
            (Standing::Owner | Standing::Leader | Standing::Fenced, Standing::Replica) => {
                self.close(partition);
                self.open(partition, epoch);
            }
            (Standing::Replica, Standing::Owner | Standing::Leader)
            | (Standing::Leader | Standing::Fenced, Standing::Owner) => {
                // Promoted, or the only copy left: what it has is the truth now, all of it
                // readable.
                let end = self.store.next_sequence(partition).unwrap_or(1);
                self.raise(partition, end);
                self.renew(partition, epoch);
            }
            _ if old_epoch != epoch => self.renew(partition, epoch),
            _ => {}
        }
        self.standings[slot] = next;
    }

    /// A partition that the budget has no room for stays closed: its ticks are refused.
    fn open(&mut self, partition: PartitionId, epoch: Epoch) {
        if let Err(error) = self.store.open_partition(partition, epoch, 1) {
            tracing::error!(%partition, %error, "cannot open a partition");
        }
    }

    fn close(&mut self, partition: PartitionId) {
        drop(self.store.close_partition(partition));
        self.producers.forget(partition);
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

    /// Freezes those that are owned and empty.
    pub fn freeze(&mut self, partitions: &[PartitionId]) -> Vec<PartitionId> {
        let mut frozen = Vec::new();
        for &partition in partitions {
            let alone = self.standing(partition) == Standing::Owner;
            if alone && self.store.is_empty(partition) {
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
                self.standings[partition.0 as usize] = Standing::Owner;
            }
        }
    }

    /// A replica refused this partition: another epoch holds it by now.
    pub fn fence(&mut self, partition: PartitionId) -> bool {
        let fenced = self.standing(partition) == Standing::Leader;
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

/// What a shard is to a partition by a view.
fn standing_in(view: &View, me: Identity, partition: PartitionId) -> Standing {
    let Some(member) = view.placement().member(me.node) else { return Standing::Outside };
    let mine = shard_of(partition, member.shards) == me.shard;
    let Some(assignment) = view.placement().assignment(partition) else {
        return Standing::Outside;
    };
    if !mine || member.incarnation != me.incarnation || !assignment.holds(me.node) {
        return Standing::Outside;
    }
    match (assignment.owner() == Some(me.node), assignment.replicas().next().is_some()) {
        (true, false) => Standing::Owner,
        (true, true) => Standing::Leader,
        (false, _) => Standing::Replica,
    }
}

fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Full => Refusal::Overloaded,
        StoreError::NotOpen => Refusal::NotOwner,
        _ => Refusal::LimitReached,
    }
}
