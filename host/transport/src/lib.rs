//! Bytes between two peers: the transport trait, its shared-memory form, and the mailbox on top.
//!
//! # The model: one writer per mapping, mirrored to one reader
//!
//! A [`Region`] is memory that this process writes and one peer sees. A [`Remote`] is memory that
//! one peer writes and this process sees. Every pair of peers that talks both ways has one of
//! each, and nothing is ever written from two sides, so there is nothing to lock and a peer that
//! dies cannot leave anything half-owned.
//!
//! * [`Shm`]: both are the same physical pages, the writer's memfd, which the peer maps
//!   read-only.
//! * [`Heap`]: both are the same allocation of one process. The same mailbox runs over it under
//!   loom.
//! * [`Ucx`]: the region is a local buffer, `put` copies lines or sends them into the peer's
//!   memory, and the peer's remote is its own local memory.
//!
//! So nothing here dereferences memory of another host, and a [`Remote`] is always read locally.
//!
//! # What is on top
//!
//! [`Sender`] and [`Receiver`] are the two ends of a *mailbox*, a bounded lane of 64-byte slots
//! (see [`mailbox`]). A [`Bell`] wakes a receiver that sleeps. [`Door`] and [`meet`] bring two
//! processes of one host together.
//!
//! Architecture invariant: this crate knows bytes and peers, not what a tick means. It starts no
//! thread, and nothing in it blocks except [`Bell::wait`] and the meeting, which take a timeout.
//! UCX does both: it has a thread of its own, and may wait while it connects or ends.

pub mod mailbox;

mod heap;
mod lines;
mod sync;
mod transport;

#[cfg(not(loom))]
mod bell;
#[cfg(all(not(loom), any(test, feature = "conformance")))]
pub mod conformance;
#[cfg(all(test, not(loom)))]
mod delayed;
#[cfg(not(loom))]
pub mod shm;
#[cfg(not(loom))]
pub mod ucx;

#[cfg(not(loom))]
pub use bell::Bell;
pub use heap::{Heap, HeapRegion, HeapRemote, HeapTicket};
pub use mailbox::{Cursors, Full, LaneError, LaneSpec, Offer, Receiver, RefusedRange, Sender};
#[cfg(not(loom))]
pub use shm::{Door, DoorCounts, Knock, MeetError, Meeting, Met, Shm, meet};
pub use transport::{Line, Region, Remote, Transport, TransportError};
#[cfg(not(loom))]
pub use ucx::{Ucx, UcxError};

// A slot holds one tick, whatever a tick is.
const _: () = assert!(size_of::<Line>() == size_of::<zepto_abi::Tick>());
