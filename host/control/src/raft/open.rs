//! Opening, the first start, and the end.

use super::disk::{Disk, Notes};
use super::flights::Flights;
use super::machine::Machine;
use super::net::{Net, Wire};
use super::peers::PeerLink;
use super::store::{LogStore, Shared};
use super::times::Times;
use super::types::{Contact, SnapshotMeta};
use super::worker::DiskWorker;
use super::{Raft, Reason};
use crate::file::LogError;
use crate::outcome::Outcome;
use crate::state::{Applier, EventSink, State, WaitError};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use openraft::{Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use zepto_core::limits::{
    APPEND_ENTRIES_MAX, CONSENSUS_QUEUE_MAX, LOG_KEEP_ENTRIES, LOG_SNAPSHOT_ENTRIES,
    SNAPSHOT_CHUNK_MS,
};

/// A log that is open, and takes no part yet.
pub struct Unstarted<L> {
    store: LogStore,
    applier: Applier,
    snapshot: Option<SnapshotMeta>,
    fresh: bool,
    me: Contact,
    wire: Wire<L>,
    compaction: Compaction,
    transactions: Arc<AtomicU64>,
}

/// When the log is compacted into a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Entries after which a snapshot is made.
    pub every: u64,
    /// Entries that stay behind it.
    pub keep: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { every: LOG_SNAPSHOT_ENTRIES, keep: LOG_KEEP_ENTRIES }
    }
}

impl<L: PeerLink> Raft<L> {
    /// Opens the log at `path`, or makes one, whose voter is new then. Reads all of it.
    ///
    /// # Errors
    /// It is in use, of another version, or damaged. It is never repaired. Times that cannot work
    /// are refused.
    pub fn open(
        path: &Path,
        (name, address): (&str, &str),
        link: L,
        times: Times,
        events: EventSink,
    ) -> Result<(Unstarted<L>, DiskWorker), LogError> {
        let me = Contact { name: name.into(), address: address.into() };
        Self::on(Disk::open_or_create(path)?, me, link, times, events)
    }

    pub(crate) fn on(
        disk: Disk,
        me: Contact,
        link: L,
        times: Times,
        events: EventSink,
    ) -> Result<(Unstarted<L>, DiskWorker), LogError> {
        let times = times.checked().map_err(|error| LogError::Consensus(error.to_string()))?;
        let notes: Notes = disk.load()?;
        let fresh = notes.vote.is_none() && notes.last.is_none() && notes.snapshot.is_none();
        let (id, transactions) = (disk.id(), Arc::new(AtomicU64::new(0)));
        let shared = Arc::new(Shared::new(disk, &notes));
        let (queue, worker) = DiskWorker::new(Arc::clone(&shared), Arc::clone(&transactions));
        let (_state, applier) = State::new(events);
        let unstarted = Unstarted {
            store: LogStore::new(shared, queue),
            applier,
            snapshot: notes.snapshot,
            fresh,
            me,
            wire: Wire {
                link,
                me: id,
                times,
                failures: AtomicU64::new(0),
                metrics: OnceLock::new(),
            },
            compaction: Compaction::default(),
            transactions,
        };
        Ok((unstarted, worker))
    }

    /// This peer's voter id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the log had neither an entry nor a vote when it was opened: it was never part of a
    /// cluster.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Makes this fresh log a cluster of its own, with one voter.
    ///
    /// # Errors
    /// It is part of a cluster already, or has failed.
    pub async fn bootstrap(&self) -> Result<(), Reason> {
        let members = BTreeMap::from([(self.id, self.me.clone())]);
        self.core.initialize(members).await.map_err(|error| match error.fatal() {
            Some(fatal) => Reason::Failed(fatal.to_string()),
            None => Reason::Invalid(error.to_string()),
        })
    }

