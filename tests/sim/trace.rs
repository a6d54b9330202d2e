//! The trace: one hash over everything that happened, and its text when somebody asks for it.
//!
//! Invariant: equal seeds give equal hashes, in every process.

use core::cell::{Cell, RefCell};

/// Collects the trace of one schedule.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Cell<u64>,
    count: Cell<u64>,
    lines: Option<RefCell<Vec<String>>>,
}

impl Trace {
    /// A trace, with its text if it is to be kept.
    pub fn new(keep_text: bool) -> Self {
        Self { lines: keep_text.then(RefCell::default), ..Self::default() }
    }

    /// Mixes an event into the hash.
    #[inline]
    pub fn mix(&self, words: &[u64]) {
        let mixed = words.iter().fold(self.hash.get(), |hash, word| {
            (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        });
        self.hash.set(mixed);
        self.count.set(self.count.get() + 1);
    }

    /// Adds a line of text. Text never goes into the hash.
    pub fn say(&self, text: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().push(text());
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Takes the text.
    pub fn take_lines(&self) -> Vec<String> {
        self.lines
            .as_ref()
            .map(|lines| core::mem::take(&mut *lines.borrow_mut()))
            .unwrap_or_default()
    }
}
