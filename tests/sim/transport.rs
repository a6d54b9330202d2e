//! The simulated transport: memory that arrives at the peer late, and in any order that the
//! contract allows.
//!
//! What is `write`n stays local. A put line or a stored word travels for a random time. Only two
//! things are ordered: the values of one word (or line), and, across a fence, everything before it
//! against the stores after it. A link may stall, and then all of it arrives late; or it may be
//! cut, and then nothing arrives any more. Reads never leave the process: they see what has
//! arrived by now.
//!
//! Arrival needs no event of its own: a link applies what is due when its memory is looked at.
//!
//! Invariant: one thread, one clock; nothing here draws on chance but the network's own generator.

use super::rng::Rng;
use super::trace::Trace;
use core::cell::{Cell, RefCell};
use core::cmp::Reverse;
use core::ops::Range;
use std::collections::BinaryHeap;
use std::rc::Rc;
use zepto_core::limits::REGION_LINES_MAX;
use zepto_transport::{Line, Region, Remote, Transport, TransportError};

/// Who holds an end of a link: nodes and producers, by number.
pub type Party = u32;

/// How long things travel.
#[derive(Clone, Copy, Debug)]
pub struct Travel {
    /// Shortest time in nanoseconds.
    pub min_ns: u64,
    /// Longest time in nanoseconds.
    pub max_ns: u64,
    /// How many in a million take ten times as long.
    pub slow_ppm: u64,
}

/// What all links of one schedule share.
#[derive(Debug)]
pub struct Network {
    now: Cell<u64>,
    travel: Cell<Travel>,
    rng: RefCell<Rng>,
    links: RefCell<Vec<Rc<Link>>>,
    taps: RefCell<Vec<Tap>>,
    /// What happened.
    pub trace: Trace,
}

/// A word stored into a tapped link, at the moment it was stored.
#[derive(Clone, Copy, Debug)]
pub struct Tap {
    /// The link.
    pub link: u32,
    /// The line.
    pub line: usize,
    /// The word in it.
    pub word: usize,
    /// Its value.
    pub value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Line(Line),
    Word(u64),
}

/// Due at, order of issue, place, what.
type Op = (u64, u64, usize, What);

/// One region on its way to one peer.
#[derive(Debug)]
pub struct Link {
    /// Its number.
    pub id: u32,
    from: Party,
    to: Cell<Option<Party>>,
    memory: RefCell<Vec<Line>>,
    queue: RefCell<BinaryHeap<Reverse<Op>>>,
    stalled_until: Cell<u64>,
    cut_at: Cell<u64>,
    tapped: Cell<bool>,
}

impl Network {
    /// A network without links.
    pub fn new(rng: Rng, travel: Travel, trace: Trace) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(0),
            travel: Cell::new(travel),
            rng: RefCell::new(rng),
            links: RefCell::default(),
            taps: RefCell::default(),
            trace,
        })
    }

    /// The virtual time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Sets the virtual time, which only grows.
    pub fn advance_to(&self, now: u64) {
        self.now.set(now.max(self.now.get()));
    }

    /// One party's way to all others.
    pub fn end(self: &Rc<Self>, party: Party) -> SimTransport {
        SimTransport { network: Rc::clone(self), party }
    }

    /// Number of links made so far; the next one gets this as its id.
    pub fn links(&self) -> u32 {
        self.links.borrow().len() as u32
    }

    /// A link.
    pub fn link(&self, id: u32) -> Rc<Link> {
        Rc::clone(&self.links.borrow()[id as usize])
    }

    /// Nothing from one party to another arrives before a time.
    pub fn stall(&self, from: Party, to: Party, until: u64) {
        for link in self.links.borrow().iter() {
            if link.from == from && link.to.get() == Some(to) {
                link.stall(until);
            }
        }
    }

    /// Ends all stalls.
    pub fn heal(&self) {
        self.links.borrow().iter().for_each(|link| link.stalled_until.set(0));
    }

    /// Nothing that a party put or stored arrives after a time.
    pub fn cut(&self, from: Party, at: u64) {
        for link in self.links.borrow().iter().filter(|link| link.from == from) {
            link.cut(at);
        }
    }

    /// Takes what was stored into tapped links since the last call, in order.
    pub fn take_taps(&self) -> Vec<Tap> {
        core::mem::take(&mut *self.taps.borrow_mut())
    }

    fn travel(&self) -> u64 {
        let (travel, mut rng) = (self.travel.get(), self.rng.borrow_mut());
        let time = rng.within(travel.min_ns, travel.max_ns + 1);
        if travel.slow_ppm > 0 && rng.chance(travel.slow_ppm) { time * 10 } else { time }
    }
}