    /// Waits until this node has applied, at least, all that it may have applied in an earlier
    /// life.
    ///
    /// # Errors
    /// The deadline passed: there is no leader, or it is far ahead.
    pub async fn recovered(&self, deadline: Duration) -> Result<(), WaitError> {
        match self.core.wait_for_recovery(Some(deadline)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let applied = self.state.index();
                let metrics = self.metrics();
                let wanted = metrics.last_log_index.unwrap_or_default();
                Err(WaitError::Deadline { wanted, applied })
            }
        }
    }

    /// Takes no further proposal, leaves the cluster to the others, and ends the worker when all
    /// is written.
    pub async fn stop(&self) {
        self.flights.close(Reason::Stopped);
        if let Err(error) = self.core.shutdown().await {
            tracing::error!(%error, "consensus ended badly");
        }
        self.store.stop().await;
    }
}

impl<L: PeerLink> Unstarted<L> {
    /// This peer's voter id.
    pub fn id(&self) -> u64 {
        self.store.disk().id()
    }

    /// Whether the log has neither an entry nor a vote.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// With another rule for snapshots.
    pub fn with_compaction(self, compaction: Compaction) -> Self {
        Self { compaction, ..self }
    }

    /// Applies what is known to be committed, and takes part. Needs a tokio runtime with time, and
    /// the worker running. Events of the entries applied here are not told.
    ///
    /// # Errors
    /// What is in the log cannot be applied, or not be written.
    pub async fn start(self) -> Result<Arc<Raft<L>>, LogError> {
        let id = self.id();
        let config = config(&self.wire.times, self.compaction)?;
        let state = Arc::clone(self.applier.state());
        let replaying = Arc::new(AtomicBool::new(true));
        let machine =
            Machine::new(self.applier, self.store.clone(), self.snapshot, Arc::clone(&replaying));
        let wire = Arc::new(self.wire);
        let net = Net(Arc::clone(&wire));
        let core = openraft::Raft::build(id, Arc::new(config), net, self.store.clone(), machine)
            .await
            .map_err(|error| LogError::Consensus(error.to_string()))?;
        if wire.metrics.set(core.metrics()).is_err() {
            return Err(LogError::Consensus("started twice".into()));
        }
        replaying.store(false, Ordering::Relaxed);
        core.run();
        Ok(Arc::new(Raft {
            core,
            id,
            me: self.me,
            fresh: self.fresh,
            wire,
            state,
            store: self.store,
            flights: Arc::new(Flights::default()),
            incoming: Mutex::new(None),
            transactions: self.transactions,
        }))
    }
}

impl<L> core::fmt::Debug for Unstarted<L> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unstarted").field("store", &self.store).finish_non_exhaustive()
    }
}

fn config(times: &Times, compaction: Compaction) -> Result<Config, LogError> {
    let ms = |time: Duration| time.as_millis() as u64;
    let config = Config {
        cluster_name: "zepto".into(),
        heartbeat_interval: ms(times.heartbeat),
        election_timeout_min: ms(times.election_min),
        election_timeout_max: ms(times.election_max),
        install_snapshot_timeout: SNAPSHOT_CHUNK_MS,
        max_payload_entries: APPEND_ENTRIES_MAX as u64,
        replication_lag_threshold: compaction.every + 2 * compaction.keep,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(compaction.every),
        max_in_snapshot_log_to_keep: compaction.keep,
        api_channel_size: Some(CONSENSUS_QUEUE_MAX),
        notification_channel_size: Some(CONSENSUS_QUEUE_MAX),
        // A node that cannot win does not make terms grow.
        enable_pre_vote: Some(true),
        // A leader that restarts knows less of what is committed than it did: it must be elected.
        enable_leader_restore: Some(false),
        // A voter that lost its log is another voter.
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| LogError::Consensus(error.to_string()))
}

/// How a node that proposed hears of it: when its own state shows the entry.
pub(crate) async fn settle(state: &State, outcome: Outcome, left: Duration) -> Outcome {
    match outcome {
        Outcome::Committed { index } => match state.wait_for(index, left).await {
            Ok(_) => Outcome::Committed { index },
            Err(error) => {
                Outcome::Unknown(format!("it is committed as entry {index}, but {error}"))
            }
        },
        Outcome::Refused { index: Some(index), why } => {
            // Whoever was refused wants to see why; the refusal stands without it.
            if let Err(error) = state.wait_for(index, left).await {
                tracing::debug!(%error, "a refusal came before its entry");
            }
            Outcome::Refused { index: Some(index), why }
        }
        other => other,
    }
}
