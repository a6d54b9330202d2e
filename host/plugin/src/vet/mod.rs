//! Answers of plugins are data: read, checked as a whole, and refused as a whole.

mod nodes;
mod plan;
mod roster;

pub use nodes::{Answer, Discovered};
pub use plan::{Question, vet_plan};
pub use roster::{Change, Held, Offer, Roster};

use core::fmt;
use zepto_abi::plugin::PluginStatus;
use zepto_message::Malformed;

/// Why an answer is refused: a word for counters, a status for the plugin, a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// One word, of a fixed set.
    pub reason: &'static str,
    /// What the plugin is told.
    pub status: PluginStatus,
    /// Which part, and why.
    pub text: String,
}

impl Rejected {
    fn new(reason: &'static str, status: PluginStatus, text: String) -> Self {
        Self { reason, status, text }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.reason)
    }
}

impl From<Malformed> for Rejected {
    fn from(malformed: Malformed) -> Self {
        let reason = match malformed {
            Malformed::TooMany { .. } => "too_many",
            Malformed::Flags(_) => "of_the_future",
            _ => "malformed",
        };
        Self::new(reason, malformed.status(), malformed.to_string())
    }
}
