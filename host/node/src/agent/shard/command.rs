//! What the rest of the node asks of a shard. Commands come over a bounded queue and are obeyed
//! between two batches.

use super::Shard;
use super::follow::Source;
use super::inlet::Inlet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use zepto_core::PartitionId;
use zepto_core::limits::LANES_PER_SHARD_MAX;
use zepto_core::view::Destination;
use zepto_transport::{Bell, Heap, Receiver, Sender, Transport};

/// What a producer's lane was opened for.
#[derive(Clone, Debug, Default)]
pub struct LaneTerms {
    /// Settle what the owner has taken, without waiting for replicas.
    pub memory_only: bool,
    /// Set by whoever sees the sender go: the lane ends once it is empty.
    pub hung_up: Arc<AtomicBool>,
}

/// A command.
pub enum Command<T: Transport> {
    /// A producer's lane over the node's transport.
    Peer(Receiver<T>, LaneTerms),
    /// A producer's lane that an RPC connection feeds.
    Door(Receiver<Heap>, LaneTerms),
    /// A lane from an owner whose replica this shard is.
    Source(Receiver<T>),
    /// A lane to a replica that [`Shard::wanted`] named.
    Follower(Destination, Sender<T>, Option<Arc<Bell>>),
    /// Stop taking ticks for those of these partitions that are empty, and say which.
    Freeze(Vec<PartitionId>, SyncSender<Vec<PartitionId>>),
    /// Take ticks for these partitions again, if they are still owned here.
    Thaw(Vec<PartitionId>),
    /// Refuse ticks from now on: the node is stopping.
    Drain,
}

impl<T: Transport> Shard<T> {
    pub(super) fn obey(&mut self, command: Command<T>) {
        let lanes = self.peers.len() + self.doors.len() + self.sources.len();
        let full = lanes >= LANES_PER_SHARD_MAX;
        match command {
            // A lane too many is dropped: its sender finds no credit and is told by who opened it.
            Command::Peer(..) | Command::Door(..) | Command::Source(..) if full => {
                self.ledger.counters.refused_lanes += 1;
            }
            Command::Peer(receiver, terms) => self.peers.push(Inlet::new(receiver, terms)),
            Command::Door(receiver, terms) => self.doors.push(Inlet::new(receiver, terms)),
            Command::Source(receiver) => self.sources.push(Source::new(receiver)),
            Command::Follower(destination, sender, bell) => {
                self.followers.attach(destination, sender, bell);
            }
            Command::Freeze(partitions, answer) => {
                let frozen = self.ledger.freeze(&partitions);
                // Who asked may be gone; then nobody proposes anything, and a view or a thaw ends
                // it.
                if let Err(unheard) = answer.try_send(frozen) {
                    drop(unheard);
                }
            }
            Command::Thaw(partitions) => self.ledger.thaw(&partitions),
            Command::Drain => self.ledger.drain(),
        }
    }
}
