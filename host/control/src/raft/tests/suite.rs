//! openraft's own tests of a store, run on this one.

use crate::raft::disk::Disk;
use crate::raft::machine::Machine;
use crate::raft::store::{LogStore, Shared};
use crate::raft::types::Types;
use crate::raft::worker::DiskWorker;
use crate::single::LogError;
use crate::state::State;
use crate::testing::{no_events, on_a_thread};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;
use std::thread::JoinHandle;
use tempfile::TempDir;

struct Files;

#[expect(dead_code, reason = "what a store needs while it lives")]
struct Kept(TempDir, JoinHandle<Result<(), LogError>>);

impl StoreBuilder<Types, LogStore, Machine, Kept> for Files {
    async fn build(&self) -> Result<(Kept, LogStore, Machine), StorageError<Types>> {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open_or_create(&directory.path().join("log")).unwrap();
        let notes = disk.load().unwrap();
        let shared = Arc::new(Shared::new(disk, &notes));
        let (queue, worker) = DiskWorker::new(Arc::clone(&shared), Arc::default());
        let store = LogStore::new(shared, queue);
        let (_, applier) = State::new(no_events());
        let machine = Machine::new(applier, store.clone(), notes.snapshot, Arc::default());
        Ok((Kept(directory, on_a_thread(move || worker.run())), store, machine))
    }
}

#[tokio::test]
async fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Files).await.unwrap();
}
