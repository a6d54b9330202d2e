//! Sends on what waits for a partition's next owner: in order, and each number for one tick only.

use super::{Lanes, NO_LANE, Producer, Stream};
use zepto_core::hash::mix;
use zepto_core::limits::PRODUCERS_PER_LANE_MAX;
use zepto_core::{PartitionId, ProducerId, Refusal};

/// Names of one producer: a lane introduces them all. Beyond it a partition keeps its old one.
const NAMES_MAX: usize = PRODUCERS_PER_LANE_MAX as usize;

impl<L: Lanes> Producer<L> {
    /// Sends on what waits, as far as owners and room are there.
    pub(super) fn send_parked(&mut self) -> u64 {
        let mut sent = 0;
        let stopped: Vec<PartitionId> = self.parked.keys().copied().collect();
        for partition in stopped {
            sent += self.send_on(partition);
        }
        if sent > 0 {
            self.publish();
        }
        sent
    }

    fn send_on(&mut self, partition: PartitionId) -> u64 {
        let slot = partition.0 as usize;
        let Some(parked) = self.parked.get_mut(&partition) else { return 0 };
        if let Some((lane, until)) = parked.until {
            let outlet = self.outlets[lane as usize].as_ref();
            if outlet.is_some_and(|outlet| outlet.settled() < until) {
                return 0;
            }
            parked.until = None;
        }
        if parked.after.is_some_and(|(at, view)| self.now < at && self.installed.index() == view) {
            return 0;
        }
        parked.after = None;
        let dropped = self.renumber(partition);
        let Some(parked) = self.parked.get_mut(&partition) else { return dropped as u64 };
        let destination = self.installed.destination(partition) as usize;
        let lane = self.outlet_of.get(destination).copied().unwrap_or(NO_LANE);
        let Some(Some(outlet)) = self.outlets.get_mut(lane as usize) else {
            if let Some(&to) = self.installed.destinations().get(destination) {
                self.request(to);
            }
            return dropped as u64;
        };
        if outlet.introduce(&self.names).is_err() {
            return dropped as u64;
        }
        if parked.begun.is_some_and(|begun| begun != lane) {
            // The partition moved while it was being sent on.
            let begun = parked.begun.take().unwrap_or(NO_LANE);
            let old = self.outlets.get(begun as usize).and_then(Option::as_ref);
            parked.until = old.map(|outlet| (begun, outlet.head()));
            return dropped as u64;
        }
        let mut sent = parked.send_again(outlet);
        if parked.rewind.is_some() {
            parked.until = Some((lane, outlet.head()));
        } else if parked.sent.is_empty() {
            sent += parked.send_first(outlet, &mut self.streams[slot]);
        }
        self.parked_count -= sent;
        parked.begun = if sent > 0 { Some(lane) } else { parked.begun };
        if parked.is_empty() {
            self.parked.remove(&partition);
            self.streams[slot].lane = lane;
        }
        (dropped + sent) as u64
    }

    /// Once everything behind a refused tick has its verdict: drops what cannot be accepted any
    /// more, and lets numbering go on from there, or begin anew. Returns how many it dropped.
    fn renumber(&mut self, partition: PartitionId) -> usize {
        let slot = partition.0 as usize;
        let Some(parked) = self.parked.get_mut(&partition) else { return 0 };
        let Some(rewind) = parked.rewind else { return 0 };
        let behind = parked.drop_behind(rewind);
        let dropped = behind.len();
        if dropped > 0 {
            *self.account.refused.entry(Refusal::OutOfOrder).or_default() += dropped as u64;
            self.parked_count -= dropped;
        }
        if let Some(tickets) = &mut self.tickets {
            behind.iter().for_each(|tick| tickets.refuse(tick.ticket, Refusal::OutOfOrder));
        }
        if parked.anew && !parked.sent.is_empty() {
            // Nothing goes under a new name before the last tick of the old one has its verdict.
            return dropped;
        }
        parked.rewind = None;
        self.streams[slot].sequence = rewind;
        if core::mem::take(&mut parked.anew) && self.names.len() < NAMES_MAX {
            let number = self.names.len() as u64;
            let name = self.names.len() as u32;
            self.names.push(ProducerId(mix(self.names[0].0 ^ mix(number))));
            self.streams[slot] = Stream { sequence: 0, name, ..self.streams[slot] };
        }
        dropped
    }
}
