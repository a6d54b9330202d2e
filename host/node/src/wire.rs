//! What a transport adds to be a node's: how two processes come to share lanes.
//!
//! Over shared memory they meet: a producer asks over RPC where, and gets a door and a nonce; at
//! the door the nonce says which lane this is and which shard it leads to. Nobody without the nonce
//! gets in, and a nonce is good for one lane and for a few seconds. Over UCX the two ends tell each
//! other over RPC where their memory is.

mod shm;
mod ucx;

use crate::agent::shard::{Command, LaneTerms, SourceTerms};
use crate::config::Config;
use crate::shards::ShardPort;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use zepto_client::ClientError;
use zepto_client::message::{LaneOffer, LanePurpose, LaneRequest};
use zepto_client::producer::Opened;
use zepto_core::env::Env;
use zepto_core::limits::LANES_PER_SHARD_MAX;
use zepto_core::time::Nanos;
use zepto_core::{NodeId, Refusal};
use zepto_rpc::Peers;
use zepto_transport::{Receiver, Transport};

/// How long a nonce waits for its lane.
const NONCE_LIFE: Duration = Duration::from_secs(10);

/// A transport that a node can be made of. Each shard has one end of it; clones share it.
pub trait Wire:
    Transport<Region: Send + 'static, Remote: Send + 'static> + Clone + Send + Sync + 'static
{
    /// Its name in the configuration.
    const NAME: &'static str;

    /// Whether nobody comes by it who has not proved to belong here.
    const IS_GUARDED: bool;

    /// Where a node receives new lanes, apart from its server.
    type Door: Send + 'static;

    /// One end of it.
    ///
    /// # Errors
    /// Why there is none, in words for who runs the node.
    fn open(config: &Config) -> Result<Self, String>;

    /// Opens the node's door under an unguessable name; nothing if it has none.
    ///
    /// # Errors
    /// What the system said.
    fn open_door(name: &str) -> Result<Option<Self::Door>, String>;

    /// Opens a lane from here to a shard of another node, which may end up on this machine or
    /// another.
    fn open_lane(
        &self,
        way: &Way,
        address: String,
        request: LaneRequest,
    ) -> impl Future<Output = Result<Opened<Self>, ClientError>> + Send;

    /// Lets lanes in until `stop` is set. Runs on a thread of its own.
    fn serve_door(door: Self::Door, meetings: &Meetings<Self>, stop: &AtomicBool);

    /// Lets in a lane that was offered to the server; returns where its receiver is.
    ///
    /// # Errors
    /// Why not.
    fn share(port: &ShardPort<Self>, offer: LaneOffer) -> Result<Vec<u8>, (Refusal, String)>;

    /// What is to be known of it, in lines for an operator.
    fn report(ends: &[Self]) -> Vec<String>;
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
    /// Its name; empty where there is none.
    door: String,
    shards: Vec<ShardPort<T>>,
    expected: Mutex<BTreeMap<u128, (LaneRequest, Nanos)>>,
    env: Arc<dyn Env>,
    runtime: tokio::runtime::Handle,
}

impl<T: Wire> Meetings<T> {
    /// Meetings at the door of this name, which is empty where there is none.
    pub fn new(
        door: String,
        shards: Vec<ShardPort<T>>,
        env: Arc<dyn Env>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { door, shards, expected: Mutex::default(), env, runtime }
    }

    /// Promises a lane: where to meet, and with which nonce; nowhere if there is no door. Any
    /// thread.
    ///
    /// # Errors
    /// When too many are promised already.
    pub fn promise(&self, request: LaneRequest) -> Result<(String, u128), Refusal> {
        if self.door.is_empty() {
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

/// The receiving end of a lane, for the shard that it leads to.
fn command<T: Transport>(
    purpose: LanePurpose,
    receiver: Receiver<T>,
    hung_up: Arc<AtomicBool>,
) -> Command<T> {
    match purpose {
        LanePurpose::Producer { memory_only } => {
            Command::Peer(receiver, LaneTerms { memory_only, hung_up })
        }
        LanePurpose::Replica { owner: node, incarnation } => {
            Command::Source(receiver, SourceTerms { node, incarnation, hung_up })
        }
    }
}