impl Link {
    /// Nothing arrives after a time.
    pub fn cut(&self, at: u64) {
        self.cut_at.set(at.min(self.cut_at.get()));
    }

    /// Nothing arrives before a time.
    pub fn stall(&self, until: u64) {
        self.stalled_until.set(until);
    }

    /// Reports every word stored from now on.
    pub fn tap(&self) {
        self.tapped.set(true);
    }

    /// Applies what has arrived by now.
    fn deliver(&self, network: &Network) {
        let now = network.now.get().min(self.cut_at.get());
        if now < self.stalled_until.get() {
            return;
        }
        let mut queue = self.queue.borrow_mut();
        while let Some(Reverse((due, _, place, what))) = queue.peek().copied() {
            if due > now {
                break;
            }
            queue.pop();
            let line = &mut self.memory.borrow_mut()[place / 8];
            match what {
                What::Line(value) => {
                    *line = value;
                    network.trace.mix(&[u64::from(self.id), due, place as u64, value[6]]);
                }
                What::Word(value) => {
                    line[place % 8] = value;
                    network.trace.mix(&[u64::from(self.id), due, place as u64, value]);
                }
            }
        }
    }
}

/// One party's transport.
#[derive(Clone, Debug)]
pub struct SimTransport {
    network: Rc<Network>,
    party: Party,
}

/// Memory written by one party.
pub struct SimRegion {
    network: Rc<Network>,
    link: Rc<Link>,
    local: Vec<Line>,
    /// By word: when its last value is due.
    due: Vec<u64>,
    /// When everything before the last fence is due.
    fenced: u64,
    /// When everything is due.
    latest: u64,
    issued: u64,
}

/// The same memory at the other party.
pub struct SimRemote {
    network: Rc<Network>,
    link: Rc<Link>,
}

/// Leads to a region.
pub struct SimTicket(Rc<Link>);

impl Transport for SimTransport {
    type Region = SimRegion;
    type Remote = SimRemote;
    type Ticket = SimTicket;

    fn register(&self, lines: usize) -> Result<(SimRegion, SimTicket), TransportError> {
        if lines == 0 || lines > REGION_LINES_MAX {
            let (bytes, bytes_max) = (bytes_of(lines), bytes_of(REGION_LINES_MAX));
            return Err(TransportError::TooLarge { bytes, bytes_max });
        }
        let mut links = self.network.links.borrow_mut();
        let link = Rc::new(Link {
            id: links.len() as u32,
            from: self.party,
            to: Cell::new(None),
            memory: RefCell::new(vec![[0; 8]; lines]),
            queue: RefCell::default(),
            stalled_until: Cell::new(0),
            cut_at: Cell::new(u64::MAX),
            tapped: Cell::new(false),
        });
        links.push(Rc::clone(&link));
        let region = SimRegion {
            network: Rc::clone(&self.network),
            link: Rc::clone(&link),
            local: vec![[0; 8]; lines],
            due: vec![0; lines * 8],
            fenced: 0,
            latest: 0,
            issued: 0,
        };
        Ok((region, SimTicket(link)))
    }

    fn connect(&self, ticket: SimTicket, lines: usize) -> Result<SimRemote, TransportError> {
        let found = ticket.0.memory.borrow().len();
        if found != lines {
            let (expected, found) = (bytes_of(lines), bytes_of(found));
            return Err(TransportError::WrongSize { expected, found });
        }
        ticket.0.to.set(Some(self.party));
        Ok(SimRemote { network: Rc::clone(&self.network), link: ticket.0 })
    }

    fn progress(&self) -> usize {
        0
    }
}

