//! An owner's side: it answers from its shards' readers what it owns at the epochs that the asker
//! knows.

use crate::shards::{ShardPort, by_shard};
use core::num::NonZeroU64;
use core::time::Duration;
use std::sync::Arc;
use zepto_client::message::{Leg, Of, Part};
use zepto_control::State;
use zepto_core::limits::{BARS_MAX, RANGE_ROWS_MAX};
use zepto_core::slot;
use zepto_core::view::{View, shard_of};
use zepto_core::{Epoch, NodeId, PartitionId, Refusal, fence};
use zepto_store::StoreReader;
use zepto_store::query::TimeRange;
use zepto_transport::Transport;

/// Time for the replicas to confirm who the owner is.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

/// An owner's side.
pub struct Owner<T: Transport> {
    /// This node.
    pub me: NodeId,
    /// The applied topology.
    pub state: Arc<State>,
    /// This node's shards.
    pub shards: Vec<ShardPort<T>>,
}

impl<T: Transport> Owner<T> {
    /// Answers a leg. Reads memory only; may take as long as the data is large.
    ///
    /// # Errors
    /// `StaleEpoch` or `AheadEpoch` when the asker's view is not the one installed here, and
    /// `LimitReached` for what no answer can hold.
    pub fn answer(&self, leg: &Leg) -> Result<Part, (Refusal, String)> {
        match leg {
            Leg::Summary { ownership } => self.summaries(*ownership),
            Leg::Series { table, symbol, epoch, range, of } => {
                let partition = self.state.view().route(*table, *symbol).partition;
                let reader = self.reader(partition);
                let held = reader.epoch(partition);
                let held = held.ok_or((Refusal::NotOwner, "the partition is not here".into()))?;
                fence::check(held, *epoch).map_err(|reason| (reason, reason.to_string()))?;
                // Not older than what the shard has installed; perhaps newer.
                let view = self.state.view();
                let life = life(&view, partition, held)?;
                self.confirm(&view, &[partition])?;
                let read = || read(reader, (*table, *symbol), *range, of, life);
                whole(reader, partition, held, read)
            }
        }
    }

    fn summaries(&self, ownership: u64) -> Result<Part, (Refusal, String)> {
        let view = self.state.view();
        if view.ownership(self.me) != ownership {
            return Err((Refusal::StaleEpoch, "another view is installed here".into()));
        }
        let owned: Vec<PartitionId> = view.placement().owned_by(self.me).collect();
        self.confirm(&view, &owned)?;
        let mut rows = Vec::new();
        for (port, owned) in self.shards.iter().zip(by_shard(owned, self.shards.len())) {
            let held: Vec<_> = owned.into_iter().map(|id| (id, view.epoch(id))).collect();
            // The shards install a view between two batches: one may not have it yet, or may have
            // the next one already.
            let read = port.reader().summary(&held).ok_or_else(moved)?;
            rows.extend(read);
        }
        Ok(Part::Summaries(rows))
    }

    /// Makes sure that no copy has moved on to another owner: else this node, if it slept, would
    /// answer with what was true before. Where nobody else has a copy there is nobody to ask; one
    /// that is being filled may have come to be in sync, which the shard knows.
    fn confirm(&self, view: &View, partitions: &[PartitionId]) -> Result<(), (Refusal, String)> {
        let replicated = |partition: &PartitionId| {
            let assignment = view.placement().assignment(*partition);
            assignment.is_some_and(|a| a.replicas().chain(a.filling()).next().is_some())
        };
        let replicated = partitions.iter().copied().filter(replicated);
        for (port, mine) in self.shards.iter().zip(by_shard(replicated, self.shards.len())) {
            if !mine.is_empty() && !port.confirm(mine, CONFIRM_WITHIN) {
                let text = "not all replicas confirm that this node is the owner";
                return Err((Refusal::NotReady, text.into()));
            }
        }
        Ok(())
    }

    fn reader(&self, partition: PartitionId) -> &StoreReader {
        let shard = shard_of(partition, self.shards.len() as u16);
        self.shards[usize::from(shard)].reader()
    }
}

