//! A system under measurement, and what every tick of every system consists of.

use super::engine::{Flow, Latency, Load, Pace};
use crate::failure::Result;
use zepto_abi::{Kind, Tick};
use zepto_core::slot::slot_of;

/// Symbols that the ticks are of, evenly. A power of two.
pub const SYMBOLS: u32 = 1024;

/// What can be started and measured.
pub trait System {
    /// What it is, for the table.
    fn name(&self) -> String;

    /// How it is called in the ratios.
    fn role(&self) -> Role;

    /// What its best value is sought among, and what that is called; none of it for us.
    fn knob(&self) -> Option<(&'static str, &'static [usize])>;

    /// Whether latency is measured too.
    fn is_paced(&self) -> bool;

    /// Starts it, empty.
    fn start(&self, knob: usize) -> Result<Box<dyn Running>>;
}

/// A system that runs. Dropping it stops it.
pub trait Running {
    /// As many ticks as are acknowledged.
    fn flat_out(&mut self, producers: usize, load: Load) -> Result<Flow>;

    /// A fixed rate by one producer.
    fn paced(&mut self, pace: Pace) -> Result<Latency>;
}

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// zepto, with so many nodes and copies.
    Ours {
        /// Processes.
        nodes: usize,
        /// Copies of every tick.
        copies: u8,
    },
    /// What somebody would use instead.
    Peer,
}

/// A tick: a trade, other every time.
#[inline]
pub fn tick(symbol: u32, number: u64) -> Tick {
    Tick {
        event_time_ns: number,
        receive_time_ns: number,
        symbol,
        kind: Kind::TRADE,
        price: 1_000_000_000 + (number & 0xFFF) as i64,
        size: 1_000_000_000,
        user: [number, 0],
        ..Tick::default()
    }
}

/// The bytes of the same tick, for those who carry bytes.
#[inline]
pub fn payload(number: u64) -> [u8; 64] {
    let mut bytes = [0; 64];
    let words = slot_of(&tick((number % u64::from(SYMBOLS)) as u32, number));
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
