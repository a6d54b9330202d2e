//! How a command fails: what to tell the person, and the exit code for the script.
//!
//! The codes are part of the command line's contract and listed in its help. Nothing is printed
//! here; `zepto-host` prints a failure once, at the very end.

use std::io;

use thiserror::Error;
use zepto_client::ClientError;

/// Why a command did not do all that it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// It was asked for something that makes no sense. Nothing was done.
    #[error("{0}")]
    Usage(String),
    /// It was tried and did not succeed, or an answer was not what it must be.
    #[error("{0}")]
    Failed(String),
    /// No node of the cluster can be reached, or none is ready in time.
    #[error("{0}")]
    Unreachable(String),
    /// A person or a supervisor ended it by a signal.
    #[error("interrupted")]
    Interrupted,
    /// Whoever read the output has gone, which is no news to anybody.
    #[error("the output was closed")]
    OutputClosed,
}

impl Failure {
    /// The code with which the process ends.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::OutputClosed => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Interrupted => 130,
        }
    }

    /// Whether there is anything to tell.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::OutputClosed)
    }

    /// The failure of a client, with what was being done: `query at 127.0.0.1:9000`.
    pub fn of_client(doing: &str, error: &ClientError) -> Self {
        match error {
            ClientError::Unreachable(_) => Self::Unreachable(format!(
                "{doing}: {error}; check that the address is that of a running node"
            )),
            ClientError::NotReady(_) => Self::Unreachable(format!(
                "{doing}: {error}; `zepto-host status` shows who is missing"
            )),
            _ => Self::Failed(format!("{doing}: {error}")),
        }
    }

    /// Something that was done on the way to the result did not work.
    pub fn failed(doing: &str, why: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{doing}: {why}"))
    }
}

impl From<io::Error> for Failure {
    /// Of writing to standard output, the only I/O that commands do without a better message.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::failed("cannot write the output", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_away_and_one_that_refuses_end_with_different_codes() {
        let away = ClientError::Unreachable("connection refused".into());
        let away = Failure::of_client("query at h:1", &away);
        assert_eq!(away.exit_code(), 3);
        assert!(away.to_string().starts_with("query at h:1: no member answers"), "{away}");
        let refused = ClientError::Refused {
            reason: zepto_core::Refusal::Offline,
            text: "node \"b\": gone".into(),
        };
        let refused = Failure::of_client("query at h:1", &refused);
        assert_eq!(refused.exit_code(), 1);
        assert!(refused.to_string().contains("node \"b\""), "{refused}");
    }

    #[test]
    fn a_reader_that_went_away_is_not_reported() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(closed.is_silent());
        assert!(!Failure::from(io::Error::other("disk full")).is_silent());
    }
}
