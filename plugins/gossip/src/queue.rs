//! What foca wants to be told later. It has many timers, and the host gives one plugin few: they
//! wait here, and one timer of the host is for the first of them.

use crate::identity::{Peer, Text};
use core::time::Duration;
use foca::Timer;
use std::collections::BTreeMap;

/// Timers at a time. One for each node that is down, and a handful: beyond this the last is lost.
const TIMERS_MAX: usize = 20_000;

type Key = (u64, u64);

/// Timers, in the order in which they run out.
#[derive(Debug, Default)]
pub struct Queue {
    timers: BTreeMap<Key, Timer<Peer>>,
    /// When each node that is down is forgotten. A later life that goes down takes its place, so a
    /// node that comes and goes leaves one timer behind and not thousands.
    forget: BTreeMap<Text, Key>,
    sequence: u64,
}

impl Queue {
    /// Has a timer run out after a while.
    pub fn push(&mut self, timer: Timer<Peer>, now: u64, after: Duration) {
        self.sequence += 1;
        let key = (now.saturating_add(after.as_nanos() as u64), self.sequence);
        if let Timer::RemoveDown(peer) = &timer
            && let Some(before) = self.forget.insert(peer.id.clone(), key)
        {
            self.timers.remove(&before);
        }
        self.timers.insert(key, timer);
        if self.timers.len() > TIMERS_MAX
            && let Some((_, Timer::RemoveDown(peer))) = self.timers.pop_last()
        {
            self.forget.remove(&peer.id);
        }
    }

    /// One that has run out, the first first.
    pub fn pop(&mut self, now: u64) -> Option<Timer<Peer>> {
        let first = self.timers.first_entry().filter(|first| first.key().0 <= now)?;
        let timer = first.remove();
        if let Timer::RemoveDown(peer) = &timer {
            self.forget.remove(&peer.id);
        }
        Some(timer)
    }

    /// When the first runs out.
    pub fn next(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(id: u64, life: u64) -> Timer<Peer> {
        let id = format!("n{id}");
        let peer = Peer::at("10.0.0.1:7946".parse().unwrap());
        Timer::RemoveDown(Peer { id: id.as_str().into(), life, ..peer })
    }

    #[test]
    fn timers_run_out_in_order() {
        let mut queue = Queue::default();
        for (timer, after) in [(1, 30), (2, 10), (3, 10)] {
            queue.push(Timer::ProbeRandomMember(timer), 100, Duration::from_nanos(after));
        }
        assert_eq!((queue.next(), queue.pop(109)), (Some(110), None));
        let order: Vec<_> = core::iter::from_fn(|| queue.pop(u64::MAX)).collect();
        assert_eq!(order, [2, 3, 1].map(Timer::ProbeRandomMember));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_node_that_comes_and_goes_leaves_one_timer() {
        let mut queue = Queue::default();
        for life in 0..1000 {
            queue.push(gone(1, life), life, Duration::from_nanos(5));
        }
        assert_eq!(queue.timers.len(), 1);
        assert_eq!(queue.pop(2000), Some(gone(1, 999)));
        queue.push(gone(1, 1000), 2000, Duration::from_nanos(5));
        assert_eq!(queue.pop(3000), Some(gone(1, 1000)));
        assert!(queue.timers.is_empty() && queue.forget.is_empty());
    }

    #[test]
    fn it_does_not_grow_beyond_its_bound() {
        let mut queue = Queue::default();
        for id in 0..TIMERS_MAX as u64 + 10 {
            queue.push(gone(id, 0), id, Duration::from_nanos(5));
        }
        queue.push(Timer::ProbeRandomMember(1), 0, Duration::from_nanos(1));
        assert_eq!(queue.timers.len(), TIMERS_MAX);
        assert_eq!(queue.forget.len(), TIMERS_MAX - 1);
        assert_eq!(queue.pop(1), Some(Timer::ProbeRandomMember(1)), "what is soon is kept");
    }
}
