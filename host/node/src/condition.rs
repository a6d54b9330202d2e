//! Whether the node is alive, and whether it takes work: two questions with two answers.
//!
//! Alive means that every agent's thread advances; a node that is not alive should be restarted.
//! Ready means that a client may send it something; a node that is not ready only needs time. Both
//! are looked at when somebody asks: nothing runs in between.

use crate::service::{Joined, Service};
use crate::wire::Wire;
use core::time::Duration;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use zepto_control::ControlLog;
use zepto_core::limits::AGENT_STUCK_MS;
use zepto_core::time::Nanos;
use zepto_core::topology::MemberState;

/// What is remembered between two questions.
#[derive(Debug)]
pub struct Condition {
    /// The wall clock at the start, in nanoseconds since the Unix epoch.
    pub started_wall_ns: u64,
    draining: AtomicBool,
    /// Index of the first view in which this life of the node was seen ACTIVE; 0 before.
    active_index: AtomicU64,
    /// Rounds of every agent, and when they were first seen.
    rounds: Mutex<Vec<(u64, Nanos)>>,
}

impl Condition {
    /// A node that begins now.
    pub fn new(started_wall_ns: u64) -> Self {
        Self {
            started_wall_ns,
            draining: AtomicBool::new(false),
            active_index: AtomicU64::new(0),
            rounds: Mutex::default(),
        }
    }

    /// The node stops: from now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The first agent that has not advanced for too long, by its place in `rounds`, and for how
    /// long.
    fn stuck(&self, rounds: &[u64], now: Nanos) -> Option<(usize, Duration)> {
        let mut known = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        known.resize(rounds.len(), (u64::MAX, now));
        for (known, rounds) in known.iter_mut().zip(rounds) {
            if known.0 != *rounds {
                *known = (*rounds, now);
            }
        }
        let silent = known.iter().map(|(_, since)| now.since(*since)).enumerate();
        silent.into_iter().find(|(_, time)| *time >= Duration::from_millis(AGENT_STUCK_MS))
    }

    /// The index from which on this life of the node is a member that takes work.
    fn active_from(&self, index: u64) -> u64 {
        let old = &self.active_index;
        match old.compare_exchange(0, index, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => index,
            Err(first) => first,
        }
    }
}

impl<T: Wire> Service<T> {
    /// Why the node is not alive, if it is not.
    pub(crate) fn not_alive(&self) -> Option<String> {
        let joined = self.joined.get()?;
        let mut rounds: Vec<u64> = joined.shards.iter().map(|port| port.rounds()).collect();
        rounds.push(self.beats.rounds());
        let (agent, time) = self.condition.stuck(&rounds, self.env.now())?;
        let name = match agent < joined.shards.len() {
            true => format!("shard {agent}"),
            false => "the conductor".to_owned(),
        };
        Some(format!("{name} has not advanced for {} ms", time.as_millis()))
    }

    /// Why the node takes no work, if it does not.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if self.condition.draining.load(Ordering::Acquire) {
            return Some("this node is stopping".to_owned());
        }
        match self.joined.get() {
            Some(joined) => self.not_serving(joined),
            None => Some("this node has not joined a cluster yet".to_owned()),
        }
    }

    fn not_serving(&self, joined: &Joined<T>) -> Option<String> {
        let view = joined.log.state().view();
        let member = view.placement().member(joined.node);
        let Some(member) = member.filter(|member| member.incarnation == self.incarnation) else {
            return Some("the cluster does not know this life of the node".to_owned());
        };
        if member.state != MemberState::Active {
            let state = format!("{:?}", member.state).to_uppercase();
            return Some(format!("the cluster has this node as {state}"));
        }
        // Later views come and go; the first one that is installed opens the door.
        let active_from = self.condition.active_from(view.index());
        let behind = |index: u64| index < active_from;
        let late = joined.shards.iter().position(|port| behind(port.counters().view_index));
        late.map(|shard| format!("shard {shard} has not installed the view yet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_stuck_once_its_rounds_stand_still_for_the_limit() {
        let condition = Condition::new(0);
        let at = Nanos::from_millis;
        assert_eq!(condition.stuck(&[7, 7], at(0)), None, "never looked at before");
        assert_eq!(condition.stuck(&[8, 7], at(AGENT_STUCK_MS - 1)), None);
        let limit = Duration::from_millis(AGENT_STUCK_MS);
        assert_eq!(condition.stuck(&[9, 7], at(AGENT_STUCK_MS)), Some((1, limit)));
        assert_eq!(condition.stuck(&[9, 8], at(AGENT_STUCK_MS + 1)), None, "it went on");
    }

    #[test]
    fn the_first_view_with_the_member_counts_and_no_later_one() {
        let condition = Condition::new(0);
        assert_eq!((condition.active_from(5), condition.active_from(9)), (5, 5));
    }
}
