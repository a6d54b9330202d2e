//! zepto's cluster beside Redis Streams and NATS JetStream: acknowledged ticks per second, and how
//! long an acknowledgement takes.
//!
//! All of it in one run on the same two cores, with the same 64 bytes per tick. First every peer's
//! best batch or window is sought, and a rate that it sustains; then come the rounds, in each of
//! which every system is started empty, measured and stopped, one after another. What arrived is
//! counted after every measurement.

mod engine;
mod nats;
mod nats_client;
mod ours;
mod redis;
mod report;
mod system;
mod wire;

use crate::compare::Settings;
use crate::failure::{Failure, Result, fail, go_on};
use crate::nodes::{self, Setup};
use crate::{machine, server};
use clap::Args;
use engine::{Idle, Latency, Load, Pace};
use nats::{Nats, Storage};
use ours::Ours;
use redis::Redis;
use std::path::PathBuf;
use std::time::Duration;
use system::{Role, System};

/// Producers of the second measurement.
const MANY: usize = 8;
/// Parts of what a peer does flat out that are offered to it when it does not sustain the rate.
const PARTS: [f64; 4] = [0.8, 0.6, 0.4, 0.2];
/// Longest measurement while the best is sought.
const SEEK_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of memory for each tick that a node may have to hold.
const BYTES_PER_TICK: u64 = 64;
const MEMORY_MIN: u64 = 1 << 30;

/// Measure a cluster beside Redis Streams and NATS JetStream
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Peers come from the system and are left out where they are missing:
  apt-get install -y --no-install-recommends redis-server nats-server")]
pub struct ClusterArgs {
    /// Most ticks of one measurement of throughput
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000_000,
        value_parser = clap::value_parser!(u64).range(1000..=100_000_000)
    )]
    ticks: u64,
    /// Longest sending of one measurement of throughput, and the length of one of latency
    #[arg(
        long,
        value_name = "S",
        default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=30)
    )]
    seconds: u64,
    /// Ticks per second that are offered when latency is measured
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(100..=1_000_000)
    )]
    rate: u64,
    /// The node program; looked for beside this one, and built if it is not there
    #[arg(long, value_name = "ZEPTO-HOST")]
    nodes: Option<PathBuf>,
    /// Copies that zepto is measured with
    #[arg(
        long,
        value_name = "N",
        value_delimiter = ',',
        default_values_t = [1, 2],
        value_parser = clap::value_parser!(u8).range(1..=3)
    )]
    copies: Vec<u8>,
}

/// A system, what was found to suit it, and its figures.
struct Contender {
    system: Box<dyn System>,
    /// Best for one producer, and for many.
    knobs: [usize; 2],
    /// What is offered when latency is measured.
    rate: u64,
    /// Ticks per second by round, of one producer and of many.
    per_second: [Vec<f64>; 2],
    /// By round, of a producer that spins and of one that sleeps.
    latency: [Vec<Latency>; 2],
}

/// Prints the comparison. Fails, after it, when a system of ours could not be measured.
pub fn run(settings: Settings, args: &ClusterArgs) -> Result<()> {
    machine::stay_on_two();
    let mut left_out = Vec::new();
    let mut ready = Vec::new();
    for mut contender in contenders(args, &mut left_out)? {
        eprintln!("seeking the best of {}", contender.system.name());
        let sought = contender.seek(args);
        go_on()?;
        match sought {
            Ok(()) => ready.push(contender),
            Err(Failure(why)) => left_out.push(LeftOut::of(&*contender.system, why)),
        }
    }
    let mut disturbed = Vec::new();
    for round in 1..=settings.rounds {
        let mut measured = Vec::with_capacity(ready.len());
        for mut contender in ready {
            eprintln!("round {round} of {}: {}", settings.rounds, contender.system.name());
            disturbed.extend(machine::in_use_by_others());
            let done = contender.measure(args);
            go_on()?;
            match done {
                Ok(()) => measured.push(contender),
                Err(Failure(why)) => left_out.push(LeftOut::of(&*contender.system, why)),
            }
        }
        ready = measured;
    }
    report::print(settings, args, &ready, &left_out);
    report::print_disturbance(settings, &disturbed);
    match left_out.iter().find(|left_out| left_out.is_ours) {
        None => Ok(()),
        Some(ours) => fail(format!("{} was not measured: {}", ours.name, ours.why)),
    }
}

/// A system without figures.
struct LeftOut {
    name: String,
    why: String,
    is_ours: bool,
}

