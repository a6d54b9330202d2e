//! One connection per peer, made when it is needed and made again when it broke.
//!
//! At most one attempt per peer is under way, whatever the number of callers, and attempts at
//! different peers do not wait for each other. Failures are spaced by jittered, doubling pauses;
//! a connection that served resets them. The pool never repeats a request whose outcome is
//! unknown: only what was certainly not sent goes out again, over a new connection. Control traffic
//! takes a pool of its own, so that no bulk transfer shares a socket with it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use zepto_core::hash::mix;
use zepto_core::limits::PEERS_MAX;

use crate::call::{CallError, NotSent};
use crate::client::Connection;
use crate::config::Config;
use crate::connect::ConnectError;
use crate::counters::{PeerCounters, PeerTally};
use crate::hello::Hello;

/// Connections to many peers, by address. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    pool: Arc<Pool>,
}

struct Pool {
    config: Arc<Config>,
    hello: Box<dyn Fn() -> Hello + Send + Sync>,
    seed: u64,
    draws: AtomicU64,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
}

struct Peer {
    address: String,
    tally: Arc<PeerTally>,
    state: Mutex<State>,
}

type Attempt = Option<Result<Connection, ConnectError>>;

struct State {
    link: Link,
    /// Failures since the peer last served.
    failures: u32,
    /// When the next attempt is due, and what the last one brought.
    paused: Option<(Instant, ConnectError)>,
}

enum Link {
    Down,
    Connecting(watch::Receiver<Attempt>),
    Up(Connection),
}

/// What a caller does next.
enum Next {
    Use(Connection),
    WaitFor(watch::Receiver<Attempt>),
    Pause(Instant, ConnectError),
}

impl Peers {
    /// A pool that introduces itself with `hello`, asked anew for every connection. `seed` spreads
    /// the pauses of different processes: give each process another.
    pub fn new(
        config: Config,
        seed: u64,
        hello: impl Fn() -> Hello + Send + Sync + 'static,
    ) -> Peers {
        let (config, hello) = (Arc::new(config), Box::new(hello));
        let (draws, peers) = (AtomicU64::new(0), Mutex::default());
        Peers { pool: Arc::new(Pool { config, hello, seed, draws, peers }) }
    }

    /// A usable connection to `address` ("host:port"), made if there is none. A failed attempt is
    /// reported at once; while one is not due again, this waits for it up to `deadline`.
    pub async fn get(&self, address: &str, deadline: Duration) -> Result<Connection, ConnectError> {
        let until = Instant::now() + deadline;
        let peer = self.pool.peer(address)?;
        loop {
            match self.pool.next(&peer) {
                Next::Use(connection) => return Ok(connection),
                Next::WaitFor(mut attempt) => {
                    let done = timeout_at(until, attempt.wait_for(Option::is_some)).await;
                    return match done {
                        Ok(Ok(result)) => result.clone().unwrap_or_else(|| peer.deadline()),
                        Ok(Err(_)) => peer.abandoned(),
                        Err(_) => peer.deadline(),
                    };
                }
                Next::Pause(due, last) if due < until => {
                    tracing::trace!(address, %last, "waiting before the next attempt");
                    sleep_until(due).await;
                }
                Next::Pause(due, last) => {
                    let wait = due.saturating_duration_since(Instant::now());
                    let (address, last) = (address.to_owned(), last.to_string());
                    return Err(ConnectError::Backoff { address, wait, last });
                }
            }
        }
    }

    /// Sends a request to the peer at `address` and waits for its answer. What was certainly not
    /// sent because the connection had ended goes out again over a new one, until `deadline`.
    pub async fn call(
        &self,
        address: &str,
        payload: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let until = Instant::now() + deadline;
        let payload = Arc::new(payload);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let connection = match self.get(address, left).await {
                Ok(connection) => connection,
                Err(error) => {
                    self.pool.unreachable(address);
                    return Err(CallError::from(error));
                }
            };
            let left = until.saturating_duration_since(Instant::now());
            match connection.call_shared(Arc::clone(&payload), left).await {
                Err(CallError::NotSent(NotSent::Closed(_) | NotSent::GoAway(_)))
                    if Instant::now() < until => {}
                outcome => return outcome,
            }
        }
    }

    /// What every peer came to so far, by address.
    pub fn counters(&self) -> Vec<PeerCounters> {
        let peers: Vec<Arc<Peer>> = self.pool.peers().values().cloned().collect();
        peers.iter().map(|peer| peer.tally.read(&peer.address, peer.is_connected())).collect()
    }

    /// Forgets a peer and its counters. Its connection closes once nobody uses it.
    pub fn forget(&self, address: &str) {
        self.pool.peers().remove(address);
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.pool.peers().len();
        f.debug_struct("Peers").field("peers", &peers).finish_non_exhaustive()
    }
}

