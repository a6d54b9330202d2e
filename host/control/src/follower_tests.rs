//! The follower against a leader that dawdles, repeats itself, loses answers and diverges.

use super::*;
use crate::single::{FollowError, Single};
use crate::testing::*;
use core::sync::atomic::AtomicBool;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::oneshot;
use zepto_core::limits::FOLLOW_ENTRIES_MAX;
use zepto_core::topology::Refused;

/// A leader in memory, and a script of how its answers go wrong.
struct Leader {
    state: Arc<State>,
    log: Mutex<(Applier, Vec<Entry>)>,
    script: Mutex<VecDeque<Fault>>,
    /// While set, polls show nothing.
    mute: AtomicBool,
    polls: AtomicU64,
    highest_after: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Everything from the beginning.
    Duplicates,
    /// The first missing entry is left out.
    Gap,
    /// All of it, last first.
    Reversed,
    /// Pairs exchanged.
    Swapped,
    /// One entry only.
    One,
    /// No answer.
    Unavailable,
    /// "Nothing", although there is something, and at once.
    Empty,
}

impl Leader {
    fn new() -> Arc<Self> {
        let (state, applier) = State::new(no_events());
        Arc::new(Self {
            state,
            log: Mutex::new((applier, Vec::new())),
            script: Mutex::default(),
            mute: AtomicBool::new(false),
            polls: AtomicU64::new(0),
            highest_after: AtomicU64::new(0),
        })
    }

    fn commit(&self, command: &Command) -> u64 {
        self.append(entry::encode(command).unwrap()).0
    }

    fn begin(&self) {
        for command in first_entries() {
            self.commit(&command);
        }
    }

    fn append(&self, bytes: Vec<u8>) -> (u64, zepto_core::topology::Applied) {
        let (applier, entries) = &mut *self.log.lock().unwrap();
        let index = applier.state().index() + 1;
        let applied = applier.apply_entry(index, &bytes).unwrap();
        entries.push((index, bytes));
        (index, applied)
    }

    fn answer(&self, after: u64, fault: Option<Fault>) -> Result<Vec<Entry>, LinkError> {
        let all = self.log.lock().unwrap().1.clone();
        let mut new = all[after as usize..].to_vec();
        match fault {
            None => {}
            Some(Fault::Duplicates) => new = all,
            Some(Fault::Gap) => drop(new.drain(..1.min(new.len()))),
            Some(Fault::Reversed) => new.reverse(),
            Some(Fault::Swapped) => new.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1)),
            Some(Fault::One) => new.truncate(1),
            Some(Fault::Unavailable) => return Err(LinkError::Unavailable("scripted".into())),
            Some(Fault::Empty) => new.clear(),
        }
        new.truncate(FOLLOW_ENTRIES_MAX);
        Ok(new)
    }
}

impl LeaderLink for Arc<Leader> {
    async fn follow(&self, after: Position, wait: Duration) -> Result<Vec<Entry>, LinkError> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let highest = self.highest_after.fetch_max(after.index, Ordering::Relaxed);
        assert!(after.index >= highest, "the follower went back from {highest} to {after:?}");
        let fault = self.script.lock().unwrap().pop_front();
        if fault.is_none() {
            let ready = self.state.wait_for(after.index + 1, wait).await.is_ok();
            if !ready || self.mute.load(Ordering::Relaxed) {
                sleep(wait).await;
                return Ok(Vec::new());
            }
        }
        self.answer(after.index, fault)
    }

    async fn propose(&self, entry: Vec<u8>, _deadline: Duration) -> Outcome {
        match self.append(entry) {
            (index, zepto_core::topology::Applied::Changed(_)) => Outcome::Committed { index },
            (index, zepto_core::topology::Applied::Refused(refused)) => {
                Outcome::Refused { index: Some(index), why: Reason::Topology(refused) }
            }
        }
    }

    async fn barrier(&self, _deadline: Duration) -> Result<u64, BarrierError> {
        Ok(self.state.index())
    }
}

struct Following {
    log: Arc<Follower<Arc<Leader>>>,
    shutdown: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), FollowerError>>,
}

