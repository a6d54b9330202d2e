//! The node: agents and their wiring, configuration, lifecycle.
//!
//! Architecture invariant: the only crate that starts threads. Other crates give loops; this one
//! runs them.
#![forbid(unsafe_code)]

pub mod agent;
pub mod config;
pub mod size;
