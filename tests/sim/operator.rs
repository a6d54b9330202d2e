//! The operator and the log's messages: who is declared dead, who takes over, and when each node
//! and producer hears of it.
//!
//! It stands for the failure detector and for whoever proposes to the log. It errs: it accuses
//! who is only paused, or nobody at all. One thing it is kept from, because no refill exists yet:
//! with two or more copies it never takes the last in-sync copy away, nor does a crash.

use super::lanes::send;
use super::log::join;
use super::machine::Freezing;
use super::transport::Party;
use super::world::{Event, World};
use std::sync::mpsc::{TryRecvError, sync_channel};
use zepto_core::topology::{Applied, Command, Event as Happened, Handover, MemberState};
use zepto_core::{Incarnation, NodeId, PartitionId};
use zepto_node::agent::shard::Command as Order;

impl World {
    /// A message with a view sets out; it may be lost, and then a pull brings it.
    pub(super) fn message(&mut self, to: Party, index: u64) {
        if !self.healed && self.rng.chance(self.plan.loss_ppm) {
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::View(to, index));
        if self.rng.chance(50_000) {
            let delay = self.delay();
            self.after(delay, Event::View(to, index));
        }
    }

    /// A message with a view arrives. Whoever is paused reads it some time after waking.
    pub(super) fn deliver_view(&mut self, to: Party, index: u64) {
        let now = self.now();
        let paused_until = match self.feeder_of(to) {
            Some(feeder) => self.feeders[feeder].paused_until,
            None => self.machines[to as usize - 1].paused_until,
        };
        if paused_until > now {
            let delay = self.delay();
            return self.at(paused_until + delay, Event::View(to, index));
        }
        let view = self.log.view(index);
        let published = match self.feeder_of(to) {
            Some(feeder) => &self.feeders[feeder].view,
            None => &self.machines[to as usize - 1].view,
        };
        if published.load().index() < index && !self.is_blocked(0, to) {
            published.store(view.clone());
        }
    }

    /// Asks for the newest view, from time to time.
    pub(super) fn pull(&mut self, party: Party) {
        if !self.is_blocked(0, party) {
            self.message(party, self.log.index());
        }
        let pause = self.rng.within(self.plan.pull_ns / 2 + 1, self.plan.pull_ns * 2 + 2);
        let lull = self.lull();
        self.after(pause + lull, Event::Pull(party));
    }

    fn feeder_of(&self, party: Party) -> Option<usize> {
        party.checked_sub(100).map(|feeder| feeder as usize)
    }

    /// Looks around: buries the silent, repairs assignments, starts again who has to.
    pub(super) fn operate(&mut self) {
        let now = self.now();
        for node in 0..self.machines.len() {
            if self.machines[node].process.is_some() && self.machines[node].paused_until <= now {
                self.machines[node].silent_since = None;
            }
            let machine = &self.machines[node];
            let (id, incarnation) = (machine.id, machine.incarnation);
            let silent =
                machine.silent_since.is_some_and(|since| now - since >= self.plan.detect_ns);
            let accusable = machine.process.is_none() || self.plan.accuses_paused;
            // A node that reads in its view that it is dead can only start again.
            let knows = machine.view.load().placement().member(id).is_some_and(|member| {
                member.state == MemberState::Dead && member.incarnation == incarnation
            });
            let runs = machine.process.is_some() && !machine.restarting;
            if silent && accusable {
                self.propose(Command::Bury { node: id, incarnation });
            }
            if knows && runs && self.may_lose(node) {
                self.machines[node].restarting = true;
                let delay = self.delay();
                self.after(delay, Event::Restart(node, incarnation));
            }
        }
        for (partition, assignment) in self.log.assignments().collect::<Vec<_>>() {
            let mut copies: Vec<NodeId> =
                assignment.copies.into_iter().filter(|n| n.0 != 0).collect();
            let before = copies.len();
            copies.retain(|node| self.is_active(*node));
            if !copies.is_empty() && copies.len() < before {
                if assignment.owner() != copies.first().copied() {
                    let first = self.rng.below(copies.len() as u64) as usize;
                    copies.swap(0, first);
                }
                self.propose(Command::Reassign { partition, epoch: assignment.epoch, copies });
            }
        }
        self.shrink();
        let pause = self.rng.within(300_000, 1_500_000);
        let lull = self.lull();
        self.after(pause + lull, Event::Operate);
    }

