//! Copies that are being filled here, and how much of a copy may not be settled yet.
//!
//! A copy begins with what came last: ticks that come from its owner's producers wait, with their
//! sequences, while the rows before them arrive. So the copy counts as one from its first tick on,
//! however much there is to fill.

use std::collections::BTreeMap;
use zepto_core::PartitionId;
use zepto_core::limits::FILL_WAITING_MAX;
use zepto_core::slot::{self, Slot};

/// A copy that is being filled.
#[derive(Debug)]
pub(super) struct Fill {
    /// The lane that fills it. What another one says about it is no longer true.
    pub lane: u32,
    /// Sequences below it come in rows.
    pub start: u64,
    /// Rows below this sequence are here already.
    pub kept: u64,
    /// Rows from this sequence on wait: those before them in their series are still to come.
    pub unsettled: u64,
    /// Sequence of the next tick.
    pub next: u64,
    /// Rows that came.
    pub rows: u64,
    /// What waits; the first word is the sequence.
    pub waiting: Vec<Slot>,
    /// Last sequences of producers, by the shard's index, once everything is here. Until then the
    /// copy must not know of ticks that it has not got.
    pub accepted: BTreeMap<u32, u64>,
}

impl Fill {
    /// A fill by a lane, whose ticks are numbered from `next`.
    pub fn new(lane: u32, next: u64, kept: u64, unsettled: u64) -> Self {
        let (waiting, accepted) = (Vec::new(), BTreeMap::new());
        Self { lane, start: next, kept, unsettled, next, rows: 0, waiting, accepted }
    }

    /// How many rows wait, by table and symbol.
    pub fn waiting_rows(&self) -> BTreeMap<(u16, u32), usize> {
        let mut rows = BTreeMap::new();
        for row in &self.waiting {
            *rows.entry(slot::series_of(row)).or_default() += 1;
        }
        rows
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Fills {
    fills: BTreeMap<PartitionId, Fill>,
    /// Ticks that wait, by lane.
    waiting: BTreeMap<u32, usize>,
}

impl Fills {
    pub fn begin(&mut self, partition: PartitionId, fill: Fill) {
        self.end(partition);
        self.fills.insert(partition, fill);
    }

    pub fn end(&mut self, partition: PartitionId) -> Option<Fill> {
        let fill = self.fills.remove(&partition)?;
        if let Some(waiting) = self.waiting.get_mut(&fill.lane) {
            *waiting -= fill.waiting.len();
        }
        Some(fill)
    }

    pub fn is_empty(&self) -> bool {
        self.fills.is_empty()
    }

    pub fn get(&self, partition: PartitionId) -> Option<&Fill> {
        self.fills.get(&partition)
    }

    pub fn get_mut(&mut self, partition: PartitionId) -> Option<&mut Fill> {
        self.fills.get_mut(&partition)
    }

    /// Lets a row wait; false when too many of that lane's do.
    pub fn wait(&mut self, partition: PartitionId, row: Slot) -> bool {
        let Some(fill) = self.fills.get_mut(&partition) else { return false };
        let waiting = self.waiting.entry(fill.lane).or_default();
        if *waiting >= FILL_WAITING_MAX {
            return false;
        }
        *waiting += 1;
        fill.waiting.push(row);
        true
    }

    /// What a lane is filling.
    pub fn of_lane(&self, lane: u32) -> Vec<PartitionId> {
        let fills = self.fills.iter().filter(|(_, fill)| fill.lane == lane);
        fills.map(|(partition, _)| *partition).collect()
    }
}

/// From where on a replica's ticks may not be settled yet.
///
/// No lane of an owner runs more than one turn ahead of what is settled, unless it brings the
/// floors first (see [`super::doubts`]), so what it brought before is settled. Each partition
/// remembers where it stood at the beginning of the lane's present turn and of the one before.
#[derive(Debug, Default)]
pub(super) struct Recent {
    partitions: Vec<Turns>,
    /// The present turn of each lane; lanes that are gone keep their last.
    turns: BTreeMap<u32, u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    lane: u32,
    turn: u32,
    now: u64,
    before: u64,
}

/// Lanes whose turns are remembered.
const LANES_KEPT: usize = 4096;

impl Recent {
    /// A lane has come to a turn.
    pub fn turn(&mut self, lane: u32, turn: u32) {
        self.turns.insert(lane, turn);
        if self.turns.len() > LANES_KEPT {
            // The oldest lane; what only it brought counts as unsettled from here on.
            self.turns.pop_first();
        }
    }

    /// A tick with this sequence comes to a partition in a lane's turn.
    #[inline]
    pub fn note(&mut self, partition: PartitionId, lane: u32, turn: u32, sequence: u64) {
        let place = partition.0 as usize;
        if place >= self.partitions.len() {
            self.partitions.resize(place + 1, Turns::default());
        }
        let seen = &mut self.partitions[place];
        if (seen.lane, seen.turn) == (lane, turn) {
            return;
        }
        let before = if (seen.lane, seen.turn + 1) == (lane, turn) { seen.now } else { sequence };
        *seen = Turns { lane, turn, now: sequence, before };
    }

    /// The first sequence of a partition that may not be settled, given the one that comes next.
    pub fn unsettled(&self, partition: PartitionId, next: u64) -> u64 {
        let Some(seen) = self.partitions.get(partition.0 as usize) else { return next };
        if seen.now == 0 {
            return next;
        }
        match self.turns.get(&seen.lane) {
            Some(turn) if *turn == seen.turn => seen.before.min(next),
            Some(turn) if *turn == seen.turn + 1 => seen.now.min(next),
            Some(_) => next,
            None => 1,
        }
    }

    /// A partition starts anew.
    pub fn forget(&mut self, partition: PartitionId) {
        if let Some(seen) = self.partitions.get_mut(partition.0 as usize) {
            *seen = Turns::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_more_than_a_turn_ago_is_settled() {
        let (mut recent, p, q) = (Recent::default(), PartitionId(3), PartitionId(4));
        assert_eq!(recent.unsettled(p, 9), 9, "nothing came");
        recent.turn(1, 0);
        recent.note(p, 1, 0, 1);
        recent.note(p, 1, 0, 2);
        assert_eq!(recent.unsettled(p, 3), 1);
        recent.turn(1, 1);
        assert_eq!(recent.unsettled(p, 3), 1, "the turn before is not over for long");
        recent.note(p, 1, 1, 3);
        recent.note(q, 1, 1, 7);
        assert_eq!((recent.unsettled(p, 4), recent.unsettled(q, 8)), (1, 7));
        recent.turn(1, 2);
        recent.note(p, 1, 2, 4);
        assert_eq!(recent.unsettled(p, 5), 3);
        assert_eq!(recent.unsettled(q, 8), 7);
        recent.turn(1, 3);
        assert_eq!(recent.unsettled(q, 8), 8);
        recent.forget(p);
        assert_eq!(recent.unsettled(p, 1), 1);
    }

    #[test]
    fn a_lane_lets_no_more_wait_than_it_may() {
        let (mut fills, p) = (Fills::default(), PartitionId(0));
        fills.begin(p, Fill::new(1, 1, 0, 1));
        for _ in 0..FILL_WAITING_MAX {
            assert!(fills.wait(p, [0; 8]));
        }
        assert!(!fills.wait(p, [0; 8]));
        fills.end(p);
        assert!(!fills.wait(p, [0; 8]), "nothing is filled");
    }
}
