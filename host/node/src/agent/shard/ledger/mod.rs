//! What is stored here, and what this shard is to every partition.
//!
//! Ticks are taken here; `copy` fills and repairs what is somebody else's, `change` follows the
//! view.

mod change;
mod copy;

use super::fill::{Fills, Recent};
use super::inlet::LaneEnd;
use super::source::Origin;
use super::standing::Standing;
use std::collections::BTreeMap;
use zepto_client::message::ShardCounters;
use zepto_core::dedupe::{Producers, Verdict, judge};
use zepto_core::slot::{self, Slot};
use zepto_core::time::Nanos;
use zepto_core::{Epoch, PartitionId, Refusal};
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

    /// Refuses every tick from now on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// A lane ended.
    pub fn close_lane(&mut self, end: &LaneEnd, bound: impl IntoIterator<Item = u32>, now: Nanos) {
        if !matches!(end, LaneEnd::HungUp) {
            tracing::warn!(%end, "a lane was closed");
        }
        self.counters.corrupt_lanes += u64::from(end.is_corrupt());
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
