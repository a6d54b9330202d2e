//! The sending end: writes slots, publishes them, and keeps them until they are released.
//!
//! Invariant: a push touches only memory that this side writes. The peer's memory is read in
//! [`Sender::poll`] and, one word that seldom changes, in [`Sender::publish`].

use zepto_core::limits::PUBLISH_EVERY;

use super::layout::{self, CURSORS, PARKED, REFUSALS, SLOTS};
use super::{Cursors, Full, LaneError, LaneSpec, RefusedRange};
use crate::sync::{Ordering, fence};
use crate::transport::{Line, Region, Remote, Transport};

/// The sending end of a lane. One thread at a time; may move between threads.
pub struct Sender<T: Transport> {
    region: T::Region,
    credit: T::Remote,
    mask: u64,
    /// Next slot to write.
    head: u64,
    /// First slot that may not be written yet: released + capacity.
    limit: u64,
    /// Published.
    tail: u64,
    /// Published and, with a full fence, shown to a receiver that might be parked.
    announced: u64,
    /// The last value of `parked` that we rang for.
    rung: u64,
    seen: Cursors,
    refusals_seen: u64,
    refusals_read: u64,
    refusals_acked: u64,
    is_open: bool,
    spec: LaneSpec,
}

/// A sender whose receiver has not answered yet.
pub struct Offer<T: Transport> {
    region: T::Region,
    spec: LaneSpec,
}

impl<T: Transport> Offer<T> {
    /// Completes the lane with the receiver's answer.
    ///
    /// # Errors
    /// [`LaneError::Transport`]: the answer cannot be connected to. The lane is gone.
    pub fn complete(self, transport: &T, credit: T::Ticket) -> Result<Sender<T>, LaneError> {
        let Self { region, spec } = self;
        let slots = u64::from(spec.slots);
        Ok(Sender {
            region,
            credit: transport.connect(credit, layout::CREDIT_LINES)?,
            mask: slots - 1,
            head: 0,
            limit: slots,
            tail: 0,
            announced: 0,
            rung: 0,
            seen: Cursors::default(),
            refusals_seen: 0,
            refusals_read: 0,
            refusals_acked: 0,
            is_open: false,
            spec,
        })
    }
}

impl<T: Transport> Sender<T> {
    /// Makes the slots and the ticket with which the receiver opens them.
    ///
    /// # Errors
    /// [`LaneError::Slots`] and [`LaneError::Transport`]; nothing remains.
    pub fn offer(transport: &T, spec: LaneSpec) -> Result<(Offer<T>, T::Ticket), LaneError> {
        spec.check()?;
        let (mut region, ticket) = transport.register(layout::slot_lines(&spec))?;
        layout::write_header(&mut region, layout::MAGIC_SLOTS, &spec);
        Ok((Offer { region, spec }, ticket))
    }

    /// Writes one slot and returns its index. The receiver sees it after the next publication,
    /// which happens by itself every [`PUBLISH_EVERY`] slots; but only
    /// [`publish`](Sender::publish) tells whether a sleeping receiver needs the bell.
    ///
    /// # Errors
    /// [`Full`]: every slot waits for its release. Nothing was written. Publish, poll, release,
    /// and try again.
    #[inline(always)]
    pub fn push(&mut self, slot: &Line) -> Result<u64, Full> {
        let index = self.head;
        if index == self.limit {
            return Err(Full);
        }
        self.region.write(self.line(index), slot);
        self.head = index + 1;
        if self.head - self.tail >= PUBLISH_EVERY {
            self.publish_tail();
        }
        Ok(index)
    }

    /// Writes one slot, with another first word, if that is all there is to do: there is room, and
    /// the slot is not one that would be published by itself. If not, nothing happened, and
    /// [`push`](Sender::push) says why. It neither calls nor panics, so that a function made of it
    /// needs no stack frame.
    #[inline(always)]
    pub fn push_plainly(&mut self, first: u64, slot: &Line) -> bool {
        let line = self.line(self.head);
        let is_plain = self.head != self.limit && self.head - self.tail < PUBLISH_EVERY - 1;
        // Every line is within the region; but only if this says so, nothing else has to.
        if !is_plain || line >= self.region.lines() {
            return false;
        }
        self.region.write_with(line, first, slot);
        self.head += 1;
        true
    }

    /// Publishes whatever was pushed. True if the receiver sleeps and has not been rung for since
    /// it lay down: the caller then rings the bell. Cheap when there is nothing new.
    ///
    /// Call it after every batch, and before waiting for anything.
    #[inline]
    #[must_use = "true means that the bell must be rung"]
    pub fn publish(&mut self) -> bool {
        if self.tail != self.head {
            self.publish_tail();
        }
        if self.announced == self.tail {
            return false;
        }
        self.announced = self.tail;
        // Pairs with the fence in `Receiver::set_parked`: either we see `parked`, or the receiver
        // sees `tail` in the poll that follows it.
        fence(Ordering::SeqCst);
        self.bell_due()
    }

    /// True if the receiver sleeps, has not taken everything published, and has not been rung for
    /// since it lay down. [`publish`](Sender::publish) asks this itself; ask again after a
    /// [`poll`](Sender::poll) over a transport whose stores take time to arrive.
    #[inline]
    #[must_use = "true means that the bell must be rung"]
    pub fn bell_due(&mut self) -> bool {
        let parked = self.credit.load(PARKED, 0);
        let due = parked & 1 == 1 && parked != self.rung && self.seen.consumed != self.tail;
        if due {
            self.rung = parked;
        }
        due
    }

