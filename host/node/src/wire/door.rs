//! A node's door: where processes of its machine come to share memory with it.
//!
//! A producer, or an owner whose transport that is, asks over RPC where to meet, and gets a door
//! and a nonce; at the door the nonce says which lane this is and which shard it leads to. Nobody
//! without the nonce gets in, and a nonce is good for one lane and for a few seconds.

use super::Wire;
use crate::agent::shard::{Command, LaneTerms, SourceTerms};
use crate::shards::{NodeCommand, ShardPort};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zepto_client::message::{LanePurpose, LaneRequest};
use zepto_core::Refusal;
use zepto_core::env::Env;
use zepto_core::limits::LANES_PER_SHARD_MAX;
use zepto_core::time::Nanos;
use zepto_transport::{Door, Knock, Receiver, Shm, Transport};

/// How long a nonce waits for its lane.
const NONCE_LIFE: Duration = Duration::from_secs(10);
/// How often the door looks whether the node stops.
const DOOR_TURN: Duration = Duration::from_millis(100);

/// Lanes that were promised and did not come yet, and the shards they lead to.
pub struct Meetings<T: Transport> {
    /// Its name.
    door: String,
    shards: Vec<ShardPort<T>>,
    expected: Mutex<BTreeMap<u128, (LaneRequest, Nanos)>>,
    env: Arc<dyn Env>,
    runtime: tokio::runtime::Handle,
}

impl<T: Wire> Meetings<T> {
    /// Meetings at the door of this name.
    pub fn new(
        door: String,
        shards: Vec<ShardPort<T>>,
        env: Arc<dyn Env>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { door, shards, expected: Mutex::default(), env, runtime }
    }

    /// Promises a lane: where to meet, and with which nonce; nowhere if such lanes come another
    /// way. Any thread.
    ///
    /// # Errors
    /// When too many are promised already.
    pub fn promise(&self, request: LaneRequest) -> Result<(String, u128), Refusal> {
        if matches!(request.purpose, LanePurpose::Replica { .. }) && T::MET.is_none() {
            return Ok((String::new(), 0));
        }
        let now = self.env.now();
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.retain(|_, (_, since)| now.since(*since) < NONCE_LIFE);
        if expected.len() >= LANES_PER_SHARD_MAX {
            return Err(Refusal::Overloaded);
        }
        let nonce = (u128::from(self.env.random()) << 64) | u128::from(self.env.random());
        expected.insert(nonce, (request, now));
        Ok((self.door.clone(), nonce))
    }

    fn keep(&self, nonce: u128) -> Option<LaneRequest> {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let (request, since) = expected.remove(&nonce)?;
        (self.env.now().since(since) < NONCE_LIFE).then_some(request)
    }
}

/// Lets lanes in until `stop` is set. Runs on a thread of its own.
pub fn serve<T: Wire>(mut door: Door, meetings: &Meetings<T>, stop: &AtomicBool) {
    // Lanes' sockets are watched by the runtime.
    let _entered = meetings.runtime.enter();
    while !stop.load(Ordering::Acquire) {
        match door.accept(DOOR_TURN) {
            Ok(Some(knock)) => let_in(knock, meetings),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the door for shared memory is closed");
                return;
            }
        }
    }
}

/// Lets one lane in, to the shard it was promised to.
fn let_in<T: Wire>(knock: Knock, meetings: &Meetings<T>) {
    let spec = knock.spec();
    let promised = meetings.keep(spec.nonce).filter(|request| request.slots == spec.slots);
    let port = promised.as_ref().and_then(|r| meetings.shards.get(usize::from(r.shard)));
    let (Some(request), Some(port)) = (&promised, port) else {
        tracing::warn!("somebody knocked without an invitation");
        if let Err(error) = knock.refuse(Refusal::NotReady.code(), "no such lane is expected") {
            tracing::debug!(%error, "and left");
        }
        return;
    };
    match knock.accept(port.bell(), &[]) {
        Ok(met) => match zepto_client::watch_peer(met.peer) {
            Ok(hung_up) => {
                if let Some(command) = command(request.purpose, met.receiver, hung_up) {
                    port.send(command);
                }
            }
            Err(error) => tracing::error!(%error, "cannot watch a lane's peer; it is dropped"),
        },
        Err(error) => tracing::warn!(%error, "a lane could not be shared"),
    }
}

/// The receiving end of a lane, for the shard that it leads to.
fn command<T: Wire>(
    purpose: LanePurpose,
    receiver: Receiver<Shm>,
    hung_up: Arc<AtomicBool>,
) -> Option<NodeCommand<T>> {
    match purpose {
        LanePurpose::Producer { memory_only } => {
            Some(Command::Peer(receiver, LaneTerms { memory_only, hung_up }))
        }
        LanePurpose::Replica { owner: node, incarnation } => {
            T::MET.map(|met| met(receiver, SourceTerms { node, incarnation, hung_up }))
        }
    }
}
