//! `sim`: runs schedules of the simulator from the command line.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;
use zepto_tests::sim::plan::Focus;
use zepto_tests::sim::{Outcome, run, run_traced};

/// Runs seeded schedules of a simulated cluster and says what broke.
#[derive(Parser)]
struct Args {
    /// First seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many schedules to run, one seed after another.
    #[arg(long, default_value_t = 1_000)]
    schedules: u64,
    /// What they are about; without it each seed picks its own.
    #[arg(long, value_parser = focus)]
    focus: Option<Focus>,
    /// Run every schedule twice and compare the hashes.
    #[arg(long)]
    twice: bool,
    /// Run only this seed and tell its story.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
    /// Print seed, hash and number of events of every schedule.
    #[arg(long)]
    trace: bool,
    /// Plant this defect first.
    #[cfg(feature = "defects")]
    #[arg(long, value_parser = defect)]
    plant: Option<zepto_core::defect::Defect>,
    /// Failures after which to stop.
    #[arg(long, default_value_t = 10)]
    failures: usize,
}

fn focus(name: &str) -> Result<Focus, String> {
    let names = || Focus::ALL.iter().map(|focus| focus.name()).collect::<Vec<_>>().join(", ");
    Focus::named(name).ok_or_else(|| format!("one of: {}", names()))
}

#[cfg(feature = "defects")]
fn defect(name: &str) -> Result<zepto_core::defect::Defect, String> {
    use zepto_core::defect::Defect;
    let found = Defect::ALL.iter().copied().find(|defect| format!("{defect:?}") == name);
    found.ok_or_else(|| format!("one of: {:?}", Defect::ALL))
}

fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "defects")]
    zepto_core::defect::plant(args.plant);
    // An assertion that fails is reported with its seed; its own output would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = args.replay {
        let outcome = run_traced(seed, args.focus, true);
        for line in &outcome.lines {
            println!("{line}");
        }
        return report(&outcome);
    }
    run_all(&args)
}

fn report(outcome: &Outcome) -> ExitCode {
    let Outcome { seed, focus, hash, events, failure, .. } = outcome;
    println!("seed {seed} ({}): {events} events, hash {hash:016x}", focus.name());
    match failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("  {failure}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how fast it ran is for people, not for the schedule"
)]
fn run_all(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let (mut ran, mut failed, mut events) = (0u64, 0, 0);
    for seed in args.seed..args.seed + args.schedules {
        let outcome = run(seed, args.focus);
        ran += 1;
        events += outcome.events;
        let same = !args.twice || run(seed, args.focus).hash == outcome.hash;
        if outcome.failure.is_some() || args.trace {
            report(&outcome);
        }
        if !same {
            println!("seed {seed}: the second run has another hash");
        }
        failed += usize::from(outcome.failure.is_some() || !same);
        if failed >= args.failures {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{ran} schedules, {events} events, {failed} failed, {seconds:.1} s, {:.0} schedules a minute",
        ran as f64 / seconds * 60.0
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
