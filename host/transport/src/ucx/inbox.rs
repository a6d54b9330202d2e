//! A worker's arrivals with one region that a peer writes, and nothing of UCX: for tests that send
//! anything.

use super::arrivals::{Arrivals, Lines};
use crate::lines::SharedLine;
use crate::transport::Line;
use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a peer's messages come to.
pub struct Inbox {
    /// Whatever it waits for.
    pub arrivals: Arrivals,
    lines: Arc<Lines>,
    is_broken: Arc<AtomicBool>,
    /// The region's number.
    pub number: u64,
}

impl Inbox {
    /// With a region of so many lines, of zeroes.
    pub fn new(lines: usize) -> Self {
        let arrivals = Arrivals::default();
        let plain = core::iter::repeat_with(SharedLine::default).take(lines).collect();
        let (lines, is_broken) = (Arc::new(Lines::Plain(plain)), Arc::default());
        let number = arrivals.expect_lines(&lines, &is_broken).unwrap_or(0);
        Self { arrivals, lines, is_broken, number }
    }

    /// Takes a message.
    pub fn take(&self, head: &Line, data: &[u8]) {
        self.arrivals.take(head, data);
    }

    /// What the region holds.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.iter().map(SharedLine::read).collect()
    }

    /// Whether its writer broke the rules.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox {} of {} lines", self.number, self.lines.len())
    }
}
