//! From opinions to proposals: a member that was heard becomes active, one that nobody hears any
//! more is buried. The detector suggests; the log decides.
//!
//! Only a leader whom a majority follows accuses. To a node that was cut off, all the others look
//! dead; its accusation must not reach the log when the network is back.

use crate::agent::conductor::{Addresses, Observed, Opinions};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;
use zepto_client::ask;
use zepto_client::message::{Request, Response};
use zepto_control::{Command, ControlLog, Outcome, Reason};
use zepto_core::detect::{Opinion, Profile, Transition};
use zepto_core::topology::MemberState;
use zepto_core::{Incarnation, NodeId};
use zepto_rpc::Peers;

use crate::link::Log;
use crate::wait;

/// Members asked before an accusation becomes a proposal.
const WITNESSES: usize = 3;
/// Time for a proposal about a member.
const PROPOSE_WITHIN: Duration = Duration::from_secs(2);
/// Time between two resolutions of the members' names.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// What the membership task works with.
pub struct Membership {
    /// This node.
    pub me: NodeId,
    /// The log.
    pub log: Log,
    /// The way to the others.
    pub peers: Peers,
    /// The detector's times.
    pub profile: Profile,
    /// What this node's detector thinks.
    pub opinions: Opinions,
}

impl Membership {
    /// Turns transitions into proposals, until the conductor is gone.
    pub async fn run(self, mut transitions: Receiver<Transition>) {
        let mut again = tokio::time::interval(self.profile.suspect_after);
        loop {
            tokio::select! {
                change = transitions.recv() => match change {
                    Some(change) => self.react(change).await,
                    None => return,
                },
                // Proposals get lost; what still stands is proposed again.
                _ = again.tick() => self.repeat().await,
            }
        }
    }

    async fn react(&self, change: Transition) {
        match change {
            Transition::Heard(node, incarnation) => {
                tracing::info!(%node, %incarnation, "heard");
                self.activate(node, incarnation).await;
            }
            Transition::Cleared(node, incarnation) => {
                tracing::info!(%node, %incarnation, "no longer SUSPECT: heard again");
            }
            Transition::Suspected(node, incarnation) => {
                tracing::warn!(%node, %incarnation, "SUSPECT: silent");
            }
            Transition::Accused(node, incarnation) => self.accuse(node, incarnation).await,
        }
    }

    async fn repeat(&self) {
        let view = self.log.state().view();
        let opinions = self.opinions.load_full();
        for member in &view.placement().members {
            let Some(seen) = opinions.get(&member.id) else { continue };
            if seen.incarnation != member.incarnation {
                continue;
            }
            match (member.state, seen.opinion) {
                (MemberState::Joining, Opinion::Alive) if seen.heard.is_some() => {
                    self.activate(member.id, member.incarnation).await;
                }
                (MemberState::Dead, _) => {}
                (_, Opinion::Accused) => self.accuse(member.id, member.incarnation).await,
                _ => {}
            }
        }
    }

    async fn activate(&self, node: NodeId, incarnation: Incarnation) {
        let view = self.log.state().view();
        let member = view.placement().member(node);
        let joining =
            member.is_some_and(|m| m.incarnation == incarnation && m.state == MemberState::Joining);
        if joining {
            self.propose(Command::Activate { node, incarnation }).await;
        }
    }

    /// Asks others whether they hear the member; proposes its death if none does. While another
    /// node leads, or none, the accusation stands until it is repeated.
    async fn accuse(&self, node: NodeId, incarnation: Incarnation) {
        if !self.leads() {
            return;
        }
        let view = self.log.state().view();
        let active = view.placement().members.iter().filter(|member| {
            member.state == MemberState::Active && member.id != node && member.id != self.me
        });
        let limit = self.profile.suspect_after;
        for witness in active.take(WITNESSES) {
            let question = Request::Heard { node, incarnation };
            let within = self.profile.interval.max(Duration::from_millis(500));
            let Ok(Response::Heard { silent_ms: Some(silent_ms) }) =
                ask(&self.peers, &witness.address, &question, within).await
            else {
                continue;
            };
            if Duration::from_millis(silent_ms) < limit {
                tracing::warn!(%node, witness = witness.name, "silent here, but heard by another");
                return;
            }
        }
        // Asking took a while, in which it may have been heard again.
        if !self.leads() || !is_accused(&self.opinions.load(), node, incarnation) {
            return;
        }
        tracing::error!(%node, %incarnation, "proposing DEAD");
        self.propose(Command::Bury { node, incarnation }).await;
    }

