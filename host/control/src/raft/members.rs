//! Changes of the log's own peers: who follows, who votes.
//!
//! Only the leader makes them, one at a time. Each is an entry (two, when voters change: first
//! both sets decide together, then the new one alone), and ends like a proposal. A change that was
//! begun is carried to its end here, even when whoever asked for it does not wait.

use super::Raft;
use super::peers::{Peer, PeerLink};
use super::propose::{end_of, left};
use super::runtime::Runtime;
use super::types::{Contact, Types};
use crate::outcome::{Outcome, Reason, Subject};
use core::time::Duration;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{AsyncRuntime, ChangeMembers, RaftMetrics};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::{Instant, sleep, timeout_at};
use zepto_core::limits::{
    ADDRESS_BYTES_MAX, LOG_KEEP_ENTRIES, LOG_PEERS_MAX, NODE_NAME_BYTES_MAX, VOTERS_MAX,
};

/// What becomes of a voter that is one no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demoted {
    /// It follows as a learner.
    Learner,
    /// It is no peer any more.
    Removed,
}

type Change = ChangeMembers<u64, Contact>;

impl<L: PeerLink> Raft<L> {
    /// Makes a peer a learner, or corrects the name and address of one that is known. With
    /// `replace`, other ids with its name are removed after that: a node that lost its log has a
    /// new id. Without, they are a reason to refuse.
    pub async fn admit(&self, peer: Peer, replace: bool, deadline: Duration) -> Outcome {
        let end = end_of(deadline);
        let metrics = match self.leading() {
            Ok(metrics) => metrics,
            Err(why) => return Outcome::refused(why),
        };
        let membership = metrics.membership_config.membership();
        let namesakes: Vec<u64> = membership
            .nodes()
            .filter(|(id, contact)| **id != peer.id && contact.name == peer.name)
            .map(|(id, _)| *id)
            .collect();
        if let Err(why) = self.may_admit(&metrics, &peer, &namesakes, replace) {
            return Outcome::refused(Reason::Invalid(why));
        }
        let (id, contact) = (peer.id, peer.contact());
        let nodes = BTreeMap::from([(id, contact.clone())]);
        let mut outcome = match membership.get_node(&id) {
            Some(known) if *known == contact => {
                let index = metrics.membership_config.log_id().map_or(0, |id| id.index);
                Outcome::Committed { index }
            }
            Some(_) => self.change(Change::SetNodes(nodes), true, end).await,
            None => self.change(Change::AddNodes(nodes), true, end).await,
        };
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        for old in namesakes {
            let Outcome::Committed { .. } = outcome else { break };
            let old_set = BTreeSet::from([old]);
            outcome = match voters.contains(&old) {
                true => self.change(Change::RemoveVoters(old_set), false, end).await,
                false => self.change(Change::RemoveNodes(old_set), false, end).await,
            };
        }
        outcome
    }

    fn may_admit(
        &self,
        metrics: &RaftMetrics<Types>,
        peer: &Peer,
        namesakes: &[u64],
        replace: bool,
    ) -> Result<(), String> {
        let known = metrics.membership_config.membership();
        if peer.id == 0 || peer.name.is_empty() || peer.address.is_empty() {
            return Err("a peer has an id, a name and an address".into());
        }
        if peer.name.len() > NODE_NAME_BYTES_MAX || peer.address.len() > ADDRESS_BYTES_MAX {
            return Err("a peer's name has up to 64 bytes and its address up to 256".into());
        }
        if known.get_node(&peer.id).is_none() && known.nodes().count() >= LOG_PEERS_MAX {
            return Err("the control log has as many peers as it may have".into());
        }
        if namesakes.contains(&self.id) {
            return Err(format!("{:?} is the name of the leader, which is alive", peer.name));
        }
        match namesakes.first() {
            Some(old) if !replace => {
                Err(format!("{:?} is the name of voter {old:016x} already", peer.name))
            }
            _ => Ok(()),
        }
    }

