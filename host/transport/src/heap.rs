//! Regions of the own heap: two ends of a lane in one process, and the form that loom checks.
//!
//! Invariant: the same access code as shared memory, on memory that the process owns. Lacks any
//! isolation: both ends live and die together.

use core::ops::Range;
use std::sync::Arc;

use crate::lines::SharedLine;
use crate::transport::{Line, Region, Remote, Transport, TransportError, checked_bytes};

/// The transport inside one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

/// A region of the own heap. `Send`, one writer.
pub struct HeapRegion {
    lines: Arc<[SharedLine]>,
}

/// The reading side of a [`HeapRegion`]; it keeps the memory alive.
pub struct HeapRemote {
    lines: Arc<[SharedLine]>,
}

/// Leads to a [`HeapRegion`] of the same process.
pub struct HeapTicket {
    lines: Arc<[SharedLine]>,
}

impl Transport for Heap {
    type Region = HeapRegion;
    type Remote = HeapRemote;
    type Ticket = HeapTicket;

    fn register(&self, lines: usize) -> Result<(HeapRegion, HeapTicket), TransportError> {
        checked_bytes(lines)?;
        let lines: Arc<[SharedLine]> = (0..lines).map(|_| SharedLine::default()).collect();
        Ok((HeapRegion { lines: Arc::clone(&lines) }, HeapTicket { lines }))
    }

    fn connect(&self, ticket: HeapTicket, lines: usize) -> Result<HeapRemote, TransportError> {
        let bytes = |lines: usize| (lines as u64).saturating_mul(size_of::<Line>() as u64);
        if ticket.lines.len() != lines {
            let found = bytes(ticket.lines.len());
            return Err(TransportError::WrongSize { expected: bytes(lines), found });
        }
        Ok(HeapRemote { lines: ticket.lines })
    }

    #[inline]
    fn progress(&self) -> usize {
        0
    }
}

impl Region for HeapRegion {
    #[inline(always)]
    fn lines(&self) -> usize {
        self.lines.len()
    }

    #[inline(always)]
    fn write(&mut self, line: usize, value: &Line) {
        self.lines[line].write(value);
    }

    #[inline]
    fn read(&self, line: usize) -> Line {
        self.lines[line].read()
    }

    #[inline]
    fn put(&mut self, lines: Range<usize>) {
        // The reader shares the memory; the store that follows publishes it.
        assert!(lines.start <= lines.end && lines.end <= self.lines.len());
    }

    #[inline]
    fn fence(&mut self) {
        // Every store is a Release.
    }

    #[inline]
    fn store(&mut self, line: usize, word: usize, value: u64) {
        self.lines[line].store(word, value);
    }
}

impl Remote for HeapRemote {
    #[inline]
    fn lines(&self) -> usize {
        self.lines.len()
    }

    #[inline]
    fn get(&self, line: usize) -> Line {
        self.lines[line].read()
    }

    #[inline]
    fn load(&self, line: usize, word: usize) -> u64 {
        self.lines[line].load(word)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    crate::conformance!(heap, || crate::conformance::Pair::new(Heap, Heap, || ()));
}
