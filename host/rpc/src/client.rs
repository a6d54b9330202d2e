//! A connection to one server: many calls and lanes over one socket.
//!
//! Every call ends in exactly one outcome (see [`CallError`]), and none waits beyond its
//! deadline. A `Connection` is a handle: clones share the socket, and when the last one is dropped
//! what is queued is written and the connection closes. It is never repaired; a broken one stays
//! broken and [`crate::pool::Peers`] makes another.
//!
//! What happens when...
//! * *the peer closes an idle connection*: found before the next frame is committed; `NotSent`.
//! * *the peer says GOAWAY*: calls it had accepted are answered, all others end as `NotSent`.
//! * *a caller drops its future*: the frame is withdrawn if it is still queued; else the answer is
//!   thrown away when it comes.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use zepto_core::limits::CONNECTION_QUEUE_FRAMES_MAX;

use crate::call::{CallCell, CallError, NotSent, Outcome};
use crate::client_role::ClientRole;
use crate::close::CloseReason;
use crate::config::Config;
use crate::connect::{ConnectError, connect_any};
use crate::counters::PeerTally;
use crate::duplex::Duplex;
use crate::frame::{FrameReader, Kind};
use crate::greet::{GreetingError, introduce};
use crate::hello::{Hello, HelloRefusal, HelloReply, Welcome};
use crate::lane::{Lane, Lanes};
use crate::outbox::{Class, OutFrame, Outbox, Payload, Rejected};
use crate::wire::Wire;

/// A connection to a server. Cheap to clone; all methods may be called from any task.
#[derive(Clone, Debug)]
pub struct Connection {
    handle: Arc<Handle>,
}

/// What the handles and the connection's task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub outbox: Arc<Outbox>,
    /// One permit per request in flight; closed with the connection.
    pub slots: Semaphore,
    pub lanes: Lanes,
    /// What the peer said when it said GOAWAY.
    pub goaway: OnceLock<String>,
    pub closed: watch::Sender<Option<CloseReason>>,
    /// The peer has answered something.
    pub served: AtomicBool,
    /// The peer ended it while nothing was under way.
    pub ended_idle: AtomicBool,
    pub tally: Arc<PeerTally>,
    pub config: Arc<Config>,
    welcome: Welcome,
}

/// What this side brings to a hand-shake.
struct Ours<'a> {
    hello: &'a Hello,
    config: Arc<Config>,
    tally: Arc<PeerTally>,
}

/// Closes the connection when the last handle goes.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.outbox.finish();
    }
}

/// A call from the moment it is handed over: counted once however it ends, and withdrawn when its
/// future is dropped.
struct Waiting<'a> {
    cell: Arc<CallCell>,
    tally: &'a PeerTally,
    over: bool,
}

impl<'a> Waiting<'a> {
    fn new(cell: CallCell, tally: &'a PeerTally) -> Waiting<'a> {
        tally.began();
        Waiting { cell: Arc::new(cell), tally, over: false }
    }

    fn end(mut self, outcome: Outcome) -> Outcome {
        self.over = true;
        self.tally.ended(&outcome);
        outcome
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let outcome = self.cell.give_up();
        if !self.over {
            self.tally.ended(&outcome);
        }
    }
}

impl Connection {
    /// Resolves `address`, connects to the first of its addresses that answers, and shakes hands,
    /// all before `deadline` (a duration from now).
    pub async fn connect(
        address: &str,
        hello: &Hello,
        config: Arc<Config>,
        deadline: Duration,
    ) -> Result<Connection, ConnectError> {
        Connection::connect_counted(address, hello, config, deadline, Arc::default()).await
    }

