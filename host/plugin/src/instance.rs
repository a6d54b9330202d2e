//! One instance of a plugin, of either target.

use crate::context::Context;
use crate::native::NativeInstance;
use crate::wasm::WasmInstance;
use core::fmt;
use core::time::Duration;

/// How an instance came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Its code did what no code may, or it panicked.
    Trap,
    /// It took too long.
    Deadline,
    /// It broke the rules of the interface.
    Broken,
    /// It took too long and could not be interrupted: its thread is given up.
    Hung,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Trap, Self::Deadline, Self::Broken, Self::Hung];

    /// One word, for counters.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Broken => "broken",
            Self::Hung => "hung",
        }
    }
}

/// The end of an instance: it is not called again.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How.
    pub kind: FaultKind,
    /// What happened, with a backtrace if there is one.
    pub text: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, text: String) -> Self {
        Self { kind, text }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.text(), self.text)
    }
}

/// An instance. One thread calls it, one call at a time.
pub enum Instance {
    /// In a sandbox.
    Wasm(Box<WasmInstance>),
    /// In this process.
    Native(Box<NativeInstance>),
}

impl Instance {
    /// The host's side of it.
    pub fn context(&mut self) -> &mut Context {
        match self {
            Self::Wasm(instance) => instance.context(),
            Self::Native(instance) => instance.context(),
        }
    }

    /// Opens it: the plugin's handle, or its status.
    ///
    /// # Errors
    /// When it came to its end.
    pub fn open(&mut self, message: &[u8], within: Duration) -> Result<i64, Fault> {
        match self {
            Self::Wasm(instance) => instance.open(message, within),
            Self::Native(instance) => Ok(instance.open(message)),
        }
    }

    /// Delivers an event: the plugin's status.
    ///
    /// # Errors
    /// When it came to its end.
    pub fn event(&mut self, message: &[u8], within: Duration) -> Result<i32, Fault> {
        match self {
            Self::Wasm(instance) => instance.event(message, within),
            Self::Native(instance) => Ok(instance.event(message)),
        }
    }

    /// Bytes of its memory; of native code nobody knows.
    pub fn memory_bytes(&self) -> Option<usize> {
        match self {
            Self::Wasm(instance) => Some(instance.memory_bytes()),
            Self::Native(_) => None,
        }
    }

    /// Closes it: the plugin's status.
    ///
    /// # Errors
    /// When it came to its end.
    pub fn close(&mut self, within: Duration) -> Result<i32, Fault> {
        match self {
            Self::Wasm(instance) => instance.close(within),
            Self::Native(instance) => Ok(instance.close()),
        }
    }
}
