//! Feeds, the account of what they sent, and the proof that all of it arrived.
//!
//! Architecture invariant: no protocol of its own, no thread, no clock, and no arithmetic shared
//! with the store whose answers [`tally`] checks.
#![forbid(unsafe_code)]

pub mod feed;
pub mod report;
pub mod rows;
pub mod tally;
