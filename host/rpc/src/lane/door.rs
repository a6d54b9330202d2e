//! The receiver's side of a lane: from frames into a sink, and its credit back.
//!
//! Slots go straight from the connection's read buffer into the sink; nothing is queued between.
//! The window is checked against the settled index that the sender was told, never against a
//! newer one, so that an honest sender is never blamed. A sink is told exactly once that the lane
//! is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use zepto_core::limits::LANE_REFUSALS;

use crate::frame::{Kind, SLOT_BYTES};
use crate::lane::{Credit, Idle, LaneEnd, LaneSink, RefusedRange};
use crate::outbox::{Class, Hold, OutFrame, Outbox};

/// One lane of a server's connection.
pub(crate) struct LaneDoor<S> {
    door: Mutex<Door<S>>,
    /// Signalled when slots came or the lane ended.
    arrived: Notify,
}

struct Door<S> {
    sink: S,
    window: u64,
    received: u64,
    /// The cursors as the sender was told.
    consumed: u64,
    settled: u64,
    over: bool,
}

/// What is to be told to the sender.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// These cursors, with the refusals that were collected.
    Tell { consumed: u64, settled: u64 },
    /// Nothing new, though slots are unsettled.
    Wait,
    /// Everything is settled: nothing new can come before slots do.
    Rest,
    /// The lane is over.
    Over,
}

impl<S: LaneSink> LaneDoor<S> {
    pub(crate) fn new(sink: S) -> LaneDoor<S> {
        let window = sink.capacity();
        LaneDoor {
            door: Mutex::new(Door {
                sink,
                window,
                received: 0,
                consumed: 0,
                settled: 0,
                over: false,
            }),
            arrived: Notify::new(),
        }
    }

    pub(crate) fn window(&self) -> u64 {
        self.lock().window
    }

    /// Takes the payload of a LaneData frame. An error has to end the lane.
    pub(crate) fn data(&self, payload: &[u8]) -> Result<(), LaneEnd> {
        self.lock().data(payload)?;
        self.arrived.notify_one();
        Ok(())
    }

    /// Tells the sink that the lane is over; only the first end counts.
    pub(crate) fn close(&self, end: &LaneEnd) {
        let mut door = self.lock();
        if !std::mem::replace(&mut door.over, true) {
            door.sink.closed(end);
        }
        drop(door);
        self.arrived.notify_one();
    }

    /// Sends credit back until the lane is over (`Ok`) or has to be ended.
    pub(crate) async fn return_credit(
        &self,
        id: u64,
        outbox: &Outbox,
        rest: Duration,
    ) -> Result<(), LaneEnd> {
        let gate = Arc::new(Semaphore::new(1));
        let mut idle = Idle::new(rest, self.lock().sink.wake());
        let mut refusals = Vec::new();
        loop {
            let before = self.lock().told();
            let step = self.lock().step(&mut refusals)?;
            match step {
                Step::Tell { consumed, settled } => {
                    idle.reset();
                    let mut rest = refusals.as_slice();
                    // The old cursors go with all refusals but the last ones: none is passed early.
                    while let Some((some, more)) = rest.split_at_checked(LANE_REFUSALS)
                        && !more.is_empty()
                    {
                        tell(id, outbox, &gate, Credit::encode(before.0, before.1, some)).await;
                        rest = more;
                    }
                    tell(id, outbox, &gate, Credit::encode(consumed, settled, rest)).await;
                    refusals.clear();
                }
                Step::Wait => tokio::select! {
                    () = self.arrived.notified() => {}
                    () = idle.pause() => {}
                },
                Step::Rest => self.arrived.notified().await,
                Step::Over => return Ok(()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Door<S>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: LaneSink> Door<S> {
    fn data(&mut self, payload: &[u8]) -> Result<(), LaneEnd> {
        if self.over {
            return Ok(());
        }
        let Some((first, slots)) = payload.split_first_chunk::<8>() else {
            return Err(LaneEnd::Protocol("a data frame without an index".to_owned()));
        };
        let first = u64::from_le_bytes(*first);
        let count = (slots.len() / SLOT_BYTES) as u64;
        if count == 0 || slots.len() % SLOT_BYTES != 0 {
            return Err(LaneEnd::Protocol(format!("{} bytes are no slots", slots.len())));
        }
        if first != self.received {
            let expected = self.received;
            return Err(LaneEnd::Protocol(format!("slot {first} came, {expected} was due")));
        }
        let unsettled = self.received - self.settled + count;
        if unsettled > self.window {
            let window = self.window;
            return Err(LaneEnd::Protocol(format!("{unsettled} slots in a window of {window}")));
        }
        let taken = self.sink.push(slots).map_err(|failure| LaneEnd::Failed(failure.0))?;
        if taken as u64 != count {
            return Err(LaneEnd::Failed(format!("the sink took {taken} of {count} slots")));
        }
        self.received += count;
        Ok(())
    }

    fn step(&mut self, refusals: &mut Vec<RefusedRange>) -> Result<Step, LaneEnd> {
        if self.over {
            return Ok(Step::Over);
        }
        let credit =
            self.sink.poll_credit(refusals).map_err(|failure| LaneEnd::Failed(failure.0))?;
        let (consumed, settled) = credit.unwrap_or(self.told());
        let ordered = settled <= consumed && consumed <= self.received;
        if !ordered || consumed < self.consumed || settled < self.settled {
            let text = format!("the sink says consumed {consumed}, settled {settled}");
            return Err(LaneEnd::Failed(text));
        }
        if (consumed, settled) != self.told() || !refusals.is_empty() {
            (self.consumed, self.settled) = (consumed, settled);
            return Ok(Step::Tell { consumed, settled });
        }
        Ok(if self.settled == self.received { Step::Rest } else { Step::Wait })
    }

    fn told(&self) -> (u64, u64) {
        (self.consumed, self.settled)
    }
}

/// Queues one credit frame once the one before it is written.
async fn tell(id: u64, outbox: &Outbox, gate: &Arc<Semaphore>, payload: Vec<u8>) {
    let Ok(permit) = Arc::clone(gate).acquire_owned().await else {
        return;
    };
    let mut frame = OutFrame::new(Kind::LaneCredit, id, payload);
    frame.hold = Hold::Permit(permit);
    if outbox.push(Class::Control, frame).is_err() {
        tracing::trace!(lane = id, "credit for a connection that has ended");
    }
}
