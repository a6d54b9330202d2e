//! Reading: a message, its fixed part, its spans and its lists.

use core::fmt;
use core::mem::offset_of;
use zepto_abi::plugin::{self as abi, PluginStatus};

/// Bytes of the header that every message begins with.
const HEADER: usize = size_of::<abi::Msg>();

/// Why bytes are not the message that they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than a header, or than the message says it is.
    Size,
    /// Another kind of message than is wanted here.
    Kind(u32),
    /// Flags, or a mode, that this version does not know.
    Flags(u32),
    /// A span that leaves the message.
    Span,
    /// A list that leaves the message, or has no stride.
    List,
    /// Text that is not UTF-8.
    Text,
    /// More elements than allowed.
    TooMany {
        /// How many there are.
        count: u32,
        /// How many there may be.
        most: u32,
    },
}

impl Malformed {
    /// The status that tells a plugin.
    pub const fn status(self) -> PluginStatus {
        match self {
            Self::Flags(_) => PluginStatus::Unsupported,
            Self::TooMany { .. } => PluginStatus::TooBig,
            _ => PluginStatus::Invalid,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => f.write_str("its sizes do not fit its bytes"),
            Self::Kind(kind) => write!(f, "a message of kind {kind:#x} does not belong here"),
            Self::Flags(flags) => write!(f, "flags {flags:#x} are not known here"),
            Self::Span => f.write_str("a span leaves the message"),
            Self::List => f.write_str("a list leaves the message, or has no stride"),
            Self::Text => f.write_str("text is not UTF-8"),
            Self::TooMany { count, most } => write!(f, "{count} elements, at most {most}"),
        }
    }
}

impl core::error::Error for Malformed {}

/// The fields of a message's fixed part, or of one element of a list.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// The whole message: spans count from its first byte.
    message: &'a [u8],
    /// Where the fields begin, and how many bytes of them there are.
    at: usize,
    size: usize,
}

impl<'a> Fields<'a> {
    /// The bytes of one field; zeros where the sender did not know it.
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let known = offset.checked_add(N).is_some_and(|end| end <= self.size);
        let field = known.then(|| self.message.get(self.at + offset..self.at + offset + N));
        field.flatten().and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    /// A number of 8 bits.
    pub fn u8(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.array(offset))
    }

    /// A number of 16 bits.
    pub fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    /// A number of 32 bits.
    pub fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    /// A signed number of 32 bits.
    pub fn i32(&self, offset: usize) -> i32 {
        i32::from_le_bytes(self.array(offset))
    }

    /// A number of 64 bits.
    pub fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    /// What a span points at; nothing when it is absent.
    ///
    /// # Errors
    /// When it leaves the message.
    pub fn bytes(&self, offset: usize) -> Result<&'a [u8], Malformed> {
        let len = self.u32(offset + offset_of!(abi::Span, len)) as usize;
        if len == 0 {
            return Ok(&[]);
        }
        let off = self.u32(offset + offset_of!(abi::Span, off)) as usize;
        let end = off.checked_add(len).ok_or(Malformed::Span)?;
        self.message.get(off..end).ok_or(Malformed::Span)
    }

    /// The text that a span points at.
    ///
    /// # Errors
    /// When it leaves the message, or is not UTF-8.
    pub fn text(&self, offset: usize) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.bytes(offset)?).map_err(|_| Malformed::Text)
    }

    /// A list with at most so many elements.
    ///
    /// # Errors
    /// When it has more, leaves the message, or has no stride.
    pub fn list(&self, offset: usize, most: u32) -> Result<List<'a>, Malformed> {
        let count = self.u32(offset + offset_of!(abi::List, count));
        if count == 0 {
            return Ok(List { message: self.message, off: 0, count: 0, stride: 0 });
        }
        if count > most {
            return Err(Malformed::TooMany { count, most });
        }
        let off = self.u32(offset + offset_of!(abi::List, off));
        let stride = self.u32(offset + offset_of!(abi::List, stride));
        let end = u64::from(off) + u64::from(count) * u64::from(stride);
        if stride == 0 || end > self.message.len() as u64 {
            return Err(Malformed::List);
        }
        Ok(List { message: self.message, off: off as usize, count, stride: stride as usize })
    }
}

/// A message whose sizes fit its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a>(Fields<'a>);

