//! Queries: a coordinator scatters to the owners, fenced by epoch, and gathers with merges; an
//! owner answers from its shards' readers.
//!
//! One owner that cannot answer fails the query with its name, unless a partial answer was asked
//! for, which is then marked with who is missing. An answer over several partitions has each of
//! them once, from its owner in one view, but is not one cut of time.

mod coordinator;
mod gather;
mod owner;

pub use coordinator::Coordinator;
pub use owner::Owner;
