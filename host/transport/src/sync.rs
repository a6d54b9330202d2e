//! The atomics of this crate: the real ones, or loom's.
//!
//! Invariant: every other file takes its atomics from here, so that loom sees each access.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