impl Pool {
    fn peer(&self, address: &str) -> Result<Arc<Peer>, ConnectError> {
        let mut peers = self.peers();
        if let Some(peer) = peers.get(address) {
            return Ok(Arc::clone(peer));
        }
        if peers.len() >= PEERS_MAX {
            let address = address.to_owned();
            return Err(ConnectError::TooManyPeers { address, peers_max: PEERS_MAX });
        }
        let peer = Arc::new(Peer {
            address: address.to_owned(),
            tally: Arc::default(),
            state: Mutex::new(State { link: Link::Down, failures: 0, paused: None }),
        });
        peers.insert(address.to_owned(), Arc::clone(&peer));
        Ok(peer)
    }

    fn next(self: &Arc<Self>, peer: &Arc<Peer>) -> Next {
        let mut state = peer.lock();
        match &state.link {
            Link::Up(connection) if connection.is_usable() => {
                return Next::Use(connection.clone());
            }
            Link::Connecting(attempt) => return Next::WaitFor(attempt.clone()),
            Link::Up(connection) => {
                if connection.ended_idle() {
                    peer.tally.found_stale();
                }
                if connection.has_served() {
                    state.failures = 0;
                } else {
                    let text = "the connection ended before it served".to_owned();
                    self.failed(
                        &mut state,
                        ConnectError::Handshake { address: peer.address.clone(), text },
                    );
                }
                state.link = Link::Down;
            }
            Link::Down => {}
        }
        if let Some((due, last)) = &state.paused
            && *due > Instant::now()
        {
            return Next::Pause(*due, last.clone());
        }
        let (sender, receiver) = watch::channel(None);
        state.link = Link::Connecting(receiver.clone());
        drop(state);
        tokio::spawn(Arc::clone(self).connect(Arc::clone(peer), sender));
        Next::WaitFor(receiver)
    }

    /// Runs apart from the callers, so that an impatient one does not spoil it for the others.
    async fn connect(self: Arc<Self>, peer: Arc<Peer>, done: watch::Sender<Attempt>) {
        let time = self.config.connect_timeout + self.config.hello_timeout;
        let hello = (self.hello)();
        let (config, tally) = (Arc::clone(&self.config), Arc::clone(&peer.tally));
        let result = Connection::connect_counted(&peer.address, &hello, config, time, tally).await;
        {
            let mut state = peer.lock();
            match &result {
                Ok(connection) => {
                    peer.tally.connected();
                    state.paused = None;
                    state.link = Link::Up(connection.clone());
                }
                Err(error) => {
                    peer.tally.connect_failed();
                    state.link = Link::Down;
                    self.failed(&mut state, error.clone());
                }
            }
        }
        done.send_replace(Some(result));
    }

    /// Counts a request for which there was no connection; a peer that was forgotten, or never
    /// found room, has no counters.
    fn unreachable(&self, address: &str) {
        if let Some(peer) = self.peers().get(address) {
            peer.tally.unreachable();
        }
    }

    fn failed(&self, state: &mut State, error: ConnectError) {
        let pause = self.pause_after(state.failures);
        state.failures = state.failures.saturating_add(1);
        state.paused = Some((Instant::now() + pause, error));
    }

    /// Doubles with every failure, and of that between a half and the whole.
    fn pause_after(&self, failures: u32) -> Duration {
        let factor = 1 << failures.min(16);
        let longest = (self.config.reconnect_min * factor).min(self.config.reconnect_max);
        let draw = mix(self.seed ^ self.draws.fetch_add(1, Ordering::Relaxed));
        let half_ns = u64::try_from(longest.as_nanos() / 2).unwrap_or(u64::MAX);
        longest - Duration::from_nanos(draw % half_ns.max(1))
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_connected(&self) -> bool {
        matches!(&self.lock().link, Link::Up(connection) if connection.is_usable())
    }

    fn deadline(&self) -> Result<Connection, ConnectError> {
        Err(ConnectError::Deadline { address: self.address.clone() })
    }

    /// The attempt was dropped with its runtime.
    fn abandoned(&self) -> Result<Connection, ConnectError> {
        let mut state = self.lock();
        if matches!(&state.link, Link::Connecting(attempt) if attempt.has_changed().is_err()) {
            state.link = Link::Down;
        }
        let text = "the attempt was given up".to_owned();
        Err(ConnectError::Unreachable { address: self.address.clone(), text })
    }
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> CallError {
        CallError::NotSent(match error {
            ConnectError::Refused { address, reason, text } => {
                NotSent::Unwelcome { address, reason, text }
            }
            ConnectError::Unreachable { address, text } => NotSent::Unreachable { address, text },
            error => {
                let address = error.address().to_owned();
                NotSent::Unreachable { address, text: error.to_string() }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::Identity;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let config = Config::default();
        let peers = Peers::new(config.clone(), 7, || Hello::new(Identity::client("test")));
        let mut distinct = std::collections::BTreeSet::new();
        for failures in 0..40 {
            let longest =
                (config.reconnect_min * (1 << failures.min(16))).min(config.reconnect_max);
            let pause = peers.pool.pause_after(failures);
            assert!(pause > longest / 2 - Duration::from_nanos(1) && pause <= longest);
            distinct.insert(pause);
        }
        assert!(distinct.len() > 35, "jitter");
    }
}
