//! Opens a producer's lanes: over shared memory where both ends can have it, over RPC elsewhere.
//!
//! Everything that waits happens in tasks; the producer asks and polls.

use crate::ask::{ask, unexpected};
use crate::client::Inner;
use crate::error::ClientError;
use crate::host;
use crate::lanes::LaneFeed;
use crate::message::{self, LanePurpose, LaneRequest, Request, Response};
use crate::producer::{HungUp, Lanes, Link, Opened, Ring};
use crate::real::random_128;
use crate::ticks::ProducerOptions;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::Notify;
use zepto_core::Incarnation;
use zepto_core::limits::{
    LANE_OPEN_TIMEOUT_MS, LANE_SLOTS_MIN, MEMBERS_MAX, RPC_LANE_SLOTS, SHARDS_MAX,
};
use zepto_core::view::{Destination, View};
use zepto_rpc::{Connection, Peers};
use zepto_transport::mailbox::{self, LaneSpec};
use zepto_transport::{Heap, Shm, Transport};

/// Time for one lane to open.
const OPEN_WITHIN: Duration = Duration::from_millis(LANE_OPEN_TIMEOUT_MS);
/// Time between two looks at whether somebody still wants a lane.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause before a lane that could not be opened may be asked for again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

type Answer = Result<Opened<Shm>, Destination>;

/// Opens lanes for one producer.
pub struct Connector {
    client: Arc<Inner>,
    options: ProducerOptions,
    pending: BTreeSet<Destination>,
    answers: (SyncSender<Answer>, Receiver<Answer>),
}

impl Connector {
    pub(crate) fn new(client: Arc<Inner>, options: ProducerOptions) -> Self {
        // One answer per destination at most is under way.
        let answers = sync_channel(MEMBERS_MAX * SHARDS_MAX as usize);
        Self { client, options, pending: BTreeSet::new(), answers }
    }
}

impl Lanes for Connector {
    type Transport = Shm;

    fn request(&mut self, to: Destination, incarnation: Incarnation, view: &View) {
        let Some(member) = view.placement().member(to.node) else { return };
        if !self.pending.insert(to) {
            return;
        }
        let request = LaneRequest {
            node: to.node,
            incarnation,
            shard: to.shard,
            slots: self.options.lane_slots,
            purpose: LanePurpose::Producer { memory_only: self.options.memory_only },
        };
        let (client, address) = (Arc::clone(&self.client), member.address.clone());
        let answer = self.answers.0.clone();
        let task = async move {
            let opened = match open_lane(&client.peers, &client.host, &address, request).await {
                Ok(opened) => Ok(opened),
                Err(error) => {
                    tracing::debug!(address, %error, "cannot open a lane");
                    tokio::time::sleep(RETRY_AFTER).await;
                    Err(to)
                }
            };
            // A producer that is gone needs no lane; the lane ends with the message.
            drop(answer.try_send(opened));
        };
        self.client.runtime.spawn(task);
    }

    fn poll(&mut self) -> Option<Answer> {
        let answer = self.answers.1.try_recv().ok()?;
        let to = match &answer {
            Ok(opened) => opened.to,
            Err(to) => *to,
        };
        self.pending.remove(&to);
        Some(answer)
    }
}

/// Opens a lane to a shard of the node at an address: over shared memory where this process, which
/// is on `host`, can have it, over RPC elsewhere.
///
/// # Errors
/// The node cannot be reached, or does not let the lane in.
pub async fn open_lane(
    peers: &Peers,
    host: &[u8],
    address: &str,
    request: LaneRequest,
) -> Result<Opened<Shm>, ClientError> {
    let connection = connect(peers, address).await?;
    if host::is_same(host, &connection.peer().identity.host) {
        match open_shared(peers, address, &request).await {
            Err(ClientError::Unknown(text)) => {
                tracing::warn!(address, text, "no shared memory here; the lane goes over RPC");
            }
            Ok(None) => {}
            Ok(Some(opened)) => return Ok(opened),
            Err(error) => return Err(error),
        }
    }
    open_over_rpc(&connection, request).await
}

/// Opens a lane to a shard of the node at an address, over RPC.
///
/// # Errors
/// As of [`open_lane`].
pub async fn open_rpc_lane<T: Transport>(
    peers: &Peers,
    address: &str,
    request: LaneRequest,
) -> Result<Opened<T>, ClientError> {
    open_over_rpc(&connect(peers, address).await?, request).await
}

async fn connect(peers: &Peers, address: &str) -> Result<Connection, ClientError> {
    let connection = peers.get(address, OPEN_WITHIN).await;
    connection.map_err(|error| ClientError::Unreachable(error.to_string()))
}

