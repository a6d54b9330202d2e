//! A copy of another node's partition: how it is filled, and how it is repaired.
//!
//! What comes from the past waits or is put in its place; nothing of it counts before all is here.

use super::super::fill::Fill;
use super::super::source::Origin;
use super::{Ledger, refusal};
use zepto_core::defect::Defect;
use zepto_core::limits::FIRST_SEQUENCE_MAX;
use zepto_core::slot::{self, Slot};
use zepto_core::{Incarnation, NodeId, PartitionId, Refusal};

impl Ledger {
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

    /// The copy is a part of what this owner has. What was told of its floor stands until the owner
    /// tells another one.
    pub fn note_owner(&mut self, partition: PartitionId, lane: &Origin) {
        self.owners.insert(partition, *lane);
    }

    /// Whether a lane is the one that fills a copy.
    pub fn is_filled_by(&self, partition: PartitionId, lane: u32) -> Result<(), Refusal> {
        match self.fills.get(partition) {
            Some(fill) if fill.lane == lane => Ok(()),
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

    /// A row of a copy that is being filled.
    pub fn take_row(
        &mut self,
        slot: &Slot,
        partition: PartitionId,
        lane: u32,
    ) -> Result<(), Refusal> {
        self.is_filled_by(partition, lane)?;
        let Some(fill) = self.fills.get_mut(partition) else { return Err(Refusal::StaleEpoch) };
        if slot[0] >= fill.start {
            return Err(Refusal::OutOfOrder);
        }
        fill.rows += 1;
        self.counters.rows_filled += 1;
        let mut row = *slot;
        if Defect::CopyWithoutIdentity.planted() && fill.kept == 0 {
            row[0] = fill.rows;
        }
        if row[0] < fill.kept {
            if !Defect::RepairAppendsTwice.planted() {
                return Ok(());
            }
            row[0] = fill.next;
            fill.next += 1;
        }
        if row[0] >= fill.unsettled {
            return if self.fills.wait(partition, row) {
                Ok(())
            } else {
                Err(Refusal::LimitReached)
            };
        }
        self.store.backfill(&slot::tick_of(&row)).map_err(|error| refusal(&error))
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
}

#[cfg(test)]
mod tests {
    use super::super::super::standing::Standing;
    use super::*;
    use zepto_core::{Epoch, Kind, Tick};
    use zepto_store::{Retention, StoreConfig};

    const P: PartitionId = PartitionId(0);

    /// A shard that is being filled with one partition, and a symbol of it.
    fn filling() -> (Ledger, u32) {
        let config =
            StoreConfig { partition_bits: 1, bytes_max: 64 << 20, retention: Retention::default() };
        let (store, _) = zepto_store::open(config).unwrap();
        let mut ledger = Ledger::new(store);
        ledger.standings = vec![Standing::Filling, Standing::Outside];
        ledger.epochs = vec![Epoch(3), Epoch(0)];
        let symbol = (0..).find(|symbol| zepto_core::hash::partition_of(0, *symbol, 1) == P);
        (ledger, symbol.unwrap())
    }

    fn lane(number: u32) -> Origin {
        Origin { number, node: NodeId(1), incarnation: Incarnation(1) }
    }

    fn row(symbol: u32, sequence: u64) -> Slot {
        let mut slot = slot::slot_of(&Tick { symbol, kind: Kind::TRADE, ..Tick::default() });
        slot[0] = sequence;
        slot
    }

    #[test]
    fn what_an_earlier_lane_still_brings_of_a_fill_is_refused() {
        let (mut ledger, symbol) = filling();
        ledger.begin_fill(P, &lane(1), 3, 3).unwrap();
        ledger.take_row(&row(symbol, 1), P, 1).unwrap();
        // The owner lost that lane, and fills the copy again through the next one.
        ledger.begin_fill(P, &lane(2), 4, 4).unwrap();
        let stale = Err(Refusal::StaleEpoch);
        assert_eq!(ledger.take_row(&row(symbol, 2), P, 1), stale);
        assert_eq!(ledger.accepted(P, 1, Some(0), 2), stale);
        assert_eq!(ledger.end_fill(P, 1, 0), stale);
        assert_eq!(ledger.begin_fill(P, &lane(1), 3, 3), stale);
        assert_eq!(ledger.begin_repair(P, &lane(1), 3, 3), stale);
        // Its end does not end the fill of the next one either.
        ledger.forget_source(1);
        (1..4).for_each(|sequence| ledger.take_row(&row(symbol, sequence), P, 2).unwrap());
        ledger.end_fill(P, 2, 3).unwrap();
        assert_eq!(ledger.store.next_sequence(P), Some(4));
    }

    #[test]
    fn what_stayed_frozen_is_named_by_the_next_freeze() {
        let (mut ledger, _) = filling();
        ledger.standings[0] = Standing::Leader;
        assert_eq!(ledger.freeze(&[P, PartitionId(1)]), [P]);
        assert_eq!(ledger.freeze(&[P, PartitionId(1)]), [P], "its thaw was lost");
        ledger.thaw(&[P]);
        assert_eq!(ledger.standing(P), Standing::Leader);
    }
}
