//! Why a plugin is not loaded. Each reason has a code that scripts may compare.

use std::path::PathBuf;

/// Why a plugin is not loaded, and what to do about it. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read, or must not be used.
    #[error("ZP-LOAD-000 {}: {text}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        text: String,
    },
    /// It is another file than was wanted.
    #[error("ZP-LOAD-001 its sha256 is {found}, wanted {wanted}")]
    Hash {
        /// Its hash.
        found: String,
        /// The configured one.
        wanted: String,
    },
    /// It is no plugin.
    #[error("ZP-LOAD-002 not a zepto plugin: {0}")]
    NotAPlugin(String),
    /// It speaks another version.
    #[error("ZP-LOAD-003 {0}")]
    Version(String),
    /// It is of a kind that this version does not know.
    #[error("ZP-LOAD-004 {0}")]
    Kind(String),
    /// It needs more than it is granted.
    #[error("ZP-LOAD-005 {0}")]
    NotGranted(String),
    /// It is native code, and that is not allowed.
    #[error(
        "ZP-LOAD-006 a native plugin is trusted code, it may do whatever zepto-host may: give \
         --allow-native if that is meant, or build it for wasm32"
    )]
    NativeNotAllowed,
    /// It cannot be linked, compiled or instantiated.
    #[error("ZP-LOAD-007 {0}")]
    Link(String),
    /// It did not open.
    #[error("ZP-LOAD-008 it did not open: {0}")]
    Open(String),
    /// This very file failed before.
    #[error("ZP-LOAD-009 this file failed before and is in quarantine: {0}")]
    Quarantined(String),
    /// The system failed.
    #[error("ZP-LOAD-010 {0}")]
    System(String),
}

impl LoadError {
    /// Whether the same file fails again for the same reason, wherever it is tried.
    pub(crate) fn is_of_the_file(&self) -> bool {
        matches!(
            self,
            Self::NotAPlugin(_) | Self::Version(_) | Self::Kind(_) | Self::Link(_) | Self::Open(_)
        )
    }
}
