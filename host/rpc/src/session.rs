//! The server's half of one connection: admits requests, runs them, returns every outcome.
//!
//! A request that was read ends in exactly one answer: its response, refused (it was not started)
//! or unknown (it was started and given up). The [`Ticket`] sees to that: it answers when it is
//! dropped, whatever happened to the handler. Requests are charged in bytes as they arrive and
//! until their answer is queued; answers are charged until the kernel has them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use zepto_abi::Refusal;
use zepto_core::limits::CONNECTION_QUEUE_FRAMES_MAX;

use crate::budget::Charge;
use crate::close::CloseReason;
use crate::duplex::Role;
use crate::frame::{Body, Frame, Header, Kind, PayloadBudget, encode_reason};
use crate::handler::{Failure, Handler, PeerInfo};
use crate::lane::LaneEnd;
use crate::lane::door::LaneDoor;
use crate::outbox::{Class, Hold, OutFrame, Outbox, Rejected};
use crate::server::Shared;

/// How far a server, or one of its sessions, is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    Serving = 0,
    /// No new requests; those in flight finish.
    Draining = 1,
    /// Whatever still runs is given up.
    Closing = 2,
}

impl Stage {
    pub(crate) fn from_code(code: u8) -> Stage {
        match code {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Closing,
        }
    }
}

/// One connection, as its tasks and the server see it.
pub(crate) struct Session<H: Handler> {
    pub server: Arc<Shared<H>>,
    pub peer: Arc<PeerInfo>,
    pub outbox: Arc<Outbox>,
    /// When each request in flight came. Numbers grow, so the first is the oldest.
    in_flight: Mutex<BTreeMap<u64, Instant>>,
    lanes: Mutex<BTreeMap<u64, Entry<H::Sink>>>,
    stage: AtomicU8,
}

enum Entry<S> {
    Opening,
    Open(Arc<LaneDoor<S>>),
}

impl<H: Handler> Session<H> {
    pub(crate) fn new(server: Arc<Shared<H>>, peer: Arc<PeerInfo>) -> Session<H> {
        let outbox = Outbox::new(server.config.queue_bytes_max, CONNECTION_QUEUE_FRAMES_MAX);
        Session {
            server,
            peer,
            outbox: Arc::new(outbox),
            in_flight: Mutex::default(),
            lanes: Mutex::default(),
            stage: AtomicU8::new(Stage::Serving as u8),
        }
    }

    /// Raises the stage; it never falls.
    pub(crate) fn raise_stage(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Release);
        self.outbox.signal();
    }

    fn stage(&self) -> Stage {
        Stage::from_code(self.stage.load(Ordering::Acquire))
    }

    /// Requests in flight, and when the oldest came.
    pub(crate) fn in_flight(&self) -> (usize, Option<Instant>) {
        let in_flight = lock(&self.in_flight);
        (in_flight.len(), in_flight.values().next().copied())
    }

    pub(crate) fn lanes(&self) -> usize {
        lock(&self.lanes).len()
    }

    fn refuse(&self, id: u64, reason: Refusal, text: &str) {
        self.send(OutFrame::new(Kind::Refused, id, encode_reason(reason.code(), text)));
    }

    /// Queues a small frame, which always fits; without a connection nobody is there to read it.
    fn send(&self, frame: OutFrame) {
        if self.outbox.push(Class::Control, frame).is_err() {
            tracing::trace!(peer = %self.peer.address, "answer for a connection that has ended");
        }
    }

    fn leave_lane(&self, id: u64) -> Option<Entry<H::Sink>> {
        let entry = lock(&self.lanes).remove(&id)?;
        self.server.load.lane_ended();
        Some(entry)
    }

    /// Ends a lane of ours and tells the peer, unless it is over already.
    fn end_lane(&self, id: u64, end: &LaneEnd) {
        if let Some(entry) = self.leave_lane(id) {
            if let Entry::Open(door) = entry {
                door.close(end);
            }
            self.send(OutFrame::new(Kind::LaneClose, id, end.encode()));
        }
    }
}

