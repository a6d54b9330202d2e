//! Plugins: policy that is loaded, bounded, and never believed.
//!
//! Architecture invariant: an answer is data to check, never an action. A plugin may call the host
//! only while the host calls it, gets nothing that is not granted, and is held to a deadline and
//! (in Wasm) to its memory. Whatever becomes of it, its last good answer stands.
//!
//! * [`file`], [`verdict`], [`wasm`], [`native`]: from a file to an instance.
//! * [`grant`], [`config`]: what an instance may do and use.
//! * [`context`], [`calls`]: the host's functions, once for both targets; pure.
//! * [`vet`]: what becomes of an answer.
//! * [`runner`], [`manager`], [`plugins`]: one instance, one plugin, all of them.
//! * [`stock`]: the plugins that come with zepto.
//! * [`http`], [`kv`]: what the host does for a plugin.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod calls;
pub mod config;
pub mod context;
pub mod error;
pub mod file;
pub mod grant;
pub mod http;
pub mod instance;
pub mod kv;
pub mod loader;
pub mod manager;
pub mod native;
pub mod plugins;
pub mod runner;
pub mod stock;
pub mod verdict;
pub mod vet;
pub mod wasm;
