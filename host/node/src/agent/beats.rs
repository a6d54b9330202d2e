//! What a conductor counts: heartbeats sent, heard, and ignored with the reason.
//!
//! Written by the conductor's thread alone, read by anyone. Every packet that came in is counted as
//! heard or under one reason, never both.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zepto_client::message::HeartbeatCounters;
use zepto_core::detect::Ignored;

/// The counters of one conductor.
#[derive(Debug, Default)]
pub struct Beats {
    rounds: AtomicU64,
    sent: AtomicU64,
    unsent: AtomicU64,
    held_back: AtomicU64,
    heard: AtomicU64,
    malformed: AtomicU64,
    unauthenticated: AtomicU64,
    stranger: AtomicU64,
    other_incarnation: AtomicU64,
    replayed: AtomicU64,
}

/// Adds one; there is one writer.
fn one(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

impl Beats {
    /// A round of the conductor is over.
    pub fn round(&self) {
        one(&self.rounds);
    }

    /// Rounds so far: a conductor that hangs stands still.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Relaxed)
    }

    /// A heartbeat went out, or the system did not take it.
    pub fn sent(&self, taken: bool) {
        one(if taken { &self.sent } else { &self.unsent });
    }

    /// Heartbeats were due, and not sent because an agent of this node stands still.
    pub fn held_back(&self) {
        one(&self.held_back);
    }

    /// A heartbeat of a member came in, or one that does not count.
    pub fn heard(&self, ignored: Option<Ignored>) {
        one(match ignored {
            None => &self.heard,
            Some(Ignored::Stranger) => &self.stranger,
            Some(Ignored::OtherIncarnation) => &self.other_incarnation,
            Some(Ignored::Replayed) => &self.replayed,
        });
    }

    /// A packet came in that is no heartbeat.
    pub fn malformed(&self) {
        one(&self.malformed);
    }

    /// A packet came in whose authentication code is missing or wrong.
    pub fn unauthenticated(&self) {
        one(&self.unauthenticated);
    }

    /// All of them, for the status.
    pub fn counters(&self) -> HeartbeatCounters {
        HeartbeatCounters {
            sent: self.sent.load(Relaxed),
            unsent: self.unsent.load(Relaxed),
            held_back: self.held_back.load(Relaxed),
            heard: self.heard.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            unauthenticated: self.unauthenticated.load(Relaxed),
            stranger: self.stranger.load(Relaxed),
            other_incarnation: self.other_incarnation.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_counted_once() {
        let beats = Beats::default();
        let reasons = [Ignored::Stranger, Ignored::OtherIncarnation, Ignored::Replayed];
        reasons.into_iter().map(Some).chain([None]).for_each(|ignored| beats.heard(ignored));
        beats.malformed();
        beats.unauthenticated();
        let read = beats.counters();
        let each = [
            read.heard,
            read.malformed,
            read.unauthenticated,
            read.stranger,
            read.other_incarnation,
            read.replayed,
        ];
        assert_eq!(each, [1; 6]);
    }
}
