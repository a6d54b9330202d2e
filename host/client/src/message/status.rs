//! What a node counts, and what it says of its cluster.

use serde::{Deserialize, Serialize};
use zepto_core::refusals::Refusals;
use zepto_core::topology::MemberState;
use zepto_core::{Incarnation, NodeId};
pub use zepto_rpc::{BudgetCounters, PeerCounters, ServerCounters};
use zepto_store::StoreCounters;

/// What a node says about itself and what it thinks of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's text id.
    pub name: String,
    /// Its id, zero before it joined.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its cluster, in hexadecimal.
    pub cluster: String,
    /// Version of the program.
    pub version: String,
    /// Whether it leads the log.
    pub leader: bool,
    /// Index of the topology it has installed.
    pub topology_index: u64,
    /// Hash of that topology.
    pub topology_hash: u64,
    /// Declared copies.
    pub copies: u8,
    /// Partitions of the cluster.
    pub partitions: u32,
    /// Partitions without an owner that lives: their last copy is gone.
    pub offline: u32,
    /// Partitions with fewer in-sync copies than declared.
    pub short_of_copies: u32,
    /// Partitions that are on their way to another owner, or have a copy that is.
    pub moving: u32,
    /// Symbols of the cluster.
    pub symbols: u32,
    /// Name of the transport: `shm` or `ucx`.
    pub transport: String,
    /// What else is to be known of it: versions, lanes in use, what it changed in the process.
    pub transport_notes: Vec<String>,
    /// Every member.
    pub members: Vec<MemberStatus>,
    /// What is stored here.
    pub store: StoreCounters,
    /// What its shards did.
    pub shards: Vec<ShardCounters>,
    /// Most bytes its ticks may take.
    pub store_limit_bytes: u64,
    /// Heartbeats.
    pub heartbeats: HeartbeatCounters,
    /// The control log.
    pub log: LogCounters,
    /// Those it asks, by address.
    pub peers: Vec<PeerCounters>,
    /// Those who ask it, in total.
    pub server: ServerCounters,
    /// Why it is not ready for work; `None` when it is.
    pub not_ready: Option<String>,
    /// Time since the process started, in milliseconds.
    pub uptime_ms: u64,
    /// Its plugins.
    pub plugins: Vec<PluginStatus>,
}

/// A plugin of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// What it is called here.
    pub name: String,
    /// How it is: starting, running, probation, restarting, failed, stopped.
    pub state: String,
    /// Its own name and version.
    pub version: String,
    /// What it is for: discovery, migration_strategy, snapshot_hooks.
    pub kinds: Vec<String>,
    /// `wasm` or `native`.
    pub target: String,
    /// Its file.
    pub file: String,
    /// Hash of the file.
    pub sha256: String,
    /// Events delivered.
    pub events: u64,
    /// Instances that came to their end.
    pub faults: u64,
    /// Calls and answers that were refused.
    pub refused: u64,
    /// Starts after a fault.
    pub restarts: u64,
    /// New versions that were given up again.
    pub rollbacks: u64,
    /// Why it is not running, or what it said last.
    pub last_error: String,
    /// Other nodes that it knows of, if it is for discovery.
    pub nodes: Option<u32>,
    /// Age of its last good answer, in milliseconds.
    pub answer_age_ms: Option<u64>,
    /// Nodes that a held answer would remove.
    pub held: Option<u32>,
}

/// A member as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Text id.
    pub name: String,
    /// Number.
    pub node: NodeId,
    /// Incarnation.
    pub incarnation: Incarnation,
    /// State by decision of the log.
    pub state: MemberState,
    /// Suspected by the answering node.
    pub suspect: bool,
    /// Silence in milliseconds, as the answering node sees it; `None` for itself.
    pub silent_ms: Option<u64>,
    /// Where it is reached.
    pub address: String,
    /// Partitions it owns.
    pub partitions: u32,
    /// Partitions of which it holds an in-sync copy, its own among them.
    pub copies: u32,
    /// Partitions of which a copy is being filled here.
    pub filling: u32,
    /// Weight of its share.
    pub weight: u16,
    /// Failure zone, or empty.
    pub zone: String,
    /// Whether it votes on the log.
    pub votes: bool,
}

/// What one shard did since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCounters {
    /// Lanes open now.
    pub lanes: u64,
    /// Ticks appended as owner.
    pub appended: u64,
    /// Ticks that were stored already.
    pub duplicates: u64,
    /// Ticks refused.
    pub refused: u64,
    /// The same by reason.
    pub refused_by: Refusals,
    /// Ticks appended as replica.
    pub replicated: u64,
    /// Lanes closed because their peer broke the rules.
    pub corrupt_lanes: u64,
    /// Lanes turned away because there were too many.
    pub refused_lanes: u64,
    /// Slots taken from producers' lanes: ticks and control records.
    pub slots_taken: u64,
    /// Slots of producers' lanes that are final: their senders may forget them.
    pub slots_settled: u64,
    /// Slots in the open lanes that were published and are not final.
    pub slots_open: u64,
    /// Index of the view that the shard works by; 0 before the first.
    pub view_index: u64,
    /// Copies that owners began to fill here.
    pub fills_begun: u64,
    /// Earlier ticks that came here while copies were filled.
    pub rows_filled: u64,
    /// Earlier ticks that were sent from here to fill copies.
    pub rows_copied: u64,
    /// Lanes to replicas that broke.
    pub broken_lanes: u64,
}

/// Heartbeats of one node since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatCounters {
    /// Packets sent, one per member and interval.
    pub sent: u64,
    /// Packets that the system did not take.
    pub unsent: u64,
    /// Intervals without heartbeats, because an agent of this node stood still.
    pub held_back: u64,
    /// Packets of members that counted.
    pub heard: u64,
    /// Packets that are no heartbeats.
    pub malformed: u64,
    /// Packets whose authentication code is missing or wrong.
    pub unauthenticated: u64,
    /// Heartbeats of nobody who is a member.
    pub stranger: u64,
    /// Heartbeats of another incarnation than the log's.
    pub other_incarnation: u64,
    /// Heartbeats whose number was seen already: replayed, doubled or late.
    pub replayed: u64,
}

/// The control log as one node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCounters {
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Durable transactions since the start.
    pub transactions: u64,
    /// The term that this node is in.
    pub term: u64,
    /// How many vote.
    pub voters: u32,
    /// Whether this node knows a leader.
    pub has_leader: bool,
    /// Messages to others about the log that brought no usable answer.
    pub calls_failed: u64,
}