    /// Makes these peers the voters, and no others. Waits until those that do not vote yet have
    /// caught up: a voter that is behind counts for the majority and helps it nothing.
    pub async fn set_voters(
        &self,
        voters: BTreeSet<u64>,
        demoted: Demoted,
        deadline: Duration,
    ) -> Outcome {
        if voters.is_empty() || voters.len() > VOTERS_MAX {
            let text = format!("the control log has 1 to {VOTERS_MAX} voters");
            return Outcome::refused(Reason::Invalid(text));
        }
        let end = end_of(deadline);
        loop {
            let metrics = match self.leading() {
                Ok(metrics) => metrics,
                Err(why) => return Outcome::refused(why),
            };
            let behind = voters.iter().find(|id| is_behind(&metrics, **id));
            let Some(behind) = behind else { break };
            if metrics.membership_config.get_node(behind).is_none() {
                let text = format!("voter {behind:016x} is no peer of the control log");
                return Outcome::refused(Reason::Invalid(text));
            }
            if left(end) <= self.wire.times.heartbeat {
                return Outcome::refused(Reason::InFlight(Subject::Cluster));
            }
            sleep(self.wire.times.heartbeat).await;
        }
        self.change(Change::ReplaceAllVoters(voters), demoted == Demoted::Learner, end).await
    }

    /// Removes a learner. One that is no peer is gone already.
    pub async fn forget(&self, id: u64, deadline: Duration) -> Outcome {
        let metrics = match self.leading() {
            Ok(metrics) => metrics,
            Err(why) => return Outcome::refused(why),
        };
        let membership = metrics.membership_config.membership();
        if membership.voter_ids().any(|voter| voter == id) {
            return Outcome::refused(Reason::Invalid(format!("{id:016x} votes")));
        }
        if membership.get_node(&id).is_none() {
            let index = metrics.membership_config.log_id().map_or(0, |id| id.index);
            return Outcome::Committed { index };
        }
        self.change(Change::RemoveNodes(BTreeSet::from([id])), false, end_of(deadline)).await
    }

    /// Asks another voter to lead, before this one goes away. It may not come to pass; see who
    /// leads afterwards.
    pub async fn hand_over(&self, to: u64) {
        if let Err(error) = self.core.trigger().transfer_leader(to).await {
            tracing::debug!(%error, "the lead cannot be handed over");
        }
    }

    fn leading(&self) -> Result<RaftMetrics<Types>, Reason> {
        if let Some(over) = self.failure() {
            return Err(over);
        }
        let metrics = self.metrics();
        if metrics.state.is_leader() {
            return Ok(metrics);
        }
        Err(Reason::NoLeader(match self.leader() {
            Some(leader) => format!("{leader} leads"),
            None => "none is known".into(),
        }))
    }

    async fn change(&self, change: Change, retain: bool, end: Instant) -> Outcome {
        let core = self.core.clone();
        let steps = match change {
            Change::ReplaceAllVoters(_) | Change::RemoveVoters(_) => 2,
            _ => 1,
        };
        // A change of voters has two steps; it is not left between them by a caller that goes.
        let task = Runtime::spawn(async move { core.change_membership(change, retain).await });
        match timeout_at(end, task).await {
            Ok(Ok(Ok(written))) => {
                let outcome = Outcome::Committed { index: written.log_id.index };
                super::open::settle(&self.state, outcome, left(end)).await
            }
            Ok(Ok(Err(error))) => refusal(error, steps),
            Ok(Err(error)) => Outcome::Unknown(error.to_string()),
            Err(_) => Outcome::Unknown("the change of peers did not end in time".into()),
        }
    }
}

/// Whether a peer lacks more of the log than a moment's worth. The leader's own view.
fn is_behind(metrics: &RaftMetrics<Types>, id: u64) -> bool {
    let voters = metrics.membership_config.voter_ids();
    if voters.into_iter().any(|voter| voter == id) {
        return false;
    }
    let replicated = metrics.replication.as_ref().and_then(|peers| peers.get(&id));
    let Some(Some(matched)) = replicated else { return true };
    matched.index + LOG_KEEP_ENTRIES < metrics.last_log_index.unwrap_or_default()
}

fn refusal(error: RaftError<Types, ClientWriteError<Types>>, steps: u32) -> Outcome {
    match error {
        // After the first of two steps it would mean that only the second was not made.
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) if steps == 1 => {
            Outcome::refused(Reason::NoLeader(forward.to_string()))
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::InProgress(_) => {
                Outcome::refused(Reason::InFlight(Subject::Cluster))
            }
            error => Outcome::refused(Reason::Invalid(error.to_string())),
        },
        error => Outcome::Unknown(error.to_string()),
    }
}