/// A request in flight.
struct Ticket<H: Handler> {
    session: Arc<Session<H>>,
    id: u64,
    /// The request's bytes, held until its answer is queued.
    _charge: Option<Charge>,
    answered: bool,
}

impl<H: Handler> Ticket<H> {
    async fn answer(mut self, answer: Result<Vec<u8>, Failure>, deadline: Instant) {
        match answer {
            Ok(payload) => self.respond(payload, deadline).await,
            Err(Failure::Refused(reason, text)) => self.session.refuse(self.id, reason, &text),
            Err(Failure::Unknown(text)) => self.unknown(&text),
        }
        self.answered = true;
    }

    async fn respond(&self, payload: Vec<u8>, deadline: Instant) {
        let server = &self.session.server;
        let (bytes, bytes_max) = (payload.len(), server.config.payload_bytes_max);
        if bytes > bytes_max as usize {
            let text = format!("executed, but its answer of {bytes} bytes is above {bytes_max}");
            return self.unknown(&text);
        }
        let Some(charge) = server.answers.charge(bytes) else {
            return self.unknown("executed, but the server holds too many answers");
        };
        let mut frame = OutFrame::new(Kind::Response, self.id, payload);
        frame.hold = Hold::Charge(charge);
        // Nearly always there is room; a peer that does not read gets until the deadline.
        if let Err(Rejected::Full(frame)) = self.session.outbox.push(Class::Call, frame) {
            let pushed = self.session.outbox.push_when_room(Class::Call, frame);
            if timeout_at(deadline, pushed).await.is_err() {
                self.unknown("executed, but its answer was not taken before the deadline");
            }
        }
    }

    fn unknown(&self, text: &str) {
        self.session.send(OutFrame::new(Kind::Unknown, self.id, encode_reason(0, text)));
    }
}

impl<H: Handler> Drop for Ticket<H> {
    fn drop(&mut self) {
        if !self.answered {
            self.unknown(match std::thread::panicking() {
                true => "the request's handler failed",
                false => "the server gave the request up",
            });
        }
        lock(&self.session.in_flight).remove(&self.id);
        self.session.server.load.request_ended();
        if self.session.stage() == Stage::Closing {
            self.session.outbox.signal();
        }
    }
}

/// Owned by the connection's task.
pub(crate) struct ServerRole<H: Handler> {
    session: Arc<Session<H>>,
    tasks: JoinSet<()>,
    last_request: u64,
    last_accepted: u64,
    last_lane: u64,
    said_goaway: bool,
    /// The request that is being received: its bytes, and why it is thrown away.
    charge: Option<Charge>,
    discarded: Option<(Refusal, &'static str)>,
    ended: bool,
}

impl<H: Handler> ServerRole<H> {
    pub(crate) fn new(session: Arc<Session<H>>) -> ServerRole<H> {
        ServerRole {
            session,
            tasks: JoinSet::new(),
            last_request: 0,
            last_accepted: 0,
            last_lane: 0,
            said_goaway: false,
            charge: None,
            discarded: None,
            ended: false,
        }
    }

    /// Why no request is admitted just now.
    fn obstacle(&self) -> Option<(Refusal, &'static str)> {
        if self.said_goaway || self.session.stage() > Stage::Serving {
            return Some((Refusal::Draining, "the server is stopping"));
        }
        let requests_max = self.session.server.config.requests_per_connection_max;
        (lock(&self.session.in_flight).len() >= requests_max)
            .then_some((Refusal::Overloaded, "too many requests in flight on this connection"))
    }

    fn request(&mut self, header: &Header, body: Body, now: Instant) -> Result<(), CloseReason> {
        let charge = self.charge.take();
        let discarded = self.discarded.take();
        let id = header.id;
        if id <= self.last_request {
            let last = self.last_request;
            return Err(CloseReason::Protocol(format!("request {id} after request {last}")));
        }
        self.last_request = id;
        let payload = match body {
            Body::Whole(payload) => payload,
            Body::Discarded => {
                let (reason, text) =
                    discarded.unwrap_or((Refusal::Overloaded, "no memory for the request"));
                self.session.refuse(id, reason, text);
                return Ok(());
            }
        };
        if let Some((reason, text)) = self.obstacle() {
            self.session.refuse(id, reason, text);
            return Ok(());
        }
        self.last_accepted = id;
        lock(&self.session.in_flight).insert(id, now);
        self.session.server.load.request_began();
        let session = Arc::clone(&self.session);
        let ticket = Ticket { session, id, _charge: charge, answered: false };
        let deadline = now + self.time_for(header);
        self.tasks.spawn(serve(ticket, payload, deadline));
        Ok(())
    }

