//! What waits for a partition that is stopped.

use super::Stream;
use super::outlet::Outlet;
use std::collections::VecDeque;
use zepto_core::defect::Defect;
use zepto_core::slot::{self, Slot};
use zepto_core::time::Nanos;
use zepto_transport::Transport;

/// A tick that is not in a lane, or is taken out of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub slot: Slot,
    /// Its ticket; of no meaning where there are none.
    pub ticket: u64,
}

/// Ticks of one stopped partition, in order: first those that have a number, then those that get
/// one when they are sent.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Sent before, and to be sent again with the number they have.
    pub sent: VecDeque<Waiting>,
    /// Never sent.
    pub fresh: VecDeque<Waiting>,
    /// Not before this lane has settled everything below this index.
    pub until: Option<(u16, u64)>,
    /// The lane that took part of it before it was full: the rest must not overtake that part.
    pub begun: Option<u16>,
    /// Not before this time, or a view beyond this index: who refused may not know yet.
    pub after: Option<(Nanos, u64)>,
    /// The partition's last number, once the lane above has judged what was behind a refused tick
    /// and, if the partition begins anew, what was before it.
    pub rewind: Option<u64>,
    /// Instead of that number, the partition begins anew under another name.
    pub anew: bool,
}

impl Parked {
    /// Takes back ticks that were sent. They come from several lanes in the worst case; their
    /// numbers put them in order.
    pub fn put_back(&mut self, ticks: Vec<Waiting>) {
        self.sent.extend(ticks);
        self.sent.make_contiguous().sort_by(|a, b| {
            let (name_a, a) = slot::producer_of(&a.slot);
            let (name_b, b) = slot::producer_of(&b.slot);
            // Numbers of one window, of which the lane carries the low half.
            name_a.cmp(&name_b).then((a.wrapping_sub(b) as i32).cmp(&0))
        });
    }

    /// Drops what was sent with numbers beyond one, and gives it. What has a lower number was not
    /// refused: it is sent again.
    pub fn drop_behind(&mut self, number: u64) -> Vec<Waiting> {
        let beyond =
            |tick: &Waiting| slot::producer_of(&tick.slot).1.wrapping_sub(number as u32) as i32 > 0;
        let dropped = self.sent.iter().filter(|tick| beyond(tick)).copied().collect();
        self.sent.retain(|tick| !beyond(tick));
        dropped
    }

    /// Sends again what was sent before, as far as the lane has room; returns how many.
    pub fn send_again<T: Transport>(&mut self, outlet: &mut Outlet<T>) -> usize {
        if Defect::ResendOutOfOrder.planted() {
            self.sent.make_contiguous().reverse();
        }
        let mut sent = 0;
        while let Some(tick) = self.sent.front() {
            if outlet.push_waiting(tick).is_err() {
                break;
            }
            self.sent.pop_front();
            sent += 1;
        }
        sent
    }

    /// Numbers and sends what was never sent, as far as the lane has room; returns how many.
    pub fn send_first<T: Transport>(
        &mut self,
        outlet: &mut Outlet<T>,
        stream: &mut Stream,
    ) -> usize {
        let mut sent = 0;
        while let Some(tick) = self.fresh.front() {
            let mut tick = *tick;
            tick.slot[0] = slot::producer_word(stream.name, (stream.sequence + 1) as u32);
            if outlet.push_waiting(&tick).is_err() {
                break;
            }
            stream.sequence += 1;
            self.fresh.pop_front();
            sent += 1;
        }
        sent
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
            && self.fresh.is_empty()
            && self.until.is_none()
            && self.rewind.is_none()
    }
}
