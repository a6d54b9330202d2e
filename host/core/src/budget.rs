//! Admission: bytes that may be in flight, and the permit that says who holds them.
//!
//! A permit is taken before the bytes are, travels with the request and gives them back when it is
//! dropped, so nothing can leak and the sum of all permits never exceeds the budget.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// A number of bytes shared by many requests. Any thread.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    refused: AtomicU64,
}

/// Some of a budget's bytes, given back on drop.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

/// How close a budget is to its limit (Envoy's overload manager has the thresholds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Below 85 %.
    Normal,
    /// From 85 %: large batches of new producers are refused.
    Elevated,
    /// From 92 %: idle connections are sent away.
    High,
    /// From 95 %: every request is refused.
    Critical,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), refused: AtomicU64::new(0) })
    }

    /// Takes bytes, all or none.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Some(Permit { budget: Arc::clone(self), bytes }),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How often it had no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How close it is to the limit.
    pub fn pressure(&self) -> Pressure {
        match u128::from(self.used()) * 100 / u128::from(self.limit.max(1)) {
            0..85 => Pressure::Normal,
            85..92 => Pressure::Elevated,
            92..95 => Pressure::High,
            _ => Pressure::Critical,
        }
    }
}

impl Permit {
    /// Bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(100);
        let first = budget.take(60).unwrap();
        assert!(budget.take(41).is_none());
        assert!(budget.take(u64::MAX).is_none());
        let second = budget.take(40).unwrap();
        assert_eq!((budget.used(), budget.refused()), (100, 2));
        assert_eq!(budget.pressure(), Pressure::Critical);
        drop((first, second));
        assert_eq!((budget.used(), budget.pressure()), (0, Pressure::Normal));
    }

    #[test]
    fn the_thresholds_are_85_92_and_95_percent() {
        for (used, pressure) in [
            (84, Pressure::Normal),
            (85, Pressure::Elevated),
            (92, Pressure::High),
            (95, Pressure::Critical),
        ] {
            let budget = Budget::new(100);
            let _permit = budget.take(used).unwrap();
            assert_eq!(budget.pressure(), pressure);
        }
    }
}
