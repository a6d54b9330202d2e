//! A node: a process with one shard that may be paused, may crash and lose its memory, and comes
//! back as a new incarnation.
//!
//! Invariant: the shard is production's, called as production's runner calls it. The machine only
//! decides when.

use super::plan::Plan;
use super::rng::Rng;
use super::transport::{Party, SimTransport};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use zepto_core::time::Nanos;
use zepto_core::topology::{Change, Topology};
use zepto_core::view::{Destination, View};
use zepto_core::{Incarnation, NodeId, PartitionId};
use zepto_node::agent::shard::{Command, Identity, News, Shard};
use zepto_store::{Retention, StoreConfig, StoreReader};

/// Commands that may wait for a shard, as in the node.
const COMMANDS: usize = 256;

/// A clock that is wrong by an offset and runs wrong by a rate.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset_ns: u64,
    /// Parts per million that it gains, or loses below a million.
    rate_ppm: u64,
}

impl Clock {
    /// Any offset up to a day, any rate within 1 %.
    pub fn draw(rng: &mut Rng) -> Self {
        Self { offset_ns: rng.below(86_400_000_000_000), rate_ppm: rng.within(990_000, 1_010_001) }
    }

    /// What it shows.
    pub fn read(&self, now: u64) -> Nanos {
        let gone = u128::from(now) * u128::from(self.rate_ppm) / 1_000_000;
        Nanos(self.offset_ns + gone as u64)
    }
}

/// A switch of owners: partitions that are frozen, until the shard has said which are.
pub struct Switching {
    /// The shard's answer.
    pub answer: Receiver<Vec<PartitionId>>,
    /// What is to be proposed for those.
    pub changes: Vec<Change>,
}

/// A running process.
pub struct Process {
    /// The agent.
    pub shard: Shard<SimTransport>,
    /// Its queue.
    pub commands: SyncSender<Command<SimTransport>>,
    /// Reads its store.
    pub reader: StoreReader,
    /// Replica lanes that are being opened.
    pub opening: BTreeSet<Destination>,
    /// What the shard wanted last.
    pub news: News,
    /// The switch under way.
    pub switching: Option<Switching>,
    /// Something was proposed that has no answer yet.
    pub waiting: bool,
    /// Switches of which the node does not know what became of them.
    pub unsure: Vec<Change>,
}

/// A node.
pub struct Machine {
    /// Its id.
    pub id: NodeId,
    /// Which life of it runs, or ran last.
    pub incarnation: Incarnation,
    /// `None` while it is down.
    pub process: Option<Process>,
    /// Where its views are published.
    pub view: Arc<ArcSwap<View>>,
    /// Its agents do not run before this time.
    pub paused_until: u64,
    /// Since when nobody hears it.
    pub silent_since: Option<u64>,
    /// Its clock.
    pub clock: Clock,
    /// Steps in a row that changed nothing.
    pub idle: u32,
    /// It is about to be started again.
    pub restarting: bool,
}

impl Machine {
    /// A node that is down.
    pub fn new(id: u32, clock: Clock) -> Self {
        Self {
            id: NodeId(id),
            incarnation: Incarnation(0),
            process: None,
            view: nothing_yet(),
            paused_until: 0,
            silent_since: None,
            clock,
            idle: 0,
            restarting: false,
        }
    }

    /// Starts the next incarnation, with empty memory and without a view.
    pub fn start(&mut self, plan: &Plan) {
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        self.view = nothing_yet();
        let config = StoreConfig {
            partition_bits: plan.bits,
            bytes_max: plan.store_bytes,
            retention: Retention::default(),
        };
        let (store, reader) = zepto_store::open(config).expect("a store");
        let (commands, queue) = sync_channel(COMMANDS);
        let identity = Identity { node: self.id, incarnation: self.incarnation, shard: 0 };
        let shard = Shard::new(identity, Arc::clone(&self.view), store, queue);
        self.process = Some(Process {
            shard,
            commands,
            reader,
            opening: BTreeSet::new(),
            news: News::default(),
            switching: None,
            waiting: false,
            unsure: Vec::new(),
        });
        self.paused_until = 0;
        self.silent_since = None;
        self.idle = 0;
        self.restarting = false;
    }

    /// The link party of a node.
    pub fn party(&self) -> Party {
        self.id.0
    }

    /// Whether this incarnation runs or could run on: its memory is there.
    pub fn holds_memory_of(&self, incarnation: Incarnation) -> bool {
        self.process.is_some() && self.incarnation == incarnation
    }
}

/// The view before any.
pub fn nothing_yet() -> Arc<ArcSwap<View>> {
    Arc::new(ArcSwap::from_pointee(View::compile(Topology::empty().placement)))
}
