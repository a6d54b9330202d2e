//! The single-node log: proposals, order, restarts, and what it refuses.

use super::*;
use crate::testing::*;
use core::sync::atomic::AtomicI64;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableTable, StorageBackend, TableDefinition};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use tempfile::TempDir;
use zepto_core::limits::{LOG_ENTRY_BYTES_MAX, PROPOSAL_BYTES_MAX, PROPOSALS_MAX};
use zepto_core::topology::{Handover, Refused};
use zepto_core::{Epoch, Incarnation, NodeId, PartitionId};

const ENTRIES: TableDefinition<u64, (u64, &[u8])> = TableDefinition::new("entries");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

fn scratch() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.redb");
    (directory, path)
}

fn create(path: &Path) -> Running {
    Running::start(Single::create(path, no_events()).unwrap())
}

fn open_position(path: &Path) -> Result<Position, LogError> {
    Single::open(path, no_events()).map(|(log, _worker)| log.state.position())
}

/// A log with three first entries and `names` names, closed again.
fn written(path: &Path, names: usize) -> Position {
    let running = create(path);
    let names = (0..names).map(|i| intern(&format!("S{i}")));
    for command in first_entries().into_iter().chain(names) {
        running.commit(command);
    }
    let position = running.log.state.position();
    running.stop().unwrap();
    position
}

/// Polls every future once, so that what they propose is queued.
async fn poll_each<F: Future + Unpin>(futures: &mut [F]) {
    core::future::poll_fn(|context| {
        for future in futures.iter_mut() {
            assert!(core::pin::Pin::new(future).poll(context).is_pending());
        }
        core::task::Poll::Ready(())
    })
    .await;
}

#[test]
fn a_reopened_log_is_the_same_topology_and_goes_on() {
    let (_directory, path) = scratch();
    let before = written(&path, 200);
    let running = Running::start(Single::open(&path, no_events()).unwrap());
    assert_eq!(running.log.state.position(), before);
    assert_eq!(running.log.state.symbol_id("S199"), Some(199));
    assert_eq!(running.log.state.view().placement().members.len(), 1);
    assert_eq!(running.commit(intern("next")), before.index + 1);
    let after = running.log.state.position();
    running.stop().unwrap();
    assert_eq!(open_position(&path).unwrap(), after);
}

#[test]
fn a_replayed_entry_is_not_told_again() {
    let (_directory, path) = scratch();
    written(&path, 3);
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let events: EventSink = Box::new(move |index, _| sink.lock().unwrap().push(index));
    let running = Running::start(Single::open(&path, events).unwrap());
    running.commit(intern("new"));
    running.stop().unwrap();
    assert_eq!(*told.lock().unwrap(), [7]);
}

#[test]
fn proposals_that_wait_together_share_one_transaction() {
    let (_directory, path) = scratch();
    let (log, worker) = Single::create(&path, no_events()).unwrap();
    let boot = bootstrap();
    block_on(async {
        let mut first = [Box::pin(log.propose(boot, LONG))];
        poll_each(&mut first).await;
        let names = (0..64).map(|i| intern(&format!("S{i}")));
        let mut others: Vec<_> = names.map(|name| Box::pin(log.propose(name, LONG))).collect();
        poll_each(&mut others).await;
        let thread = run(worker);
        let [first] = first;
        assert_eq!(first.await, Outcome::Committed { index: 1 });
        for (other, index) in others.into_iter().zip(2..) {
            assert_eq!(other.await, Outcome::Committed { index });
        }
        assert_eq!(log.transactions(), 1);
        log.stop();
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn many_proposers_at_once_all_get_their_own_index() {
    let (_directory, path) = scratch();
    let running = create(&path);
    running.commit(bootstrap());
    let indices = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (running, indices) = (&running, &indices);
            scope.spawn(move || {
                for i in 0..20 {
                    let index = running.commit(intern(&format!("S{thread}-{i}")));
                    indices.lock().unwrap().push(index);
                }
            });
        }
    });
    let mut indices = indices.into_inner().unwrap();
    indices.sort_unstable();
    assert_eq!(indices, (2..162).collect::<Vec<_>>());
    assert_eq!(running.log.state.symbols_len(), 160);
    running.stop().unwrap();
}

