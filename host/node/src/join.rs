//! How a node becomes a member: it asks somebody where the log is led, and the leader lets it in:
//! as a peer of the log first, so that it learns what is decided, and then as a member.
//!
//! One text id is one living node. A newcomer with the id of a member that still answers is
//! refused; one whose predecessor is gone takes its place as a new incarnation.

use crate::enter::command_of;
use crate::link::{Log, leader_known_by};
use crate::plugins::Seeds;
use crate::service::{Joined, refused};
use crate::start_error::StartError;
use core::time::Duration;
use tokio::time::{Instant, sleep};
use zepto_client::message::{JoinRequest, Request, Response};
use zepto_client::{ClientError, ask};
use zepto_control::raft::Peer;
use zepto_control::{ControlLog, Outcome, Reason};
use zepto_core::detect::Opinion;
use zepto_core::topology::{Member, MemberState};
use zepto_core::{Incarnation, NodeId, Refusal};
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

/// The leader's side: checks that the id is free, lets the newcomer's log follow, and proposes the
/// membership. `joined` is what this node is itself, once it is a member.
pub(crate) async fn welcome<T: Transport>(
    log: &Log,
    joined: Option<&Joined<T>>,
    peers: &Peers,
    request: JoinRequest,
) -> Result<Response, Failure> {
    if !log.is_leader() {
        return Ok(Response::Leader { address: log.leader().map(|leader| leader.address) });
    }
    let cluster = log.state().view().placement().cluster;
    if let Some(theirs) = request.cluster.filter(|theirs| *theirs != cluster) {
        let text = format!(
            "its data directory belongs to cluster {theirs:032x}, this is cluster {cluster:032x}"
        );
        return Err(refused(Refusal::Malformed, &text));
    }
    let view = log.state().view();
    let before = view.placement().member_named(&request.name);
    if let Some(member) = before
        && member.incarnation != request.incarnation
        && let Some(text) = still_lives(joined, peers, member).await
    {
        return Err(refused(Refusal::LimitReached, &text));
    }
    // Each step may take a while, in which somebody else may have taken the name.
    let life = before.map(|member| member.incarnation);
    let (name, address) = (request.name.clone(), request.address.clone());
    let peer = Peer { id: request.voter, name: name.clone(), address };
    still_free(log, &request, life)?;
    committed(log.admit(peer.clone(), true, PROPOSE_WITHIN).await)?;
    still_free(log, &request, life)?;
    committed(log.propose(command_of(&request), PROPOSE_WITHIN).await)?;
    // An earlier life of it may have been forgotten just now, and its peer with it.
    committed(log.admit(peer, true, PROPOSE_WITHIN).await)?;
    let view = log.state().view();
    let node = view.placement().member_named(&name).map(|member| member.id);
    let node = node.ok_or_else(|| Failure::Unknown("joined, but not there".into()))?;
    Ok(Response::Joined { node, cluster, index: log.state().index() })
}

/// Whether a name is as free as it was when its member was of this life.
fn still_free(
    log: &impl ControlLog,
    request: &JoinRequest,
    life: Option<Incarnation>,
) -> Result<(), Failure> {
    let view = log.state().view();
    let now = view.placement().member_named(&request.name).map(|member| member.incarnation);
    if now == life || now == Some(request.incarnation) {
        return Ok(());
    }
    let text = format!("another node joined as {:?} at this moment; try again", request.name);
    Err(refused(Refusal::LimitReached, &text))
}

fn committed(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::Committed { .. } => Ok(()),
        Outcome::Refused { why, .. } => Err(refused(refusal_of(&why), &why.to_string())),
        Outcome::Unknown(why) => Err(Failure::Unknown(why)),
    }
}

/// Why a member's id is not free: it lives, or that is not known yet.
async fn still_lives<T: Transport>(
    joined: Option<&Joined<T>>,
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
    if joined.is_some_and(|joined| joined.node == member.id) {
        return Some(in_use);
    }
    match ask(peers, &member.address, &Request::Ping, PING_WITHIN).await {
        Ok(Response::Pong { incarnation, .. }) if incarnation == member.incarnation => Some(in_use),
        // Somebody else answers there, or nobody: the old life is over.
        Ok(_) | Err(ClientError::Unreachable(_)) => None,
        Err(_) => {
            let opinions = joined?.opinions.load();
            let heard = opinions.get(&member.id).is_some_and(|seen| {
                seen.incarnation == member.incarnation && seen.opinion == Opinion::Alive
            });
            heard.then(|| format!("{in_use}, or wait until it is declared dead"))
        }
    }
}

