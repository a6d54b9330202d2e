//! Why the cluster did not do as it was asked.

use crate::message::MessageError;
use zepto_core::Refusal;
use zepto_rpc::{CallError, HelloRefusal, NotSent};

/// Why the cluster did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answered. What was asked was certainly not done.
    #[error("no member answers: {0}")]
    Unreachable(String),
    /// It was refused, and nothing was done.
    #[error("{text} ({reason})")]
    Refused {
        /// Why.
        reason: Refusal,
        /// For people.
        text: String,
    },
    /// It may or may not have been done.
    #[error("{0}")]
    Unknown(String),
    /// The member speaks another version, or nonsense.
    #[error("the member's answer makes no sense: {0}")]
    Protocol(String),
    /// A member was reached and does not let this process in: the cluster secret is not the same.
    /// Nothing was done, and trying again is of no use.
    #[error("{0}")]
    Denied(String),
    /// The deadline passed before the cluster was ready.
    #[error("not ready in time: {0}")]
    NotReady(String),
}

impl ClientError {
    /// Whether somebody else, or the same member a moment later, may well say something better. Of
    /// use only for what is harmless when it is asked twice.
    pub(crate) fn is_passing(&self) -> bool {
        use Refusal::{Draining, NoLeader, NotReady, Overloaded};
        match self {
            Self::Unknown(_) => true,
            Self::Refused { reason, .. } => {
                matches!(reason, Draining | NoLeader | NotReady | Overloaded)
            }
            _ => false,
        }
    }
}

impl From<CallError> for ClientError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(
                ref why @ NotSent::Unwelcome { reason: HelloRefusal::Secret, .. },
            ) => Self::Denied(why.to_string()),
            CallError::NotSent(why) => Self::Unreachable(why.to_string()),
            CallError::Refused { reason, text } => Self::Refused { reason, text },
            other => Self::Unknown(other.to_string()),
        }
    }
}

impl From<MessageError> for ClientError {
    fn from(error: MessageError) -> Self {
        Self::Protocol(error.to_string())
    }
}