impl LeftOut {
    fn of(system: &dyn System, why: String) -> Self {
        Self { name: system.name(), why, is_ours: system.role() != Role::Peer }
    }
}

fn contenders(args: &ClusterArgs, left_out: &mut Vec<LeftOut>) -> Result<Vec<Contender>> {
    let program = nodes::program(args.nodes.as_deref())?;
    eprintln!("{}: {}", program.display(), server::version(&program));
    let held = 2 * args.ticks + args.rate * args.seconds + 1_000_000;
    let memory = (held * BYTES_PER_TICK).max(MEMORY_MIN);
    let mut systems: Vec<Box<dyn System>> = Vec::new();
    for copies in args.copies.iter().copied() {
        for nodes in usize::from(copies)..=3 {
            let setup = Setup { program: program.clone(), copies, profile: "fast", memory };
            systems.push(Box::new(Ours { setup, nodes, is_paced: nodes == 3 }));
        }
    }
    if let Some(program) = peer("redis-server", left_out) {
        systems.push(Box::new(Redis { program }));
    }
    if let Some(program) = peer("nats-server", left_out) {
        systems.push(Box::new(Nats { program: program.clone(), storage: Storage::Memory }));
        systems.push(Box::new(Nats { program, storage: Storage::File }));
    }
    let contender = |system| Contender {
        system,
        knobs: [0; 2],
        rate: args.rate,
        per_second: [const { Vec::new() }; 2],
        latency: [const { Vec::new() }; 2],
    };
    Ok(systems.into_iter().map(contender).collect())
}

fn peer(name: &str, left_out: &mut Vec<LeftOut>) -> Option<PathBuf> {
    let found = server::find(name);
    match &found {
        Some(program) => eprintln!("{}: {}", program.display(), server::version(program)),
        None => {
            let why = format!("not there; apt-get install -y --no-install-recommends {name}");
            left_out.push(LeftOut { name: name.into(), why, is_ours: false });
        }
    }
    found
}

impl Contender {
    /// Finds what suits it best, and a rate that it sustains.
    fn seek(&mut self, args: &ClusterArgs) -> Result<()> {
        let load = self.load(args, SEEK_WITHIN);
        let (what, knobs) = self.system.knob().unwrap_or(("", &[0]));
        let mut best = [0.0; 2];
        for knob in knobs {
            let mut running = self.system.start(*knob)?;
            for (which, producers) in [1, MANY].into_iter().enumerate() {
                let per_second = running.flat_out(producers, load)?.per_second;
                if !what.is_empty() {
                    eprintln!("  {what} {knob}, {producers} producers: {per_second:.0} ticks/s");
                }
                if per_second > best[which] {
                    best[which] = per_second;
                    self.knobs[which] = *knob;
                }
            }
        }
        if !self.system.is_paced() {
            return Ok(());
        }
        let parts = PARTS.iter().map(|part| (best[0] * part) as u64);
        for rate in [args.rate].into_iter().chain(parts.filter(|rate| *rate < args.rate)) {
            self.rate = rate.max(1);
            let pace = Pace { rate: self.rate, lasts: SEEK_WITHIN, idle: Idle::Spin };
            let latency = self.system.start(self.knobs[0])?.paced(pace)?;
            let p50 = latency.since_handed_over.p50;
            eprintln!("  {rate} ticks/s offered: sustained {}, p50 {p50:.1} us", latency.sustained);
            if latency.sustained {
                break;
            }
        }
        Ok(())
    }

    /// One round.
    fn measure(&mut self, args: &ClusterArgs) -> Result<()> {
        let within = Duration::from_secs(args.seconds);
        let load = self.load(args, within);
        for (which, producers) in [1, MANY].into_iter().enumerate() {
            let mut running = self.system.start(self.knobs[which])?;
            let flow = running.flat_out(producers, load)?;
            self.per_second[which].push(flow.per_second);
        }
        if self.system.is_paced() {
            for (which, idle) in [Idle::Spin, Idle::Sleep].into_iter().enumerate() {
                let mut running = self.system.start(self.knobs[0])?;
                let pace = Pace { rate: self.rate, lasts: within, idle };
                self.latency[which].push(running.paced(pace)?);
            }
        }
        Ok(())
    }

    fn load(&self, args: &ClusterArgs, within: Duration) -> Load {
        Load { ticks: args.ticks, within: within.min(Duration::from_secs(args.seconds)) }
    }
}
