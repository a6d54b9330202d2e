//! An owner's side: it answers from its shards' readers what it owns at the epochs that the asker
//! knows.

use crate::shards::ShardPort;
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
                let view = self.state.view();
                let partition = view.route(*table, *symbol).partition;
                let reader = self.reader(partition);
                let held = reader.epoch(partition);
                let held = held.ok_or((Refusal::NotOwner, "the partition is not here".into()))?;
                fence::check(held, *epoch).map_err(|reason| (reason, reason.to_string()))?;
                self.confirm(&view, &[partition])?;
                whole(reader, partition, held, || read(reader, (*table, *symbol), *range, of))
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
        for (port, owned) in self.shards.iter().zip(self.by_shard(&owned)) {
            let held: Vec<_> = owned.into_iter().map(|id| (id, view.epoch(id))).collect();
            // The shards install a view between two batches: one may not have it yet, or may have
            // the next one already.
            let read = port.reader().summary(&held).ok_or_else(moved)?;
            rows.extend(read);
        }
        Ok(Part::Summaries(rows))
    }

    /// Makes sure that no replica has moved on to another owner: else this node, if it slept, would
    /// answer with what was true before. Where nobody else has a copy there is nobody to ask.
    fn confirm(&self, view: &View, partitions: &[PartitionId]) -> Result<(), (Refusal, String)> {
        let replicated = |partition: &PartitionId| {
            let assignment = view.placement().assignment(*partition);
            assignment.is_some_and(|assignment| assignment.replicas().next().is_some())
        };
        let replicated: Vec<_> = partitions.iter().copied().filter(replicated).collect();
        for (port, mine) in self.shards.iter().zip(self.by_shard(&replicated)) {
            if !mine.is_empty() && !port.confirm(mine, CONFIRM_WITHIN) {
                let text = "not all replicas confirm that this node is the owner";
                return Err((Refusal::NotReady, text.into()));
            }
        }
        Ok(())
    }

    /// Partitions by the shard that has them.
    fn by_shard(&self, partitions: &[PartitionId]) -> Vec<Vec<PartitionId>> {
        let mut shards = vec![Vec::new(); self.shards.len()];
        for partition in partitions {
            shards[self.shard(*partition)].push(*partition);
        }
        shards
    }

    fn shard(&self, partition: PartitionId) -> usize {
        usize::from(shard_of(partition, self.shards.len() as u16))
    }

    fn reader(&self, partition: PartitionId) -> &StoreReader {
        self.shards[self.shard(partition)].reader()
    }
}

/// What a series holds, read from memory.
fn read(
    reader: &StoreReader,
    (table, symbol): (u16, u32),
    range: TimeRange,
    of: &Of,
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
        Of::Since { from, limit } => {
            let new = reader.since(table, symbol, *from, rows(*limit));
            let new = new.ok_or_else(moved)?;
            let ticks = new.ticks.iter().map(slot::slot_of).collect();
            Part::Since { ticks, next: new.next }
        }
    })
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
    use zepto_store::{Retention, StoreConfig};

    #[test]
    fn what_was_read_while_its_partition_was_closed_is_no_answer() {
        let config =
            StoreConfig { partition_bits: 1, bytes_max: 1 << 20, retention: Retention::default() };
        let (mut store, reader) = zepto_store::open(config).unwrap();
        let (partition, epoch) = (PartitionId(0), Epoch(3));
        store.open_partition(partition, epoch, 1).unwrap();
        let page = || read(&reader, (0, 0), TimeRange::ALL, &Of::Range { after: None, limit: 9 });
        assert!(whole(&reader, partition, epoch, page).is_ok());
        let closed = whole(&reader, partition, epoch, || {
            store.close_partition(partition);
            page()
        });
        assert!(matches!(closed, Err((Refusal::NotOwner, _))), "{closed:?}");
    }
}