fn follow(leader: &Arc<Leader>, seed: u64) -> Following {
    let (log, worker) = Follower::new(Arc::clone(leader), seed, no_events());
    let (shutdown, ended) = oneshot::channel::<()>();
    let task = tokio::spawn(worker.run(async { ended.await.unwrap_or(()) }));
    Following { log, shutdown, task }
}

impl Following {
    async fn stop(self) -> Result<(), FollowerError> {
        self.shutdown.send(()).unwrap();
        self.task.await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_the_link_does_the_follower_ends_where_the_leader_is() {
    use Fault::{Duplicates, Empty, Gap, One, Reversed, Swapped, Unavailable};
    let faults = [Duplicates, Gap, Reversed, Swapped, One, Unavailable, Empty];
    for seed in 0..200u64 {
        let leader = Leader::new();
        let random = |salt: u64, below: usize| (mix(seed ^ (salt << 32)) as usize) % below;
        let script = (0..random(1, 30)).map(|i| faults[random(100 + i as u64, faults.len())]);
        leader.script.lock().unwrap().extend(script);
        let following = follow(&leader, seed);
        leader.begin();
        for i in 0..random(2, 200) as u64 {
            leader.commit(&intern(&format!("S{i}")));
            if random(1000 + i, 4) == 0 {
                sleep(Duration::from_millis(random(2000 + i, 400) as u64)).await;
            }
        }
        let end = leader.state.index();
        let position = following.log.state.wait_for(end, LONG).await.unwrap();
        assert_eq!(position, leader.state.position(), "seed {seed}");
        let members = |state: &State| state.with_topology(|t| t.placement.clone());
        assert_eq!(members(&following.log.state), members(&leader.state));
        assert_eq!(following.log.state.symbols_len(), leader.state.symbols_len());
        following.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_answers_nothing_at_once_is_not_asked_in_a_loop() {
    for fault in [Fault::Empty, Fault::Unavailable, Fault::Gap, Fault::Duplicates] {
        let leader = Leader::new();
        leader.begin();
        let following = follow(&leader, 7);
        following.log.state.wait_for(3, LONG).await.unwrap();
        leader.commit(&intern("A"));
        leader.commit(&intern("B"));
        following.log.state.wait_for(5, LONG).await.unwrap();
        leader.script.lock().unwrap().extend([fault; 10_000]);
        leader.commit(&intern("C"));
        let before = leader.polls.load(Ordering::Relaxed);
        sleep(Duration::from_secs(10)).await;
        let polls = leader.polls.load(Ordering::Relaxed) - before;
        let most = 10_000 / RECONNECT_MIN_MS + 2;
        assert!((9..=most).contains(&polls), "{fault:?}: {polls} polls in 10 s");
        // And it is back soon after the leader is.
        leader.script.lock().unwrap().clear();
        let back = Duration::from_millis(2 * RECONNECT_MAX_MS);
        if !matches!(fault, Fault::Duplicates) {
            following.log.state.wait_for(6, back).await.unwrap();
        }
        following.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_a_bound_and_differ_between_followers() {
    let worker = |seed| Follower::new(Leader::new(), seed, no_events()).1;
    let pauses = |seed| (1..40).map(|n| worker(seed).pause(n)).collect::<Vec<_>>();
    let (a, b) = (pauses(1), pauses(2));
    assert!(a != b);
    for pause in a.iter().chain(&b) {
        let ms = pause.as_millis() as u64;
        assert!((RECONNECT_MIN_MS / 2..=RECONNECT_MAX_MS).contains(&ms), "{ms}");
    }
    assert!(a[10..].iter().all(|pause| pause.as_millis() as u64 >= RECONNECT_MAX_MS / 2));
}

#[tokio::test(start_paused = true)]
async fn who_was_told_committed_finds_it_in_the_own_state() {
    let leader = Leader::new();
    leader.begin();
    let following = follow(&leader, 1);
    for i in 0..50 {
        let name = format!("S{i}");
        let outcome = following.log.propose(intern(&name), LONG).await;
        assert_eq!(outcome, Outcome::Committed { index: 4 + i });
        assert_eq!(following.log.state.symbol_id(&name), Some(i as u32));
    }
    let refused = following.log.propose(bootstrap(), LONG).await;
    let why = Reason::Topology(Refused::Bootstrapped);
    assert_eq!(refused, Outcome::Refused { index: Some(54), why });
    assert_eq!(following.log.state.index(), 54, "what it was refused for is there to be read");
    following.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_but_not_seen_here_by_the_deadline_is_unknown() {
    let leader = Leader::new();
    let following = follow(&leader, 1);
    sleep(Duration::from_millis(1)).await;
    leader.mute.store(true, Ordering::Relaxed);
    let outcome = following.log.propose(bootstrap(), Duration::from_secs(1)).await;
    let Outcome::Unknown(text) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("entry 1"), "{text}");
    let barrier = following.log.read_barrier(Duration::from_secs(1)).await;
    assert!(matches!(barrier, Err(BarrierError::Deadline(_))), "{barrier:?}");
    leader.mute.store(false, Ordering::Relaxed);
    assert_eq!(following.log.read_barrier(LONG).await, Ok(1));
    assert_eq!(following.log.state.index(), 1);
    following.stop().await.unwrap();
    let after = following_ended(&leader).await;
    assert_eq!(after, Err(BarrierError::Stopped));
}

/// A barrier on a follower whose loop has ended before it could catch up.
async fn following_ended(leader: &Arc<Leader>) -> Result<u64, BarrierError> {
    let (log, worker) = Follower::new(Arc::clone(leader), 0, no_events());
    drop(worker);
    log.read_barrier(LONG).await
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_applied_stops_the_follower() {
    let leader = Leader::new();
    leader.begin();
    leader.log.lock().unwrap().1[1].1[0] = 9;
    let following = follow(&leader, 1);
    let error = following.task.await.unwrap().unwrap_err();
    assert!(matches!(error, FollowerError::Apply(ApplyError::Entry { index: 2, .. })), "{error}");
    assert_eq!(following.log.state.index(), 1, "it keeps the prefix it has");
}

/// A real log behind the link, without a network.
struct Direct(Arc<Single>);

impl LeaderLink for Direct {
    async fn follow(&self, after: Position, wait: Duration) -> Result<Vec<Entry>, LinkError> {
        self.0.wait_beyond(after.index, wait).await;
        self.0.entries_after(after, 3, 1 << 20).map_err(|error| match error {
            FollowError::Diverged(_) => LinkError::Diverged(error.to_string()),
            FollowError::Log(_) => LinkError::Unavailable(error.to_string()),
        })
    }

    async fn propose(&self, entry: Vec<u8>, deadline: Duration) -> Outcome {
        self.0.propose_entry(entry, deadline).await
    }

    async fn barrier(&self, deadline: Duration) -> Result<u64, BarrierError> {
        self.0.read_barrier(deadline).await
    }
}

#[tokio::test]
async fn followers_of_a_real_log_agree_with_it_and_one_of_another_log_stops() {
    let directory = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        Running::start(Single::create(&directory.path().join(name), no_events()).unwrap())
    };
    let (leader, other) = (start("one.redb"), start("two.redb"));
    let (log, worker) = Follower::new(Direct(Arc::clone(&leader.log)), 1, no_events());
    let task = tokio::spawn(worker.run(core::future::pending()));
    for command in first_entries() {
        assert!(matches!(log.propose(command, LONG).await, Outcome::Committed { .. }));
    }
    for i in 0..20 {
        let outcome = log.propose(intern(&format!("S{i}")), LONG).await;
        assert_eq!(outcome, Outcome::Committed { index: 4 + i });
    }
    assert_eq!(log.state.position(), leader.log.state().position());
    assert_eq!(log.read_barrier(LONG).await, Ok(23));

    // The same address, another cluster behind it.
    let bootstrap = Command::Bootstrap { cluster: 2, bits: 4, copies: 1 };
    assert_eq!(other.log.propose(bootstrap, LONG).await, Outcome::Committed { index: 1 });
    let (stray, mut worker) = Follower::new(Direct(Arc::clone(&other.log)), 1, no_events());
    for (index, bytes) in leader.log.entries_after(Position::default(), 5, usize::MAX).unwrap() {
        worker.applier.apply_entry(index, &bytes).unwrap();
    }
    let error = worker.run(core::future::pending()).await.unwrap_err();
    assert!(matches!(error, FollowerError::Diverged(_)), "{error}");
    assert_eq!(stray.state.index(), 5);

    task.abort();
    leader.stop().unwrap();
    other.stop().unwrap();
}
