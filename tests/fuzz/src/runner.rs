//! Runs a target on its seeds and on mutations of them, and keeps the input that fails.
//!
//! Deterministic: a failure is named by its target, seed and number, and comes again. Lacks a
//! watchdog: a target that does not end is found by whoever waits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Target;
use crate::mutate::Mutator;

/// An input on which a target panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Which execution it was, counted from zero; the seeds come first.
    pub execution: u64,
    /// The input.
    pub input: Vec<u8>,
}

/// Runs a target `executions` times: on each of its seeds, then on inputs made from them. `around`
/// is given each input and what runs the target on it.
///
/// # Errors
/// The first input on which the target, or `around`, panicked.
pub fn round(
    target: &Target,
    seed: u64,
    executions: u64,
    mut around: impl FnMut(&[u8], fn(&[u8])),
) -> Result<(), Failed> {
    let seeds = (target.seeds)();
    let mut mutator = Mutator::new(seed);
    let mut input = Vec::new();
    for execution in 0..executions {
        match usize::try_from(execution).ok().and_then(|index| seeds.get(index)) {
            Some(seed) => input.clone_from(seed),
            None => mutator.next_input(&seeds, &mut input),
        }
        let run = AssertUnwindSafe(|| around(&input, target.run));
        if catch_unwind(run).is_err() {
            return Err(Failed { execution, input });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails_on_ff(input: &[u8]) {
        assert!(!input.contains(&0xff), "found");
    }

    #[test]
    fn an_input_that_fails_is_found_and_fails_again() {
        let target = Target {
            name: "test",
            run: fails_on_ff,
            seeds: || vec![vec![1, 2, 3]],
            bytes_fixed: 0,
            bytes_per_byte: 0,
        };
        let first = round(&target, 1, 10_000, |input, run| run(input));
        let failed = first.clone().expect_err("some mutation has the byte");
        assert!(failed.execution > 0 && failed.input.contains(&0xff));
        assert_eq!(round(&target, 1, 10_000, |input, run| run(input)), first);
    }
}