impl<'a> Message<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the sizes do not fit, or flags are set that nobody knows.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header = Fields { message: bytes, at: 0, size: HEADER };
        if bytes.len() < HEADER {
            return Err(Malformed::Size);
        }
        let size = header.u32(offset_of!(abi::Msg, struct_size)) as usize;
        let total = header.u32(offset_of!(abi::Msg, total_size)) as usize;
        let message = bytes.get(..total).ok_or(Malformed::Size)?;
        if size < HEADER || size > total {
            return Err(Malformed::Size);
        }
        let flags = header.u32(offset_of!(abi::Msg, flags));
        if flags != 0 {
            return Err(Malformed::Flags(flags));
        }
        Ok(Self(Fields { message, at: 0, size }))
    }

    /// Reads the fixed part of a message of one kind.
    ///
    /// # Errors
    /// As for [`Self::read`], and when it is of another kind.
    pub fn expect(bytes: &'a [u8], kind: u32) -> Result<Fields<'a>, Malformed> {
        let message = Self::read(bytes)?;
        if message.kind() != kind {
            return Err(Malformed::Kind(message.kind()));
        }
        Ok(message.fields())
    }

    /// Which message it is.
    pub fn kind(&self) -> u32 {
        self.0.u32(offset_of!(abi::Msg, kind))
    }

    /// Its fixed part.
    pub fn fields(&self) -> Fields<'a> {
        self.0
    }
}

/// A list whose elements lie inside their message.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    message: &'a [u8],
    off: usize,
    count: u32,
    stride: usize,
}

impl<'a> List<'a> {
    /// Its elements.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each element.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Fields<'a>> + use<'a> {
        let Self { message, off, stride, .. } = *self;
        (0..self.len()).map(move |i| Fields { message, at: off + i * stride, size: stride })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn message(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let read = |words: &[u32]| Message::read(&message(words)).map(|m| m.kind());
        assert_eq!(read(&[16, 16, 2, 0]), Ok(2));
        assert_eq!(read(&[15, 16, 2, 0]), Err(Malformed::Size), "less than a header");
        assert_eq!(read(&[20, 16, 2, 0]), Err(Malformed::Size), "more than the message");
        assert_eq!(read(&[16, 20, 2, 0]), Err(Malformed::Size), "more than there is");
        assert_eq!(read(&[16, 16, 2, 4]), Err(Malformed::Flags(4)));
        assert_eq!(read(&[16, 16, 2]), Err(Malformed::Size));
    }

    #[test]
    fn bytes_behind_the_message_are_not_part_of_it() {
        // A span of one byte, just behind the 24 bytes that the message says it has.
        let bytes = message(&[24, 24, 2, 0, 24, 1, 0xffff_ffff]);
        let fields = Message::expect(&bytes, 2).unwrap();
        assert_eq!(fields.bytes(16), Err(Malformed::Span));
    }

    #[test]
    fn fields_that_the_sender_did_not_know_are_zero() {
        let bytes = message(&[20, 24, 2, 0, 7, 9]);
        let fields = Message::expect(&bytes, 2).unwrap();
        assert_eq!((fields.u32(16), fields.u32(20), fields.u64(16)), (7, 0, 0));
        assert_eq!(fields.bytes(20), Ok(&[][..]));
    }

    #[test]
    fn spans_and_lists_that_wrap_around_are_refused() {
        let span = |off, len| {
            let bytes = message(&[32, 32, 2, 0, off, len, 0, 0]);
            Message::expect(&bytes, 2).unwrap().bytes(16).map(<[u8]>::len)
        };
        assert_eq!(span(u32::MAX, 0), Ok(0), "absent");
        assert_eq!(span(24, 8), Ok(8));
        assert_eq!(span(u32::MAX - 3, 8), Err(Malformed::Span));
        assert_eq!(span(8, u32::MAX), Err(Malformed::Span));
        let list = |off, count, stride| {
            let bytes = message(&[32, 32, 2, 0, off, count, stride, 0]);
            Message::expect(&bytes, 2).unwrap().list(16, 1000).map(|list| list.len())
        };
        assert_eq!(list(16, 4, 4), Ok(4));
        assert_eq!(list(0, 0, 0), Ok(0));
        assert_eq!(list(16, 4, 5), Err(Malformed::List));
        assert_eq!(list(16, 1, 0), Err(Malformed::List), "no stride");
        assert_eq!(list(u32::MAX, 2, u32::MAX), Err(Malformed::List));
        assert_eq!(list(16, 1001, 4), Err(Malformed::TooMany { count: 1001, most: 1000 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic_or_leave_the_message(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            sane in any::<bool>(), offset in 0usize..300,
        ) {
            if sane && bytes.len() >= 16 {
                let len = bytes.len() as u32;
                bytes[0..4].copy_from_slice(&len.to_le_bytes());
                bytes[4..8].copy_from_slice(&len.to_le_bytes());
                bytes[12..16].fill(0);
            }
            let Ok(message) = Message::read(&bytes) else { return Ok(()) };
            let fields = message.fields();
            let all = bytes.as_ptr_range();
            let inside = |part: &[u8]| part.is_empty() || all.contains(&part.as_ptr());
            prop_assert!(fields.bytes(offset).is_ok_and(inside) || fields.bytes(offset).is_err());
            if let Ok(list) = fields.list(offset, 64) {
                for element in list.iter() {
                    prop_assert!(element.bytes(0).map_or(true, inside));
                    let _ = (element.u8(1), element.u16(2), element.u32(4), element.u64(8));
                }
            }
        }
    }
}
