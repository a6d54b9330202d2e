//! Messages between peers of the log that were changed on the way, or made up: each ends as an
//! answer or an error, and costs no more memory than its own bytes are worth.

#![expect(clippy::unwrap_used, reason = "a test, and clippy sees tests only in #[test] functions")]

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zepto_control::raft::{
    Compaction, Demoted, HandleError, LinkFailure, Peer, PeerLink, Raft, Times,
};
use zepto_control::{Command, ControlLog, Outcome};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LONG: Duration = Duration::from_secs(60);

/// Brings messages to their peers, and keeps some of each length.
#[derive(Clone, Default)]
struct Tap(Arc<Mutex<Tapped>>);

#[derive(Default)]
struct Tapped {
    peers: BTreeMap<String, Arc<Raft<Tap>>>,
    heard: BTreeMap<(u64, usize), Vec<u8>>,
}

impl PeerLink for Tap {
    async fn call(
        &self,
        to: &Peer,
        request: Vec<u8>,
        _deadline: Duration,
    ) -> Result<Vec<u8>, LinkFailure> {
        let listener = {
            let mut tapped = self.0.lock().unwrap();
            tapped.heard.insert((to.id, request.len()), request.clone());
            tapped.peers.get(&to.address).cloned()
        };
        let listener = listener.ok_or(LinkFailure::Unreachable("nobody listens".into()))?;
        listener.handle(request).await.map_err(|error| LinkFailure::Unknown(error.to_string()))
    }
}

impl Tap {
    async fn start(&self, directory: &std::path::Path, name: &str) -> Arc<Raft<Self>> {
        let path = directory.join(name);
        let events = Box::new(|_, _| {});
        let (log, worker) =
            Raft::open(&path, (name, name), self.clone(), Times::FAST, events).unwrap();
        drop(tokio::spawn(worker.run_here(|| core::future::ready(()))));
        let log = log.with_compaction(Compaction { every: 50, keep: 5 });
        let raft = log.start().await.unwrap();
        self.0.lock().unwrap().peers.insert(name.into(), Arc::clone(&raft));
        raft
    }
}

fn intern(name: String) -> Command {
    Command::Intern { names: vec![name] }
}

/// What a cluster says while it elects, commits, loses its leader and sends a snapshot, by whom
/// it was for; and one of its followers.
async fn overhear(directory: &std::path::Path) -> (Vec<Vec<u8>>, Arc<Raft<Tap>>) {
    let tap = Tap::default();
    let first = tap.start(directory, "a").await;
    first.bootstrap().await.unwrap();
    let bootstrap = Command::Bootstrap { cluster: 1, bits: 4, copies: 1 };
    assert!(matches!(first.propose(bootstrap, LONG).await, Outcome::Committed { .. }));
    for i in 0..120 {
        let outcome = first.propose(intern(format!("s{i}")), LONG).await;
        assert!(matches!(outcome, Outcome::Committed { .. }));
    }
    let mut voters = BTreeSet::from([first.id()]);
    for name in ["b", "c"] {
        let raft = tap.start(directory, name).await;
        let peer = Peer { id: raft.id(), name: name.into(), address: name.into() };
        assert!(matches!(first.admit(peer, false, LONG).await, Outcome::Committed { .. }));
        voters.insert(raft.id());
        let outcome = raft.propose(intern(format!("by-{name}")), LONG).await;
        assert!(matches!(outcome, Outcome::Committed { .. }));
    }
    let made = first.set_voters(voters, Demoted::Removed, LONG).await;
    assert!(matches!(made, Outcome::Committed { .. }), "{made:?}");
    let victim = Arc::clone(&tap.0.lock().unwrap().peers["b"]);
    first.hand_over(victim.id()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    victim.read_barrier(LONG).await.unwrap();
    let heard = tap.0.lock().unwrap().heard.clone();
    let for_victim = heard.into_iter().filter(|((to, _), _)| *to == victim.id());
    (for_victim.map(|(_, message)| message).collect(), victim)
}

#[test]
fn whatever_comes_in_is_answered_or_refused_within_bounded_memory() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (heard, victim) = runtime.block_on(overhear(directory.path()));
    assert!(heard.len() > 10, "{} messages are too few to learn from", heard.len());
    let before = victim.state().position();

    // Made up. None of it is a message, and the log goes on.
    let rng = || TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::with_cases(2000), rng());
    let noise = proptest::collection::vec(any::<u8>(), 0..600);
    let made_up = |mut bytes: Vec<u8>| {
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        let region = Region::new(ALLOCATOR);
        let result = runtime.block_on(victim.handle(bytes));
        let allocated = region.change().bytes_allocated;
        prop_assert!(result.is_err());
        prop_assert!(allocated < 4 << 20, "{} bytes", allocated);
        Ok(())
    };
    runner.run(&noise, made_up).unwrap();
    assert!(victim.state().position().index >= before.index);
    runtime.block_on(victim.read_barrier(LONG)).unwrap();

    // Changed on the way. It may pass for one of a real leader, so this log is not asked again.
    let mut runner = TestRunner::new_with_rng(Config::with_cases(3000), rng());
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    let refused = Mutex::new(0);
    let changed =
        |(message, at, byte, kind): (prop::sample::Index, prop::sample::Index, u8, u8)| {
            let mut bytes = heard[message.index(heard.len())].clone();
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, byte),
                _ => bytes[at] = bytes[at].wrapping_add(1),
            }
            let region = Region::new(ALLOCATOR);
            let answer = async {
                tokio::time::timeout(Duration::from_millis(200), victim.handle(bytes)).await
            };
            let result = runtime.block_on(answer);
            let allocated = region.change().bytes_allocated;
            if matches!(result, Ok(Err(HandleError::Malformed(_) | HandleError::OtherPeer { .. })))
            {
                *refused.lock().unwrap() += 1;
            }
            prop_assert!(allocated < 64 << 20, "{} bytes", allocated);
            Ok(())
        };
    runner.run(&change, changed).unwrap();
    assert!(*refused.lock().unwrap() > 500);
}
