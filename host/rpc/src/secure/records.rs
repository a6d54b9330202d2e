//! Records: the bytes of a session, sealed in numbered runs.
//!
//! ```text
//! | length u16, little-endian | sealed bytes, 17 to 65,535, the last 16 of them the tag |
//! ```
//! The number of a record is not sent: both sides count, and a record opens only at its own place.
//! So none can be changed, repeated, swapped, left out or taken from another session. Frames know
//! nothing of records; a record ends where a write ended or where it is full, and a long frame
//! takes many. A machine without input or output, like the frames' own. It does not hide how much
//! is said and when.

use std::collections::VecDeque;

use snow::TransportState;
use zepto_core::limits::{HELLO_BYTES_MAX, RECORD_BYTES_MAX};

use super::SecureError;
use crate::frame::HEADER_BYTES;

const LENGTH_BYTES: usize = 2;
const TAG_BYTES: usize = 16;
/// An empty record would say nothing, for ever.
pub(crate) const RECORD_BYTES_MIN: usize = TAG_BYTES + 1;
/// Bytes of a record before the peer has proved itself by a first one.
const FIRST_RECORD_BYTES_MAX: usize = HEADER_BYTES + HELLO_BYTES_MAX as usize + TAG_BYTES;
/// Plain bytes of a full record.
const PLAIN_BYTES_MAX: usize = RECORD_BYTES_MAX - TAG_BYTES;
/// Full records sealed for one write; a large payload is sealed piece by piece as the kernel takes
/// it.
const FULL_RECORDS_MAX: usize = 4;
/// Memory that is kept when nothing is sealed.
const SEALED_BYTES_KEPT: usize = 64 << 10;

/// One end of a session.
pub(crate) struct Records {
    state: TransportState,
    /// The beginning of a record that is not all here.
    incoming: Vec<u8>,
    opened: bool,
    /// Sealed records, the bytes of them that are written, and where each ends and how many plain
    /// bytes it holds.
    sealed: Vec<u8>,
    written: usize,
    ends: VecDeque<(usize, usize)>,
    /// The plain bytes of the record that is being made.
    plain: Vec<u8>,
}

impl Records {
    pub(crate) fn new(state: TransportState) -> Records {
        Records {
            state,
            incoming: Vec::new(),
            opened: false,
            sealed: Vec::new(),
            written: 0,
            ends: VecDeque::new(),
            plain: Vec::new(),
        }
    }

    /// True while some bytes of a record are here and others are not.
    pub(crate) fn has_partial(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Takes bytes from the front of `input` up to the end of one record and puts what it says
    /// into `plain`, or takes all of them and returns false.
    pub(crate) fn open(
        &mut self,
        input: &mut &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<bool, SecureError> {
        if self.incoming.is_empty()
            && let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>()
            && let Some((record, rest)) = rest.split_at_checked(self.check(*length)?)
        {
            // Nearly always the whole record is there and is opened where it lies.
            *input = rest;
            open(&mut self.state, record, plain)?;
        } else {
            if !self.fill(LENGTH_BYTES, input) {
                return Ok(false);
            }
            let length = self.check([self.incoming[0], self.incoming[1]])?;
            if !self.fill(LENGTH_BYTES + length, input) {
                return Ok(false);
            }
            open(&mut self.state, &self.incoming[LENGTH_BYTES..], plain)?;
            self.incoming.clear();
        }
        self.opened = true;
        Ok(true)
    }

    fn check(&self, length: [u8; LENGTH_BYTES]) -> Result<usize, SecureError> {
        let declared = usize::from(u16::from_le_bytes(length));
        let max = if self.opened { RECORD_BYTES_MAX } else { FIRST_RECORD_BYTES_MAX };
        if (RECORD_BYTES_MIN..=max).contains(&declared) {
            Ok(declared)
        } else {
            Err(SecureError::RecordLength { declared, max })
        }
    }

    /// Moves bytes until so many are here. False when there are not enough.
    fn fill(&mut self, bytes: usize, input: &mut &[u8]) -> bool {
        let missing = bytes.saturating_sub(self.incoming.len()).min(input.len());
        let (part, rest) = input.split_at(missing);
        self.incoming.extend_from_slice(part);
        *input = rest;
        self.incoming.len() >= bytes
    }

    /// Seals bytes from the front of the parts, all of them unless they fill several records.
    pub(crate) fn seal<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), SecureError> {
        self.plain.clear();
        let mut full = 0;
        'parts: for mut part in parts {
            while !part.is_empty() {
                let count = part.len().min(PLAIN_BYTES_MAX - self.plain.len());
                let (now, later) = part.split_at(count);
                self.plain.extend_from_slice(now);
                part = later;
                if self.plain.len() == PLAIN_BYTES_MAX {
                    self.seal_one()?;
                    full += 1;
                    if full == FULL_RECORDS_MAX {
                        break 'parts;
                    }
                }
            }
        }
        if self.plain.is_empty() { Ok(()) } else { self.seal_one() }
    }

    fn seal_one(&mut self) -> Result<(), SecureError> {
        let start = self.sealed.len();
        let length = self.plain.len() + TAG_BYTES;
        self.sealed.extend_from_slice(&(length as u16).to_le_bytes());
        self.sealed.resize(start + LENGTH_BYTES + length, 0);
        let record = &mut self.sealed[start + LENGTH_BYTES..];
        let sealed = self.state.write_message(&self.plain, record);
        sealed.map_err(|error| SecureError::Internal(error.to_string()))?;
        self.ends.push_back((self.sealed.len(), self.plain.len()));
        self.plain.clear();
        Ok(())
    }

    /// Sealed bytes that are to be written.
    pub(crate) fn sealed(&self) -> &[u8] {
        &self.sealed[self.written..]
    }

