//! Gives empty partitions to the members that should own them.
//!
//! Until migration is built, a partition that holds ticks stays where it is; one that is empty can
//! move at no cost. The owner freezes what is empty, proposes to hand it over, and thaws what the
//! log did not take. Every owner computes the same plan from the same placement.

use crate::link::Link;
use crate::shards::ShardPort;
use crate::wait;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use zepto_control::{AnyLog, Command as LogCommand, ControlLog, Outcome};
use zepto_core::placement::{self, Candidate, Holder};
use zepto_core::topology::{Handover, MemberState, Placement};
use zepto_core::view::shard_of;
use zepto_core::{Incarnation, NodeId, PartitionId};
use zepto_transport::Transport;

use crate::agent::shard::Command;

/// Time for the log to decide.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
/// Time for a shard to say what is empty.
const FREEZE_WITHIN: Duration = Duration::from_secs(1);
/// Longest time without looking again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The task.
pub struct HandoverTask<T: Transport> {
    /// This node.
    pub me: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// The log.
    pub log: AnyLog<Link>,
    /// This node's shards.
    pub shards: Vec<ShardPort<T>>,
}

impl<T: Transport<Region: Send, Remote: Send> + Send> HandoverTask<T> {
    /// Looks at every change of the placement, for ever.
    pub async fn run(self) {
        let state = Arc::clone(self.log.state());
        // What holds ticks is not asked again.
        let mut full = BTreeSet::new();
        loop {
            let index = state.index();
            self.hand_over(&mut full).await;
            if state.index() == index {
                wait::beyond(&state, index, LOOK_EVERY).await;
            }
        }
    }

    /// One round: as much as the placement of now asks for.
    async fn hand_over(&self, full: &mut BTreeSet<PartitionId>) {
        let view = self.log.state().view();
        let placement = view.placement();
        full.retain(|partition| {
            placement.assignment(*partition).is_some_and(|a| a.copies[0] == self.me)
        });
        let wanted = plan(placement, self.me, full);
        if wanted.is_empty() {
            return;
        }
        let frozen = self.freeze(wanted.iter().map(|handover| handover.partition).collect()).await;
        let (given, kept): (Vec<Handover>, Vec<Handover>) =
            wanted.into_iter().partition(|handover| frozen.contains(&handover.partition));
        full.extend(kept.iter().map(|handover| handover.partition));
        if given.is_empty() {
            return;
        }
        let partitions: Vec<PartitionId> = given.iter().map(|given| given.partition).collect();
        let command =
            LogCommand::HandOver { node: self.me, incarnation: self.incarnation, handovers: given };
        match self.log.propose(command, PROPOSE_WITHIN).await {
            Outcome::Committed { .. } => {}
            Outcome::Refused { why, .. } => {
                tracing::info!(%why, "a handover was refused");
                self.thaw(partitions);
            }
            Outcome::Unknown(why) => {
                // It may be committed later. A barrier that covers the answer settles it.
                tracing::warn!(why, "a handover has no answer");
                if self.log.read_barrier(PROPOSE_WITHIN).await.is_ok() {
                    self.thaw(partitions);
                }
            }
        }
    }

    /// Freezes what is empty of these, and says which that is.
    async fn freeze(&self, partitions: Vec<PartitionId>) -> BTreeSet<PartitionId> {
        let mut frozen = BTreeSet::new();
        for (shard, port) in self.shards.iter().enumerate() {
            let mine = partitions.iter().copied();
            let mine: Vec<PartitionId> = mine
                .filter(|p| usize::from(shard_of(*p, self.shards.len() as u16)) == shard)
                .collect();
            if mine.is_empty() {
                continue;
            }
            let (sender, answer) = sync_channel(1);
            if !port.send(Command::Freeze(mine.clone(), sender)) {
                continue;
            }
            let waited = tokio::task::spawn_blocking(move || answer.recv_timeout(FREEZE_WITHIN));
            match waited.await {
                Ok(Ok(some)) => frozen.extend(some),
                // It may have frozen them; nothing was proposed, so nothing may stay frozen.
                _ => drop(port.send(Command::Thaw(mine))),
            }
        }
        frozen
    }

    fn thaw(&self, partitions: Vec<PartitionId>) {
        for port in &self.shards {
            port.send(Command::Thaw(partitions.clone()));
        }
    }
}

/// What this node should give away of what it owns and may move.
fn plan(placement: &Placement, me: NodeId, full: &BTreeSet<PartitionId>) -> Vec<Handover> {
    let owners = |state| matches!(state, MemberState::Active | MemberState::Leaving);
    let members: Vec<_> = placement.members.iter().filter(|m| owners(m.state)).collect();
    let candidates: Vec<Candidate> = members
        .iter()
        .map(|member| {
            let stays = member.state == MemberState::Active;
            Candidate { node: member.id, weight: if stays { member.weight } else { 0 } }
        })
        .collect();
    let holder = |(assignment, partition): (&zepto_core::topology::Assignment, u32)| {
        let owner = assignment.copies[0];
        match members.iter().position(|member| member.id == owner) {
            Some(index) if full.contains(&PartitionId(partition)) => Holder::Pinned(index as u16),
            Some(index) => Holder::Movable(index as u16),
            None => Holder::Outside,
        }
    };
    let holders: Vec<Holder> = placement.assignments.iter().zip(0..).map(holder).collect();
    if holders.is_empty() {
        return Vec::new();
    }
    let mine = members.iter().position(|member| member.id == me).map(|index| index as u16);
    let moves = placement::plan(&holders, &candidates).into_iter();
    moves
        .filter(|step| step.from.is_some() && step.from == mine)
        .map(|step| Handover {
            partition: step.partition,
            epoch: placement.assignments[step.partition.0 as usize].epoch,
            to: candidates[usize::from(step.to)].node,
        })
        .collect()
}
