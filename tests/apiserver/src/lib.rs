//! A Kubernetes API server that is none: it speaks the wire of one, over TLS, and misbehaves when
//! it is told to.

#![forbid(unsafe_code)]
#![expect(missing_docs, reason = "fields of objects are what the API's documentation says")]
#![expect(clippy::unwrap_used, reason = "for tests, which it may fail")]

mod body;
mod certificates;
mod double;
mod objects;
mod serve;
mod store;

pub use certificates::Authority;
pub use double::{DEADLINE, Double};
pub use objects::{Pod, Slice};
pub use serve::Seen;
pub use store::{Mood, Resource, Store};
