//! The failure detector: who has been silent for too long, in one observer's opinion.
//!
//! Imagine a roll call. Everybody says "here" once per interval, and the observer notes when it
//! last heard each of them. Two silences matter: after the first the observer *suspects*, after
//! the second it *accuses*, which is only a proposal: the control log decides who is dead. A
//! heartbeat from a suspect clears it.
//!
//! The observer may be the sick one. If its own timer came late, it has not listened either, so
//! the time it missed is given to everybody as a grace (after Lifeguard, arXiv 1707.00788).
//!
//! Deliberately without sockets, clocks and randomness; plugins never feed it.

use crate::defect::Defect;
use crate::time::Nanos;
use core::time::Duration;
use std::collections::BTreeMap;
use zepto_abi::{Incarnation, NodeId};

/// The times of a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Between two heartbeats.
    pub interval: Duration,
    /// Silence until a member is suspected.
    pub suspect_after: Duration,
    /// Silence until it is accused of being dead.
    pub dead_after: Duration,
}

impl Profile {
    /// 1 s, 3 s, 10 s.
    pub const DEFAULT: Self = Self {
        interval: Duration::from_secs(1),
        suspect_after: Duration::from_secs(3),
        dead_after: Duration::from_secs(10),
    };
    /// 200 ms, 800 ms, 2 s.
    pub const FAST: Self = Self {
        interval: Duration::from_millis(200),
        suspect_after: Duration::from_millis(800),
        dead_after: Duration::from_secs(2),
    };
}

/// What the observer thinks of a member. JOINING, LEAVING and DEAD are the log's words, not its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Heard within the suspicion time, or not silent for that long yet.
    Alive,
    /// Silent for the suspicion time.
    Suspect,
    /// Silent for the death time; the accusation stands until it is heard or leaves the log.
    Accused,
}

/// A change of opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// First heartbeat of this incarnation with a trailer: it is ready.
    Heard(NodeId, Incarnation),
    /// A suspect or accused member was heard again.
    Cleared(NodeId, Incarnation),
    /// Silent for the suspicion time.
    Suspected(NodeId, Incarnation),
    /// Silent for the death time: worth asking others, then the log.
    Accused(NodeId, Incarnation),
}

/// Why a heartbeat did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Not a member, or the observer itself.
    Stranger,
    /// Another incarnation than the log's.
    OtherIncarnation,
    /// A number that was seen already, or an older one: a replay or a late packet.
    Replayed,
}

#[derive(Debug)]
struct Peer {
    incarnation: Incarnation,
    heard: Nanos,
    seq: u64,
    ready: bool,
    opinion: Opinion,
}

/// One observer's opinions.
#[derive(Debug)]
pub struct Detector {
    me: NodeId,
    profile: Profile,
    peers: BTreeMap<NodeId, Peer>,
    polled: Option<Nanos>,
}

impl Detector {
    /// An observer that never judges itself.
    pub fn new(me: NodeId, profile: Profile) -> Self {
        Self { me, profile, peers: BTreeMap::new(), polled: None }
    }

    /// Takes the log's members that are not dead: (id, incarnation). New ones get a full
    /// suspicion time from now.
    pub fn watch(&mut self, members: impl IntoIterator<Item = (NodeId, Incarnation)>, now: Nanos) {
        let mut old = core::mem::take(&mut self.peers);
        for (node, incarnation) in members {
            if node == self.me {
                continue;
            }
            let peer = old.remove(&node).filter(|peer| peer.incarnation == incarnation);
            self.peers.insert(node, peer.unwrap_or_else(|| Peer::new(incarnation, now)));
        }
    }

