//! The operator and the log's messages: who is declared dead, who takes over, and when each node
//! and producer hears of it.
//!
//! It stands for the failure detector. It errs: it accuses who is only paused, or nobody at all.
//! One thing it is kept from, because nothing is promised then: with two or more copies it never
//! takes the last in-sync copy of a partition away, nor does a crash.

use super::log::join;
use super::transport::Party;
use super::world::{Event, World};
use zepto_core::topology::{Applied, Change, Command, Event as Happened, MemberState, What};
use zepto_core::{Incarnation, NodeId, PartitionId};

/// Time after the last fault until nothing is under way any more that was sent before it.
const QUIET_NS: u64 = 50_000_000;

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

    /// Looks around: buries the silent, starts again who has to.
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
        let pause = self.rng.within(300_000, 1_500_000);
        let lull = self.lull();
        self.after(pause + lull, Event::Operate);
    }

    /// Whether the log counts a node and its memory of that incarnation is there.
    fn is_sound(&self, node: NodeId) -> bool {
        let member = self.log.placement().member(node);
        let machine = &self.machines[node.0 as usize - 1];
        member.is_some_and(|member| {
            member.state == MemberState::Active && machine.holds_memory_of(member.incarnation)
        })
    }

    /// Whether every partition has an owner that lives and knows that it is the owner, and all its
    /// copies, and nothing moves any more. A store that is too small may never be filled.
    pub(super) fn is_whole(&self) -> bool {
        let members = &self.log.placement().members;
        let active = members.iter().filter(|m| m.state == MemberState::Active && m.weight > 0);
        let copies = if self.is_small() { 1 } else { self.plan.copies.min(active.count()) };
        self.log.assignments().all(|(partition, assignment)| {
            let Some(owner) = assignment.owner().filter(|owner| self.is_sound(*owner)) else {
                return false;
            };
            let process = self.machines[owner.0 as usize - 1].process.as_ref();
            let known = process.map_or(0, |process| process.shard.view_index());
            let rests = assignment.filling().next().is_none() && assignment.target == NodeId(0);
            self.log.view(known).epoch(partition) == assignment.epoch
                && assignment.in_sync().count() >= copies
                && assignment.in_sync().all(|node| self.is_sound(node))
                && (rests || self.is_small())
        })
    }

    /// Whether the stores may be too small for what the schedule sends.
    pub(super) fn is_small(&self) -> bool {
        self.plan.store_bytes < 1 << 20
    }

    /// Whether every partition that a node holds is sound elsewhere too.
    fn may_lose(&self, node: usize) -> bool {
        let id = self.machines[node].id;
        let incarnation = self.machines[node].incarnation;
        if self.plan.copies == 1 {
            return true;
        }
        // By then nothing is under way any more that a node said before it crashed.
        let quiet = self.now() > self.plan.heal_ns + QUIET_NS;
        let current = self.log.placement().member(id).is_some_and(|m| m.incarnation == incarnation);
        !current
            || self.log.assignments().all(|(_, assignment)| {
                let mut others = assignment.in_sync().filter(|other| *other != id);
                // Whoever is lost while it is filled may yet be admitted: a second loss.
                let filling = quiet || assignment.filling().all(|other| self.is_sound(other));
                !assignment.holds(id) || (filling && others.any(|other| self.is_sound(other)))
            })
    }

    pub(super) fn propose(&mut self, command: Command) {
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
        if let Applied::Changed(events) = &applied {
            self.lost_data |= events.iter().any(lost);
        }
        self.note_owners();
        self.answer(command);
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

    /// Whether an entry leaves every partition a sound copy. An owner that drops a copy and is lost
    /// before the log hears of it would take the last one along: two losses within a repair. Such
    /// a proposal is lost with who made it.
    fn is_harmless(&self, command: &Command) -> bool {
        match command {
            Command::Change { node, changes, .. } if !self.is_sound(*node) => {
                let drops = |change: &Change| match change.what {
                    What::Drop(dropped) => Some((change.partition, dropped)),
                    _ => None,
                };
                changes.iter().filter_map(drops).all(|(partition, dropped)| {
                    let assignment = self.log.placement().assignment(partition);
                    assignment.is_none_or(|assignment| {
                        let mut others = assignment.in_sync().filter(|other| *other != dropped);
                        others.any(|other| self.is_sound(other))
                    })
                })
            }
            Command::Bury { node, incarnation } => {
                let member = self.log.placement().member(*node);
                let current = member.is_some_and(|member| member.incarnation == *incarnation);
                !current || self.may_lose(node.0 as usize - 1)
            }
            _ => true,
        }
    }

    /// A node's memory is gone, if that may be; whether it is.
    pub(super) fn crash(&mut self, node: usize, down_ns: u64) -> bool {
        if self.machines[node].process.is_none() || !self.may_lose(node) {
            return false;
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
        true
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

    /// An operator pins a partition.
    pub(super) fn pin(&mut self, partition: u32, node: u32) {
        let partition = PartitionId(partition % (1 << self.plan.bits));
        self.propose(Command::Pin { partition, node: NodeId(node) });
    }
}