    /// The same, counted where the pool counts for this peer.
    pub(crate) async fn connect_counted(
        address: &str,
        hello: &Hello,
        config: Arc<Config>,
        deadline: Duration,
        tally: Arc<PeerTally>,
    ) -> Result<Connection, ConnectError> {
        let until = Instant::now() + deadline;
        let stream = connect_any(address, &config, until).await?;
        let until = until.min(Instant::now() + config.hello_timeout);
        let ours = Ours { hello, config, tally };
        let shaking = Connection::shake_hands(address, stream, ours);
        match timeout_at(until, shaking).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::HelloTimeout { address: address.to_owned() }),
        }
    }

    async fn shake_hands(
        address: &str,
        stream: TcpStream,
        ours: Ours<'_>,
    ) -> Result<Connection, ConnectError> {
        let mut wire = Wire::new(stream);
        let mut reader = FrameReader::new(ours.config.payload_bytes_max);
        let secret = ours.config.secret.as_ref();
        match introduce(&mut wire, &mut reader, ours.hello, secret).await {
            Ok(reply) => Connection::welcomed(address, wire, reader, reply, ours),
            Err(GreetingError::Refused { reason, text }) => {
                Err(ConnectError::Refused { address: address.to_owned(), reason, text })
            }
            Err(error) => {
                let text = error.to_string();
                Err(ConnectError::Handshake { address: address.to_owned(), text })
            }
        }
    }

    fn welcomed(
        address: &str,
        wire: Wire,
        mut reader: FrameReader,
        reply: HelloReply,
        ours: Ours<'_>,
    ) -> Result<Connection, ConnectError> {
        let Ours { hello, config, tally } = ours;
        let refused =
            |reason, text| ConnectError::Refused { address: address.to_owned(), reason, text };
        let (requests_max, welcome) = match reply {
            HelloReply::Accepted { requests_max, welcome, .. } => (requests_max, welcome),
            HelloReply::Refused { code, text } => {
                return Err(refused(HelloRefusal::from_code(code), text));
            }
        };
        crate::hello::admit(hello.identity.cluster, None, &welcome.identity)
            .map_err(|(reason, text)| refused(reason, text))?;
        let requests_max = config.requests_per_connection_max.min(requests_max as usize);
        let shared = Arc::new(Shared {
            outbox: Arc::new(Outbox::new(config.queue_bytes_max, CONNECTION_QUEUE_FRAMES_MAX)),
            slots: Semaphore::new(requests_max),
            lanes: Lanes::default(),
            goaway: OnceLock::new(),
            closed: watch::Sender::new(None),
            served: AtomicBool::new(false),
            ended_idle: AtomicBool::new(false),
            tally,
            config: Arc::clone(&config),
            welcome,
        });
        reader.establish();
        let role = ClientRole::new(Arc::clone(&shared));
        let duplex = Duplex::new(wire, reader, Arc::clone(&shared.outbox), role, config);
        tokio::spawn(duplex.run());
        Ok(Connection { handle: Arc::new(Handle { shared }) })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Welcome {
        &self.handle.shared.welcome
    }

    /// False once the connection is over, or the peer takes no more requests on it.
    pub fn is_usable(&self) -> bool {
        let shared = &self.handle.shared;
        shared.goaway.get().is_none() && shared.outbox.is_open()
    }

    /// Waits until the connection is over. Safe to drop and to call again.
    pub async fn closed(&self) -> CloseReason {
        let mut closed = self.handle.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(CloseReason::Stopped),
            Err(_) => CloseReason::Stopped,
        }
    }

    /// Sends a request and waits for its answer until `deadline` (a duration from now, at most
    /// [`Config::request_deadline_max`]). Dropping the future gives the call up.
    pub async fn call(&self, payload: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, CallError> {
        self.call_with(Payload::Owned(payload), deadline).await
    }

    pub(crate) async fn call_shared(&self, payload: Arc<Vec<u8>>, deadline: Duration) -> Outcome {
        self.call_with(Payload::Shared(payload), deadline).await
    }

    async fn call_with(&self, payload: Payload, deadline: Duration) -> Outcome {
        let shared = &*self.handle.shared;
        let until = Instant::now() + deadline.min(shared.config.request_deadline_max);
        let waiting = Waiting::new(CallCell::new(until), &shared.tally);
        let outcome = shared.ask(payload, &waiting.cell, until).await;
        waiting.end(outcome)
    }

    /// Asks the server for a lane; `open` says what for. The lane is over with the connection.
    pub async fn open_lane(&self, open: Vec<u8>, deadline: Duration) -> Result<Lane, CallError> {
        let shared = &*self.handle.shared;
        let bytes_max = Kind::LaneOpen.payload_bytes_max() as usize;
        if open.len() > bytes_max {
            let bytes = open.len();
            return Err(CallError::NotSent(NotSent::TooLong { bytes, bytes_max }));
        }
        shared.check_usable()?;
        Lane::open(self.clone(), open, deadline.min(shared.config.request_deadline_max)).await
    }

    /// True once the peer answered anything on it.
    pub(crate) fn has_served(&self) -> bool {
        self.handle.shared.served.load(Ordering::Relaxed)
    }

    /// True when the peer ended it while nothing was under way.
    pub(crate) fn ended_idle(&self) -> bool {
        self.handle.shared.ended_idle.load(Ordering::Relaxed)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Shared {
    async fn ask(&self, payload: Payload, cell: &Arc<CallCell>, until: Instant) -> Outcome {
        let bytes_max = self.config.payload_bytes_max as usize;
        if payload.len() > bytes_max {
            let bytes = payload.len();
            return Err(CallError::NotSent(NotSent::TooLong { bytes, bytes_max }));
        }
        self.check_usable()?;
        let _slot = match self.slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => self.wait_for_slot(until).await?,
        };
        let mut frame = OutFrame::new(Kind::Request, 0, Vec::new());
        frame.payload = payload;
        frame.call = Some(Arc::clone(cell));
        self.queue(frame, until).await?;
        match timeout_at(until, poll_fn(|cx| cell.poll(cx))).await {
            Ok(outcome) => outcome,
            Err(_) => cell.give_up(),
        }
    }

    fn check_usable(&self) -> Result<(), CallError> {
        match self.goaway.get() {
            Some(text) => Err(CallError::NotSent(NotSent::GoAway(text.clone()))),
            None => Ok(()),
        }
    }

    fn closed_error(&self) -> CallError {
        let reason = self.closed.borrow().clone().unwrap_or(CloseReason::Finished);
        CallError::NotSent(NotSent::Closed(reason))
    }

    async fn wait_for_slot(
        &self,
        until: Instant,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, CallError> {
        match timeout_at(until, self.slots.acquire()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(self.closed_error()),
            Err(_) => Err(CallError::NotSent(NotSent::Busy)),
        }
    }

    async fn queue(&self, frame: OutFrame, until: Instant) -> Result<(), CallError> {
        let frame = match self.outbox.push(Class::Call, frame) {
            Ok(()) => return Ok(()),
            Err(Rejected::Closed(reason)) => {
                return Err(CallError::NotSent(NotSent::Closed(reason)));
            }
            Err(Rejected::Full(frame)) => frame,
        };
        match timeout_at(until, self.outbox.push_when_room(Class::Call, frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(CallError::NotSent(NotSent::Closed(reason))),
            Err(_) => Err(CallError::NotSent(NotSent::Busy)),
        }
    }
}
