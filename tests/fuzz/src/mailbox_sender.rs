//! The sending end of a mailbox against a receiver whose credit holds anything at all.
//!
//! As in [`mailbox_receiver`](crate::mailbox_receiver). The window is the point: whatever the peer
//! writes, what was sent and not released can be read back unchanged.

use zepto_core::limits::LANE_REFUSALS;
use zepto_transport::{Heap, LaneSpec, Region, Sender, Transport, mailbox::LaneError};

use crate::Target;
use crate::bytes::Choices;
use crate::mailbox_receiver::{NONCE, SLOTS, write_header};

/// See the module. As for the other end.
pub const TARGET: Target =
    Target { name: "mailbox_sender", run, seeds, bytes_fixed: 64 << 10, bytes_per_byte: 16 };

// The layout, version 1, as its documentation has it.
const CURSORS_LINE: usize = 2;
const PARKED_LINE: usize = 4;
const REFUSALS_LINE: usize = 6;
const REFUSALS_PER_LINE: usize = 4;
const CREDIT_LINES: usize = REFUSALS_LINE + LANE_REFUSALS / REFUSALS_PER_LINE;
const REFUSALS_MADE_WORD: usize = 2;

/// Any bytes as what such a receiver does.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let spec = LaneSpec { nonce: NONCE, slots: SLOTS };
    let (offer, _slots) = Sender::offer(&Heap, spec).expect("an offer");
    let (mut hostile, ticket) = Heap.register(CREDIT_LINES).expect("a region");
    let mut sender = offer.complete(&Heap, ticket).expect("a sender");
    write_header(&mut hostile, b"zeptCRED", &mut choices);
    // A lane whose peer wrote nonsense is dropped by its owner; nothing is released any more.
    let mut is_sound = true;
    while !choices.is_empty() {
        match choices.byte() % 10 {
            0..=2 => {
                let word = usize::from(choices.byte()) % 3;
                let origin = if word == REFUSALS_MADE_WORD { 0 } else { sender.released() };
                let value = choices.cursor(origin);
                hostile.store(CURSORS_LINE, word, value);
            }
            3 => {
                let number = usize::from(choices.byte()) % 8;
                let line = REFUSALS_LINE + number / REFUSALS_PER_LINE;
                let word = number % REFUSALS_PER_LINE * 2;
                hostile.store(line, word, choices.cursor(sender.released()));
                hostile.store(line, word + 1, choices.cursor(1));
            }
            4 => hostile.store(PARKED_LINE, 0, choices.cursor(0)),
            5 | 6 => push(&mut sender, choices.byte()),
            _ if is_sound => is_sound = learn(&mut sender, choices.byte()).is_ok(),
            _ => assert!(sender.publish() || sender.tail() == sender.head()),
        }
        check_window(&sender);
    }
}

/// The content of a slot, from its number.
fn content(index: u64) -> [u64; 8] {
    [index.wrapping_mul(0x9e37_79b9_7f4a_7c15); 8]
}

fn push(sender: &mut Sender<Heap>, count: u8) {
    for _ in 0..count % 10 {
        let (index, room) = (sender.head(), sender.room());
        assert_eq!(sender.push(&content(index)).is_ok(), room > 0);
    }
    let rings = [sender.publish(), sender.publish(), sender.bell_due()];
    assert!(rings.iter().filter(|ring| **ring).count() <= 1, "rung twice for one parking");
}

/// Polls, reads every refusal, and releases some of what is settled.
fn learn(sender: &mut Sender<Heap>, release: u8) -> Result<(), LaneError> {
    let before = sender.cursors();
    let polled = sender.poll();
    let after = sender.cursors();
    if polled.is_err() {
        assert_eq!(after, before, "an error changes nothing");
    }
    polled?;
    assert!(after.consumed >= before.consumed && after.settled >= before.settled);
    assert!(after.settled <= after.consumed && after.consumed <= sender.tail());
    let mut refusals = 0;
    while let Some(range) = sender.next_refusal()? {
        assert!(range.count > 0 && range.first >= sender.released());
        assert!(range.end() <= sender.tail());
        refusals += 1;
        assert!(refusals <= LANE_REFUSALS, "more refusals than there is room for");
    }
    let settled = after.settled - sender.released();
    sender.release(sender.released() + u64::from(release) % (settled + 1));
    Ok(())
}

fn check_window(sender: &Sender<Heap>) {
    assert!(sender.head() - sender.released() <= sender.capacity());
    assert_eq!(sender.room(), sender.capacity() - (sender.head() - sender.released()));
    for index in sender.released()..sender.head() {
        assert_eq!(sender.slot(index), Some(content(index)), "slot {index} of the window");
    }
    assert_eq!(sender.slot(sender.head()), None);
}

/// A header that is right.
const RIGHT: u8 = 255;

fn seeds() -> Vec<Vec<u8>> {
    vec![
        // Five are pushed; four are consumed, three settled, and released; then four more.
        vec![RIGHT, 5, 5, 0, 0, 4, 0, 1, 3, 7, 3, 6, 4, 8, 0],
        // A refusal of two slots, made, read, and passed.
        vec![RIGHT, 5, 8, 3, 0, 2, 1, 0, 2, 1, 0, 0, 6, 0, 1, 6, 9, 6, 6, 9],
        // Settled beyond consumed, a count of refusals that is too large, a parked receiver.
        vec![RIGHT, 5, 3, 0, 1, 9, 7, 0, 5, 2, 7, 0],
        vec![RIGHT, 5, 3, 4, 1, 5, 1, 4, 3, 6, 1, 0, 2, 192, 7, 7],
        vec![0, 1, 5, 2, 7, 1],
    ]
}
