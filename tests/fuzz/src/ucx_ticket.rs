//! Tickets of UCX regions, which come from anybody who may speak RPC.
//!
//! A ticket whose checksum is wrong says nothing; so each input is tried once as it is and once
//! with magic and checksum made right.

use zepto_core::hash::digest;
use zepto_core::limits::UCX_TICKET_BYTES_MAX;
use zepto_transport::ucx::decoders::Ticket;

use crate::Target;

/// See the module. A ticket is decoded and encoded twice each.
pub const TARGET: Target =
    Target { name: "ucx_ticket", run, seeds, bytes_fixed: 64 << 10, bytes_per_byte: 32 };

/// Words before the address, and the place of its length among them.
const WORDS: usize = 8;
const LENGTH: usize = 7;

/// Any bytes as a ticket.
pub fn run(input: &[u8]) {
    again(input);
    if let Some(right) = made_right(input) {
        again(&right);
    }
}

/// Decodes, encodes, and decodes to the same.
fn again(input: &[u8]) {
    let Ok(ticket) = Ticket::decode(input) else { return };
    let bytes = ticket.encode().expect("it fits, for it came");
    assert!(bytes.len() <= UCX_TICKET_BYTES_MAX);
    assert_eq!(Ticket::decode(&bytes).ok(), Some(ticket));
}

/// With the magic and the checksum that belong to the rest, if it is as long as it says.
fn made_right(input: &[u8]) -> Option<Vec<u8>> {
    let word = |index: usize| {
        let bytes = input.get(index * 8..index * 8 + 8)?;
        usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let end = (WORDS * 8).checked_add(word(LENGTH)?)?;
    let sum = digest(input.get(16..end)?);
    let mut right = input.to_vec();
    right.get_mut(..8)?.copy_from_slice(b"zeptUCX2");
    right.get_mut(8..16)?.copy_from_slice(&sum.to_le_bytes());
    Some(right)
}

fn seeds() -> Vec<Vec<u8>> {
    let worker = vec![7; 100];
    let writer = Ticket { number: 1, place: [2, 3], lines: 68, segment: None, worker };
    let reader = Ticket { segment: Some(6), ..writer.clone() };
    [writer, reader].iter().filter_map(|ticket| ticket.encode().ok()).collect()
}
