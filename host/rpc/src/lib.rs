//! Requests and lanes between processes over TCP: frames, a bounded client and server, drain.
//!
//! Architecture invariant: nothing blocks a caller without a deadline, no queue is without a
//! bound, and every request ends in exactly one outcome: answered, refused (not executed) or
//! unknown. The crate knows bytes, not what they mean; it starts no threads and reads no
//! configuration file. [`frame`] has neither input nor output, so the simulator runs it too.

#![forbid(unsafe_code)]

mod batch;
mod bind;
mod budget;
mod call;
mod client;
mod client_role;
mod close;
mod config;
mod connect;
mod counters;
mod drain;
mod duplex;
pub mod frame;
mod greet;
mod handler;
pub mod hello;
pub mod lane;
mod outbox;
mod pool;
pub mod secure;
mod server;
mod server_role;
mod session;
mod wire;

pub use bind::{BindError, Bound, bind};
pub use call::{CallError, NotSent, Unknown};
pub use client::Connection;
pub use close::CloseReason;
pub use config::{Config, ConfigError};
pub use connect::ConnectError;
pub use counters::{BudgetCounters, PeerCounters, ServerCounters, ServerTally};
pub use drain::DrainReport;
pub use handler::{Failure, Handler, PeerInfo};
pub use hello::{Hello, HelloRefusal, HelloReply, Identity, Role, Welcome};
pub use lane::{Lane, LaneEnd, LaneFailure, LaneSink, LaneSource, RefusedRange};
pub use pool::Peers;
pub use secure::{Authentication, ClusterSecret, HeartbeatKeys, KeyId, SecretError};
pub use server::Server;
