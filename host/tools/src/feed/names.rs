//! The names of a feed: each vetted once, then known by its index.
//!
//! Apart from the cluster's symbol table, because a name is looked up here as the bytes of a line,
//! before anything is known about them, and has an index of this feed, not an id.
//! The map behind it is seeded with a constant, so that equal runs are equal, and is never
//! iterated: order is the order of appearance.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use zepto_core::limits::{SYMBOL_NAME_BYTES_MAX, SYMBOLS_MAX};
use zepto_core::symbols::{SymbolError, Symbols};

use super::error::Fault;

const SEED: u64 = 0x7a65_7074_6f5f_6e6d;

/// Why a name has no index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameError {
    /// It may not be a name.
    Fault(Fault),
    /// There are [`SYMBOLS_MAX`] others already.
    TooMany,
}

/// Names in order of appearance, each with its index.
pub(super) struct Names {
    list: Vec<String>,
    /// Indices into `list`, found by the hash of the name.
    index: HashTable<u32>,
    hasher: FixedState,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { list: Vec::new(), index: HashTable::new(), hasher: FixedState::with_seed(SEED) }
    }

    pub(super) fn as_slice(&self) -> &[String] {
        &self.list
    }

    /// The index of a name, which a new one gets if it may be a name.
    #[inline]
    pub(super) fn intern(&mut self, name: &[u8]) -> Result<u32, NameError> {
        let hash = self.hasher.hash_one(name);
        let list = &self.list;
        match self.index.find(hash, |index| list[*index as usize].as_bytes() == name) {
            Some(index) => Ok(*index),
            None => self.add(hash, name),
        }
    }

    #[cold]
    fn add(&mut self, hash: u64, name: &[u8]) -> Result<u32, NameError> {
        let name = vet(name).map_err(NameError::Fault)?;
        let index = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        if index >= SYMBOLS_MAX {
            return Err(NameError::TooMany);
        }
        self.list.push(name.to_owned());
        let Self { list, index: map, hasher } = self;
        let rehash = |index: &u32| hasher.hash_one(list[*index as usize].as_bytes());
        map.insert_unique(hash, index, rehash);
        Ok(index)
    }
}

/// A symbol's name if it may be one: by the cluster's own rule, and without quotation marks, for
/// fields are never quoted here. Taken literally, `"ABC"` would be another symbol than `ABC`.
fn vet(name: &[u8]) -> Result<&str, Fault> {
    // Length first, since what is longer than a name is hardly meant as text.
    if name.len() > SYMBOL_NAME_BYTES_MAX {
        return Err(Fault::SymbolTooLong);
    }
    let name = std::str::from_utf8(name).map_err(|_| Fault::SymbolNotUtf8)?;
    match Symbols::check(name) {
        Ok(()) if name.contains('"') => Err(Fault::SymbolCharacter),
        Ok(()) => Ok(name),
        Err(SymbolError::Length(_)) => Err(Fault::SymbolEmpty),
        Err(SymbolError::Character | SymbolError::Full) => Err(Fault::SymbolCharacter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_index_and_order_is_that_of_appearance() {
        let mut names = Names::new();
        for round in 0..2 {
            for number in 0..1000u32 {
                let name = format!("N{number}");
                assert_eq!(names.intern(name.as_bytes()), Ok(number), "round {round}");
            }
        }
        assert_eq!(names.as_slice().len(), 1000);
        assert_eq!(names.as_slice()[7], "N7");
    }

    #[test]
    fn a_name_that_may_not_be_one_is_refused_and_leaves_nothing() {
        let long = [b'x'; SYMBOL_NAME_BYTES_MAX + 1];
        let cases: [(&[u8], Fault); 9] = [
            (b"", Fault::SymbolEmpty),
            (&long, Fault::SymbolTooLong),
            (b"A\xff", Fault::SymbolNotUtf8),
            (b"A B", Fault::SymbolCharacter),
            (b" A", Fault::SymbolCharacter),
            (b"A\x00", Fault::SymbolCharacter),
            (b"A,B", Fault::SymbolCharacter),
            (b"\"A\"", Fault::SymbolCharacter),
            ("A\u{a0}B".as_bytes(), Fault::SymbolCharacter),
        ];
        let mut names = Names::new();
        for (name, fault) in cases {
            assert_eq!(names.intern(name), Err(NameError::Fault(fault)), "{name:?}");
        }
        assert!(names.as_slice().is_empty());
        assert_eq!(names.intern(&long[1..]), Ok(0));
        assert_eq!(names.intern("\u{20bf}/\u{20ac}".as_bytes()), Ok(1));
    }

    #[test]
    fn one_name_too_many_is_refused() {
        let mut names = Names::new();
        for number in 0..SYMBOLS_MAX {
            assert_eq!(names.intern(number.to_string().as_bytes()), Ok(number));
        }
        assert_eq!(names.intern(b"more"), Err(NameError::TooMany));
        assert_eq!(names.intern(b"0"), Ok(0));
    }
}
