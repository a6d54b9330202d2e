//! What a transport adds to be a node's: how two processes meet to share lanes.
//!
//! A producer asks over RPC where to meet and gets a door and a nonce; at the door the nonce says
//! which lane this is and which shard it leads to. Nobody without the nonce gets in, and a nonce
//! is good for one lane and for a few seconds.

use crate::agent::shard::{Command, LaneTerms, SourceTerms};
use crate::shards::ShardPort;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zepto_client::ClientError;
use zepto_client::message::{LanePurpose, LaneRequest};
use zepto_client::producer::Opened;
use zepto_core::env::Env;
use zepto_core::limits::LANES_PER_SHARD_MAX;
use zepto_core::time::Nanos;
use zepto_core::{NodeId, Refusal};
use zepto_rpc::Peers;
use zepto_transport::{Door, Knock, Shm, Transport};

/// How long a nonce waits for its lane.
const NONCE_LIFE: Duration = Duration::from_secs(10);
/// How often the door looks whether the node stops.
const DOOR_TURN: Duration = Duration::from_millis(100);

/// A transport that a node can be made of.
pub trait Wire:
    Transport<Region: Send + 'static, Remote: Send + 'static> + Send + Sync + 'static
{
    /// Its name in the configuration.
    const NAME: &'static str;

    /// Where a node receives new lanes.
    type Door: Send + 'static;

    /// Opens the node's door under an unguessable name.
    ///
    /// # Errors
    /// What the system said.
    fn open_door(name: &str) -> Result<Self::Door, String>;

    /// Opens a lane to a shard of another node, which may end up on this machine or another.
    fn open_lane(
        way: &Way,
        address: String,
        request: LaneRequest,
    ) -> impl Future<Output = Result<Opened<Self>, ClientError>> + Send;

    /// Lets lanes in until `stop` is set. Runs on a thread of its own.
    fn serve_door(door: Self::Door, meetings: &Meetings<Self>, stop: &AtomicBool);
}

/// The way to other nodes.
#[derive(Clone)]
pub struct Way {
    /// Connections.
    pub peers: Peers,
    /// Who can share memory with this process.
    pub host: Vec<u8>,
}

/// Lanes that were promised and did not come yet, and the shards they lead to.
pub struct Meetings<T: Transport> {
    door: String,
    shards: Vec<ShardPort<T>>,
    expected: Mutex<BTreeMap<u128, (LaneRequest, Nanos)>>,
    env: Arc<dyn Env>,
    runtime: tokio::runtime::Handle,
}

impl<T: Transport> Meetings<T> {
    /// Meetings at the door of this name.
    pub fn new(
        door: String,
        shards: Vec<ShardPort<T>>,
        env: Arc<dyn Env>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { door, shards, expected: Mutex::default(), env, runtime }
    }

    /// Promises a lane: where to meet, and with which nonce. Any thread.
    ///
    /// # Errors
    /// When too many are promised already.
    pub fn promise(&self, request: LaneRequest) -> Result<(String, u128), Refusal> {
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

impl Wire for Shm {
    const NAME: &'static str = "shm";
    type Door = Door;

    fn open_door(name: &str) -> Result<Door, String> {
        Door::bind(name).map_err(|error| error.to_string())
    }

    async fn open_lane(
        way: &Way,
        address: String,
        request: LaneRequest,
    ) -> Result<Opened<Self>, ClientError> {
        zepto_client::open_lane(&way.peers, &way.host, &address, request).await
    }

    fn serve_door(mut door: Door, meetings: &Meetings<Self>, stop: &AtomicBool) {
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
}

/// Lets one lane in, to the shard it was promised to.
fn let_in(knock: Knock, meetings: &Meetings<Shm>) {
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
                port.send(match request.purpose {
                    LanePurpose::Producer { memory_only } => {
                        Command::Peer(met.receiver, LaneTerms { memory_only, hung_up })
                    }
                    LanePurpose::Replica { owner: node, incarnation } => {
                        Command::Source(met.receiver, SourceTerms { node, incarnation, hung_up })
                    }
                });
            }
            Err(error) => tracing::error!(%error, "cannot watch a lane's peer; it is dropped"),
        },
        Err(error) => tracing::warn!(%error, "a lane could not be shared"),
    }
}

/// Whether a lane that is asked for can lead here.
///
/// # Errors
/// Why not.
pub fn check_lane(
    request: &LaneRequest,
    node: NodeId,
    incarnation: zepto_core::Incarnation,
    shards: usize,
) -> Result<(), (Refusal, String)> {
    if request.node != node || request.incarnation != incarnation {
        let text = format!(
            "this is node {node} incarnation {incarnation}, the lane is for node {} \
             incarnation {}",
            request.node, request.incarnation
        );
        return Err((Refusal::NotOwner, text));
    }
    if usize::from(request.shard) >= shards {
        return Err((Refusal::LimitReached, format!("there are {shards} shards here")));
    }
    Ok(())
}
