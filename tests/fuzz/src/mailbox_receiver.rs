//! The receiving end of a mailbox against a sender whose memory holds anything at all.
//!
//! The input is a dialogue between the two. The hostile side writes words by the numbers of the
//! published layout; the honest side obeys its own rules, which is all that its panics are about.

use zepto_core::limits::LANE_REFUSALS;
use zepto_transport::{
    Heap, HeapRegion, LaneSpec, Receiver, Region, Transport, mailbox::LaneError,
};

use crate::Target;
use crate::bytes::Choices;

/// See the module. A lane of eight slots, and a credit with room for all refusals.
pub const TARGET: Target =
    Target { name: "mailbox_receiver", run, seeds, bytes_fixed: 64 << 10, bytes_per_byte: 16 };

pub(crate) const SLOTS: u32 = 8;
pub(crate) const NONCE: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;

// The layout, version 1, as its documentation has it.
const SLOTS_LINE: usize = 4;
const CURSORS_LINE: usize = 2;
const TAIL_WORD: usize = 0;
const REFUSALS_READ_WORD: usize = 1;

/// Writes the header that is right, with one word of it wrong if `wrong` says so. Its magic is
/// stored last.
pub(crate) fn write_header(region: &mut HeapRegion, magic: &[u8; 8], choices: &mut Choices<'_>) {
    let header = [
        u64::from_le_bytes(*magic),
        1,
        u64::from(SLOTS),
        LANE_REFUSALS as u64,
        NONCE as u64,
        (NONCE >> 64) as u64,
    ];
    let wrong = usize::from(choices.byte());
    for (word, value) in header.into_iter().enumerate().rev() {
        let value = if word == wrong { choices.cursor(value) } else { value };
        region.store(0, word, value);
    }
}

/// Any bytes as what such a sender does.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let spec = LaneSpec { nonce: NONCE, slots: SLOTS };
    let lines = SLOTS_LINE + SLOTS as usize;
    let (mut hostile, ticket) = Heap.register(lines).expect("a region");
    let (mut receiver, _credit) = Receiver::accept(&Heap, ticket, spec).expect("a receiver");
    write_header(&mut hostile, b"zeptSLOT", &mut choices);
    while !choices.is_empty() {
        let before = (receiver.tail(), receiver.consumed(), receiver.settled());
        match choices.byte() % 10 {
            0 | 1 => {
                let tail = choices.cursor(receiver.tail());
                hostile.store(CURSORS_LINE, TAIL_WORD, tail);
            }
            2 => {
                let read = choices.cursor(0);
                hostile.store(CURSORS_LINE, REFUSALS_READ_WORD, read);
            }
            3 => {
                let line = SLOTS_LINE + usize::from(choices.byte()) % SLOTS as usize;
                hostile.write(line, &[choices.word(); 8]);
            }
            4..=6 => poll(&mut receiver, before),
            7 => take(&mut receiver, &mut choices),
            8 => refuse(&mut receiver, &mut choices),
            _ => receiver.set_parked(choices.byte() & 1 == 1),
        }
        let (tail, consumed, settled) = (receiver.tail(), receiver.consumed(), receiver.settled());
        assert!(settled <= consumed && consumed <= tail, "{settled} {consumed} {tail}");
        assert!(tail - settled <= u64::from(SLOTS), "more slots than there are");
    }
}

fn poll(receiver: &mut Receiver<Heap>, before: (u64, u64, u64)) {
    match receiver.poll() {
        Ok(count) => {
            assert!(count <= u64::from(SLOTS));
            for index in receiver.consumed()..receiver.tail() {
                receiver.slot(index);
            }
        }
        Err(LaneError::Slots { .. } | LaneError::Transport(_)) => panic!("not of a poll"),
        Err(_) => {
            let after = (receiver.tail(), receiver.consumed(), receiver.settled());
            assert_eq!(after, before, "an error changes nothing");
        }
    }
}

/// Consumes some, settles some, and says so.
fn take(receiver: &mut Receiver<Heap>, choices: &mut Choices<'_>) {
    let there = receiver.tail() - receiver.consumed();
    receiver.consume(u64::from(choices.byte()) % (there + 1));
    let unsettled = receiver.consumed() - receiver.settled();
    receiver.settle(receiver.settled() + u64::from(choices.byte()) % (unsettled + 1));
    receiver.publish();
}

/// Refuses what is there to be refused; a full ring is no panic.
fn refuse(receiver: &mut Receiver<Heap>, choices: &mut Choices<'_>) {
    let (settled, tail) = (receiver.settled(), receiver.tail());
    if settled == tail {
        return;
    }
    let first = settled + u64::from(choices.byte()) % (tail - settled);
    let count = 1 + u64::from(choices.byte()) % (tail - first);
    let reason = u16::from(choices.byte());
    let refused = receiver.refuse(first, count as u32, reason);
    if refused.is_err() {
        receiver.publish();
    }
}

/// A header that is right.
const RIGHT: u8 = 255;

fn seeds() -> Vec<Vec<u8>> {
    vec![
        // Five slots, looked at, taken; then three more, of which some are refused.
        vec![RIGHT, 0, 5, 4, 7, 5, 5, 0, 3, 4, 8, 1, 1, 9, 7, 3, 3],
        // Too far, back, and all over again.
        vec![RIGHT, 0, 5, 4, 0, 9, 4, 0, 159, 5, 1, 6, 6, 7, 9, 9],
        vec![RIGHT, 0, 8, 4, 8, 0, 0, 1, 8, 2, 0, 2, 2, 2, 4, 7, 8, 8, 2, 161, 4],
        // Memory of another version.
        vec![1, 3, 0, 5, 4],
        vec![RIGHT, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 4, 4, 9, 1, 4, 9, 0],
    ]
}
