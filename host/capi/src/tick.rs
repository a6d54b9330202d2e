//! The tick as C sees it.

use zepto_abi::Tick;
use zepto_core::slot::Slot;

/// Anything without a better name.
pub const ZEPTO_KIND_OTHER: u8 = 0;
/// A trade: vwap, bars and last are of these where nothing else is said.
pub const ZEPTO_KIND_TRADE: u8 = 1;
/// A change of a bid level.
pub const ZEPTO_KIND_BID: u8 = 2;
/// A change of an ask level.
pub const ZEPTO_KIND_ASK: u8 = 3;
/// A fill, reported apart from the trade.
pub const ZEPTO_KIND_FILL: u8 = 4;
/// The book was cleared.
pub const ZEPTO_KIND_CLEAR: u8 = 5;
/// First kind that is the user's own, to 254; 6 to 127 are kept for zepto.
pub const ZEPTO_KIND_USER_FIRST: u8 = 128;

/// One market event. Its layout is that of the cluster's memory, and never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct zepto_tick {
    /// In an answer: its number in its partition. Ignored when it is sent.
    pub sequence: u64,
    /// When it happened, ns since 1970, as the source says.
    pub event_time_ns: u64,
    /// When the source received it, ns since 1970, or 0.
    pub receive_time_ns: u64,
    /// Symbol id, of `zepto_symbol`.
    pub symbol: u32,
    /// Table: the user's own namespace of symbols.
    pub table: u16,
    /// `ZEPTO_KIND_*`, or 128 to 254 of the user's own.
    pub kind: u8,
    /// The user's bits.
    pub flags: u8,
    /// Price in units of 1e-9.
    pub price: i64,
    /// Size in units of 1e-9; 0 is valid.
    pub size: u64,
    /// Two words of the user's.
    pub user: [u64; 2],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<zepto_tick>() == size_of::<Tick>());
    assert!(size_of::<zepto_tick>() == size_of::<Slot>());
    assert!(align_of::<zepto_tick>() == align_of::<Slot>());
    assert!(offset_of!(zepto_tick, sequence) == offset_of!(Tick, sequence));
    assert!(offset_of!(zepto_tick, event_time_ns) == offset_of!(Tick, event_time_ns));
    assert!(offset_of!(zepto_tick, receive_time_ns) == offset_of!(Tick, receive_time_ns));
    assert!(offset_of!(zepto_tick, symbol) == offset_of!(Tick, symbol));
    assert!(offset_of!(zepto_tick, table) == offset_of!(Tick, table));
    assert!(offset_of!(zepto_tick, kind) == offset_of!(Tick, kind));
    assert!(offset_of!(zepto_tick, flags) == offset_of!(Tick, flags));
    assert!(offset_of!(zepto_tick, price) == offset_of!(Tick, price));
    assert!(offset_of!(zepto_tick, size) == offset_of!(Tick, size));
    assert!(offset_of!(zepto_tick, user) == offset_of!(Tick, user));
};

// The words of a tick are those of a slot only where the low half of a word comes first.
const _: () = assert!(cfg!(target_endian = "little"));

impl zepto_tick {
    /// As what a producer takes, where it is.
    #[inline(always)]
    pub(crate) fn slot(&self) -> &Slot {
        // SAFETY: both are 64 bytes without padding, aligned to 8, of which any are a value.
        unsafe { &*core::ptr::from_ref(self).cast::<Slot>() }
    }

    /// The caller's.
    pub(crate) fn of(tick: &Tick) -> Self {
        Self {
            sequence: tick.sequence,
            event_time_ns: tick.event_time_ns,
            receive_time_ns: tick.receive_time_ns,
            symbol: tick.symbol,
            table: tick.table,
            kind: tick.kind,
            flags: tick.flags,
            price: tick.price,
            size: tick.size,
            user: tick.user,
        }
    }
}