    /// Reads how far the receiver is. Until the receiver's region is there, it stays at zero.
    ///
    /// # Errors
    /// A [`LaneError`] that says what the receiver did wrong; nothing changed here.
    pub fn poll(&mut self) -> Result<Cursors, LaneError> {
        if !self.open()? {
            return Ok(self.seen);
        }
        // The opposite order of the receiver's stores, so that a `settled` comes with a
        // `consumed` and with refusals at least as new.
        let settled = self.credit.load(CURSORS, layout::SETTLED);
        let consumed = self.credit.load(CURSORS, layout::CONSUMED);
        let refusals = self.credit.load(CURSORS, layout::REFUSAL_TAIL);
        let forward = settled >= self.seen.settled && consumed >= self.seen.consumed;
        if !forward || settled > consumed || consumed > self.tail {
            return Err(LaneError::Credit { consumed, settled, tail: self.tail });
        }
        if refusals < self.refusals_seen || refusals - self.refusals_acked > REFUSALS {
            return Err(LaneError::RefusalCursor { found: refusals, seen: self.refusals_seen });
        }
        self.seen = Cursors { consumed, settled };
        self.refusals_seen = refusals;
        self.ack_refusals();
        Ok(self.seen)
    }

    /// The next refusal of those that the last [`poll`](Sender::poll) found, in the order in which
    /// the receiver made them. The slots it names can be read until they are released.
    ///
    /// # Errors
    /// [`LaneError::Refusal`]: the receiver wrote nonsense; the refusal stays where it is.
    pub fn next_refusal(&mut self) -> Result<Option<RefusedRange>, LaneError> {
        if self.refusals_read == self.refusals_seen {
            self.ack_refusals();
            return Ok(None);
        }
        let (line, word) = layout::refusal(self.refusals_read);
        let first = self.credit.load(line, word);
        let rest = self.credit.load(line, word + 1);
        let (released, tail) = (self.released(), self.tail);
        let refused = RefusedRange::from_words(first, rest)
            .filter(|range| (released..tail).contains(&range.first))
            .filter(|range| u64::from(range.count) <= tail - range.first)
            .ok_or(LaneError::Refusal { released, tail })?;
        self.refusals_read += 1;
        Ok(Some(refused))
    }

    /// Gives the slots below `upto` up for reuse.
    ///
    /// # Panics
    /// If `upto` is not in `released()..=settled`, as the last poll saw it, or if refusals found
    /// by that poll are unread: the refused slots would be lost. All three are the caller's own
    /// doing, never the peer's.
    #[inline]
    pub fn release(&mut self, upto: u64) {
        assert!(upto <= self.seen.settled, "released before it was settled");
        assert!(upto >= self.released(), "released backwards");
        assert!(self.refusals_read == self.refusals_seen, "released with refusals unread");
        self.limit = upto + self.capacity();
    }

    /// A slot of the window, `released()..head()`; `None` outside. Works when the peer is dead.
    #[inline]
    pub fn slot(&self, index: u64) -> Option<Line> {
        let is_kept = (self.released()..self.head).contains(&index);
        is_kept.then(|| self.region.read(self.line(index)))
    }

    /// Whether the receiver's region is there and is the one agreed. [`poll`](Sender::poll) asks
    /// by itself.
    ///
    /// # Errors
    /// [`LaneError::Magic`], `Version`, `Geometry` or `Nonce`.
    #[inline]
    pub fn open(&mut self) -> Result<bool, LaneError> {
        self.region.go_on();
        if !self.is_open {
            self.is_open = layout::check_header(&self.credit, layout::MAGIC_CREDIT, &self.spec)?;
        }
        Ok(self.is_open)
    }

    /// Whether the receiver is known to be gone.
    pub fn is_left(&self) -> bool {
        self.region.is_left() || self.credit.is_left()
    }

    /// Slots that can be pushed before the lane is full.
    #[inline]
    pub fn room(&self) -> u64 {
        self.limit - self.head
    }

    /// Index of the next slot to be pushed.
    #[inline]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Slots below this are published.
    #[inline]
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Slots below this are given up.
    #[inline]
    pub fn released(&self) -> u64 {
        self.limit - self.capacity()
    }

    /// How far the receiver was at the last poll.
    #[inline]
    pub fn cursors(&self) -> Cursors {
        self.seen
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

    /// Out of line, so that a push, of which one in many comes here, stays small.
    #[inline(never)]
    fn publish_tail(&mut self) {
        let (first, last) = (self.line(self.tail), self.line(self.head - 1));
        // At most one turn of the ring is unpublished, so it wraps exactly if the last line is
        // lower.
        if first <= last {
            self.region.put(first..last + 1);
        } else {
            self.region.put(first..SLOTS + self.mask as usize + 1);
            self.region.put(SLOTS..last + 1);
        }
        self.region.fence();
        self.region.store(CURSORS, layout::TAIL, self.head);
        self.tail = self.head;
    }

    fn ack_refusals(&mut self) {
        if self.refusals_acked != self.refusals_read {
            self.region.fence();
            self.region.store(CURSORS, layout::REFUSAL_HEAD, self.refusals_read);
            self.refusals_acked = self.refusals_read;
        }
    }

    #[inline(always)]
    fn line(&self, index: u64) -> usize {
        SLOTS + (index & self.mask) as usize
    }
}
