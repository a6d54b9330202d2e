//! A world of voters under one seed: its clock is paused, its network loses, doubles, delays and
//! reorders, and its power fails. Everything that happens is decided by the seed.

use crate::file::LogError;
use crate::file::builder;
use crate::raft::disk::Disk;
use crate::raft::runtime::Runtime;
use crate::raft::types::Contact;
use crate::raft::{Compaction, Demoted, LinkFailure, Peer, PeerLink, Raft, Times, seeded};
use crate::testing::LONG;
use crate::{ControlLog, Event};
use core::time::Duration;
use openraft::AsyncRuntime;
use redb::StorageBackend;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use zepto_core::hash::mix;

/// Runs a world on a paused clock.
pub fn simulate<F: Future>(seed: u64, world: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(seeded(seed, world))
}

/// A disk that outlives the process that writes it.
#[derive(Clone, Debug, Default)]
pub struct Image(Arc<Mutex<Vec<u8>>>);

impl Image {
    /// What another process finds there.
    fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }
}

impl StorageBackend for Image {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = offset as usize;
        self.0.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// What the network does to messages, in percent, and how long it may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lost: u64,
    pub doubled: u64,
    pub delay_ms: u64,
}

#[derive(Debug, Default)]
struct Sky {
    chance: u64,
    faults: Faults,
    cut: BTreeSet<(usize, usize)>,
    listeners: BTreeMap<usize, Arc<Raft<Port>>>,
}

/// The network. Shared by all ports.
#[derive(Clone, Debug)]
pub struct Net(Arc<Mutex<Sky>>);

/// One voter's way into it.
#[derive(Debug)]
pub struct Port {
    me: usize,
    net: Net,
}

impl Net {
    pub fn below(&self, limit: u64) -> u64 {
        let mut sky = self.0.lock().unwrap();
        sky.chance = sky.chance.wrapping_add(1);
        mix(sky.chance) % limit.max(1)
    }

    pub fn faults(&self) -> Faults {
        self.0.lock().unwrap().faults
    }

    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().unwrap().faults = faults;
    }

    /// Cuts a voter off from some of the others, in one direction or both.
    pub fn cut(&self, pairs: impl IntoIterator<Item = (usize, usize)>) {
        self.0.lock().unwrap().cut.extend(pairs);
    }

    pub fn heal(&self) {
        self.0.lock().unwrap().cut.clear();
    }

    fn is_lost(&self, from: usize, to: usize) -> bool {
        let lost = self.below(100) < self.faults().lost;
        lost || self.0.lock().unwrap().cut.contains(&(from, to))
    }

    async fn delay(&self) {
        let limit = self.faults().delay_ms;
        if limit > 0 {
            sleep(Duration::from_micros(self.below(limit * 1000))).await;
        }
    }

    async fn deliver(&self, from: usize, to: usize, request: Vec<u8>) -> Option<Vec<u8>> {
        self.delay().await;
        let listener = self.0.lock().unwrap().listeners.get(&to).cloned()?;
        let answer = listener.handle(request).await.ok()?;
        self.delay().await;
        (!self.is_lost(to, from)).then_some(answer)
    }
}

impl PeerLink for Port {
    /// What is lost is lost silently: nobody says that it was not delivered.
    async fn call(
        &self,
        to: &Peer,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, LinkFailure> {
        let to: usize = to.address.parse().unwrap();
        if self.net.below(100) < self.net.faults().doubled {
            let (net, me, copy) = (self.net.clone(), self.me, request.clone());
            drop(Runtime::spawn(async move {
                net.delay().await;
                net.deliver(me, to, copy).await
            }));
        }
        let answer = match self.net.is_lost(self.me, to) {
            true => None,
            false => self.net.deliver(self.me, to, request).await,
        };
        match answer {
            Some(answer) => Ok(answer),
            None => {
                sleep(deadline).await;
                Err(LinkFailure::Unknown("silence".into()))
            }
        }
    }
}

/// One life of a voter.
struct Life {
    raft: Arc<Raft<Port>>,
    worker: JoinHandle<Result<(), LogError>>,
    image: Image,
    index_seen: u64,
}

/// What all lives of all voters must agree on.
#[derive(Debug, Default)]
pub struct Truth {
    hashes: BTreeMap<u64, u64>,
    leaders: BTreeMap<u64, u64>,
    events: BTreeMap<u64, Vec<Event>>,
    /// What was seen that must not be. A panic in a task of openraft's would not be seen.
    pub violations: Vec<String>,
    /// Names whose entries were acknowledged.
    pub acknowledged: BTreeSet<String>,
}

pub struct World {
    pub net: Net,
    lives: BTreeMap<usize, Life>,
    images: BTreeMap<usize, Image>,
    pub truth: Arc<Mutex<Truth>>,
    voters: usize,
    compaction: Compaction,
}

impl World {
    /// Voters that lead and follow on a quiet network.
    pub async fn of(voters: usize, seed: u64, compaction: Compaction) -> Self {
        let sky = Sky { chance: mix(seed ^ 0x51), ..Sky::default() };
        let mut world = Self {
            net: Net(Arc::new(Mutex::new(sky))),
            lives: BTreeMap::new(),
            images: BTreeMap::new(),
            truth: Arc::default(),
            voters,
            compaction,
        };
        for voter in 0..voters {
            world.start(voter).await;
        }
        let first = world.raft(0);
        first.bootstrap().await.unwrap();
        world.leader().await;
        let mut ids = BTreeSet::new();
        for voter in 0..voters {
            let raft = world.raft(voter);
            ids.insert(raft.id());
            let (name, address) = (format!("n{voter}"), voter.to_string());
            super::fleet::committed(
                first.admit(Peer { id: raft.id(), name, address }, false, LONG).await,
            );
        }
        super::fleet::committed(first.set_voters(ids, Demoted::Removed, LONG).await);
        world
    }

