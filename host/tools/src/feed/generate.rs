//! Generated feeds: the same ticks for the same (ticks, symbols, seed), on every machine.
//!
//! Symbols follow Zipf's law with exponent 1.1, prices are random walks, most ticks share their
//! time with the one before, and every fifth quote is a level that went away: the shape of a real
//! feed. Integers only: there is no floating point whose last bit a machine could choose.

use zepto_abi::Kind;
use zepto_core::limits::SYMBOLS_MAX;

use super::error::{FeedError, Skipped};
use super::{Feed, Notes, Progress, ProgressUnit, Row};

/// 2023-11-14T22:13:20Z, the time of the first tick.
const START_NS: u64 = 1_700_000_000_000_000_000;
/// One price increment, 0.01.
const STEP: i64 = 10_000_000;
const PRICE_MIN: i64 = 100 * STEP;
const PRICE_MAX: i64 = 100_000 * STEP;
/// One lot, 0.001.
const LOT: u64 = 1_000_000;

/// A reproducible feed of a given length.
pub struct GeneratedFeed {
    names: Vec<String>,
    skipped: Skipped,
    notes: Notes,
    random: SplitMix64,
    zipf: Zipf,
    /// Middle price of each symbol.
    prices: Vec<i64>,
    time_ns: u64,
    made: u64,
    ticks: u64,
}

impl GeneratedFeed {
    /// A feed of `ticks` rows over the symbols SYM0000, SYM0001, ..., the first the busiest.
    ///
    /// # Errors
    /// [`FeedError::SymbolCount`] unless `symbols` is 1 to [`SYMBOLS_MAX`].
    pub fn new(ticks: u64, symbols: u32, seed: u64) -> Result<Self, FeedError> {
        if symbols == 0 || symbols > SYMBOLS_MAX {
            return Err(FeedError::SymbolCount { symbols });
        }
        // Of equal width, so that the order of names is the order of numbers.
        let width = (symbols - 1).to_string().len().max(4);
        let mut random = SplitMix64(seed);
        let lowest = (PRICE_MIN / STEP) as u64;
        let span = (PRICE_MAX / STEP) as u64 - lowest;
        Ok(Self {
            names: (0..symbols).map(|number| format!("SYM{number:0width$}")).collect(),
            skipped: Skipped::default(),
            notes: Notes::default(),
            prices: (0..symbols)
                .map(|_| (lowest + below(random.next(), span)) as i64 * STEP)
                .collect(),
            zipf: Zipf::new(symbols),
            random,
            time_ns: START_NS,
            made: 0,
            ticks,
        })
    }

    #[inline]
    fn row(&mut self) -> Row {
        let symbol = self.zipf.pick(self.random.next());
        let random = self.random.next();
        // Each choice has its own bits of the second number.
        let percent = ((random & 0xffff) * 100) >> 16;
        let gone = (((random >> 16) & 0xff) * 5) >> 8;
        // The number of ones among four bits: two on average, so the walk has no drift.
        let walk = i64::from(((random >> 24) & 0xf).count_ones()) - 2;
        if (random >> 32) & 0x3 == 0 {
            self.time_ns += 1 + ((random >> 36) & 0xfff);
        }
        let middle = &mut self.prices[symbol as usize];
        *middle = (*middle + walk * STEP).clamp(PRICE_MIN, PRICE_MAX);
        let (kind, price) = match percent {
            0..10 => (Kind::TRADE, *middle),
            10..55 => (Kind::BID, *middle - STEP),
            _ => (Kind::ASK, *middle + STEP),
        };
        let is_gone = gone == 0 && kind != Kind::TRADE;
        let size = if is_gone { 0 } else { (1 + (random >> 52)) * LOT };
        let event_time_ns = self.time_ns;
        Row { event_time_ns, symbol, kind, price, size, ..Row::default() }
    }
}

impl Feed for GeneratedFeed {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn next_batch(&mut self, out: &mut Vec<Row>, max: usize) -> Result<usize, FeedError> {
        let rows = (self.ticks - self.made).min(max as u64);
        out.extend((0..rows).map(|_| self.row()));
        self.made += rows;
        Ok(rows as usize)
    }

