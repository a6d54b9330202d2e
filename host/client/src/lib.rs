//! What C programs, `feed` and `demo` share: the producer, and questions to the cluster.
//!
//! Architecture invariant: owns no partition, starts no thread.
#![forbid(unsafe_code)]

mod ask;
mod client;
mod connect;
mod error;
mod follow;
pub mod host;
pub mod lanes;
pub mod message;
pub mod producer;
pub mod real;
mod ticks;

pub use ask::{ask, ask_leg, ask_once, unexpected};
pub use client::{Client, ClientOptions};
pub use connect::{Connector, open_lane, open_rpc_lane, watch_peer};
pub use error::ClientError;
pub use ticks::{ProducerOptions, TickProducer};
pub use zepto_rpc::{ClusterSecret, SecretError};
