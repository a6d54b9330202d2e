//! How lanes come to be and end: what connectors and doors do in production, with delays.

use super::machine::Machine;
use super::transport::{Party, SimTransport};
use super::watch::Role;
use super::world::{End, Event, OpenLane, World};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zepto_client::producer::{HungUp, Link, Opened};
use zepto_core::view::Destination;
use zepto_core::{Incarnation, NodeId};
use zepto_node::agent::shard::{Command, LaneTerms, SourceTerms};
use zepto_transport::{LaneSpec, Receiver, Sender};

/// Both ends of a new lane, and the links of its slots and its credit.
struct Laid {
    sender: Sender<SimTransport>,
    receiver: Receiver<SimTransport>,
    slots_link: u32,
    credit_link: u32,
}

impl World {
    fn lay(&mut self, from: Party, to: Party, slots: u32) -> Laid {
        let (near, far) = (self.network.end(from), self.network.end(to));
        let spec = LaneSpec { nonce: u128::from(self.rng.bits()), slots };
        let slots_link = self.network.links();
        let (offer, ticket) = Sender::offer(&near, spec).expect("a lane of legal size");
        let credit_link = self.network.links();
        let (receiver, ticket) = Receiver::accept(&far, ticket, spec).expect("the same size");
        let sender = offer.complete(&near, ticket).expect("our own ticket");
        self.network.link(credit_link).tap();
        Laid { sender, receiver, slots_link, credit_link }
    }

    /// A producer's request reaches the node, or does not.
    pub(super) fn open(&mut self, producer: usize, to: Destination, incarnation: Incarnation) {
        let node = to.node.0 as usize - 1;
        let until = self.machines[node].paused_until;
        if until > self.now() && self.machines[node].process.is_some() {
            // The connection stands in the backlog until the process runs again.
            let delay = self.delay();
            return self.at(until + delay, Event::Open(producer, to, incarnation));
        }
        self.exchange.borrow_mut().pending.remove(&(producer, to));
        if !self.machines[node].holds_memory_of(incarnation) {
            return self.exchange.borrow_mut().answers[producer].push_back(Err(to));
        }
        let plan = self.feeders[producer].plan;
        let party = self.feeders[producer].party();
        let laid = self.lay(party, self.machines[node].party(), plan.lane_slots);
        let role = Role::Ingress { producer, node: to.node, memory_only: plan.memory_only };
        self.watch.lane(role, laid.slots_link, laid.credit_link, plan.lane_slots);
        let (sender_gone, receiver_gone) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let terms = LaneTerms { memory_only: plan.memory_only, hung_up: Arc::clone(&sender_gone) };
        if !send(&self.machines[node], Command::Peer(laid.receiver, terms)) {
            return self.exchange.borrow_mut().answers[producer].push_back(Err(to));
        }
        let gone = Arc::clone(&receiver_gone);
        let hung_up: HungUp = Box::new(move || gone.load(Ordering::Acquire));
        let link = Link::peer(laid.sender, None, Some(hung_up));
        let opened = Opened { to, incarnation, link };
        self.exchange.borrow_mut().answers[producer].push_back(Ok(opened));
        let slots_link = laid.slots_link;
        let (from, node) = (None, to.node);
        let lane = OpenLane { from, producer, node, slots_link, sender_gone, receiver_gone };
        self.lanes.push(lane);
    }

