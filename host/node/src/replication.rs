//! What stands between the shards and the log: opens lanes to replicas, proposes what the shards
//! found out about copies, and gives partitions to whoever is to own them.
//!
//! One task per node, for the partitions that the node owns. What it proposes is a pure function of
//! the placement and of what the shards say ([`balance`]); the log decides.

use crate::agent::shard::{Command, News};
use crate::shards::{ShardPort, by_shard};
use crate::wire::{Way, Wire};
use core::time::Duration;
use futures_util::future::select_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use zepto_client::message::{LanePurpose, LaneRequest};
use zepto_control::{Command as LogCommand, ControlLog, Outcome, Reason};
use zepto_core::balance;
use zepto_core::limits::LANE_SLOTS;
use zepto_core::topology::{Change, What};
use zepto_core::view::Destination;
use zepto_core::{Incarnation, NodeId, PartitionId};

/// Time for the log to decide.
const PROPOSE_WITHIN: Duration = Duration::from_secs(2);
/// Time for a shard to freeze partitions, and for their replicas to confirm them.
const FREEZE_WITHIN: Duration = Duration::from_secs(1);
/// Longest time without looking again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause after a look that led to something: changes that come together are decided together.
const GATHER: Duration = Duration::from_millis(5);
/// Pause before a lane that could not be opened is tried again.
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Pause after a proposal that was not taken.
const PROPOSE_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Pause between two proposals to drop the same copy: one that cannot be kept must not fill the
/// log.
const DROP_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The task.
pub struct Replication<T: Wire, L> {
    /// This node.
    pub me: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// The log.
    pub log: L,
    /// This node's shards.
    pub shards: Vec<ShardPort<T>>,
    /// The way to the replicas.
    pub way: Way,
}

/// What a round remembers for the next.
#[derive(Default)]
struct Memory {
    /// Lanes that are being opened, or were tried a moment ago.
    opening: BTreeSet<(usize, Destination)>,
    /// Changes of which nobody knows what became of them: until their epoch is over, nothing else
    /// may happen to these partitions.
    unsure: Vec<Change>,
    /// When a copy was last proposed to be dropped.
    dropped: BTreeMap<(PartitionId, NodeId), tokio::time::Instant>,
}

impl Memory {
    /// A lane was opened, or was not: it may be tried again.
    fn tried(&mut self, tried: Result<(usize, Destination), JoinError>) {
        if let Ok(tried) = tried {
            self.opening.remove(&tried);
        }
    }
}

/// What came of one look.
enum Look {
    Nothing,
    Decided,
    /// The log did not take what was proposed: the same again would only fill it.
    Refused,
}

impl<T: Wire, L: ControlLog + Clone> Replication<T, L> {
    /// Looks at every change of the placement and of what the shards say, for ever.
    pub async fn run(self) {
        let state = Arc::clone(self.log.state());
        let mut news: Vec<watch::Receiver<Arc<News>>> =
            self.shards.iter().map(ShardPort::news).collect();
        let (mut memory, mut lanes) = (Memory::default(), JoinSet::new());
        loop {
            let index = state.index();
            let heard: Vec<Arc<News>> =
                news.iter_mut().map(|news| Arc::clone(&news.borrow_and_update())).collect();
            while let Some(tried) = lanes.try_join_next() {
                memory.tried(tried);
            }
            self.open_lanes(&heard, &mut memory, &mut lanes);
            match self.decide(&heard, &mut memory).await {
                Look::Nothing => {}
                Look::Decided => tokio::time::sleep(GATHER).await,
                Look::Refused => tokio::time::sleep(PROPOSE_AGAIN_AFTER).await,
            }
            if state.index() != index {
                continue;
            }
            let changed = select_all(news.iter_mut().map(|news| Box::pin(news.changed())));
            tokio::select! {
                _ = changed => {}
                _ = state.wait_for(index + 1, LOOK_EVERY) => {}
                Some(tried) = lanes.join_next() => memory.tried(tried),
            }
        }
    }

    /// Opens the lanes that the shards want, each in a task of its own.
    fn open_lanes(
        &self,
        heard: &[Arc<News>],
        memory: &mut Memory,
        lanes: &mut JoinSet<(usize, Destination)>,
    ) {
        let view = self.log.state().view();
        for (shard, news) in heard.iter().enumerate() {
            for &(to, incarnation) in &news.wanted {
                let Some(member) = view.placement().member(to.node) else { continue };
                if member.incarnation != incarnation || !memory.opening.insert((shard, to)) {
                    continue;
                }
                let request = LaneRequest {
                    node: to.node,
                    incarnation,
                    shard: to.shard,
                    slots: LANE_SLOTS as u32,
                    purpose: LanePurpose::Replica { owner: self.me, incarnation: self.incarnation },
                };
                let (way, address) = (self.way.clone(), member.address.clone());
                let port = self.shards[shard].clone();
                lanes.spawn(async move {
                    match port.transport().open_lane(&way, address, request).await {
                        Ok(opened) => {
                            port.send(Command::Follower(opened));
                        }
                        Err(error) => {
                            tracing::debug!(node = %to.node, %error, "no lane to a replica");
                        }
                    }
                    // The shard asks again until it has the lane.
                    tokio::time::sleep(OPEN_AGAIN_AFTER).await;
                    (shard, to)
                });
            }
        }
    }

