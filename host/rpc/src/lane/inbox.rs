//! What the server said about a client's lanes, between the connection's task and the pumps.
//!
//! Everything a server says is checked here against what the lane has sent, before a source sees
//! it: cursors never fall and never pass what was sent, refusals concern only unsettled slots,
//! and what waits for the pump is bounded by the window.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use zepto_abi::Refusal;
use zepto_core::limits::{LANE_FRAMES_QUEUED_MAX, LANE_SLOTS_MAX};

use crate::call::{CallError, NotSent, Unknown};
use crate::close::CloseReason;
use crate::frame::decode_reason;
use crate::lane::{Credit, LaneEnd, RefusedRange};

/// One lane, as its pump sees the server.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// Signalled when the state changed.
    pub changed: Notify,
    /// One permit per data frame in the outbox.
    pub frames: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    /// The window, once the lane is open.
    window: Option<u64>,
    sent: u64,
    consumed: u64,
    settled: u64,
    refusals: Vec<RefusedRange>,
    news: bool,
    going_away: bool,
    end: Option<LaneEnd>,
    refused: Option<CallError>,
}

/// What a pump finds in its inbox.
#[derive(Debug)]
pub(crate) struct News {
    pub credit: Option<Credit>,
    pub going_away: bool,
    pub end: Option<LaneEnd>,
}

impl Inbox {
    fn new() -> Inbox {
        Inbox {
            state: Mutex::default(),
            changed: Notify::new(),
            frames: Arc::new(Semaphore::new(LANE_FRAMES_QUEUED_MAX)),
        }
    }

    /// The window once the lane is open, or why it is not.
    pub(crate) fn poll_opened(&self) -> Option<Result<u64, CallError>> {
        let state = self.lock();
        if let Some(error) = &state.refused {
            return Some(Err(error.clone()));
        }
        state.window.map(Ok)
    }

    pub(crate) fn take_news(&self) -> News {
        let mut state = self.lock();
        let credit = std::mem::take(&mut state.news).then(|| Credit {
            consumed: state.consumed,
            settled: state.settled,
            refusals: std::mem::take(&mut state.refusals),
        });
        News { credit, going_away: state.going_away, end: state.end.clone() }
    }

    /// Must precede the frame, so that no credit for it can come first.
    pub(crate) fn set_sent(&self, sent: u64) {
        self.lock().sent = sent;
    }

    fn take_credit(&self, credit: Credit) -> Result<(), String> {
        let mut state = self.lock();
        let Some(window) = state.window else {
            return Err("credit before the lane was open".to_owned());
        };
        let Credit { consumed, settled, refusals } = credit;
        if consumed < state.consumed || settled < state.settled {
            return Err(format!("cursors fell to consumed {consumed}, settled {settled}"));
        }
        if settled > consumed || consumed > state.sent {
            let sent = state.sent;
            return Err(format!("consumed {consumed} and settled {settled} of {sent} sent"));
        }
        for range in &refusals {
            let end = range.first.checked_add(u64::from(range.count));
            let known = range.first >= state.settled && end.is_some_and(|end| end <= state.sent);
            if range.count == 0 || !known {
                return Err(format!("refusal of {} slots from {}", range.count, range.first));
            }
        }
        if (state.refusals.len() + refusals.len()) as u64 > window {
            return Err("more refusals than slots".to_owned());
        }
        state.refusals.extend(refusals);
        (state.consumed, state.settled) = (consumed, settled);
        state.news = true;
        Ok(())
    }

    fn finish(&self, end: LaneEnd) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        drop(state);
        self.frames.close();
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lanes of one client connection.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    open: BTreeMap<u64, Arc<Inbox>>,
    over: Option<CloseReason>,
}

impl Lanes {
    /// Enters a new lane and lets `announce` send its LaneOpen, so that numbers grow in the order
    /// of the wire.
    pub(crate) fn enter(
        &self,
        lanes_max: usize,
        announce: impl FnOnce(u64) -> Result<(), CallError>,
    ) -> Result<(u64, Arc<Inbox>), CallError> {
        let mut table = self.lock();
        if let Some(reason) = &table.over {
            return Err(CallError::NotSent(NotSent::Closed(reason.clone())));
        }
        if table.open.len() >= lanes_max {
            return Err(CallError::NotSent(NotSent::Busy));
        }
        let id = table.last_id + 1;
        announce(id)?;
        table.last_id = id;
        let inbox = Arc::new(Inbox::new());
        table.open.insert(id, Arc::clone(&inbox));
        Ok((id, inbox))
    }

