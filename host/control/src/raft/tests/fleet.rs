//! Several peers of one log, on files, each reached by its address through one switch.

use crate::file::LogError;
use crate::raft::{Compaction, Demoted, HandleError, LinkFailure, Peer, PeerLink, Raft, Times};
use crate::testing::{LONG, intern, no_events, on_a_thread};
use crate::{Command, ControlLog, Outcome};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Who listens at which address.
#[derive(Debug, Default)]
pub struct Switch {
    /// Messages of a MiB and more that were sent.
    pub large_sent: AtomicU64,
    /// Those of them that are lost: every so many.
    pub large_lost: AtomicU64,
    listeners: Mutex<BTreeMap<String, Arc<Raft<Port>>>>,
}

impl Switch {
    /// Who listened at one address now does at another.
    pub fn moved(&self, from: &str, to: &str) {
        let mut listeners = self.listeners.lock().unwrap();
        let raft = listeners.remove(from).unwrap();
        listeners.insert(to.into(), raft);
    }
}

/// The link of one peer.
#[derive(Debug)]
pub struct Port(pub Arc<Switch>);

impl PeerLink for Port {
    async fn call(
        &self,
        to: &Peer,
        request: Vec<u8>,
        _deadline: Duration,
    ) -> Result<Vec<u8>, LinkFailure> {
        if request.len() >= 1 << 20 {
            let sent = self.0.large_sent.fetch_add(1, Ordering::Relaxed);
            let lost = self.0.large_lost.load(Ordering::Relaxed);
            if lost > 0 && sent % lost == 1 {
                return Err(LinkFailure::Unknown("lost".into()));
            }
        }
        let listener = self.0.listeners.lock().unwrap().get(&to.address).cloned();
        let listener = listener.ok_or(LinkFailure::Unreachable("nobody listens".into()))?;
        listener.handle(request).await.map_err(|error| match error {
            HandleError::Ended(_) => LinkFailure::Unknown(error.to_string()),
            error => LinkFailure::Unreachable(error.to_string()),
        })
    }
}

/// A running peer.
pub struct Node {
    pub raft: Arc<Raft<Port>>,
    worker: JoinHandle<Result<(), LogError>>,
}

pub struct Fleet {
    pub directory: TempDir,
    pub switch: Arc<Switch>,
    pub nodes: BTreeMap<&'static str, Node>,
    pub compaction: Compaction,
}

impl Fleet {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            switch: Arc::default(),
            nodes: BTreeMap::new(),
            compaction: Compaction::default(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a peer on its file, which is made if it is not there.
    pub async fn start(&mut self, name: &'static str) -> Arc<Raft<Port>> {
        let path = self.path(name);
        let opening = async {
            loop {
                let link = Port(Arc::clone(&self.switch));
                match Raft::open(&path, (name, name), link, Times::FAST, no_events()) {
                    // A task of its life before may hold the file a moment longer.
                    Err(LogError::InUse(_)) => sleep(Duration::from_millis(1)).await,
                    opened => break opened.unwrap(),
                }
            }
        };
        let (unstarted, worker) = timeout(LONG, opening).await.unwrap();
        let worker = on_a_thread(move || worker.run());
        let raft = unstarted.with_compaction(self.compaction).start().await.unwrap();
        self.switch.listeners.lock().unwrap().insert(name.into(), Arc::clone(&raft));
        self.nodes.insert(name, Node { raft: Arc::clone(&raft), worker });
        raft
    }

    /// Voters of these names, with the first leading at first.
    pub async fn of(names: &[&'static str]) -> Self {
        Self::with(names, Compaction::default()).await
    }

    pub async fn with(names: &[&'static str], compaction: Compaction) -> Self {
        let mut fleet = Self { compaction, ..Self::new() };
        let first = fleet.start(names[0]).await;
        first.bootstrap().await.unwrap();
        fleet.leader().await;
        let mut voters = BTreeSet::from([first.id()]);
        for name in &names[1..] {
            let raft = fleet.start(name).await;
            committed(fleet.admit(name, false).await);
            voters.insert(raft.id());
        }
        committed(first.set_voters(voters, Demoted::Removed, LONG).await);
        fleet
    }

    pub async fn admit(&self, name: &str, replace: bool) -> Outcome {
        let id = self.raft(name).id();
        let peer = Peer { id, name: name.into(), address: name.into() };
        self.leader().await.admit(peer, replace, LONG).await
    }

    pub fn raft(&self, name: &str) -> Arc<Raft<Port>> {
        Arc::clone(&self.nodes[name].raft)
    }

    /// Stops a peer and closes its file.
    pub async fn stop(&mut self, name: &str) {
        self.switch.listeners.lock().unwrap().remove(name);
        let node = self.nodes.remove(name).unwrap();
        node.raft.stop().await;
        node.worker.join().unwrap().unwrap();
        // Whoever holds it still, holds the file too.
        while Arc::strong_count(&node.raft) > 1 {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The one that leads and that a majority follows.
    pub async fn leader(&self) -> Arc<Raft<Port>> {
        let found = async {
            loop {
                let leads = |node: &&Node| node.raft.is_leader();
                if let Some(node) = self.nodes.values().find(leads)
                    && node.raft.read_barrier(Duration::from_millis(500)).await.is_ok()
                {
                    return Arc::clone(&node.raft);
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, found).await.unwrap()
    }

    /// The name of a peer's log.
    pub fn name_of(&self, id: u64) -> &'static str {
        self.nodes.iter().find(|(_, node)| node.raft.id() == id).unwrap().0
    }

    pub async fn commit(&self, name: &str, command: Command) -> u64 {
        committed(self.raft(name).propose(command, LONG).await)
    }

    /// Waits until all peers have applied the same, and checks that it is the same.
    pub async fn agree(&self) -> u64 {
        let index = self.leader().await.read_barrier(LONG).await.unwrap();
        let mut hashes = BTreeSet::new();
        for node in self.nodes.values() {
            let position = node.raft.state().wait_for(index, LONG).await.unwrap();
            if position.index == index {
                hashes.insert(position.hash);
            }
        }
        assert!(hashes.len() <= 1, "equal index {index}, different hashes");
        index
    }
}

pub fn committed(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Committed { index } => index,
        other => panic!("{other:?}"),
    }
}

pub fn names(prefix: &str, count: u64) -> impl Iterator<Item = Command> {
    (0..count).map(move |i| intern(&format!("{prefix}{i}")))
}
