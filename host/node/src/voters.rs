//! Who votes on the log: the leader looks from time to time whether the right ones do.

use crate::link::Log;
use core::time::Duration;
use std::collections::BTreeSet;
use zepto_control::raft::{Candidate, Demoted, PeerRole, choose_voters};
use zepto_control::{ControlLog, Outcome};
use zepto_core::topology::MemberState;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time for a change of the voters: those who do not vote yet have to catch up.
const CHANGE_WITHIN: Duration = Duration::from_secs(10);

/// Looks, for ever. Does nothing while another node leads.
pub async fn tend(log: Log) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if log.is_leader() {
            look(&log).await;
        }
    }
}

async fn look(log: &Log) {
    let view = log.state().view();
    let peers = log.peers();
    let member = |name: &str| view.placement().member_named(name);
    let candidates: Vec<Candidate> = peers
        .iter()
        .map(|(peer, _)| {
            let member = member(&peer.name);
            Candidate {
                id: peer.id,
                alive: member.is_some_and(|member| member.state == MemberState::Active),
                witness: member.is_some_and(|member| member.weight == 0),
            }
        })
        .collect();
    let voters = peers.iter().filter(|(_, role)| *role == PeerRole::Voter);
    let voters: BTreeSet<u64> = voters.map(|(peer, _)| peer.id).collect();
    let wanted = choose_voters(&candidates, &voters);
    if wanted != voters {
        tracing::info!(from = ?voters, to = ?wanted, "changing the voters");
        report(log.set_voters(wanted, Demoted::Learner, CHANGE_WITHIN).await);
    }
}

fn report(outcome: Outcome) {
    match outcome {
        Outcome::Committed { .. } => {}
        Outcome::Refused { why, .. } => tracing::info!(%why, "the voters stay as they are"),
        Outcome::Unknown(why) => tracing::info!(why, "a change of the voters has no answer"),
    }
}
