//! Tests that span crates. This library is the deterministic simulator, see [`sim`], and what
//! tests of real processes share, see [`harness`].
//!
//! * `cargo test -p zepto-tests`: the simulator against the code as it ships.
//! * `cargo test -p zepto-tests --features defects`: the same, and every planted defect must be
//!   caught. The feature is this crate's own, so no other build has defects compiled in.
//!
//! Architecture invariant: nothing of the product depends on this crate.
#![forbid(unsafe_code)]

pub mod harness;
pub mod sim;
