//! The runtime that consensus runs on: tokio, with chance that can be seeded.
//!
//! openraft draws its election time-outs from its runtime. Outside [`seeded`] they come from the
//! operating system; inside, from the seed, and so do those of every task spawned inside. With a
//! current-thread runtime whose clock is paused, a seed then decides a whole run of many nodes.

use core::cell::Cell;
use core::convert::Infallible;
use core::time::Duration;
use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};
use zepto_core::hash::mix;

tokio::task_local! {
    static SEED: Cell<u64>;
}

/// Runs `future` with chance that comes from `seed`, here and in all that it spawns through
/// consensus.
pub fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    SEED.scope(Cell::new(mix(seed)), future)
}

/// A random number: from the seed inside [`seeded`], from the operating system elsewhere.
///
/// # Errors
/// The operating system has none.
pub(crate) fn random() -> Result<u64, getrandom::Error> {
    draw().map_or_else(getrandom::u64, Ok)
}

fn draw() -> Option<u64> {
    let advance = |seed: &Cell<u64>| {
        seed.set(seed.get().wrapping_add(1));
        mix(seed.get())
    };
    SEED.try_with(advance).ok()
}

/// Tokio's runtime, apart from its randomness and from the order in which waiters wake.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

/// Numbers for election time-outs. Not for secrets.
#[derive(Debug)]
pub struct Chance(u64);

impl rand_core::TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(1);
        Ok(mix(self.0))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

type Tokio = TokioRuntime;

impl AsyncRuntime for Runtime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Tokio as AsyncRuntime>::Sleep;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Chance;
    type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
    type Watch = crate::watch::Watch;
    type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match draw() {
            Some(seed) => Tokio::spawn(SEED.scope(Cell::new(seed), future)),
            None => Tokio::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Tokio::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Tokio::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Tokio::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        // Without chance all nodes have the same time-outs, which is slow and not unsafe.
        Chance(random().unwrap_or_default())
    }

    fn new(threads: usize) -> Self {
        Self(Tokio::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
