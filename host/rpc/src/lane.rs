//! Lanes over a connection: batches of 64-byte slots one way, credit the other way.
//!
//! The sender's side is a *pump* over a [`LaneSource`], the receiver's side a *door* over a
//! [`LaneSink`]; what a slot means, and where it lies, is theirs. Indices count the slots of one
//! lane from zero. The sender never has more slots unsettled than the window it was told when the
//! lane was opened, so the receiver's sink can always take what comes: a frame that does not fit,
//! or does not continue where the last one ended, ends the lane with a reason. Refusals travel in
//! the frame of the cursor that passes them, or before it. Nothing is kept here: until it is
//! settled, a slot stays with its source.
//!
//! ```text
//!   LaneSource --copy--> pump ==LaneData==> door --push--> LaneSink
//!              <-credit--      <=LaneCredit=     <-poll_credit-
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use zepto_abi::Refusal;

use crate::close::CloseReason;
use crate::frame::{LANE_CREDIT_PREFIX_BYTES, REFUSED_RANGE_BYTES, decode_reason, encode_reason};

pub(crate) mod door;
#[doc(hidden)]
pub mod exposed;
mod inbox;
mod pump;

pub(crate) use inbox::Lanes;
pub use pump::Lane;

/// Slots that the receiver refused: they are not stored, and their window is free again once the
/// cursor has passed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedRange {
    /// Index of the first refused slot.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// Why: the number of a [`Refusal`].
    pub reason: u16,
}

impl RefusedRange {
    /// The reason, or `None` for one that this version does not know.
    pub fn refusal(&self) -> Option<Refusal> {
        Refusal::from_code(self.reason)
    }
}

/// A source or a sink that cannot go on. The lane ends and both sides are told the text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct LaneFailure(pub String);

/// Why a lane ended. What was not settled by then may or may not have arrived.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneEnd {
    /// The source was finished and everything is settled.
    #[error("finished")]
    Finished,
    /// The receiver stops. Everything that was sent is settled; the rest stays with the source,
    /// for another lane.
    #[error("the receiver stops")]
    GoAway,
    /// The other side ended the lane.
    #[error("ended by the peer: {0}")]
    Peer(String),
    /// The source or the sink of this side failed.
    #[error("failed: {0}")]
    Failed(String),
    /// The other side broke the rules of the lane.
    #[error("the peer broke the lane's rules: {0}")]
    Protocol(String),
    /// The connection ended under the lane.
    #[error("the connection ended: {0}")]
    Connection(CloseReason),
    /// The task that ran the lane was dropped.
    #[error("dropped")]
    Dropped,
}

/// Where a pump takes slots from, and whom it tells how far they got. Called from one task; no
/// method may block.
pub trait LaneSource: Send {
    /// Index after the last published slot. Never falls.
    fn published(&mut self) -> Result<u64, LaneFailure>;

    /// Appends up to `slots_max` slots from index `from` on to `out`, 64 bytes each, and returns
    /// how many. All of them are published and none is settled yet.
    fn copy(&mut self, from: u64, slots_max: usize, out: &mut Vec<u8>) -> usize;

    /// Slots below `consumed` were looked at, slots below `settled` may be forgotten. The
    /// refusals concern slots that no earlier call settled. Neither cursor ever falls.
    fn credit(
        &mut self,
        consumed: u64,
        settled: u64,
        refusals: &[RefusedRange],
    ) -> Result<(), LaneFailure>;

    /// True when nothing more will be published: the lane ends once everything is settled.
    fn is_finished(&self) -> bool {
        false
    }

    /// Signalled with `notify_one` after slots were published; one of its own for each lane.
    /// Without it the pump looks from time to time.
    fn wake(&self) -> Option<Arc<Notify>> {
        None
    }

    /// The lane is over. Called exactly once, last.
    fn closed(&mut self, end: &LaneEnd);
}

/// Where a door puts slots, and who says how far they got. One method at a time is called, from
/// the tasks of the connection; no method may block.
pub trait LaneSink: Send + 'static {
    /// Slots it can hold unsettled: the window. Constant, above zero.
    fn capacity(&self) -> u64;

    /// Takes slots, 64 bytes each, in order; returns how many it took. Fewer than were given is a
    /// failure of the window and ends the lane.
    fn push(&mut self, slots: &[u8]) -> Result<usize, LaneFailure>;

    /// Appends new refusals and returns (consumed, settled), or `None` when neither has moved. A
    /// refusal is given before or with the settled index that passes it.
    fn poll_credit(
        &mut self,
        refusals: &mut Vec<RefusedRange>,
    ) -> Result<Option<(u64, u64)>, LaneFailure>;

    /// Signalled with `notify_one` after the credit changed; one of its own for each lane.
    /// Without it the door looks from time to time while slots are unsettled.
    fn wake(&self) -> Option<Arc<Notify>> {
        None
    }

    /// The lane is over. Called exactly once, last.
    fn closed(&mut self, end: &LaneEnd);
}

