//! O7, guarantee G7: no tick is stored twice, however often it was sent and to whomever.

use super::{Content, Oracle, Verdict, ensure, name};
use std::collections::BTreeSet;

/// Looks at one partition as a reader sees it.
pub fn check(content: &Content) -> Verdict {
    let mut seen = BTreeSet::new();
    for tick in &content.ticks {
        ensure(Oracle::Duplicates, seen.insert(tick.user[0]), || {
            format!("{} is twice in partition {}", name(tick.user[0]), content.partition)
        })?;
    }
    Ok(())
}
