//! What two ends tell each other: where a region is, and whose worker reaches it.
//!
//! A ticket goes over RPC, and its answer comes back by message. UCX believes every byte of an
//! address and may end the process over a bad one, so a ticket has a checksum. That finds what was
//! damaged, not what was forged: whoever may open lanes is trusted that far.

use super::context::Place;
use crate::transport::TransportError;
use zepto_core::hash::digest;
use zepto_core::limits::UCX_TICKET_BYTES_MAX;

const MAGIC: u64 = u64::from_le_bytes(*b"zeptUCX2");
/// Words before the address: magic, checksum, number, place, lines, segment, length.
const WORDS: usize = 8;
/// Words that the checksum does not cover: magic and itself.
const UNCHECKED: usize = 2;

/// A region of a peer, and the way there. A writer's has no memory: it asks for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The number that the owner has given the region, or the reply that it waits for.
    pub number: u64,
    /// Where that is.
    pub place: Place,
    /// Lines of the region.
    pub lines: u64,
    /// Its System V segment, if it is one.
    pub segment: Option<i32>,
    /// The worker that serves it.
    pub worker: Vec<u8>,
}

impl Ticket {
    /// As bytes, at most [`UCX_TICKET_BYTES_MAX`].
    ///
    /// # Errors
    /// When the address is longer than that: there are too many devices.
    pub fn encode(&self) -> Result<Vec<u8>, TransportError> {
        let segment = self.segment.map_or(u64::MAX, |segment| u64::from(segment.cast_unsigned()));
        let (place, length) = (self.place, self.worker.len() as u64);
        let head: [u64; WORDS] =
            [MAGIC, 0, self.number, place[0], place[1], self.lines, segment, length];
        let mut bytes: Vec<u8> = head.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.extend(&self.worker);
        let sum = digest(&bytes[UNCHECKED * 8..]);
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        if bytes.len() > UCX_TICKET_BYTES_MAX {
            let reason =
                format!("an address of {} bytes: let UCX_NET_DEVICES have less", bytes.len());
            return Err(TransportError::Ucx { call: "ucp_worker_get_address", reason });
        }
        Ok(bytes)
    }

    /// Out of bytes that may have more behind.
    ///
    /// # Errors
    /// When they are no ticket.
    pub fn decode(bytes: &[u8]) -> Result<Self, TransportError> {
        Self::read(bytes).ok_or(TransportError::NoTicket)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| {
            let bytes = bytes.get(index * 8..index * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        if word(0)? != MAGIC {
            return None;
        }
        let end = (WORDS * 8).checked_add(usize::try_from(word(7)?).ok()?)?;
        let covered = bytes.get(UNCHECKED * 8..end)?;
        // UCX reads what an address says of itself, without a look at how long it is.
        if end == WORDS * 8 || end > UCX_TICKET_BYTES_MAX || digest(covered) != word(1)? {
            return None;
        }
        let segment = match word(6)? {
            u64::MAX => None,
            id => Some(u32::try_from(id).ok()?.cast_signed()),
        };
        Some(Self {
            number: word(2)?,
            place: [word(3)?, word(4)?],
            lines: word(5)?,
            segment,
            worker: bytes.get(WORDS * 8..end)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket { number: 1, place: [2, 3], lines: 5, segment: Some(6), worker: vec![7; 100] }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for segment in [None, Some(0), Some(i32::MAX)] {
            let ticket = Ticket { segment, ..ticket() };
            let mut bytes = ticket.encode().unwrap();
            bytes.extend([0; 100]);
            assert_eq!(Ticket::decode(&bytes).unwrap(), ticket);
        }
    }

    #[test]
    fn a_ticket_with_one_wrong_bit_or_one_byte_less_is_none() {
        let bytes = ticket().encode().unwrap();
        for index in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[index] ^= 1 << (index % 8);
            assert!(Ticket::decode(&wrong).is_err(), "byte {index}");
            assert!(Ticket::decode(&bytes[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn a_ticket_without_an_address_is_none() {
        let ticket = Ticket { worker: Vec::new(), ..ticket() };
        assert!(Ticket::decode(&ticket.encode().unwrap()).is_err());
    }

    #[test]
    fn an_address_without_end_is_an_error_and_not_a_long_ticket() {
        let ticket = Ticket { worker: vec![0; UCX_TICKET_BYTES_MAX], ..ticket() };
        assert!(ticket.encode().unwrap_err().to_string().contains("UCX_NET_DEVICES"));
    }
}
