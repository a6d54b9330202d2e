//! The topology that this node has applied, and the one handle that may change it.
//!
//! [`State`] is read by everybody: the routing view without a lock, names and placement under a
//! short read lock that no tick ever takes. Only its [`Applier`] writes, and there is one per
//! state, owned by the loop that learns of entries. What the applier publishes, it publishes in
//! this order: topology, view, position; who has seen a position finds the rest at least as new.

use crate::entry::{self, DecodeError};
use crate::watch;
use arc_swap::ArcSwap;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError, RwLock};
use zepto_core::topology::{Applied, Command, Event, Topology};
use zepto_core::view::View;

/// How far a log is applied: equal index means equal hash, on every node (C3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Index of the last applied entry; zero before the first.
    pub index: u64,
    /// Chain hash over all entries up to it.
    pub hash: u64,
}

/// Receives (index, events) of each entry that did something, in order, outside every lock. It
/// runs on the log's own loop: it must hand on and return, not wait.
pub type EventSink = Box<dyn FnMut(u64, Vec<Event>) + Send>;

/// Why an entry was not applied. Nothing changed; the caller stops (fail-stop), for going on would
/// make this node's topology another than the cluster's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Not the entry that comes next.
    #[error("entry {index} came where entry {expected} was to come")]
    Gap {
        /// The index that comes next.
        expected: u64,
        /// The index that came.
        index: u64,
    },
    /// A whole topology that does not lead on from what is applied.
    #[error("a topology as of entry {index} came after entry {applied}")]
    Backwards {
        /// The index that is applied.
        applied: u64,
        /// The index of the topology that came.
        index: u64,
    },
    /// The bytes are no entry of this version.
    #[error("entry {index}: {error}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        error: DecodeError,
    },
}

/// Why a wait ended before its index was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed; the log goes on.
    #[error("entry {wanted} is not applied yet, the last one is {applied}")]
    Deadline {
        /// The index that was waited for.
        wanted: u64,
        /// The index that is applied.
        applied: u64,
    },
    /// The loop that applies entries has ended; no further one will be applied.
    #[error("entry {wanted} will not be applied, the log ended at {applied}")]
    Ended {
        /// The index that was waited for.
        wanted: u64,
        /// The index that is applied.
        applied: u64,
    },
}

/// The applied topology of this node. Shared by all threads.
pub struct State {
    topology: RwLock<Topology>,
    views: Arc<ArcSwap<View>>,
    symbols: AtomicU32,
    position: watch::Receiver<Position>,
}

/// The one writer of a [`State`]. When it is dropped, everybody who waits is told.
pub struct Applier {
    state: Arc<State>,
    position: watch::Sender<Position>,
    events: EventSink,
    /// Events of entries that are applied and not published yet.
    pending: Vec<(u64, Vec<Event>)>,
    /// Whether the published view is older than the placement.
    view_is_old: bool,
}

impl State {
    /// An empty state, before the first entry, and its writer.
    pub fn new(events: EventSink) -> (Arc<Self>, Applier) {
        let topology = Topology::empty();
        let view = View::compile(topology.placement.clone());
        let (sender, position) = watch::channel(Position::default());
        let state = Arc::new(Self {
            topology: RwLock::new(topology),
            views: Arc::new(ArcSwap::from_pointee(view)),
            symbols: AtomicU32::new(0),
            position,
        });
        let applier = Applier {
            state: Arc::clone(&state),
            position: sender,
            events,
            pending: Vec::new(),
            view_is_old: false,
        };
        (state, applier)
    }

    /// How far the log is applied: index and hash of the same moment.
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Index of the last applied entry.
    pub fn index(&self) -> u64 {
        self.position().index
    }

    /// Chain hash over all applied entries.
    pub fn hash(&self) -> u64 {
        self.position().hash
    }

    /// The routing view of now. Its own index is that of the last entry at which it was published:
    /// symbol names and refused entries do not make a new one. To know that a view shows an entry,
    /// wait for the entry's index with [`Self::wait_for`] and take the view then.
    pub fn view(&self) -> Arc<View> {
        self.views.load_full()
    }

    /// Where views are published, for an `arc_swap::Cache` of one's own.
    pub fn views(&self) -> &Arc<ArcSwap<View>> {
        &self.views
    }

