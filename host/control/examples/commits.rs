//! What three voters in one process commit per second, on files that are synced, and how long the
//! log has no leader after one is lost.
//!
//! `cargo run --profile ci -p zepto-control --example commits [directory]`

#![expect(clippy::disallowed_methods, reason = "a bench measures time and runs the disk's loops")]
#![expect(clippy::unwrap_used, reason = "a bench ends where anything goes wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use zepto_control::raft::{Demoted, DiskWorker, LinkFailure, Peer, PeerLink, Raft, Times};
use zepto_control::{Command, ControlLog, Outcome};

const LONG: Duration = Duration::from_secs(60);
const RUNS: usize = 20;

#[derive(Clone, Default)]
struct Switch(Arc<Mutex<BTreeMap<String, Arc<Raft<Switch>>>>>);

impl PeerLink for Switch {
    async fn call(
        &self,
        to: &Peer,
        request: Vec<u8>,
        _deadline: Duration,
    ) -> Result<Vec<u8>, LinkFailure> {
        let listener = self.0.lock().unwrap().get(&to.address).cloned();
        let listener = listener.ok_or(LinkFailure::Unreachable("nobody listens".into()))?;
        listener.handle(request).await.map_err(|error| LinkFailure::Unknown(error.to_string()))
    }
}

impl Switch {
    async fn start(&self, directory: &Path, name: &str, times: Times) -> Arc<Raft<Self>> {
        let path = directory.join(name);
        let events = Box::new(|_, _| {});
        let (log, worker) = Raft::open(&path, (name, name), self.clone(), times, events).unwrap();
        run(worker);
        let raft = log.start().await.unwrap();
        self.0.lock().unwrap().insert(name.into(), Arc::clone(&raft));
        raft
    }

    async fn leader(&self, besides: u64) -> Arc<Raft<Self>> {
        loop {
            let all: Vec<_> = self.0.lock().unwrap().values().cloned().collect();
            if let Some(raft) =
                all.into_iter().find(|raft| raft.is_leader() && raft.id() != besides)
            {
                return raft;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn run(worker: DiskWorker) {
    std::thread::spawn(move || worker.run().unwrap());
}

async fn commit(raft: &Raft<Switch>, command: Command) {
    match raft.propose(command, LONG).await {
        Outcome::Committed { .. } => {}
        other => panic!("{other:?}"),
    }
}

/// One proposal, again and again; the time each took.
async fn proposer(raft: Arc<Raft<Switch>>, name: String, until: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    for i in 0.. {
        let start = Instant::now();
        if start > until {
            break;
        }
        commit(&raft, Command::Intern { names: vec![format!("{name}-{i}")] }).await;
        times.push(start.elapsed());
    }
    times
}

async fn measure(raft: &Arc<Raft<Switch>>, label: &str, flying: usize) {
    let (begun, synced) = (Instant::now(), raft.status().transactions);
    let until = begun + Duration::from_secs(5);
    let proposers: Vec<_> = (0..flying)
        .map(|i| tokio::spawn(proposer(Arc::clone(raft), format!("{label}{i}"), until)))
        .collect();
    let mut times = Vec::new();
    for proposer in proposers {
        times.extend(proposer.await.unwrap());
    }
    times.sort_unstable();
    let per_second = times.len() as f64 / begun.elapsed().as_secs_f64();
    let synced = raft.status().transactions - synced;
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{label}, {flying} in flight: {per_second:.0} commits/s, p50 {:.2} ms, p99 {:.2} ms, \
         {synced} syncs of its disk",
        at(0.5),
        at(0.99),
    );
}

async fn lose_leaders(switch: &Switch, directory: &Path, times: Times, label: &str) {
    let mut gaps = Vec::new();
    for run in 0..RUNS {
        let leader = switch.leader(0).await;
        commit(&leader, Command::Intern { names: vec![format!("{label}-lost-{run}")] }).await;
        let lost = Instant::now();
        let (id, name) = (leader.id(), leader.leader().unwrap().name);
        switch.0.lock().unwrap().remove(&name);
        leader.stop().await;
        let next = switch.leader(id).await;
        commit(&next, Command::Intern { names: vec![format!("{label}-next-{run}")] }).await;
        gaps.push(lost.elapsed());
        drop((leader, next));
        tokio::time::sleep(Duration::from_millis(300)).await;
        switch.start(directory, &name, times).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    gaps.sort_unstable();
    println!(
        "{label}: leader lost until the next one has committed, {RUNS} runs: median {} ms, worst {} ms",
        gaps[RUNS / 2].as_millis(),
        gaps[RUNS - 1].as_millis(),
    );
}

async fn cluster(directory: &Path, times: Times, label: &str) {
    let directory: PathBuf = directory.join(label);
    std::fs::create_dir_all(&directory).unwrap();
    let switch = Switch::default();
    let first = switch.start(&directory, "a", times).await;
    first.bootstrap().await.unwrap();
    let mut voters = BTreeSet::from([first.id()]);
    switch.leader(0).await;
    for name in ["b", "c"] {
        let raft = switch.start(&directory, name, times).await;
        let peer = Peer { id: raft.id(), name: name.into(), address: name.into() };
        assert!(matches!(first.admit(peer, false, LONG).await, Outcome::Committed { .. }));
        voters.insert(raft.id());
    }
    let made = first.set_voters(voters, Demoted::Removed, LONG).await;
    assert!(matches!(made, Outcome::Committed { .. }), "{made:?}");
    commit(&first, Command::Bootstrap { cluster: 1, bits: 4, copies: 1 }).await;
    let leader = switch.leader(0).await;
    measure(&leader, label, 1).await;
    measure(&leader, label, 64).await;
    drop((first, leader));
    lose_leaders(&switch, &directory, times, label).await;
}

#[tokio::main]
async fn main() {
    let made = tempfile::tempdir().unwrap();
    let given = std::env::args().nth(1).map(PathBuf::from);
    let directory = given.as_deref().unwrap_or(made.path());
    for (times, label) in [(Times::FAST, "fast"), (Times::DEFAULT, "default")] {
        cluster(directory, times, label).await;
    }
}
