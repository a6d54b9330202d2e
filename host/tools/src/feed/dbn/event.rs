//! One record to one row: what the three schemas have in common, and what it means here.
//!
//! Pure, but for the reader through which the `dbn` crate gives out a record's fields. Every byte
//! of a record is data: an action or a side that DBN does not have is a [`Fault`], never a guess.

use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{MboMsg, Mbp1Msg, RType, TradeMsg, UNDEF_ORDER_SIZE, UNDEF_PRICE, UNDEF_TIMESTAMP};
use zepto_abi::Kind;

use crate::feed::Row;
use crate::feed::error::Fault;

/// Bits of the word that hold the order id: what action and side leave.
pub const ORDER_ID_BITS: u32 = 48;
/// Set in a row's flags where the record has no price; the row's price is then zero.
pub const PRICE_UNDEFINED: u8 = 1;

/// One contract or share in units of 1e-9.
const UNIT: u64 = 1_000_000_000;
const ORDER_ID_MASK: u64 = (1 << ORDER_ID_BITS) - 1;

/// A market event, as its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub instrument_id: u32,
    event_time_ns: u64,
    receive_time_ns: u64,
    price: i64,
    size: u32,
    action: [u8; 1],
    side: [u8; 1],
    flags: u8,
    order_id: u64,
}

macro_rules! event {
    ($message:ident, $order_id:expr) => {
        Event {
            instrument_id: $message.hd.instrument_id,
            event_time_ns: $message.hd.ts_event,
            receive_time_ns: $message.ts_recv,
            price: $message.price,
            size: $message.size,
            action: [$message.action as u8],
            side: [$message.side as u8],
            flags: $message.flags.raw(),
            order_id: $order_id,
        }
    };
}

/// Reads a whole record of one of the three types; `None` if it is none. Its length must have been
/// checked: what the reader is given is a multiple of eight bytes, so that all of it is aligned.
#[inline]
pub(super) fn read(reader: &mut DbnFsm, record: &[u8]) -> Option<Event> {
    reader.write_all(record);
    match reader.process() {
        ProcessResult::Record(()) => {}
        _ => {
            // Nothing of it may remain in front of the next one.
            reader.skip(record.len());
            return None;
        }
    }
    let record = reader.last_record()?;
    if let Ok(mbo) = record.try_get::<MboMsg>() {
        Some(event!(mbo, mbo.order_id))
    } else if let Ok(mbp1) = record.try_get::<Mbp1Msg>() {
        Some(event!(mbp1, 0))
    } else if let Ok(trade) = record.try_get::<TradeMsg>() {
        Some(event!(trade, 0))
    } else {
        None
    }
}

/// How records that are no market events are counted; `None` for market events.
pub(super) fn note(rtype: RType) -> Option<&'static str> {
    Some(match rtype {
        RType::Error => "gateway error record, no tick",
        RType::Imbalance => "imbalance record, no tick",
        RType::InstrumentDef => "instrument definition record, no tick",
        RType::Statistics => "statistics record, no tick",
        RType::Status => "status record, no tick",
        RType::SymbolMapping => "symbol mapping record, no tick and not applied",
        RType::System => "system record, no tick",
        _ => return None,
    })
}

impl Event {
    /// The kind of its tick, or why it can be none.
    #[inline]
    pub(super) fn kind(&self) -> Result<u8, Fault> {
        let side = match self.side {
            [b'B'] => Kind::BID,
            [b'A'] => Kind::ASK,
            [b'N'] => Kind::OTHER,
            _ => return Err(Fault::SideUnknown),
        };
        let kind = match self.action {
            [b'T'] => Kind::TRADE,
            [b'F'] => Kind::FILL,
            [b'R'] => Kind::CLEAR,
            [b'A' | b'C' | b'M'] => side,
            [b'N'] => Kind::OTHER,
            _ => return Err(Fault::ActionUnknown),
        };
        if self.event_time_ns == UNDEF_TIMESTAMP {
            return Err(Fault::TimeUndefined);
        }
        if self.price == UNDEF_PRICE && matches!(kind, Kind::TRADE | Kind::FILL) {
            return Err(Fault::PriceUndefined);
        }
        if self.size == UNDEF_ORDER_SIZE && kind != Kind::CLEAR {
            return Err(Fault::SizeUndefined);
        }
        Ok(kind)
    }

    /// The bytes that a fault is about, where there are any to show.
    pub(super) fn blame(&self, fault: Fault) -> &[u8] {
        match fault {
            Fault::ActionUnknown => &self.action,
            Fault::SideUnknown => &self.side,
            _ => b"",
        }
    }

    /// The time whose day decides what the instrument is called: DBN's own rule.
    #[inline]
    pub(super) fn named_at_ns(&self) -> u64 {
        match self.receive_time_ns {
            UNDEF_TIMESTAMP => self.event_time_ns,
            time_ns => time_ns,
        }
    }

    /// All ones stand for an id that does not fit, so that one does not either.
    #[inline]
    pub(super) fn order_id_fits(&self) -> bool {
        self.order_id < ORDER_ID_MASK
    }

    /// The row of an event whose kind is known.
    #[inline]
    pub(super) fn row(&self, kind: u8, symbol: u32) -> Row {
        let ([action], [side]) = (self.action, self.side);
        let order_id = self.order_id.min(ORDER_ID_MASK);
        let head = u64::from(action) << 8 | u64::from(side);
        let is_priced = self.price != UNDEF_PRICE;
        let flags = self.flags & !PRICE_UNDEFINED;
        let flags = if is_priced { flags } else { flags | PRICE_UNDEFINED };
        let size = if self.size == UNDEF_ORDER_SIZE { 0 } else { u64::from(self.size) * UNIT };
        let is_received = self.receive_time_ns != UNDEF_TIMESTAMP;
        Row {
            event_time_ns: self.event_time_ns,
            receive_time_ns: if is_received { self.receive_time_ns } else { 0 },
            symbol,
            kind,
            price: if is_priced { self.price } else { 0 },
            size,
            flags,
            word: head << ORDER_ID_BITS | order_id,
        }
    }
}
