//! The mailbox: a bounded lane of 64-byte slots from one [`Sender`] to one [`Receiver`].
//!
//! # Model
//!
//! Slots are numbered from 0 and never renumbered. Five numbers cut the sequence:
//!
//! ```text
//!   released <= settled <= consumed <= tail <= head          head - released <= capacity
//!   |           |          |           |       |
//!   |           |          |           |       next slot the sender writes
//!   |           |          |           published: the receiver may read below it
//!   |           |          taken over by the receiver
//!   |           final: acknowledged, or refused and said so
//!   below it slots are reused; moved by the owner of the sender, up to settled
//! ```
//!
//! The slots are the sender's resend window: it may read back any slot in `released..head`, even
//! when the receiver is dead. A slot is reused only once it was released, so a full lane is
//! [`Full`]: nothing is overwritten and nothing grows.
//!
//! A slot that the receiver refuses is named in the *refusals*, a bounded ring of (index range,
//! reason), before `consumed` and `settled` pass it. So whoever sees `settled` can also see every
//! refusal below it, copies those slots out and only then releases them. When that ring is full,
//! the receiver waits.
//!
//! # Layout, version 1
//!
//! The sender's region, in lines of eight words:
//!
//! | line | word | holds |
//! |---|---|---|
//! | 0 | 0 | magic `zeptSLOT`, stored last |
//! | 0 | 1 | version of this table |
//! | 0 | 2 | capacity in slots, a power of two |
//! | 0 | 3 | capacity of the refusals, a power of two |
//! | 0 | 4, 5 | nonce of the lane, low and high half |
//! | 2 | 0 | `tail` |
//! | 2 | 1 | how many refusals the sender has read |
//! | 4.. | 0-7 | slots; number `n` is at line `4 + n % capacity` |
//!
//! The receiver's region, the *credit*:
//!
//! | line | word | holds |
//! |---|---|---|
//! | 0 | 0-5 | as above, with magic `zeptCRED` |
//! | 2 | 0 | `consumed` |
//! | 2 | 1 | `settled` |
//! | 2 | 2 | how many refusals were made |
//! | 4 | 0 | parked: odd while the receiver sleeps, and never the same odd number twice |
//! | 6.. | 2k, 2k+1 | refusals, four to a line: first index; count u32, reason u16, zero u16 |
//!
//! Written lines stand two apart, because processors fetch lines in pairs. `parked` has a line of
//! its own: the sender looks at it with every publication, while the cursors beside it would
//! change under its eyes.
//!
//! # Ordering
//!
//! Slots, then a fence, then `tail`. Refusals, then their number, then `consumed`, then `settled`,
//! a fence between each; the sender loads them in the opposite order. No slot carries a flag and
//! no lock or read-modify-write is used. The one full fence orders `tail` against `parked`: each
//! side writes its own, fences, and reads the other's, so that at least one of them sees the other.
//! It costs one fence per publication, not per slot.
//!
//! # Sleeping
//!
//! A receiver that found all its lanes empty calls [`Receiver::set_parked`] with `true` on each,
//! polls each once more, and sleeps on its bell only if they are still empty. When it wakes it
//! clears the bell, sets every lane to not parked, and polls. A sender rings when
//! [`Sender::publish`] says so, which it does at most once for each time the receiver parks.
//!
//! # What happens when
//!
//! * *the receiver dies*: nothing here notices. `settled` stands still, the lane fills and is
//!   [`Full`]; the window stays readable. A failure detector decides.
//! * *the sender dies*: what it published stays readable until the receiver drops its end.
//! * *the peer writes nonsense*: [`LaneError`], at the next poll. The lane stays as it was and
//!   memory stays valid; its owner drops it. Slots themselves are not checked here.
//! * *the peer is of another version*: [`LaneError::Version`] before the first slot.

pub(crate) mod layout;
#[cfg(all(test, loom))]
mod loom_tests;
mod receiver;
mod sender;

pub use receiver::Receiver;
pub use sender::{Offer, Sender};
use zepto_core::limits::{LANE_SLOTS_MAX, LANE_SLOTS_MIN};

use crate::transport::{Transport, TransportError};

