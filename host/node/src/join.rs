//! How a node becomes a member: it asks a seed where the log is, and the log's node lets it in.
//!
//! One text id is one living node. A newcomer with the id of a member that still answers is
//! refused; one whose predecessor is gone takes its place as a new incarnation.

use crate::enter::command_of;
use crate::link::leader_known_by;
use crate::service::{Joined, refused};
use crate::start_error::StartError;
use core::time::Duration;
use tokio::time::{Instant, sleep};
use zepto_client::message::{JoinRequest, Request, Response};
use zepto_client::{ClientError, ask};
use zepto_control::{ControlLog, Outcome, Reason};
use zepto_core::detect::Opinion;
use zepto_core::topology::{Member, MemberState};
use zepto_core::{NodeId, Refusal};
use zepto_rpc::{ConnectError, Failure, Peers};
use zepto_transport::Transport;

/// Time for the log to let somebody in.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
/// Time for a member to show that it lives.
const PING_WITHIN: Duration = Duration::from_millis(500);
/// Time for one seed to answer.
const SEED_WITHIN: Duration = Duration::from_secs(2);
/// Pause between two rounds over the seeds.
const SEED_PAUSE: Duration = Duration::from_millis(200);

/// The log's node's side: checks that the id is free and proposes the membership.
pub(crate) async fn welcome<T: Transport>(
    joined: &Joined<T>,
    peers: &Peers,
    request: JoinRequest,
) -> Result<Response, Failure> {
    if joined.keeper.is_none() {
        let address = match &joined.log {
            zepto_control::AnyLog::Follower(follower) => Some(follower.link().leader()),
            zepto_control::AnyLog::Single(_) => None,
        };
        return Ok(Response::Leader { address });
    }
    if let Some(theirs) = request.cluster.filter(|cluster| *cluster != joined.cluster) {
        let text = format!(
            "its data directory belongs to cluster {theirs:032x}, this is cluster {:032x}",
            joined.cluster
        );
        return Err(refused(Refusal::Malformed, &text));
    }
    let state = joined.log.state();
    let view = state.view();
    if let Some(member) = view.placement().member_named(&request.name)
        && let Some(text) = still_lives(joined, peers, member).await
    {
        return Err(refused(Refusal::LimitReached, &text));
    }
    let name = request.name.clone();
    let command = command_of(request);
    match joined.log.propose(command, PROPOSE_WITHIN).await {
        Outcome::Committed { index } => {
            let node = state.view().placement().member_named(&name).map(|member| member.id);
            let node = node.ok_or_else(|| Failure::Unknown("joined, but not there".into()))?;
            Ok(Response::Joined { node, cluster: joined.cluster, index })
        }
        Outcome::Refused { why, .. } => Err(refused(refusal_of(&why), &why.to_string())),
        Outcome::Unknown(why) => Err(Failure::Unknown(why)),
    }
}

/// Why a member's id is not free: it lives, or that is not known yet.
async fn still_lives<T: Transport>(
    joined: &Joined<T>,
    peers: &Peers,
    member: &Member,
) -> Option<String> {
    if member.state == MemberState::Dead {
        return None;
    }
    let in_use = format!(
        "node id {:?} is in use by a live node at {}; choose another --node-id",
        member.name, member.address
    );
    if member.id == joined.node {
        return Some(in_use);
    }
    match ask(peers, &member.address, &Request::Ping, PING_WITHIN).await {
        Ok(Response::Pong { incarnation, .. }) if incarnation == member.incarnation => Some(in_use),
        // Somebody else answers there, or nobody: the old life is over.
        Ok(_) | Err(ClientError::Unreachable(_)) => None,
        Err(_) => {
            let opinions = joined.opinions.load();
            let heard = opinions.get(&member.id).is_some_and(|seen| {
                seen.incarnation == member.incarnation && seen.opinion == Opinion::Alive
            });
            heard.then(|| format!("{in_use}, or wait until it is declared dead"))
        }
    }
}

/// What became of joining.
pub struct Membership {
    /// The node's id.
    pub node: NodeId,
    /// The cluster.
    pub cluster: u128,
    /// Index of the entry that made it a member.
    pub index: u64,
    /// Where the log is kept.
    pub leader: String,
}

/// The newcomer's side: asks the seeds in turn until one leads to the log, up to a deadline.
///
/// # Errors
/// What the last seed said, or why the log's node refused.
pub async fn join(
    peers: &Peers,
    seeds: &[String],
    request: &JoinRequest,
    within: Duration,
) -> Result<Membership, StartError> {
    let until = Instant::now() + within;
    let mut last = String::from("none was asked");
    loop {
        for seed in seeds {
            match try_seed(peers, seed, request).await {
                Ok(membership) => return Ok(membership),
                Err(Rejected::ForGood(text)) => return Err(StartError::Refused(text)),
                Err(Rejected::ForNow(text)) => last = text,
            }
        }
        if Instant::now() + SEED_PAUSE >= until {
            return Err(StartError::Join(format!(
                "none of the seeds {} let this node in within {} ms (last: {last}); start the \
                 first node of a new cluster without --seed",
                seeds.join(", "),
                within.as_millis()
            )));
        }
        sleep(SEED_PAUSE).await;
    }
}

enum Rejected {
    ForGood(String),
    ForNow(String),
}

async fn try_seed(
    peers: &Peers,
    seed: &str,
    request: &JoinRequest,
) -> Result<Membership, Rejected> {
    let Some(leader) = leader_known_by(peers, seed, SEED_WITHIN).await else {
        return Err(match peers.get(seed, SEED_WITHIN).await {
            Err(error @ ConnectError::Refused { reason, .. }) if !reason.is_transient() => {
                Rejected::ForGood(error.to_string())
            }
            Err(error) => Rejected::ForNow(format!("{seed}: {error}")),
            Ok(_) => Rejected::ForNow(format!("{seed}: knows no log yet")),
        });
    };
    let join = Request::Join(request.clone());
    match ask(peers, &leader, &join, PROPOSE_WITHIN + PING_WITHIN).await {
        Ok(Response::Joined { node, cluster, index }) => {
            Ok(Membership { node, cluster, index, leader })
        }
        Ok(_) => Err(Rejected::ForNow(format!("{leader} does not keep the log"))),
        Err(ClientError::Refused { reason: Refusal::LimitReached | Refusal::Malformed, text }) => {
            Err(Rejected::ForGood(text))
        }
        Err(error) => Err(Rejected::ForNow(format!("{leader}: {error}"))),
    }
}

/// The refusal that a client is told for the log's.
pub(crate) fn refusal_of(why: &Reason) -> Refusal {
    match why {
        Reason::NoLeader(_) => Refusal::NoLeader,
        Reason::Overloaded | Reason::InFlight(_) => Refusal::Overloaded,
        Reason::Stopped => Refusal::Draining,
        Reason::Topology(_) | Reason::Invalid(_) => Refusal::Malformed,
        Reason::Failed(_) => Refusal::NoLeader,
    }
}
