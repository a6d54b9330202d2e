//! What a node takes from the outside world besides its transport: clocks and chance.
//!
//! Production has one implementation, in the node crate; the simulator has another, seeded. Agents
//! get `now` as an argument and never ask for it themselves.

use crate::time::Nanos;

/// Clocks and randomness. Any thread.
pub trait Env: Send + Sync + 'static {
    /// The monotonic clock.
    fn now(&self) -> Nanos;

    /// The wall clock, in nanoseconds since the Unix epoch. Never used to order anything.
    fn wall_ns(&self) -> u64;

    /// 64 random bits.
    fn random(&self) -> u64;
}
