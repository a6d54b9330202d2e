//! Plugins for zepto in Rust: implement [`Plugin`], say [`export!`], build a `cdylib`, natively or
//! for `wasm32-unknown-unknown`. The author writes no `unsafe`.
//!
//! ```standalone_crate
//! use zepto_sdk::{About, Error, Host, Node, Open, Plugin};
//!
//! struct OneNode;
//!
//! impl Plugin for OneNode {
//!     const ABOUT: About = About::discovery("one-node", "0.1.0", "me");
//!
//!     fn open(_: &Host, _: &Open<'_>) -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!
//!     fn start(&mut self, host: &Host) -> Result<(), Error> {
//!         host.emit_all(1, &[Node { id: "a", host: "10.0.0.1", port: 9000, ..Node::default() }])
//!     }
//! }
//!
//! zepto_sdk::export!(OneNode);
//! # fn main() {}
//! ```
//!
//! A panic is caught at the boundary (native), or ends the instance (Wasm); both are logged.
//! Nothing in a handler may block: what takes time is asked for, and comes back as a later event.

/// The example of `plugins/README.md`, compiled as this crate's own is.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

mod error;
mod host;
mod plugin;

#[doc(hidden)]
pub mod glue;

pub use error::Error;
pub use host::{Host, Level, Moment, Question, Token};
pub use plugin::{About, Plugin, capability};
pub use zepto_abi::plugin as abi;
pub use zepto_abi::plugin::PluginStatus as Status;
pub use zepto_message::{
    Datagram, Mode, Move, Node, NodeLoad, Open, Partition, Plan, PlanRequest, Request, Response,
    Snap, is_dns_name, is_host, is_node_id,
};