/// Meets the node at its door, if it has one, and shares the lane's memory with it.
async fn open_shared(
    peers: &Peers,
    address: &str,
    request: &LaneRequest,
) -> Result<Option<Opened<Shm>>, ClientError> {
    let meet = Request::Meet(request.clone());
    let (door, nonce) = match ask(peers, address, &meet, OPEN_WITHIN).await? {
        Response::Meet { door, nonce } => (door, nonce),
        other => return Err(unexpected(&other)),
    };
    if door.is_empty() {
        return Ok(None);
    }
    let spec = LaneSpec { nonce, slots: request.slots };
    let meeting =
        tokio::task::spawn_blocking(move || zepto_transport::meet(&door, spec, &[], OPEN_WITHIN));
    let meeting = meeting.await.map_err(|error| ClientError::Unknown(error.to_string()))?;
    let meeting = meeting.map_err(|error| ClientError::Unknown(error.to_string()))?;
    let hung_up = watch_peer(meeting.peer).map_err(|e| ClientError::Unknown(e.to_string()))?;
    let bell = meeting.bell;
    let ring: Ring = Box::new(move || {
        if let Err(error) = bell.ring() {
            tracing::debug!(%error, "a bell");
        }
    });
    let hung_up: HungUp = Box::new(move || hung_up.load(Ordering::Acquire));
    Ok(Some(Opened {
        to: Destination { node: request.node, shard: request.shard },
        incarnation: request.incarnation,
        link: Link::peer(meeting.sender, Some(ring), Some(hung_up)),
    }))
}

/// A flag that is set when the other end of a meeting's socket is gone. Nothing else ever comes
/// over it. The socket is closed, which tells the other side, soon after the last one who holds the
/// flag has let it go.
///
/// # Errors
/// When the runtime has no place for the socket.
pub fn watch_peer(socket: std::os::fd::OwnedFd) -> std::io::Result<Arc<AtomicBool>> {
    // It is a packet socket; only its readiness is asked for.
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixStream::from_std(socket)?;
    let flag = Arc::new(AtomicBool::new(false));
    let held = Arc::downgrade(&flag);
    tokio::spawn(async move {
        let readable = loop {
            match tokio::time::timeout(LOOK_EVERY, socket.readable()).await {
                Ok(readable) => break readable,
                Err(_) if held.strong_count() == 0 => return,
                Err(_) => {}
            }
        };
        // Readable means the end, or a peer that breaks the rule; both end the lane.
        if let Err(error) = readable {
            tracing::debug!(%error, "a meeting's socket");
        }
        if let Some(flag) = held.upgrade() {
            flag.store(true, Ordering::Release);
        }
    });
    Ok(flag)
}

/// Rings a lane's task, for the last time when its producer is gone: the lane is over then.
struct Ringing {
    wake: Arc<Notify>,
    hung_up: Arc<AtomicBool>,
}

impl Drop for Ringing {
    fn drop(&mut self) {
        self.hung_up.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// Opens a lane through the connection: a ring in this process that a task empties into it.
async fn open_over_rpc<T: Transport>(
    connection: &Connection,
    mut request: LaneRequest,
) -> Result<Opened<T>, ClientError> {
    request.slots = request.slots.min(RPC_LANE_SLOTS as u32);
    let lane = connection.open_lane(message::encode(&request), OPEN_WITHIN).await?;
    let slots = u32::try_from(lane.window()).unwrap_or(0);
    if !slots.is_power_of_two() || (slots as usize) < LANE_SLOTS_MIN || slots > request.slots {
        return Err(ClientError::Protocol(format!("a lane with a window of {slots}")));
    }
    let spec = LaneSpec { nonce: random_128(), slots };
    let (sender, receiver) = mailbox::lane(&Heap, &Heap, spec)
        .map_err(|error| ClientError::Unknown(error.to_string()))?;
    let (wake, hung_up) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let ringing = Ringing { wake: Arc::clone(&wake), hung_up: Arc::clone(&hung_up) };
    let mut feed = LaneFeed::new(receiver, Arc::clone(&wake), Arc::clone(&hung_up));
    tokio::spawn(async move {
        let end = lane.pump(&mut feed).await;
        tracing::debug!(%end, "an RPC lane ended");
    });
    let ring = Box::new(move || ringing.wake.notify_one());
    let hung_up = Box::new(move || hung_up.load(Ordering::Acquire));
    Ok(Opened {
        to: Destination { node: request.node, shard: request.shard },
        incarnation: request.incarnation,
        link: Link::door(sender, ring, hung_up),
    })
}
