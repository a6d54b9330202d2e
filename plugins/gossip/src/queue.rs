//! What foca wants to be told later. It has many timers, and the host gives one plugin few: they
//! wait here, and one timer of the host is for the first of them.

use crate::identity::Peer;
use core::time::Duration;
use foca::{Identity, Timer};
use std::collections::BTreeMap;

/// Timers at a time but for those of nodes that are down: beyond this the last is lost. A handful
/// is usual.
const TIMERS_MAX: usize = 1000;
/// Nodes that are down and wait to be forgotten.
const FORGET_MAX: usize = 20_000;

/// When it runs out, and a number.
type Key = (u64, u64);

/// What has run out.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// A timer.
    Timer(Timer<Peer>),
    /// A node with this address in foca's sense is to be forgotten if it is down.
    Forget(u64),
}

/// Timers, in the order in which they run out.
#[derive(Debug, Default)]
pub struct Queue {
    timers: BTreeMap<Key, Timer<Peer>>,
    forget: BTreeMap<Key, u64>,
    /// A later life that goes down takes the place of the one before, so a node that comes and goes
    /// is there once and not a thousand times.
    forget_at: BTreeMap<u64, Key>,
    sequence: u64,
}

impl Queue {
    /// Has a timer run out after a while.
    pub fn push(&mut self, timer: Timer<Peer>, now: u64, after: Duration) {
        self.sequence += 1;
        let key = (now.saturating_add(after.as_nanos() as u64), self.sequence);
        let Timer::RemoveDown(peer) = &timer else {
            self.timers.insert(key, timer);
            if self.timers.len() > TIMERS_MAX {
                self.timers.pop_last();
            }
            return;
        };
        if let Some(before) = self.forget_at.insert(peer.addr(), key) {
            self.forget.remove(&before);
        }
        self.forget.insert(key, peer.addr());
        if self.forget.len() > FORGET_MAX
            && let Some((_, last)) = self.forget.pop_last()
        {
            self.forget_at.remove(&last);
        }
    }

    /// One that has run out, the first first.
    pub fn pop(&mut self, now: u64) -> Option<Due> {
        if let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) {
            return Some(Due::Timer(first.remove()));
        }
        let is_due = self.forget.first_key_value().is_some_and(|((due, _), _)| *due <= now);
        if is_due { self.pop_forget().map(Due::Forget) } else { None }
    }

    /// The node that is down and would be forgotten first, also before its time.
    pub fn pop_forget(&mut self) -> Option<u64> {
        let (_, node) = self.forget.pop_first()?;
        self.forget_at.remove(&node);
        Some(node)
    }

    /// When the first runs out.
    pub fn next(&self) -> Option<u64> {
        let timer = self.timers.first_key_value().map(|((due, _), _)| *due);
        let forget = self.forget.first_key_value().map(|((due, _), _)| *due);
        [timer, forget].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u64, life: u64) -> Peer {
        let id = format!("n{id}");
        let peer = Peer::at("10.0.0.1:7946".parse().unwrap());
        Peer { id: id.as_str().into(), life, ..peer }
    }

    fn gone(id: u64, life: u64) -> Timer<Peer> {
        Timer::RemoveDown(peer(id, life))
    }

    #[test]
    fn timers_run_out_in_order() {
        let mut queue = Queue::default();
        queue.push(gone(1, 1), 100, Duration::from_nanos(20));
        for (timer, after) in [(1, 30), (2, 10), (3, 10)] {
            queue.push(Timer::ProbeRandomMember(timer), 100, Duration::from_nanos(after));
        }
        assert_eq!((queue.next(), queue.pop(109)), (Some(110), None));
        let mut pop = |now| queue.pop(now).unwrap();
        let probe = |timer| Due::Timer(Timer::ProbeRandomMember(timer));
        assert_eq!([pop(120), pop(120)], [2, 3].map(probe));
        assert_eq!([pop(120), pop(130)], [Due::Forget(peer(1, 1).addr()), probe(1)]);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_node_that_comes_and_goes_is_there_once() {
        let mut queue = Queue::default();
        for life in 0..1000 {
            queue.push(gone(1, life), life, Duration::from_nanos(5));
        }
        assert_eq!((queue.pop(1003), queue.next()), (None, Some(1004)));
        assert_eq!(queue.pop(1004), Some(Due::Forget(peer(1, 0).addr())));
        assert_eq!(queue.pop(u64::MAX), None);
        assert!(queue.forget_at.is_empty());
    }

    #[test]
    fn it_does_not_grow_beyond_its_bounds() {
        let mut queue = Queue::default();
        for id in 0..FORGET_MAX as u64 + 10 {
            queue.push(gone(id, 0), id, Duration::from_nanos(5));
            queue.push(Timer::ProbeRandomMember(1), id, Duration::from_nanos(5));
        }
        assert_eq!((queue.timers.len(), queue.forget.len()), (TIMERS_MAX, FORGET_MAX));
        assert_eq!(queue.forget_at.len(), FORGET_MAX);
        assert_eq!(queue.next(), Some(5), "what is soon is kept");
        assert_eq!(queue.pop_forget(), Some(peer(0, 0).addr()));
    }
}
