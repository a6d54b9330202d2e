//! The client's half of the conversation: numbers requests, matches answers, feeds lanes.
//!
//! Owned by the connection's task alone, so the table of calls needs no lock. A number is given
//! when a frame is committed, hence numbers grow in the order of the wire, and a GOAWAY tells by
//! one number which calls will never be executed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use zepto_abi::Refusal;

use crate::call::{CallCell, CallError, NotSent, Unknown};
use crate::client::Shared;
use crate::close::CloseReason;
use crate::counters::Traffic;
use crate::duplex::Role;
use crate::frame::{Body, Frame, Header, Kind, PayloadBudget, decode_reason};
use crate::outbox::OutFrame;

pub(crate) struct ClientRole {
    shared: Arc<Shared>,
    /// Committed calls by number; a call whose caller gave up stays until its answer comes.
    pending: BTreeMap<u64, Arc<CallCell>>,
    next_id: u64,
    sweep_at: usize,
    ended: bool,
}

impl ClientRole {
    pub(crate) fn new(shared: Arc<Shared>) -> ClientRole {
        let sweep_at = 2 * shared.config.requests_per_connection_max;
        ClientRole { shared, pending: BTreeMap::new(), next_id: 1, sweep_at, ended: false }
    }

    fn answer(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let Header { id, kind, .. } = frame.header;
        if id >= self.next_id {
            return Err(CloseReason::Protocol(format!("answer {id} to no request")));
        }
        let outcome = match (kind, frame.body) {
            (_, Body::Discarded) => {
                Err(CallError::Unknown(Unknown::Peer("its answer found no memory".to_owned())))
            }
            (Kind::Response, Body::Whole(payload)) => Ok(payload),
            (_, Body::Whole(payload)) => Err(reason_of(kind, &payload)?),
        };
        self.shared.served.store(true, Ordering::Relaxed);
        // Absent when the caller gave up long ago: a late answer is nobody's.
        if let Some(cell) = self.pending.remove(&id) {
            cell.finish(outcome);
        }
        Ok(())
    }

    fn goaway(&mut self, last_accepted: u64, payload: &[u8]) {
        let (_, text) = decode_reason(payload).unwrap_or_default();
        for (_, cell) in self.pending.split_off(&last_accepted.saturating_add(1)) {
            cell.finish(Err(CallError::NotSent(NotSent::GoAway(text.clone()))));
        }
        // A second GOAWAY changes nothing but the last number.
        self.shared.goaway.get_or_init(|| text);
        self.shared.lanes.go_away();
    }

    fn finish_all(&mut self, reason: &CloseReason, first_unsent: Option<u64>) {
        if let Some(first_unsent) = first_unsent {
            for (_, cell) in self.pending.split_off(&first_unsent) {
                cell.finish(Err(CallError::NotSent(NotSent::Closed(reason.clone()))));
            }
        }
        for cell in std::mem::take(&mut self.pending).into_values() {
            cell.lose(reason);
        }
        self.shared.slots.close();
        self.shared.lanes.connection_ended(reason);
        self.shared.closed.send_replace(Some(reason.clone()));
        self.ended = true;
    }
}

fn reason_of(kind: Kind, payload: &[u8]) -> Result<CallError, CloseReason> {
    let Some((code, text)) = decode_reason(payload) else {
        return Err(CloseReason::Protocol(format!("a {kind:?} frame without a reason")));
    };
    match (kind, Refusal::from_code(code)) {
        (Kind::Refused, Some(reason)) => Ok(CallError::Refused { reason, text }),
        (Kind::Refused, None) => {
            Err(CloseReason::Protocol(format!("refusal {code} is not known: {text}")))
        }
        _ => Ok(CallError::Unknown(Unknown::Peer(text))),
    }
}

impl PayloadBudget for ClientRole {
    fn grow(&mut self, _: &Header, _: usize) -> bool {
        // One answer at a time, and each was asked for.
        true
    }
}

impl Role for ClientRole {
    const LOOKS_BEFORE_COMMIT: bool = true;
    const MAY_PAUSE: bool = false;

    fn frame(&mut self, frame: Frame, _: Instant) -> Result<(), CloseReason> {
        let Header { id, kind, .. } = frame.header;
        match kind {
            Kind::Response | Kind::Refused | Kind::Unknown => return self.answer(frame),
            _ => {}
        }
        let Body::Whole(payload) = frame.body else {
            return Err(CloseReason::Protocol("no memory for a frame".to_owned()));
        };
        match kind {
            Kind::GoAway => self.goaway(id, &payload),
            Kind::LaneOpened => {
                self.shared.served.store(true, Ordering::Relaxed);
                self.shared.lanes.opened(id, &payload)?;
            }
            Kind::LaneCredit => self.shared.lanes.credit(id, &payload)?,
            Kind::LaneClose => self.shared.lanes.closed_by_peer(id, &payload),
            _ => return Err(CloseReason::Protocol(format!("a server sent a {kind:?} frame"))),
        }
        Ok(())
    }

    fn commit(&mut self, frame: &mut OutFrame, now: Instant) -> bool {
        let Some(cell) = &frame.call else {
            return true;
        };
        if let Some(text) = self.shared.goaway.get() {
            cell.finish(Err(CallError::NotSent(NotSent::GoAway(text.clone()))));
            return false;
        }
        let Some(left) = cell.commit(now) else {
            return false;
        };
        self.shared.tally.committed();
        // Rounded up: a server must not give up before the client does.
        frame.deadline_ms = u32::try_from(left.as_millis() + 1).unwrap_or(u32::MAX);
        frame.id = self.next_id;
        self.next_id += 1;
        self.pending.insert(frame.id, Arc::clone(cell));
        if self.pending.len() > self.sweep_at {
            // A server that never answers what its client gave up must not fill our memory.
            self.pending.retain(|_, cell| !cell.is_over());
        }
        true
    }

    fn turn(&mut self) -> Option<CloseReason> {
        let text = self.shared.goaway.get()?;
        self.is_idle().then(|| CloseReason::GoAway(text.clone()))
    }

    fn is_idle(&self) -> bool {
        self.pending.values().all(|cell| cell.is_over()) && self.shared.lanes.is_empty()
    }

    fn last_accepted(&self) -> u64 {
        0
    }

    fn traffic(&self) -> &Traffic {
        &self.shared.tally.traffic
    }

    fn explain(&self, reason: CloseReason) -> CloseReason {
        match (reason, self.shared.goaway.get()) {
            (CloseReason::PeerClosed, Some(text)) => CloseReason::GoAway(text.clone()),
            (reason, _) => reason,
        }
    }

    /// Noted before anybody can see that the connection is over: whoever then wants it knows why.
    fn closing(&mut self, reason: &CloseReason) {
        use CloseReason::{Io, PeerClosed, Silent};
        if matches!(reason, PeerClosed | Io { .. } | Silent(_)) && self.is_idle() {
            self.shared.ended_idle.store(true, Ordering::Relaxed);
        }
    }

    fn ended(&mut self, reason: &CloseReason, first_unsent: Option<u64>, queued: Vec<OutFrame>) {
        for frame in queued {
            if let Some(cell) = frame.call {
                cell.lose(reason);
            }
        }
        self.finish_all(reason, first_unsent);
    }
}

impl Drop for ClientRole {
    /// The runtime dropped the connection's task: nobody may wait for ever.
    fn drop(&mut self) {
        if !self.ended {
            let queued = self.shared.outbox.close(CloseReason::Stopped);
            self.ended(&CloseReason::Stopped, None, queued);
        }
    }
}
