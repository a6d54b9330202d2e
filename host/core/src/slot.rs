//! What a lane's 64-byte slots hold: ticks as they are, and control records between them.
//!
//! A control record takes effect for the ticks after it. It has `kind` 255 where a tick has its
//! own kind, and says in the `flags` byte which record it is:
//!
//! | record | flags | words |
//! |---|---|---|
//! | bind producer | 1 | 0: producer index, 1: producer id |
//! | bind partition | 2 | 0: partition, 1: epoch, 2: next sequence |
//!
//! The first word of a tick carries {producer index u32, producer sequence low u32}. The whole
//! slot is bytes from a peer: decoding never panics and every unknown record is an error.

use zepto_abi::{Epoch, Kind, PartitionId, ProducerId, Tick};

/// One slot as words, as the transport carries it.
pub type Slot = [u64; 8];

/// Word 3: symbol, table, kind and flags.
const HEAD: usize = 3;
const KIND_SHIFT: u32 = 48;
const FLAGS_SHIFT: u32 = 56;
const BIND_PRODUCER: u8 = 1;
const BIND_PARTITION: u8 = 2;

/// A control record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// From here on, ticks with this index are this producer's.
    BindProducer {
        /// The lane's short name for the producer.
        index: u32,
        /// The producer.
        producer: ProducerId,
    },
    /// From here on, the partition's ticks are of this epoch and numbered from `next`.
    BindPartition {
        /// The partition.
        partition: PartitionId,
        /// Its epoch, checked by the fence.
        epoch: Epoch,
        /// The partition sequence of its next tick in this lane.
        next: u64,
    },
}

/// A slot that is no record this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("control record {0} is unknown")]
pub struct UnknownControl(pub u8);

/// Whether a slot is a control record.
#[inline(always)]
pub const fn is_control(slot: &Slot) -> bool {
    (slot[HEAD] >> KIND_SHIFT) as u8 == Kind::CONTROL
}

/// The table and the symbol of a tick's slot.
#[inline(always)]
pub const fn series_of(slot: &Slot) -> (u16, u32) {
    ((slot[HEAD] >> 32) as u16, slot[HEAD] as u32)
}

/// The producer's index and the low half of its sequence, from a tick's first word.
#[inline(always)]
pub const fn producer_of(slot: &Slot) -> (u32, u32) {
    ((slot[0] >> 32) as u32, slot[0] as u32)
}

/// A tick's first word.
#[inline(always)]
pub const fn producer_word(index: u32, sequence_low: u32) -> u64 {
    ((index as u64) << 32) | sequence_low as u64
}

/// Decodes a control record.
///
/// # Errors
/// The record's number when this version does not know it.
pub fn control_of(slot: &Slot) -> Result<Control, UnknownControl> {
    match (slot[HEAD] >> FLAGS_SHIFT) as u8 {
        BIND_PRODUCER => {
            Ok(Control::BindProducer { index: slot[0] as u32, producer: ProducerId(slot[1]) })
        }
        BIND_PARTITION => Ok(Control::BindPartition {
            partition: PartitionId(slot[0] as u32),
            epoch: Epoch(slot[1]),
            next: slot[2],
        }),
        unknown => Err(UnknownControl(unknown)),
    }
}

impl Control {
    /// The record as a slot.
    pub const fn slot(self) -> Slot {
        match self {
            Self::BindProducer { index, producer } => {
                [index as u64, producer.0, 0, head(BIND_PRODUCER), 0, 0, 0, 0]
            }
            Self::BindPartition { partition, epoch, next } => {
                [partition.0 as u64, epoch.0, next, head(BIND_PARTITION), 0, 0, 0, 0]
            }
        }
    }
}

const fn head(record: u8) -> u64 {
    ((Kind::CONTROL as u64) << KIND_SHIFT) | ((record as u64) << FLAGS_SHIFT)
}

/// A tick as a slot, with its first word as it stands in `sequence`.
#[inline(always)]
pub const fn slot_of(tick: &Tick) -> Slot {
    [
        tick.sequence,
        tick.event_time_ns,
        tick.receive_time_ns,
        (tick.symbol as u64)
            | ((tick.table as u64) << 32)
            | ((tick.kind as u64) << KIND_SHIFT)
            | ((tick.flags as u64) << FLAGS_SHIFT),
        tick.price as u64,
        tick.size,
        tick.user[0],
        tick.user[1],
    ]
}

/// A slot as a tick.
#[inline(always)]
pub const fn tick_of(slot: &Slot) -> Tick {
    let head = slot[HEAD];
    Tick {
        sequence: slot[0],
        event_time_ns: slot[1],
        receive_time_ns: slot[2],
        symbol: head as u32,
        table: (head >> 32) as u16,
        kind: (head >> KIND_SHIFT) as u8,
        flags: (head >> FLAGS_SHIFT) as u8,
        price: slot[4] as i64,
        size: slot[5],
        user: [slot[6], slot[7]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_records_survive_the_slot() {
        for record in [
            Control::BindProducer { index: 7, producer: ProducerId(u64::MAX) },
            Control::BindPartition {
                partition: PartitionId(65_535),
                epoch: Epoch(3),
                next: u64::MAX,
            },
        ] {
            assert!(is_control(&record.slot()));
            assert_eq!(control_of(&record.slot()), Ok(record));
        }
    }

    proptest! {
        #[test]
        fn any_slot_is_a_tick_a_known_record_or_an_error(slot: [u64; 8]) {
            if is_control(&slot) {
                if let Ok(record) = control_of(&slot) {
                    prop_assert_eq!(control_of(&record.slot()), Ok(record));
                }
            } else {
                prop_assert_eq!(slot_of(&tick_of(&slot)), slot);
            }
        }

        #[test]
        fn a_tick_lies_in_its_slot_as_it_lies_in_memory(head: u64, price: i64) {
            // The words are what C sees on a little-endian machine: one layout, no conversion.
            let tick = tick_of(&[1, 2, 3, head, price as u64, 6, 7, 8]);
            prop_assert_eq!(tick.symbol, head as u32);
            prop_assert_eq!(tick.table, (head >> 32) as u16);
            prop_assert_eq!(tick.kind, head.to_le_bytes()[6]);
            prop_assert_eq!(tick.flags, head.to_le_bytes()[7]);
            prop_assert_eq!(producer_of(&[producer_word(9, 5), 0, 0, 0, 0, 0, 0, 0]), (9, 5));
        }
    }
}
