//! One schedule: nodes, their producers and the log, run event by event in virtual time on one
//! thread.
//!
//! Three phases. In the first, faults strike as planned; in the second they are over, producers
//! send a little more, and everything has to come to its end within bounded time, every copy full.
//! In the third one more node is lost for good: what the others then hold is what its copies held.
//! Oracles look on all along, and at the stores after the second and the third.
//!
//! Not simulated here: lanes over RPC (the same agents see a mailbox either way).

use super::feeder::{Exchange, Feeder};
use super::log::Log;
use super::machine::{Clock, Machine};
use super::oracle::conservation::Conservation;
use super::oracle::durability::Durability;
use super::oracle::writer::OneWriter;
use super::oracle::{Failure, Oracle, Verdict, ensure};
use super::plan::Plan;
use super::rng::Rng;
use super::trace::Trace;
use super::transport::{Network, Party};
use super::watch::Watch;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use zepto_core::topology::{Change, Command};
use zepto_core::view::Destination;
use zepto_core::{Incarnation, NodeId};

/// Virtual time after the faults within which everything must have come to its end.
const SETTLE_WITHIN_NS: u64 = 3_000_000_000;
/// Steps without effect after which an agent is called less often.
const IDLE_STEPS: u32 = 8;

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A node's shard runs.
    Node(usize, Incarnation),
    /// A producer's thread runs.
    Producer(usize),
    /// A message brings a view.
    View(Party, u64),
    /// Somebody asks the log what is new.
    Pull(Party),
    /// A lane that a producer asked for.
    Open(usize, Destination, Incarnation),
    /// A lane that an owner wants to a replica.
    OpenReplica(usize, Incarnation, Destination),
    /// A sender or a receiver learns that the other end is gone.
    HangUp(usize, End),
    /// The operator looks around.
    Operate,
    /// An entry reaches the log.
    Commit(Command),
    /// A node starts again.
    Restart(usize, Incarnation),
    /// A node looks at its partitions.
    Keep(usize, Incarnation),
    /// A node learns what became of its changes.
    Told { node: usize, incarnation: Incarnation, changes: Vec<Change>, index: u64, lost: bool },
    /// A planned fault strikes.
    Fault(usize),
    /// A reader looks at a node's partitions.
    Read(usize),
    /// The faults are over.
    Heal,
}

/// Which end of a lane learns something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Sender,
    Receiver,
}

/// A lane, as whoever opened it knows it.
pub(super) struct OpenLane {
    /// The owner, if it leads from one to a replica; else it is the producer's.
    pub from: Option<NodeId>,
    pub producer: usize,
    pub node: NodeId,
    pub slots_link: u32,
    pub sender_gone: Arc<AtomicBool>,
    pub receiver_gone: Arc<AtomicBool>,
}

/// A schedule under way.
pub struct World {
    pub(super) plan: Plan,
    pub(super) network: Rc<Network>,
    pub(super) rng: Rng,
    pub(super) log: Log,
    pub(super) machines: Vec<Machine>,
    pub(super) feeders: Vec<Feeder>,
    pub(super) exchange: Rc<RefCell<Exchange>>,
    pub(super) lanes: Vec<OpenLane>,
    pub(super) watch: Watch,
    /// (from, to, until): no message of the log gets through.
    pub(super) partitions: Vec<(Party, Party, u64)>,
    pub(super) healed: bool,
    /// Some partition was lost with its only copy.
    pub(super) lost_data: bool,
    /// The lanes break of the next fill that begins.
    pub(super) sever_next_fill: bool,
    pub(super) durability: Durability,
    pub(super) writer: OneWriter,
    pub(super) conservation: Conservation,
    queue: BinaryHeap<Reverse<(u64, u64, EventBox)>>,
    scheduled: u64,
    next_fault: usize,
}

/// An event in the queue; only time and number order it.
struct EventBox(Event);

impl PartialEq for EventBox {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for EventBox {}
impl PartialOrd for EventBox {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for EventBox {
    fn cmp(&self, _: &Self) -> core::cmp::Ordering {
        core::cmp::Ordering::Equal
    }
}

impl World {
    /// A cluster that has just come up.
    pub fn new(plan: Plan, rng: Rng, trace: Trace) -> Self {
        let mut rng = rng;
        let network = Network::new(rng.split(), plan.travel, trace);
        let log = Log::new(plan.bits, plan.copies, plan.nodes, &mut rng);
        let exchange = Rc::new(RefCell::new(Exchange::default()));
        let machines = (1..=plan.nodes).map(|id| Machine::new(id, Clock::draw(&mut rng))).collect();
        let feeders = plan.producers.iter().zip(0..);
        let feeders = feeders
            .map(|(producer, n)| Feeder::new(n, *producer, plan.bits, &exchange, rng.split()))
            .collect();
        let mut world = Self {
            network,
            rng,
            log,
            machines,
            feeders,
            exchange,
            lanes: Vec::new(),
            watch: Watch::new(plan.bits),
            partitions: Vec::new(),
            healed: false,
            lost_data: false,
            sever_next_fill: false,
            durability: Durability::default(),
            writer: OneWriter::default(),
            conservation: Conservation::default(),
            queue: BinaryHeap::new(),
            scheduled: 0,
            next_fault: 0,
            plan,
        };
        world.begin();
        world.note_owners();
        world
    }

