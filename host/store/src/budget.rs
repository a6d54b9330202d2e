//! The memory budget: how many bytes the store holds, and how many it may.
//!
//! Only the writer takes, and it checks first; memory is given back where it is freed, which may
//! be a reader's thread long after the writer let go. So the sum counts what is really held, and
//! a slow reader uses up the budget instead of exceeding it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::StoreError;

#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicU64,
    max: u64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Self {
        Self { used: AtomicU64::new(0), max }
    }

    /// Takes `bytes`, or nothing. Called by the one writer only: others only ever give back
    /// between its check and its addition.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), StoreError> {
        let bytes = bytes as u64;
        let used = self.used.load(Relaxed);
        if used.checked_add(bytes).is_none_or(|sum| sum > self.max) {
            return Err(StoreError::Full);
        }
        self.used.fetch_add(bytes, Relaxed);
        Ok(())
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Relaxed);
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
}
