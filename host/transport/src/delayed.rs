//! A transport for tests that keeps no promise it has not given: bytes arrive late, one by one,
//! and in any order that the fences allow.
//!
//! It stands in for RDMA, where a store really can overtake a put, which shared memory on x86
//! hides. Invariant: between two fences nothing is ordered, not even two stores to one word.

use core::ops::Range;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::conformance::Pair;
use crate::transport::{Line, Region, Remote, Transport, TransportError, checked_bytes};

/// Both ends and everything under way between them.
#[derive(Clone, Default)]
struct Delayed {
    wires: Rc<RefCell<Vec<SharedWire>>>,
}

type SharedWire = Rc<RefCell<Wire>>;

#[derive(Default)]
struct Wire {
    arrived: Vec<Line>,
    under_way: VecDeque<Packet>,
}

enum Packet {
    Fence,
    Line(usize, Line),
    Word(usize, usize, u64),
}

struct DelayedRegion {
    local: Vec<Line>,
    wire: SharedWire,
}

struct DelayedRemote {
    wire: SharedWire,
}

impl Delayed {
    /// On each wire, now and then: delivers one packet, any one before the first fence.
    fn deliver(&self, random: &mut u64) {
        for wire in self.wires.borrow().iter() {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if *random >> 62 != 0 {
                continue;
            }
            let Wire { arrived, under_way } = &mut *wire.borrow_mut();
            let free = under_way.iter().take_while(|packet| !matches!(packet, Packet::Fence));
            // A fence goes once nothing is before it.
            let choices = free.count().max(1);
            match under_way.remove((*random >> 29) as usize % choices) {
                Some(Packet::Line(line, value)) => arrived[line] = value,
                Some(Packet::Word(line, word, value)) => arrived[line][word] = value,
                Some(Packet::Fence) | None => (),
            }
        }
    }
}

impl Transport for Delayed {
    type Region = DelayedRegion;
    type Remote = DelayedRemote;
    type Ticket = SharedWire;

    fn register(&self, lines: usize) -> Result<(DelayedRegion, SharedWire), TransportError> {
        checked_bytes(lines)?;
        let local = vec![[0; 8]; lines];
        let wire = Wire { arrived: local.clone(), under_way: VecDeque::new() };
        let wire = Rc::new(RefCell::new(wire));
        self.wires.borrow_mut().push(Rc::clone(&wire));
        Ok((DelayedRegion { local, wire: Rc::clone(&wire) }, wire))
    }

    fn connect(&self, wire: SharedWire, lines: usize) -> Result<DelayedRemote, TransportError> {
        assert_eq!(wire.borrow().arrived.len(), lines);
        Ok(DelayedRemote { wire })
    }

    fn progress(&self) -> usize {
        0
    }
}

impl Region for DelayedRegion {
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
        let packets = lines.map(|line| Packet::Line(line, self.local[line]));
        self.wire.borrow_mut().under_way.extend(packets);
    }

    fn fence(&mut self) {
        self.wire.borrow_mut().under_way.push_back(Packet::Fence);
    }

    fn store(&mut self, line: usize, word: usize, value: u64) {
        self.wire.borrow_mut().under_way.push_back(Packet::Word(line, word, value));
    }
}

impl Remote for DelayedRemote {
    fn lines(&self) -> usize {
        self.wire.borrow().arrived.len()
    }

    fn get(&self, line: usize) -> Line {
        self.wire.borrow().arrived[line]
    }

    fn load(&self, line: usize, word: usize) -> u64 {
        self.wire.borrow().arrived[line][word]
    }
}

fn pair(seed: u64) -> Pair<Delayed> {
    let network = Delayed::default();
    let mut random = seed;
    Pair::new(network.clone(), network.clone(), move || network.deliver(&mut random))
}

crate::conformance!(seed_1, || pair(1));
crate::conformance!(seed_2, || pair(0x9e37_79b9_7f4a_7c15));
