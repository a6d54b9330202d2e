//! What crosses a binary boundary: the tick, the status codes and the ids.
//!
//! Architecture invariant: no logic and no dependencies (the `serde` feature is for the host's own
//! control messages and off by default). Everything here is `#[repr(C)]` or
//! `#[repr(transparent)]`, so that C, C++, shared memory and the wire see the same bytes.
#![no_std]
#![forbid(unsafe_code)]

mod ids;
pub mod plugin;
mod status;
mod tick;

pub use ids::{Epoch, Incarnation, NodeId, PartitionId, ProducerId};
pub use status::{Refusal, Status};
pub use tick::{Kind, Tick};
