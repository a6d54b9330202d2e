//! What a store may hold, and what it lets go.

/// Settings of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The cluster has 2^`partition_bits` partitions; 1 to 16.
    pub partition_bits: u8,
    /// Memory budget in bytes for everything the store allocates. At the limit, appends and new
    /// series are refused.
    pub bytes_max: u64,
    /// What may be dropped before that.
    pub retention: Retention,
}

/// What [`Store::expire`](crate::Store::expire) drops. Each bound works on its own; with none,
/// everything is kept until the budget is full.
///
/// Rows go in whole segments of 16 to 1,024 rows, the oldest of a series first, and never a row
/// at or above the watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Rows of a series beyond which its oldest segments go. The newest rows up to this number
    /// are kept, so a series holds up to one segment more.
    pub rows_per_series_max: Option<u64>,
    /// Bytes of the whole store beyond which the segments go that were filled first, whatever
    /// their series. To be of use it is below `StoreConfig::bytes_max`.
    pub bytes_max: Option<u64>,
    /// Nanoseconds that a tick's event time may lie in the past. A segment goes when all its
    /// ticks and those of the segments before it are older.
    pub age_max_ns: Option<u64>,
}
