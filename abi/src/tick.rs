//! The tick: one market event in one cache line.
//!
//! The layout is the contract between every process that shares memory with another, so each
//! offset is asserted at compile time. Unknown `kind` values are data, not errors.

use core::mem::{align_of, offset_of, size_of};

/// One market event, 64 bytes, one cache line, little-endian where it leaves the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Tick {
    /// In a lane: producer index (high half) and producer sequence (low half). In an answer: the
    /// partition's sequence.
    pub sequence: u64,
    /// When it happened, in nanoseconds since the Unix epoch, as the source says. Never changed.
    pub event_time_ns: u64,
    /// When the source received it, in nanoseconds since the Unix epoch, or zero. Never changed.
    pub receive_time_ns: u64,
    /// Symbol id, issued by the control log for a name.
    pub symbol: u32,
    /// Table, the user's own namespace of symbols.
    pub table: u16,
    /// What happened: one of [`Kind`], or a value of the user's from 128 to 254.
    pub kind: u8,
    /// The user's bits. Never changed.
    pub flags: u8,
    /// Price in units of 1e-9.
    pub price: i64,
    /// Size in units of 1e-9. Zero is valid: a price level that went away.
    pub size: u64,
    /// Two words of the user's. Never changed.
    pub user: [u64; 2],
}

const _: () = {
    assert!(size_of::<Tick>() == 64 && align_of::<Tick>() == 64);
    assert!(offset_of!(Tick, sequence) == 0);
    assert!(offset_of!(Tick, event_time_ns) == 8);
    assert!(offset_of!(Tick, receive_time_ns) == 16);
    assert!(offset_of!(Tick, symbol) == 24);
    assert!(offset_of!(Tick, table) == 28);
    assert!(offset_of!(Tick, kind) == 30);
    assert!(offset_of!(Tick, flags) == 31);
    assert!(offset_of!(Tick, price) == 32);
    assert!(offset_of!(Tick, size) == 40);
    assert!(offset_of!(Tick, user) == 48);
};

/// The kinds of tick that zepto itself gives a meaning to.
///
/// Constants, not a Rust enum: a byte from a peer or from C may hold any value.
pub struct Kind;

impl Kind {
    /// Anything without a better name.
    pub const OTHER: u8 = 0;
    /// A trade. Volume-weighted prices, bars and `last` are made from these by default.
    pub const TRADE: u8 = 1;
    /// A change of a bid level.
    pub const BID: u8 = 2;
    /// A change of an ask level.
    pub const ASK: u8 = 3;
    /// A fill, reported apart from the trade.
    pub const FILL: u8 = 4;
    /// The book was cleared.
    pub const CLEAR: u8 = 5;
    /// First value that is the user's own; 6 to 127 are kept for zepto.
    pub const USER_FIRST: u8 = 128;
    /// Last value that is the user's own.
    pub const USER_LAST: u8 = 254;
    /// A lane's control record, never a tick. A tick that carries it is refused.
    pub const CONTROL: u8 = 255;
}
