//! The same two loops for everybody: as many ticks as are acknowledged, and a fixed rate offered.
//!
//! A [`Publisher`] takes ticks without waiting and says later which of them are acknowledged. The
//! fixed rate is an open loop: a tick is due by the clock, whatever became of those before it, and
//! its latency counts from the moment it was handed over as well as from the moment it was due.

use crate::failure::{Failure, Result, fail, go_on};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Ticks that are handed over between two looks at the acknowledgements.
const BURST: u64 = 4096;
/// Ticks of each publisher before the clock runs: connections and lanes are open then.
const WARM_UP: u64 = 5_000;
/// Time without any acknowledgement after which a system is given up.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// Longest sleep of a producer that has nothing to hand over, and of one at a fixed rate.
const SLEEP_MAX: Duration = Duration::from_millis(100);
const SLEEP_PACED: Duration = Duration::from_micros(50);
/// A rate counts as sustained if the last acknowledgement comes within this much more time.
const SUSTAINED: f64 = 1.02;

/// One producer of one system.
pub trait Publisher: Send {
    /// Takes a tick; says no when there is no room just now.
    fn offer(&mut self, number: u64) -> Result<bool>;

    /// Sends what was taken and tells the ledger what is acknowledged, without waiting. Whether
    /// anything moved.
    fn turn(&mut self, ledger: &mut Ledger) -> Result<bool>;

    /// Sleeps until an acknowledgement is there, and not longer than `within` or, where nothing
    /// can be waited for, a little; `rounds` of it were in vain.
    fn sleep(&mut self, rounds: u32, within: Duration) -> Result<()>;
}

/// What a producer at a fixed rate does while no tick is due and nothing is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Looks again at once, after giving the core away.
    Spin,
    /// Sleeps a few ticks' time; they are handed over late then, and together.
    Sleep,
}

/// What is acknowledged, and how long it took.
#[derive(Default)]
pub struct Ledger {
    acknowledged: u64,
    trace: Option<Trace>,
}

struct Trace {
    begun: Instant,
    interval_ns: f64,
    /// By number: when it was handed over, in nanoseconds since the begin.
    handed_over: Vec<u64>,
    since_handed_over: Vec<u64>,
    since_due: Vec<u64>,
}

impl Ledger {
    /// So many more, it is not known which.
    #[inline]
    pub fn count(&mut self, ticks: u64) {
        self.acknowledged += ticks;
    }

    /// This one.
    #[inline]
    pub fn acknowledge(&mut self, number: u64) {
        self.acknowledged += 1;
        if let Some(trace) = &mut self.trace {
            trace.acknowledge(number);
        }
    }
}

impl Trace {
    fn acknowledge(&mut self, number: u64) {
        let now = self.begun.elapsed().as_nanos() as u64;
        let Some(handed_over) = self.handed_over.get(number as usize) else { return };
        self.since_handed_over.push(now.saturating_sub(*handed_over));
        let due = (number as f64 * self.interval_ns) as u64;
        self.since_due.push(now.saturating_sub(due));
    }
}

/// How much is sent as fast as it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// At most so many ticks, over all producers.
    pub ticks: u64,
    /// Sending ends after this time at the latest.
    pub within: Duration,
}

/// A rate that is offered by one producer.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Ticks per second.
    pub rate: u64,
    /// For how long.
    pub lasts: Duration,
    /// What the producer does meanwhile.
    pub idle: Idle,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Percentiles {
    /// The middle.
    pub p50: f64,
    /// One in a hundred takes longer.
    pub p99: f64,
    /// One in a thousand.
    pub p999: f64,
}

/// Acknowledgement latency at a rate.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Whether all of them were taken and acknowledged in time.
    pub sustained: bool,
    /// From when a tick was handed over to its acknowledgement.
    pub since_handed_over: Percentiles,
    /// From when it was due.
    pub since_due: Percentiles,
}

/// What was sent and how fast it was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Ticks, all of them acknowledged, those of the warm-up too.
    pub ticks: u64,
    /// Per second, from the first one sent until the last was acknowledged, without the warm-up.
    pub per_second: f64,
}

