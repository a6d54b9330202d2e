//! zepto: real nodes, and producers that use the client as any program does.
//!
//! Throughput is of whole producers, whose accounts say how much is settled. Latency is tick by
//! tick, so its producer is one per shard that ticks go to, all on one thread: a lane settles in
//! order, and with one lane each the settled count says which tick it was.

use super::engine::{Flow, Latency, Ledger, Load, Pace, Publisher, flat_out, paced};
use super::system::{Role, Running, SYMBOLS, System, tick};
use crate::failure::{Result, While as _, fail};
use crate::nodes::{ANSWER_WITHIN, Nodes, Setup};
use crate::server::wait_until;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use zepto_client::producer::{Account, IngestError};
use zepto_client::real::Real;
use zepto_client::{ProducerOptions, TickProducer};

/// Length of the sequence of symbols that is repeated.
const STREAM: usize = 1 << 16;

/// A cluster that can be started.
pub struct Ours {
    /// What its nodes are.
    pub setup: Setup,
    /// How many.
    pub nodes: usize,
    /// Whether its latency is measured too.
    pub is_paced: bool,
}

impl System for Ours {
    fn name(&self) -> String {
        let plural = |count: usize, one: &str, more: &str| {
            format!("{count} {}", if count == 1 { one } else { more })
        };
        let copies = plural(self.setup.copies.into(), "copy", "copies");
        format!("zepto, {copies}, {}", plural(self.nodes, "node", "nodes"))
    }

    fn role(&self) -> Role {
        Role::Ours { nodes: self.nodes, copies: self.setup.copies }
    }

    fn knob(&self) -> Option<(&'static str, &'static [usize])> {
        None
    }

    fn is_paced(&self) -> bool {
        self.is_paced
    }

    fn start(&self, _knob: usize) -> Result<Box<dyn Running>> {
        let nodes = Nodes::start(self.setup.clone(), self.nodes)?;
        let (client, runtime) = nodes.with_runtime()?;
        let names: Vec<String> = (0..SYMBOLS).map(|number| format!("symbol-{number}")).collect();
        let ids = runtime.block_on(client.intern(&names, ANSWER_WITHIN)).doing("the symbols")?;
        let stream = zepto_benches::symbols(STREAM, SYMBOLS, false).into_iter();
        let stream = stream.map(|index| ids[index as usize]).collect();
        Ok(Box::new(Started { nodes, stream, sent: 0 }))
    }
}

struct Started {
    nodes: Nodes,
    /// Symbol ids, in the order in which ticks have them.
    stream: Arc<[u32]>,
    sent: u64,
}

impl Running for Started {
    fn flat_out(&mut self, producers: usize, load: Load) -> Result<Flow> {
        let client = self.nodes.client()?;
        let stream = &self.stream;
        let publisher = |_| Whole {
            producer: client.producer(ProducerOptions::default()),
            stream: Arc::clone(stream),
            settled: 0,
        };
        let flow = flat_out((0..producers).map(publisher).collect(), load)?;
        self.arrived(flow.ticks)?;
        Ok(flow)
    }

    fn paced(&mut self, pace: Pace) -> Result<Latency> {
        let client = self.nodes.client()?;
        let view = client.view();
        let mut lanes: BTreeMap<u16, Lane> = BTreeMap::new();
        for symbol in self.stream.iter() {
            lanes.entry(view.route(0, *symbol).destination).or_insert_with(|| Lane {
                producer: client.producer(ProducerOptions::default()),
                open: VecDeque::new(),
                settled: 0,
            });
        }
        let index: BTreeMap<u16, u16> = lanes.keys().copied().zip(0..).collect();
        let lane_of = |symbol: &u32| index[&view.route(0, *symbol).destination];
        let mut by_lane = ByLane {
            to: self.stream.iter().map(|symbol| (*symbol, lane_of(symbol))).collect(),
            lanes: lanes.into_values().collect(),
        };
        let (latency, sent) = paced(&mut by_lane, pace)?;
        self.arrived(sent)?;
        Ok(latency)
    }
}

impl Started {
    /// Whether the owners have appended exactly what was acknowledged.
    fn arrived(&mut self, more: u64) -> Result<()> {
        self.nodes.check()?;
        self.sent += more;
        // Shards tell their counters every now and then.
        let mut appended = 0;
        let waited = wait_until("counters", ANSWER_WITHIN, || {
            appended = self.nodes.appended()?;
            Ok(appended >= self.sent)
        });
        if waited.is_err() || appended != self.sent {
            return fail(format!("{} ticks acknowledged, {appended} appended", self.sent));
        }
        Ok(())
    }
}

/// What is new in an account, unless something was refused.
fn news(account: &Account, settled: &mut u64) -> Result<u64> {
    if account.refused_total() > 0 {
        return fail(format!("ticks were refused: {:?}", account.refused));
    }
    let news = account.settled - *settled;
    *settled = account.settled;
    Ok(news)
}

fn taken(result: std::result::Result<(), IngestError>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(IngestError::Busy) => Ok(false),
        Err(error) => fail(format!("a tick was not taken: {error}")),
    }
}

/// One producer for all symbols.
struct Whole {
    producer: TickProducer,
    stream: Arc<[u32]>,
    settled: u64,
}

impl Publisher for Whole {
    #[inline]
    fn offer(&mut self, number: u64) -> Result<bool> {
        let symbol = self.stream[number as usize % STREAM];
        taken(self.producer.ingest(&tick(symbol, number)))
    }

    fn turn(&mut self, ledger: &mut Ledger) -> Result<bool> {
        let moved = self.producer.poll() > 0;
        ledger.count(news(&self.producer.account(), &mut self.settled)?);
        Ok(moved)
    }

    fn sleep(&mut self, rounds: u32, _within: Duration) -> Result<()> {
        Real::pause(rounds);
        Ok(())
    }
}

/// One producer for each shard that ticks go to.
struct ByLane {
    /// Symbol and index of its lane, in the order in which ticks have them.
    to: Vec<(u32, u16)>,
    lanes: Vec<Lane>,
}

struct Lane {
    producer: TickProducer,
    /// Numbers of the ticks that are not settled, in order.
    open: VecDeque<u64>,
    settled: u64,
}

impl Publisher for ByLane {
    #[inline]
    fn offer(&mut self, number: u64) -> Result<bool> {
        let (symbol, lane) = self.to[number as usize % STREAM];
        let lane = &mut self.lanes[usize::from(lane)];
        let is_taken = taken(lane.producer.ingest(&tick(symbol, number)))?;
        if is_taken {
            lane.open.push_back(number);
        }
        Ok(is_taken)
    }

    fn turn(&mut self, ledger: &mut Ledger) -> Result<bool> {
        let mut moved = false;
        for lane in &mut self.lanes {
            moved |= lane.producer.poll() > 0;
            for _ in 0..news(&lane.producer.account(), &mut lane.settled)? {
                let Some(number) = lane.open.pop_front() else {
                    return fail("more ticks settled than sent");
                };
                ledger.acknowledge(number);
            }
        }
        Ok(moved)
    }

    fn sleep(&mut self, rounds: u32, _within: Duration) -> Result<()> {
        Real::pause(rounds);
        Ok(())
    }
}
