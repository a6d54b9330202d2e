//! Where everything stands in the two regions of a lane, and the header that both sides check.
//!
//! Invariant: the only file that knows line and word numbers. The table is in the parent's
//! documentation; the version changes whenever the table does.

#[cfg(not(loom))]
use zepto_core::limits::LANE_REFUSALS;
use zepto_core::limits::LANE_SLOTS_MAX;

use super::{LaneError, LaneSpec};
use crate::transport::{Region, Remote};

pub(crate) const VERSION: u64 = 1;
pub(crate) const MAGIC_SLOTS: u64 = u64::from_le_bytes(*b"zeptSLOT");
pub(crate) const MAGIC_CREDIT: u64 = u64::from_le_bytes(*b"zeptCRED");

/// Refusals that a lane holds. Small under loom, which pays for every word.
#[cfg(not(loom))]
pub(crate) const REFUSALS: u64 = LANE_REFUSALS as u64;
#[cfg(loom)]
pub(crate) const REFUSALS: u64 = 4;

// Both regions.
pub(crate) const HEADER: usize = 0;
pub(crate) const HEADER_MAGIC: usize = 0;
pub(crate) const HEADER_VERSION: usize = 1;
pub(crate) const HEADER_SLOTS: usize = 2;
pub(crate) const HEADER_REFUSALS: usize = 3;
pub(crate) const HEADER_NONCE: usize = 4;
pub(crate) const CURSORS: usize = 2;

// The sender's region.
pub(crate) const TAIL: usize = 0;
pub(crate) const REFUSAL_HEAD: usize = 1;
pub(crate) const SLOTS: usize = 4;

// The receiver's region.
pub(crate) const CONSUMED: usize = 0;
pub(crate) const SETTLED: usize = 1;
pub(crate) const REFUSAL_TAIL: usize = 2;
pub(crate) const PARKED: usize = 4;
pub(crate) const REFUSAL_LINES: usize = 6;
const REFUSALS_PER_LINE: u64 = 4;

/// Lines of the receiver's region, whatever the lane's capacity.
pub(crate) const CREDIT_LINES: usize = REFUSAL_LINES + (REFUSALS / REFUSALS_PER_LINE) as usize;

const _: () = {
    assert!(REFUSALS.is_power_of_two() && REFUSALS >= REFUSALS_PER_LINE);
    assert!(LANE_SLOTS_MAX + SLOTS <= zepto_core::limits::REGION_LINES_MAX);
    assert!(CREDIT_LINES <= zepto_core::limits::REGION_LINES_MAX);
};

/// Lines of the sender's region.
pub(crate) fn slot_lines(spec: &LaneSpec) -> usize {
    SLOTS + spec.slots as usize
}

/// Line and first word of a refusal, given how many were made before it.
#[inline]
pub(crate) fn refusal(number: u64) -> (usize, usize) {
    let place = number & (REFUSALS - 1);
    let line = REFUSAL_LINES + (place / REFUSALS_PER_LINE) as usize;
    (line, (place % REFUSALS_PER_LINE) as usize * 2)
}

/// Writes a header, its magic last: whoever sees the magic sees the rest.
pub(crate) fn write_header<R: Region>(region: &mut R, magic: u64, spec: &LaneSpec) {
    region.store(HEADER, HEADER_VERSION, VERSION);
    region.store(HEADER, HEADER_SLOTS, u64::from(spec.slots));
    region.store(HEADER, HEADER_REFUSALS, REFUSALS);
    region.store(HEADER, HEADER_NONCE, spec.nonce as u64);
    region.store(HEADER, HEADER_NONCE + 1, (spec.nonce >> 64) as u64);
    region.fence();
    region.store(HEADER, HEADER_MAGIC, magic);
}

/// Whether the peer's header is there and is the one agreed. False while nothing has arrived.
pub(crate) fn check_header<R: Remote>(
    remote: &R,
    magic: u64,
    spec: &LaneSpec,
) -> Result<bool, LaneError> {
    match remote.load(HEADER, HEADER_MAGIC) {
        0 => return Ok(false),
        found if found == magic => (),
        found => return Err(LaneError::Magic { found }),
    }
    let found = remote.load(HEADER, HEADER_VERSION);
    if found != VERSION {
        return Err(LaneError::Version { found, ours: VERSION });
    }
    let slots = remote.load(HEADER, HEADER_SLOTS);
    let refusals = remote.load(HEADER, HEADER_REFUSALS);
    if slots != u64::from(spec.slots) || refusals != REFUSALS {
        return Err(LaneError::Geometry { slots, refusals });
    }
    let low = remote.load(HEADER, HEADER_NONCE);
    let high = remote.load(HEADER, HEADER_NONCE + 1);
    if u128::from(high) << 64 | u128::from(low) != spec.nonce {
        return Err(LaneError::Nonce);
    }
    Ok(true)
}