    fn time_for(&self, header: &Header) -> Duration {
        let asked = Duration::from_millis(u64::from(header.deadline_ms));
        asked.min(self.session.server.config.request_deadline_max)
    }

    fn open_lane(
        &mut self,
        header: &Header,
        open: Vec<u8>,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let id = header.id;
        if id <= self.last_lane {
            return Err(CloseReason::Protocol(format!("lane {id} after lane {}", self.last_lane)));
        }
        self.last_lane = id;
        let lanes_max = self.session.server.config.lanes_per_connection_max;
        let refusal = if self.said_goaway || self.session.stage() > Stage::Serving {
            Some((Refusal::Draining, "the server is stopping"))
        } else if self.session.lanes() >= lanes_max {
            Some((Refusal::LimitReached, "too many lanes on this connection"))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            let payload = encode_reason(reason.code(), text);
            self.session.send(OutFrame::new(Kind::LaneClose, id, payload));
            return Ok(());
        }
        lock(&self.session.lanes).insert(id, Entry::Opening);
        self.session.server.load.lane_began();
        let deadline = now + self.time_for(header);
        self.tasks.spawn(run_lane(Arc::clone(&self.session), id, open, deadline));
        Ok(())
    }

    fn lane_data(&self, id: u64, payload: &[u8]) -> Result<(), CloseReason> {
        let door = match lock(&self.session.lanes).get(&id) {
            Some(Entry::Open(door)) => Arc::clone(door),
            Some(Entry::Opening) => {
                return Err(CloseReason::Protocol(format!("data on lane {id} before it is open")));
            }
            // Sent before the sender heard that the lane is over.
            None if id <= self.last_lane => return Ok(()),
            None => return Err(CloseReason::Protocol(format!("lane {id} was never opened"))),
        };
        if let Err(end) = door.data(payload) {
            self.session.end_lane(id, &end);
        }
        Ok(())
    }
}

async fn serve<H: Handler>(ticket: Ticket<H>, request: Vec<u8>, deadline: Instant) {
    let answer = if Instant::now() >= deadline {
        let text = "its deadline passed before it was started".to_owned();
        Err(Failure::Refused(Refusal::Overloaded, text))
    } else {
        let session = &ticket.session;
        let call = session.server.handler.call(Arc::clone(&session.peer), request, deadline);
        timeout_at(deadline, call).await.unwrap_or_else(|_| {
            Err(Failure::Unknown("its deadline passed while it was executed".to_owned()))
        })
    };
    ticket.answer(answer, deadline).await;
}

/// Opens a lane and returns its credit until it is over.
async fn run_lane<H: Handler>(session: Arc<Session<H>>, id: u64, open: Vec<u8>, deadline: Instant) {
    let opening = session.server.handler.open_lane(Arc::clone(&session.peer), open);
    let sink = match timeout_at(deadline, opening).await {
        Ok(Ok(sink)) => sink,
        Ok(Err((reason, text))) => return refuse_lane(&session, id, reason, &text),
        Err(_) => return refuse_lane(&session, id, Refusal::Overloaded, "not opened in time"),
    };
    let door = Arc::new(LaneDoor::new(sink));
    if let Some(entry) = lock(&session.lanes).get_mut(&id) {
        *entry = Entry::Open(Arc::clone(&door));
    } else {
        // The peer, or the connection, gave the lane up while it was being opened.
        return door.close(&LaneEnd::Dropped);
    }
    session.send(OutFrame::new(Kind::LaneOpened, id, door.window().to_le_bytes().to_vec()));
    let rest = session.server.config.lane_poll;
    if let Err(end) = door.return_credit(id, &session.outbox, rest).await {
        session.end_lane(id, &end);
    }
}

fn refuse_lane<H: Handler>(session: &Session<H>, id: u64, reason: Refusal, text: &str) {
    if session.leave_lane(id).is_some() {
        session.send(OutFrame::new(Kind::LaneClose, id, encode_reason(reason.code(), text)));
    }
}

impl<H: Handler> PayloadBudget for ServerRole<H> {
    fn grow(&mut self, header: &Header, capacity_bytes: usize) -> bool {
        if header.kind != Kind::Request {
            // Small, or inside a lane's window.
            return true;
        }
        if let Some(obstacle) = self.obstacle() {
            self.discarded = Some(obstacle);
        } else {
            let granted = match &mut self.charge {
                Some(charge) => charge.raise_to(capacity_bytes),
                None => {
                    self.charge = self.session.server.requests.charge(capacity_bytes);
                    self.charge.is_some()
                }
            };
            if granted {
                return true;
            }
            let text = "the server has no room for the request's bytes";
            self.discarded = Some((Refusal::Overloaded, text));
        }
        self.charge = None;
        false
    }
}

impl<H: Handler> Role for ServerRole<H> {
    const LOOKS_BEFORE_COMMIT: bool = false;
    const MAY_PAUSE: bool = true;

