//! A tick as eight words, the form in which it is staged.
//!
//! Table and symbol are the series' and are not part of it.

use zepto_abi::Tick;

use crate::staging::Row;

pub(crate) const SEQUENCE: usize = 0;
pub(crate) const TIME: usize = 1;
pub(crate) const RECEIVE_TIME: usize = 2;
/// Kind in the lowest byte, flags in the next.
pub(crate) const KIND_FLAGS: usize = 3;
pub(crate) const PRICE: usize = 4;
pub(crate) const SIZE: usize = 5;
pub(crate) const USER: [usize; 2] = [6, 7];

/// A tick with the sequence its partition gave it.
#[inline(always)]
pub(crate) fn pack(tick: &Tick, sequence: u64) -> Row {
    [
        sequence,
        tick.event_time_ns,
        tick.receive_time_ns,
        u64::from(tick.kind) | u64::from(tick.flags) << 8,
        tick.price as u64,
        tick.size,
        tick.user[0],
        tick.user[1],
    ]
}

pub(crate) fn unpack(row: &Row, table: u16, symbol: u32) -> Tick {
    Tick {
        sequence: row[SEQUENCE],
        event_time_ns: row[TIME],
        receive_time_ns: row[RECEIVE_TIME],
        symbol,
        table,
        kind: row[KIND_FLAGS] as u8,
        flags: (row[KIND_FLAGS] >> 8) as u8,
        price: row[PRICE] as i64,
        size: row[SIZE],
        user: [row[USER[0]], row[USER[1]]],
    }
}
