//! The deterministic simulator: production's agents under a seeded scheduler.
//!
//! ```text
//!            plan (drawn from the seed: cluster, load, faults)
//!              │
//!   world ── events in virtual time ──┬─ machine ── Shard<SimTransport>      production
//!     │                               ├─ feeder ─── Producer<SimLanes>       production
//!     │                               ├─ log ────── Topology::apply          production
//!     │                               ├─ keeper ─── balance::proposals       production
//!     │                               └─ operator, lanes: what goes wrong, what is decided
//!     └─ watch ── oracles: one file for each guarantee
//! ```
//!
//! The agents are the ones that nodes and producers run, called through the same functions. Only
//! transport, clocks, chance, the network and the log are the simulator's, and everything that is
//! random follows from one seed: the same seed gives the same trace hash, in any process.
//!
//! * `sim --help` runs schedules by hand and replays one with its story.
//! * `tests/corpus/` keeps seeds that once failed; the tests replay them all.

pub mod detection;
mod faults;
pub mod feeder;
mod keeper;
mod lanes;
pub mod log;
pub mod machine;
mod operator;
pub mod oracle;
pub mod plan;
pub mod rng;
pub mod run;
pub mod trace;
pub mod transport;
mod verdict;
mod watch;
mod world;

pub use run::{Outcome, run, run_traced};
