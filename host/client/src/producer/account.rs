//! The account of a producer: what became of every tick it took.

use std::collections::BTreeMap;
use zepto_core::Refusal;

/// Counts of ticks. At all times `accepted = settled + refused + in_flight + parked`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Taken by `ingest`.
    pub accepted: u64,
    /// Acknowledged with the durability that was asked for.
    pub settled: u64,
    /// Refused for good, by reason: not stored.
    pub refused: BTreeMap<Refusal, u64>,
    /// In a lane, not settled yet. After a deadline: unknown, stored or not.
    pub in_flight: u64,
    /// Waiting here for an owner: certainly not stored by the one they wait for.
    pub parked: u64,
    /// Why ticks were parked last, if they were.
    pub parked_for: Option<Refusal>,
}

impl Account {
    /// Ticks refused for any reason.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Whether every accepted tick is acknowledged or refused.
    pub fn is_final(&self) -> bool {
        self.in_flight == 0 && self.parked == 0
    }

    /// Whether every accepted tick is in exactly one place.
    pub fn is_conserved(&self) -> bool {
        self.accepted == self.settled + self.refused_total() + self.in_flight + self.parked
    }
}
