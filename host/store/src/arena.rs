//! Memory for columns: regions of 2 MiB, on huge pages where the system has them, cut into blocks
//! of powers of two.
//!
//! A series writes to a handful of lines at a time, and the next tick is another series': with
//! small pages nearly every write would miss the address translation too, and each fresh page
//! costs a fault for a hundred rows. Blocks are halved until they fit and joined again when both
//! halves are free (the buddy system; Knuth, The Art of Computer Programming, 2.5). A region stays
//! with the arena until the arena is dropped: what retention frees is used again, and the system
//! need not clear it a second time.
//!
//! The one writer takes blocks and whoever drops a segment last gives them back, so there is a
//! lock; a block is taken once in sixteen rows at the most.

use std::alloc::{self, Layout};
use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use rustix::mm::{Advice, madvise};

/// Bytes of a region: a huge page, and the largest block.
const REGION_BYTES: usize = 2 << 20;
/// Bytes of the smallest block: a cache line.
const BLOCK_BYTES_MIN: usize = 64;
/// Sizes of blocks.
const ORDERS: usize = (REGION_BYTES / BLOCK_BYTES_MIN).ilog2() as usize + 1;

/// Memory that its holder alone may use, until it gives it back to the arena it came from. It
/// begins on a cache line and holds anything at first.
#[derive(Debug)]
pub(crate) struct Block {
    start: NonNull<u8>,
    order: u8,
}

impl Block {
    /// Bytes of the block that is made for so many.
    pub(crate) const fn bytes_for(bytes: usize) -> usize {
        BLOCK_BYTES_MIN << order_of(bytes)
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        BLOCK_BYTES_MIN << self.order
    }
}

const fn order_of(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES_MIN).next_power_of_two().ilog2() as usize
}

/// Free blocks by order, as addresses; a buddy's differs in one bit.
#[derive(Debug, Default)]
pub(crate) struct Arena(Mutex<[BTreeSet<usize>; ORDERS]>);

impl Arena {
    /// A block for at least so many bytes; `None` for more than a region, or when the system has
    /// no more memory.
    pub(crate) fn take(&self, bytes: usize) -> Option<Block> {
        let order = order_of(bytes);
        if order >= ORDERS {
            return None;
        }
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = (order..ORDERS).find_map(|from| Some((from, free[from].pop_first()?)));
        let (mut from, address) = match found {
            Some(found) => found,
            None => (ORDERS - 1, map_region()?.as_ptr().expose_provenance()),
        };
        while from > order {
            from -= 1;
            free[from].insert(address + (BLOCK_BYTES_MIN << from));
        }
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(address))?;
        Some(Block { start, order: order as u8 })
    }

    /// Takes a block back.
    pub(crate) fn give_back(&self, block: Block) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut address, mut order) = (block.start.as_ptr().addr(), usize::from(block.order));
        while order < ORDERS - 1 && free[order].remove(&(address ^ (BLOCK_BYTES_MIN << order))) {
            address &= !(BLOCK_BYTES_MIN << order);
            order += 1;
        }
        free[order].insert(address);
    }
}

const REGION: Layout = match Layout::from_size_align(REGION_BYTES, REGION_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a region's size is a power of two"),
};

fn map_region() -> Option<NonNull<u8>> {
    // SAFETY: the layout's size is not zero.
    let region = NonNull::new(unsafe { alloc::alloc(REGION) })?;
    // SAFETY: advice about memory that was just allocated, of whole pages, and of which nothing
    // is used yet; it changes no contents. Where there are no huge pages it is refused, and small
    // ones do.
    unsafe { madvise(region.as_ptr().cast(), REGION_BYTES, Advice::LinuxHugepage) }.ok();
    Some(region)
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Whoever has a block has the arena too, so all of them are back, in whole regions. (A
        // block that was lost would keep its region.)
        let free = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for address in core::mem::take(&mut free[ORDERS - 1]) {
            let region = std::ptr::with_exposed_provenance_mut(address);
            // SAFETY: the address of a whole region comes from `map_region`: blocks are halves of
            // regions, and only two halves of the same one are ever joined, as it is aligned to
            // its size. It is in the list once, so it is freed once.
            unsafe { alloc::dealloc(region, REGION) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_rounded_to_powers_of_two() {
        let sizes = [1, 64, 65, 29 * 16, 29 * 1024, REGION_BYTES].map(Block::bytes_for);
        assert_eq!(sizes, [64, 64, 128, 512, 32 << 10, REGION_BYTES]);
        let arena = Arena::default();
        assert!(arena.take(REGION_BYTES + 1).is_none());
        let whole = arena.take(REGION_BYTES).unwrap();
        assert_eq!(whole.bytes(), REGION_BYTES);
        arena.give_back(whole);
    }

    proptest! {
        #[test]
        fn blocks_in_use_never_overlap_and_join_to_whole_regions_again(
            steps in prop::collection::vec((0usize..64, 1usize..40_000), 1..200)
        ) {
            let arena = Arena::default();
            let mut held: Vec<Block> = Vec::new();
            for (pick, bytes) in steps {
                if pick % 3 == 0 && !held.is_empty() {
                    arena.give_back(held.swap_remove(pick % held.len()));
                    continue;
                }
                let block = arena.take(bytes).unwrap();
                prop_assert!(block.bytes() >= bytes && block.bytes() < 2 * bytes.max(64));
                let range = |b: &Block| {
                    let start = b.start().as_ptr().addr();
                    start..start + b.bytes()
                };
                prop_assert_eq!(range(&block).start % BLOCK_BYTES_MIN, 0);
                for other in &held {
                    let (a, b) = (range(&block), range(other));
                    prop_assert!(a.end <= b.start || b.end <= a.start);
                }
                held.push(block);
            }
            held.into_iter().for_each(|block| arena.give_back(block));
            prop_assert!(arena.0.lock().unwrap()[..ORDERS - 1].iter().all(BTreeSet::is_empty));
        }
    }
}
