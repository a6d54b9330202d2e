//! An input read as a list of small choices, for targets that are not one decoder but a dialogue.
//!
//! Never fails: an input that has ended gives zeros, and says that it has ended.

/// Takes choices from the front of an input.
#[derive(Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// All of an input.
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Eight bytes as a little-endian number.
    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(core::array::from_fn(|_| self.byte()))
    }

    /// A number near `origin`, or near an end of 64 bits, or any: what a forged cursor would be.
    pub fn cursor(&mut self, origin: u64) -> u64 {
        match self.byte() {
            byte @ 0..=127 => origin.wrapping_add(u64::from(byte & 0x3f)),
            byte @ 128..=159 => origin.wrapping_sub(u64::from(byte & 0x1f)),
            byte @ 160..=191 => u64::from(byte & 0x1f),
            byte @ 192..=223 => u64::MAX - u64::from(byte & 0x1f),
            _ => self.word(),
        }
    }

    /// A piece with its length before it in one byte, or what is left.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }
}

/// Pieces as [`Choices::piece`] takes them apart; each must be shorter than 256 bytes.
pub fn joined(pieces: &[&[u8]]) -> Vec<u8> {
    let with_length = |piece: &&[u8]| [&[u8::try_from(piece.len()).unwrap_or(0)], *piece].concat();
    pieces.iter().flat_map(with_length).collect()
}
