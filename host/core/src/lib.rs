//! Every decision of zepto, pure.
//!
//! Architecture invariant: no I/O, no clock, no thread, no randomness of its own. What decides is
//! a state machine that takes events and returns effects; what runs per tick is a small inlined
//! function that the shard calls in batches. Time comes in as [`time::Nanos`], randomness as seeds.
//!
//! * [`hash`], [`ring`], [`placement`], [`view`]: which node owns a series.
//! * [`topology`]: the replicated control state, its commands and their one `apply`.
//! * [`balance`]: what an owner should change, so that everybody has their share.
//! * [`slot`], [`dedupe`], [`fence`], [`settle`]: the pieces of a lane.
//! * [`heartbeat`], [`detect`]: who is alive.
//! * [`budget`], [`size`], [`refusals`]: how much may be in flight, and what was turned away.
#![forbid(unsafe_code)]

pub mod balance;
pub mod budget;
pub mod dedupe;
pub mod defect;
pub mod detect;
pub mod env;
pub mod fence;
pub mod hash;
pub mod heartbeat;
pub mod limits;
pub mod placement;
pub mod refusals;
pub mod ring;
pub mod settle;
pub mod size;
pub mod slot;
pub mod symbols;
pub mod time;
pub mod topology;
pub mod view;

pub use zepto_abi::{
    Epoch, Incarnation, Kind, NodeId, PartitionId, ProducerId, Refusal, Status, Tick,
};
