//! How a node says goodbye to the log.
//!
//! Whoever ends as a leader leaves the others without one until they notice, so it lets another one
//! lead first. It stays a voter: it may be back in a moment, and fewer than three voters are worse
//! than two of three. Where a majority has ended before it, nobody is left to say goodbye to.

use crate::link::Log;
use crate::turn::propose_in_turn;
use core::convert::Infallible;
use core::time::Duration;
use zepto_control::raft::{Peer, PeerRole};
use zepto_control::{Command, ControlLog, Outcome};
use zepto_core::topology::MemberState;
use zepto_core::{Incarnation, NodeId};

/// Time to reach a log that may be gone.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// Time for another voter to take the lead.
const HAND_OVER: Duration = Duration::from_millis(100);

/// Says that the node leaves. Returns whether the log knows.
pub(crate) async fn begin(log: &Log, node: NodeId, incarnation: Incarnation) -> bool {
    hand_over(log).await;
    let leave = Command::Leave { node, incarnation };
    // Somebody may have drained it before.
    is_committed(log, leave).await || is_leaving(log, node)
}

/// Says that the node is gone, so that nobody has to wait for its silence. Returns whether the log
/// knows.
pub(crate) async fn end(log: &Log, node: NodeId, incarnation: Incarnation) -> bool {
    is_committed(log, Command::Bury { node, incarnation }).await
}

/// Lets another voter lead before this one goes: then nobody has to wait for an election.
async fn hand_over(log: &Log) {
    let other = |(peer, role): &(Peer, PeerRole)| {
        let view = log.state().view();
        let member = view.placement().member_named(&peer.name);
        let active = member.is_some_and(|member| member.state == MemberState::Active);
        *role == PeerRole::Voter && peer.id != log.id() && active
    };
    if log.is_leader()
        && let Some((peer, _)) = log.peers().into_iter().find(other)
    {
        log.hand_over(peer.id).await;
        tokio::time::sleep(HAND_OVER).await;
    }
}

fn is_leaving(log: &Log, node: NodeId) -> bool {
    let view = log.state().view();
    view.placement().member(node).is_some_and(|member| member.state == MemberState::Leaving)
}

async fn is_committed(log: &Log, command: Command) -> bool {
    let same = |_: &_| Ok::<_, Infallible>(command.clone());
    let Ok(outcome) = propose_in_turn(log, GOODBYE_WITHIN, same).await;
    matches!(outcome, Outcome::Committed { .. })
}
