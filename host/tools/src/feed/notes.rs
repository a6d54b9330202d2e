//! What a feed has beside rows and malformed rows, counted by what it is.
//!
//! A recording holds records that are no market events, and facts that a tick has no room for.
//! They are no errors, and leaving them out in silence would be one: so each is counted here, and
//! whoever runs the feed shows it. Bounded, since every text is a constant of the reader.

use std::collections::BTreeMap;
use std::fmt;

/// Counts of what did not become rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(BTreeMap<&'static str, u64>);

impl Notes {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of each, by what it is; what did not occur is absent.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.0
    }

    /// Counts one.
    pub(super) fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// One line each, without a newline at the end.
impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (what, count)) in self.0.iter().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}{count} x {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_note_has_one_line_with_its_count() {
        let mut notes = Notes::default();
        assert!(notes.is_empty());
        for what in ["b", "a", "b"] {
            notes.count(what);
        }
        assert_eq!(notes.to_string(), "1 x a\n2 x b");
        assert_eq!(notes.counts()[&"b"], 2);
    }
}
