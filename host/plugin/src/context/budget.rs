//! So many of something in a second.

use zepto_core::time::Nanos;

const SECOND: u64 = 1_000_000_000;

/// Counts within one second at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct PerSecond {
    most: u32,
    begun: Nanos,
    taken: u32,
    refused: u64,
}

impl PerSecond {
    pub fn new(most: u32) -> Self {
        Self { most, begun: Nanos(0), taken: 0, refused: 0 }
    }

    /// Whether there is room for one more now.
    pub fn take(&mut self, now: Nanos) -> bool {
        if now.0.saturating_sub(self.begun.0) >= SECOND {
            (self.begun, self.taken) = (now, 0);
        }
        let has_room = self.taken < self.most;
        if has_room {
            self.taken += 1;
        } else {
            self.refused += 1;
        }
        has_room
    }

    /// How many were refused since the last call.
    pub fn take_refused(&mut self) -> u64 {
        core::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_in_each_second() {
        let mut budget = PerSecond::new(2);
        let taken =
            |budget: &mut PerSecond, now| (0..5).filter(|_| budget.take(Nanos(now))).count();
        assert_eq!(taken(&mut budget, SECOND), 2);
        assert_eq!(taken(&mut budget, 2 * SECOND - 1), 0);
        assert_eq!(budget.take_refused(), 8);
        assert_eq!(taken(&mut budget, 2 * SECOND), 2);
    }
}
