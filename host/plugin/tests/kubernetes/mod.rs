//! A test double of a Kubernetes API server, and the plugin in its real host beside it.

#![expect(clippy::unwrap_used, reason = "tests, and clippy sees them only in #[test] functions")]

mod body;
mod certificates;
mod double;
mod node;
mod objects;
mod serve;
mod store;

pub use certificates::Authority;
pub use double::Double;
pub use node::Node;
pub use objects::{Pod, Slice};
pub use serve::Seen;
pub use store::{Mood, Resource};