    /// Reads the topology under its read lock. `read` must be short, and not come back to this
    /// state: a writer that waits in between would lock both out.
    pub fn with_topology<R>(&self, read: impl FnOnce(&Topology) -> R) -> R {
        // A panic in `apply` ends the log's loop and publishes nothing; readers go on.
        read(&self.topology.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The id of a symbol name.
    pub fn symbol_id(&self, name: &str) -> Option<u32> {
        self.with_topology(|topology| topology.symbols.id(name))
    }

    /// The name of a symbol id.
    pub fn symbol_name(&self, id: u32) -> Option<String> {
        self.with_topology(|topology| topology.symbols.name(id).map(str::to_owned))
    }

    /// How many symbol ids are issued: every id below it is known here. One atomic load.
    pub fn symbols_len(&self) -> u32 {
        self.symbols.load(Ordering::Acquire)
    }

    /// Waits until the entry with this index is applied, and returns the position reached.
    ///
    /// # Errors
    /// The deadline passed, or the log's loop has ended.
    pub async fn wait_for(&self, index: u64, deadline: Duration) -> Result<Position, WaitError> {
        let mut position = self.position.clone();
        let reached = async {
            loop {
                let now = *position.borrow();
                if now.index >= index {
                    return Ok(now);
                }
                position.wait().await?;
            }
        };
        match tokio::time::timeout(deadline, reached).await {
            Ok(Ok(position)) => Ok(position),
            Ok(Err(watch::Closed)) => {
                Err(WaitError::Ended { wanted: index, applied: self.index() })
            }
            Err(_) => Err(WaitError::Deadline { wanted: index, applied: self.index() }),
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl Applier {
    /// Applies the entry that comes next, and publishes it.
    ///
    /// # Errors
    /// It is not the one that comes next, or no entry. Nothing changed.
    pub fn apply_entry(&mut self, index: u64, bytes: &[u8]) -> Result<Applied, ApplyError> {
        let applied = self.step(index, bytes)?;
        self.publish();
        Ok(applied)
    }

    /// The state it writes.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Applies an entry and leaves its publication to [`Self::publish`], so that a batch compiles
    /// one view.
    pub(crate) fn step(&mut self, index: u64, bytes: &[u8]) -> Result<Applied, ApplyError> {
        let command = entry::decode(bytes).map_err(|error| ApplyError::Entry { index, error })?;
        let applied = {
            let topology = &self.state.topology;
            let mut topology = topology.write().unwrap_or_else(PoisonError::into_inner);
            let expected = topology.placement.index + 1;
            if index != expected {
                return Err(ApplyError::Gap { expected, index });
            }
            topology.apply(index, entry::digest(bytes), &command)
        };
        if let Applied::Changed(events) = &applied {
            self.view_is_old |= !matches!(command, Command::Intern { .. });
            if !events.is_empty() {
                self.pending.push((index, events.clone()));
            }
        }
        Ok(applied)
    }

    /// Passes over the entry that comes next, which consensus keeps for itself.
    pub(crate) fn pass(&mut self, index: u64) -> Result<(), ApplyError> {
        let topology = &self.state.topology;
        let mut topology = topology.write().unwrap_or_else(PoisonError::into_inner);
        let expected = topology.placement.index + 1;
        if index != expected {
            return Err(ApplyError::Gap { expected, index });
        }
        topology.pass(index);
        Ok(())
    }

    /// Puts a whole topology in place of all entries up to its index, and publishes it. The events
    /// of those entries are told nowhere on this node.
    pub(crate) fn restore(&mut self, restored: Topology) -> Result<(), ApplyError> {
        self.publish();
        {
            let topology = &self.state.topology;
            let mut topology = topology.write().unwrap_or_else(PoisonError::into_inner);
            let (applied, index) = (topology.placement.index, restored.placement.index);
            if index < applied {
                return Err(ApplyError::Backwards { applied, index });
            }
            *topology = restored;
        }
        self.view_is_old = true;
        self.publish();
        Ok(())
    }

    /// Publishes all that was applied: view, then position, then events.
    pub(crate) fn publish(&mut self) {
        self.publish_quietly();
        for (index, events) in self.pending.drain(..) {
            (self.events)(index, events);
        }
    }

    /// Forgets the events of what is not published yet: they were told in an earlier life.
    pub(crate) fn forget_events(&mut self) {
        self.pending.clear();
    }

    /// How far it has applied, published or not.
    #[cfg(test)]
    pub(crate) fn position(&self) -> Position {
        self.state.with_topology(|topology| Position {
            index: topology.placement.index,
            hash: topology.placement.hash,
        })
    }

    fn publish_quietly(&mut self) {
        let (position, symbols, placement) = self.state.with_topology(|topology| {
            let placement = &topology.placement;
            let position = Position { index: placement.index, hash: placement.hash };
            let changed = self.view_is_old.then(|| placement.clone());
            (position, topology.symbols.len(), changed)
        });
        if let Some(placement) = placement {
            self.state.views.store(Arc::new(View::compile(placement)));
            self.view_is_old = false;
        }
        self.state.symbols.store(symbols, Ordering::Release);
        self.position.replace(position);
    }
}

impl fmt::Debug for Applier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applier").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
