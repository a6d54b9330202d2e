//! What is in flight: which subjects (C7), and how many bytes.

use crate::outcome::{Reason, Subject};
use std::collections::BTreeSet;
use zepto_core::limits::PROPOSAL_BYTES_MAX;

/// The claims of all proposals that have no outcome yet. Who takes one releases it.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    bytes: usize,
    subjects: BTreeSet<Subject>,
}

impl Claims {
    /// Claims the subjects and bytes of a proposal; `full` says that no place is left for it.
    ///
    /// # Errors
    /// In flight or overloaded; nothing was claimed.
    pub fn take(&mut self, bytes: usize, subjects: &[Subject], full: bool) -> Result<(), Reason> {
        if let Some(subject) = subjects.iter().find(|subject| self.subjects.contains(subject)) {
            return Err(Reason::InFlight(subject.clone()));
        }
        if full || self.bytes + bytes > PROPOSAL_BYTES_MAX {
            return Err(Reason::Overloaded);
        }
        self.bytes += bytes;
        self.subjects.extend(subjects.iter().cloned());
        Ok(())
    }

    /// Gives back what [`Self::take`] claimed.
    pub fn release(&mut self, bytes: usize, subjects: &[Subject]) {
        self.bytes -= bytes;
        for subject in subjects {
            self.subjects.remove(subject);
        }
    }
}
