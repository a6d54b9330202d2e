//! A fixed buffer between an input and whoever cuts it into pieces.
//!
//! Bytes come in at the back and are taken from the front, in place; what is held slides to the
//! front when more is read. It never grows, and knows neither lines nor records.

use std::io;

pub(super) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// The input has no more bytes.
    ended: bool,
}

impl Buffer {
    pub(super) fn new(capacity_bytes: usize) -> Self {
        let bytes = vec![0; capacity_bytes].into_boxed_slice();
        Self { bytes, start: 0, end: 0, ended: false }
    }

    /// What was read and not taken yet.
    #[inline]
    pub(super) fn held(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether the input has no more bytes than those held.
    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes bytes that are held, and gives them out.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let start = self.start;
        self.start += count;
        &self.bytes[start..self.start]
    }

    /// Moves what is held to the front and reads behind it, once.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let bytes = read(&mut self.bytes[self.end..])?;
        self.end += bytes;
        self.ended = bytes == 0;
        Ok(())
    }
}
