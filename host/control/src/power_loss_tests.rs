//! Power loss at any write or sync: storage that keeps, beside the live bytes, those that survived
//! the last sync and what was written since. A crash leaves the former and any of the latter.
//! Whatever it leaves, an entry that was answered as committed is in the log that opens from it.

use super::*;
use crate::testing::*;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::Mutex;
use zepto_core::hash::mix;

#[derive(Debug, Default)]
struct Disk {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    crashes: Vec<Crash>,
    seed: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// What the disk would hold after a power loss, and which entry was the last to be answered then.
#[derive(Debug)]
struct Crash {
    image: Vec<u8>,
    answered: u64,
    torn: bool,
}

#[derive(Debug)]
struct Lossy {
    disk: Arc<Mutex<Disk>>,
    answered: Arc<AtomicU64>,
}

fn change(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => image.resize(*length, 0),
        Change::Write(offset, bytes) => {
            image.resize(image.len().max(offset + bytes.len()), 0);
            image[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }
}

impl Lossy {
    /// Sometimes notes what a power loss right now would leave.
    fn maybe_crash(&self, disk: &mut Disk) {
        let answered = self.answered.load(Ordering::SeqCst);
        disk.seed = mix(disk.seed);
        if !disk.seed.is_multiple_of(3) || disk.durable.is_empty() {
            return;
        }
        let mut image = disk.durable.clone();
        let mut torn = false;
        for (i, unsynced) in (0..).zip(&disk.unsynced) {
            // Lengths survive: a file system journals them, and redb grows before it writes.
            if mix(disk.seed ^ i).is_multiple_of(2) || matches!(unsynced, Change::Length(_)) {
                change(&mut image, unsynced);
            } else {
                torn = true;
            }
        }
        disk.crashes.push(Crash { image, answered, torn });
    }

    fn change(&self, made: Change) {
        let mut disk = self.disk.lock().unwrap();
        change(&mut disk.live, &made);
        disk.unsynced.push(made);
        self.maybe_crash(&mut disk);
    }
}

impl StorageBackend for Lossy {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().unwrap().live.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.lock().unwrap();
        let start = offset as usize;
        let bytes = disk.live.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(len as usize));
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        self.maybe_crash(&mut disk);
        disk.durable = disk.live.clone();
        disk.unsynced.clear();
        self.maybe_crash(&mut disk);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

fn check(crash: Crash) {
    let backend = InMemoryBackend::new();
    backend.set_len(crash.image.len() as u64).unwrap();
    backend.write(0, &crash.image).unwrap();
    let store = Store::open_on(backend).unwrap();
    let (log, _worker) = Single::start(store, no_events()).unwrap();
    let index = log.state.index();
    assert!(index >= crash.answered, "entry {} was answered, {index} is left", crash.answered);
    for entry in 2..=crash.answered {
        assert!(log.state.symbol_id(&format!("S{entry}")).is_some(), "entry {entry} is lost");
    }
}

#[test]
fn what_was_answered_as_committed_survives_power_loss_at_any_write() {
    let (mut images, mut torn) = (0, 0);
    for seed in 0..4 {
        let disk = Arc::new(Mutex::new(Disk { seed: mix(seed), ..Disk::default() }));
        let answered = Arc::new(AtomicU64::new(0));
        let backend = Lossy { disk: Arc::clone(&disk), answered: Arc::clone(&answered) };
        let store = Store::create_on(backend).unwrap();
        disk.lock().unwrap().crashes.clear();
        let running = Running::start(Single::start(store, no_events()).unwrap());
        for command in
            core::iter::once(bootstrap()).chain((2..=16).map(|i| intern(&format!("S{i}"))))
        {
            let index = running.commit(command);
            answered.store(index, Ordering::SeqCst);
            let crashes = core::mem::take(&mut disk.lock().unwrap().crashes);
            images += crashes.len();
            torn += crashes.iter().filter(|crash| crash.torn).count();
            crashes.into_iter().for_each(check);
        }
        running.stop().unwrap();
    }
    assert!(images > 50 && torn > 20, "{images} crashes, {torn} with writes missing");
}
