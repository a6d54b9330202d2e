//! When a plugin that failed is started again, and when no more.

use crate::config::OnFailure;
use core::time::Duration;
use std::collections::VecDeque;
use zepto_core::time::Nanos;

/// The failures of one plugin.
#[derive(Debug)]
pub(super) struct Restarts {
    policy: OnFailure,
    failures: VecDeque<Nanos>,
}

impl Restarts {
    pub fn new(policy: OnFailure) -> Self {
        Self { policy, failures: VecDeque::new() }
    }

    /// It failed: when to start it again; `None` when it failed too often. `random` spreads the
    /// pause by a fifth.
    pub fn after_failure(&mut self, now: Nanos, random: u64) -> Option<Nanos> {
        let window = self.policy.window.as_nanos() as u64;
        while self.failures.front().is_some_and(|at| now.0.saturating_sub(at.0) > window) {
            self.failures.pop_front();
        }
        if self.failures.len() >= self.policy.restarts as usize {
            return None;
        }
        let (first, longest) = self.policy.backoff;
        let doublings = self.failures.len().min(16) as u32;
        let pause = first.saturating_mul(1 << doublings).min(longest);
        self.failures.push_back(now);
        // 80 to 120 percent of it.
        let percent = 80 + random % 41;
        let pause = Duration::from_nanos((pause.as_nanos() as u64 / 100).saturating_mul(percent));
        Some(Nanos(now.0.saturating_add(pause.as_nanos() as u64)))
    }

    /// What failed is not there any more.
    pub fn forget(&mut self) {
        self.failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn pauses_double_and_end_and_old_failures_are_forgotten() {
        let mut restarts = Restarts::new("max=4/10m;backoff=1s..5s".parse().unwrap());
        let mut pause = |at: u64| {
            let again = restarts.after_failure(Nanos(at * SECOND), 20)?;
            Some((again.0 - at * SECOND) / SECOND)
        };
        assert_eq!([pause(0), pause(1), pause(2), pause(3)], [Some(1), Some(2), Some(4), Some(5)]);
        assert_eq!(pause(4), None);
        assert_eq!(pause(601), Some(5), "the first was more than ten minutes ago");
        assert_eq!(pause(601), None);
    }

    #[test]
    fn the_pause_is_spread() {
        let pause = |random| {
            let mut restarts = Restarts::new("backoff=1s..5s".parse().unwrap());
            restarts.after_failure(Nanos(0), random).unwrap().0
        };
        let pauses: Vec<u64> = (0..41).map(pause).collect();
        assert_eq!((pauses[0], pauses[40]), (800_000_000, 1_200_000_000));
    }
}
