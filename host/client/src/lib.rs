//! What C programs, `feed` and `demo` share: the producer, and questions to the cluster.
//!
//! Architecture invariant: owns no partition, starts no thread.
#![forbid(unsafe_code)]

pub mod message;
pub mod producer;
