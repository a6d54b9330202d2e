//! What the store counts. Written by the writer alone, with plain stores, and read by anyone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The state of one store in numbers. Each is exact; they are not read at the same instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoreCounters {
    /// Ticks held, above the watermark included.
    pub rows: u64,
    /// Bytes held, including what was dropped but a reader still holds.
    pub bytes: u64,
    /// Series of the open partitions.
    pub series: u64,
    /// Open partitions.
    pub partitions: u64,
    /// Ticks ever appended.
    pub appended: u64,
    /// Ticks that retention by rows per series dropped.
    pub expired_by_count: u64,
    /// Ticks that retention by bytes dropped.
    pub expired_by_bytes: u64,
    /// Ticks that retention by age dropped.
    pub expired_by_age: u64,
    /// Appends, new series and partitions that were refused because the budget was used up.
    pub refused_full: u64,
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed) + amount, Relaxed);
    }

    pub(crate) fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).saturating_sub(amount), Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) series: Counter,
    pub(crate) partitions: Counter,
    pub(crate) appended: Counter,
    /// Ticks that went with their partition when it was closed.
    pub(crate) closed: Counter,
    pub(crate) expired_by_count: Counter,
    pub(crate) expired_by_bytes: Counter,
    pub(crate) expired_by_age: Counter,
    pub(crate) refused_full: Counter,
}

impl Counters {
    pub(crate) fn read(&self, bytes: u64) -> StoreCounters {
        let expired_by_count = self.expired_by_count.get();
        let expired_by_bytes = self.expired_by_bytes.get();
        let expired_by_age = self.expired_by_age.get();
        let gone = self.closed.get() + expired_by_count + expired_by_bytes + expired_by_age;
        let appended = self.appended.get();
        StoreCounters {
            rows: appended.saturating_sub(gone),
            bytes,
            series: self.series.get(),
            partitions: self.partitions.get(),
            appended,
            expired_by_count,
            expired_by_bytes,
            expired_by_age,
            refused_full: self.refused_full.get(),
        }
    }
}
