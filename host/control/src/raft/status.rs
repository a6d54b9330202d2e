//! What consensus shows of itself: for the status page, and for whoever decides on voters.

use super::Raft;
use super::peers::{Peer, PeerLink, PeerRole};
use super::types::Types;
use crate::outcome::Reason;
use core::sync::atomic::Ordering;
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, RaftMetrics};

/// Where this peer's consensus stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This peer's voter id.
    pub id: u64,
    /// The term it is in.
    pub term: u64,
    /// The leader it knows; nobody when this node leads and no majority has answered it lately.
    pub leader: Option<Peer>,
    /// Index of the last entry it has, committed or not.
    pub last: u64,
    /// Index of the last entry it knows to be committed.
    pub committed: u64,
    /// Index of the last entry it has applied.
    pub applied: u64,
    /// Index of the last entry in its snapshot; zero without one.
    pub snapshot: u64,
    /// Index of the last entry that is in its snapshot only; zero without one.
    pub purged: u64,
    /// Ids of the voters; of both sets while one replaces the other.
    pub voters: Vec<u64>,
    /// Ids of the learners.
    pub learners: Vec<u64>,
    /// Durable transactions written since the start.
    pub transactions: u64,
    /// Calls to peers since the start that brought no usable answer.
    pub calls_failed: u64,
}

impl<L: PeerLink> Raft<L> {
    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<Peer> {
        leader_in(&self.core.metrics().borrow_watched())
    }

    /// Whether this node leads, as far as it knows: another one may have been elected since.
    pub fn is_leader(&self) -> bool {
        self.core.is_leader()
    }

    /// The term this node is in.
    pub fn term(&self) -> u64 {
        self.core.metrics().borrow_watched().current_term
    }

    /// Where it stands, all of it at the same moment.
    pub fn status(&self) -> Status {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let index = |id: &Option<super::types::LogId>| id.map_or(0, |id| id.index);
        Status {
            id: self.id,
            term: metrics.current_term,
            leader: leader_in(&metrics).filter(|_| self.is_followed(&metrics)),
            last: metrics.last_log_index.unwrap_or_default(),
            committed: index(&metrics.local_committed),
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            transactions: self.transactions.load(Ordering::Relaxed),
            calls_failed: self.wire.failures.load(Ordering::Relaxed),
        }
    }

    /// All peers, by id.
    pub fn peers(&self) -> Vec<(Peer, PeerRole)> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let role = |id| if voters.contains(&id) { PeerRole::Voter } else { PeerRole::Learner };
        membership.nodes().map(|(id, contact)| (Peer::new(*id, contact), role(*id))).collect()
    }

    /// Waits until this node's consensus ends, and says why: it was stopped, or has failed.
    pub async fn ended(&self) -> Reason {
        let mut metrics = self.core.metrics();
        loop {
            if let Some(reason) = self.failure() {
                return reason;
            }
            if metrics.changed().await.is_err() {
                return self.failure().unwrap_or(Reason::Stopped);
            }
        }
    }

    /// Why this node's consensus is over, when it is.
    pub(crate) fn failure(&self) -> Option<Reason> {
        if let Some(over) = self.flights.over() {
            return Some(over);
        }
        let running = self.core.metrics().borrow_watched().running_state.clone();
        let failed = Reason::Failed(running.err()?.to_string());
        self.flights.close(failed.clone());
        Some(failed)
    }

    /// Whether a majority has answered this node lately, if it leads.
    fn is_followed(&self, metrics: &RaftMetrics<Types>) -> bool {
        let alone = metrics.membership_config.membership().voter_ids().count() < 2;
        let answered = metrics.last_quorum_acked.as_ref().map(|at| at.elapsed());
        let lately = answered.is_some_and(|ago| ago < 2 * self.wire.times.election_max);
        alone || lately || !metrics.state.is_leader()
    }

    pub(crate) fn metrics(&self) -> RaftMetrics<Types> {
        self.core.metrics().borrow_watched().clone()
    }
}

fn leader_in(metrics: &RaftMetrics<Types>) -> Option<Peer> {
    let id = metrics.current_leader?;
    Some(Peer::new(id, metrics.membership_config.membership().get_node(&id)?))
}
