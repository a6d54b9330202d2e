//! The node's shards: who runs them, and how the rest of the node reaches them.

use crate::agent::idle::{self, Parking, Patience};
use crate::agent::shard::{Command, Identity, News, Shard};
use crate::config::Config;
use crate::wire::Wire;
use arc_swap::ArcSwap;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::watch;
use zepto_client::message::ShardCounters;
use zepto_core::env::Env;
use zepto_core::limits::SHARD_COMMANDS_MAX;
use zepto_core::time::Nanos;
use zepto_core::view::{View, shard_of};
use zepto_core::{Incarnation, NodeId, PartitionId};
use zepto_store::{Retention, Store, StoreConfig, StoreReader};
use zepto_transport::{Bell, Shm, Transport};

/// Time between two publications of a shard's counters.
const COUNT_EVERY: Duration = Duration::from_millis(50);

/// A command to a node's shard: its producers share memory, whatever goes between nodes.
pub type NodeCommand<T> = Command<T, Shm>;

/// One shard as the rest of the node sees it. Cheap to clone; any thread.
pub struct ShardPort<T: Transport> {
    commands: SyncSender<NodeCommand<T>>,
    bell: Arc<Bell>,
    reader: StoreReader,
    /// Rounds of work so far: a shard that hangs stands still.
    rounds: Arc<AtomicU64>,
    counters: Arc<ArcSwap<ShardCounters>>,
    news: watch::Receiver<Arc<News>>,
    transport: T,
}

impl<T: Transport + Clone> Clone for ShardPort<T> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            bell: Arc::clone(&self.bell),
            reader: self.reader.clone(),
            rounds: Arc::clone(&self.rounds),
            counters: Arc::clone(&self.counters),
            news: self.news.clone(),
            transport: self.transport.clone(),
        }
    }
}

impl<T: Transport> ShardPort<T> {
    /// Wakes the shard.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// What it stores, to read.
    pub fn reader(&self) -> &StoreReader {
        &self.reader
    }

    /// Its end of the transport.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Rounds of work it has done.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// What it did, as of a moment ago.
    pub fn counters(&self) -> ShardCounters {
        **self.counters.load()
    }

    /// What it wants from the rest of the node.
    pub fn news(&self) -> watch::Receiver<Arc<News>> {
        self.news.clone()
    }

    /// Whether the in-sync replicas of these partitions all go along with this owner, by a round
    /// trip that begins now. Blocks for at most `within`; not knowing is no.
    pub fn confirm(&self, partitions: Vec<PartitionId>, within: Duration) -> bool {
        let (sender, answer) = sync_channel(1);
        self.send(Command::Confirm(partitions, sender))
            && answer.recv_timeout(within).unwrap_or(false)
    }

    /// Hands the shard a command and wakes it; whether there was room in its queue. A command
    /// without room is dropped, and whoever waits for its effect is told by a closed channel.
    pub fn send(&self, command: NodeCommand<T>) -> bool {
        let sent = self.commands.try_send(command).is_ok();
        if !sent {
            tracing::error!("a shard's queue of commands is full");
        }
        if let Err(error) = self.bell.ring() {
            tracing::debug!(%error, "a shard's bell");
        }
        sent
    }
}

/// Partitions by the shard that has them, of a node with so many.
pub fn by_shard(
    partitions: impl IntoIterator<Item = PartitionId>,
    shards: usize,
) -> Vec<Vec<PartitionId>> {
    let mut sorted = vec![Vec::new(); shards];
    for partition in partitions {
        sorted[usize::from(shard_of(partition, shards as u16))].push(partition);
    }
    sorted
}

/// A round of work of one shard; returns how much it did. For one thread at a time.
pub type Round = Box<dyn FnMut() -> usize + Send>;

/// The running threads.
pub struct ShardThreads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    bells: Vec<Arc<Bell>>,
}

/// The shards of a node that has just started.
pub struct Started<T: Transport> {
    /// How they are reached.
    pub ports: Vec<ShardPort<T>>,
    /// What runs them.
    pub threads: ShardThreads,
    /// Their rounds, where the node's program runs them instead.
    pub rounds: Vec<Round>,
}

