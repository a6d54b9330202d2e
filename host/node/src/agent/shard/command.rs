//! What the rest of the node asks of a shard. Commands come over a bounded queue and are obeyed
//! between two batches.

use super::Shard;
use super::inlet::Inlet;
use super::rounds::Round;
use super::source::{Origin, Source};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use zepto_client::producer::Opened;
use zepto_core::limits::LANES_PER_SHARD_MAX;
use zepto_core::{Incarnation, NodeId, PartitionId};
use zepto_transport::{Heap, Receiver, Transport};

/// What a producer's lane was opened for.
#[derive(Clone, Debug, Default)]
pub struct LaneTerms {
    /// Settle what the owner has taken, without waiting for replicas.
    pub memory_only: bool,
    /// Set by whoever sees the sender go: the lane ends once it is empty.
    pub hung_up: Arc<AtomicBool>,
}

/// Whose replica a lane makes this shard.
#[derive(Clone, Debug)]
pub struct SourceTerms {
    /// The owner.
    pub node: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// Set by whoever sees the owner go: the lane ends once it is empty.
    pub hung_up: Arc<AtomicBool>,
}

/// A command to a [`Shard`] of the same transports.
pub enum Command<T: Transport, P: Transport = T> {
    /// A producer's lane over the producers' transport.
    Peer(Receiver<P>, LaneTerms),
    /// A producer's lane that an RPC connection feeds.
    Door(Receiver<Heap>, LaneTerms),
    /// A lane over the transport from an owner whose replica this shard is.
    Source(Receiver<T>, SourceTerms),
    /// The same, fed by an RPC connection.
    DoorSource(Receiver<Heap>, SourceTerms),
    /// A lane to a replica that [`Shard::news`] named.
    Follower(Opened<T>),
    /// Take no more ticks for these partitions, and say which of them took none since and have all
    /// that they took confirmed by their replicas.
    Freeze(Vec<PartitionId>, SyncSender<Vec<PartitionId>>),
    /// Take ticks for these partitions again, if they are still owned here.
    Thaw(Vec<PartitionId>),
    /// Say whether the in-sync replicas of these partitions all go along with this owner, in a
    /// round trip that begins now.
    Confirm(Vec<PartitionId>, SyncSender<bool>),
    /// Refuse ticks from now on: the node is stopping.
    Drain,
}

impl<T: Transport, P: Transport> Shard<T, P> {
    pub(super) fn obey(&mut self, command: Command<T, P>) {
        match command {
            // A lane too many is dropped: its sender finds no credit, or hears that it is gone.
            Command::Peer(..)
            | Command::Door(..)
            | Command::Source(..)
            | Command::DoorSource(..)
                if self.lanes() >= LANES_PER_SHARD_MAX =>
            {
                self.ledger.counters.refused_lanes += 1;
            }
            Command::Peer(receiver, terms) => {
                let number = self.next_number();
                self.peers.push(Inlet::new(number, receiver, terms));
            }
            Command::Door(receiver, terms) => {
                let number = self.next_number();
                self.doors.push(Inlet::new(number, receiver, terms));
            }
            Command::Source(receiver, terms) => {
                let source = self.source(receiver, terms);
                self.sources.push(source);
            }
            Command::DoorSource(receiver, terms) => {
                let source = self.source(receiver, terms);
                self.door_sources.push(source);
            }
            Command::Follower(opened) => self.followers.attach(opened, &self.ledger),
            Command::Freeze(partitions, answer) => {
                self.rounds.begin(Round::Freeze(partitions, answer), &mut self.ledger);
            }
            Command::Confirm(partitions, answer) => {
                self.rounds.begin(Round::Confirm(partitions, answer), &mut self.ledger);
            }
            Command::Thaw(partitions) => self.ledger.thaw(&partitions),
            Command::Drain => self.ledger.drain(),
        }
    }

    fn lanes(&self) -> usize {
        let (sources, doors) = (self.sources.len(), self.door_sources.len());
        self.peers.len() + self.doors.len() + sources + doors
    }

    fn source<R: Transport>(&mut self, receiver: Receiver<R>, terms: SourceTerms) -> Source<R> {
        let SourceTerms { node, incarnation, hung_up } = terms;
        let from = Origin { number: self.next_number(), node, incarnation };
        let mut source = Source::new(from, receiver, hung_up);
        self.installed.iter().for_each(|view| source.install(view));
        source
    }

    fn next_number(&mut self) -> u32 {
        self.lanes_seen += 1;
        self.lanes_seen
    }
}
