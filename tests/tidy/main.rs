//! What the whole tree obeys and no compiler checks: layers, manifests, the look of every file.
//!
//! Each rule is a pure function from text to violations, so each has a test that it can fail. A
//! violation says where it is and what to do. Lacks judgement: what needs a reader is for review.

mod layers;
mod manifests;
mod promises;
mod text;
mod tree;

/// Fails with every violation, one to a line.
#[track_caller]
fn none(violations: &[String]) {
    let count = violations.len();
    assert!(violations.is_empty(), "{count} violations:\n  {}\n", violations.join("\n  "));
}