    /// A heartbeat arrived. Without an incarnation (a bare packet) it shows contact only.
    ///
    /// # Errors
    /// Why it did not count; the detector is unchanged.
    pub fn heard(
        &mut self,
        node: NodeId,
        incarnation: Option<Incarnation>,
        seq: u64,
        now: Nanos,
    ) -> Result<Option<Transition>, Ignored> {
        let peer = self.peers.get_mut(&node).ok_or(Ignored::Stranger)?;
        if incarnation.is_some_and(|incarnation| incarnation != peer.incarnation) {
            return Err(Ignored::OtherIncarnation);
        }
        if seq <= peer.seq {
            return Err(Ignored::Replayed);
        }
        peer.seq = seq;
        peer.heard = now;
        let was = core::mem::replace(&mut peer.opinion, Opinion::Alive);
        if incarnation.is_some() && !peer.ready {
            peer.ready = true;
            return Ok(Some(Transition::Heard(node, peer.incarnation)));
        }
        Ok((was != Opinion::Alive).then_some(Transition::Cleared(node, peer.incarnation)))
    }

    /// Looks at the clock. To be called about once per interval or more often; a call that comes
    /// late is the observer's own fault and is held against nobody.
    pub fn poll(&mut self, now: Nanos) -> Vec<Transition> {
        let late = self.lateness(now);
        self.polled = Some(now);
        let mut transitions = Vec::new();
        for (&node, peer) in &mut self.peers {
            peer.heard = peer.heard.after(late).min(now);
            let silent = now.since(peer.heard);
            let opinion = if silent >= self.profile.dead_after {
                Opinion::Accused
            } else if silent >= self.profile.suspect_after {
                Opinion::Suspect
            } else {
                Opinion::Alive
            };
            match (peer.opinion, opinion) {
                (Opinion::Alive, Opinion::Suspect) => {
                    transitions.push(Transition::Suspected(node, peer.incarnation));
                }
                (Opinion::Alive, Opinion::Accused) => {
                    transitions.push(Transition::Suspected(node, peer.incarnation));
                    transitions.push(Transition::Accused(node, peer.incarnation));
                }
                (Opinion::Suspect, Opinion::Accused) => {
                    transitions.push(Transition::Accused(node, peer.incarnation));
                }
                // Grace may lower the measured silence; only a heartbeat clears.
                _ => continue,
            }
            peer.opinion = opinion;
        }
        transitions
    }

    /// The opinion of a member, and of which life of it; `None` for one that is not watched.
    pub fn opinion(&self, node: NodeId) -> Option<(Incarnation, Opinion)> {
        self.peers.get(&node).map(|peer| (peer.incarnation, peer.opinion))
    }

    /// How long a member has been silent, `None` for one that was never heard or is not watched.
    pub fn silence(&self, node: NodeId, now: Nanos) -> Option<Duration> {
        let peer = self.peers.get(&node).filter(|peer| peer.seq > 0)?;
        Some(now.since(peer.heard))
    }

    /// Members that stand accused: an accusation the log has not taken up may be repeated.
    pub fn accused(&self) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
        self.peers
            .iter()
            .filter(|(_, peer)| peer.opinion == Opinion::Accused)
            .map(|(&node, peer)| (node, peer.incarnation))
    }

    /// The part of the time since the last poll that an observer in time would not have missed.
    fn lateness(&self, now: Nanos) -> Duration {
        if Defect::PausedObserverAccuses.planted() {
            return Duration::ZERO;
        }
        let gap = self.polled.map_or(Duration::ZERO, |polled| now.since(polled));
        gap.saturating_sub(self.profile.interval)
    }
}

