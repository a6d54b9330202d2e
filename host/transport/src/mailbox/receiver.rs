//! The receiving end: takes slots in order, and says how far it is and what it refused.
//!
//! Invariant: nothing that the sender writes is believed. Cursors are checked when they are
//! loaded, in [`Receiver::poll`] alone; slots are copied out before anybody looks at them.

use super::layout::{self, CURSORS, PARKED, REFUSALS, SLOTS};
use super::{Full, LaneError, LaneSpec, RefusedRange};
use crate::sync::{Ordering, fence};
use crate::transport::{Line, Region, Remote, Transport};

/// The receiving end of a lane. One thread at a time; may move between threads.
pub struct Receiver<T: Transport> {
    slots: T::Remote,
    region: T::Region,
    mask: u64,
    /// Published by the sender, as last loaded.
    tail: u64,
    consumed: u64,
    settled: u64,
    published: Published,
    refusals: u64,
    /// How many refusals the sender had read, as last loaded.
    refusals_read: u64,
    /// The newest refusal: counted, but not stored yet, because it may still grow.
    newest: Option<RefusedRange>,
    parks: u64,
    is_open: bool,
    spec: LaneSpec,
}

/// What the sender can see of us.
#[derive(Default)]
struct Published {
    consumed: u64,
    settled: u64,
    refusals: u64,
}

impl<T: Transport> Receiver<T> {
    /// Opens the slots that a sender offers, makes the credit, and returns the ticket with which
    /// the sender completes the lane.
    ///
    /// # Errors
    /// [`LaneError::Slots`] and [`LaneError::Transport`]; nothing remains. What the slots contain
    /// is checked by [`open`](Receiver::open) and [`poll`](Receiver::poll).
    pub fn accept(
        transport: &T,
        slots: T::Ticket,
        spec: LaneSpec,
    ) -> Result<(Self, T::Ticket), LaneError> {
        spec.check()?;
        let slots = transport.connect(slots, layout::slot_lines(&spec))?;
        let (mut region, ticket) = transport.register(layout::CREDIT_LINES)?;
        layout::write_header(&mut region, layout::MAGIC_CREDIT, &spec);
        let receiver = Self {
            slots,
            region,
            mask: u64::from(spec.slots) - 1,
            tail: 0,
            consumed: 0,
            settled: 0,
            published: Published::default(),
            refusals: 0,
            refusals_read: 0,
            newest: None,
            parks: 0,
            is_open: false,
            spec,
        };
        Ok((receiver, ticket))
    }

    /// How many slots can be taken. The sender's cursor is loaded only when none is left from the
    /// last time, or when refusals wait for room.
    ///
    /// # Errors
    /// A [`LaneError`] that says what the sender did wrong; nothing changed here.
    #[inline]
    pub fn poll(&mut self) -> Result<u64, LaneError> {
        if self.consumed == self.tail || self.refusals - self.refusals_read == REFUSALS {
            self.load()?;
        }
        Ok(self.tail - self.consumed)
    }

    /// Whether the sender is known to be gone; what it published and is there can still be taken.
    /// Over messages word of it may overtake slots on their way, which are never acknowledged then.
    pub fn is_left(&self) -> bool {
        self.slots.is_left() || self.region.is_left()
    }

    /// Whether the sender's region was there when it was last looked at.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// A copy of a slot in `settled()..tail()`. Its content is the sender's and is not checked.
    #[inline]
    pub fn slot(&self, index: u64) -> Line {
        debug_assert!((self.settled..self.tail).contains(&index), "slot {index} is not there");
        self.slots.get(self.line(index))
    }

    /// Takes the next `count` slots. Seen by the sender after [`publish`](Receiver::publish).
    ///
    /// # Panics
    /// If the last poll did not find so many: the caller's own doing, never the peer's.
    #[inline]
    pub fn consume(&mut self, count: u64) {
        assert!(count <= self.tail - self.consumed, "consumed more than there is");
        self.consumed += count;
    }