    fn rows_expected(&self) -> Option<u64> {
        Some(self.ticks)
    }

    fn progress(&self) -> Progress {
        Progress { done: self.made, total: Some(self.ticks), unit: ProgressUnit::Rows }
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    fn notes(&self) -> &Notes {
        &self.notes
    }
}

/// Sebastiano Vigna's splitmix64 (<https://prng.di.unimi.it/splitmix64.c>, public domain), after
/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A number below `n` from 64 random bits.
#[inline]
fn below(random: u64, n: u64) -> u64 {
    ((u128::from(random) * u128::from(n)) >> 64) as u64
}

/// Picks rank k with a probability that falls as k^-1.1, in constant time: Walker's alias table,
/// built by Vose's method.
struct Zipf(Vec<Cell>);

/// A rank's cell: its own rank below the threshold, the alias from there on.
#[derive(Clone, Copy)]
struct Cell {
    threshold: u32,
    alias: u32,
}

impl Zipf {
    fn new(ranks: u32) -> Self {
        let weights: Vec<u128> =
            (1..=u64::from(ranks)).map(|rank| zipf_weight(rank).into()).collect();
        let total: u128 = weights.iter().sum();
        // Scaled so that the mean, which fills one cell, is `total`.
        let mut rest: Vec<u128> = weights.iter().map(|weight| weight * u128::from(ranks)).collect();
        let mut cells: Vec<Cell> =
            (0..ranks).map(|rank| Cell { threshold: u32::MAX, alias: rank }).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..ranks).partition(|rank| rest[*rank as usize] < total);
        while let (Some(under), Some(&over)) = (small.pop(), large.last()) {
            let filled = rest[under as usize];
            cells[under as usize] =
                Cell { threshold: ((filled << 32) / total) as u32, alias: over };
            let left = &mut rest[over as usize];
            *left -= total - filled;
            if *left < total {
                large.pop();
                small.push(over);
            }
        }
        Self(cells)
    }

    #[inline]
    fn pick(&self, random: u64) -> u32 {
        let cell = ((random >> 32) * self.0.len() as u64) >> 32;
        let Cell { threshold, alias } = self.0[cell as usize];
        if (random as u32) < threshold { cell as u32 } else { alias }
    }
}

/// 2^52 / rank^1.1 for ranks up to 2^20, to one part in a thousand.
fn zipf_weight(rank: u64) -> u64 {
    (1 << 62) / (rank * tenth_root(rank))
}

