//! What stands between a node's shard and the log: production's decisions (`balance`), with the
//! simulator's delays, losses and unknown outcomes between them.

use super::lanes::send;
use super::machine::Switching;
use super::world::{Event, World};
use std::collections::BTreeSet;
use std::sync::mpsc::{TryRecvError, sync_channel};
use zepto_core::balance;
use zepto_core::topology::{Change, Command, What};
use zepto_core::{Incarnation, PartitionId};
use zepto_node::agent::shard::Command as Order;

/// Proposals in a million whose answer is lost.
const ANSWERS_LOST_PPM: u64 = 150_000;

impl World {
    /// A node looks at what its shard says and at the placement it knows, and proposes.
    pub(super) fn keep(&mut self, node: usize, incarnation: Incarnation) {
        let now = self.now();
        let machine = &mut self.machines[node];
        let (id, asleep) = (machine.id, machine.paused_until);
        let Some(process) = machine.process.as_mut() else { return };
        if machine.incarnation != incarnation {
            return;
        }
        if asleep > now {
            return self.at(asleep, Event::Keep(node, incarnation));
        }
        if let Some(news) = process.shard.news() {
            process.news = news;
        }
        let view = machine.view.load_full();
        if !process.waiting {
            let changes = if process.unsure.is_empty() {
                balance::proposals(view.placement(), id, &process.news.changes)
            } else {
                let renew = |change: &Change| Change { what: What::Renew, ..*change };
                process.unsure.iter().map(renew).collect()
            };
            let switches = balance::switches(view.placement(), id);
            if !changes.is_empty() {
                process.waiting = true;
                let command = Command::Change { node: id, incarnation, changes };
                self.propose(command);
            } else if process.switching.is_none() && !switches.is_empty() {
                let partitions = switches.iter().map(|change| change.partition).collect();
                let (sender, answer) = sync_channel(1);
                if send(&self.machines[node], Order::Freeze(partitions, sender))
                    && let Some(process) = &mut self.machines[node].process
                {
                    process.switching = Some(Switching { answer, changes: switches });
                }
            }
        }
        let pause = self.rng.within(200_000, 2_000_000);
        let lull = self.lull();
        self.after(pause + lull, Event::Keep(node, incarnation));
    }

    /// Goes on with a switch whose partitions are frozen by now.
    pub(super) fn finish_switching(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let (id, incarnation) = (machine.id, machine.incarnation);
        let Some(process) = &mut machine.process else { return };
        let Some(switching) = &process.switching else { return };
        let frozen: BTreeSet<PartitionId> = match switching.answer.try_recv() {
            Ok(frozen) => frozen.into_iter().collect(),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => BTreeSet::new(),
        };
        let Some(Switching { changes, .. }) = process.switching.take() else { return };
        let changes: Vec<Change> =
            changes.into_iter().filter(|change| frozen.contains(&change.partition)).collect();
        if changes.is_empty() {
            return;
        }
        process.waiting = true;
        self.propose(Command::Change { node: id, incarnation, changes });
    }

    /// A node's changes have come to the log: it is told what became of them, or not.
    pub(super) fn answer(&mut self, command: &Command) {
        let Command::Change { node, incarnation, changes } = command else { return };
        let node = node.0 as usize - 1;
        let index = self.log.index();
        let lost = self.rng.chance(ANSWERS_LOST_PPM);
        let delay = self.delay();
        let changes = changes.clone();
        let incarnation = *incarnation;
        self.after(delay, Event::Told { node, incarnation, changes, index, lost });
    }

    /// The answer arrives, or its deadline passes.
    pub(super) fn told(
        &mut self,
        node: usize,
        incarnation: Incarnation,
        changes: &[Change],
        index: u64,
        lost: bool,
    ) {
        let now = self.now();
        let asleep = self.machines[node].paused_until;
        let machine = &mut self.machines[node];
        if machine.incarnation != incarnation {
            return;
        }
        let Some(process) = &mut machine.process else { return };
        if asleep > now {
            let changes = changes.to_vec();
            return self.at(asleep, Event::Told { node, incarnation, changes, index, lost });
        }
        process.waiting = false;
        let switch = changes.iter().any(|change| matches!(change.what, What::Switch(_)));
        if lost {
            if switch {
                process.unsure = changes.to_vec();
            }
            return;
        }
        // Whoever is told has applied the entry.
        let view = self.log.view(index);
        if machine.view.load().index() < index {
            machine.view.store(view.clone());
        }
        let renewed = changes.iter().any(|change| change.what == What::Renew);
        if renewed {
            process.unsure.clear();
        }
        if switch || renewed {
            let same = changes.iter().filter(|c| view.epoch(c.partition) == c.epoch);
            let partitions: Vec<PartitionId> = same.map(|change| change.partition).collect();
            send(&self.machines[node], Order::Thaw(partitions));
        }
    }
}
