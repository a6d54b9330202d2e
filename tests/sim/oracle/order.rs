//! O8, guarantee G8: a producer's ticks lie in a partition in its order, sequences are dense from
//! one, and readers see nothing at or above the watermark.

use super::{Content, Oracle, Verdict, ensure, name};
use std::collections::BTreeMap;

/// Looks at one partition as a reader sees it.
pub fn check(content: &Content) -> Verdict {
    let partition = content.partition;
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (tick, expected) in content.ticks.iter().zip(1..) {
        ensure(Oracle::Order, tick.sequence == expected, || {
            format!("sequence {} of {partition} where {expected} belongs", tick.sequence)
        })?;
        let id = tick.user[0];
        let before = last.insert(id >> 32, id).unwrap_or(0);
        ensure(Oracle::Order, before < id, || {
            format!("{} of {partition} lies behind {}", name(id), name(before))
        })?;
    }
    let (visible, watermark) = (content.ticks.len() as u64, content.watermark);
    ensure(Oracle::Order, visible + 1 == watermark, || {
        format!("{visible} ticks of {partition} are visible below watermark {watermark}")
    })
}