/// 1024 times the tenth root of a number up to 2^20, rounded down.
fn tenth_root(number: u64) -> u64 {
    let power = u128::from(number) << 100;
    let (mut root, mut step) = (0u128, 1u128 << 12);
    while step > 0 {
        if (root + step).pow(10) <= power {
            root += step;
        }
        step >>= 1;
    }
    root as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of the first 10,000 rows, computed by a second implementation in another language.
    const PINNED_1000: u64 = 0x508d_4eea_28c9_0e68;
    const PINNED_7: u64 = 0xcf66_c29b_12c9_637f;

    fn rows(ticks: u64, symbols: u32, seed: u64) -> Vec<Row> {
        let mut feed = GeneratedFeed::new(ticks, symbols, seed).unwrap();
        let mut rows = Vec::new();
        // Batches of changing length, as rows may not depend on them.
        for max in (1..).map(|batch| batch * 7 % 1000 + 1) {
            if feed.next_batch(&mut rows, max).unwrap() == 0 {
                break;
            }
        }
        assert_eq!(feed.progress().done, ticks);
        rows
    }

    /// FNV-1a over every field, so that the pinned value is easy to compute elsewhere.
    fn hash(rows: &[Row]) -> u64 {
        let fields = |row: &Row| {
            let Row { event_time_ns, symbol, kind, price, size, .. } = *row;
            [event_time_ns, symbol.into(), kind.into(), price as u64, size]
        };
        rows.iter()
            .flat_map(fields)
            .flat_map(u64::to_le_bytes)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }

    #[test]
    fn the_random_numbers_are_those_of_the_published_generator() {
        // First outputs of splitmix64.c for the seed 1234567.
        let mut random = SplitMix64(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_rows_for_ever() {
        assert_eq!(hash(&rows(10_000, 1_000, 1)), PINNED_1000);
        assert_eq!(hash(&rows(10_000, 7, 42)), PINNED_7);
        assert_ne!(hash(&rows(10_000, 1_000, 2)), PINNED_1000);
        assert_eq!(rows(5_000, 1_000, 1), rows(10_000, 1_000, 1)[..5_000]);
    }

    #[test]
    fn names_are_of_equal_width_and_sorted() {
        for symbols in [1, 10_000, 10_001, 123_456] {
            let feed = GeneratedFeed::new(0, symbols, 0).unwrap();
            assert_eq!(feed.names().len(), symbols as usize);
            assert!(feed.names().is_sorted());
        }
        assert_eq!(GeneratedFeed::new(0, 1, 0).unwrap().names(), ["SYM0000"]);
        assert_eq!(GeneratedFeed::new(0, 10_001, 0).unwrap().names()[3], "SYM00003");
    }

    #[test]
    fn no_symbols_or_too_many_are_an_error() {
        for symbols in [0, SYMBOLS_MAX + 1, u32::MAX] {
            assert!(matches!(
                GeneratedFeed::new(1, symbols, 0),
                Err(FeedError::SymbolCount { symbols: refused }) if refused == symbols
            ));
        }
        assert!(rows(0, 5, 0).is_empty());
    }

    #[test]
    fn rows_have_the_shape_of_a_real_feed() {
        let rows = rows(200_000, 100, 3);
        let share = |of: &dyn Fn(&Row) -> bool| {
            rows.iter().filter(|row| of(row)).count() as u64 * 1000 / rows.len() as u64
        };
        assert!((90..110).contains(&share(&|row| row.kind == Kind::TRADE)));
        assert!((440..460).contains(&share(&|row| row.kind == Kind::BID)));
        assert!((440..460).contains(&share(&|row| row.kind == Kind::ASK)));
        assert!((150..220).contains(&share(&|row| row.size == 0)));
        assert!(rows.iter().all(|row| row.kind != Kind::TRADE || row.size > 0));
        assert!(rows.iter().all(|row| (PRICE_MIN - STEP..=PRICE_MAX + STEP).contains(&row.price)));
        assert!(rows.is_sorted_by_key(|row| row.event_time_ns));
        let equal = rows.windows(2).filter(|pair| pair[0].event_time_ns == pair[1].event_time_ns);
        assert!(equal.count() > rows.len() / 2);
    }

    #[test]
    fn symbols_follow_zipfs_law() {
        let mut counts = [0u64; 100];
        for row in rows(1_000_000, 100, 4) {
            counts[row.symbol as usize] += 1;
        }
        // The law in floating point, which a test may use; two in a hundred are left to chance
        // where the expected count is large.
        let weight = |rank: usize| (rank as f64).powf(-1.1);
        let total: f64 = (1..=100).map(weight).sum();
        for rank in 1..=20 {
            let expected = 1e6 * weight(rank) / total;
            let ratio = counts[rank - 1] as f64 / expected;
            assert!((0.95..1.05).contains(&ratio), "rank {rank}: {ratio} of {expected}");
        }
        assert!(counts.iter().all(|count| *count > 0));
    }

    #[test]
    fn the_table_of_the_most_symbols_gives_every_rank_its_share() {
        let ranks = SYMBOLS_MAX;
        let zipf = Zipf::new(ranks);
        let mut shares = vec![0u64; ranks as usize];
        for (cell, Cell { threshold, alias }) in zipf.0.iter().enumerate() {
            shares[cell] += u64::from(*threshold);
            shares[*alias as usize] += (1 << 32) - u64::from(*threshold);
        }
        let weights: u128 = (1..=u64::from(ranks)).map(|rank| u128::from(zipf_weight(rank))).sum();
        for rank in [1u64, 2, 3, 10, 1_000, 100_000, ranks.into()] {
            let share = u128::from(shares[rank as usize - 1]);
            let expected = ((u128::from(zipf_weight(rank)) * u128::from(ranks)) << 32) / weights;
            assert!(share.abs_diff(expected) <= expected / 100_000 + 2, "rank {rank}");
        }
    }
}
