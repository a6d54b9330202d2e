//! A budget in bytes that many connections share, and the charges against it.
//!
//! The sum of all charges never exceeds the maximum, and a charge gives back what it took when it
//! is dropped, wherever that happens. Nobody waits here: no room is an answer, not a delay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::counters::BudgetCounters;

#[derive(Debug)]
pub(crate) struct ByteBudget {
    used_bytes: AtomicUsize,
    bytes_max: usize,
    refused: AtomicU64,
}

impl ByteBudget {
    pub(crate) fn new(bytes_max: usize) -> Arc<ByteBudget> {
        let (used_bytes, refused) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(ByteBudget { used_bytes, bytes_max, refused })
    }

    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let mut charge = Charge { budget: Arc::clone(self), bytes: 0 };
        charge.raise_to(bytes).then_some(charge)
    }

    pub(crate) fn counters(&self) -> BudgetCounters {
        BudgetCounters {
            limit_bytes: self.bytes_max as u64,
            used_bytes: self.used_bytes.load(Ordering::Relaxed) as u64,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        // Relaxed: the counter guards an amount, no other memory.
        let taken = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max)
        });
        if taken.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl Charge {
    /// Grows the charge to `bytes` in all; false, and unchanged, when there is no room.
    pub(crate) fn raise_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let granted = more == 0 || self.budget.take(more);
        if granted {
            self.bytes += more;
        }
        granted
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let before = self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        debug_assert!(before >= self.bytes, "more was given back than taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_never_exceed_the_maximum_and_give_back_on_drop() {
        let budget = ByteBudget::new(100);
        let mut first = budget.charge(60).expect("room");
        assert!(budget.charge(41).is_none());
        let second = budget.charge(40).expect("exactly full");
        assert!(!first.raise_to(61), "no room to grow");
        drop(second);
        assert!(first.raise_to(100));
        drop(first);
        assert!(budget.charge(100).is_some());
        assert_eq!(budget.counters().refused, 2);
    }
}