    /// Takes replicas out of step off their partitions, as their owners ask.
    fn shrink(&mut self) {
        let now = self.now();
        let mut proposals = Vec::new();
        for machine in self.machines.iter().filter(|machine| machine.paused_until <= now) {
            let Some(process) = &machine.process else { continue };
            let known = self.log.view(process.shard.view_index());
            for (partition, replica) in process.shard.out_of_step() {
                let Some(held) = known.placement().assignment(partition) else { continue };
                let copies = held.copies.into_iter().filter(|n| n.0 != 0 && *n != replica);
                let (epoch, copies) = (held.epoch, copies.collect());
                proposals.push(Command::Reassign { partition, epoch, copies });
            }
        }
        proposals.into_iter().for_each(|command| self.propose(command));
    }

    fn is_active(&self, node: NodeId) -> bool {
        let member = self.log.placement().member(node);
        member.is_some_and(|member| member.state == MemberState::Active)
    }

    /// Whether the log counts a node and its memory of that incarnation is there.
    fn is_sound(&self, node: NodeId) -> bool {
        let member = self.log.placement().member(node);
        let machine = &self.machines[node.0 as usize - 1];
        member.is_some_and(|member| {
            member.state == MemberState::Active && machine.holds_memory_of(member.incarnation)
        })
    }

    /// Whether every partition has an owner that lives and knows that it is the owner.
    pub(super) fn is_whole(&self) -> bool {
        self.log.assignments().all(|(partition, assignment)| {
            let Some(owner) = assignment.owner().filter(|owner| self.is_sound(*owner)) else {
                return false;
            };
            let process = self.machines[owner.0 as usize - 1].process.as_ref();
            let known = process.map_or(0, |process| process.shard.view_index());
            self.log.view(known).epoch(partition) == assignment.epoch
        })
    }

    /// Whether every partition that a node holds is sound elsewhere too.
    fn may_lose(&self, node: usize) -> bool {
        let id = self.machines[node].id;
        let incarnation = self.machines[node].incarnation;
        if self.plan.copies == 1 {
            return true;
        }
        let current = self.log.placement().member(id).is_some_and(|m| m.incarnation == incarnation);
        !current
            || self.log.assignments().all(|(_, assignment)| {
                let others = assignment.copies.into_iter().filter(|n| n.0 != 0 && *n != id);
                !assignment.holds(id) || others.into_iter().any(|other| self.is_sound(other))
            })
    }

    fn propose(&mut self, command: Command) {
        let delay = self.delay();
        self.after(delay, Event::Commit(command));
    }

    /// Declares a node dead that need not be.
    pub(super) fn accuse(&mut self, node: usize) {
        let (node, incarnation) = (self.machines[node].id, self.machines[node].incarnation);
        if self.plan.copies > 1 {
            self.propose(Command::Bury { node, incarnation });
        }
    }

    /// An entry reaches the log.
    pub(super) fn commit(&mut self, command: &Command) {
        if !self.is_harmless(command) {
            return;
        }
        let applied = self.log.commit(command);
        let lost = |event: &Happened| matches!(event, Happened::DataLost { .. });
        match &applied {
            Applied::Changed(events) => self.lost_data |= events.iter().any(lost),
            Applied::Refused(_) => {
                if let Command::HandOver { node, handovers, .. } = command {
                    let partitions = handovers.iter().map(|handover| handover.partition).collect();
                    send(&self.machines[node.0 as usize - 1], Order::Thaw(partitions));
                }
            }
        }
        let now = self.now();
        self.network.trace.say(|| format!("{now:>12} committed {command:?}: {applied:?}"));
        let index = self.log.index();
        for machine in 0..self.machines.len() {
            self.message(self.machines[machine].party(), index);
        }
        for feeder in 0..self.feeders.len() {
            self.message(self.feeders[feeder].party(), index);
        }
        if let (Command::Join { name, incarnation, .. }, Applied::Changed(_)) = (command, &applied)
        {
            let member = self.log.placement().member_named(name).map(|member| member.id);
            if let Some(node) = member {
                self.propose(Command::Activate { node, incarnation: *incarnation });
            }
        }
    }

