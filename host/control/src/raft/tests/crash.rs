//! Power loss at any write or sync of one voter's file: what was answered is there.

use crate::file::LogError;
use crate::file::builder;
use crate::raft::disk::{Change, Disk};
use crate::raft::store::{LogStore, Shared};
use crate::raft::types::{Bytes, Entry, Payload, Types, Vote, log_id};
use crate::raft::worker::DiskWorker;
use crate::testing::lossy::{self, Crash, Lossy};
use crate::testing::{block_on, on_a_thread};
use core::sync::atomic::{AtomicU64, Ordering};
use openraft::RaftLogReader;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use std::sync::Arc;

/// The table of entries, as it lies in the file.
type Rows<'a> = redb::Table<'a, u64, (u64, u8, u64, &'static [u8])>;

fn entry(term: u64, index: u64) -> Entry {
    let bytes = vec![term as u8; 100 + index as usize];
    Entry { log_id: log_id(term, index), payload: Payload::Normal(Bytes(bytes.into())) }
}

fn vote(term: u64) -> Vote {
    Vote::new(term, term % 3)
}

/// Step by step, what is answered: a vote for each term, three entries of it, one of them
/// truncated by the next term, and the log purged behind.
async fn step(store: &mut LogStore, step: u64) {
    let (term, base) = (step / 4 + 1, step / 4 * 2);
    match step % 4 {
        0 => store.save_vote(&vote(term)).await.unwrap(),
        1 => {
            let keep = base.checked_sub(1).map(|last| log_id(term - 1, last));
            store.truncate_after(keep).await.unwrap();
        }
        2 => {
            let entries = (base..base + 3).map(|index| entry(term, index));
            <LogStore as RaftLogStorageExt<Types>>::blocking_append(store, entries).await.unwrap();
        }
        _ if base > 2 => store.purge(log_id(term - 2, base - 3)).await.unwrap(),
        _ => {}
    }
}

fn check(crash: &Crash) {
    let database = builder().create_with_backend(crash.storage()).unwrap();
    let disk = Disk::opened(database).unwrap();
    let notes = disk.load().unwrap();
    let done = crash.answered;
    if let Some(votes) = done.checked_sub(1).map(|last| last / 4 + 1) {
        assert!(notes.vote >= Some(vote(votes)), "the vote of term {votes} is lost: {notes:?}");
    }
    // The last append that was answered, unless a later truncation may have come through.
    if let Some(append) = done.checked_sub(3) {
        let (term, base) = (append / 4 + 1, append / 4 * 2);
        let entries = disk.read(0..u64::MAX, usize::MAX).unwrap();
        for index in [base, base + 1] {
            let purged = notes.purged.is_some_and(|purged| purged.index >= index);
            assert!(purged || entries.contains(&entry(term, index)), "{index} of {term} is lost");
        }
    }
}

#[test]
fn what_was_answered_survives_power_loss_and_a_vote_that_was_given_is_given() {
    let (mut images, mut torn) = (0, 0);
    for seed in 0..4 {
        let (power, answered) = (lossy::Disk::seeded(seed), Arc::new(AtomicU64::new(0)));
        let database = builder().create_with_backend(Lossy::new(&power, &answered)).unwrap();
        let disk = Disk::init(database).unwrap();
        power.lock().unwrap().crashes.clear();
        let shared = Arc::new(Shared::new(disk, &Default::default()));
        let (queue, worker) = DiskWorker::new(Arc::clone(&shared), Arc::default());
        let mut store = LogStore::new(shared, queue);
        let thread = on_a_thread(move || worker.run());
        for number in 0..40 {
            block_on(step(&mut store, number));
            answered.store(number + 1, Ordering::SeqCst);
            let crashes = core::mem::take(&mut power.lock().unwrap().crashes);
            images += crashes.len();
            torn += crashes.iter().filter(|crash| crash.torn).count();
            crashes.iter().for_each(check);
        }
        block_on(store.stop());
        thread.join().unwrap().unwrap();
    }
    assert!(images > 100 && torn > 40, "{images} crashes, {torn} with writes missing");
}

#[test]
fn what_is_read_is_what_was_appended_whether_it_is_in_memory_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let open = || {
        let disk = Disk::open_or_create(&path).unwrap();
        let notes = disk.load().unwrap();
        let shared = Arc::new(Shared::new(disk, &notes));
        let (queue, worker) = DiskWorker::new(Arc::clone(&shared), Arc::default());
        (LogStore::new(shared, queue), on_a_thread(move || worker.run()))
    };
    let big = |index| {
        let bytes = vec![index as u8; 3 << 20];
        Entry { log_id: log_id(1, index), payload: Payload::Normal(Bytes(bytes.into())) }
    };
    let check = |store: &mut LogStore, last: u64| {
        let all = block_on(store.try_get_log_entries(..)).unwrap();
        assert_eq!(all, (0..=last).map(big).collect::<Vec<_>>());
        // A message holds a few of them, wherever it starts, and at least one.
        for start in 0..=last {
            let some = block_on(store.limited_get_log_entries(start, last + 1)).unwrap();
            let expected: Vec<_> = (start..=last).take(2).map(big).collect();
            assert_eq!(some, expected, "from {start}");
        }
    };
    let (mut store, thread) = open();
    for index in 0..12 {
        let append = <LogStore as RaftLogStorageExt<Types>>::blocking_append;
        block_on(append(&mut store, [big(index)])).unwrap();
        check(&mut store, index);
    }
    block_on(store.stop());
    thread.join().unwrap().unwrap();
    drop(store);
    let (mut store, thread) = open();
    check(&mut store, 11);
    block_on(store.truncate_after(Some(log_id(1, 4)))).unwrap();
    check(&mut store, 4);
    block_on(store.write(Change::Vote(vote(7)))).unwrap();
    block_on(store.stop());
    thread.join().unwrap().unwrap();
}

