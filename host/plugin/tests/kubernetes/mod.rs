//! The plugin in its real host, beside a double of a Kubernetes API server.

#![expect(clippy::unwrap_used, reason = "tests, and clippy sees them only in #[test] functions")]

mod node;

pub use node::Node;
