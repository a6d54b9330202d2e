//! Oracles: each file holds one guarantee and says at once when it is broken.
//!
//! They see what the watch saw on the lanes (by content, at the moment it was said), the accounts
//! of the producers after every step, and what readers find in the stores. None asks an agent
//! whether it did well.

pub mod conservation;
pub mod duplicates;
pub mod durability;
pub mod fence;
pub mod order;
pub mod writer;

use super::feeder::symbols;
use zepto_core::hash::partition_of;
use zepto_core::{PartitionId, Tick};
use zepto_store::StoreReader;
use zepto_store::query::TimeRange;

/// Who found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// G1: what is acknowledged stays readable.
    Durability,
    /// G2: one writer for each partition and epoch.
    OneWriter,
    /// G3: no replica takes ticks of another epoch than its own.
    Fence,
    /// G6: every accepted tick ends in exactly one way, and the books are right.
    Conservation,
    /// G7: no tick is stored twice.
    Duplicates,
    /// G8: a producer's order holds, sequences are dense, nothing is above the watermark.
    Order,
    /// Once the faults are over, everything comes to its end within bounded time.
    Liveness,
    /// An assertion in the code under test, or a rule of the topology.
    Assertion,
    /// G12: the failure detector's times and its false accusations.
    Detection,
}

/// What an oracle found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which oracle.
    pub oracle: Oracle,
    /// What it saw.
    pub story: String,
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}: {}", self.oracle, self.story)
    }
}

/// Result of an oracle.
pub type Verdict = Result<(), Failure>;

/// Fails unless something holds.
pub fn ensure(oracle: Oracle, holds: bool, story: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Failure { oracle, story: story() }) }
}

/// What a reader finds in one partition.
pub struct Content {
    /// Which.
    pub partition: PartitionId,
    /// First sequence that is not to be seen.
    pub watermark: u64,
    /// The ticks by sequence.
    pub ticks: Vec<Tick>,
}

impl Content {
    /// Reads a partition of a store with 2^`bits` partitions; `None` if it is not open there.
    pub fn read(reader: &StoreReader, partition: PartitionId, bits: u8) -> Option<Self> {
        let watermark = reader.watermark(partition)?;
        let mut ticks = Vec::new();
        for symbol in symbols(bits) {
            if partition_of(0, symbol, bits) == partition {
                // Every schedule has far fewer ticks than one page.
                let page = reader.range(0, symbol, TimeRange::ALL, None, 1 << 16);
                ticks.extend(page.ticks);
            }
        }
        ticks.sort_unstable_by_key(|tick| tick.sequence);
        Some(Self { partition, watermark, ticks })
    }
}

/// The producer's number and its tick's number, for people.
pub fn name(id: u64) -> String {
    format!("tick {}:{}", id >> 32, id & 0xFFFF_FFFF)
}
