//! The state machine: committed entries go to the node's [`State`](crate::State), in order.
//!
//! The topology's index is the log's: entries that consensus keeps for itself are passed over, and
//! index 0, the log's first membership, stands for the empty topology. An entry that cannot be
//! applied ends this node's consensus; skipping it would make this topology another than theirs.

use super::disk::Change;
use super::snapshot;
use super::store::LogStore;
use super::types::{
    Answer, Bytes, Entry, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types,
};
use crate::state::{Applier, State};
use core::sync::atomic::{AtomicBool, Ordering};
use futures_util::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use zepto_core::limits::APPLY_BATCH_MAX;
use zepto_core::topology::Applied;

/// The one writer of the node's state.
pub(crate) struct Machine {
    /// Never locked: openraft wants what it owns to be shareable, which a sink of events is not.
    applier: Mutex<Applier>,
    state: Arc<State>,
    store: LogStore,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// Of the snapshot in the file.
    snapshot: Option<SnapshotMeta>,
    /// Entries of an earlier life are being applied: their events were told then.
    replaying: Arc<AtomicBool>,
}

/// A snapshot that is made and not stored yet.
pub(crate) struct Builder {
    store: LogStore,
    meta: SnapshotMeta,
    bytes: Result<Bytes, snapshot::SnapshotError>,
}

impl Machine {
    pub fn new(
        applier: Applier,
        store: LogStore,
        snapshot: Option<SnapshotMeta>,
        replaying: Arc<AtomicBool>,
    ) -> Self {
        let membership = StoredMembership::default();
        let (state, applier) = (Arc::clone(applier.state()), Mutex::new(applier));
        Self { applier, state, store, applied: None, membership, snapshot, replaying }
    }

    pub(super) fn applier(&mut self) -> &mut Applier {
        self.applier.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&mut self, entry: &Entry) -> io::Result<Answer> {
        let index = entry.log_id.index;
        let answer = match &entry.payload {
            Payload::Normal(bytes) => {
                match self.applier().step(index, &bytes.0).map_err(io::Error::other)? {
                    Applied::Changed(_) => Answer::Changed,
                    Applied::Refused(refused) => Answer::Refused(refused),
                }
            }
            Payload::Blank | Payload::Membership(_) => {
                if index > 0 {
                    self.applier().pass(index).map_err(io::Error::other)?;
                }
                Answer::Passed
            }
        };
        if let Payload::Membership(membership) = &entry.payload {
            self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
        }
        self.applied = Some(entry.log_id);
        Ok(answer)
    }

    /// Publishes first, so that who is answered finds the entry applied.
    fn publish(&mut self, answers: &mut Vec<(ApplyResponder<Types>, Answer)>) {
        if self.replaying.load(Ordering::Relaxed) {
            self.applier().forget_events();
        }
        self.applier().publish();
        for (responder, answer) in answers.drain(..) {
            responder.send(answer);
        }
    }

    fn builder(&self) -> Builder {
        let bytes = self.state.with_topology(snapshot::encode);
        let (last_log_id, last_membership) = (self.applied, self.membership.clone());
        Builder {
            store: self.store.clone(),
            meta: SnapshotMeta { last_log_id, last_membership },
            bytes: bytes.map(|bytes| Bytes(bytes.into())),
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let (mut answers, mut steps) = (Vec::new(), 0);
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let answer = match self.step(&entry) {
                Ok(answer) => answer,
                Err(error) => {
                    // What stands before the bad entry is committed, and is seen.
                    self.publish(&mut answers);
                    return Err(error);
                }
            };
            answers.extend(responder.map(|responder| (responder, answer)));
            steps += 1;
            if steps >= APPLY_BATCH_MAX {
                self.publish(&mut answers);
                steps = 0;
                tokio::task::yield_now().await;
            }
        }
        self.publish(&mut answers);
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.builder())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: Bytes,
    ) -> Result<(), io::Error> {
        let topology = snapshot::decode(&data.0).map_err(io::Error::other)?;
        let (index, last) = (topology.placement.index, meta.last_log_id.map_or(0, |id| id.index));
        if index != last {
            return Err(io::Error::other(format!(
                "a snapshot of entry {last} has the topology of entry {index}"
            )));
        }
        // At the start it comes from the file.
        if self.snapshot.as_ref() != Some(meta) {
            self.store.write(Change::Snapshot(meta.clone(), data)).await?;
            self.snapshot = Some(meta.clone());
        }
        self.applier().restore(topology).map_err(io::Error::other)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let found = self.store.disk().snapshot().map_err(io::Error::other)?;
        Ok(found.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let snapshot = self.bytes.clone().map_err(io::Error::other)?;
        self.store.write(Change::Snapshot(self.meta.clone(), snapshot.clone())).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