    /// One look: proposes what is to be decided.
    async fn decide(&self, heard: &[Arc<News>], memory: &mut Memory) -> Look {
        if !memory.unsure.is_empty() {
            return self.make_sure(memory).await;
        }
        let now = tokio::time::Instant::now();
        memory.dropped.retain(|_, at| now.duration_since(*at) < DROP_AGAIN_AFTER);
        let found: Vec<Change> = heard
            .iter()
            .flat_map(|news| &news.changes)
            .filter(|change| match change.what {
                What::Drop(node) => !memory.dropped.contains_key(&(change.partition, node)),
                _ => true,
            })
            .copied()
            .collect();
        let view = self.log.state().view();
        let changes = balance::proposals(view.placement(), self.me, &found);
        let mut look = Look::Nothing;
        if !changes.is_empty() {
            let drops = changes.iter().filter_map(|change| match change.what {
                What::Drop(node) => Some((change.partition, node)),
                _ => None,
            });
            memory.dropped.extend(drops.map(|copy| (copy, now)));
            // What became of it, the next look sees.
            look = match self.propose(changes).await {
                Outcome::Committed { .. } => Look::Decided,
                Outcome::Refused { .. } | Outcome::Unknown(_) => Look::Refused,
            };
        }
        let view = self.log.state().view();
        let switches = balance::switches(view.placement(), self.me);
        if !switches.is_empty() && self.switch(switches, memory).await {
            look = Look::Decided;
        }
        look
    }

    /// Freezes partitions, waits until all that they took is confirmed, and lets the log switch
    /// their owner; whether any was switched.
    async fn switch(&self, wanted: Vec<Change>, memory: &mut Memory) -> bool {
        let frozen = self.freeze(wanted.iter().map(|change| change.partition).collect()).await;
        let changes: Vec<Change> =
            wanted.into_iter().filter(|change| frozen.contains(&change.partition)).collect();
        if changes.is_empty() {
            return false;
        }
        let outcome = self.propose(changes.clone()).await;
        match outcome {
            Outcome::Committed { .. } | Outcome::Refused { .. } => self.thaw(&changes),
            Outcome::Unknown(_) => memory.unsure = changes,
        }
        matches!(outcome, Outcome::Committed { .. })
    }

    /// A switch may or may not have happened, or may happen yet. A new epoch of the partitions
    /// makes sure that it does not happen later, when they take ticks again.
    async fn make_sure(&self, memory: &mut Memory) -> Look {
        let renew = |change: &Change| Change { what: What::Renew, ..*change };
        let changes = memory.unsure.iter().map(renew).collect();
        match self.propose(changes).await {
            Outcome::Committed { .. } | Outcome::Refused { why: Reason::Topology(_), .. } => {
                self.thaw(&core::mem::take(&mut memory.unsure));
                Look::Decided
            }
            Outcome::Refused { .. } | Outcome::Unknown(_) => Look::Refused,
        }
    }

    async fn propose(&self, changes: Vec<Change>) -> Outcome {
        let count = changes.len();
        let (node, incarnation) = (self.me, self.incarnation);
        let command = LogCommand::Change { node, incarnation, changes };
        let outcome = self.log.propose(command, PROPOSE_WITHIN).await;
        match &outcome {
            Outcome::Committed { .. } => {}
            Outcome::Refused { why, .. } => tracing::info!(count, %why, "changes were refused"),
            Outcome::Unknown(why) => tracing::warn!(count, why, "changes have no answer"),
        }
        outcome
    }

    /// Freezes what is owned of these, and says of which everything is confirmed.
    async fn freeze(&self, partitions: Vec<PartitionId>) -> BTreeSet<PartitionId> {
        let mut frozen = BTreeSet::new();
        for (port, mine) in self.shards.iter().zip(by_shard(partitions, self.shards.len())) {
            if mine.is_empty() {
                continue;
            }
            let (sender, answer) = sync_channel(1);
            if !port.send(Command::Freeze(mine.clone(), sender)) {
                continue;
            }
            let waited = tokio::task::spawn_blocking(move || answer.recv_timeout(FREEZE_WITHIN));
            match waited.await {
                Ok(Ok(some)) => frozen.extend(some),
                // It may have frozen them; nothing was proposed, so nothing may stay frozen.
                _ => drop(port.send(Command::Thaw(mine))),
            }
        }
        frozen
    }

    /// Lets partitions take ticks again that were decided not to change. Where something changed,
    /// the shard learns it from its view, which it may not have installed yet.
    fn thaw(&self, changes: &[Change]) {
        let view = self.log.state().view();
        let same = changes.iter().filter(|change| view.epoch(change.partition) == change.epoch);
        let partitions: Vec<PartitionId> = same.map(|change| change.partition).collect();
        for port in &self.shards {
            port.send(Command::Thaw(partitions.clone()));
        }
    }
}
