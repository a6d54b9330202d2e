//! One lane of a producer: pushes slots, reads the credit, and gives back what must be sent again.
//!
//! The lane's slots are the producer's window. A slot is reused only after it settled *and* the
//! refusals before that were read, so a refused tick can always be copied out.

use super::link::{Link, Opened};
use super::parked::Waiting;
use super::tickets::Tickets;
use std::collections::BTreeSet;
use zepto_core::slot::{self, Control, Slot};
use zepto_core::view::Destination;
use zepto_core::{Incarnation, ProducerId, Refusal};
use zepto_transport::{Cursors, Full, LaneError, Transport};

/// Sees every tick that is acknowledged.
pub type Observer = Box<dyn FnMut(&Slot) + Send>;

/// What happened to a slot, as its receiver says.
pub(super) struct Verdict {
    pub index: u64,
    pub tick: Waiting,
    pub reason: Refusal,
}

pub(super) struct Outlet<T: Transport> {
    pub to: Destination,
    pub incarnation: Incarnation,
    link: Link<T>,
    /// Slots that no longer count for this lane: refused, or taken back to be sent elsewhere.
    excluded: BTreeSet<u64>,
    /// Names of the producer that the lane knows.
    introduced: u32,
    settled: u64,
    /// By index, as far as the lane is long: each tick's ticket, if there are any.
    tickets: Option<Box<[u64]>>,
}

impl<T: Transport> Outlet<T> {
    /// Takes over an opened lane and introduces the producer in its first slots.
    pub fn new(opened: Opened<T>, names: &[ProducerId], has_tickets: bool) -> Result<Self, Full> {
        let Opened { to, incarnation, link } = opened;
        let tickets = has_tickets.then(|| vec![0; link.capacity() as usize].into_boxed_slice());
        let (excluded, introduced, settled) = (BTreeSet::new(), 0, 0);
        let mut outlet = Self { to, incarnation, link, excluded, introduced, settled, tickets };
        outlet.introduce(names)?;
        Ok(outlet)
    }

    /// Introduces those names of the producer that the lane does not know yet.
    pub fn introduce(&mut self, names: &[ProducerId]) -> Result<(), Full> {
        for &producer in names.get(self.introduced as usize..).unwrap_or_default() {
            let bind = Control::BindProducer { index: self.introduced, producer }.slot();
            let index = self.push(&bind)?;
            self.excluded.insert(index);
            self.introduced += 1;
        }
        Ok(())
    }

    #[inline(always)]
    pub fn push(&mut self, slot: &Slot) -> Result<u64, Full> {
        self.link.push(slot)
    }

    /// Pushes a tick, with another first word, if that is all there is to do, and there are no
    /// tickets.
    #[inline(always)]
    pub fn push_plainly(&mut self, first: u64, slot: &Slot) -> bool {
        self.tickets.is_none() && self.link.push_plainly(first, slot)
    }

    /// Pushes a tick with its ticket, which is none without tickets.
    #[inline]
    pub fn push_waiting(&mut self, tick: &Waiting) -> Result<(), Full> {
        let index = self.push(&tick.slot)?;
        self.mark(index, tick.ticket);
        Ok(())
    }

    /// Notes the ticket of a slot.
    #[inline(always)]
    pub fn mark(&mut self, index: u64, ticket: u64) {
        if let Some(tickets) = &mut self.tickets {
            let mask = tickets.len() - 1;
            tickets[index as usize & mask] = ticket;
        }
    }

    /// A slot of the window, with its ticket.
    fn waiting(&self, index: u64) -> Option<Waiting> {
        let slot = self.slot(index)?;
        let tickets = self.tickets.as_ref();
        let ticket = tickets.map_or(0, |tickets| tickets[index as usize & (tickets.len() - 1)]);
        Some(Waiting { slot, ticket })
    }

    /// Publishes what was pushed, and wakes the receiver if it sleeps.
    pub fn publish(&mut self) {
        self.link.publish();
    }

    /// Wakes a receiver that fell asleep over what was published on its own along the way, or that
    /// waits for its refusals to be read.
    pub fn wake(&mut self) {
        self.link.wake();
    }