    /// Refuses slots in `settled()..tail()`, before they are settled. A refusal that continues the
    /// one before for the same reason grows it while it is unpublished.
    ///
    /// # Errors
    /// [`Full`]: the sender has not read its refusals. Nothing was noted; do not consume or
    /// settle these slots, publish, and try again after a poll.
    ///
    /// # Panics
    /// If the slots are not there to be refused: the caller's own doing.
    pub fn refuse(&mut self, first: u64, count: u32, reason: u16) -> Result<(), Full> {
        assert!(count > 0 && first >= self.settled, "refused after it was settled");
        assert!(
            first < self.tail && u64::from(count) <= self.tail - first,
            "refused what was never sent"
        );
        if let Some(newest) = &mut self.newest
            && newest.end() == first
            && newest.reason == reason
        {
            // All of it is unsettled, so within one turn of the ring: the sum fits.
            newest.count += count;
            return Ok(());
        }
        if self.refusals - self.refusals_read == REFUSALS {
            return Err(Full);
        }
        self.store_newest();
        self.refusals += 1;
        self.newest = Some(RefusedRange { first, count, reason });
        Ok(())
    }

    /// Declares the slots below `upto` final: stored as the lane promises, or refused.
    ///
    /// # Panics
    /// If `upto` is not in `settled()..=consumed()`: the caller's own doing.
    #[inline]
    pub fn settle(&mut self, upto: u64) {
        assert!(upto <= self.consumed, "settled before it was consumed");
        assert!(upto >= self.settled, "settled backwards");
        self.settled = upto;
    }

    /// Shows the sender what changed: refusals first, then `consumed`, then `settled`. Cheap when
    /// nothing did.
    #[inline]
    pub fn publish(&mut self) {
        if self.published.refusals != self.refusals {
            self.store_newest();
            self.region.fence();
            self.region.store(CURSORS, layout::REFUSAL_TAIL, self.refusals);
            self.published.refusals = self.refusals;
        }
        if self.published.consumed != self.consumed {
            self.region.fence();
            self.region.store(CURSORS, layout::CONSUMED, self.consumed);
            self.published.consumed = self.consumed;
        }
        if self.published.settled != self.settled {
            self.region.fence();
            self.region.store(CURSORS, layout::SETTLED, self.settled);
            self.published.settled = self.settled;
        }
    }

    /// Says whether this receiver is about to sleep. After `true`, poll once more before sleeping:
    /// a sender that published just before has not rung. Say `false` on waking.
    pub fn set_parked(&mut self, is_parked: bool) {
        self.parks += u64::from(is_parked);
        self.region.fence();
        self.region.store(PARKED, 0, self.parks << 1 | u64::from(is_parked));
        if is_parked {
            // Pairs with the fence in `Sender::publish`.
            fence(Ordering::SeqCst);
        }
    }

    /// Whether the sender's region is there and is the one agreed. [`poll`](Receiver::poll) asks
    /// by itself.
    ///
    /// # Errors
    /// [`LaneError::Magic`], `Version`, `Geometry` or `Nonce`.
    pub fn open(&mut self) -> Result<bool, LaneError> {
        self.region.go_on();
        if !self.is_open {
            self.is_open = layout::check_header(&self.slots, layout::MAGIC_SLOTS, &self.spec)?;
        }
        Ok(self.is_open)
    }

    /// Slots below this were published, as far as the last poll saw.
    #[inline]
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Slots below this were taken; the next one to take.
    #[inline]
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Slots below this are final.
    #[inline]
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Capacity in slots.
    #[inline]
    pub fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// Nonce and capacity of the lane.
    #[inline]
    pub fn spec(&self) -> LaneSpec {
        self.spec
    }

    fn store_newest(&mut self) {
        if let Some(newest) = self.newest.take() {
            let (line, word) = layout::refusal(self.refusals - 1);
            let (first, rest) = newest.to_words();
            self.region.store(line, word, first);
            self.region.store(line, word + 1, rest);
        }
    }

    fn load(&mut self) -> Result<(), LaneError> {
        if !self.open()? {
            return Ok(());
        }
        let tail = self.slots.load(CURSORS, layout::TAIL);
        let settled = self.published.settled;
        // `self.tail >= settled`, so a tail that did not go back can be subtracted from.
        if tail < self.tail || tail - settled > self.capacity() {
            return Err(LaneError::Tail { found: tail, seen: self.tail, settled });
        }
        let refusals_read = self.slots.load(CURSORS, layout::REFUSAL_HEAD);
        if refusals_read < self.refusals_read || refusals_read > self.published.refusals {
            let (found, seen) = (refusals_read, self.refusals_read);
            return Err(LaneError::RefusalCursor { found, seen });
        }
        self.tail = tail;
        self.refusals_read = refusals_read;
        Ok(())
    }

    #[inline]
    fn line(&self, index: u64) -> usize {
        SLOTS + (index & self.mask) as usize
    }
}