impl Peer {
    fn new(incarnation: Incarnation, now: Nanos) -> Self {
        Self { incarnation, heard: now, seq: 0, ready: false, opinion: Opinion::Alive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const ONE: Incarnation = Incarnation(1);

    fn detector(profile: Profile) -> Detector {
        let mut detector = Detector::new(A, profile);
        detector.watch([(A, ONE), (B, ONE)], Nanos(0));
        detector
    }

    /// Polls every interval up to a time and returns what changed, with when.
    fn run(detector: &mut Detector, from_ms: u64, to_ms: u64) -> Vec<(u64, Transition)> {
        let step = detector.profile.interval.as_millis() as u64 / 2;
        (from_ms..=to_ms)
            .step_by(step as usize)
            .flat_map(|ms| {
                detector.poll(Nanos::from_millis(ms)).into_iter().map(move |change| (ms, change))
            })
            .collect()
    }

    #[test]
    fn silence_makes_a_suspect_and_then_an_accused_at_the_profiles_times() {
        for (profile, suspect_ms, dead_ms) in
            [(Profile::DEFAULT, 3_000, 10_000), (Profile::FAST, 800, 2_000)]
        {
            let mut detector = detector(profile);
            let heard = detector.heard(B, Some(ONE), 1, Nanos(0));
            assert_eq!(heard, Ok(Some(Transition::Heard(B, ONE))));
            assert_eq!(
                run(&mut detector, 0, 20_000),
                [
                    (suspect_ms, Transition::Suspected(B, ONE)),
                    (dead_ms, Transition::Accused(B, ONE))
                ]
            );
        }
    }

    #[test]
    fn a_heartbeat_clears_a_suspect() {
        let mut detector = detector(Profile::DEFAULT);
        detector.heard(B, Some(ONE), 1, Nanos(0)).unwrap();
        run(&mut detector, 0, 4_000);
        assert_eq!(detector.opinion(B), Some((ONE, Opinion::Suspect)));
        let cleared = detector.heard(B, Some(ONE), 2, Nanos::from_millis(4_100));
        assert_eq!(cleared, Ok(Some(Transition::Cleared(B, ONE))));
        assert_eq!(run(&mut detector, 4_500, 7_000), []);
    }

    #[test]
    fn an_observer_that_was_paused_accuses_nobody() {
        let mut detector = detector(Profile::FAST);
        detector.heard(B, Some(ONE), 1, Nanos(0)).unwrap();
        run(&mut detector, 0, 400);
        assert_eq!(detector.poll(Nanos::from_millis(3_600_000)), []);
        // Its patience starts anew where it stopped.
        let changes = run(&mut detector, 3_600_100, 3_610_000);
        assert_eq!(changes.first().map(|change| change.1), Some(Transition::Suspected(B, ONE)));
        assert!(changes[0].0 >= 3_600_200);
    }

    #[test]
    fn replayed_strange_and_outdated_heartbeats_do_not_count() {
        let mut detector = detector(Profile::DEFAULT);
        detector.heard(B, Some(ONE), 5, Nanos(0)).unwrap();
        assert_eq!(detector.heard(B, Some(ONE), 5, Nanos(1)), Err(Ignored::Replayed));
        assert_eq!(detector.heard(B, Some(ONE), 4, Nanos(1)), Err(Ignored::Replayed));
        let other = detector.heard(B, Some(Incarnation(2)), 6, Nanos(1));
        assert_eq!(other, Err(Ignored::OtherIncarnation));
        assert_eq!(detector.heard(NodeId(9), None, 1, Nanos(1)), Err(Ignored::Stranger));
        assert_eq!(detector.heard(A, Some(ONE), 1, Nanos(1)), Err(Ignored::Stranger));
    }

    #[test]
    fn a_bare_packet_shows_contact_but_not_readiness() {
        let mut detector = detector(Profile::DEFAULT);
        assert_eq!(detector.heard(B, None, 1, Nanos(1)), Ok(None));
        let ready = detector.heard(B, Some(ONE), 2, Nanos(2));
        assert_eq!(ready, Ok(Some(Transition::Heard(B, ONE))));
    }

    #[test]
    fn a_new_incarnation_starts_afresh() {
        let mut detector = detector(Profile::FAST);
        detector.heard(B, Some(ONE), 900, Nanos(0)).unwrap();
        detector.watch([(B, Incarnation(2))], Nanos::from_millis(100));
        let heard = detector.heard(B, Some(Incarnation(2)), 1, Nanos::from_millis(200));
        assert_eq!(heard, Ok(Some(Transition::Heard(B, Incarnation(2)))));
    }
}