    /// The kernel took so many sealed bytes. Returns the plain bytes that it has thereby: those of
    /// whole records, since of a cut one the peer can open nothing.
    pub(crate) fn wrote(&mut self, bytes: usize) -> usize {
        self.written += bytes;
        let mut plain_bytes = 0;
        while let Some((end, plain)) = self.ends.front()
            && *end <= self.written
        {
            plain_bytes += plain;
            self.ends.pop_front();
        }
        if self.written == self.sealed.len() {
            self.sealed.clear();
            self.sealed.shrink_to(SEALED_BYTES_KEPT);
            self.plain.shrink_to(SEALED_BYTES_KEPT);
            self.written = 0;
        }
        plain_bytes
    }
}

fn open(state: &mut TransportState, record: &[u8], plain: &mut Vec<u8>) -> Result<(), SecureError> {
    plain.resize(record.len() - TAG_BYTES, 0);
    match state.read_message(record, plain) {
        Ok(_) => Ok(()),
        Err(_) => Err(SecureError::Record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure::noise::tests::session;

    fn sealed(from: &mut Records, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        let mut left = bytes;
        while !left.is_empty() {
            from.seal([left]).expect("seals");
            let sealed = from.sealed().to_vec();
            left = &left[from.wrote(sealed.len())..];
            all.extend(sealed);
        }
        all
    }

    fn opened(by: &mut Records, mut input: &[u8]) -> Result<Vec<u8>, SecureError> {
        let (mut all, mut plain) = (Vec::new(), Vec::new());
        while by.open(&mut input, &mut plain)? {
            all.extend_from_slice(&plain);
        }
        assert!(input.is_empty(), "all was taken");
        Ok(all)
    }

    #[test]
    fn any_bytes_come_out_as_they_went_in_however_they_are_chopped() {
        let (mut here, mut there) = session();
        assert_eq!(opened(&mut there, &sealed(&mut here, b"hello")), Ok(b"hello".to_vec()));
        let long: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        for step in [1, 2, 3, 1000, 65_537, 300_000] {
            let bytes = sealed(&mut here, &long);
            let mut out = Vec::new();
            for piece in bytes.chunks(step) {
                out.extend(opened(&mut there, piece).expect("in order"));
            }
            assert!(out == long, "in steps of {step}");
            assert!(!there.has_partial());
        }
        assert_eq!(opened(&mut here, &sealed(&mut there, b"and back")), Ok(b"and back".to_vec()));
    }

    #[test]
    fn a_part_of_a_record_in_the_kernel_counts_as_nothing_sent() {
        let (mut here, _) = session();
        let parts: [&[u8]; 3] = [&[1; 10], &[], &[2; PLAIN_BYTES_MAX]];
        here.seal(parts).expect("seals");
        let total = here.sealed().len();
        assert_eq!(total, 10 + PLAIN_BYTES_MAX + 2 * (LENGTH_BYTES + TAG_BYTES));
        let first = LENGTH_BYTES + RECORD_BYTES_MAX;
        assert_eq!(here.wrote(first - 1), 0);
        assert_eq!(here.wrote(1), PLAIN_BYTES_MAX);
        assert_eq!(here.wrote(total - first - 1), 0);
        assert_eq!(here.wrote(1), 10);
        assert!(here.sealed().is_empty());
    }

    #[test]
    fn a_large_payload_is_sealed_piece_by_piece() {
        let (mut here, _) = session();
        here.seal([vec![0; 64 << 20].as_slice()]).expect("seals");
        assert_eq!(here.sealed().len(), FULL_RECORDS_MAX * (LENGTH_BYTES + RECORD_BYTES_MAX));
    }

    #[test]
    fn a_changed_doubled_swapped_or_missing_record_does_not_open() {
        let fresh = || {
            let (mut here, mut there) = session();
            opened(&mut there, &sealed(&mut here, b"first")).expect("as it was");
            let (one, two) = (sealed(&mut here, b"one"), sealed(&mut here, b"two"));
            (there, one, two)
        };
        let (_, one, _) = fresh();
        for bit in LENGTH_BYTES * 8..one.len() * 8 {
            let (mut there, mut one, _) = fresh();
            one[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&mut there, &one), Err(SecureError::Record), "bit {bit}");
        }
        let (mut there, one, two) = fresh();
        assert_eq!(opened(&mut there, &[two, one].concat()), Err(SecureError::Record), "swapped");
        let (mut there, _, two) = fresh();
        assert_eq!(opened(&mut there, &two), Err(SecureError::Record), "left out");
        let (mut there, one, _) = fresh();
        assert_eq!(opened(&mut there, &one), Ok(b"one".to_vec()));
        assert_eq!(opened(&mut there, &one), Err(SecureError::Record), "doubled");
        let (_, one, _) = fresh();
        let (mut other, _, _) = fresh();
        assert_eq!(opened(&mut other, &one), Err(SecureError::Record), "of another session");
    }

    #[test]
    fn lengths_that_no_record_has_cost_nothing() {
        let refused = |there: &mut Records, declared: usize, max: usize| {
            let length = (declared as u16).to_le_bytes();
            let expected = Err(SecureError::RecordLength { declared, max });
            assert_eq!(opened(there, &length), expected);
            assert!(there.incoming.capacity() < 64, "{}", there.incoming.capacity());
        };
        for declared in [0, 1, 16, FIRST_RECORD_BYTES_MAX + 1, 65_535] {
            let (_, mut there) = session();
            refused(&mut there, declared, FIRST_RECORD_BYTES_MAX);
        }
        let (mut here, mut there) = session();
        opened(&mut there, &sealed(&mut here, b"x")).expect("as it was");
        refused(&mut there, 16, RECORD_BYTES_MAX);
    }
}