    /// Whether an entry leaves every partition a sound copy.
    fn is_harmless(&self, command: &Command) -> bool {
        match command {
            Command::Bury { node, incarnation } => {
                let member = self.log.placement().member(*node);
                let current = member.is_some_and(|member| member.incarnation == *incarnation);
                !current || self.may_lose(node.0 as usize - 1)
            }
            Command::Reassign { copies, .. } => copies.iter().any(|node| self.is_sound(*node)),
            _ => true,
        }
    }

    /// A node's memory is gone.
    pub(super) fn crash(&mut self, node: usize, down_ns: u64) {
        if self.machines[node].process.is_none() || !self.may_lose(node) {
            return;
        }
        let now = self.now();
        let party = self.machines[node].party();
        self.machines[node].process = None;
        self.machines[node].silent_since = Some(now);
        // What it had sent may still be under way.
        let last = now + self.rng.below(50_000);
        self.network.cut(party, last);
        self.break_lanes_of(node);
        let incarnation = self.machines[node].incarnation;
        self.machines[node].restarting = true;
        self.after(down_ns, Event::Restart(node, incarnation));
    }

    /// A node starts again as its next incarnation, empty.
    pub(super) fn restart(&mut self, node: usize, incarnation: Incarnation) {
        if self.machines[node].incarnation != incarnation {
            return;
        }
        if !self.may_lose(node) {
            self.machines[node].restarting = false;
            if self.machines[node].process.is_none() {
                self.after(1_000_000, Event::Restart(node, incarnation));
            }
            return;
        }
        let now = self.now();
        if self.machines[node].process.take().is_some() {
            self.network.cut(self.machines[node].party(), now);
            self.break_lanes_of(node);
        }
        let plan = self.plan.clone();
        self.machines[node].start(&plan);
        self.started(node);
        let (id, incarnation) = (self.machines[node].id, self.machines[node].incarnation);
        self.propose(join(id.0, incarnation));
    }

    /// A node is asked to freeze its empty partitions, to give them away or to thaw them again.
    pub(super) fn begin_handover(&mut self, node: usize) {
        let others: Vec<NodeId> =
            self.machines.iter().map(|m| m.id).filter(|id| id.0 as usize != node + 1).collect();
        let to = if self.rng.chance(800_000) { Some(*self.rng.pick(&others)) } else { None };
        let partitions = (0..1 << self.plan.bits).map(PartitionId).collect();
        let (sender, answer) = sync_channel(1);
        if send(&self.machines[node], Order::Freeze(partitions, sender))
            && let Some(process) = &mut self.machines[node].process
        {
            process.freezing.push(Freezing { answer, to });
        }
    }

    /// Goes on with handovers whose partitions are frozen by now.
    pub(super) fn finish_freezing(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let (id, incarnation) = (machine.id, machine.incarnation);
        let Some(process) = &mut machine.process else { return };
        let mut done = Vec::new();
        process.freezing.retain(|freezing| match freezing.answer.try_recv() {
            Ok(frozen) => {
                done.push((frozen, freezing.to));
                false
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Disconnected) => false,
        });
        let index = process.shard.view_index();
        for (frozen, to) in done.into_iter().filter(|(frozen, _)| !frozen.is_empty()) {
            let Some(to) = to else {
                send(&self.machines[node], Order::Thaw(frozen));
                continue;
            };
            let view = self.log.view(index);
            let handovers = frozen
                .into_iter()
                .map(|partition| Handover { partition, epoch: view.epoch(partition), to })
                .collect();
            self.propose(Command::HandOver { node: id, incarnation, handovers });
        }
    }
}