/// What both ends agree on before the lane exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSpec {
    /// Fresh random number of this lane. Both headers carry it, so that an end never talks to
    /// the memory of an earlier lane.
    pub nonce: u128,
    /// Capacity in slots: a power of two within the limits.
    pub slots: u32,
}

impl LaneSpec {
    fn check(&self) -> Result<(), LaneError> {
        let slots = self.slots as usize;
        if !slots.is_power_of_two() || !(LANE_SLOTS_MIN..=LANE_SLOTS_MAX).contains(&slots) {
            return Err(LaneError::Slots { slots: self.slots });
        }
        Ok(())
    }
}

/// No room. Nothing was written; try again once the other side has moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room in the lane")]
pub struct Full;

/// How far the receiver is, as last seen by the sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    /// Slots below this were taken over; progress only.
    pub consumed: u64,
    /// Slots below this are final: acknowledged unless a refusal names them.
    pub settled: u64,
}

/// Slots that the receiver refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedRange {
    /// First slot.
    pub first: u64,
    /// Slots in a row, at least one.
    pub count: u32,
    /// Why: a code that this crate only carries.
    pub reason: u16,
}

impl RefusedRange {
    /// The slot after the last one.
    #[inline]
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    fn to_words(self) -> (u64, u64) {
        (self.first, u64::from(self.count) | u64::from(self.reason) << 32)
    }

    fn from_words(first: u64, rest: u64) -> Option<Self> {
        let (count, reason) = (rest as u32, u16::try_from(rest >> 32).ok()?);
        (count > 0).then_some(Self { first, count, reason })
    }
}

/// What is wrong with a lane. The lane's state is as before the call; except for
/// [`LaneError::Slots`] and [`LaneError::Transport`] the peer is faulty, and the lane should be
/// dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// A capacity that is no power of two, or beyond the limits. Nothing was made.
    #[error("a lane cannot have {slots} slots")]
    Slots {
        /// Slots asked for.
        slots: u32,
    },
    /// The memory could not be shared. Nothing was made; the source says whether to retry.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The peer's region is not a lane's.
    #[error("not a lane: magic {found:#018x}")]
    Magic {
        /// First word found.
        found: u64,
    },
    /// The peer speaks another version of the layout.
    #[error("the peer's lane has version {found}, ours is {ours}")]
    Version {
        /// The peer's.
        found: u64,
        /// Ours.
        ours: u64,
    },
    /// The peer's capacities differ from those agreed.
    #[error("the peer's lane has {slots} slots and {refusals} refusals, other than agreed")]
    Geometry {
        /// Slots found.
        slots: u64,
        /// Refusals found.
        refusals: u64,
    },
    /// The peer's region belongs to another lane.
    #[error("the peer's region belongs to another lane")]
    Nonce,
    /// The sender's `tail` went back, or past what the capacity allows.
    #[error("tail {found} is impossible after {seen} with {settled} settled")]
    Tail {
        /// Value found.
        found: u64,
        /// Value seen before.
        seen: u64,
        /// Slots settled here.
        settled: u64,
    },
    /// The receiver's cursors went back, past each other, or past what was published.
    #[error("consumed {consumed} and settled {settled} are impossible with tail {tail}")]
    Credit {
        /// `consumed` found.
        consumed: u64,
        /// `settled` found.
        settled: u64,
        /// Slots published here.
        tail: u64,
    },
    /// The number of refusals made or read went back, or past the capacity.
    #[error("{found} refusals are impossible after {seen}")]
    RefusalCursor {
        /// Value found.
        found: u64,
        /// Value seen before.
        seen: u64,
    },
    /// A refusal names slots that it cannot name.
    #[error("a refusal names slots outside {released}..{tail}")]
    Refusal {
        /// First slot it could have named.
        released: u64,
        /// Slots published here.
        tail: u64,
    },
}

/// Makes both ends of a lane at once, for two ends that meet in one process.
///
/// # Errors
/// As [`Sender::offer`] and [`Receiver::accept`].
pub fn lane<T: Transport>(
    sender: &T,
    receiver: &T,
    spec: LaneSpec,
) -> Result<(Sender<T>, Receiver<T>), LaneError> {
    let (offer, slots) = Sender::offer(sender, spec)?;
    let (receiver, credit) = Receiver::accept(receiver, slots, spec)?;
    Ok((offer.complete(sender, credit)?, receiver))
}
