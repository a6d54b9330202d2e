//! What waits to be written on one connection.
//!
//! Callers, handlers and lanes put frames in; the connection's one task takes them out in batches.
//! Bytes are bounded and stay charged until the kernel has them. Three classes share the
//! connection: control frames first, then calls and lanes by turns, so that neither starves the
//! other. A class is first in, first out. The lock is held for moves of a few words, never over a
//! system call or a wait.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::budget::Charge;
use crate::call::CallCell;
use crate::close::CloseReason;
use crate::frame::{HEADER_BYTES, Kind};

/// Bytes taken for one write, unless a single frame is larger.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes of calls between two frames of lanes when both wait.
const TURN_BYTES: usize = 64 << 10;
/// What a queued frame costs beside its payload.
const FRAME_COST_BYTES: usize = size_of::<OutFrame>() + HEADER_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Control,
    Call,
    Lane,
}

/// Given back when the kernel has the frame, or when it never will.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its drop alone")]
pub(crate) enum Hold {
    Nothing,
    Permit(OwnedSemaphorePermit),
    Charge(Charge),
}

/// The bytes of a frame; shared when the caller may have to send them again.
#[derive(Debug)]
pub(crate) enum Payload {
    Owned(Vec<u8>),
    Shared(Arc<Vec<u8>>),
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Payload::Owned(bytes) => bytes,
            Payload::Shared(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
pub(crate) struct OutFrame {
    pub kind: Kind,
    pub id: u64,
    pub deadline_ms: u32,
    pub payload: Payload,
    /// The call that waits for the answer; its number is given when the frame is committed.
    pub call: Option<Arc<CallCell>>,
    pub hold: Hold,
}

impl OutFrame {
    pub(crate) fn new(kind: Kind, id: u64, payload: Vec<u8>) -> OutFrame {
        let payload = Payload::Owned(payload);
        OutFrame { kind, id, deadline_ms: 0, payload, call: None, hold: Hold::Nothing }
    }

    pub(crate) fn cost_bytes(&self) -> usize {
        self.payload.len() + FRAME_COST_BYTES
    }
}

#[derive(Debug)]
pub(crate) enum Rejected {
    /// No room for it now.
    Full(OutFrame),
    /// The connection takes no more frames.
    Closed(CloseReason),
}

#[derive(Debug)]
enum Stage {
    Open,
    /// Nothing more comes in; what is queued is written, then the connection closes.
    Finishing,
    Closed(CloseReason),
}

#[derive(Debug)]
struct Queues {
    control: VecDeque<OutFrame>,
    calls: VecDeque<OutFrame>,
    lanes: VecDeque<OutFrame>,
    bytes: usize,
    frames: usize,
    stage: Stage,
    signalled: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    queues: Mutex<Queues>,
    room: Notify,
    bytes_max: usize,
    frames_max: usize,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize, frames_max: usize) -> Outbox {
        Outbox {
            queues: Mutex::new(Queues {
                control: VecDeque::new(),
                calls: VecDeque::new(),
                lanes: VecDeque::new(),
                bytes: 0,
                frames: 0,
                stage: Stage::Open,
                signalled: false,
                waker: None,
            }),
            room: Notify::new(),
            bytes_max,
            frames_max,
        }
    }

    /// Queues a frame. Control and lane frames always fit: each of their sources has at most a
    /// few in the queue.
    pub(crate) fn push(&self, class: Class, frame: OutFrame) -> Result<(), Rejected> {
        let mut queues = self.lock();
        match &queues.stage {
            Stage::Open => {}
            Stage::Finishing => return Err(Rejected::Closed(CloseReason::Finished)),
            Stage::Closed(reason) => return Err(Rejected::Closed(reason.clone())),
        }
        let cost_bytes = frame.cost_bytes();
        if class == Class::Call && queues.bytes > 0 && queues.bytes + cost_bytes > self.bytes_max {
            return Err(Rejected::Full(frame));
        }
        queues.bytes += cost_bytes;
        queues.frames += 1;
        match class {
            Class::Control => queues.control.push_back(frame),
            Class::Call => queues.calls.push_back(frame),
            Class::Lane => queues.lanes.push_back(frame),
        }
        wake(queues);
        Ok(())
    }

    /// Queues a frame when there is room; the caller sets a bound on the wait.
    pub(crate) async fn push_when_room(
        &self,
        class: Class,
        mut frame: OutFrame,
    ) -> Result<(), CloseReason> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before the attempt, so that room made in between is not missed.
            room.as_mut().enable();
            match self.push(class, frame) {
                Ok(()) => return Ok(()),
                Err(Rejected::Closed(reason)) => return Err(reason),
                Err(Rejected::Full(back)) => frame = back,
            }
            room.await;
        }
    }

    /// Ready when there is something to write or to look at.
    pub(crate) fn poll_work(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queues = self.lock();
        if std::mem::take(&mut queues.signalled) || !queues.is_empty() {
            return Poll::Ready(());
        }
        if !queues.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queues.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Wakes the connection's task, so that it looks at what changed elsewhere.
    pub(crate) fn signal(&self) {
        let mut queues = self.lock();
        queues.signalled = true;
        wake(queues);
    }

    /// Moves the next batch out.
    pub(crate) fn take(&self, out: &mut Vec<OutFrame>) {
        let mut queues = self.lock();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(frame) = queues.control.pop_front()
        {
            bytes += frame.cost_bytes();
            out.push(frame);
        }
        while bytes < BATCH_BYTES && !queues.is_empty() {
            if let Some(frame) = queues.lanes.pop_front() {
                bytes += frame.cost_bytes();
                out.push(frame);
            }
            let turn_end = bytes + TURN_BYTES;
            while bytes < turn_end
                && let Some(frame) = queues.calls.pop_front()
            {
                bytes += frame.cost_bytes();
                out.push(frame);
            }
        }
    }

    /// The kernel has these, or nobody ever will.
    pub(crate) fn release(&self, bytes: usize, frames: usize) {
        let mut queues = self.lock();
        queues.bytes -= bytes;
        queues.frames -= frames;
        let roomy = queues.bytes <= self.bytes_max / 2;
        drop(queues);
        if roomy {
            self.room.notify_waiters();
        }
    }

    /// True when so much waits that a server had better not read further requests.
    pub(crate) fn is_crowded(&self) -> bool {
        let queues = self.lock();
        queues.frames >= self.frames_max || queues.bytes >= self.bytes_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.lock().stage, Stage::Open)
    }

    pub(crate) fn is_finishing(&self) -> bool {
        matches!(self.lock().stage, Stage::Finishing)
    }

    /// Nothing more comes in; what is queued is still written.
    pub(crate) fn finish(&self) {
        let mut queues = self.lock();
        if matches!(queues.stage, Stage::Open) {
            queues.stage = Stage::Finishing;
            queues.signalled = true;
            wake(queues);
            self.room.notify_waiters();
        }
    }

    /// The connection is over. Returns the frames that were never committed.
    pub(crate) fn close(&self, reason: CloseReason) -> Vec<OutFrame> {
        let mut queues = self.lock();
        queues.stage = Stage::Closed(reason);
        let mut left = Vec::new();
        left.extend(queues.control.drain(..));
        left.extend(queues.calls.drain(..));
        left.extend(queues.lanes.drain(..));
        drop(queues);
        self.room.notify_waiters();
        left
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.calls.is_empty() && self.lanes.is_empty()
    }
}

