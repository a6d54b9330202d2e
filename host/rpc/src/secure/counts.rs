//! What happened to proofs and records in this process. Relaxed: figures for people.

use crate::counters::Count;

/// Counts of one [`ClusterSecret`](super::ClusterSecret) and all its clones, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretCounts {
    /// Peers that came in with a proof, their first record opened.
    pub accepted: u64,
    /// Peers refused because they came without a proof.
    pub refused_plain: u64,
    /// Peers refused because their key is not one of ours.
    pub refused_key: u64,
    /// Peers, on either side, whose proof was wrong.
    pub refused_proof: u64,
    /// Connections, of either side, ended by a record that did not open: changed, repeated, left
    /// out, or replayed from another session.
    pub refused_record: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub accepted: Count,
    pub refused_plain: Count,
    pub refused_key: Count,
    pub refused_proof: Count,
    pub refused_record: Count,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> SecretCounts {
        SecretCounts {
            accepted: self.accepted.get(),
            refused_plain: self.refused_plain.get(),
            refused_key: self.refused_key.get(),
            refused_proof: self.refused_proof.get(),
            refused_record: self.refused_record.get(),
        }
    }
}
