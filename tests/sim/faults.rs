//! Faults strike, and end.

use super::plan::Fault;
use super::transport::Party;
use super::world::World;
use zepto_core::NodeId;
use zepto_core::topology::Command;

/// Ticks that each producer offers once the faults are over.
const TICKS_AFTER: u64 = 24;

impl World {
    pub(super) fn is_blocked(&self, from: Party, to: Party) -> bool {
        let now = self.now();
        self.partitions.iter().any(|&(f, t, until)| (f, t) == (from, to) && until > now)
    }

    /// A planned fault strikes.
    pub(super) fn strike(&mut self, fault: Fault) {
        let now = self.now();
        match fault {
            Fault::PauseNode { node, for_ns } => {
                let machine = &mut self.machines[node as usize - 1];
                machine.paused_until = machine.paused_until.max(now + for_ns);
                machine.silent_since = machine.silent_since.or(Some(now));
            }
            Fault::CrashNode { node, down_ns } => {
                self.crash(node as usize - 1, down_ns);
            }
            Fault::PauseProducer { producer, for_ns } => {
                self.feeders[producer].paused_until = now + for_ns;
            }
            Fault::Stall { from, to, for_ns } => self.network.stall(from, to, now + for_ns),
            Fault::Partition { from, to, for_ns } => {
                self.network.stall(from, to, now + for_ns);
                // The log's messages come from everywhere; a cut-off node hears nothing.
                self.partitions.push((0, to, now + for_ns));
            }
            Fault::Reconnect { producer } => self.reconnect(producer),
            Fault::Accuse { node } => self.accuse(node as usize - 1),
            Fault::Pin { partition, node } => self.pin(partition, node),
            Fault::Weigh { node, weight } => {
                self.propose(Command::Weight { node: NodeId(node), weight });
            }
            Fault::Sever { .. } if self.rng.chance(500_000) => self.sever_next_fill = true,
            Fault::Sever { node } => self.reconnect_replicas(node as usize - 1),
        }
    }

    /// The faults are over; everybody gets a little more to do.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.partitions.clear();
        self.network.heal();
        // Pauses end by themselves, at most a few milliseconds from now.
        for feeder in &mut self.feeders {
            feeder.idle = 0;
            feeder.goal = feeder.sent + TICKS_AFTER;
        }
    }
}
