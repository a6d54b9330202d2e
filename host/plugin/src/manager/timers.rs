//! The timers of one instance.

use std::collections::BTreeMap;
use zepto_core::time::Nanos;

/// When each timer runs out, and after how long again.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<u64, (Nanos, u64)>);

impl Timers {
    /// Sets a timer, or sets it anew.
    pub fn set(&mut self, id: u64, now: Nanos, delay_ns: u64, period_ns: u64) {
        self.0.insert(id, (Nanos(now.0.saturating_add(delay_ns)), period_ns));
    }

    /// Takes a timer back.
    pub fn cancel(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// When the next one runs out.
    pub fn next(&self) -> Option<Nanos> {
        self.0.values().map(|(due, _)| *due).min()
    }

    /// The one that ran out longest ago, and whether it repeats. One that was late does not make up
    /// for what it missed.
    pub fn pop(&mut self, now: Nanos) -> Option<(u64, bool)> {
        let due = self.0.iter().filter(|(_, (due, _))| *due <= now);
        let (id, period_ns) = due.min_by_key(|(_, (due, _))| *due).map(|(id, (_, p))| (*id, *p))?;
        if period_ns == 0 {
            self.0.remove(&id);
        } else {
            self.set(id, now, period_ns, period_ns);
        }
        Some((id, period_ns != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_run_out_in_order_and_repeat_without_catching_up() {
        let mut timers = Timers::default();
        timers.set(1, Nanos(0), 100, 0);
        timers.set(2, Nanos(0), 50, 10);
        assert_eq!((timers.next(), timers.pop(Nanos(49))), (Some(Nanos(50)), None));
        assert_eq!(timers.pop(Nanos(500)), Some((2, true)));
        assert_eq!(timers.pop(Nanos(500)), Some((1, false)));
        assert_eq!(timers.pop(Nanos(509)), None);
        assert_eq!(timers.next(), Some(Nanos(510)));
        timers.set(2, Nanos(600), u64::MAX, 0);
        assert_eq!(timers.next(), Some(Nanos(u64::MAX)));
        timers.cancel(2);
        assert_eq!(timers.next(), None);
    }
}
