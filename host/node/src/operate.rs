//! What an operator asks for becomes an entry of the log; what cannot be done is refused with what
//! to do about it.

use crate::join::refusal_of;
use crate::link::Log;
use crate::service::refused;
use crate::turn::propose_in_turn;
use core::time::Duration;
use zepto_client::message::{Operation, Response};
use zepto_control::{Command, ControlLog, Outcome};
use zepto_core::hash::partition_of;
use zepto_core::topology::{Member, MemberState, Placement};
use zepto_core::{PartitionId, Refusal};
use zepto_rpc::Failure;

/// Time to have a peer of the log forgotten.
const FORGET_WITHIN: Duration = Duration::from_secs(2);

/// Carries an operation out, at any node.
pub(crate) async fn operate(
    log: &Log,
    operation: Operation,
    deadline: Duration,
) -> Result<Response, Failure> {
    // What the operator has just been shown is here too.
    let barrier = log.read_barrier(deadline).await;
    barrier.map_err(|error| refused(Refusal::NoLeader, &error.to_string()))?;
    // Owners propose all the time while copies move; a person's word waits for its turn.
    let outcome =
        propose_in_turn(log, deadline, |placement| command_of(log, placement, &operation));
    let outcome = outcome.await?;
    answer(log, &operation, outcome).await
}

async fn answer(log: &Log, operation: &Operation, outcome: Outcome) -> Result<Response, Failure> {
    match outcome {
        Outcome::Committed { index } => {
            if let Operation::Remove { node } = operation {
                forget(log, node).await;
            }
            Ok(Response::Operated { index })
        }
        Outcome::Refused { why, .. } => Err(refused(refusal_of(&why), &why.to_string())),
        Outcome::Unknown(why) => Err(Failure::Unknown(why)),
    }
}

fn command_of(log: &Log, placement: &Placement, operation: &Operation) -> Result<Command, Failure> {
    Ok(match operation {
        Operation::Drain { node } => {
            let member = staying(placement, node)?;
            check_drain(placement, member)?;
            Command::Leave { node: member.id, incarnation: member.incarnation }
        }
        Operation::Remove { node } => Command::Remove { node: member(placement, node)?.id },
        Operation::Pin { table, symbol, node } => Command::Pin {
            partition: partition(log, placement, *table, symbol)?,
            node: staying(placement, node)?.id,
        },
        Operation::Unpin { table, symbol } => {
            Command::Unpin { partition: partition(log, placement, *table, symbol)? }
        }
        Operation::Weight { node, weight } => {
            Command::Weight { node: living(placement, node)?.id, weight: *weight }
        }
        Operation::Zone { node, zone } => {
            Command::Zone { node: living(placement, node)?.id, zone: zone.clone() }
        }
        Operation::Recover { partitions } => Command::Recover { partitions: *partitions },
    })
}

fn member<'a>(placement: &'a Placement, name: &str) -> Result<&'a Member, Failure> {
    placement.member_named(name).ok_or_else(|| {
        let names: Vec<&str> = placement.members.iter().map(|m| m.name.as_str()).collect();
        let text = format!("there is no member {name:?}; there are {}", names.join(", "));
        refused(Refusal::Malformed, &text)
    })
}

fn living<'a>(placement: &'a Placement, name: &str) -> Result<&'a Member, Failure> {
    let member = member(placement, name)?;
    if member.state == MemberState::Dead {
        let text = format!(
            "{name} is dead; start it again, or forget it with `zepto-host member remove {name}`"
        );
        return Err(refused(Refusal::Malformed, &text));
    }
    Ok(member)
}

fn staying<'a>(placement: &'a Placement, name: &str) -> Result<&'a Member, Failure> {
    let member = living(placement, name)?;
    if member.state == MemberState::Leaving {
        let text = format!("{name} is leaving already; it stays again once it is started again");
        return Err(refused(Refusal::Malformed, &text));
    }
    Ok(member)
}

fn partition(
    log: &Log,
    placement: &Placement,
    table: u16,
    symbol: &str,
) -> Result<PartitionId, Failure> {
    let id = log.state().symbol_id(symbol);
    let id = id.ok_or_else(|| {
        refused(Refusal::UnknownSymbol, &format!("there is no symbol {symbol:?}"))
    })?;
    Ok(partition_of(table, id, placement.bits))
}

/// Whether the others can take everything that a member holds.
fn check_drain(placement: &Placement, member: &Member) -> Result<(), Failure> {
    let stays = |other: &&Member| {
        other.id != member.id && other.state == MemberState::Active && other.weight > 0
    };
    let rest = placement.members.iter().filter(stays).count();
    if member.weight > 0 && rest < usize::from(placement.copies) {
        let text = format!(
            "without {} there would be {rest} members for {} copies of every partition; add a \
             member first, or just stop the node, and its partitions have fewer copies",
            member.name, placement.copies
        );
        return Err(refused(Refusal::NotEnoughCopies, &text));
    }
    Ok(())
}

/// Who is no member any more follows the log no more either. Its file may be gone for good, so a
/// failure is no reason to fail. Whoever joins under that name meanwhile has its peer again: see
/// `join::welcome`, which makes sure of it after the fact, too.
async fn forget(log: &Log, name: &str) {
    let is_member = || log.state().view().placement().member_named(name).is_some();
    for (peer, _) in log.peers().into_iter().filter(|(peer, _)| peer.name == name) {
        if is_member() {
            return;
        }
        match log.forget(peer.id, FORGET_WITHIN).await {
            Outcome::Committed { .. } if is_member() => {
                let again = log.admit(peer, false, FORGET_WITHIN).await;
                tracing::info!(name, ?again, "it joined again meanwhile");
            }
            Outcome::Committed { .. } => {}
            Outcome::Refused { why, .. } => tracing::info!(name, %why, "still a peer of the log"),
            Outcome::Unknown(why) => tracing::info!(name, why, "perhaps still a peer of the log"),
        }
    }
}
