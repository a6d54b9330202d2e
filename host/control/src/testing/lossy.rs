//! Power loss at any write or sync: storage that keeps, beside the live bytes, those that survived
//! the last sync and what was written since. A crash leaves the former and any of the latter.

use core::sync::atomic::{AtomicU64, Ordering};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::{Arc, Mutex};
use zepto_core::hash::mix;

#[derive(Debug, Default)]
pub struct Disk {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    pub crashes: Vec<Crash>,
    seed: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// What the disk would hold after a power loss, and which entry was the last to be answered then.
#[derive(Debug)]
pub struct Crash {
    image: Vec<u8>,
    pub answered: u64,
    pub torn: bool,
}

/// Storage whose power may be lost at any moment, and is, in what it notes of itself.
#[derive(Debug)]
pub struct Lossy {
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

impl Disk {
    pub fn seeded(seed: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { seed: mix(seed), ..Self::default() }))
    }
}

impl Crash {
    /// Storage that holds what the crash left.
    pub fn storage(&self) -> InMemoryBackend {
        let backend = InMemoryBackend::new();
        backend.set_len(self.image.len() as u64).unwrap();
        backend.write(0, &self.image).unwrap();
        backend
    }
}

impl Lossy {
    pub fn new(disk: &Arc<Mutex<Disk>>, answered: &Arc<AtomicU64>) -> Self {
        Self { disk: Arc::clone(disk), answered: Arc::clone(answered) }
    }

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
