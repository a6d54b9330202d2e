//! The sending end of a lane, over the transport or through an RPC connection: one branch, and the
//! same cursor either way. Producers send through it, and owners to their replicas.

use super::outlet::Ring;
use zepto_core::Incarnation;
use zepto_core::slot::Slot;
use zepto_core::view::Destination;
use zepto_transport::{Cursors, Full, Heap, LaneError, RefusedRange, Sender, Transport};

/// A sending end.
pub enum Link<T: Transport> {
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
    /// Wakes a receiver that sleeps.
    pub ring: Option<Ring>,
    /// Whether the receiver is known to be gone.
    pub hung_up: Option<Box<dyn Fn() -> bool + Send>>,
}

macro_rules! either {
    ($self:expr, $lane:ident => $body:expr) => {
        match $self {
            Link::Peer($lane) => $body,
            Link::Door($lane) => $body,
        }
    };
}

/// As the methods of [`Sender`] of the same names.
impl<T: Transport> Link<T> {
    /// Writes a slot.
    ///
    /// # Errors
    /// Nothing was written: every slot waits for its release.
    #[inline(always)]
    pub fn push(&mut self, slot: &Slot) -> Result<u64, Full> {
        either!(self, lane => lane.push(slot))
    }

    /// Writes a slot, with another first word, if that is all there is to do. Never over RPC.
    #[inline(always)]
    pub fn push_plainly(&mut self, first: u64, slot: &Slot) -> bool {
        match self {
            Self::Peer(lane) => lane.push_plainly(first, slot),
            Self::Door(_) => false,
        }
    }

    /// Publishes what was pushed; true if the bell must be rung.
    #[inline]
    #[must_use = "true means that the bell must be rung"]
    pub fn publish(&mut self) -> bool {
        either!(self, lane => lane.publish())
    }

    /// Whether the bell must be rung for what was published before.
    #[inline]
    #[must_use = "true means that the bell must be rung"]
    pub fn bell_due(&mut self) -> bool {
        either!(self, lane => lane.bell_due())
    }

    /// Reads how far the receiver is.
    ///
    /// # Errors
    /// What it did wrong.
    pub fn poll(&mut self) -> Result<Cursors, LaneError> {
        either!(self, lane => lane.poll())
    }

    /// The next refusal that the last poll found.
    ///
    /// # Errors
    /// What the receiver did wrong.
    pub fn next_refusal(&mut self) -> Result<Option<RefusedRange>, LaneError> {
        either!(self, lane => lane.next_refusal())
    }

    /// Whether refusals that were read have to be followed by the bell: the task that empties an
    /// RPC lane's ring may hold more back than there was room for, and sleeps.
    pub fn holds_refusals(&self) -> bool {
        matches!(self, Self::Door(_))
    }

    /// Whether the receiver is known to be gone.
    pub fn is_left(&self) -> bool {
        either!(self, lane => lane.is_left())
    }

    /// Gives slots up for reuse.
    #[inline]
    pub fn release(&mut self, upto: u64) {
        either!(self, lane => lane.release(upto));
    }

    /// A slot of the window.
    #[inline]
    pub fn slot(&self, index: u64) -> Option<Slot> {
        either!(self, lane => lane.slot(index))
    }

    /// Slots that can be pushed before the lane is full.
    #[inline(always)]
    pub fn room(&self) -> u64 {
        either!(self, lane => lane.room())
    }

    /// Index of the next slot.
    #[inline(always)]
    pub fn head(&self) -> u64 {
        either!(self, lane => lane.head())
    }

    /// Slots below this are published.
    #[inline]
    pub fn tail(&self) -> u64 {
        either!(self, lane => lane.tail())
    }

    /// Slots below this are given up.
    #[inline]
    pub fn released(&self) -> u64 {
        either!(self, lane => lane.released())
    }

    /// Capacity in slots.
    #[inline]
    pub fn capacity(&self) -> u64 {
        either!(self, lane => lane.capacity())
    }
}