/// Codes of a LaneClose frame that are no [`Refusal`].
const CLOSE_FINISHED: u16 = 0x8000;
const CLOSE_FAILED: u16 = 0x8001;
const CLOSE_PROTOCOL: u16 = 0x8002;
const CLOSE_DROPPED: u16 = 0x8003;

impl LaneEnd {
    /// The payload that tells the peer.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let code = match self {
            LaneEnd::Finished | LaneEnd::GoAway => CLOSE_FINISHED,
            LaneEnd::Protocol(_) => CLOSE_PROTOCOL,
            LaneEnd::Dropped => CLOSE_DROPPED,
            LaneEnd::Failed(_) | LaneEnd::Peer(_) | LaneEnd::Connection(_) => CLOSE_FAILED,
        };
        encode_reason(code, &self.to_string())
    }

    /// What a LaneClose frame from the peer means for this side.
    pub(crate) fn decode(payload: &[u8]) -> LaneEnd {
        match decode_reason(payload) {
            Some((CLOSE_FINISHED, _)) => LaneEnd::Finished,
            Some((_, text)) => LaneEnd::Peer(text),
            None => LaneEnd::Peer("without a reason".to_owned()),
        }
    }
}

/// The payload of a LaneCredit frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Credit {
    pub consumed: u64,
    pub settled: u64,
    pub refusals: Vec<RefusedRange>,
}

impl Credit {
    pub(crate) fn encode(consumed: u64, settled: u64, refusals: &[RefusedRange]) -> Vec<u8> {
        let bytes = LANE_CREDIT_PREFIX_BYTES + refusals.len() * REFUSED_RANGE_BYTES;
        let mut payload = Vec::with_capacity(bytes);
        payload.extend_from_slice(&consumed.to_le_bytes());
        payload.extend_from_slice(&settled.to_le_bytes());
        for range in refusals {
            payload.extend_from_slice(&range.first.to_le_bytes());
            payload.extend_from_slice(&range.count.to_le_bytes());
            payload.extend_from_slice(&range.reason.to_le_bytes());
            payload.extend_from_slice(&[0, 0]);
        }
        payload
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Credit> {
        let (consumed, rest) = payload.split_first_chunk::<8>()?;
        let (settled, rest) = rest.split_first_chunk::<8>()?;
        let (ranges, []) = rest.as_chunks::<REFUSED_RANGE_BYTES>() else {
            return None;
        };
        let mut refusals = Vec::with_capacity(ranges.len());
        for range in ranges {
            let [f0, f1, f2, f3, f4, f5, f6, f7, c0, c1, c2, c3, r0, r1, 0, 0] = *range else {
                return None;
            };
            refusals.push(RefusedRange {
                first: u64::from_le_bytes([f0, f1, f2, f3, f4, f5, f6, f7]),
                count: u32::from_le_bytes([c0, c1, c2, c3]),
                reason: u16::from_le_bytes([r0, r1]),
            });
        }
        let (consumed, settled) = (u64::from_le_bytes(*consumed), u64::from_le_bytes(*settled));
        Some(Credit { consumed, settled, refusals })
    }
}

/// How a side waits when it has nothing to do: a few turns of the scheduler, then rests. A tokio
/// timer is no finer than a millisecond, so the turns are what covers the time below it.
pub(crate) struct Idle {
    turns: u32,
    rest: Duration,
    wake: Option<Arc<Notify>>,
}

impl Idle {
    const TURNS: u32 = 32;

    pub(crate) fn new(rest: Duration, wake: Option<Arc<Notify>>) -> Idle {
        Idle { turns: 0, rest, wake }
    }

    /// There was work.
    pub(crate) fn reset(&mut self) {
        self.turns = 0;
    }

    /// There was none. Safe to drop.
    pub(crate) async fn pause(&mut self) {
        if let Some(wake) = &self.wake {
            wake.notified().await;
        } else if self.turns < Self::TURNS {
            self.turns += 1;
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(self.rest).await;
        }
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("turns", &self.turns).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_survives_the_wire_and_every_cut_of_it_is_refused() {
        let refusals = [
            RefusedRange { first: 3, count: 2, reason: Refusal::NotOwner.code() },
            RefusedRange { first: u64::MAX, count: u32::MAX, reason: u16::MAX },
        ];
        let payload = Credit::encode(9, 7, &refusals);
        let credit = Credit::decode(&payload).expect("valid");
        assert_eq!(credit, Credit { consumed: 9, settled: 7, refusals: refusals.to_vec() });
        for cut in 0..payload.len() {
            let whole = cut >= 16 && (cut - 16) % 16 == 0;
            assert_eq!(Credit::decode(&payload[..cut]).is_some(), whole, "cut at {cut}");
        }
    }
}