    /// Tells the oracles who owns what by the log.
    pub(super) fn note_owners(&mut self) {
        for (partition, assignment) in self.log.assignments() {
            let owner = assignment.owner().and_then(|owner| self.log.placement().member(owner));
            if let Some(owner) = owner {
                self.durability.owner(owner.id, owner.incarnation, partition);
            }
        }
    }

    fn begin(&mut self) {
        for node in 0..self.machines.len() {
            self.machines[node].start(&self.plan);
            self.started(node);
            self.at(0, Event::Read(node));
        }
        for producer in 0..self.feeders.len() {
            let party = self.feeders[producer].party();
            self.at(0, Event::View(party, self.log.first));
            self.at(self.plan.pull_ns, Event::Pull(party));
            self.at(self.feeders[producer].plan.begin_ns, Event::Producer(producer));
        }
        for fault in 0..self.plan.faults.len() {
            self.at(self.plan.faults[fault].0, Event::Fault(fault));
        }
        self.at(self.plan.heal_ns, Event::Heal);
        self.at(self.plan.detect_ns, Event::Operate);
    }

    /// A process has just started: it will step, and hear of the log.
    pub(super) fn started(&mut self, node: usize) {
        let (party, incarnation) = (self.machines[node].party(), self.machines[node].incarnation);
        let now = self.now();
        let first = self.rng.below(self.plan.step_ns);
        self.at(now + first, Event::Node(node, incarnation));
        self.at(now + first, Event::Keep(node, incarnation));
        self.message(party, self.log.index());
        self.at(now + self.plan.pull_ns, Event::Pull(party));
    }

    /// Runs to the end. The first thing that an oracle finds ends it.
    pub fn run(&mut self) -> Verdict {
        self.run_until_rest(self.plan.heal_ns + SETTLE_WITHIN_NS)?;
        self.at_end()?;
        if self.plan.copies > 1 && self.lose_one() {
            self.run_until_rest(self.now() + SETTLE_WITHIN_NS)?;
            self.at_end()?;
        }
        Ok(())
    }

    fn run_until_rest(&mut self, deadline: u64) -> Verdict {
        while let Some(Reverse((at, number, EventBox(event)))) = self.queue.pop() {
            self.network.advance_to(at);
            if at > deadline {
                // It has yet to happen, should this go on.
                self.queue.push(Reverse((at, number, EventBox(event))));
                // With stores that are too small for the copies, nothing may ever settle again.
                return if self.is_small() { Ok(()) } else { self.unsettled() };
            }
            self.happen(event)?;
            if self.healed && self.feeders.iter().all(Feeder::is_done) && self.is_whole() {
                break;
            }
        }
        Ok(())
    }

    /// Somebody is lost for good, if that may be.
    fn lose_one(&mut self) -> bool {
        let node = self.rng.below(self.machines.len() as u64) as usize;
        self.machines[node].process.is_some() && self.crash(node, u64::MAX / 4)
    }

    /// What happened.
    pub fn trace(&self) -> &Trace {
        &self.network.trace
    }

    pub(super) fn now(&self) -> u64 {
        self.network.now()
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse((time, self.scheduled, EventBox(event))));
    }

    pub(super) fn after(&mut self, ns: u64, event: Event) {
        self.at(self.now() + ns, event);
    }

    fn happen(&mut self, event: Event) -> Verdict {
        let now = self.now();
        let kind = match &event {
            Event::Node(node, _) => *node as u64,
            Event::Producer(producer) => 10 + *producer as u64,
            Event::View(party, index) => u64::from(*party) << 32 | index,
            other => {
                self.network.trace.say(|| format!("{now:>12} {other:?}"));
                1 << 60
            }
        };
        self.network.trace.mix(&[now, kind]);
        match event {
            Event::Node(node, incarnation) => return self.step_node(node, incarnation),
            Event::Producer(producer) => return self.step_producer(producer),
            Event::View(party, index) => self.deliver_view(party, index),
            Event::Pull(party) => self.pull(party),
            Event::Open(producer, to, incarnation) => self.open(producer, to, incarnation),
            Event::OpenReplica(node, incarnation, to) => self.open_replica(node, incarnation, to),
            Event::HangUp(lane, end) => self.hang_up(lane, end),
            Event::Operate => self.operate(),
            Event::Commit(command) => self.commit(&command),
            Event::Keep(node, incarnation) => self.keep(node, incarnation),
            Event::Told { node, incarnation, changes, index, lost } => {
                self.told(node, incarnation, &changes, index, lost);
            }
            Event::Restart(node, incarnation) => self.restart(node, incarnation),
            Event::Fault(fault) => self.strike(self.plan.faults[fault].1),
            Event::Read(node) => return self.read(node),
            Event::Heal => self.heal(),
        }
        Ok(())
    }