/// Starts the shards, each with its end of the transport, and on a thread of its own unless they
/// are polled.
///
/// # Errors
/// When the system has no thread or descriptor left, or the memory is too little to begin with.
pub fn start<T: Wire>(
    config: &Config,
    bits: u8,
    node: NodeId,
    incarnation: Incarnation,
    views: &Arc<ArcSwap<View>>,
    env: &Arc<dyn Env>,
    ends: &[T],
) -> io::Result<Started<T>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut ports, mut threads, mut rounds) = (Vec::new(), Vec::new(), Vec::<Round>::new());
    for (shard, transport) in (0..config.shards).zip(ends) {
        let identity = Identity { node, incarnation, shard };
        let (store, reader) = open_store(config, bits)?;
        let (sender, commands) = sync_channel(SHARD_COMMANDS_MAX);
        let agent = Shard::<T, Shm>::new(identity, Arc::clone(views), store, commands);
        let (announce, news) = watch::channel(Arc::default());
        let port = ShardPort {
            news,
            transport: transport.clone(),
            commands: sender,
            bell: Arc::new(Bell::new().map_err(io::Error::other)?),
            reader,
            rounds: Arc::default(),
            counters: Arc::new(ArcSwap::from_pointee(ShardCounters::default())),
        };
        let mut runner = Runner {
            agent,
            port: port.clone(),
            env: Arc::clone(env),
            stop: Arc::clone(&stop),
            patience: Patience {
                spins: config.idle.spins,
                yields: config.idle.yields,
                park: config.park(),
            },
            counted: Nanos(0),
            announce,
        };
        if config.polled {
            rounds.push(Box::new(move || runner.round()));
        } else {
            let thread = std::thread::Builder::new().name(format!("zepto-shard-{shard}"));
            threads.push(thread.spawn(move || runner.run())?);
        }
        ports.push(port);
    }
    let bells = ports.iter().map(|port| Arc::clone(&port.bell)).collect();
    Ok(Started { ports, threads: ShardThreads { stop, threads, bells }, rounds })
}

fn open_store(config: &Config, bits: u8) -> io::Result<(Store, StoreReader)> {
    let shards = u64::from(config.shards);
    let retention = &config.retention;
    let store = StoreConfig {
        partition_bits: bits,
        bytes_max: config.memory.0 / shards,
        retention: Retention {
            rows_per_series_max: retention.ticks_per_symbol,
            bytes_max: retention.bytes.map(|bytes| bytes.0 / shards),
            age_max_ns: retention.age_ms.map(|ms| ms.saturating_mul(1_000_000)),
        },
    };
    zepto_store::open(store).map_err(io::Error::other)
}

struct Runner<T: Transport> {
    agent: Shard<T, Shm>,
    port: ShardPort<T>,
    env: Arc<dyn Env>,
    stop: Arc<AtomicBool>,
    patience: Patience,
    counted: Nanos,
    announce: watch::Sender<Arc<News>>,
}

impl<T: Transport> Runner<T> {
    /// Works, and tells the rest of the node.
    fn round(&mut self) -> usize {
        let Self { agent, port, env, counted, announce, .. } = self;
        let now = env.now();
        let work = port.transport.progress() + agent.do_work(now, env.wall_ns());
        port.rounds.store(port.rounds.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if let Some(news) = agent.news() {
            announce.send_replace(Arc::new(news));
        }
        if now.since(*counted) >= COUNT_EVERY {
            *counted = now;
            port.counters.store(Arc::new(agent.counters()));
        }
        work
    }

    fn run(mut self) {
        let (bell, patience) = (Arc::clone(&self.port.bell), self.patience);
        let ended = idle::run(&mut self, &bell, &patience, |runner| {
            let work = runner.round();
            (!runner.stop.load(Ordering::Acquire)).then_some(work)
        });
        if let Err(error) = ended {
            // Without rounds there are no heartbeats either: the node falls silent and is seen.
            tracing::error!(%error, "a shard's bell failed; the shard stops");
        }
    }
}

impl<T: Transport> Parking for Runner<T> {
    fn set_parked(&mut self, parked: bool) {
        self.agent.set_parked(parked);
    }
}

impl ShardThreads {
    /// Stops the threads and waits for them.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for bell in &self.bells {
            if let Err(error) = bell.ring() {
                tracing::debug!(%error, "a shard's bell");
            }
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a shard had panicked");
            }
        }
    }
}
