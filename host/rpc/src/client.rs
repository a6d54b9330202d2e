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

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use zepto_core::limits::CONNECTION_QUEUE_FRAMES_MAX;

use crate::call::{CallCell, CallError, NotSent, Outcome};
use crate::client_role::ClientRole;
use crate::close::CloseReason;
use crate::config::Config;
use crate::connect::{ConnectError, connect_any};
use crate::duplex::Duplex;
use crate::frame::{Body, FrameReader, HEADER_BYTES, Kind, Unmetered, encode_frame};
use crate::hello::{Hello, HelloRefusal, HelloReply, Welcome};
use crate::lane::{Lane, Lanes};
use crate::outbox::{Class, OutFrame, Outbox, Payload, Rejected};

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
    pub config: Arc<Config>,
    welcome: Welcome,
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

/// Withdraws the call when its future is dropped.
struct Waiting(Arc<CallCell>);

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.give_up());
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
        let until = Instant::now() + deadline;
        let stream = connect_any(address, &config, until).await?;
        let until = until.min(Instant::now() + config.hello_timeout);
        match timeout_at(until, Connection::shake_hands(address, stream, hello, config)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::HelloTimeout { address: address.to_owned() }),
        }
    }

    async fn shake_hands(
        address: &str,
        mut stream: TcpStream,
        hello: &Hello,
        config: Arc<Config>,
    ) -> Result<Connection, ConnectError> {
        let failed = |text: String| ConnectError::Handshake { address: address.to_owned(), text };
        let payload = hello.encode().map_err(|error| failed(error.to_string()))?;
        let frame = encode_frame(Kind::Hello, 0, 0, &payload);
        stream.write_all(&frame).await.map_err(|error| failed(error.to_string()))?;
        let mut reader = FrameReader::new(config.payload_bytes_max);
        let mut buffer = vec![0; HEADER_BYTES + Kind::HelloReply.payload_bytes_max() as usize];
        loop {
            let count = stream.read(&mut buffer).await.map_err(|e| failed(e.to_string()))?;
            if count == 0 {
                return Err(failed("the peer closed the connection".to_owned()));
            }
            let mut input = &buffer[..count];
            let frame = reader.read(&mut input, &mut Unmetered);
            let Some(frame) = frame.map_err(|error| failed(error.to_string()))? else {
                continue;
            };
            let Body::Whole(payload) = frame.body else {
                return Err(failed("no memory for the answer".to_owned()));
            };
            if frame.header.kind != Kind::HelloReply {
                return Err(failed(format!("the peer answered with {:?}", frame.header.kind)));
            }
            let reply = HelloReply::decode(&payload).map_err(|error| failed(error.to_string()))?;
            return Connection::welcomed(address, stream, reader, input, hello, reply, config);
        }
    }

    fn welcomed(
        address: &str,
        stream: TcpStream,
        mut reader: FrameReader,
        leftover: &[u8],
        hello: &Hello,
        reply: HelloReply,
        config: Arc<Config>,
    ) -> Result<Connection, ConnectError> {
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
            config: Arc::clone(&config),
            welcome,
        });
        reader.establish();
        let role = ClientRole::new(Arc::clone(&shared));
        let duplex = Duplex::new(stream, reader, Arc::clone(&shared.outbox), role, config);
        let leftover = leftover.to_vec();
        tokio::spawn(async move { duplex.run(&leftover).await });
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
        let deadline = deadline.min(shared.config.request_deadline_max);
        let until = Instant::now() + deadline;
        let bytes_max = shared.config.payload_bytes_max as usize;
        if payload.len() > bytes_max {
            let bytes = payload.len();
            return Err(CallError::NotSent(NotSent::TooLong { bytes, bytes_max }));
        }
        shared.check_usable()?;
        let _slot = match shared.slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => shared.wait_for_slot(until).await?,
        };
        let cell = Arc::new(CallCell::new(until));
        let waiting = Waiting(Arc::clone(&cell));
        let mut frame = OutFrame::new(Kind::Request, 0, Vec::new());
        frame.payload = payload;
        frame.call = Some(cell);
        shared.queue(frame, until).await?;
        match timeout_at(until, poll_fn(|cx| waiting.0.poll(cx))).await {
            Ok(outcome) => outcome,
            Err(_) => waiting.0.give_up(),
        }
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

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Shared {
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
