//! The memory budget: how many bytes the store holds, and how many it may; and the columns' memory.
//!
//! Only the writer takes, and it checks first; memory is given back where it is freed, which may
//! be a reader's thread long after the writer let go. So the sum counts what is really held, and
//! a slow reader uses up the budget instead of exceeding it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::StoreError;
use crate::arena::{Arena, Block};

#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicU64,
    max: u64,
    arena: Arena,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Self {
        Self { used: AtomicU64::new(0), max, arena: Arena::default() }
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

    /// Takes a block for at least `bytes`, charged as what it is. `Full` if the budget or the
    /// system has no room.
    pub(crate) fn take_block(&self, bytes: usize) -> Result<Block, StoreError> {
        let charged = Block::bytes_for(bytes);
        self.take(charged)?;
        self.arena.take(bytes).ok_or_else(|| {
            self.give_back(charged);
            StoreError::Full
        })
    }

    /// Takes back a block that came from this budget.
    pub(crate) fn give_back_block(&self, block: Block) {
        let bytes = block.bytes();
        self.arena.give_back(block);
        self.give_back(bytes);
    }

    /// Bytes that can be taken.
    pub(crate) fn left(&self) -> u64 {
        self.max.saturating_sub(self.used())
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
}
