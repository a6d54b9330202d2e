//! `libzepto.so` and `libzepto.a`: the client and the node as C functions. `include/zepto.h` is
//! made of this file's modules by cbindgen; `include/zepto.hpp` is C++ over that.
//!
//! Architecture invariant: no logic. A function checks its arguments, converts, calls, converts
//! back. Nothing unwinds into C, no signal handler is installed, nothing of the program's is
//! changed; after a fork the child gets a status from every function.
#![allow(non_camel_case_types, reason = "names that C programs see")]

pub mod account;
pub mod arrow;
pub mod client;
pub mod error;
mod fork;
mod handle;
mod listener;
pub mod log;
pub mod members;
pub mod node;
mod pipes;
pub mod producer;
pub mod query;
mod running;
mod sized;
pub mod status;
pub mod subscription;
pub mod text;
pub mod tick;
pub mod ticks;
pub mod version;
pub mod watch;
