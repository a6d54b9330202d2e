//! Messages that come over UCX, which knows nobody: from whoever reaches a worker's address.
//!
//! The input is a row of messages to a worker that has one region and waits for one reply. A second
//! account is kept here of what the rules let through: the region must hold exactly that.

use zepto_core::limits::UCX_MESSAGE_LINES_MAX;
use zepto_transport::Line;
use zepto_transport::ucx::decoders::{Head, Inbox, Word};

use crate::Target;
use crate::bytes::Choices;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// See the module. The region, what it must hold, and replies.
pub const TARGET: Target =
    Target { name: "ucx_message", run, seeds, bytes_fixed: 64 << 10, bytes_per_byte: 512 };

const LINES: usize = 8;

/// What the region must hold, and what it takes next.
struct Account {
    lines: [Line; LINES],
    sequence: u64,
    is_broken: bool,
}

/// Any bytes as what a stranger sends.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let inbox = Inbox::new(LINES);
    let is_gone = Arc::new(AtomicBool::new(false));
    let reply = inbox.arrivals.expect_reply(&is_gone).expect("there is room for one");
    let mut account = Account { lines: [[0; 8]; LINES], sequence: 0, is_broken: false };
    while !choices.is_empty() {
        let (head, data) = message(&mut choices, inbox.number, reply, account.sequence);
        inbox.take(&head, &data);
        if head[1] == inbox.number && !account.is_broken {
            account.take(&head, &data);
        }
        assert_eq!(inbox.lines(), account.lines, "after {head:?}");
        assert_eq!(inbox.is_broken(), account.is_broken, "after {head:?}");
    }
    assert!(inbox.arrivals.take_orphans().len() <= input.len());
}

/// A message that is right, or with one word of its head wrong; its data may be too short.
fn message(choices: &mut Choices<'_>, region: u64, reply: u64, sequence: u64) -> (Line, Vec<u8>) {
    let kind = choices.byte();
    let (first, count) = (usize::from(choices.byte()), usize::from(choices.byte() % 5));
    let store = (kind & 1 == 1).then(|| {
        let place = choices.byte();
        let (line, word) = (usize::from(place >> 4), usize::from(place & 0xf));
        Word { line, word, value: u64::from(place) }
    });
    let head = match kind % 8 {
        6 => Head::Reply { number: reply },
        7 => Head::Gone { number: reply },
        _ => Head::Lines { number: region, sequence, first, count, store },
    };
    let mut head = head.to_line();
    if let Some(word) = head.get_mut(usize::from(choices.byte())) {
        *word = choices.cursor(*word);
    }
    let fill = choices.byte();
    let short = usize::from(choices.byte().saturating_sub(128));
    (head, vec![fill; (count * size_of::<Line>()).saturating_sub(short)])
}

impl Account {
    /// As the rules are: a message is taken whole, in its turn, or it is the last one.
    fn take(&mut self, head: &Line, data: &[u8]) {
        let &[kind, _, sequence, first, count, line, word, value] = head;
        if kind != 2 && kind != 3 {
            return;
        }
        let lines = LINES as u64;
        let is_inside = first <= lines && count <= lines - first.min(lines);
        let is_whole = data.len() as u64 == count.saturating_mul(64);
        let stores = kind == 3;
        let is_right = sequence == self.sequence
            && is_inside
            && is_whole
            && count <= UCX_MESSAGE_LINES_MAX as u64
            && (!stores || (line < lines && word < 8));
        if !is_right {
            self.is_broken = true;
            return;
        }
        for (place, chunk) in (first as usize..).zip(data.chunks(64)) {
            self.lines[place] = [u64::from_ne_bytes([chunk[0]; 8]); 8];
        }
        if stores {
            self.lines[line as usize][word as usize] = value;
        }
        self.sequence += 1;
    }
}

/// A word of the head that is no word: all is right.
const RIGHT: u8 = 255;

fn seeds() -> Vec<Vec<u8>> {
    vec![
        // Two lines and their word, then two more.
        vec![1, 1, 2, 0x03, RIGHT, 9, 0, 2, 3, 2, RIGHT, 8, 0],
        // A reply, one that says that it is gone, one for nobody.
        vec![6, 0, 3, RIGHT, 7, 0, 7, 0, 0, 0x00, RIGHT, 0, 0, 6, 0, 1, 1, 160, 7, 0],
        // Outside, out of turn, too short, a word that is none.
        vec![0, 7, 4, RIGHT, 1, 0],
        vec![0, 0, 1, 2, 3, 1, 0],
        vec![0, 0, 1, RIGHT, 1, 200],
        vec![1, 0, 1, 0x09, RIGHT, 1, 0],
        // A kind that is none.
        vec![0, 0, 1, 0, 100, 1, 0, 0, 0, 1, RIGHT, 5, 0],
    ]
}
