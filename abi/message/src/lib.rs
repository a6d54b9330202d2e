//! The flat messages between host and plugins: read with every bound checked, and written.
//!
//! Both sides use this crate: the host for what hostile plugins send, the Rust SDK for what
//! authors send. Architecture invariant: nothing is read by casting, nothing panics on any bytes,
//! nothing is allocated for a count that the bytes do not back, and there is no `unsafe`.
//!
//! A message is one little-endian buffer, described in `include/zepto_plugin.h`. Each side says in
//! `struct_size` and `stride` how much of a struct it knows; what the sender did not know reads as
//! zero, and what the receiver does not know is passed over.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod event;
mod http;
mod info;
mod names;
mod nodes;
mod open;
mod plan;
mod read;
mod snap;
mod udp;
mod write;

pub use event::Event;
pub use http::{Request, Response};
pub use info::Info;
pub use names::{is_dns_name, is_hidden, is_host, is_node_id};
pub use nodes::{Mode, Node, Nodes, write_nodes};
pub use open::Open;
pub use plan::{Move, NodeLoad, Partition, Plan, PlanRequest};
pub use read::{Fields, List, Malformed, Message};
pub use snap::Snap;
pub use udp::Datagram;
pub use write::Writer;
