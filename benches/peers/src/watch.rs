//! Which partitions acknowledge, all the time: one symbol and one producer for each of them.
//!
//! A producer of its own per partition, because an account says how much is settled and not of
//! what. All of them are on one thread that offers each a tick every now and then. A mark asks when
//! each of them acknowledges something that was offered after the mark.

use crate::failure::{Failure, Result, While as _, fail};
use crate::nodes::{ANSWER_WITHIN, Nodes};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zepto_client::producer::IngestError;
use zepto_client::{ProducerOptions, TickProducer};
use zepto_core::{Kind, NodeId, PartitionId, Tick};

/// Names among which symbols of different partitions are found.
const NAMES: u32 = 1024;
/// Between two ticks of one partition.
const TICK_EVERY: Duration = Duration::from_millis(2);
/// Between two looks at the acknowledgements: how exact the times are.
const LOOK_EVERY: Duration = Duration::from_micros(250);
/// Ticks of one partition that may wait for their acknowledgement.
const OPEN_MAX: u64 = 256;
/// Slots of each lane.
const LANE_SLOTS: u32 = 1024;
/// Time for the watching thread to do as it is asked.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// Partitions that are watched until it is dropped.
pub struct Watch {
    partitions: Vec<PartitionId>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

struct Shared {
    origin: Instant,
    stop: AtomicBool,
    /// How often a mark was asked for, and set.
    asked: AtomicU64,
    marked: AtomicU64,
    /// By watched partition: when it acknowledged again, in nanoseconds since the origin; zero as
    /// long as it does not.
    again_ns: Vec<AtomicU64>,
    refused: AtomicU64,
}

impl Watch {
    /// Watches up to so many partitions of every set of members that hold the same ones.
    pub fn start(nodes: &Nodes, per_group: usize) -> Result<Self> {
        let (client, runtime) = nodes.with_runtime()?;
        let names: Vec<String> = (0..NAMES).map(|number| format!("watched-{number}")).collect();
        let ids = runtime.block_on(client.intern(&names, ANSWER_WITHIN)).doing("the symbols")?;
        let view = client.view();
        let mut groups: BTreeMap<Vec<NodeId>, usize> = BTreeMap::new();
        let (mut partitions, mut lines) = (Vec::new(), Vec::new());
        for symbol in ids {
            let partition = view.route(0, symbol).partition;
            let Some(assignment) = view.placement().assignment(partition) else { continue };
            let members = assignment.owner().into_iter().chain(assignment.replicas()).collect();
            let watched = groups.entry(members).or_default();
            if *watched == per_group || partitions.contains(&partition) {
                continue;
            }
            *watched += 1;
            partitions.push(partition);
            let options = ProducerOptions { lane_slots: LANE_SLOTS, ..ProducerOptions::default() };
            lines.push(Line::new(client.producer(options), symbol));
        }
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            stop: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            marked: AtomicU64::new(0),
            again_ns: partitions.iter().map(|_| AtomicU64::new(0)).collect(),
            refused: AtomicU64::new(0),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("watch".into());
        let thread = thread.spawn(move || watch(&of_thread, lines)).doing("a thread to watch")?;
        Ok(Self { partitions, shared, thread: Some(thread) })
    }

    /// What is watched.
    pub fn partitions(&self) -> &[PartitionId] {
        &self.partitions
    }

    /// Ticks that were refused for good so far.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// From here on [`Watch::again`] says what was acknowledged of what is offered from now on.
    pub fn mark(&mut self) -> Result<()> {
        let asked = self.shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let until = Instant::now() + ASK_WITHIN;
        while self.shared.marked.load(Ordering::Acquire) < asked {
            self.check()?;
            if Instant::now() > until {
                return fail("the watching thread does not answer");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// When a watched partition, by its place, acknowledged something offered after the mark.
    pub fn again(&self, place: usize) -> Option<Instant> {
        let nanoseconds = self.shared.again_ns.get(place)?.load(Ordering::Acquire);
        let since = Duration::from_nanos(nanoseconds);
        (nanoseconds > 0).then(|| self.shared.origin + since)
    }

    /// Fails when the thread has ended.
    pub fn check(&mut self) -> Result<()> {
        let ended = self.thread.take_if(|thread| thread.is_finished());
        match ended.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result.and_then(|()| fail("nothing is watched any more")),
            Some(Err(_)) => fail("the watching thread panicked"),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // What it failed with, if it did, was told by `check`.
        self.thread.take().map(JoinHandle::join);
    }
}

/// One watched partition.
struct Line {
    producer: TickProducer,
    symbol: u32,
    /// Of the mark: ticks taken and settled by then. None once there was an answer.
    mark: Option<(u64, u64)>,
}

impl Line {
    fn new(producer: TickProducer, symbol: u32) -> Self {
        Self { producer, symbol, mark: None }
    }

    fn offer(&mut self, number: u64) -> Result<()> {
        let account = self.producer.account();
        if account.in_flight + account.parked >= OPEN_MAX {
            return Ok(());
        }
        let tick = Tick {
            event_time_ns: number,
            symbol: self.symbol,
            kind: Kind::TRADE,
            price: 1,
            size: 1,
            ..Tick::default()
        };
        match self.producer.ingest(&tick) {
            // No room, or nobody there: what is watched for.
            Ok(()) | Err(IngestError::Busy | IngestError::Offline) => Ok(()),
            Err(error) => Err(Failure(format!("a watched tick was not taken: {error}"))),
        }
    }

    /// Whether something that was offered after the mark is acknowledged now. Ticks of a partition
    /// settle in their order.
    fn is_again(&mut self) -> bool {
        let Some((accepted, settled)) = self.mark else { return false };
        let account = self.producer.account();
        let is_again =
            account.settled + account.refused_total() > accepted && account.settled > settled;
        if is_again {
            self.mark = None;
        }
        is_again
    }
}

fn watch(shared: &Shared, mut lines: Vec<Line>) -> Result<()> {
    let (mut next, mut number) = (Instant::now(), 0);
    while !shared.stop.load(Ordering::Acquire) {
        let asked = shared.asked.load(Ordering::Acquire);
        if asked != shared.marked.load(Ordering::Relaxed) {
            for (line, again) in lines.iter_mut().zip(&shared.again_ns) {
                let account = line.producer.account();
                line.mark = Some((account.accepted, account.settled));
                again.store(0, Ordering::Release);
            }
            shared.marked.store(asked, Ordering::Release);
        }
        let now = Instant::now();
        if now >= next {
            number += 1;
            lines.iter_mut().try_for_each(|line| line.offer(number))?;
            // Late ones are left out: it is no matter how many there are.
            next = now + TICK_EVERY;
        }
        let mut refused = 0;
        for (line, again) in lines.iter_mut().zip(&shared.again_ns) {
            line.producer.poll();
            if line.is_again() {
                let since = shared.origin.elapsed().as_nanos() as u64;
                again.store(since, Ordering::Release);
            }
            refused += line.producer.account().refused_total();
        }
        shared.refused.store(refused, Ordering::Relaxed);
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
