//! Frames on their way into one vectored write.
//!
//! Headers and small payloads are laid side by side in one buffer, large payloads stay where they
//! are, so that a batch of small frames is one slice and a large one is never copied. The batch
//! knows at any moment which calls the kernel has in full: a frame of which even one byte is
//! missing can never be executed.

use std::io::IoSlice;
use std::ops::Range;

use crate::frame::{HEADER_BYTES, Header};
use crate::outbox::OutFrame;

/// Payloads up to this are copied next to their header; above it, a slice of its own is cheaper.
const INLINE_BYTES_MAX: usize = 2 << 10;
/// Memory that an empty batch keeps for the next one.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;
/// Slices of one write; the kernel takes up to 1,024.
pub(crate) const SLICES_MAX: usize = 64;

#[derive(Debug)]
enum Part {
    Scratch(Range<usize>),
    /// The payload of the frame with this index.
    Payload(usize),
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    frames: Vec<OutFrame>,
    scratch: Vec<u8>,
    parts: Vec<Part>,
    /// The first part that is not written in full, and how much of it is.
    part: usize,
    part_written: usize,
    total_bytes: usize,
    written_bytes: usize,
    /// What the frames that came from the outbox are charged there.
    charged: (usize, usize),
    /// Where in the batch each call ends, and its number.
    calls: Vec<(usize, u64)>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What the frames of the batch were charged in the outbox: bytes and frames.
    pub(crate) fn charged(&self) -> (usize, usize) {
        self.charged
    }

    /// Adds a frame that was taken from the outbox.
    pub(crate) fn add(&mut self, frame: OutFrame) {
        self.charged.0 += frame.cost_bytes();
        self.charged.1 += 1;
        self.add_own(frame);
    }

    /// Adds a frame that never was in the outbox. Must not be called once a part of the batch is
    /// written.
    pub(crate) fn add_own(&mut self, frame: OutFrame) {
        debug_assert_eq!(self.written_bytes, 0);
        let payload_bytes = frame.payload.len();
        let header = Header {
            kind: frame.kind,
            id: frame.id,
            deadline_ms: frame.deadline_ms,
            payload_bytes: u32::try_from(payload_bytes).unwrap_or(u32::MAX),
        };
        let start = self.scratch.len();
        self.scratch.extend_from_slice(&header.encode());
        let inline = payload_bytes <= INLINE_BYTES_MAX;
        if inline {
            self.scratch.extend_from_slice(&frame.payload);
        }
        match self.parts.last_mut() {
            Some(Part::Scratch(range)) => range.end = self.scratch.len(),
            _ => self.parts.push(Part::Scratch(start..self.scratch.len())),
        }
        if !inline {
            self.parts.push(Part::Payload(self.frames.len()));
        }
        self.total_bytes += HEADER_BYTES + payload_bytes;
        if frame.call.is_some() {
            self.calls.push((self.total_bytes, frame.id));
        }
        self.frames.push(frame);
    }

    /// The next slices to write; returns how many of `slices` are filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut count = 0;
        let mut skip = self.part_written;
        for (slice, part) in slices.iter_mut().zip(&self.parts[self.part..]) {
            *slice = IoSlice::new(&self.bytes_of(part)[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// The kernel took so many bytes. True when that was all, and the batch is empty again.
    pub(crate) fn advance(&mut self, mut bytes: usize) -> bool {
        self.written_bytes += bytes;
        debug_assert!(self.written_bytes <= self.total_bytes);
        while let Some(part) = self.parts.get(self.part) {
            let left = self.bytes_of(part).len() - self.part_written;
            if bytes < left {
                self.part_written += bytes;
                return false;
            }
            bytes -= left;
            self.part += 1;
            self.part_written = 0;
        }
        true
    }

    /// The number of the first call that the kernel does not have in full.
    pub(crate) fn first_unsent_call(&self) -> Option<u64> {
        let position = self.calls.partition_point(|(end, _)| *end <= self.written_bytes);
        self.calls.get(position).map(|(_, id)| *id)
    }

    /// Forgets everything and gives back what the frames held.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        self.parts.clear();
        self.calls.clear();
        (self.part, self.part_written) = (0, 0);
        (self.total_bytes, self.written_bytes, self.charged) = (0, 0, (0, 0));
    }

    fn bytes_of(&self, part: &Part) -> &[u8] {
        match part {
            Part::Scratch(range) => &self.scratch[range.clone()],
            Part::Payload(frame) => &self.frames[*frame].payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Body, FrameReader, Kind, Unmetered};

    fn written(batch: &mut Batch, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = batch.slices(&mut slices);
            let bytes: Vec<u8> =
                slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            out.extend_from_slice(&bytes);
            if batch.advance(bytes.len()) {
                return out;
            }
        }
    }

    #[test]
    fn small_and_large_frames_come_out_in_order_however_the_kernel_takes_them() {
        for step in [1, 7, 24, 1000, 5000, usize::MAX] {
            let sizes = [0, 1, 2048, 2049, 9000, 3];
            let mut batch = Batch::default();
            for (id, size) in sizes.iter().enumerate() {
                batch.add(OutFrame::new(Kind::Request, id as u64, vec![id as u8; *size]));
            }
            let bytes = written(&mut batch, step);
            let mut reader = FrameReader::new(1 << 20);
            reader.establish();
            let mut input = bytes.as_slice();
            for (id, size) in sizes.iter().enumerate() {
                let frame = reader.read(&mut input, &mut Unmetered).expect("valid").expect("whole");
                assert_eq!(frame.header.id, id as u64);
                assert_eq!(frame.body, Body::Whole(vec![id as u8; *size]));
            }
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_call_counts_as_unsent_until_its_last_byte_is_taken() {
        use crate::call::CallCell;
        let mut batch = Batch::default();
        for id in [5, 6] {
            let mut frame = OutFrame::new(Kind::Request, id, vec![0; 10]);
            frame.call = Some(std::sync::Arc::new(CallCell::new(tokio::time::Instant::now())));
            batch.add(frame);
        }
        assert_eq!(batch.first_unsent_call(), Some(5));
        batch.advance(33);
        assert_eq!(batch.first_unsent_call(), Some(5));
        batch.advance(1);
        assert_eq!(batch.first_unsent_call(), Some(6));
        assert!(batch.advance(34));
        assert_eq!(batch.first_unsent_call(), None);
    }
}
