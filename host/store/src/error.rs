//! Why the store refused, as one small value that fits a register.
//!
//! A refusal never leaves anything half done.

/// Why a store refused. Every variant leaves the store as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The partition is open already. Do not retry: close it first.
    #[error("the partition is open already")]
    AlreadyOpen,
    /// The memory budget does not allow it. Retry after expiry has freed something, or never, if
    /// there is no retention.
    #[error("the store's memory budget is used up")]
    Full,
    /// The partition (of this series) is not open here. Do not retry until it is.
    #[error("the partition is not open")]
    NotOpen,
    /// A table, symbol, partition, sequence or setting is beyond its limit. Do not retry.
    #[error("a table, symbol, partition, sequence or setting is beyond its limit")]
    OutOfBounds,
}