    /// An owner's request for a lane reaches its replica, or does not.
    pub(super) fn open_replica(&mut self, owner: usize, incarnation: Incarnation, to: Destination) {
        let (now, replica) = (self.now(), to.node.0 as usize - 1);
        if !self.machines[owner].holds_memory_of(incarnation) {
            return;
        }
        let wanted = self.machines[owner].view.load();
        let wanted = wanted.placement().member(to.node).map(|member| member.incarnation);
        let there = wanted.is_some_and(|wanted| self.machines[replica].holds_memory_of(wanted));
        let asleep = self.machines[replica].paused_until.max(self.machines[owner].paused_until);
        if there && asleep > now {
            let delay = self.delay();
            return self.at(asleep + delay, Event::OpenReplica(owner, incarnation, to));
        }
        if let Some(process) = &mut self.machines[owner].process {
            // The shard goes on wanting it if it is not there.
            process.opening.remove(&to);
        }
        if !there {
            return;
        }
        let (near, far) = (self.machines[owner].party(), self.machines[replica].party());
        let slots = self.plan.replica_slots;
        let laid = self.lay(near, far, slots);
        let life = self.machines[replica].incarnation;
        let from = (self.machines[owner].id, incarnation);
        let role = Role::Replica { node: to.node, incarnation: life, from };
        self.watch.lane(role, laid.slots_link, laid.credit_link, slots);
        let (sender_gone, receiver_gone) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let node = self.machines[owner].id;
        let terms = SourceTerms { node, incarnation, hung_up: Arc::clone(&sender_gone) };
        if send(&self.machines[replica], Command::Source(laid.receiver, terms)) {
            let gone = Arc::clone(&receiver_gone);
            let hung_up: HungUp = Box::new(move || gone.load(Ordering::Acquire));
            let link = Link::peer(laid.sender, None, Some(hung_up));
            let opened = Opened { to, incarnation: life, link };
            send(&self.machines[owner], Command::Follower(opened));
        }
        self.lanes.push(OpenLane {
            from: Some(node),
            producer: usize::MAX,
            node: to.node,
            slots_link: laid.slots_link,
            sender_gone,
            receiver_gone,
        });
    }

    /// The lanes from an owner to its replicas break, as when a connection is reset.
    pub(super) fn reconnect_replicas(&mut self, owner: usize) {
        let owner = self.machines[owner].id;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].from == Some(owner) {
                let first = if self.rng.chance(500_000) { End::Sender } else { End::Receiver };
                self.sever(lane, first);
            }
        }
    }

    /// The lanes to a node break from which it is being filled, while what their owners send next
    /// is held up: it arrives when they fill the node again through other lanes.
    pub(super) fn sever_fill(&mut self, replica: NodeId) {
        for lane in 0..self.lanes.len() {
            let open = !is_set(&self.lanes[lane].receiver_gone);
            if open && self.lanes[lane].from.is_some() && self.lanes[lane].node == replica {
                let now = self.now();
                let broken = now + self.rng.below(16 * self.plan.step_ns);
                let arrives = broken + self.rng.log_within(1_000, 20_000_000);
                self.network.link(self.lanes[lane].slots_link).stall(arrives);
                self.at(broken, Event::HangUp(lane, End::Sender));
                self.at(arrives + (arrives - now), Event::HangUp(lane, End::Receiver));
            }
        }
    }

    /// One end sees so at once, the other later; what is under way until then may still arrive.
    fn sever(&mut self, lane: usize, first: End) {
        if is_set(&self.lanes[lane].receiver_gone) {
            return;
        }
        let delay = self.rng.log_within(1_000, 20_000_000);
        let second = if first == End::Sender { End::Receiver } else { End::Sender };
        self.hang_up(lane, first);
        self.after(delay, Event::HangUp(lane, second));
    }

    /// The lanes of a producer break: it sees so at once, the node later; what is under way until
    /// then may still arrive.
    pub(super) fn reconnect(&mut self, producer: usize) {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].producer == producer && !is_set(&self.lanes[lane].receiver_gone) {
                self.hang_up(lane, End::Sender);
                let delay = self.rng.log_within(1_000, 20_000_000);
                self.after(delay, Event::HangUp(lane, End::Receiver));
            }
        }
    }

    /// One end of a lane learns that the other is gone.
    pub(super) fn hang_up(&mut self, lane: usize, end: End) {
        let lane = &self.lanes[lane];
        match end {
            End::Sender => lane.receiver_gone.store(true, Ordering::Release),
            End::Receiver => {
                self.network.link(lane.slots_link).cut(self.network.now());
                lane.sender_gone.store(true, Ordering::Release);
            }
        }
    }

    /// A node is gone: some of its producers notice at once, others only by the view.
    pub(super) fn break_lanes_of(&mut self, node: usize) {
        let id = self.machines[node].id;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].node == id && self.rng.chance(500_000) {
                let delay = self.delay();
                self.after(delay, Event::HangUp(lane, End::Sender));
            }
            if self.lanes[lane].from == Some(id) {
                let delay = self.delay();
                self.after(delay, Event::HangUp(lane, End::Receiver));
            }
        }
    }
}

/// Gives a shard a command; false if its queue is full or it is gone.
pub(super) fn send(machine: &Machine, command: Command<SimTransport>) -> bool {
    machine.process.as_ref().is_some_and(|process| process.commands.try_send(command).is_ok())
}

fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Acquire)
}
