//! The node: agents and their wiring, configuration, lifecycle.
//!
//! Architecture invariant: the only crate that starts threads. Other crates give loops; this one
//! runs them.
#![forbid(unsafe_code)]

mod admin;
pub mod agent;
mod condition;
pub mod config;
mod enter;
mod join;
mod leave;
mod life;
mod link;
mod membership;
mod metrics;
mod node;
mod operate;
pub mod plugins;
mod query;
mod replication;
mod service;
mod shards;
mod start_error;
mod status;
#[cfg(test)]
mod testing;
mod turn;
mod voters;
mod wait;
pub mod wire;

pub use node::{Running, StopReport, start};
pub use shards::Round;
pub use start_error::StartError;
pub use wire::Wire;
