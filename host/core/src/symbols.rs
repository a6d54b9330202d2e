//! The symbol table: names to dense ids, issued by the log in order and never recycled.

use crate::limits::{SYMBOL_NAME_BYTES_MAX, SYMBOLS_MAX};
use core::hash::BuildHasher;
use hashbrown::HashTable;

/// Names and their ids, which are their positions.
#[derive(Clone, Debug)]
pub struct Symbols {
    names: Vec<Box<str>>,
    by_name: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
}

/// Why a name is no symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolError {
    /// Empty, or longer than the limit.
    #[error("a symbol name has 1 to {SYMBOL_NAME_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
    /// White space, a comma or a control character.
    #[error("a symbol name has no white space, commas or control characters")]
    Character,
    /// All ids are issued.
    #[error("all {SYMBOLS_MAX} symbol ids are issued")]
    Full,
}

impl Default for Symbols {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            by_name: HashTable::new(),
            hasher: foldhash::fast::FixedState::with_seed(0x7a65_7074_6f00_0002),
        }
    }
}

impl Symbols {
    /// Whether a name may be a symbol.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(name: &str) -> Result<(), SymbolError> {
        if name.is_empty() || name.len() > SYMBOL_NAME_BYTES_MAX {
            return Err(SymbolError::Length(name.len()));
        }
        if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',') {
            return Err(SymbolError::Character);
        }
        Ok(())
    }

    /// The id of a name.
    pub fn id(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.by_name.find(hash, |id| &*self.names[*id as usize] == name).copied()
    }

    /// The name of an id.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(|name| &**name)
    }

    /// How many ids are issued; the next one is this number.
    pub fn len(&self) -> u32 {
        self.names.len() as u32
    }

    /// Whether none is issued.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The id of a name, issued now if it is new.
    ///
    /// # Errors
    /// The name is no symbol, or all ids are issued; nothing changed.
    pub fn intern(&mut self, name: &str) -> Result<u32, SymbolError> {
        Self::check(name)?;
        if let Some(id) = self.id(name) {
            return Ok(id);
        }
        if self.len() >= SYMBOLS_MAX {
            return Err(SymbolError::Full);
        }
        let id = self.len();
        self.names.push(name.into());
        let (names, hasher) = (&self.names, &self.hasher);
        self.by_name.insert_unique(hasher.hash_one(name), id, |other| {
            hasher.hash_one(&*names[*other as usize])
        });
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_stable_and_found_again() {
        let mut symbols = Symbols::default();
        for i in 0..5000u32 {
            assert_eq!(symbols.intern(&format!("S{i}")), Ok(i));
        }
        assert_eq!(symbols.intern("S77"), Ok(77));
        assert_eq!(symbols.id("S4999"), Some(4999));
        assert_eq!(symbols.id("absent"), None);
        assert_eq!(symbols.name(4999), Some("S4999"));
        assert_eq!(symbols.name(5000), None);
    }

    #[test]
    fn bad_names_are_refused() {
        let mut symbols = Symbols::default();
        for name in ["", "a b", "a,b", "a\n", &"x".repeat(65)] {
            assert!(symbols.intern(name).is_err(), "{name:?}");
        }
        assert!(symbols.intern("spot:BTC/USDT").is_ok());
        assert!(symbols.intern(&"x".repeat(64)).is_ok());
    }
}