    /// Whether this node leads, and a majority has said so lately.
    fn leads(&self) -> bool {
        self.log.is_leader() && self.log.status().leader.is_some()
    }

    async fn propose(&self, command: Command) {
        match self.log.propose(command, PROPOSE_WITHIN).await {
            Outcome::Committed { .. } => {}
            // Somebody else was faster, or is about to be.
            Outcome::Refused { why: Reason::InFlight(_) | Reason::Topology(_), .. } => {}
            Outcome::Refused { why, .. } => tracing::warn!(%why, "a proposal was refused"),
            Outcome::Unknown(why) => tracing::warn!(why, "a proposal has no answer"),
        }
    }
}

/// Whether a life of a member stands accused here.
fn is_accused(
    opinions: &BTreeMap<NodeId, Observed>,
    node: NodeId,
    incarnation: Incarnation,
) -> bool {
    opinions
        .get(&node)
        .is_some_and(|seen| seen.incarnation == incarnation && seen.opinion == Opinion::Accused)
}

/// Keeps the members' heartbeat addresses resolved. Names are looked up off the conductor, which
/// must never wait for a name server.
pub async fn resolve(me: NodeId, log: Log, addresses: Addresses, is_v4: bool) {
    let state = Arc::clone(log.state());
    loop {
        // Before the view: symbols move the index without a new view.
        let index = state.index();
        let view = state.view();
        let members: Vec<(NodeId, String)> = view
            .placement()
            .members
            .iter()
            .filter(|member| member.id != me && member.state != MemberState::Dead)
            .map(|member| (member.id, member.address.clone()))
            .collect();
        let old = addresses.load_full();
        let looked_up = tokio::task::spawn_blocking(move || look_up(members, &old, is_v4)).await;
        if let Ok(resolved) = looked_up {
            addresses.store(Arc::new(resolved));
        }
        // A change of members resolves again, and so does time: addresses move.
        wait::beyond(&state, index, RESOLVE_EVERY).await;
    }
}

/// A name that cannot be resolved keeps its last address.
fn look_up(
    members: Vec<(NodeId, String)>,
    old: &BTreeMap<NodeId, SocketAddr>,
    is_v4: bool,
) -> BTreeMap<NodeId, SocketAddr> {
    let resolve = |(node, name): (NodeId, String)| {
        let found = name.to_socket_addrs().ok().and_then(|addresses| {
            let mut addresses = addresses.collect::<Vec<_>>();
            // The socket sends to its own family only, except a dual one, which is IPv6.
            addresses.sort_by_key(|address| address.is_ipv4() != is_v4);
            addresses.first().copied()
        });
        if found.is_none() {
            tracing::warn!(%node, name, "cannot resolve a member's address");
        }
        found.or_else(|| old.get(&node).copied()).map(|address| (node, address))
    };
    members.into_iter().filter_map(resolve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_heard_again_or_began_a_new_life_is_not_accused() {
        let of = |life, opinion| {
            let seen = Observed { incarnation: Incarnation(life), opinion, heard: None };
            BTreeMap::from([(NodeId(2), seen)])
        };
        let accused =
            |opinions: &BTreeMap<_, _>, node| is_accused(opinions, NodeId(node), Incarnation(1));
        assert!(accused(&of(1, Opinion::Accused), 2));
        assert!(!accused(&of(1, Opinion::Alive), 2));
        assert!(!accused(&of(2, Opinion::Accused), 2));
        assert!(!accused(&of(1, Opinion::Accused), 3));
    }
}
