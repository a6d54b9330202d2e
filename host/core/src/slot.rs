//! What a lane's 64-byte slots hold: ticks as they are, and control records between them.
//!
//! A control record takes effect for the ticks after it. It has `kind` 255 where a tick has its
//! own kind, and says in the `flags` byte which record it is:
//!
//! | record | flags | words |
//! |---|---|---|
//! | bind producer | 1 | 0: producer index, 1: producer id |
//! | bind partition | 2 | 0: partition, 1: epoch, 2: next sequence |
//! | begin fill | 3 | 0: partition, 1: epoch, 2: next sequence, 4: first unsettled, 5: keep |
//! | accepted | 4 | 0: producer index, 1: partition, 2: its last sequence there |
//! | rows | 5 | 0: partition, 1: how many, 2: digest |
//! | filled | 6 | 0: partition, 1: rows in all |
//! | unsettled | 7 | 0: partition, 1: first unsettled sequence |
//!
//! The first word of a tick carries {producer index u32, producer sequence low u32}; that of the
//! ticks that a rows record announces, their sequence in the partition. The whole slot is bytes
//! from a peer: decoding never panics and every unknown record is an error.

use zepto_abi::{Epoch, Kind, PartitionId, ProducerId, Tick};

/// One slot as words, as the transport carries it.
pub type Slot = [u64; 8];

/// Word 3: symbol, table, kind and flags.
const HEAD: usize = 3;
const KIND_SHIFT: u32 = 48;
const FLAGS_SHIFT: u32 = 56;
const BIND_PRODUCER: u8 = 1;
const BIND_PARTITION: u8 = 2;
const BEGIN_FILL: u8 = 3;
const ACCEPTED: u8 = 4;
const ROWS: u8 = 5;
const FILLED: u8 = 6;
const UNSETTLED: u8 = 7;

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
    /// The partition is filled, or repaired. Its ticks from here on are numbered from `next`; those
    /// before come in rows, first those that may not be settled.
    BeginFill {
        /// The partition.
        partition: PartitionId,
        /// Its epoch, checked by the fence.
        epoch: Epoch,
        /// The partition sequence of its next tick in this lane.
        next: u64,
        /// Ticks from this sequence on may not be settled yet.
        unsettled: u64,
        /// The receiver has everything that is settled, and only what is not comes in rows. Else
        /// it forgets what it has, and everything comes.
        keep: bool,
    },
    /// What a producer had last got stored in the partition before the fill began.
    Accepted {
        /// The lane's short name for the producer.
        index: u32,
        /// The partition.
        partition: PartitionId,
        /// The producer's last sequence there.
        last: u64,
    },
    /// The next slots are earlier ticks of a partition, of one series after another, each in its
    /// order.
    Rows {
        /// The partition.
        partition: PartitionId,
        /// How many slots.
        count: u32,
        /// The sum of their digests: see [`digest`].
        digest: u64,
    },
    /// All earlier ticks were sent.
    Filled {
        /// The partition.
        partition: PartitionId,
        /// How many there were.
        rows: u64,
    },
    /// Ticks from a sequence on may not be settled, however long ago they came: copies went before
    /// they had them. So it stays until the partition is bound again.
    Unsettled {
        /// The partition.
        partition: PartitionId,
        /// The first of them.
        from: u64,
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
        BEGIN_FILL => Ok(Control::BeginFill {
            partition: PartitionId(slot[0] as u32),
            epoch: Epoch(slot[1]),
            next: slot[2],
            unsettled: slot[4],
            keep: slot[5] & 1 == 1,
        }),
        ACCEPTED => Ok(Control::Accepted {
            index: slot[0] as u32,
            partition: PartitionId(slot[1] as u32),
            last: slot[2],
        }),
        ROWS => Ok(Control::Rows {
            partition: PartitionId(slot[0] as u32),
            count: slot[1] as u32,
            digest: slot[2],
        }),
        FILLED => Ok(Control::Filled { partition: PartitionId(slot[0] as u32), rows: slot[1] }),
        UNSETTLED => {
            Ok(Control::Unsettled { partition: PartitionId(slot[0] as u32), from: slot[1] })
        }
        unknown => Err(UnknownControl(unknown)),
    }
}

