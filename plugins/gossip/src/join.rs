//! Whom this node asks to be let in, and when: often while it is alone, and seldom afterwards, so
//! that two halves of a cluster find each other again.

use core::net::SocketAddr;
use core::time::Duration;
use rand::Rng;
use rand::seq::SliceRandom;

/// Intervals of the longest pause while it is alone, and of the pause afterwards.
const PAUSE_INTERVALS_MAX: u64 = 30;
/// Asked at a time, of each list, while it is alone.
const ASKED_MAX: usize = 8;

/// When it asks again.
#[derive(Debug)]
pub struct Join {
    seeds: Vec<SocketAddr>,
    interval: u64,
    is_alone: bool,
    pause: u64,
    at: u64,
}

impl Join {
    /// A node that is alone, and asks at once.
    pub fn new(seeds: Vec<SocketAddr>, interval: Duration, now: u64) -> Self {
        let interval = interval.as_nanos() as u64;
        Self { seeds, interval, is_alone: true, pause: interval, at: now }
    }

    /// Whether it knows nobody who knows it.
    #[cfg(test)]
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether there is no seed to ask.
    pub fn has_no_seeds(&self) -> bool {
        self.seeds.is_empty()
    }

    /// When it asks again.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// It has been let in.
    pub fn joined(&mut self, now: u64) {
        self.is_alone = false;
        self.at = now.saturating_add(PAUSE_INTERVALS_MAX * self.interval);
    }

    /// It has to be let in again: everybody is gone, or the others think that it is.
    pub fn lost(&mut self, now: u64) {
        self.is_alone = true;
        self.pause = self.interval;
        self.at = now;
    }

    /// It asks now, whatever else it does.
    pub fn hurry(&mut self, now: u64) {
        self.at = now;
    }

    /// Whom it asks now; nobody before it is time.
    pub fn ask(
        &mut self,
        now: u64,
        remembered: &[SocketAddr],
        random: &mut impl Rng,
    ) -> Vec<SocketAddr> {
        if now < self.at {
            return Vec::new();
        }
        let longest = PAUSE_INTERVALS_MAX * self.interval;
        let (count, pause) = if self.is_alone { (ASKED_MAX, self.pause) } else { (1, longest) };
        self.pause = (self.pause * 2).min(longest);
        // 80 to 120 percent: nodes that were started together do not ask together.
        let percent = 80 + random.next_u64() % 41;
        self.at = now.saturating_add(pause / 100 * percent);
        let mut some = |addresses: &[SocketAddr]| {
            let mut addresses = addresses.to_vec();
            let (chosen, _) = addresses.partial_shuffle(random, count);
            chosen.to_vec()
        };
        let mut asked = [some(&self.seeds), some(remembered)].concat();
        asked.sort_unstable();
        asked.dedup();
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    const SECOND: u64 = 1_000_000_000;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect()
    }

    #[test]
    fn pauses_grow_while_it_is_alone_and_start_anew_when_it_is_lost() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut join = Join::new(addresses(2), Duration::from_secs(1), 0);
        let mut now = 0;
        let mut seconds = Vec::new();
        for _ in 0..8 {
            assert_eq!(join.ask(now, &[], &mut random), addresses(2));
            assert!(join.ask(now, &[], &mut random).is_empty(), "not before it is time");
            seconds.push((join.at() - now) as f64 / SECOND as f64);
            now = join.at();
        }
        for (pause, wanted) in seconds.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
            assert!((wanted * 0.79..=wanted * 1.21).contains(pause), "{seconds:?}");
        }
        join.lost(now);
        assert_eq!(join.ask(now, &[], &mut random).len(), 2);
        assert!(join.at() - now <= 2 * SECOND);
    }

    #[test]
    fn afterwards_it_asks_one_of_each_list_now_and_then() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut join = Join::new(addresses(3), Duration::from_secs(1), 0);
        join.joined(5);
        assert_eq!(join.at(), 5 + 30 * SECOND);
        let others = [SocketAddr::from(([10, 0, 0, 2], 1)), SocketAddr::from(([10, 0, 0, 2], 2))];
        for _ in 0..5 {
            let now = join.at();
            let asked = join.ask(now, &others, &mut random);
            assert_eq!(asked.len(), 2);
            assert!(addresses(3).contains(&asked[0]) && others.contains(&asked[1]));
            assert!((24 * SECOND..=36 * SECOND).contains(&(join.at() - now)));
        }
    }

    #[test]
    fn it_asks_a_few_at_a_time_and_all_in_the_end() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut join = Join::new(addresses(40), Duration::from_secs(1), 0);
        let mut asked = Vec::new();
        for _ in 0..50 {
            let round = join.ask(join.at(), &[], &mut random);
            assert_eq!(round.len(), ASKED_MAX);
            asked.extend(round);
        }
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked, addresses(40));
    }
}
