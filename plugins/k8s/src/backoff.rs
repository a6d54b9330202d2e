//! Pauses after failures: they double, and are spread by the node's name, so that the nodes of a
//! cluster do not come back all at once. Nothing here is random.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The pauses of one node.
#[derive(Debug)]
pub struct Backoff {
    first_ms: u64,
    longest_ms: u64,
    node: String,
    failures: u32,
    /// Pauses so far, so that no two are spread alike.
    drawn: u64,
}

impl Backoff {
    /// Of a node, from the first to the longest, ms.
    pub fn new([first_ms, longest_ms]: [u32; 2], node: &str) -> Self {
        let (first_ms, longest_ms) = (first_ms.into(), longest_ms.into());
        Self { first_ms, longest_ms, node: node.to_owned(), failures: 0, drawn: 0 }
    }

    /// Something failed: the pause before it is tried again, ms. Half of it is certain.
    pub fn next_ms(&mut self) -> u64 {
        let doubled = self.first_ms.saturating_mul(1 << self.failures.min(20));
        self.failures += 1;
        self.spread_ms(doubled.min(self.longest_ms))
    }

    /// Between half and the whole of a time, ms.
    pub fn spread_ms(&mut self, ms: u64) -> u64 {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        (&self.node, self.drawn).hash(&mut hasher);
        let half = ms / 2;
        half + hasher.finish() % (ms - half + 1)
    }

    /// It fails no more.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether nothing failed since.
    pub fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    /// The first pause, ms.
    pub fn first_ms(&self) -> u64 {
        self.first_ms
    }

    /// The longest pause, ms.
    pub fn longest_ms(&self) -> u64 {
        self.longest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new([1_000, 30_000], "zepto-0");
        for whole in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let pause = backoff.next_ms();
            assert!((whole / 2..=whole).contains(&pause), "{pause} of {whole}");
        }
        assert!((0..100).all(|_| backoff.next_ms() <= 30_000));
        backoff.reset();
        assert!(backoff.is_fresh());
        assert!(backoff.next_ms() <= 1_000);
    }

    #[test]
    fn nodes_do_not_come_back_all_at_once() {
        let first =
            |node: usize| Backoff::new([1_000, 30_000], &format!("zepto-{node}")).next_ms() / 50;
        let pauses: std::collections::BTreeSet<u64> = (0..100).map(first).collect();
        assert!(pauses.len() > 8, "{pauses:?}");
        assert_eq!(first(7), first(7), "a replay gives the same");
    }
}