impl Control {
    /// The record as a slot.
    pub const fn slot(self) -> Slot {
        let (record, words) = match self {
            Self::BindProducer { index, producer } => {
                (BIND_PRODUCER, [index as u64, producer.0, 0, 0, 0])
            }
            Self::BindPartition { partition, epoch, next } => {
                (BIND_PARTITION, [partition.0 as u64, epoch.0, next, 0, 0])
            }
            Self::BeginFill { partition, epoch, next, unsettled, keep } => {
                (BEGIN_FILL, [partition.0 as u64, epoch.0, next, unsettled, keep as u64])
            }
            Self::Accepted { index, partition, last } => {
                (ACCEPTED, [index as u64, partition.0 as u64, last, 0, 0])
            }
            Self::Rows { partition, count, digest } => {
                (ROWS, [partition.0 as u64, count as u64, digest, 0, 0])
            }
            Self::Filled { partition, rows } => (FILLED, [partition.0 as u64, rows, 0, 0, 0]),
            Self::Unsettled { partition, from } => (UNSETTLED, [partition.0 as u64, from, 0, 0, 0]),
        };
        [words[0], words[1], words[2], head(record), words[3], words[4], 0, 0]
    }

    /// The partition it is about, if it is about one.
    pub const fn partition(&self) -> Option<PartitionId> {
        match *self {
            Self::BindProducer { .. } => None,
            Self::BindPartition { partition, .. }
            | Self::BeginFill { partition, .. }
            | Self::Accepted { partition, .. }
            | Self::Rows { partition, .. }
            | Self::Filled { partition, .. }
            | Self::Unsettled { partition, .. } => Some(partition),
        }
    }
}

/// A digest of a slot's content. Digests are added up, so it tells that a row is another one or
/// missing, by accident; it is no proof against an adversary.
#[inline]
pub fn digest(slot: &Slot) -> u64 {
    // Odd constants, one per word: the first digits of the golden ratio, rotated.
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut sum = 0u64;
    for (word, place) in slot.iter().zip(0u32..) {
        sum = (sum ^ word.wrapping_mul(K.rotate_left(8 * place) | 1)).rotate_left(23);
    }
    sum.wrapping_mul(K)
}

const fn head(record: u8) -> u64 {
    ((Kind::CONTROL as u64) << KIND_SHIFT) | ((record as u64) << FLAGS_SHIFT)
}

/// What a producer takes: a tick, or one that is a slot already, as C programs have it.
pub trait AsSlot {
    /// As a slot; its first word is of no meaning.
    fn as_slot(&self) -> Slot;

    /// Table and symbol.
    fn series(&self) -> (u16, u32);

    /// Its kind.
    fn kind(&self) -> u8;
}

impl AsSlot for Tick {
    #[inline(always)]
    fn as_slot(&self) -> Slot {
        slot_of(self)
    }

    #[inline(always)]
    fn series(&self) -> (u16, u32) {
        (self.table, self.symbol)
    }

    #[inline(always)]
    fn kind(&self) -> u8 {
        self.kind
    }
}

impl AsSlot for Slot {
    #[inline(always)]
    fn as_slot(&self) -> Slot {
        *self
    }

    #[inline(always)]
    fn series(&self) -> (u16, u32) {
        series_of(self)
    }

    #[inline(always)]
    fn kind(&self) -> u8 {
        (self[HEAD] >> KIND_SHIFT) as u8
    }
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
            Control::BeginFill {
                partition: PartitionId(9),
                epoch: Epoch(8),
                next: 7,
                unsettled: 6,
                keep: true,
            },
            Control::Accepted { index: 3, partition: PartitionId(9), last: u64::MAX },
            Control::Rows { partition: PartitionId(9), count: u32::MAX, digest: 5 },
            Control::Filled { partition: PartitionId(9), rows: 11 },
            Control::Unsettled { partition: PartitionId(9), from: 12 },
        ] {
            assert!(is_control(&record.slot()));
            assert_eq!(control_of(&record.slot()), Ok(record));
        }
    }

    #[test]
    fn a_digest_tells_any_changed_word() {
        let slot = [1, 2, 3, 4, 5, 6, 7, 8];
        for word in 0..8 {
            let mut other = slot;
            other[word] ^= 1 << 17;
            assert_ne!(digest(&slot), digest(&other), "word {word}");
        }
        assert_ne!(digest(&slot), digest(&[2, 1, 3, 4, 5, 6, 7, 8]));
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
