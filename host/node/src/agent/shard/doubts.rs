//! What the copies of a partition know of what may not be settled.
//!
//! A copy that is promoted takes for settled what its lane brought more than one turn ago, and what
//! is below the last *floor* that its owner told it. So:
//!
//! * no lane runs more than one turn ahead of what *all* lanes have acknowledged, unless its
//!   replica was told the floors of everything else first: one replica that does not answer holds
//!   up nobody else's copies;
//! * where a lane goes whose replica had not acknowledged everything, or a replica refuses, the
//!   others hear the floor before they hear anything else;
//! * floors are told in slots that nothing else may use.

use super::followers::Followers;
use super::lane::Lane;
use super::ledger::Ledger;
use std::collections::BTreeSet;
use zepto_core::PartitionId;
use zepto_transport::Transport;

impl<T: Transport> Followers<T> {
    /// Partitions that came to be in doubt since the last call.
    pub fn take_doubts(&mut self) -> BTreeSet<PartitionId> {
        core::mem::take(&mut self.doubts)
    }

    /// The copies of these have to hear their floors. Until they have, nothing else is written to
    /// their lanes.
    pub fn owe(&mut self, partitions: &BTreeSet<PartitionId>) {
        for &partition in partitions {
            let route = *self.route(partition);
            for lane in route.lanes() {
                self.lanes[usize::from(*lane)].untold.insert(partition);
            }
        }
    }

    /// Tells them, as far as there is room; returns how many it told.
    pub fn tell(&mut self, ledger: &Ledger) -> usize {
        let (lanes, routes) = (&mut self.lanes, &self.routes);
        let mut told = 0;
        for (place, lane) in lanes.iter_mut().enumerate() {
            let before = told;
            while lane.telling_room() >= Lane::<T>::SLOTS_PER_FLOOR
                && let Some(partition) = lane.untold.pop_first()
            {
                let route = routes.get(partition.0 as usize);
                if route.is_some_and(|route| route.lanes().contains(&(place as u16))) {
                    lane.tell_floor(partition, ledger);
                    told += 1;
                }
            }
            if told > before {
                lane.publish();
            }
        }
        told
    }

    /// After every look at what was acknowledged: takes the next checkpoint, and tells lanes that
    /// are far ahead what is open elsewhere.
    pub fn keep_abreast(&mut self, ledger: &Ledger) {
        // What just came to be in doubt counts as acknowledged by nobody before it was told.
        let told = self.doubts.is_empty() && self.lanes.iter().all(|lane| lane.untold.is_empty());
        if told && self.lanes.iter().all(Lane::is_past_checkpoint) {
            self.lanes.iter_mut().for_each(Lane::next_checkpoint);
        }
        for place in 0..self.lanes.len() {
            if self.lanes[place].is_ahead() {
                self.tell_all(place, ledger);
            }
        }
    }

    /// Tells a lane all floors at once, if there is room: then it may run on.
    #[cold]
    fn tell_all(&mut self, place: usize, ledger: &Ledger) {
        let is_open = |partition: &PartitionId| {
            let end = ledger.store.next_sequence(*partition).unwrap_or(1);
            self.route(*partition).lanes().contains(&(place as u16))
                && ledger.unsettled(*partition) < end
        };
        let partitions = (0..self.routes.len() as u32).map(PartitionId);
        let open: Vec<PartitionId> = partitions.filter(is_open).collect();
        let lane = &mut self.lanes[place];
        if lane.telling_room() < open.len() as u64 * Lane::<T>::SLOTS_PER_FLOOR {
            return;
        }
        let before = lane.head();
        open.into_iter().for_each(|partition| lane.tell_floor(partition, ledger));
        lane.publish();
        lane.stands_at(before);
    }
}