/// Each publisher on a thread of its own, as fast as they are acknowledged.
pub fn flat_out<P: Publisher>(publishers: Vec<P>, load: Load) -> Result<Flow> {
    let share = (load.ticks / publishers.len().max(1) as u64).max(1);
    let count = publishers.len() as u64;
    let start = Barrier::new(publishers.len());
    let runs: Vec<Result<Run>> = thread::scope(|scope| {
        let start = &start;
        let one = |mut publisher: P| {
            move || {
                let warm = send(&mut publisher, WARM_UP, Duration::MAX);
                // Also after a failure, or the others would wait for ever.
                start.wait();
                warm.and_then(|_| send(&mut publisher, share, load.within))
            }
        };
        let threads: Vec<_> = publishers.into_iter().map(|p| scope.spawn(one(p))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|run| run.unwrap_or_else(|_| fail("a producer's thread panicked"))).collect()
    });
    let runs: Vec<Run> = runs.into_iter().collect::<Result<_>>()?;
    let (begun, ended) =
        (runs.iter().map(|run| run.begun).min(), runs.iter().map(|r| r.ended).max());
    let (Some(begun), Some(ended)) = (begun, ended) else { return fail("there is no producer") };
    let ticks: u64 = runs.iter().map(|run| run.ticks).sum();
    let per_second = ticks as f64 / ended.duration_since(begun).as_secs_f64();
    Ok(Flow { ticks: ticks + WARM_UP * count, per_second })
}

struct Run {
    ticks: u64,
    begun: Instant,
    ended: Instant,
}

/// Sends up to so many ticks, until the time is up, and waits until all of them are acknowledged.
fn send<P: Publisher>(publisher: &mut P, ticks: u64, within: Duration) -> Result<Run> {
    let begun = Instant::now();
    let mut ledger = Ledger::default();
    let (mut sent, mut until, mut rounds) = (0, ticks, 0);
    let mut patience = Patience::new();
    loop {
        let burst = until.min(sent + BURST);
        let before = sent;
        while sent < burst && publisher.offer(sent)? {
            sent += 1;
        }
        let moved = publisher.turn(&mut ledger)?;
        if until == ticks && begun.elapsed() > within {
            until = sent;
        }
        if sent == until && ledger.acknowledged >= sent {
            return Ok(Run { ticks: sent, begun, ended: Instant::now() });
        }
        patience.check(&ledger)?;
        rounds = if moved || sent > before { 0 } else { rounds + 1 };
        if rounds > 0 {
            publisher.sleep(rounds, SLEEP_MAX)?;
        }
    }
}

/// One publisher at a fixed rate, open loop. Also says how many ticks were sent in all.
pub fn paced<P: Publisher>(
    publisher: &mut P,
    Pace { rate, lasts, idle }: Pace,
) -> Result<(Latency, u64)> {
    send(publisher, WARM_UP, Duration::MAX)?;
    let total = (rate as f64 * lasts.as_secs_f64()) as u64;
    let interval_ns = 1e9 / rate.max(1) as f64;
    let begun = Instant::now();
    let room = || Vec::with_capacity(total as usize);
    let trace = Trace {
        begun,
        interval_ns,
        handed_over: room(),
        since_handed_over: room(),
        since_due: room(),
    };
    let mut ledger = Ledger { acknowledged: 0, trace: Some(trace) };
    let mut patience = Patience::new();
    let (mut sent, mut over, mut rounds) = (0, false, 0);
    while !over || ledger.acknowledged < sent {
        let now = begun.elapsed();
        over |= sent == total || now.as_secs_f64() > lasts.as_secs_f64() * SUSTAINED;
        let due =
            if over { sent } else { total.min((now.as_nanos() as f64 / interval_ns) as u64 + 1) };
        let mut moved = false;
        while sent < due {
            let at = begun.elapsed().as_nanos() as u64;
            if !publisher.offer(sent)? {
                break;
            }
            if let Some(trace) = &mut ledger.trace {
                trace.handed_over.push(at);
            }
            (sent, moved) = (sent + 1, true);
        }
        moved |= publisher.turn(&mut ledger)?;
        patience.check(&ledger)?;
        rounds = if moved { 0 } else { rounds + 1 };
        match idle {
            _ if moved => {}
            Idle::Spin => thread::yield_now(),
            Idle::Sleep => publisher.sleep(rounds, SLEEP_PACED)?,
        }
    }
    let sustained =
        sent == total && begun.elapsed().as_secs_f64() <= lasts.as_secs_f64() * SUSTAINED;
    let Some(trace) = ledger.trace else { return fail("no trace was kept") };
    let latency = Latency {
        sustained,
        since_handed_over: percentiles(trace.since_handed_over),
        since_due: percentiles(trace.since_due),
    };
    Ok((latency, sent + WARM_UP))
}

