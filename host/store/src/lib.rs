//! Partitions in memory: append, columnar segments, watermark, range reads, exact aggregates.
//!
//! A [`Store`] is what one shard thread appends to; its [`StoreReader`], cloned freely, is what
//! everyone else reads from. They share immutable rows and a watermark per partition: an append
//! puts rows above it, [`Store::publish`] or [`Store::raise_watermark`] lets readers see them,
//! and no reader ever makes the writer wait.
//!
//! ```text
//! Store ── append ──> staging ── 8 rows ──> segment ── listed in ──> directory   per series
//!   │                    │                     │                         │
//!   └── watermark ───────┴───────── View ──────┴─────────────────────────┘       per reader
//! ```
//!
//! Architecture invariant: knows no node, no network and no clock. `unsafe` is in `segment` and
//! `arena` and nowhere else.
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "memory on huge pages")]
mod arena;
mod bars;
mod budget;
mod config;
mod copy;
mod counters;
mod directory;
mod error;
mod lifecycle;
mod partition;
mod pause;
pub mod query;
#[cfg(test)]
mod race;
mod range;
mod reader;
mod retention;
mod row;
mod rows;
mod scan;
#[expect(unsafe_code, reason = "columns that one thread writes and others read")]
mod segment;
mod series;
mod shared;
mod since;
mod staging;
mod store;
mod tail;

pub use config::{Retention, StoreConfig};
pub use copy::PartitionCopy;
pub use counters::StoreCounters;
pub use error::StoreError;
pub use lifecycle::ClosedPartition;
pub use reader::StoreReader;
pub use store::{SeriesIndex, Store, open};
