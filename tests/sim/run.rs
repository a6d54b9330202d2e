//! Runs one schedule from its seed.

use super::oracle::{Failure, Oracle};
use super::plan::{Focus, Plan};
use super::rng::Rng;
use super::trace::Trace;
use super::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a schedule ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What it was about.
    pub focus: Focus,
    /// The hash over everything that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// What an oracle found, if any did.
    pub failure: Option<Failure>,
    /// The story, if it was asked for.
    pub lines: Vec<String>,
}

/// Runs a schedule; without a focus, the seed picks one.
pub fn run(seed: u64, focus: Option<Focus>) -> Outcome {
    run_traced(seed, focus, false)
}

/// Runs a schedule and keeps its story if `keep_text` says so.
pub fn run_traced(seed: u64, focus: Option<Focus>, keep_text: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let drawn = *rng.pick(Focus::ALL);
    let focus = focus.unwrap_or(drawn);
    let plan = Plan::draw(focus, &mut rng);
    let trace = Trace::new(keep_text);
    trace.say(|| format!("{plan:#?}"));
    let mut world = World::new(plan, rng, trace);
    // The code under test asserts what it believes; that is an oracle too.
    let verdict = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        let story = text.unwrap_or_else(|| "a panic without words".into());
        Err(Failure { oracle: Oracle::Assertion, story })
    });
    let trace = world.trace();
    Outcome {
        seed,
        focus,
        hash: trace.hash(),
        events: trace.count(),
        failure: verdict.err(),
        lines: trace.take_lines(),
    }
}
