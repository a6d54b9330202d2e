//! One partition from open to close, as the writer and the readers share it.
//!
//! Opened again it is another value: a reader that holds the old one finishes on the old data.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use zepto_abi::{Epoch, PartitionId};
use zepto_core::hash::mix64;

use crate::StoreError;
use crate::budget::Budget;
use crate::series::Series;

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    epoch: AtomicU64,
    series: ArcSwap<SeriesTable>,
    budget: Arc<Budget>,
}

const PARTITION_BYTES: usize = size_of::<Partition>() + 16;

impl Partition {
    pub(crate) fn create(
        budget: &Arc<Budget>,
        id: PartitionId,
        epoch: Epoch,
    ) -> Result<Arc<Self>, StoreError> {
        let table = SeriesTable::create(budget, SeriesTable::PLACES_MIN)?;
        budget.take(PARTITION_BYTES)?;
        Ok(Arc::new(Self {
            id,
            epoch: AtomicU64::new(epoch.0),
            series: ArcSwap::from_pointee(table),
            budget: budget.clone(),
        }))
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Acquire))
    }

    pub(crate) fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Release);
    }

    pub(crate) fn find(&self, table: u16, symbol: u32) -> Option<Arc<Series>> {
        self.series.load().find(table, symbol).cloned()
    }

    /// Every series, in no particular order.
    pub(crate) fn all_series(&self) -> Vec<Arc<Series>> {
        self.series.load().iter().cloned().collect()
    }

    /// The writer adds a series that is not there, as the one after `count` others. On `Full`
    /// nothing has changed.
    pub(crate) fn insert(&self, series: Arc<Series>, count: usize) -> Result<(), StoreError> {
        let table = self.series.load();
        if 4 * (count + 1) <= 3 * table.0.len() {
            table.insert(series);
            return Ok(());
        }
        let grown = SeriesTable::create(&self.budget, 2 * table.0.len())?;
        table.iter().cloned().for_each(|series| grown.insert(series));
        grown.insert(series);
        self.series.store(Arc::new(grown));
        Ok(())
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.budget.give_back(PARTITION_BYTES);
    }
}

/// A hash table with open addressing that only grows: readers look while the writer adds, and
/// growing makes a new one. A power of two places, at least one of them empty.
#[derive(Debug)]
struct SeriesTable(Box<[OnceLock<Arc<Series>>]>, Arc<Budget>);

impl SeriesTable {
    const PLACES_MIN: usize = 4;

    fn create(budget: &Arc<Budget>, places: usize) -> Result<Self, StoreError> {
        budget.take(Self::bytes(places))?;
        let table = std::iter::repeat_with(OnceLock::new).take(places).collect();
        Ok(Self(table, budget.clone()))
    }

    fn bytes(places: usize) -> usize {
        size_of::<Self>() + 16 + places * size_of::<OnceLock<Arc<Series>>>()
    }

    fn find(&self, table: u16, symbol: u32) -> Option<&Arc<Series>> {
        self.probe(table, symbol)
            .map_while(OnceLock::get)
            .find(|series| series.table == table && series.symbol == symbol)
    }

    fn insert(&self, series: Arc<Series>) {
        let place = self.probe(series.table, series.symbol).find(|place| place.get().is_none());
        let set = place.is_some_and(|place| place.set(series).is_ok());
        debug_assert!(set, "one writer, and a table with an empty place");
    }

    /// The places of a key, in the order to look. The partition took the hash's high bits.
    fn probe(&self, table: u16, symbol: u32) -> impl Iterator<Item = &OnceLock<Arc<Series>>> {
        let start = mix64(table, symbol) as usize;
        (0..self.0.len()).map(move |step| &self.0[start.wrapping_add(step) & (self.0.len() - 1)])
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.0.iter().filter_map(OnceLock::get)
    }
}

impl Drop for SeriesTable {
    fn drop(&mut self) {
        self.1.give_back(Self::bytes(self.0.len()));
    }
}
