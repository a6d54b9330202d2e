//! openraft's own tests of a store, run on this one.

use crate::file::LogError;
use crate::raft::disk::Disk;
use crate::raft::machine::Machine;
use crate::raft::store::{LogStore, Shared};
use crate::raft::types::{Bytes, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::raft::worker::DiskWorker;
use crate::state::State;
use crate::testing::{no_events, on_a_thread};
use futures_util::{Stream, StreamExt, stream};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tempfile::TempDir;

struct Files;

#[expect(dead_code, reason = "what a store needs while it lives")]
struct Kept(TempDir, JoinHandle<Result<(), LogError>>);

/// The suite applies entries with gaps between them, which the machine refuses.
struct Padded(Machine);

impl StoreBuilder<Types, LogStore, Padded, Kept> for Files {
    async fn build(&self) -> Result<(Kept, LogStore, Padded), StorageError<Types>> {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open_or_create(&directory.path().join("log")).unwrap();
        let notes = disk.load().unwrap();
        let shared = Arc::new(Shared::new(disk, &notes));
        let (queue, worker) = DiskWorker::new(Arc::clone(&shared), Arc::default());
        let store = LogStore::new(shared, queue);
        let (_, applier) = State::new(no_events());
        let machine = Machine::new(applier, store.clone(), notes.snapshot, Arc::default());
        let kept = Kept(directory, on_a_thread(move || worker.run()));
        Ok((kept, store, Padded(machine)))
    }
}

type Io<T> = Result<T, io::Error>;

impl RaftStateMachine<Types> for Padded {
    type SnapshotData = Bytes;
    type SnapshotBuilder = <Machine as RaftStateMachine<Types>>::SnapshotBuilder;

    async fn applied_state(&mut self) -> Io<(Option<LogId>, StoredMembership)> {
        self.0.applied_state().await
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Io<()>
    where
        Strm: Stream<Item = Io<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let applier = self.0.applier();
            while applier.position().index + 1 < entry.log_id.index {
                applier.pass(applier.position().index + 1).unwrap();
            }
            self.0.apply(stream::iter([Ok((entry, responder))])).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Bytes) -> Io<()> {
        self.0.install_snapshot(meta, data).await
    }

    async fn get_current_snapshot(&mut self) -> Io<Option<Snapshot>> {
        self.0.get_current_snapshot().await
    }
}

#[tokio::test]
async fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Files).await.unwrap();
}
