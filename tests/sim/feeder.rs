//! A producer's program: offers ticks in bursts, publishes and polls, and remembers what it
//! offered. The producer inside is production's.

use super::machine::{Clock, nothing_yet};
use super::plan::ProducerPlan;
use super::rng::Rng;
use super::transport::{Party, SimTransport};
use arc_swap::ArcSwap;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use zepto_client::producer::{IngestError, Lanes, Opened, Producer};
use zepto_core::hash::partition_of;
use zepto_core::view::{Destination, View};
use zepto_core::{Incarnation, Kind, PartitionId, ProducerId, Tick};

/// Symbols that producers draw from.
const SYMBOLS: u32 = 64;
/// Symbols of each partition that are used.
const SYMBOLS_PER_PARTITION: usize = 2;

/// Where producers ask for lanes and the world answers.
#[derive(Default)]
pub struct Exchange {
    /// Asked for since the world looked last: (producer, to, incarnation).
    pub requests: Vec<(usize, Destination, Incarnation)>,
    /// Asked for and not answered.
    pub pending: BTreeSet<(usize, Destination)>,
    /// By producer: answers.
    pub answers: Vec<VecDeque<Result<Opened<SimTransport>, Destination>>>,
}

/// One producer's part of the exchange.
pub struct SimLanes {
    exchange: Rc<RefCell<Exchange>>,
    producer: usize,
}

impl Lanes for SimLanes {
    type Transport = SimTransport;

    fn request(&mut self, to: Destination, incarnation: Incarnation, _: &View) {
        let mut exchange = self.exchange.borrow_mut();
        if exchange.pending.insert((self.producer, to)) {
            exchange.requests.push((self.producer, to, incarnation));
        }
    }

    fn poll(&mut self) -> Option<Result<Opened<SimTransport>, Destination>> {
        self.exchange.borrow_mut().answers[self.producer].pop_front()
    }
}

/// A producer and what it was given.
pub struct Feeder {
    /// Its number.
    pub number: usize,
    /// What it is to do.
    pub plan: ProducerPlan,
    /// The producer.
    pub producer: Producer<SimLanes>,
    /// Where its views are published.
    pub view: Arc<ArcSwap<View>>,
    /// Its thread does not run before this time.
    pub paused_until: u64,
    /// Its clock.
    pub clock: Clock,
    /// Steps in a row that changed nothing.
    pub idle: u32,
    /// Ids of accepted ticks, by partition, in order.
    pub accepted: BTreeMap<PartitionId, Vec<u64>>,
    /// Ticks it is to offer in all.
    pub goal: u64,
    /// Ticks accepted so far.
    pub sent: u64,
    symbols: Vec<u32>,
    bits: u8,
    rng: Rng,
}

impl Feeder {
    /// A producer that knows no view yet.
    pub fn new(
        number: usize,
        plan: ProducerPlan,
        bits: u8,
        exchange: &Rc<RefCell<Exchange>>,
        mut rng: Rng,
    ) -> Self {
        exchange.borrow_mut().answers.push(VecDeque::new());
        let view = nothing_yet();
        let lanes = SimLanes { exchange: Rc::clone(exchange), producer: number };
        let mut producer = Producer::new(ProducerId(rng.bits()), Arc::clone(&view), lanes);
        producer.know_symbols(SYMBOLS);
        producer.keep_tickets();
        Self {
            number,
            plan,
            producer,
            view,
            paused_until: 0,
            clock: Clock::draw(&mut rng),
            idle: 0,
            accepted: BTreeMap::new(),
            goal: plan.ticks,
            sent: 0,
            symbols: symbols(bits),
            bits,
            rng,
        }
    }

    /// The link party of a producer.
    pub fn party(&self) -> Party {
        100 + self.number as Party
    }

    /// Whether everything it was to offer is offered, and has come to its end.
    pub fn is_done(&self) -> bool {
        self.sent >= self.goal && self.producer.account().is_final()
    }

    /// Grows with everything that brings the end nearer.
    pub fn progress(&self) -> u64 {
        let account = self.producer.account();
        account.accepted + account.settled + account.refused_total()
    }

    /// Offers a burst, as far as it is taken, and looks at what came back.
    pub fn step(&mut self, now: u64) -> Result<(), String> {
        let burst = 1 + self.rng.below(self.plan.burst_max);
        for _ in 0..burst.min(self.goal.saturating_sub(self.sent)) {
            let symbol = *self.rng.pick(&self.symbols);
            let id = ((self.number as u64 + 1) << 32) | (self.sent + 1);
            match self.producer.ingest(&tick_of(id, symbol)) {
                Ok(()) => {
                    self.sent += 1;
                    let partition = partition_of(0, symbol, self.bits);
                    self.accepted.entry(partition).or_default().push(id);
                }
                Err(IngestError::Busy | IngestError::Offline) => break,
                Err(error) => return Err(format!("a sound tick was not taken: {error}")),
            }
        }
        // Sometimes the program has better things to do than to publish.
        if self.rng.chance(900_000) {
            self.producer.publish();
        }
        self.producer.poll(self.clock.read(now));
        Ok(())
    }
}

/// Content that follows from the id, so that any change on the way shows.
pub fn tick_of(id: u64, symbol: u32) -> Tick {
    Tick {
        sequence: 0,
        // Many ticks share a time, so that only the sequence orders them.
        event_time_ns: 1_000 + (id & 0xFFFF_FFFF) / 4,
        receive_time_ns: id % 3,
        symbol,
        table: 0,
        kind: Kind::TRADE,
        flags: id as u8,
        price: id as i64 * 7 - 1_000,
        size: id % 5,
        user: [id, !id],
    }
}

/// Symbols of every partition.
pub fn symbols(bits: u8) -> Vec<u32> {
    let mut found = vec![0; 1 << bits];
    (0..SYMBOLS)
        .filter(|symbol| {
            let count = &mut found[partition_of(0, *symbol, bits).0 as usize];
            *count += 1;
            *count <= SYMBOLS_PER_PARTITION
        })
        .collect()
}
