//! Requests that plugins ask for: prepared while the plugin calls, made by the manager's tasks.

mod client;
mod prepare;

pub use client::{Part, perform};
pub use prepare::{Prepared, prepare};