fn percentiles(mut nanoseconds: Vec<u64>) -> Percentiles {
    nanoseconds.sort_unstable();
    let at = |share: f64| {
        let index = (nanoseconds.len() as f64 * share) as usize;
        nanoseconds
            .get(index.min(nanoseconds.len().saturating_sub(1)))
            .map_or(0.0, |ns| *ns as f64 / 1e3)
    };
    Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}

/// Ends what nobody answers.
struct Patience {
    acknowledged: u64,
    since: Instant,
    looks: u32,
}

impl Patience {
    fn new() -> Self {
        Self { acknowledged: 0, since: Instant::now(), looks: 0 }
    }

    #[inline]
    fn check(&mut self, ledger: &Ledger) -> Result<()> {
        self.looks = self.looks.wrapping_add(1);
        if !self.looks.is_multiple_of(64) {
            return Ok(());
        }
        go_on()?;
        if ledger.acknowledged != self.acknowledged {
            (self.acknowledged, self.since) = (ledger.acknowledged, Instant::now());
        } else if self.since.elapsed() > STALLED_AFTER {
            let seconds = STALLED_AFTER.as_secs();
            return Err(Failure(format!("nothing was acknowledged for {seconds} s")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acknowledges everything at the next turn, up to so many at a time.
    struct Echo {
        open: Vec<u64>,
        window: usize,
    }

    impl Publisher for Echo {
        fn offer(&mut self, number: u64) -> Result<bool> {
            let room = self.open.len() < self.window;
            if room {
                self.open.push(number);
            }
            Ok(room)
        }

        fn turn(&mut self, ledger: &mut Ledger) -> Result<bool> {
            let moved = !self.open.is_empty();
            if moved {
                self.open.drain(..).for_each(|number| ledger.acknowledge(number));
            }
            Ok(moved)
        }

        fn sleep(&mut self, _rounds: u32, within: Duration) -> Result<()> {
            thread::sleep(within.min(Duration::from_millis(1)));
            Ok(())
        }
    }

    fn echo() -> Echo {
        Echo { open: Vec::new(), window: 100 }
    }

    #[test]
    fn every_tick_counts_once_whoever_sent_it() {
        let load = Load { ticks: 30_000, within: Duration::from_secs(60) };
        let flow = flat_out(vec![echo(), echo(), echo()], load).unwrap();
        assert_eq!(flow.ticks, 30_000 + 3 * WARM_UP);
    }

    #[test]
    fn a_rate_is_offered_tick_by_tick() {
        for idle in [Idle::Spin, Idle::Sleep] {
            let pace = Pace { rate: 1000, lasts: Duration::from_millis(300), idle };
            let (latency, sent) = paced(&mut echo(), pace).unwrap();
            assert_eq!(sent, 300 + WARM_UP);
            assert!(latency.since_due.p50 >= latency.since_handed_over.p50);
        }
    }

    #[test]
    fn percentiles_are_of_the_sorted() {
        let shuffled: Vec<u64> = (0..1000).map(|i| (i * 7 % 1000) * 1000).collect();
        let Percentiles { p50, p99, p999 } = percentiles(shuffled);
        assert_eq!((p50, p99, p999), (500.0, 990.0, 999.0));
        assert_eq!(percentiles(Vec::new()).p50, 0.0);
    }
}
