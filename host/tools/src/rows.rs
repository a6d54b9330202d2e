//! Proof by content that every row arrived, once.
//!
//! Each tick carries the number of its row in the feed in its first user word. Reading those words
//! back and marking them here says what was lost and what is there twice, without trusting any
//! counter of the system under proof. One bit per row, allocated once; it knows nothing of ticks.

use thiserror::Error;
use zepto_core::limits::FEED_ROWS_MAX;

/// Why a set cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowSetError {
    /// More rows than [`FEED_ROWS_MAX`]. Nothing was allocated.
    #[error("{rows} rows are too many to prove by content: at most {FEED_ROWS_MAX}")]
    TooMany {
        /// What was asked for.
        rows: u64,
    },
    /// The memory is not to be had. Nothing was allocated.
    #[error("no memory for {bytes} bytes, one bit for each row")]
    NoMemory {
        /// What it would have taken.
        bytes: u64,
    },
}

/// What a row number turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Seen for the first time.
    New,
    /// Seen before.
    Duplicate,
    /// Not a row of the feed.
    Beyond,
}

/// Which of the rows 0 to n - 1 have been seen.
#[derive(Debug)]
pub struct RowSet {
    words: Vec<u64>,
    rows: u64,
    seen: u64,
    duplicates: u64,
    beyond: u64,
}

impl RowSet {
    /// For a feed of `rows` rows, none of them seen.
    ///
    /// # Errors
    /// See [`RowSetError`].
    pub fn new(rows: u64) -> Result<Self, RowSetError> {
        if rows > FEED_ROWS_MAX {
            return Err(RowSetError::TooMany { rows });
        }
        // Below 2^26 by the limit above.
        let length = rows.div_ceil(64) as usize;
        let mut words = Vec::new();
        if words.try_reserve_exact(length).is_err() {
            return Err(RowSetError::NoMemory { bytes: length as u64 * 8 });
        }
        words.resize(length, 0);
        Ok(Self { words, rows, seen: 0, duplicates: 0, beyond: 0 })
    }

    /// Marks a row as seen and says what it was before.
    #[inline]
    pub fn see(&mut self, row: u64) -> Seen {
        if row >= self.rows {
            self.beyond += 1;
            return Seen::Beyond;
        }
        let (word, bit) = (&mut self.words[(row / 64) as usize], 1u64 << (row % 64));
        if *word & bit != 0 {
            self.duplicates += 1;
            return Seen::Duplicate;
        }
        *word |= bit;
        self.seen += 1;
        Seen::New
    }

    /// How many rows the feed has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many different rows have been seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many times a row was seen that had been seen before.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// How many times a number was seen that is no row of the feed.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// How many rows have not been seen.
    pub fn lost_count(&self) -> u64 {
        self.rows - self.seen
    }

    /// The rows that have not been seen, ascending.
    pub fn lost(&self) -> impl Iterator<Item = u64> {
        let rows = self.rows;
        (0u64..).zip(&self.words).flat_map(move |(index, word)| {
            let first = index * 64;
            let inside = (rows - first).min(64);
            Bits(!word & u64::MAX >> (64 - inside)).map(move |bit| first + bit)
        })
    }
}

/// The positions of the ones of a word, ascending.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.0 == 0 {
            return None;
        }
        let bit = u64::from(self.0.trailing_zeros());
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_new_then_duplicate_and_others_are_beyond() {
        let mut set = RowSet::new(65).unwrap();
        assert_eq!(set.see(64), Seen::New);
        assert_eq!(set.see(64), Seen::Duplicate);
        assert_eq!(set.see(65), Seen::Beyond);
        assert_eq!(set.see(u64::MAX), Seen::Beyond);
        assert_eq!((set.seen(), set.duplicates(), set.beyond(), set.lost_count()), (1, 1, 2, 64));
        assert_eq!(set.lost().collect::<Vec<_>>(), (0..64).collect::<Vec<_>>());
    }

    #[test]
    fn a_feed_without_rows_loses_none() {
        let mut set = RowSet::new(0).unwrap();
        assert_eq!((set.lost_count(), set.lost().next()), (0, None));
        assert_eq!(set.see(0), Seen::Beyond);
    }

    #[test]
    fn an_absurd_number_of_rows_is_an_error() {
        assert_eq!(RowSet::new(u64::MAX).err(), Some(RowSetError::TooMany { rows: u64::MAX }));
    }

    proptest! {
        #[test]
        fn it_agrees_with_an_ordinary_set(
            rows in 1u64..300,
            seen in prop::collection::vec(0u64..320, 0..400),
        ) {
            let mut set = RowSet::new(rows).unwrap();
            let mut model = BTreeSet::new();
            for row in &seen {
                let expected = match () {
                    () if *row >= rows => Seen::Beyond,
                    () if model.insert(*row) => Seen::New,
                    () => Seen::Duplicate,
                };
                prop_assert_eq!(set.see(*row), expected);
            }
            let lost: Vec<u64> = (0..rows).filter(|row| !model.contains(row)).collect();
            prop_assert_eq!(set.lost_count(), lost.len() as u64);
            prop_assert_eq!(set.lost().collect::<Vec<_>>(), lost);
            let account = set.seen() + set.duplicates() + set.beyond();
            prop_assert_eq!(account, seen.len() as u64);
        }
    }
}