#[test]
fn an_entry_that_the_topology_refuses_has_its_index() {
    let (_directory, path) = scratch();
    let running = create(&path);
    running.commit(bootstrap());
    let why = Reason::Topology(Refused::Bootstrapped);
    assert_eq!(running.propose(bootstrap()), Outcome::Refused { index: Some(2), why });
    assert_eq!(running.commit(intern("A")), 3);
    let position = running.log.state.position();
    running.stop().unwrap();
    assert_eq!(open_position(&path).unwrap(), position);
}

#[test]
fn one_proposal_is_in_flight_per_subject() {
    let (_directory, path) = scratch();
    written(&path, 0);
    let (log, worker) = Single::open(&path, no_events()).unwrap();
    let (node, incarnation) = (NodeId(1), Incarnation(1));
    let reassign = |partition| Command::Reassign {
        partition: PartitionId(partition),
        epoch: Epoch(3),
        copies: vec![node],
    };
    let hand_over = |partitions: &[u32]| {
        let of = |&p: &u32| Handover { partition: PartitionId(p), epoch: Epoch(3), to: NodeId(1) };
        Command::HandOver { node, incarnation, handovers: partitions.iter().map(of).collect() }
    };
    let in_flight = |subject| Outcome::refused(Reason::InFlight(subject));
    block_on(async {
        let first = [join("new", 1), Command::Leave { node, incarnation }, hand_over(&[3, 4])];
        let names = [intern("A"), intern("A")];
        let mut waiting: Vec<_> =
            first.into_iter().chain(names).map(|c| Box::pin(log.propose(c, LONG))).collect();
        poll_each(&mut waiting).await;
        for (command, subject) in [
            (join("new", 2), Subject::Newcomer("new".into())),
            (join("a", 2), Subject::Member(node)),
            (Command::Bury { node, incarnation }, Subject::Member(node)),
            (reassign(4), Subject::Partition(PartitionId(4))),
            (hand_over(&[5, 3]), Subject::Partition(PartitionId(3))),
        ] {
            assert_eq!(log.propose(command, LONG).await, in_flight(subject));
        }
        // Refused as a whole: partition 5 is still free.
        waiting.push(Box::pin(log.propose(reassign(5), LONG)));
        let thread = run(worker);
        for proposal in waiting {
            assert!(!matches!(proposal.await, Outcome::Unknown(_)));
        }
        let outcome = log.propose(join("a", 2), LONG).await;
        assert!(matches!(outcome, Outcome::Committed { .. }), "free once answered: {outcome:?}");
        log.stop();
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn a_full_queue_refuses_and_is_not_worse_for_it() {
    let (_directory, path) = scratch();
    written(&path, 0);
    let (log, worker) = Single::open(&path, no_events()).unwrap();
    block_on(async {
        let names = (0..PROPOSALS_MAX).map(|i| intern(&format!("S{i}")));
        let mut waiting: Vec<_> = names.map(|c| Box::pin(log.propose(c, LONG))).collect();
        poll_each(&mut waiting).await;
        let overloaded = Outcome::refused(Reason::Overloaded);
        assert_eq!(log.propose(intern("one more"), LONG).await, overloaded);
        let thread = run(worker);
        for proposal in waiting {
            assert!(matches!(proposal.await, Outcome::Committed { .. }));
        }
        assert!(matches!(log.propose(intern("again"), LONG).await, Outcome::Committed { .. }));
        log.stop();
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn the_bytes_that_wait_are_bounded_too() {
    let proposals = Proposals::default();
    let mut receivers = Vec::new();
    for _ in 0..PROPOSAL_BYTES_MAX / LOG_ENTRY_BYTES_MAX {
        receivers.push(proposals.submit(vec![0; LOG_ENTRY_BYTES_MAX], Vec::new()).unwrap());
    }
    assert_eq!(proposals.submit(vec![0], Vec::new()).unwrap_err(), Reason::Overloaded);
    let batch = proposals.take().unwrap();
    assert_eq!(proposals.submit(vec![0], Vec::new()).unwrap_err(), Reason::Overloaded);
    proposals.answer(batch, core::iter::repeat_with(|| Outcome::Unknown(String::new())));
    proposals.submit(vec![0], Vec::new()).unwrap();
}

#[test]
fn a_proposal_whose_proposer_left_is_withdrawn_and_frees_its_subject() {
    let (_directory, path) = scratch();
    written(&path, 0);
    let (log, worker) = Single::open(&path, no_events()).unwrap();
    block_on(async {
        let late = log.propose(join("late", 1), Duration::ZERO).await;
        assert!(matches!(late, Outcome::Unknown(_)), "{late:?}");
        let thread = run(worker);
        assert_eq!(log.propose(intern("A"), LONG).await, Outcome::Committed { index: 4 });
        assert_eq!(log.propose(join("late", 1), LONG).await, Outcome::Committed { index: 5 });
        log.stop();
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn a_stopped_log_writes_what_waits_and_takes_nothing_more() {
    let (_directory, path) = scratch();
    let (log, worker) = Single::create(&path, no_events()).unwrap();
    block_on(async {
        let mut waiting = [Box::pin(log.propose(bootstrap(), LONG))];
        poll_each(&mut waiting).await;
        log.stop();
        let refused = Outcome::refused(Reason::Stopped);
        assert_eq!(log.propose(intern("A"), LONG).await, refused);
        run(worker).join().unwrap().unwrap();
        let [waiting] = waiting;
        assert_eq!(waiting.await, Outcome::Committed { index: 1 });
        assert_eq!(log.read_barrier(LONG).await, Err(BarrierError::Stopped));
        assert!(!log.wait_beyond(1, LONG).await, "nobody waits for a log that has ended");
    });
}

#[test]
fn nobody_waits_for_a_worker_that_is_gone() {
    let (_directory, path) = scratch();
    let (log, worker) = Single::create(&path, no_events()).unwrap();
    block_on(async {
        let mut waiting = [Box::pin(log.propose(bootstrap(), LONG))];
        poll_each(&mut waiting).await;
        drop(worker);
        let [waiting] = waiting;
        assert!(matches!(waiting.await, Outcome::Refused { why: Reason::Failed(_), .. }));
        let later = log.propose(bootstrap(), LONG).await;
        assert!(matches!(later, Outcome::Refused { why: Reason::Failed(_), .. }));
    });
}

#[test]
fn a_proposal_that_is_no_entry_is_refused() {
    let (_directory, path) = scratch();
    let running = create(&path);
    for bytes in [vec![], vec![9], vec![entry::VERSION, 99]] {
        let outcome = block_on(running.log.propose_entry(bytes, LONG));
        assert!(matches!(outcome, Outcome::Refused { index: None, why: Reason::Invalid(_) }));
    }
    let bytes = entry::encode(&bootstrap()).unwrap();
    let outcome = block_on(running.log.propose_entry(bytes, LONG));
    assert_eq!(outcome, Outcome::Committed { index: 1 });
    let names = vec!["x".repeat(1 << 20); 5];
    let outcome = running.propose(Command::Intern { names });
    assert!(matches!(outcome, Outcome::Refused { index: None, why: Reason::Invalid(_) }));
    running.stop().unwrap();
}

#[test]
fn a_barrier_covers_what_was_committed_before() {
    let (_directory, path) = scratch();
    let running = create(&path);
    let mut last = running.commit(bootstrap());
    for i in 0..20 {
        assert!(block_on(running.log.read_barrier(LONG)).unwrap() >= last);
        last = running.commit(intern(&format!("S{i}")));
    }
    assert_eq!(block_on(running.log.read_barrier(LONG)), Ok(last));
    running.stop().unwrap();
}

#[test]
fn a_follower_reads_the_log_in_bounded_pieces() {
    let (_directory, path) = scratch();
    let end = written(&path, 20);
    let (log, _worker) = Single::open(&path, no_events()).unwrap();
    let (state, mut applier) = State::new(no_events());
    let mut pieces = 0;
    while state.index() < end.index {
        let piece = log.entries_after(state.position(), 4, usize::MAX).unwrap();
        assert!((1..=4).contains(&piece.len()));
        for (index, bytes) in piece {
            applier.apply_entry(index, &bytes).unwrap();
        }
        pieces += 1;
    }
    assert_eq!((pieces, state.position()), (6, end));
    assert!(log.entries_after(end, 4, usize::MAX).unwrap().is_empty());
    // However small the bound, a follower gets on.
    assert_eq!(log.entries_after(Position::default(), 4, 1).unwrap().len(), 1);
    let two = |entries: &[Entry]| entries[0].1.len() + entries[1].1.len();
    let entries = log.entries_after(Position::default(), 4, usize::MAX).unwrap();
    let bounded = log.entries_after(Position::default(), 4, two(&entries)).unwrap();
    assert_eq!(bounded, entries[..2]);
}

#[test]
fn a_follower_of_another_log_is_told_so() {
    let (_directory, path) = scratch();
    let end = written(&path, 5);
    let (log, _worker) = Single::open(&path, no_events()).unwrap();
    for position in [
        Position { hash: end.hash ^ 1, ..end },
        Position { index: end.index + 1, ..end },
        Position { index: 3, ..end },
        Position { index: 0, ..end },
        Position { index: u64::MAX, hash: 0 },
    ] {
        let answer = log.entries_after(position, 4, usize::MAX);
        assert!(matches!(answer, Err(FollowError::Diverged(p)) if p == position), "{position:?}");
    }
}

#[test]
fn a_long_poll_ends_with_the_next_entry() {
    let (_directory, path) = scratch();
    let running = create(&path);
    running.commit(bootstrap());
    block_on(async {
        let log = &running.log;
        assert!(!log.wait_beyond(1, Duration::ZERO).await);
        let (grown, outcome) =
            tokio::join!(log.wait_beyond(1, LONG), log.propose(intern("A"), LONG));
        assert_eq!((grown, outcome), (true, Outcome::Committed { index: 2 }));
    });
    running.stop().unwrap();
}

#[test]
fn a_log_is_created_once_and_opened_only_if_it_is_there() {
    let (_directory, path) = scratch();
    assert!(matches!(Single::open(&path, no_events()), Err(LogError::Missing(_))));
    assert!(!path.exists());
    written(&path, 0);
    assert!(matches!(Single::create(&path, no_events()), Err(LogError::Exists(_))));
    let _open = Single::open(&path, no_events()).unwrap();
    assert!(matches!(Single::open(&path, no_events()), Err(LogError::InUse(_))));
}

#[test]
fn a_creation_that_was_cut_off_leaves_no_log() {
    let (directory, path) = scratch();
    std::fs::write(directory.path().join("control.new"), b"half").unwrap();
    assert_eq!(written(&path, 0).index, 3);
    let nowhere = directory.path().join("absent/control.redb");
    assert!(Single::create(&nowhere, no_events()).is_err());
}

#[test]
fn a_damaged_row_is_named_and_not_repaired() {
    type Damage = fn(&redb::WriteTransaction);
    type Expected = fn(&LogError) -> bool;
    let cases: [(Damage, Expected); 6] = [
        (
            |t| drop(t.open_table(ENTRIES).unwrap().remove(4).unwrap()),
            |e| matches!(e, LogError::Gap { expected: 4, found: 5 }),
        ),
        (
            |t| drop(t.open_table(ENTRIES).unwrap().remove(8).unwrap()),
            |e| matches!(e, LogError::End { expected: 8, found: 7 }),
        ),
        (
            |t| {
                let other = entry::encode(&intern("other")).unwrap();
                let mut rows = t.open_table(ENTRIES).unwrap();
                let hash = rows.get(5).unwrap().unwrap().value().0;
                rows.insert(5, (hash, &*other)).unwrap();
            },
            |e| matches!(e, LogError::Chain { index: 5 }),
        ),
        (
            |t| drop(t.open_table(ENTRIES).unwrap().insert(6, (1, &[1u8][..])).unwrap()),
            |e| matches!(e, LogError::Chain { index: 6 }),
        ),
        (
            |t| drop(t.open_table(META).unwrap().insert("last_hash", 1).unwrap()),
            |e| matches!(e, LogError::Chain { index: 8 }),
        ),
        (
            |t| drop(t.open_table(META).unwrap().insert("format", 2).unwrap()),
            |e| matches!(e, LogError::Format(2)),
        ),
    ];
    for (case, (damage, expected)) in cases.iter().enumerate() {
        let (_directory, path) = scratch();
        written(&path, 5);
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        damage(&transaction);
        transaction.commit().unwrap();
        drop(database);
        for _ in 0..2 {
            let error = open_position(&path).unwrap_err();
            assert!(expected(&error), "case {case}: {error}");
        }
    }
}

#[test]
fn a_file_that_is_no_log_is_an_error() {
    let (_directory, path) = scratch();
    for content in [&b""[..], b"not a log", &[0; 8192]] {
        std::fs::write(&path, content).unwrap();
        let error = open_position(&path).unwrap_err();
        assert!(matches!(error, LogError::Open { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "and it is left as it was");
    }
}

#[test]
fn a_flipped_or_missing_piece_is_an_error_or_changes_nothing() {
    let (_directory, path) = scratch();
    let before = written(&path, 50);
    let good = std::fs::read(&path).unwrap();
    let mut noticed = 0;
    for trial in 0..150u64 {
        let mut bytes = good.clone();
        let place = (zepto_core::hash::mix(trial) as usize) % bytes.len();
        match trial % 10 {
            9 => bytes.truncate(place),
            _ => bytes[place] ^= 1 << (trial % 8),
        }
        std::fs::write(&path, &bytes).unwrap();
        match open_position(&path) {
            Ok(position) => assert_eq!(position, before, "byte {place}"),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 10, "only {noticed} were noticed");
}

/// Storage that fails for good after some number of writes and syncs.
#[derive(Debug)]
struct Failing {
    inner: InMemoryBackend,
    operations_left: Arc<AtomicI64>,
}

impl Failing {
    fn spend(&self) -> io::Result<()> {
        match self.operations_left.fetch_sub(1, Ordering::Relaxed) {
            ..=0 => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spend()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.spend()?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.spend()?;
        self.inner.write(offset, data)
    }
}

#[test]
fn a_failing_disk_stops_the_log_wherever_it_fails() {
    let mut failed_while_writing = 0;
    for operations in 0..24 {
        let operations_left = Arc::new(AtomicI64::new(i64::MAX));
        let inner = InMemoryBackend::new();
        let backend = Failing { inner, operations_left: Arc::clone(&operations_left) };
        let store = Store::create_on(backend).unwrap();
        let running = Running::start(Single::start(store, no_events()).unwrap());
        running.commit(bootstrap());
        operations_left.store(operations, Ordering::Relaxed);
        let mut committed = 1;
        let outcome = loop {
            match running.propose(intern(&format!("S{committed}"))) {
                Outcome::Committed { index } => committed = index,
                other => break other,
            }
        };
        match &outcome {
            Outcome::Unknown(text) => assert!(text.contains("disk"), "{text}"),
            other => panic!("{other:?}"),
        }
        let later = running.propose(intern("later"));
        let Outcome::Refused { index: None, why: Reason::Failed(text) } = later else {
            panic!("{later:?}")
        };
        assert!(text.contains("disk"), "{text}");
        let log = Arc::clone(&running.log);
        assert_eq!(log.state.index(), committed, "only what is on disk is applied");
        assert!(matches!(block_on(log.read_barrier(LONG)), Err(BarrierError::Failed(_))));
        assert!(matches!(running.join(), Err(LogError::Disk(_))));
        failed_while_writing += 1;
    }
    assert_eq!(failed_while_writing, 24);
}

#[test]
fn a_disk_that_fails_leaves_nobody_waiting() {
    let operations_left = Arc::new(AtomicI64::new(i64::MAX));
    let inner = InMemoryBackend::new();
    let backend = Failing { inner, operations_left: Arc::clone(&operations_left) };
    let store = Store::create_on(backend).unwrap();
    let (log, worker) = Single::start(store, no_events()).unwrap();
    block_on(async {
        let names = (0..20).map(|i| intern(&format!("S{i}")));
        let mut waiting: Vec<_> = names.map(|c| Box::pin(log.propose(c, LONG))).collect();
        poll_each(&mut waiting).await;
        operations_left.store(0, Ordering::Relaxed);
        assert!(run(worker).join().unwrap().is_err());
        for proposal in waiting {
            let outcome = proposal.await;
            assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        }
    });
}