    /// The pump is done. True if the server still believes the lane open.
    pub(crate) fn leave(&self, id: u64) -> bool {
        self.lock().open.remove(&id).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().open.is_empty()
    }

    pub(crate) fn opened(&self, id: u64, payload: &[u8]) -> Result<(), CloseReason> {
        let window = payload.try_into().map_or(0, u64::from_le_bytes);
        if window == 0 || window > LANE_SLOTS_MAX as u64 {
            return Err(CloseReason::Protocol(format!("a lane with a window of {window} slots")));
        }
        if let Some(inbox) = self.find(id)? {
            inbox.lock().window = Some(window);
            inbox.changed.notify_one();
        }
        Ok(())
    }

    pub(crate) fn credit(&self, id: u64, payload: &[u8]) -> Result<(), CloseReason> {
        let Some(inbox) = self.find(id)? else {
            return Ok(());
        };
        let credit = Credit::decode(payload).ok_or_else(|| "credit out of shape".to_owned());
        match credit.and_then(|credit| inbox.take_credit(credit)) {
            Ok(()) => inbox.changed.notify_one(),
            Err(text) => inbox.finish(LaneEnd::Protocol(text)),
        }
        Ok(())
    }

    pub(crate) fn closed_by_peer(&self, id: u64, payload: &[u8]) {
        let Some(inbox) = self.lock().open.remove(&id) else {
            return;
        };
        let refusal =
            decode_reason(payload).and_then(|(code, text)| Some((Refusal::from_code(code)?, text)));
        let error = match refusal {
            Some((reason, text)) => CallError::Refused { reason, text },
            None => CallError::Unknown(Unknown::Peer("the lane was closed".to_owned())),
        };
        inbox.lock().refused = Some(error);
        inbox.finish(LaneEnd::decode(payload));
    }

    /// The server takes nothing new: pumps finish what they have sent.
    pub(crate) fn go_away(&self) {
        for inbox in self.lock().open.values() {
            inbox.lock().going_away = true;
            inbox.changed.notify_one();
        }
    }

    pub(crate) fn connection_ended(&self, reason: &CloseReason) {
        let mut table = self.lock();
        table.over = Some(reason.clone());
        for inbox in std::mem::take(&mut table.open).into_values() {
            let error = CallError::Unknown(Unknown::ConnectionLost(reason.clone()));
            inbox.lock().refused.get_or_insert(error);
            inbox.finish(LaneEnd::Connection(reason.clone()));
        }
    }

    /// `None` for a lane that is over: its last frames may still be under way.
    fn find(&self, id: u64) -> Result<Option<Arc<Inbox>>, CloseReason> {
        let table = self.lock();
        if id > table.last_id {
            return Err(CloseReason::Protocol(format!("lane {id} was never opened")));
        }
        Ok(table.open.get(&id).map(Arc::clone))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_lane(sent: u64) -> (Lanes, u64, Arc<Inbox>) {
        let lanes = Lanes::default();
        let (id, inbox) = lanes.enter(4, |_| Ok(())).expect("room");
        lanes.opened(id, &100u64.to_le_bytes()).expect("valid");
        inbox.set_sent(sent);
        (lanes, id, inbox)
    }

    fn range(first: u64, count: u32) -> RefusedRange {
        RefusedRange { first, count, reason: 1 }
    }

    #[test]
    fn credit_that_cannot_be_true_ends_the_lane() {
        let lies: [(u64, u64, &[RefusedRange]); 7] = [
            (11, 0, &[]),
            (5, 6, &[]),
            (2, 2, &[]),
            (6, 2, &[]),
            (6, 6, &[range(2, 1)]),
            (6, 6, &[range(9, 2)]),
            (6, 6, &[range(u64::MAX, 2)]),
        ];
        for (consumed, settled, refusals) in lies {
            let (lanes, id, inbox) = open_lane(10);
            lanes.credit(id, &Credit::encode(4, 3, &[range(3, 1)])).expect("true so far");
            assert!(inbox.take_news().end.is_none());
            lanes.credit(id, &Credit::encode(consumed, settled, refusals)).expect("lane only");
            let end = inbox.take_news().end;
            assert!(matches!(end, Some(LaneEnd::Protocol(_))), "{consumed} {settled}: {end:?}");
        }
    }

    #[test]
    fn a_lane_that_was_never_opened_is_a_fault_of_the_connection() {
        let (lanes, id, _) = open_lane(0);
        assert!(lanes.credit(id + 1, &Credit::encode(0, 0, &[])).is_err());
        assert!(lanes.leave(id));
        assert!(lanes.credit(id, &Credit::encode(0, 0, &[])).is_ok(), "late, not wrong");
    }
}