/// What a series holds, read from memory.
fn read(
    reader: &StoreReader,
    (table, symbol): (u16, u32),
    range: TimeRange,
    of: &Of,
    life: Epoch,
) -> Result<Part, (Refusal, String)> {
    let rows = |limit: u32| (limit as usize).clamp(1, RANGE_ROWS_MAX);
    Ok(match of {
        Of::Summary => Part::Summary(reader.symbol_summary(table, symbol, range)),
        Of::Aggregate(kinds) => Part::Aggregate(reader.aggregate(table, symbol, range, kinds)),
        Of::Last(kinds) => {
            let last = reader.last(table, symbol, range, kinds);
            Part::Last(last.as_ref().map(slot::slot_of))
        }
        Of::Bars { interval_ns, kinds, limit } => {
            let interval = NonZeroU64::new(*interval_ns);
            let interval =
                interval.ok_or((Refusal::Malformed, "an interval of 0 has no bars".into()))?;
            let limit = (*limit as usize).clamp(1, BARS_MAX);
            let bars = reader.ohlcv(table, symbol, range, interval, kinds, limit);
            Part::Bars { bars: bars.bars, next_ns: bars.next_start_ns }
        }
        Of::Range { after, limit } => {
            let page = reader.range(table, symbol, range, *after, rows(*limit));
            let ticks = page.ticks.iter().map(slot::slot_of).collect();
            Part::Range { ticks, next: page.next }
        }
        Of::Since { life: known, from, limit } => {
            // Sequences of an earlier life say nothing about this one: all of it is new.
            let from = if known.is_none_or(|known| known == life) { *from } else { 1 };
            let new = reader.since(table, symbol, from, rows(*limit));
            let new = new.ok_or_else(moved)?;
            let ticks = new.ticks.iter().map(slot::slot_of).collect();
            Part::Since { ticks, life, next: new.next }
        }
    })
}

/// Since when a partition goes on without having begun empty, if what is held of it is what a view
/// says; else the shard is about to install another one, in which this node may own nothing.
fn life(view: &View, partition: PartitionId, held: Epoch) -> Result<Epoch, (Refusal, String)> {
    let assignment = view.placement().assignment(partition);
    let current = assignment.filter(|assignment| assignment.epoch == held);
    let other = || (Refusal::StaleEpoch, "another view is installed here".into());
    current.map(|assignment| assignment.since).ok_or_else(other)
}

/// What was read of a partition, if the partition is what it was before: else it may have been
/// closed meanwhile, and nothing was found where there was something.
fn whole(
    reader: &StoreReader,
    partition: PartitionId,
    held: Epoch,
    read: impl FnOnce() -> Result<Part, (Refusal, String)>,
) -> Result<Part, (Refusal, String)> {
    let part = read()?;
    if reader.epoch(partition) == Some(held) { Ok(part) } else { Err(moved()) }
}

fn moved() -> (Refusal, String) {
    (Refusal::NotOwner, "the partition changed hands meanwhile".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zepto_core::topology::{Command, Topology};
    use zepto_core::{Kind, Tick};
    use zepto_store::{Retention, StoreConfig};

    #[test]
    fn what_was_read_while_its_partition_was_closed_is_no_answer() {
        let config =
            StoreConfig { partition_bits: 1, bytes_max: 1 << 20, retention: Retention::default() };
        let (mut store, reader) = zepto_store::open(config).unwrap();
        let (partition, epoch) = (PartitionId(0), Epoch(3));
        store.open_partition(partition, epoch, 1).unwrap();
        let of = Of::Range { after: None, limit: 9 };
        let page = || read(&reader, (0, 0), TimeRange::ALL, &of, Epoch(1));
        assert!(whole(&reader, partition, epoch, page).is_ok());
        let closed = whole(&reader, partition, epoch, || {
            store.close_partition(partition);
            page()
        });
        assert!(matches!(closed, Err((Refusal::NotOwner, _))), "{closed:?}");
    }

    #[test]
    fn what_is_held_counts_only_in_the_view_that_it_is_of() {
        let mut topology = Topology::empty();
        topology.apply(1, 0, &Command::Bootstrap { cluster: 1, bits: 1, copies: 1 });
        let mut placement = topology.placement;
        placement.assignments[0].epoch = Epoch(7);
        placement.assignments[0].since = Epoch(4);
        let view = View::compile(placement);
        assert_eq!(life(&view, PartitionId(0), Epoch(7)), Ok(Epoch(4)));
        // The log gave it to another owner, and the shard does not know yet.
        let late = life(&view, PartitionId(0), Epoch(6));
        assert!(matches!(late, Err((Refusal::StaleEpoch, _))), "{late:?}");
    }

    #[test]
    fn sequences_of_an_earlier_life_do_not_hide_what_is_new() {
        let config =
            StoreConfig { partition_bits: 1, bytes_max: 64 << 20, retention: Retention::default() };
        let (mut store, reader) = zepto_store::open(config).unwrap();
        for partition in [0, 1].map(PartitionId) {
            store.open_partition(partition, Epoch(9), 1).unwrap();
        }
        let series = store.create_series(0, 0).unwrap();
        for _ in 0..5 {
            store.append(series, &Tick { kind: Kind::TRADE, ..Tick::default() }).unwrap();
        }
        store.publish();
        let since = |life| {
            let of = Of::Since { life, from: 4, limit: 10 };
            match read(&reader, (0, 0), TimeRange::ALL, &of, Epoch(9)) {
                Ok(Part::Since { ticks, life: Epoch(9), next: 6 }) => ticks.len(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(since(Some(Epoch(9))), 2, "of 4 and 5");
        assert_eq!(since(None), 2);
        assert_eq!(since(Some(Epoch(3))), 5, "the partition began anew since");
    }
}
