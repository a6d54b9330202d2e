//! The shard agent: one thread that appends some partitions of this node.
//!
//! It takes ticks from lanes, judges each (is the partition mine, is the tick new), appends what is
//! to be appended, writes it to the replicas' lanes where there are replicas, and settles a batch
//! once it is as safe as it should be. It is the only writer of its partitions, so nothing here
//! takes a lock.
//!
//! * [`ledger`], [`standing`], [`fill`]: what is stored, and what this shard is to every partition.
//! * [`inlet`]: lanes from producers.
//! * [`followers`], [`lane`], [`filler`]: lanes to replicas; copies are filled through them.
//! * [`source`]: lanes from owners whose replica this shard is.
//! * [`rounds`]: what waits for all replicas before it is answered.
//!
//! What happens when...
//! * *the view changes*: between two batches the shard compares it with what it holds. What it no
//!   longer owns it closes, and refuses what had not settled there; what it newly owns it opens, or
//!   promotes from replica to owner with all it has.
//! * *a lane's peer breaks the rules*: the lane is closed and counted; others go on.
//! * *a refusal ring or a replica's lane is full*: the lane waits, slot unconsumed. Nothing is lost
//!   and nothing queues up.
//! * *the shard was paused*: it may append ticks under an old view. Replicas that moved on refuse
//!   them, and a refused partition is fenced here until the view explains it.

mod command;
mod doubts;
mod fill;
mod filler;
mod followers;
mod inlet;
mod lane;
mod ledger;
mod rounds;
mod route;
mod source;
mod standing;

pub use command::{Command, LaneTerms, SourceTerms};

use crate::agent::idle::Parking;
use arc_swap::{ArcSwap, Cache};
use core::time::Duration;
use followers::Followers;
use inlet::Inlet;
use ledger::Ledger;
use rounds::Rounds;
use source::Source;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Receiver as Commands;
use zepto_client::message::ShardCounters;
use zepto_core::time::Nanos;
use zepto_core::topology::Change;
use zepto_core::view::{Destination, View};
use zepto_core::{Incarnation, NodeId, PartitionId};
use zepto_store::Store;
use zepto_transport::{Heap, Transport};

/// Time between two rounds of retention.
const EXPIRE_EVERY: Duration = Duration::from_millis(100);
/// Time between two looks whether floors are still needed.
const FLOORS_EVERY: Duration = Duration::from_millis(10);

/// Which shard of which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// This life of it: a view that knows another one makes the shard own nothing.
    pub incarnation: Incarnation,
    /// The shard's number.
    pub shard: u16,
}

/// What a shard wants from the rest of the node, as of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Replicas that have no lane yet: whoever runs the shard opens them and sends
    /// [`Command::Follower`].
    pub wanted: Vec<(Destination, Incarnation)>,
    /// What the log should decide: copies that are full, and copies that are not their owner's. A
    /// shard that works by an old view names some too; the log knows the epoch.
    pub changes: Vec<Change>,
}

/// The agent. Owned by one thread. Replicas' lanes are over `T`, and so are those of producers
/// unless these have a transport of their own, `P`.
pub struct Shard<T: Transport, P: Transport = T> {
    identity: Identity,
    view: Cache<Arc<ArcSwap<View>>, Arc<View>>,
    installed: Option<Arc<View>>,
    ledger: Ledger,
    peers: Vec<Inlet<P>>,
    doors: Vec<Inlet<Heap>>,
    followers: Followers<T>,
    sources: Vec<Source<T>>,
    door_sources: Vec<Source<Heap>>,
    /// Lanes to this shard so far: each has a number, and so they have an order.
    lanes_seen: u32,
    rounds: Rounds,
    commands: Commands<Command<T, P>>,
    expired: Nanos,
    floors_seen: Nanos,
}

impl<T: Transport, P: Transport> Shard<T, P> {
    /// A shard that owns nothing until it sees a view.
    pub fn new(
        identity: Identity,
        view: Arc<ArcSwap<View>>,
        store: Store,
        commands: Commands<Command<T, P>>,
    ) -> Self {
        Self {
            identity,
            view: Cache::new(view),
            installed: None,
            ledger: Ledger::new(store),
            peers: Vec::new(),
            doors: Vec::new(),
            followers: Followers::new(identity),
            sources: Vec::new(),
            door_sources: Vec::new(),
            lanes_seen: 0,
            rounds: Rounds::default(),
            commands,
            expired: Nanos(0),
            floors_seen: Nanos(0),
        }
    }

    /// Does a bounded piece of work; returns how much. `now` is this process's monotonic clock,
    /// `wall_ns` its wall clock, which only retention by age uses.
    pub fn do_work(&mut self, now: Nanos, wall_ns: u64) -> usize {
        let mut work = self.take_commands();
        work += self.install();
        work += self.followers.tell(&self.ledger);
        work += drain_sources(&mut self.sources, &mut self.ledger, now);
        work += drain_sources(&mut self.door_sources, &mut self.ledger, now);
        work += drain_inlets(&mut self.peers, &mut self.ledger, &mut self.followers, now);
        work += drain_inlets(&mut self.doors, &mut self.ledger, &mut self.followers, now);
        work += self.followers.fill(&mut self.ledger, now);
        work += self.settle(now);
        work += self.rounds.go_on(&mut self.ledger, &mut self.followers);
        if now.since(self.expired) >= EXPIRE_EVERY {
            self.expired = now;
            work += usize::from(self.ledger.store.expire(wall_ns) > 0);
        }
        work
    }

