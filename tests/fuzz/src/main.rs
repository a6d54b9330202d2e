//! `fuzz`: runs one target on mutations of its seeds for as long as one likes.
//!
//! Blind to coverage but fast, on the stable toolchain, and exactly repeatable: the same target,
//! seed and number of executions are the same inputs. Exit code 1 means that one failed; it is
//! written to a file and can be given back with `--input`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use zepto_fuzz::{TARGETS, Target, runner};

/// Executions between two lines that say how far it is.
const SAY_EVERY: u64 = 10_000_000;

/// Run a decoder of zepto on hostile bytes
#[derive(Parser)]
struct Arguments {
    /// Which decoder; without one, their names are listed
    target: Option<String>,
    /// How many inputs
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    executions: u64,
    /// The same seed makes the same inputs
    #[arg(long, value_name = "X", default_value_t = 1)]
    seed: u64,
    /// Run one input from a file instead
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let name = arguments.target.as_deref();
    let Some(target) = TARGETS.iter().find(|target| Some(target.name) == name) else {
        for target in TARGETS {
            println!("{}", target.name);
        }
        return if name.is_none() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    };
    match &arguments.input {
        Some(path) => replay(target, path),
        None => run(target, arguments.seed, arguments.executions),
    }
}

fn replay(target: &Target, path: &PathBuf) -> ExitCode {
    match std::fs::read(path) {
        Ok(input) => {
            (target.run)(&input);
            println!("{}: holds for {}", target.name, path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

fn run(target: &Target, seed: u64, executions: u64) -> ExitCode {
    let begun = now();
    let mut done = 0u64;
    let round = runner::round(target, seed, executions, |input, run| {
        run(input);
        done += 1;
        if done.is_multiple_of(SAY_EVERY) {
            println!("{}: {done} executions, {:.0} s", target.name, begun.elapsed().as_secs_f64());
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let Err(failed) = round else {
        let per_s = executions as f64 / seconds;
        println!("{}: {executions} executions in {seconds:.1} s, {per_s:.0} per s", target.name);
        return ExitCode::SUCCESS;
    };
    let path = format!("failed-{}-{seed}-{}", target.name, failed.execution);
    eprintln!("{}: execution {} failed", target.name, failed.execution);
    match std::fs::write(&path, &failed.input) {
        Ok(()) => eprintln!("its input is in {path}"),
        Err(error) => eprintln!("its input is {:02x?} ({path}: {error})", failed.input),
    }
    ExitCode::FAILURE
}

#[expect(clippy::disallowed_methods, reason = "how fast it was, for people")]
fn now() -> Instant {
    Instant::now()
}
