//! The sending end of a lane, over the transport or through an RPC connection: one branch, and the
//! same cursor either way. Producers send through it, and owners to their replicas.

use zepto_core::Incarnation;
use zepto_core::slot::Slot;
use zepto_core::view::Destination;
use zepto_transport::{Cursors, Full, Heap, LaneError, RefusedRange, Sender, Transport};

/// Rings the receiver's bell.
pub type Ring = Box<dyn Fn() + Send>;

/// Whether the receiver is known to be gone.
pub type HungUp = Box<dyn Fn() -> bool + Send>;

/// A sending end, and what wakes its receiver.
pub struct Link<T: Transport> {
    end: End<T>,
    ring: Option<Ring>,
    hung_up: Option<HungUp>,
    /// Refusals were read through an RPC connection since its task was woken: it may hold more back
    /// than there was room for, and sleeps.
    has_heard: bool,
}

enum End<T: Transport> {
    /// One-sided, over the transport.
    Peer(Sender<T>),
    /// A ring in this process that an RPC connection empties.
    Door(Sender<Heap>),
}

/// An open lane, as [`super::Lanes`] hands it over.
pub struct Opened<T: Transport> {
    /// Where it leads.
    pub to: Destination,
    /// The incarnation it was opened to.
    pub incarnation: Incarnation,
    /// Its sending end.
    pub link: Link<T>,
}

macro_rules! either {
    ($end:expr, $lane:ident => $body:expr) => {
        match $end {
            End::Peer($lane) => $body,
            End::Door($lane) => $body,
        }
    };
}

impl<T: Transport> Link<T> {
    /// Over the transport. Without a bell, the receiver looks again by itself after a while;
    /// without `hung_up`, the transport alone says whether it is gone.
    pub fn peer(sender: Sender<T>, ring: Option<Ring>, hung_up: Option<HungUp>) -> Self {
        Self { end: End::Peer(sender), ring, hung_up, has_heard: false }
    }

    /// Through an RPC connection, whose task is woken by `ring`.
    pub fn door(sender: Sender<Heap>, ring: Ring, hung_up: HungUp) -> Self {
        let (ring, hung_up) = (Some(ring), Some(hung_up));
        Self { end: End::Door(sender), ring, hung_up, has_heard: false }
    }

    /// Publishes what was pushed, and wakes the receiver if it sleeps.
    #[inline]
    pub fn publish(&mut self) {
        let is_due = either!(&mut self.end, lane => lane.publish());
        self.ring_if(is_due);
    }

    /// Wakes the receiver if it fell asleep over what was published before, or if refusals were
    /// read that it waits for.
    #[inline]
    pub fn wake(&mut self) {
        let has_heard = core::mem::take(&mut self.has_heard);
        let is_due = either!(&mut self.end, lane => lane.bell_due());
        self.ring_if(is_due || has_heard);
    }

    #[inline]
    fn ring_if(&self, is_due: bool) {
        if let Some(ring) = self.ring.as_ref().filter(|_| is_due) {
            ring();
        }
    }

    /// The next refusal that the last poll found. [`Link::wake`] follows the last one.
    ///
    /// # Errors
    /// What the receiver did wrong.
    pub fn next_refusal(&mut self) -> Result<Option<RefusedRange>, LaneError> {
        match &mut self.end {
            End::Peer(lane) => lane.next_refusal(),
            End::Door(lane) => {
                let refusal = lane.next_refusal()?;
                self.has_heard |= refusal.is_some();
                Ok(refusal)
            }
        }
    }

    /// Writes a slot, with another first word, if that is all there is to do. Never over RPC.
    #[inline(always)]
    pub fn push_plainly(&mut self, first: u64, slot: &Slot) -> bool {
        match &mut self.end {
            End::Peer(lane) => lane.push_plainly(first, slot),
            End::Door(_) => false,
        }
    }

    /// Whether the receiver is known to be gone.
    pub fn is_left(&self) -> bool {
        let is_left = either!(&self.end, lane => lane.is_left());
        is_left || self.hung_up.as_ref().is_some_and(|hung_up| hung_up())
    }
}

/// As the methods of [`Sender`] of the same names.
impl<T: Transport> Link<T> {
    /// Writes a slot.
    ///
    /// # Errors
    /// Nothing was written: every slot waits for its release.
    #[inline(always)]
    pub fn push(&mut self, slot: &Slot) -> Result<u64, Full> {
        either!(&mut self.end, lane => lane.push(slot))
    }

    /// Reads how far the receiver is.
    ///
    /// # Errors
    /// What it did wrong.
    pub fn poll(&mut self) -> Result<Cursors, LaneError> {
        either!(&mut self.end, lane => lane.poll())
    }

    /// Gives slots up for reuse.
    #[inline]
    pub fn release(&mut self, upto: u64) {
        either!(&mut self.end, lane => lane.release(upto));
    }

    /// A slot of the window.
    #[inline]
    pub fn slot(&self, index: u64) -> Option<Slot> {
        either!(&self.end, lane => lane.slot(index))
    }

    /// Slots that can be pushed before the lane is full.
    #[inline(always)]
    pub fn room(&self) -> u64 {
        either!(&self.end, lane => lane.room())
    }

    /// Index of the next slot.
    #[inline(always)]
    pub fn head(&self) -> u64 {
        either!(&self.end, lane => lane.head())
    }

    /// Slots below this are published.
    #[inline]
    pub fn tail(&self) -> u64 {
        either!(&self.end, lane => lane.tail())
    }

    /// Slots below this are given up.
    #[inline]
    pub fn released(&self) -> u64 {
        either!(&self.end, lane => lane.released())
    }

    /// Capacity in slots.
    #[inline]
    pub fn capacity(&self) -> u64 {
        either!(&self.end, lane => lane.capacity())
    }
}
