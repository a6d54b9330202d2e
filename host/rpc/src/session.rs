//! One connection of a server, as its tasks share it: what is in flight, and how it ends.
//!
//! A request that was admitted ends in exactly one answer: its response, refused (it was not
//! started) or unknown (it was started and given up). The [`Ticket`] sees to that: it answers when
//! it is dropped, whatever happened to the handler. Requests are charged in bytes as they arrive
//! and until their answer is queued; answers are charged until the kernel has them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout_at};
use zepto_abi::Refusal;
use zepto_core::limits::CONNECTION_QUEUE_FRAMES_MAX;

use crate::budget::Charge;
use crate::frame::{Kind, encode_reason};
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
    /// Requests that count against the connection's bound. Lowered before an answer is queued, so
    /// that a peer which has the answer may send the next request.
    admitted: AtomicUsize,
    lanes: Mutex<BTreeMap<u64, Entry<H::Sink>>>,
    stage: AtomicU8,
}

/// A lane of the session.
pub(crate) enum Entry<S> {
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
            admitted: AtomicUsize::new(0),
            lanes: Mutex::default(),
            stage: AtomicU8::new(Stage::Serving as u8),
        }
    }

    /// Raises the stage; it never falls.
    pub(crate) fn raise_stage(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Release);
        self.outbox.signal();
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::from_code(self.stage.load(Ordering::Acquire))
    }

    /// Requests in flight, and when the oldest came.
    pub(crate) fn in_flight(&self) -> (usize, Option<Instant>) {
        let in_flight = lock(&self.in_flight);
        (in_flight.len(), in_flight.values().next().copied())
    }

    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.in_flight).is_empty()
    }

    pub(crate) fn admitted(&self) -> usize {
        self.admitted.load(Ordering::Acquire)
    }

    pub(crate) fn lanes(&self) -> MutexGuard<'_, BTreeMap<u64, Entry<H::Sink>>> {
        lock(&self.lanes)
    }

    pub(crate) fn refuse(&self, id: u64, reason: Refusal, text: &str) {
        self.server.tally.request_refused(reason.code());
        self.send(OutFrame::new(Kind::Refused, id, encode_reason(reason.code(), text)));
    }

    /// Queues a small frame, which always fits; without a connection nobody is there to read it.
    pub(crate) fn send(&self, frame: OutFrame) {
        if self.outbox.push(Class::Control, frame).is_err() {
            tracing::trace!(peer = %self.peer.address, "answer for a connection that has ended");
        }
    }

    pub(crate) fn leave_lane(&self, id: u64) -> Option<Entry<H::Sink>> {
        let entry = lock(&self.lanes).remove(&id)?;
        self.server.tally.load.lane_ended();
        Some(entry)
    }

    /// Ends a lane of ours and tells the peer, unless it is over already.
    pub(crate) fn end_lane(&self, id: u64, end: &LaneEnd) {
        if let Some(entry) = self.leave_lane(id) {
            if let Entry::Open(door) = entry {
                door.close(end);
            }
            self.send(OutFrame::new(Kind::LaneClose, id, end.encode()));
        }
    }
}

/// A request in flight.
pub(crate) struct Ticket<H: Handler> {
    session: Arc<Session<H>>,
    id: u64,
    /// The request's bytes, held until its answer is queued.
    _charge: Option<Charge>,
    admitted: bool,
    answered: bool,
}

impl<H: Handler> Ticket<H> {
    /// Admits a request that came at `now`.
    pub(crate) fn new(
        session: Arc<Session<H>>,
        id: u64,
        charge: Option<Charge>,
        now: Instant,
    ) -> Ticket<H> {
        lock(&session.in_flight).insert(id, now);
        session.admitted.fetch_add(1, Ordering::AcqRel);
        session.server.tally.load.request_began();
        Ticket { session, id, _charge: charge, admitted: true, answered: false }
    }

    /// Executes the request and queues its answer.
    pub(crate) async fn serve(self, request: Vec<u8>, deadline: Instant) {
        let answer = if Instant::now() >= deadline {
            let text = "its deadline passed before it was started".to_owned();
            Err(Failure::Refused(Refusal::Overloaded, text))
        } else {
            let session = &self.session;
            let call = session.server.handler.call(Arc::clone(&session.peer), request, deadline);
            timeout_at(deadline, call).await.unwrap_or_else(|_| {
                Err(Failure::Unknown("its deadline passed while it was executed".to_owned()))
            })
        };
        self.answer(answer, deadline).await;
    }

    async fn answer(mut self, answer: Result<Vec<u8>, Failure>, deadline: Instant) {
        self.dismiss();
        match answer {
            Ok(payload) => self.respond(payload, deadline).await,
            Err(Failure::Refused(reason, text)) => self.session.refuse(self.id, reason, &text),
            Err(Failure::Unknown(text)) => self.unknown(&text),
        }
        self.answered = true;
    }

    async fn respond(&mut self, payload: Vec<u8>, deadline: Instant) {
        let server = &self.session.server;
        let (bytes, bytes_max) = (payload.len(), server.config.payload_bytes_max);
        if bytes > bytes_max as usize {
            let text = format!("executed, but its answer of {bytes} bytes is above {bytes_max}");
            return self.unknown(&text);
        }
        let Some(charge) = server.tally.answer_budget.charge(bytes) else {
            return self.unknown("executed, but the server holds too many answers");
        };
        let mut frame = OutFrame::new(Kind::Response, self.id, payload);
        frame.hold = Hold::Charge(charge);
        // Nearly always there is room; a peer that does not read gets until the deadline.
        let frame = match self.session.outbox.push(Class::Call, frame) {
            Ok(()) => return server.tally.request_answered(),
            Err(Rejected::Closed(_)) => return server.tally.request_unknown(),
            Err(Rejected::Full(frame)) => frame,
        };
        self.session.admitted.fetch_add(1, Ordering::AcqRel);
        self.admitted = true;
        let pushed = self.session.outbox.push_when_room(Class::Call, frame);
        match timeout_at(deadline, pushed).await {
            Ok(Ok(())) => self.session.server.tally.request_answered(),
            Ok(Err(_)) => self.session.server.tally.request_unknown(),
            Err(_) => self.unknown("executed, but its answer was not taken before the deadline"),
        }
    }

    /// Counts no longer against the connection's bound.
    fn dismiss(&mut self) {
        if std::mem::take(&mut self.admitted) {
            self.session.admitted.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn unknown(&self, text: &str) {
        self.session.server.tally.request_unknown();
        self.session.send(OutFrame::new(Kind::Unknown, self.id, encode_reason(0, text)));
    }
}

impl<H: Handler> Drop for Ticket<H> {
    fn drop(&mut self) {
        self.dismiss();
        if !self.answered {
            self.unknown(match std::thread::panicking() {
                true => "the request's handler failed",
                false => "the server gave the request up",
            });
        }
        lock(&self.session.in_flight).remove(&self.id);
        self.session.server.tally.load.request_ended();
        if self.session.stage() == Stage::Closing {
            self.session.outbox.signal();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