    /// Reads cursors and refusals. Every refusal goes to `refused`; slots that are excluded already
    /// are not told again. Nothing is given free before [`Outlet::release`].
    pub fn hear(
        &mut self,
        mut refused: impl FnMut(&mut Self, Verdict),
    ) -> Result<Cursors, LaneError> {
        // Cursors first: whatever they pass was refused before.
        let cursors = self.link.poll()?;
        while let Some(range) = self.link.next_refusal()? {
            // A code of a later version is still a refusal.
            let reason = Refusal::from_code(range.reason).unwrap_or(Refusal::Malformed);
            for index in range.first..range.end() {
                let kept = self.waiting(index).filter(|tick| !slot::is_control(&tick.slot));
                if let Some(tick) = kept.filter(|_| !self.excluded.contains(&index)) {
                    refused(self, Verdict { index, tick, reason });
                }
            }
        }
        Ok(cursors)
    }

    /// Gives free what is final, once all that was refused of it is taken out. Every tick that
    /// settled goes to `observer` and to `tickets`, if they are there. Returns how many those are.
    pub fn release(
        &mut self,
        cursors: Cursors,
        observer: &mut Option<Observer>,
        tickets: &mut Option<Tickets>,
    ) -> u64 {
        self.settled = cursors.settled;
        let before = self.link.released();
        if observer.is_some() || tickets.is_some() {
            let settled = (before..cursors.settled).filter(|index| !self.excluded.contains(index));
            for tick in settled.filter_map(|index| self.waiting(index)) {
                if let Some(observer) = observer {
                    observer(&tick.slot);
                }
                if let Some(tickets) = tickets {
                    tickets.acknowledge(tick.ticket);
                }
            }
        }
        let kept = self.excluded.split_off(&cursors.settled);
        let excluded = core::mem::replace(&mut self.excluded, kept).len() as u64;
        self.link.release(cursors.settled);
        cursors.settled - before - excluded
    }

    /// Takes a slot out of this lane's account.
    pub fn exclude(&mut self, index: u64) {
        self.excluded.insert(index);
    }

    /// Ticks from an index on that still count for this lane, oldest first, and takes them out
    /// when `take` says so, which sees each with its index.
    pub fn take_back(&mut self, from: u64, mut take: impl FnMut(u64, &Waiting) -> bool) {
        let released = self.link.released();
        for index in from.max(released)..self.head() {
            let Some(tick) = self.waiting(index) else { continue };
            let counts = !slot::is_control(&tick.slot) && !self.excluded.contains(&index);
            if counts && take(index, &tick) {
                self.excluded.insert(index);
            }
        }
    }

    /// Ticks in the lane that are not settled and still count for it.
    pub fn in_flight(&self) -> u64 {
        let released = self.link.released();
        self.head() - released - self.excluded.len() as u64
    }

    pub fn head(&self) -> u64 {
        self.link.head()
    }

    /// Slots below this are final.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    pub fn is_hung_up(&self) -> bool {
        self.link.is_left()
    }

    fn slot(&self, index: u64) -> Option<Slot> {
        self.link.slot(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use zepto_core::NodeId;
    use zepto_transport::Heap;
    use zepto_transport::mailbox::{LaneSpec, lane};

    /// The task behind an RPC lane's ring passes refusals on as far as there is room, and sleeps.
    /// When more of them came at once, their producer had nothing to send, and nobody woke it.
    #[test]
    fn the_task_of_an_rpc_lane_hears_that_refusals_were_read() {
        let (sender, mut receiver) = lane(&Heap, &Heap, LaneSpec { nonce: 1, slots: 8 }).unwrap();
        let rung = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&rung);
        let ring = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let opened: Opened<Heap> = Opened {
            to: Destination { node: NodeId(1), shard: 0 },
            incarnation: Incarnation(1),
            link: Link::door(sender, ring, Box::new(|| false)),
        };
        let mut outlet = Outlet::new(opened, &[], false).unwrap();
        outlet.push(&[0; 8]).unwrap();
        outlet.publish();
        assert_eq!(receiver.poll().unwrap(), 1);
        receiver.refuse(0, 1, Refusal::NotEnoughCopies.code()).unwrap();
        receiver.consume(1);
        receiver.publish();
        let mut refused = 0;
        outlet.hear(|_, _| refused += 1).unwrap();
        outlet.wake();
        assert_eq!((refused, rung.load(Ordering::Relaxed)), (1, 1));
        outlet.hear(|_, _| refused += 1).unwrap();
        outlet.wake();
        assert_eq!((refused, rung.load(Ordering::Relaxed)), (1, 1), "nothing new, no bell");
    }
}
