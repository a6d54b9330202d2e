//! What the oracles are shown of a world: after every step, and at the end.

use super::oracle::durability::partition_of;
use super::oracle::{Content, Failure, Oracle, Verdict, duplicates, fence, order};
use super::watch::Seen;
use super::world::{Event, World};
use std::sync::Arc;
use zepto_core::PartitionId;
use zepto_core::slot::Control;
use zepto_core::view::View;

impl World {
    /// Tells the oracles what the node declared final in its last step.
    pub(super) fn observe(&mut self, node: usize) -> Verdict {
        let seen = self.watch.observe(&self.network);
        if seen.is_empty() {
            return Ok(());
        }
        let Some(process) = &self.machines[node].process else { return Ok(()) };
        let by = Arc::clone(self.log.view(process.shard.view_index()));
        let now = self.now();
        for seen in seen {
            self.network.trace.say(|| format!("{now:>12} {}", seen.story(self.plan.bits)));
            match seen {
                Seen::Settled { node, producer, memory_only, slot } => {
                    let partition = partition_of(&slot, self.plan.bits);
                    self.writer.settled(node, partition, by.placement())?;
                    self.conservation.settled(producer, slot[6]);
                    if !memory_only {
                        self.durability.settled(&slot, partition, by.placement())?;
                    }
                }
                Seen::Replicated { node, incarnation, from, epoch, slot } => {
                    let partition = partition_of(&slot, self.plan.bits);
                    fence::replicated(node, &slot, partition, epoch, by.placement())?;
                    self.durability.replicated(node, incarnation, &slot);
                    self.durability.replicated(from.0, from.1, &slot);
                }
                Seen::Filled { node, incarnation, from, slot } => {
                    self.durability.replicated(node, incarnation, &slot);
                    self.durability.replicated(from.0, from.1, &slot);
                }
                Seen::Said { node, control: Control::BeginFill { .. }, refused: false }
                    if core::mem::take(&mut self.sever_next_fill) =>
                {
                    self.sever_fill(node);
                }
                Seen::Refused { .. } | Seen::Said { .. } => {}
            }
        }
        Ok(())
    }

    /// The node has taken up a view: what it takes for settled in the partitions that it came to
    /// own has to be so.
    pub(super) fn check_promoted(&self, node: usize, earlier: u64) -> Verdict {
        let Some(process) = &self.machines[node].process else { return Ok(()) };
        if self.plan.copies == 1 {
            // Nobody else has anything.
            return Ok(());
        }
        let (me, bits) = (self.machines[node].id, self.plan.bits);
        let now = self.log.view(process.shard.view_index());
        let owns = |view: &View, partition| {
            view.placement().assignment(partition).is_some_and(|a| a.owner() == Some(me))
        };
        let promoted = (0..1 << bits).map(PartitionId).filter(|partition| {
            owns(now, *partition) && !(earlier > 0 && owns(self.log.view(earlier), *partition))
        });
        for partition in promoted {
            let Some(unsettled) = process.shard.unsettled(partition) else { continue };
            let Some(content) = Content::read(&process.reader, partition, bits) else { continue };
            let settled = content.ticks.iter().filter(|tick| tick.sequence < unsettled);
            // Who waits for the owner only is told at once.
            let waits = |id: u64| !self.plan.producers[(id >> 32) as usize - 1].memory_only;
            let ids = settled.map(|tick| tick.user[0]).filter(|id| waits(*id));
            self.durability.taken_for_settled(ids, partition, now.placement())?;
        }
        Ok(())
    }

    /// A reader looks at everything a node holds: it is in order, and nothing is there twice.
    pub(super) fn read(&mut self, node: usize) -> Verdict {
        for content in self.contents_of(node) {
            duplicates::check(&content)?;
            order::check(&content)?;
        }
        let pause = self.rng.within(2_000_000, 8_000_000) + self.lull();
        self.after(pause, Event::Read(node));
        Ok(())
    }

    fn contents_of(&self, node: usize) -> Vec<Content> {
        let Some(process) = &self.machines[node].process else { return Vec::new() };
        let partitions = (0..1 << self.plan.bits).map(PartitionId);
        partitions.filter_map(|p| Content::read(&process.reader, p, self.plan.bits)).collect()
    }

    /// Who has not come to an end, and how it stands.
    pub(super) fn unsettled(&self) -> Verdict {
        let mut stuck: Vec<String> = self
            .feeders
            .iter()
            .filter(|feeder| !feeder.is_done())
            .map(|f| {
                format!(
                    "producer {} at {} of {}: {:?}",
                    f.number,
                    f.sent,
                    f.goal,
                    f.producer.account()
                )
            })
            .collect();
        if !self.is_whole() {
            stuck.push(format!("not whole: {:?}", self.log.placement().assignments));
            for machine in &self.machines {
                if let Some(process) = &machine.process {
                    let (id, view) = (machine.id, process.shard.view_index());
                    stuck.push(format!(
                        "node {id} at {view}, waits {}, unsure of {}, wants {:?}: {}",
                        process.waiting,
                        process.unsure.len(),
                        process.news,
                        process.shard.story(),
                    ));
                }
            }
        }
        Err(Failure { oracle: Oracle::Liveness, story: stuck.join("; ") })
    }

    /// Asks every oracle about the final contents.
    pub(super) fn at_end(&self) -> Verdict {
        let mut contents = Vec::new();
        for (partition, assignment) in self.log.assignments() {
            let owner = assignment.owner().map_or(0, |owner| owner.0 as usize);
            let all = self.contents_of(owner - 1);
            let content = all.into_iter().find(|content| content.partition == partition);
            // A store that has no room for a partition does not open it, and refuses its ticks. If
            // any of them was acknowledged before, it is missed below.
            if content.is_none() && self.is_small() {
                continue;
            }
            let content = content.ok_or_else(|| Failure {
                oracle: Oracle::Durability,
                story: format!("partition {partition} is not open at its owner {owner}"),
            })?;
            duplicates::check(&content)?;
            order::check(&content)?;
            contents.push(content);
        }
        self.durability.at_end(&contents, self.lost_data)?;
        for feeder in self.feeders.iter().filter(|feeder| feeder.is_done()) {
            let lost = self.lost_data || (feeder.plan.memory_only && self.plan.copies > 1);
            let excused = lost || self.is_small();
            let account = feeder.producer.account();
            self.conservation.at_end(feeder.number, &account, &contents, excused, lost)?;
            let tickets = 1..=feeder.producer.last_ticket();
            let outcomes = tickets.map(|ticket| (ticket, feeder.producer.outcome(ticket)));
            self.conservation.tickets(feeder.number, outcomes, &contents, lost)?;
        }
        Ok(())
    }
}