    fn frame(&mut self, frame: Frame, now: Instant) -> Result<(), CloseReason> {
        let header = frame.header;
        if header.kind == Kind::Request {
            return self.request(&header, frame.body, now);
        }
        let Body::Whole(payload) = frame.body else {
            return Err(CloseReason::Protocol("no memory for a frame".to_owned()));
        };
        match header.kind {
            Kind::LaneOpen => self.open_lane(&header, payload, now),
            Kind::LaneData => self.lane_data(header.id, &payload),
            Kind::LaneClose => {
                if let Some(Entry::Open(door)) = self.session.leave_lane(header.id) {
                    door.close(&LaneEnd::decode(&payload));
                }
                Ok(())
            }
            // A client that says why it leaves.
            Kind::GoAway => Ok(()),
            kind => Err(CloseReason::Protocol(format!("a client sent a {kind:?} frame"))),
        }
    }

    fn commit(&mut self, _: &mut OutFrame, _: Instant) -> bool {
        true
    }

    fn turn(&mut self) -> Option<CloseReason> {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(peer = %self.session.peer.address, %error, "a handler panicked");
            }
        }
        let stage = self.session.stage();
        if stage == Stage::Serving {
            return None;
        }
        if !std::mem::replace(&mut self.said_goaway, true) {
            let payload = encode_reason(Refusal::Draining.code(), "the server is stopping");
            self.session.send(OutFrame::new(Kind::GoAway, self.last_accepted, payload));
        }
        if stage == Stage::Draining {
            return None;
        }
        self.tasks.abort_all();
        lock(&self.session.in_flight).is_empty().then_some(CloseReason::Finished)
    }

    fn is_idle(&self) -> bool {
        lock(&self.session.in_flight).is_empty()
    }

    fn last_accepted(&self) -> u64 {
        self.last_accepted
    }

    fn explain(&self, reason: CloseReason) -> CloseReason {
        reason
    }

    fn ended(&mut self, reason: &CloseReason, _: Option<u64>, _: Vec<OutFrame>) {
        self.ended = true;
        self.tasks.abort_all();
        let end = LaneEnd::Connection(reason.clone());
        let lanes = std::mem::take(&mut *lock(&self.session.lanes));
        for entry in lanes.into_values() {
            self.session.server.load.lane_ended();
            if let Entry::Open(door) = entry {
                door.close(&end);
            }
        }
    }
}

impl<H: Handler> Drop for ServerRole<H> {
    /// The runtime dropped the connection's task: sinks are told all the same.
    fn drop(&mut self) {
        if !self.ended {
            let queued = self.session.outbox.close(CloseReason::Stopped);
            self.ended(&CloseReason::Stopped, None, queued);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