/// Wakes the connection's task after the lock is released.
fn wake(mut queues: MutexGuard<'_, Queues>) {
    let waker = queues.waker.take();
    drop(queues);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, payload_bytes: usize) -> OutFrame {
        OutFrame::new(Kind::Ping, id, vec![0; payload_bytes])
    }

    fn push(outbox: &Outbox, class: Class, id: u64, bytes: usize) {
        assert!(outbox.push(class, frame(id, bytes)).is_ok());
    }

    fn taken(outbox: &Outbox) -> Vec<u64> {
        let mut out = Vec::new();
        outbox.take(&mut out);
        out.iter().map(|frame| frame.id).collect()
    }

    #[test]
    fn control_overtakes_and_calls_and_lanes_take_turns() {
        let outbox = Outbox::new(100 << 20, 1000);
        for id in 0..4 {
            push(&outbox, Class::Call, id, TURN_BYTES);
            push(&outbox, Class::Lane, 10 + id, TURN_BYTES / 2);
        }
        push(&outbox, Class::Control, 20, 0);
        assert_eq!(taken(&outbox), [20, 10, 0, 11, 1, 12, 2]);
        assert_eq!(taken(&outbox), [13, 3]);
    }

    #[test]
    fn a_full_queue_gives_a_call_back_and_takes_it_when_room_is_made() {
        let outbox = Outbox::new(1000, 10);
        push(&outbox, Class::Call, 1, 900);
        assert!(matches!(outbox.push(Class::Call, frame(2, 900)), Err(Rejected::Full(_))));
        push(&outbox, Class::Control, 3, 0);
        let mut out = Vec::new();
        outbox.take(&mut out);
        let bytes = out.iter().map(OutFrame::cost_bytes).sum();
        assert!(matches!(outbox.push(Class::Call, frame(2, 900)), Err(Rejected::Full(_))));
        outbox.release(bytes, out.len());
        push(&outbox, Class::Call, 2, 900);
    }

    #[test]
    fn a_frame_above_the_bound_passes_alone() {
        let outbox = Outbox::new(1000, 10);
        push(&outbox, Class::Call, 1, 5000);
    }

    #[test]
    fn closing_hands_back_what_was_never_committed() {
        let outbox = Outbox::new(1000, 10);
        push(&outbox, Class::Call, 1, 1);
        push(&outbox, Class::Lane, 2, 1);
        let left = outbox.close(CloseReason::PeerClosed);
        assert_eq!(left.len(), 2);
        assert!(matches!(
            outbox.push(Class::Control, frame(3, 0)),
            Err(Rejected::Closed(CloseReason::PeerClosed))
        ));
    }
}