impl SimRegion {
    fn issue(&mut self, place: usize, what: What, not_before: u64) {
        let arrival = self.network.now() + self.network.travel();
        let due = arrival.max(not_before).max(self.due[place]);
        self.due[place] = due;
        self.latest = self.latest.max(due);
        self.issued += 1;
        self.link.queue.borrow_mut().push(Reverse((due, self.issued, place, what)));
    }
}

impl Region for SimRegion {
    fn lines(&self) -> usize {
        self.local.len()
    }

    fn write(&mut self, line: usize, value: &Line) {
        self.local[line] = *value;
    }

    fn read(&self, line: usize) -> Line {
        self.local[line]
    }

    fn put(&mut self, lines: Range<usize>) {
        assert!(lines.start <= lines.end && lines.end <= self.local.len());
        for line in lines {
            // A put is not held back by a fence: only a store is.
            self.issue(line * 8, What::Line(self.local[line]), 0);
        }
    }

    fn fence(&mut self) {
        self.fenced = self.latest;
    }

    fn store(&mut self, line: usize, word: usize, value: u64) {
        assert!(line < self.local.len() && word < 8);
        self.issue(line * 8 + word, What::Word(value), self.fenced);
        if self.link.tapped.get() {
            let tap = Tap { link: self.link.id, line, word, value };
            self.network.taps.borrow_mut().push(tap);
        }
    }
}

impl Remote for SimRemote {
    fn lines(&self) -> usize {
        self.link.memory.borrow().len()
    }

    fn get(&self, line: usize) -> Line {
        self.link.deliver(&self.network);
        self.link.memory.borrow()[line]
    }

    fn load(&self, line: usize, word: usize) -> u64 {
        self.link.deliver(&self.network);
        self.link.memory.borrow()[line][word]
    }
}

impl Link {
    /// What has arrived in a line, for whoever watches.
    pub fn arrived(&self, network: &Network, line: usize) -> Line {
        self.deliver(network);
        self.memory.borrow()[line]
    }
}

fn bytes_of(lines: usize) -> u64 {
    (lines as u64).saturating_mul(size_of::<Line>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zepto_transport::conformance::Pair;

    fn pair() -> Pair<SimTransport> {
        let travel = Travel { min_ns: 1, max_ns: 10_000, slow_ppm: 50_000 };
        let network = Network::new(Rng::new(5), travel, Trace::new(false));
        let (a, b) = (network.end(1), network.end(2));
        Pair::new(a, b, move || network.advance_to(network.now() + 1_000))
    }

    zepto_transport::conformance!(simulated, super::pair);

    #[test]
    fn without_a_fence_a_store_overtakes_and_with_one_it_never_does() {
        for (fence, expected) in [(false, true), (true, false)] {
            let travel = Travel { min_ns: 1, max_ns: 1_000, slow_ppm: 0 };
            let network = Network::new(Rng::new(1), travel, Trace::new(false));
            let mut overtaken = false;
            for _ in 0..200 {
                let (mut region, ticket) = network.end(1).register(2).unwrap();
                let remote = network.end(2).connect(ticket, 2).unwrap();
                region.write(0, &[7; 8]);
                region.put(0..1);
                if fence {
                    region.fence();
                }
                region.store(1, 0, 1);
                while remote.load(1, 0) == 0 {
                    network.advance_to(network.now() + 50);
                }
                overtaken |= remote.get(0) != [7; 8];
            }
            assert_eq!(overtaken, expected);
        }
    }

    #[test]
    fn what_is_cut_off_never_arrives_and_what_is_stalled_arrives_late() {
        let travel = Travel { min_ns: 10, max_ns: 10, slow_ppm: 0 };
        let network = Network::new(Rng::new(1), travel, Trace::new(false));
        let (mut region, ticket) = network.end(1).register(1).unwrap();
        let remote = network.end(2).connect(ticket, 1).unwrap();
        region.store(0, 0, 1);
        network.stall(1, 2, 100);
        network.advance_to(99);
        assert_eq!(remote.load(0, 0), 0);
        network.advance_to(100);
        assert_eq!(remote.load(0, 0), 1);
        region.store(0, 0, 2);
        network.cut(1, 105);
        network.advance_to(1_000);
        assert_eq!(remote.load(0, 0), 1);
    }
}
