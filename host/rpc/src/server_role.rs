//! The server's half of the conversation: admits requests and lanes, or says why not.
//!
//! Owned by the connection's task alone. Every request that is read whole gets an answer, also one
//! that is not admitted; a payload that has no room is thrown away as it arrives, so that its
//! request can still be refused by number. Request and lane numbers must grow: a frame that is
//! sent twice is found here and executed once.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use zepto_abi::Refusal;
use zepto_core::limits::LANE_SLOTS_MAX;

use crate::budget::Charge;
use crate::close::CloseReason;
use crate::counters::Traffic;
use crate::duplex::Role;
use crate::frame::{Body, Frame, Header, Kind, PayloadBudget, encode_reason};
use crate::handler::Handler;
use crate::lane::LaneEnd;
use crate::lane::door::LaneDoor;
use crate::outbox::OutFrame;
use crate::session::{Entry, Session, Stage, Ticket};

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
        (self.session.admitted() >= requests_max)
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
        self.session.server.tally.request_came();
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
        let ticket = Ticket::new(Arc::clone(&self.session), id, charge, now);
        let deadline = now + self.time_for(header);
        self.tasks.spawn(ticket.serve(payload, deadline));
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
        } else if self.session.lanes().len() >= lanes_max {
            Some((Refusal::LimitReached, "too many lanes on this connection"))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            let payload = encode_reason(reason.code(), text);
            self.session.send(OutFrame::new(Kind::LaneClose, id, payload));
            return Ok(());
        }
        self.session.lanes().insert(id, Entry::Opening);
        self.session.server.tally.load.lane_began();
        let deadline = now + self.time_for(header);
        self.tasks.spawn(run_lane(Arc::clone(&self.session), id, open, deadline));
        Ok(())
    }

    fn lane_data(&self, id: u64, payload: &[u8]) -> Result<(), CloseReason> {
        let door = match self.session.lanes().get(&id) {
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

/// Opens a lane and returns its credit until it is over.
async fn run_lane<H: Handler>(session: Arc<Session<H>>, id: u64, open: Vec<u8>, deadline: Instant) {
    let opening = session.server.handler.open_lane(Arc::clone(&session.peer), open);
    let sink = match timeout_at(deadline, opening).await {
        Ok(Ok(sink)) => sink,
        Ok(Err((reason, text))) => return refuse_lane(&session, id, reason, &text),
        Err(_) => return refuse_lane(&session, id, Refusal::Overloaded, "not opened in time"),
    };
    let door = Arc::new(LaneDoor::new(sink));
    if !(1..=LANE_SLOTS_MAX as u64).contains(&door.window()) {
        let text = format!("a window of {} slots cannot be served", door.window());
        door.close(&LaneEnd::Failed(text.clone()));
        return refuse_lane(&session, id, Refusal::LimitReached, &text);
    }
    if let Some(entry) = session.lanes().get_mut(&id) {
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
                    self.charge = self.session.server.tally.request_budget.charge(capacity_bytes);
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
        self.session.is_idle().then_some(CloseReason::Finished)
    }

    fn is_idle(&self) -> bool {
        self.session.is_idle()
    }

    fn last_accepted(&self) -> u64 {
        self.last_accepted
    }

    fn traffic(&self) -> &Traffic {
        &self.session.server.tally.traffic
    }

    fn explain(&self, reason: CloseReason) -> CloseReason {
        reason
    }

    fn ended(&mut self, reason: &CloseReason, _: Option<u64>, _: Vec<OutFrame>) {
        self.ended = true;
        self.session.server.tally.connection_ended(reason);
        self.tasks.abort_all();
        let end = LaneEnd::Connection(reason.clone());
        let lanes = std::mem::take(&mut *self.session.lanes());
        for entry in lanes.into_values() {
            self.session.server.tally.load.lane_ended();
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