    pub fn alive(&self) -> Vec<usize> {
        self.lives.keys().copied().collect()
    }

    pub fn dead(&self) -> Vec<usize> {
        (0..self.voters).filter(|voter| !self.lives.contains_key(voter)).collect()
    }

    pub fn raft(&self, voter: usize) -> Arc<Raft<Port>> {
        Arc::clone(&self.lives[&voter].raft)
    }

    pub async fn start(&mut self, voter: usize) {
        let kept = self.images.remove(&voter);
        let image = kept.clone().unwrap_or_default();
        let database = builder().create_with_backend(image.clone()).unwrap();
        let disk = if kept.is_some() { Disk::opened(database) } else { Disk::init(database) };
        let me = Contact { name: format!("n{voter}"), address: voter.to_string() };
        let port = Port { me: voter, net: self.net.clone() };
        let truth = Arc::clone(&self.truth);
        let mut last = 0;
        let events = Box::new(move |index, events: Vec<Event>| {
            let mut truth = truth.lock().unwrap();
            let known = truth.events.entry(index).or_insert_with(|| events.clone());
            if *known != events || index <= last {
                truth.violations.push(format!("entry {index} after {last}: {events:?} (C1)"));
            }
            last = index;
        });
        let (log, worker) = Raft::on(disk.unwrap(), me, port, Times::FAST, events).unwrap();
        let net = self.net.clone();
        let slow = move || {
            let net = net.clone();
            async move { sleep(Duration::from_micros(200 + net.below(3000))).await }
        };
        let worker = Runtime::spawn(worker.run_here(slow));
        let raft = log.with_compaction(self.compaction).start().await.unwrap();
        self.net.0.lock().unwrap().listeners.insert(voter, Arc::clone(&raft));
        self.lives.insert(voter, Life { raft, worker, image, index_seen: 0 });
    }

    /// Ends a voter in the middle of whatever it does. What waits for its disk is lost.
    pub async fn crash(&mut self, voter: usize) {
        let Some(life) = self.lives.remove(&voter) else { return };
        self.net.0.lock().unwrap().listeners.remove(&voter);
        life.worker.abort();
        self.images.insert(voter, life.image.copy());
        drop(life.worker.await);
        drop(life.raft.core.shutdown().await);
    }

    /// What must hold at every moment.
    pub fn check(&mut self) {
        let mut truth = self.truth.lock().unwrap();
        assert!(truth.violations.is_empty(), "{:?}", truth.violations);
        for life in self.lives.values_mut() {
            assert_eq!(life.raft.failure(), None, "a voter ended by itself");
            let position = life.raft.state().position();
            assert!(position.index >= life.index_seen, "the index went back (C4)");
            life.index_seen = position.index;
            let known = *truth.hashes.entry(position.index).or_insert(position.hash);
            assert_eq!(known, position.hash, "equal index {}, two hashes (C3)", position.index);
            let metrics = life.raft.metrics();
            if metrics.state.is_leader() {
                let known = *truth.leaders.entry(metrics.current_term).or_insert(metrics.id);
                assert_eq!(known, metrics.id, "term {} has two leaders", metrics.current_term);
            }
        }
    }

    /// The one that leads and that a majority follows, and its number.
    pub async fn leader(&self) -> (usize, Arc<Raft<Port>>) {
        loop {
            for (voter, life) in &self.lives {
                let raft = &life.raft;
                if raft.is_leader() && raft.read_barrier(Duration::from_millis(400)).await.is_ok() {
                    return (*voter, Arc::clone(raft));
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The highest term of those that live.
    pub fn term(&self) -> u64 {
        self.lives.values().map(|life| life.raft.term()).max().unwrap_or_default()
    }

    pub fn terms(&self) -> usize {
        self.truth.lock().unwrap().leaders.len()
    }

    pub fn trace(&self) -> String {
        let truth = self.truth.lock().unwrap();
        format!("{:?} {:?} {:?}", truth.hashes, truth.leaders, truth.acknowledged)
    }
}
