//! What becomes of ticks that their owner refuses, or takes along into its end.

use super::outlet::{Outlet, Verdict};
use super::parked::Waiting;
use super::{Lanes, NO_LANE, Producer};
use core::time::Duration;
use std::collections::BTreeMap;
use zepto_core::defect::Defect;
use zepto_core::slot;
use zepto_core::{PartitionId, Refusal};

/// Time until a refused tick is sent again without a newer view: the owner may learn late.
const RETRY_AFTER: Duration = Duration::from_millis(1);

impl<L: Lanes> Producer<L> {
    /// Reads what one lane's owner says, and what that means for each tick.
    pub(super) fn poll_outlet(&mut self, index: usize) -> u64 {
        let Some(mut outlet) = self.outlets[index].take() else { return 0 };
        let mut refused = 0;
        let heard = outlet.hear(|outlet, verdict| {
            refused += 1;
            self.judge(outlet, index as u16, verdict);
        });
        self.take_postponed(&mut outlet, index as u16);
        let settled =
            heard.map(|cursors| outlet.release(cursors, &mut self.observer, &mut self.tickets));
        let over = outlet.is_hung_up();
        self.outlets[index] = Some(outlet);
        match settled {
            Ok(settled) => {
                self.account.settled += settled;
                if over && settled == 0 && refused == 0 {
                    return self.abandon(index);
                }
                refused + settled
            }
            // A lane that lies is as good as none.
            Err(_corrupt) => refused + self.abandon(index),
        }
    }

    /// One tick was refused.
    fn judge(&mut self, outlet: &mut Outlet<L::Transport>, lane: u16, verdict: Verdict) {
        let Verdict { index, tick, reason } = verdict;
        let (table, symbol) = slot::series_of(&tick.slot);
        let partition = self.installed.route(table, symbol).partition;
        self.streams[partition.0 as usize].lane = NO_LANE;
        if self.postponed.get(&partition).is_some_and(|first| index >= *first) {
            // It comes along with the first of them. An owner may refuse an earlier one later.
            return;
        }
        if is_for_later(reason) {
            self.postponed.insert(partition, index);
            self.account.parked_for = Some(reason);
            return;
        }
        let parked = self.parked.entry(partition).or_default();
        outlet.exclude(index);
        *self.account.refused.entry(reason).or_default() += 1;
        if let Some(tickets) = &mut self.tickets {
            tickets.refuse(tick.ticket, reason);
        }
        // The ones behind it are refused as a gap, so its number is free again once they are.
        let last = self.streams[partition.0 as usize].sequence;
        let low = slot::producer_of(&tick.slot).1;
        let number = last.wrapping_sub(u64::from((last as u32).wrapping_sub(low)));
        // An owner that knows nothing of this producer expects it to begin with one.
        let unknown = reason == Refusal::UnknownProducer;
        let rewind = if unknown { 0 } else { number.saturating_sub(1) };
        // A gap that follows no refusal is the owner's: it lost what it had acknowledged.
        parked.anew |= reason == Refusal::OutOfOrder && parked.rewind.is_none();
        parked.rewind = Some(parked.rewind.map_or(rewind, |earlier| earlier.min(rewind)));
        parked.until = Some((lane, outlet.head()));
    }

    /// Takes back what was refused for now, with all later ones of the partition, which are refused
    /// as a gap: they come along, in order. All partitions in one pass: when a node dies, many are
    /// refused at once, and the window is long.
    fn take_postponed(&mut self, outlet: &mut Outlet<L::Transport>, lane: u16) {
        let Some(from) = self.postponed.values().min().copied() else { return };
        let postponed = core::mem::take(&mut self.postponed);
        let mut back: BTreeMap<PartitionId, Vec<Waiting>> = BTreeMap::new();
        outlet.take_back(from, |index, tick| {
            let (table, symbol) = slot::series_of(&tick.slot);
            let partition = self.installed.route(table, symbol).partition;
            let taken = postponed.get(&partition).is_some_and(|first| index >= *first);
            if taken {
                back.entry(partition).or_default().push(*tick);
            }
            taken
        });
        for (partition, first) in postponed {
            let taken = back.remove(&partition).unwrap_or_default();
            self.parked_count += taken.len();
            let parked = self.parked.entry(partition).or_default();
            parked.put_back(taken);
            // Earlier ones may still be on their way to a verdict here: nobody else gets to see the
            // later ones before.
            let until = parked.until.filter(|(old, _)| *old == lane).map_or(0, |(_, until)| until);
            parked.until = Some((lane, until.max(first)));
            parked.after = Some((self.now.after(RETRY_AFTER), self.installed.index()));
        }
    }

    /// A lane is over: what it had not settled goes elsewhere.
    pub(super) fn abandon(&mut self, index: usize) -> u64 {
        let Some(mut outlet) = self.outlets[index].take() else { return 0 };
        let mut refused = Vec::new();
        let heard = outlet.hear(|outlet, verdict| {
            outlet.exclude(verdict.index);
            refused.push(verdict);
        });
        if let Ok(cursors) = heard {
            self.account.settled += outlet.release(cursors, &mut self.observer, &mut self.tickets);
        }
        let mut rest: Vec<Waiting> = refused.into_iter().map(|verdict| verdict.tick).collect();
        outlet.take_back(0, |_, tick| {
            rest.push(*tick);
            true
        });
        let mut work = rest.len() as u64;
        if Defect::WindowForgotten.planted() {
            self.account.settled += work;
            rest.clear();
        }
        let mut back: BTreeMap<PartitionId, Vec<Waiting>> = BTreeMap::new();
        for tick in rest {
            let (table, symbol) = slot::series_of(&tick.slot);
            back.entry(self.installed.route(table, symbol).partition).or_default().push(tick);
        }
        for (partition, ticks) in back {
            self.parked_count += ticks.len();
            self.parked.entry(partition).or_default().put_back(ticks);
        }
        for stream in self.streams.iter_mut().filter(|stream| stream.lane == index as u16) {
            stream.lane = NO_LANE;
        }
        for parked in self.parked.values_mut() {
            let ours = parked.until.is_some_and(|(lane, _)| lane == index as u16);
            parked.begun = parked.begun.filter(|lane| *lane != index as u16);
            if ours {
                parked.until = None;
                // The lane may still reach its owner, with numbers that were to be used again.
                parked.anew |= parked.rewind.is_some();
            }
        }
        self.redirect_all();
        work += 1;
        work
    }
}

/// Whether a refused tick is sent again rather than reported.
fn is_for_later(reason: Refusal) -> bool {
    matches!(
        reason,
        Refusal::NotOwner
            | Refusal::NotEnoughCopies
            | Refusal::UnknownSymbol
            | Refusal::NotReady
            | Refusal::Draining
    )
}