/// What became of joining.
pub(crate) struct Membership {
    /// The node's id.
    pub node: NodeId,
    /// The cluster.
    pub cluster: u128,
    /// Index of the entry that made it a member.
    pub index: u64,
}

/// The newcomer's side: asks whoever may know, in turn, until one leads to the leader, up to a
/// deadline. That may turn out to be this node itself.
///
/// # Errors
/// What the last one said, or why the leader refused.
pub(crate) async fn join(
    log: &Log,
    peers: &Peers,
    seeds: &Seeds,
    request: &JoinRequest,
    within: Duration,
) -> Result<Membership, StartError> {
    let mut until = Instant::now() + within;
    let mut last = String::from("nobody was asked");
    loop {
        if log.is_leader() {
            match join_own(log, peers, request).await {
                Ok(membership) => return Ok(membership),
                Err(Rejected::ForGood(text)) => return Err(StartError::Refused(text)),
                Err(Rejected::ForNow(text)) => last = text,
            }
        }
        for address in ask_whom(log, seeds, request) {
            match try_at(peers, &address, request).await {
                Ok(membership) => return Ok(membership),
                Err(Rejected::ForGood(text)) => return Err(StartError::Refused(text)),
                Err(Rejected::ForNow(text)) => last = text,
            }
        }
        if Instant::now() + SEED_PAUSE >= until && seeds.is_discovering() {
            // Who waits for discovery waits: nodes come when they come.
            tracing::info!(last, "still looking for the cluster");
            until = Instant::now() + within;
        }
        if Instant::now() + SEED_PAUSE >= until {
            return Err(StartError::Join(format!(
                "none of the seeds {} let this node in within {} ms (last: {last}); start the \
                 first node of a new cluster without --seed",
                seeds.addresses().join(", "),
                within.as_millis()
            )));
        }
        sleep(SEED_PAUSE).await;
    }
}

/// The seeds, and those whom the log knows.
fn ask_whom(log: &Log, seeds: &Seeds, request: &JoinRequest) -> Vec<String> {
    let mut addresses = seeds.addresses();
    for (peer, _) in log.peers() {
        if peer.id != request.voter && !addresses.contains(&peer.address) {
            addresses.push(peer.address);
        }
    }
    addresses
}

enum Rejected {
    ForGood(String),
    ForNow(String),
}

/// This node leads the log that it joins.
async fn join_own(log: &Log, peers: &Peers, request: &JoinRequest) -> Result<Membership, Rejected> {
    let nobody: Option<&Joined<zepto_transport::Shm>> = None;
    match welcome(log, nobody, peers, request.clone()).await {
        Ok(Response::Joined { node, cluster, index }) => Ok(Membership { node, cluster, index }),
        Ok(_) => Err(Rejected::ForNow("the log has another leader by now".into())),
        Err(Failure::Refused(Refusal::LimitReached | Refusal::Malformed, text)) => {
            Err(Rejected::ForGood(text))
        }
        Err(Failure::Refused(_, text) | Failure::Unknown(text)) => Err(Rejected::ForNow(text)),
    }
}

async fn try_at(
    peers: &Peers,
    address: &str,
    request: &JoinRequest,
) -> Result<Membership, Rejected> {
    let Some(leader) = leader_known_by(peers, address, SEED_WITHIN).await else {
        return Err(match peers.get(address, SEED_WITHIN).await {
            Err(error @ ConnectError::Refused { reason, .. }) if !reason.is_transient() => {
                Rejected::ForGood(error.to_string())
            }
            Err(error) => Rejected::ForNow(format!("{address}: {error}")),
            Ok(_) => Rejected::ForNow(format!("{address}: knows no leader of the log yet")),
        });
    };
    let join = Request::Join(request.clone());
    match ask(peers, &leader, &join, PROPOSE_WITHIN * 2 + PING_WITHIN).await {
        Ok(Response::Joined { node, cluster, index }) => Ok(Membership { node, cluster, index }),
        Ok(_) => Err(Rejected::ForNow(format!("{leader} does not lead the log"))),
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
