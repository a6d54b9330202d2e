//! Files that failed, and are not tried again for a while: a command that is repeated by a script
//! must not bring the same bad version back, and one that was unlucky must not be lost for good.

use crate::file::Sha256;
use std::collections::BTreeMap;
use zepto_core::limits::{PLUGIN_QUARANTINE_MAX, PLUGIN_QUARANTINE_MS};
use zepto_core::time::Nanos;

/// The files of one plugin that failed: until when, and why.
#[derive(Debug, Default)]
pub(super) struct Quarantine(BTreeMap<Sha256, (Nanos, String)>);

impl Quarantine {
    pub fn put(&mut self, sha256: Sha256, why: &str, now: Nanos) {
        if self.0.len() >= PLUGIN_QUARANTINE_MAX {
            let oldest = self.0.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(oldest) = oldest.map(|(sha256, _)| *sha256) {
                self.0.remove(&oldest);
            }
        }
        let until = Nanos(now.0 + PLUGIN_QUARANTINE_MS * super::MS);
        self.0.insert(sha256, (until, why.to_owned()));
    }

    /// Why a file is not tried now.
    pub fn why(&mut self, sha256: Sha256, now: Nanos) -> Option<&str> {
        self.0.retain(|_, (until, _)| *until > now);
        self.0.get(&sha256).map(|(_, why)| why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_not_tried_for_a_while_and_there_are_never_too_many() {
        let mut quarantine = Quarantine::default();
        let file = |n: usize| Sha256::of(&n.to_le_bytes());
        quarantine.put(file(0), "it crashed", Nanos(5));
        assert_eq!(quarantine.why(file(0), Nanos(6)), Some("it crashed"));
        assert_eq!(quarantine.why(file(1), Nanos(6)), None);
        let later = Nanos(5 + PLUGIN_QUARANTINE_MS * 1_000_000);
        assert_eq!(quarantine.why(file(0), later), None);
        for n in 0..=PLUGIN_QUARANTINE_MAX {
            quarantine.put(file(n), "", Nanos(n as u64));
        }
        assert_eq!(quarantine.0.len(), PLUGIN_QUARANTINE_MAX);
        assert!(quarantine.why(file(0), Nanos(100)).is_none(), "the oldest went");
    }
}
