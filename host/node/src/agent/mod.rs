//! Agents: each owns its state and has one public function that does a bounded piece of work.
//!
//! Real threads call them in a loop and idle when nothing was done; the simulator calls the same
//! ones in a seeded order. Agents talk through lanes and bounded queues, never through locks that
//! are held across work.

pub mod beats;
pub mod conductor;
pub mod idle;
pub mod shard;
