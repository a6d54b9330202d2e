//! The readers: any number, on any thread, at any time.
//!
//! A reader takes a partition's watermark once and sees exactly the ticks below it, as long as
//! retention keeps them. It never makes the writer wait, nor does the writer it. An answer over
//! several partitions is not one cut: each has its own watermark.

use std::num::NonZeroU64;
use std::sync::Arc;

use zepto_abi::{Epoch, PartitionId, Tick};
use zepto_core::hash::partition_of;

use crate::pause::pause;
use crate::query::{Aggregate, Bars, KindSet, NewTicks, Position, RangePage, Summary, TimeRange};
use crate::series::View;
use crate::shared::Shared;
use crate::{StoreCounters, bars, range, scan, since};

/// Reads what a [`Store`](crate::Store) holds. A clone is cheap; all clones are equal.
///
/// What is asked of a series that does not exist, or whose partition is not open here, has the
/// empty answer; whether this is the right store to ask is the caller's to know.
#[derive(Clone, Debug)]
pub struct StoreReader(Arc<Shared>);

impl StoreReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The epoch of a partition; `None` if it is not open.
    pub fn epoch(&self, id: PartitionId) -> Option<Epoch> {
        Some(self.0.partition(id)?.0.epoch())
    }

    /// The first sequence of a partition that readers do not see yet; `None` if it is not open.
    pub fn watermark(&self, id: PartitionId) -> Option<u64> {
        Some(self.0.partition(id)?.1)
    }

    /// What each series of these partitions holds, in order of (table, symbol), if all of them were
    /// open at their epochs when the reading began. One that is closed meanwhile is still read.
    pub fn summary(&self, of: &[(PartitionId, Epoch)]) -> Option<Vec<(u16, u32, Summary)>> {
        let opened = of.iter().map(|(id, epoch)| {
            // Before its watermark: a promotion raises that before it renews the epoch.
            self.epoch(*id).filter(|held| held == epoch)?;
            pause();
            self.0.partition(*id).filter(|(partition, _)| partition.epoch() == *epoch)
        });
        let opened: Vec<_> = opened.collect::<Option<_>>()?;
        let mut summaries = Vec::new();
        for (partition, watermark) in opened {
            for series in partition.all_series() {
                let summary = scan::summary(&series.view(watermark), TimeRange::ALL);
                summaries.push((series.table, series.symbol, summary));
            }
        }
        summaries.sort_unstable_by_key(|(table, symbol, _)| (*table, *symbol));
        Some(summaries)
    }

    /// What a symbol holds in a range of event time.
    pub fn symbol_summary(&self, table: u16, symbol: u32, range: TimeRange) -> Summary {
        self.view(table, symbol).map(|view| scan::summary(&view, range)).unwrap_or_default()
    }

    /// The exact aggregate of a symbol's ticks of some kinds in a range of event time.
    pub fn aggregate(
        &self,
        table: u16,
        symbol: u32,
        range: TimeRange,
        kinds: &KindSet,
    ) -> Aggregate {
        let view = self.view(table, symbol);
        view.map(|view| scan::aggregate(&view, range, kinds)).unwrap_or_default()
    }

    /// The last tick, in order of (event time, sequence), of some kinds in a range.
    pub fn last(&self, table: u16, symbol: u32, range: TimeRange, kinds: &KindSet) -> Option<Tick> {
        range::last(&self.view(table, symbol)?, range, kinds)
    }

    /// Bars of `interval_ns`, aligned to multiples of it, of a symbol's ticks of some kinds in a
    /// range: the first `limit` that have ticks, at least one and at most `BARS_MAX`. A bar at
    /// the range's edge has only the ticks inside.
    pub fn ohlcv(
        &self,
        table: u16,
        symbol: u32,
        range: TimeRange,
        interval_ns: NonZeroU64,
        kinds: &KindSet,
        limit: usize,
    ) -> Bars {
        let view = self.view(table, symbol);
        view.map(|view| bars::bars(&view, range, interval_ns, kinds, limit)).unwrap_or_default()
    }

    /// A symbol's ticks in a range, in order of (event time, sequence): the first `limit` after a
    /// position, at least one and at most `RANGE_ROWS_MAX`. Pages that follow `next` give every
    /// tick once that was visible at the first page, and is still kept; a tick that becomes
    /// visible later behind the position is not given.
    pub fn range(
        &self,
        table: u16,
        symbol: u32,
        range: TimeRange,
        after: Option<Position>,
        limit: usize,
    ) -> RangePage {
        let view = self.view(table, symbol);
        view.map(|view| range::page(&view, range, after, limit)).unwrap_or_default()
    }

    /// A symbol's ticks in the order in which they came, those of a sequence and more: the first
    /// `limit`, at least one and at most `RANGE_ROWS_MAX`. Pages that follow `next` give every tick
    /// once, as long as it is kept. A sequence beyond all gives none, and where new ones begin.
    /// `None` if the partition is not open.
    pub fn since(&self, table: u16, symbol: u32, from: u64, limit: usize) -> Option<NewTicks> {
        let id = partition_of(table, symbol, self.0.partition_bits);
        let (partition, end) = self.0.partition(id)?;
        Some(match partition.find(table, symbol) {
            Some(series) => since::page(&series.view(end), from, limit, end),
            None => NewTicks { ticks: Vec::new(), next: end },
        })
    }

    /// The store in numbers.
    pub fn counters(&self) -> StoreCounters {
        self.0.counters.read(self.0.budget.used())
    }

    fn view(&self, table: u16, symbol: u32) -> Option<View> {
        let id = partition_of(table, symbol, self.0.partition_bits);
        // First the watermark: a series found after it holds all that is below.
        let (partition, watermark) = self.0.partition(id)?;
        Some(partition.find(table, symbol)?.view(watermark))
    }
}
