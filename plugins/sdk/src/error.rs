//! Why a handler, or a call of the host, did not do what it was asked.

use core::fmt;
use zepto_abi::plugin::PluginStatus;

/// A status, and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What the other side is told.
    pub status: PluginStatus,
    /// What people are told.
    pub text: String,
}

impl Error {
    /// An error of the plugin's own.
    pub fn new(status: PluginStatus, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// A bad configuration, or bad data from outside.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(PluginStatus::Invalid, text)
    }

    /// The plugin does not handle this; never counted as an error.
    pub fn unsupported() -> Self {
        Self::new(PluginStatus::Unsupported, "")
    }

    pub(crate) fn of_call(code: i32, call: &str) -> Self {
        let status = PluginStatus::from_code(code).unwrap_or(PluginStatus::Internal);
        Self::new(status, format!("{call}: {status}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() { self.status.fmt(f) } else { f.write_str(&self.text) }
    }
}

impl core::error::Error for Error {}