#[test]
fn a_file_that_is_in_use_of_another_format_or_damaged_is_refused_and_not_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let disk = Disk::open_or_create(&path).unwrap();
    let id = disk.id();
    assert!(matches!(Disk::open_or_create(&path), Err(LogError::InUse(_))));
    let entries = vec![entry(1, 0), entry(1, 1), entry(1, 2)];
    disk.write([&Change::Append(entries)].into_iter()).unwrap();
    drop(disk);
    assert_eq!(Disk::open_or_create(&path).unwrap().id(), id, "a voter is its file");

    let rows = redb::TableDefinition::<u64, (u64, u8, u64, &[u8])>::new("entries");
    let change = |change: &dyn Fn(&mut Rows)| {
        let database = builder().open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&mut transaction.open_table(rows).unwrap());
        transaction.commit().unwrap();
        drop(database);
        Disk::open_or_create(&path).unwrap().load().unwrap_err().to_string()
    };
    let text = change(&|rows| {
        rows.insert(2, (1, 1, 7, [1].as_slice())).unwrap();
    });
    assert!(text.contains("entry 2 is not the one that was written"), "{text}");
    let text = change(&|rows| {
        rows.remove(1).unwrap();
    });
    assert!(text.contains("entry 2 came where entry 1"), "{text}");

    let other = directory.path().join("other");
    let database = crate::file::create_database(&other, Ok).unwrap();
    crate::file::write_durable(&database, |transaction| {
        transaction.open_table(crate::file::META)?.insert(crate::file::META_FORMAT, 1)?;
        Ok(())
    })
    .unwrap();
    drop(database);
    assert!(matches!(Disk::open_or_create(&other), Err(LogError::Format(1))));
    std::fs::write(directory.path().join("noise"), [7; 5000]).unwrap();
    let noise = Disk::open_or_create(&directory.path().join("noise"));
    assert!(matches!(noise, Err(LogError::Open { .. })), "{noise:?}");
}
