//! The sender's side of a lane: from a source into frames, within the window.
//!
//! Slots are copied once, from the source into the frame that carries them. At most
//! `LANE_FRAMES_QUEUED_MAX` frames of a lane wait in the connection's queue, so a slow peer stops
//! the pump and not the lane's neighbours, and what is published meanwhile travels in larger
//! batches.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use zepto_core::limits::LANE_FRAME_SLOTS_MAX;

use crate::call::{CallError, NotSent, Unknown};
use crate::client::Connection;
use crate::frame::{Kind, LANE_DATA_PREFIX_BYTES, SLOT_BYTES};
use crate::lane::inbox::Inbox;
use crate::lane::{Idle, LaneEnd, LaneSource};
use crate::outbox::{Class, Hold, OutFrame, Rejected};

/// An open lane that nothing has been sent on. Dropping it ends the lane.
#[derive(Debug)]
pub struct Lane {
    connection: Connection,
    id: u64,
    window: u64,
    inbox: Arc<Inbox>,
}

/// Where the pump is.
struct Cursor {
    /// Index of the next slot to send.
    next: u64,
    settled: u64,
}

impl Lane {
    pub(crate) async fn open(
        connection: Connection,
        open: Vec<u8>,
        deadline: Duration,
    ) -> Result<Lane, CallError> {
        let shared = connection.shared();
        let lanes_max = shared.config.lanes_per_connection_max;
        let (id, inbox) = shared.lanes.enter(lanes_max, |id| {
            let mut frame = OutFrame::new(Kind::LaneOpen, id, open);
            frame.deadline_ms = u32::try_from(deadline.as_millis() + 1).unwrap_or(u32::MAX);
            shared.outbox.push(Class::Control, frame).map_err(|rejected| match rejected {
                Rejected::Closed(reason) => CallError::NotSent(NotSent::Closed(reason)),
                Rejected::Full(_) => CallError::NotSent(NotSent::Busy),
            })
        })?;
        let mut lane = Lane { connection, id, window: 0, inbox };
        lane.window = lane.opened(Instant::now() + deadline).await?;
        Ok(lane)
    }

    async fn opened(&self, until: Instant) -> Result<u64, CallError> {
        loop {
            if let Some(result) = self.inbox.poll_opened() {
                return result;
            }
            if timeout_at(until, self.inbox.changed.notified()).await.is_err() {
                return Err(CallError::Unknown(Unknown::Deadline));
            }
        }
    }

    /// Slots that may be unsettled at the same time.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// Sends what the source publishes until the lane ends, and says how it ended. The source is
    /// told the same by its `closed`, also when this future is dropped.
    pub async fn pump<S: LaneSource>(self, source: &mut S) -> LaneEnd {
        let mut guard = Guard { source, end: LaneEnd::Dropped };
        guard.end = self.run(guard.source).await;
        self.leave(&guard.end);
        guard.end.clone()
    }

    async fn run<S: LaneSource>(&self, source: &mut S) -> LaneEnd {
        let rest = self.connection.shared().config.lane_poll;
        let mut idle = Idle::new(rest, source.wake());
        let mut cursor = Cursor { next: 0, settled: 0 };
        loop {
            match self.step(source, &mut cursor, &mut idle).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn step<S: LaneSource>(
        &self,
        source: &mut S,
        cursor: &mut Cursor,
        idle: &mut Idle,
    ) -> Result<(), LaneEnd> {
        let news = self.inbox.take_news();
        if let Some(credit) = news.credit {
            cursor.settled = credit.settled;
            idle.reset();
            source
                .credit(credit.consumed, credit.settled, &credit.refusals)
                .map_err(|failure| LaneEnd::Failed(failure.0))?;
        }
        if let Some(end) = news.end {
            return Err(end);
        }
        let finished = source.is_finished();
        let published = source.published().map_err(|failure| LaneEnd::Failed(failure.0))?;
        if published < cursor.next {
            return Err(LaneEnd::Failed(format!("the published index fell to {published}")));
        }
        let settled = cursor.settled == cursor.next;
        if news.going_away && settled {
            return Err(LaneEnd::GoAway);
        }
        if finished && settled && published == cursor.next {
            return Err(LaneEnd::Finished);
        }
        let room = cursor.settled + self.window - cursor.next;
        let ready = (published - cursor.next).min(room);
        if ready == 0 || news.going_away {
            self.wait(room > 0 && !finished && !news.going_away, idle).await;
            return Ok(());
        }
        idle.reset();
        let frames = Arc::clone(&self.inbox.frames);
        tokio::select! {
            biased;
            permit = frames.acquire_owned() => match permit {
                Ok(permit) => self.send(source, cursor, ready, permit),
                // Closed together with the lane: the next step finds the reason.
                Err(_) => Ok(()),
            },
            () = self.inbox.changed.notified() => Ok(()),
        }
    }

    fn send<S: LaneSource>(
        &self,
        source: &mut S,
        cursor: &mut Cursor,
        ready: u64,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), LaneEnd> {
        let slots_max = ready.min(LANE_FRAME_SLOTS_MAX as u64) as usize;
        let mut payload = Vec::with_capacity(LANE_DATA_PREFIX_BYTES + slots_max * SLOT_BYTES);
        payload.extend_from_slice(&cursor.next.to_le_bytes());
        let copied = source.copy(cursor.next, slots_max, &mut payload);
        let bytes = LANE_DATA_PREFIX_BYTES + copied * SLOT_BYTES;
        if copied == 0 || copied > slots_max || payload.len() != bytes {
            let text = format!("the source gave {copied} of {slots_max} published slots");
            return Err(LaneEnd::Failed(text));
        }
        cursor.next += copied as u64;
        self.inbox.set_sent(cursor.next);
        let mut frame = OutFrame::new(Kind::LaneData, self.id, payload);
        frame.hold = Hold::Permit(permit);
        match self.connection.shared().outbox.push(Class::Lane, frame) {
            Ok(()) => Ok(()),
            Err(Rejected::Closed(reason)) => Err(LaneEnd::Connection(reason)),
            Err(Rejected::Full(_)) => Err(LaneEnd::Failed("the queue is full".to_owned())),
        }
    }

    /// Waits for news, and for the source if it may be the one that brings them.
    async fn wait(&self, on_source: bool, idle: &mut Idle) {
        let news = self.inbox.changed.notified();
        if on_source {
            tokio::select! {
                () = news => {}
                () = idle.pause() => {}
            }
        } else {
            news.await;
        }
    }

    /// Tells the server, unless it was the server that told us. Behind the last data, so that
    /// the frame does not overtake them.
    fn leave(&self, end: &LaneEnd) {
        let shared = self.connection.shared();
        if shared.lanes.leave(self.id) {
            let frame = OutFrame::new(Kind::LaneClose, self.id, end.encode());
            if shared.outbox.push(Class::Lane, frame).is_err() {
                tracing::debug!(lane = self.id, "the connection ended before the lane");
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.leave(&LaneEnd::Dropped);
    }
}

/// Tells the source how the lane ended, whatever happens to the pump.
struct Guard<'a, S: LaneSource> {
    source: &'a mut S,
    end: LaneEnd,
}

impl<S: LaneSource> Drop for Guard<'_, S> {
    fn drop(&mut self) {
        self.source.closed(&self.end);
    }
}