    /// What it wants, if that may have changed since the last call.
    pub fn news(&mut self) -> Option<News> {
        self.followers.take_changed().then(|| News {
            wanted: self.followers.missing().collect(),
            changes: self.followers.changes(&self.ledger),
        })
    }

    /// How it stands, for a failed test's story.
    pub fn story(&self) -> String {
        let (standings, rounds) = (self.ledger.story(), self.rounds.story());
        let sources: Vec<String> = self.sources.iter().map(Source::story).collect();
        format!("{standings}, {}, {rounds}, sources {sources:?}", self.followers.story())
    }

    /// What it did so far.
    pub fn counters(&self) -> ShardCounters {
        let mut counters = ShardCounters {
            lanes: (self.peers.len() + self.doors.len()) as u64,
            view_index: self.view_index(),
            ..self.ledger.counters
        };
        let peers = self.peers.iter().map(Inlet::progress);
        for (published, taken, settled) in peers.chain(self.doors.iter().map(Inlet::progress)) {
            counters.slots_taken += taken;
            counters.slots_settled += settled;
            counters.slots_open += published - settled;
        }
        counters
    }

    /// The index of the view it works by.
    pub fn view_index(&self) -> u64 {
        self.installed.as_ref().map_or(0, |view| view.index())
    }

    /// From which sequence on a partition that is owned here may have what is not settled.
    pub fn unsettled(&self, partition: PartitionId) -> Option<u64> {
        self.ledger.owns(partition).then(|| self.ledger.unsettled(partition))
    }

    fn take_commands(&mut self) -> usize {
        let mut work = 0;
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
            work += 1;
        }
        work
    }

    /// Compares the published view with what is held here, and acts on the difference.
    fn install(&mut self) -> usize {
        let view = Arc::clone(self.view.load());
        if self.installed.as_ref().is_some_and(|installed| installed.index() == view.index()) {
            return 0;
        }
        self.ledger.install(self.identity, &view);
        self.followers.install(&view, &self.ledger);
        self.recheck();
        self.sources.iter_mut().for_each(|source| source.install(&view));
        self.door_sources.iter_mut().for_each(|source| source.install(&view));
        self.installed = Some(view);
        1
    }

    /// Settles what the replicas have confirmed; what is in doubt is refused first.
    fn settle(&mut self, now: Nanos) -> usize {
        let mut work = 0;
        if self.followers.poll(&mut self.ledger, now) {
            self.recheck();
            work += 1;
        }
        if now.since(self.floors_seen) >= FLOORS_EVERY {
            self.floors_seen = now;
            // Replicas that were told of a floor hear that it is gone.
            let followers = &self.followers;
            let sound = self.ledger.drop_floors(|partition| followers.is_sound(partition));
            self.followers.owe(&sound);
            work += sound.len();
        }
        let (ledger, followers) = (&mut self.ledger, &self.followers);
        let peers = self.peers.iter_mut().map(|inlet| inlet.settle(ledger, followers));
        work += peers.sum::<usize>();
        work + self.doors.iter_mut().map(|inlet| inlet.settle(ledger, followers)).sum::<usize>()
    }

    /// Looks at everything that has not settled once more: is it still owned, and who has it?
    fn recheck(&mut self) {
        let doubts: BTreeSet<PartitionId> = self.followers.take_doubts();
        doubts.iter().for_each(|partition| self.ledger.doubt(*partition));
        self.followers.owe(&doubts);
        self.followers.tell(&self.ledger);
        let ledger = &self.ledger;
        self.peers.iter_mut().for_each(|inlet| inlet.recheck(ledger, &doubts));
        self.doors.iter_mut().for_each(|inlet| inlet.recheck(ledger, &doubts));
    }
}

/// Takes what owners sent whose replica this shard is; lanes that ended are dropped.
fn drain_sources<X: Transport>(
    sources: &mut Vec<Source<X>>,
    ledger: &mut Ledger,
    now: Nanos,
) -> usize {
    let mut work = 0;
    sources.retain_mut(|source| match source.drain(ledger, now) {
        Ok(done) => {
            work += done;
            true
        }
        Err(end) => {
            ledger.close_lane(&end, source.bound(), now);
            ledger.forget_source(source.number());
            work += 1;
            false
        }
    });
    work
}

/// Takes what producers sent, a batch per lane; lanes that ended are dropped.
fn drain_inlets<X: Transport, T: Transport>(
    inlets: &mut Vec<Inlet<X>>,
    ledger: &mut Ledger,
    followers: &mut Followers<T>,
    now: Nanos,
) -> usize {
    let mut work = 0;
    inlets.retain_mut(|inlet| match inlet.drain(ledger, followers, now) {
        Ok(done) => {
            work += done;
            true
        }
        Err(end) => {
            ledger.close_lane(&end, inlet.bound(), now);
            let (_, taken, settled) = inlet.progress();
            ledger.counters.slots_taken += taken;
            ledger.counters.slots_settled += settled;
            work += 1;
            false
        }
    });
    work
}

impl<T: Transport, P: Transport> Parking for Shard<T, P> {
    fn set_parked(&mut self, parked: bool) {
        self.peers.iter_mut().for_each(|inlet| inlet.set_parked(parked));
        self.doors.iter_mut().for_each(|inlet| inlet.set_parked(parked));
        if T::WAKES {
            self.sources.iter_mut().for_each(|source| source.set_parked(parked));
        }
        self.door_sources.iter_mut().for_each(|source| source.set_parked(parked));
    }
}
