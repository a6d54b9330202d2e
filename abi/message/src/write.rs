//! Writing: a fixed part first, then what its spans and lists point at.

use alloc::vec::Vec;
use core::mem::offset_of;
use zepto_abi::plugin as abi;

/// A message that is being written. What does not fit 32 bits makes a message that no reader takes.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Writer {
    /// A message of one kind with a fixed part of so many bytes, all zero.
    pub fn new(kind: u32, size: usize) -> Self {
        Self::over(Vec::new(), kind, size)
    }

    /// The same in a buffer that was used before.
    pub fn over(mut bytes: Vec<u8>, kind: u32, size: usize) -> Self {
        bytes.clear();
        bytes.resize(size, 0);
        let mut writer = Self(bytes);
        writer.u32(offset_of!(abi::Msg, struct_size), u32_of(size));
        writer.u32(offset_of!(abi::Msg, kind), kind);
        writer
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.0.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }

    /// Sets a number of 8 bits.
    pub fn u8(&mut self, at: usize, value: u8) {
        self.put(at, &[value]);
    }

    /// Sets a number of 16 bits.
    pub fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    /// Sets a number of 32 bits.
    pub fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// Sets a number of 64 bits.
    pub fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// Appends bytes, and sets the span that points at them.
    pub fn bytes(&mut self, at: usize, bytes: &[u8]) {
        self.u32(at + offset_of!(abi::Span, off), u32_of(self.0.len()));
        self.u32(at + offset_of!(abi::Span, len), u32_of(bytes.len()));
        self.0.extend_from_slice(bytes);
    }

    /// Appends a message at an offset that a message may have, and sets the span.
    pub fn message(&mut self, at: usize, bytes: &[u8]) {
        self.align();
        self.bytes(at, bytes);
    }

    /// Appends a list of elements, all zero, and sets the field that points at it. Returns where
    /// the first element begins.
    pub fn list(&mut self, at: usize, count: usize, stride: usize) -> usize {
        self.align();
        let begin = self.0.len();
        self.u32(at + offset_of!(abi::List, off), u32_of(begin));
        self.u32(at + offset_of!(abi::List, count), u32_of(count));
        self.u32(at + offset_of!(abi::List, stride), u32_of(stride));
        self.0.resize(begin + count * stride, 0);
        begin
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    /// The bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let total = u32_of(self.0.len());
        self.u32(offset_of!(abi::Msg, total_size), total);
        self.0
    }
}