    fn step_node(&mut self, node: usize, incarnation: Incarnation) -> Verdict {
        let now = self.now();
        let machine = &mut self.machines[node];
        let until = machine.paused_until;
        let Some(process) = machine.process.as_mut() else { return Ok(()) };
        if machine.incarnation != incarnation {
            return Ok(());
        }
        if until > now {
            self.at(until, Event::Node(node, incarnation));
            return Ok(());
        }
        let before = process.shard.counters();
        process.shard.do_work(machine.clock.read(now), 1_700_000_000_000_000_000 + now);
        let counters = process.shard.counters();
        let grown = counters.appended != before.appended
            || counters.replicated != before.replicated
            || counters.duplicates != before.duplicates
            || counters.rows_copied != before.rows_copied
            || counters.rows_filled != before.rows_filled;
        if let Some(news) = process.shard.news() {
            process.news = news;
        }
        let wanted = process.news.wanted.iter().map(|(to, _)| *to);
        let new = wanted.filter(|to| process.opening.insert(*to)).collect::<Vec<_>>();
        machine.idle = if grown { 0 } else { machine.idle + 1 };
        let idle = machine.idle;
        for to in new {
            let delay = self.delay();
            self.after(delay, Event::OpenReplica(node, incarnation, to));
        }
        let corrupt = counters.corrupt_lanes;
        ensure(Oracle::Assertion, corrupt == 0, || {
            format!("node {} closed a lane as corrupt", node + 1)
        })?;
        self.observe(node)?;
        if counters.view_index != before.view_index {
            self.check_promoted(node, before.view_index)?;
        }
        self.finish_switching(node);
        let pause = self.pause_after(self.plan.step_ns, idle);
        self.after(pause, Event::Node(node, incarnation));
        Ok(())
    }

    fn step_producer(&mut self, producer: usize) -> Verdict {
        let now = self.now();
        let feeder = &mut self.feeders[producer];
        if feeder.paused_until > now {
            let until = feeder.paused_until;
            self.at(until, Event::Producer(producer));
            return Ok(());
        }
        let before = feeder.progress();
        let stepped = feeder.step(now);
        stepped.map_err(|story| Failure { oracle: Oracle::Conservation, story })?;
        let account = feeder.producer.account();
        Conservation::at_step(producer, &account, feeder.sent)?;
        if feeder.progress() != before {
            self.network.trace.say(|| format!("{now:>12} producer {producer}: {account:?}"));
        }
        feeder.idle = if feeder.progress() == before { feeder.idle + 1 } else { 0 };
        let (idle, step_ns) = (feeder.idle, feeder.plan.step_ns);
        let requests = core::mem::take(&mut self.exchange.borrow_mut().requests);
        for (producer, to, incarnation) in requests {
            let delay = self.delay();
            self.after(delay, Event::Open(producer, to, incarnation));
        }
        let pause = self.pause_after(step_ns, idle);
        self.after(pause, Event::Producer(producer));
        Ok(())
    }

    /// Time to an agent's next step. Long silences are not stepped through: an idle agent waits
    /// up to a part of the time until something is planned to happen.
    pub(super) fn pause_after(&mut self, step_ns: u64, idle: u32) -> u64 {
        let pause = self.rng.within(step_ns / 2 + 1, step_ns * 3 / 2 + 2);
        if idle < IDLE_STEPS {
            return pause;
        }
        let lull = self.lull();
        (pause << (idle - IDLE_STEPS).min(32)).min(lull.max(pause))
    }

    /// A part of the time until the next planned event; none once everything is healed.
    pub(super) fn lull(&mut self) -> u64 {
        let now = self.now();
        let faults = &self.plan.faults;
        while faults.get(self.next_fault).is_some_and(|(at, _)| *at <= now) {
            self.next_fault += 1;
        }
        let next = faults.get(self.next_fault).map_or(self.plan.heal_ns, |(at, _)| *at);
        next.saturating_sub(now) / 24
    }

    /// A random delay of a message.
    pub(super) fn delay(&mut self) -> u64 {
        let max = self.plan.message_ns_max;
        self.rng.within(max / 50 + 1, max + 2)
    }
}
