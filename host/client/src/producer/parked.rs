//! What waits for a partition that is stopped.

use super::outlet::Outlet;
use std::collections::VecDeque;
use zepto_core::defect::Defect;
use zepto_core::slot::{self, Slot};
use zepto_core::time::Nanos;
use zepto_transport::Transport;

/// Ticks of one stopped partition, in order: first those that have a number, then those that get
/// one when they are sent.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Sent before, and to be sent again with the number they have.
    pub sent: VecDeque<Slot>,
    /// Never sent.
    pub fresh: VecDeque<Slot>,
    /// Not before this lane has settled everything below this index.
    pub until: Option<(u16, u64)>,
    /// Not before this time, or a view beyond this index: who refused may not know yet.
    pub after: Option<(Nanos, u64)>,
    /// The partition's last number, once the lane above has judged what was behind a refused tick.
    pub rewind: Option<u64>,
}

impl Parked {
    /// Takes back ticks that were sent. They come from several lanes in the worst case; their
    /// numbers put them in order.
    pub fn put_back(&mut self, slots: Vec<Slot>) {
        self.sent.extend(slots);
        let newest = self.sent.back().map_or(0, |slot| slot::producer_of(slot).1);
        let age = |slot: &Slot| newest.wrapping_sub(slot::producer_of(slot).1) as i32;
        self.sent.make_contiguous().sort_by_key(|slot| core::cmp::Reverse(age(slot)));
    }

    /// Sends as much as the lane has room for; returns how many.
    pub fn send<T: Transport>(&mut self, outlet: &mut Outlet<T>, sequence: &mut u64) -> usize {
        let mut sent = 0;
        if Defect::ResendOutOfOrder.planted() {
            self.sent.make_contiguous().reverse();
        }
        while let Some(slot) = self.sent.front() {
            if outlet.push(slot).is_err() {
                return sent;
            }
            self.sent.pop_front();
            sent += 1;
        }
        while let Some(slot) = self.fresh.front() {
            let mut slot = *slot;
            slot[0] = slot::producer_word(0, (*sequence + 1) as u32);
            if outlet.push(&slot).is_err() {
                return sent;
            }
            *sequence += 1;
            self.fresh.pop_front();
            sent += 1;
        }
        sent
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.fresh.is_empty() && self.until.is_none()
    }
}
