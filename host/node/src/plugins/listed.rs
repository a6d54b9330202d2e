//! A member that is DEAD and that discovery does not name any more is forgotten: it was taken away
//! for good. Nothing else that discovery says changes who is a member, least of all that it says
//! nothing.

use crate::link::Log;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use zepto_client::message::Operation;
use zepto_control::ControlLog;
use zepto_core::topology::MemberState;
use zepto_plugin::vet::Discovered;

use crate::operate::operate;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Time for the log to forget one.
const FORGET_WITHIN: Duration = Duration::from_secs(5);
/// Looks in a row at which a member was dead and not named, before it is forgotten.
const LOOKS: u32 = 3;

/// Forgets them, as long as this node leads the log.
pub(crate) async fn forget_unlisted(log: Log, mut nodes: watch::Receiver<Arc<Vec<Discovered>>>) {
    let mut gone = Vec::new();
    while pause(&mut nodes).await {
        let named = nodes.borrow().clone();
        // A list without anybody proves nothing about anybody.
        if named.is_empty() || !log.is_leader() {
            gone.clear();
            continue;
        }
        gone = look(&log, &named, &gone).await;
    }
}

/// Waits until it is time for a look; not at each answer, for some in a moment would forget one
/// whose pod is just being made anew. `false` when discovery is over.
async fn pause(nodes: &mut watch::Receiver<Arc<Vec<Discovered>>>) -> bool {
    let time = tokio::time::sleep(LOOK_EVERY);
    tokio::pin!(time);
    loop {
        tokio::select! {
            () = &mut time => return true,
            changed = nodes.changed() => if changed.is_err() { return false },
        }
    }
}

/// Those that are dead and not named, with the number of looks that showed it.
async fn look(log: &Log, named: &[Discovered], before: &[(String, u32)]) -> Vec<(String, u32)> {
    let named: BTreeSet<&str> = named.iter().map(|node| node.id.as_str()).collect();
    let view = log.state().view();
    let members = view.placement().members.iter();
    let unlisted = members.filter(|member| {
        member.state == MemberState::Dead && !named.contains(member.name.as_str())
    });
    let mut gone = Vec::new();
    for name in unlisted.map(|member| member.name.clone()) {
        let looks = before.iter().find(|(other, _)| *other == name).map_or(0, |(_, looks)| *looks);
        if looks + 1 < LOOKS {
            gone.push((name, looks + 1));
            continue;
        }
        let remove = Operation::Remove { node: name.clone() };
        match operate(log, remove, FORGET_WITHIN).await {
            Ok(_) => {
                tracing::info!(node = name, "forgotten: it is dead, and discovery knows it not")
            }
            Err(error) => tracing::info!(node = name, ?error, "not forgotten yet"),
        }
    }
    gone
}
