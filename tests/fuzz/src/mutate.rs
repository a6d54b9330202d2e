//! Makes inputs out of other inputs: the same ones for the same seed, on every machine.
//!
//! A few changes at a time, of the kinds that decoders get wrong: a bit, a boundary value in one,
//! two, four or eight bytes, a piece left out, doubled, or taken from another input, an end cut
//! off. It is blind: it does not see what an input reaches, as a fuzzer with coverage does.

use zepto_core::hash;

/// Bytes of an input at most; longer ones find nothing that shorter ones do not.
const INPUT_BYTES: usize = 4096;
/// Changes to one input at most.
const CHANGES: u64 = 6;
/// Values at which lengths, counts and cursors go wrong.
const BOUNDARIES: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x0001_0000,
    0x03ff_ffff,
    0x0400_0001,
    0x4000_0000,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// A reproducible source of inputs.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// The source with this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: hash::mix(seed) }
    }

    /// The next input, made from one of `seeds`.
    pub fn next_input(&mut self, seeds: &[Vec<u8>], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.pick(seeds));
        for _ in 0..1 + self.below(CHANGES) {
            self.change(seeds, out);
        }
        out.truncate(INPUT_BYTES);
    }

    fn change(&mut self, seeds: &[Vec<u8>], out: &mut Vec<u8>) {
        let at = self.index(out.len() + 1);
        match self.below(10) {
            0 => self.flip(out),
            1 | 2 => self.boundary(out),
            3 => out.truncate(at),
            4 => {
                let until = at + self.index((out.len() - at + 1).min(64));
                out.drain(at..until);
            }
            5 => {
                let until = at + self.index((out.len() - at + 1).min(256));
                let piece = out[at..until].to_vec();
                out.splice(at..at, piece);
            }
            6 => {
                // The end of another input behind the beginning of this one.
                let other = self.pick(seeds);
                out.truncate(at);
                out.extend_from_slice(&other[self.index(other.len() + 1)..]);
            }
            7 => {
                let other = self.pick(seeds);
                let from = self.index(other.len() + 1);
                let until = from + self.index(other.len() - from + 1);
                out.splice(at..at, other[from..until].iter().copied());
            }
            8 => {
                let random = self.random().to_le_bytes();
                let count = self.index(random.len() + 1);
                out.splice(at..at, random[..count].iter().copied());
            }
            _ => {
                let value = self.random() as u8;
                if let Some(byte) = out.get_mut(at) {
                    *byte = value;
                }
            }
        }
    }

    fn flip(&mut self, out: &mut [u8]) {
        let (at, bit) = (self.index(out.len()), self.below(8));
        if let Some(byte) = out.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    fn boundary(&mut self, out: &mut [u8]) {
        let value = BOUNDARIES[self.index(BOUNDARIES.len())].to_le_bytes();
        let width = 1 << self.below(4);
        let at = self.index(out.len());
        for (byte, value) in out.iter_mut().skip(at).zip(&value[..width]) {
            *byte = *value;
        }
    }

    fn pick<'a>(&mut self, seeds: &'a [Vec<u8>]) -> &'a [u8] {
        let index = self.index(seeds.len());
        seeds.get(index).map_or(&[], Vec::as_slice)
    }

    /// An index below `length`, zero if there is none.
    fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.random()) * u128::from(n)) >> 64) as u64
    }

    /// splitmix64: a counter in steps of the golden ratio, mixed.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash::mix(self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_seed_others() {
        let seeds = [b"abc".to_vec(), Vec::new(), vec![7; 5000]];
        let inputs = |seed| {
            let (mut mutator, mut out) = (Mutator::new(seed), Vec::new());
            let one = |_| {
                mutator.next_input(&seeds, &mut out);
                assert!(out.len() <= INPUT_BYTES);
                out.clone()
            };
            (0..500).map(one).collect::<Vec<_>>()
        };
        assert!(inputs(1) == inputs(1));
        assert!(inputs(1) != inputs(2));
    }

    #[test]
    fn without_seeds_there_are_inputs_too() {
        let (mut mutator, mut out, mut longest) = (Mutator::new(3), Vec::new(), 0);
        for _ in 0..100 {
            mutator.next_input(&[], &mut out);
            longest = longest.max(out.len());
        }
        assert!(longest > 0);
    }
}
