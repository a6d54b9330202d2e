//! zepto beside its peers and beside the limit of the machine, in one run.
//!
//! `cargo run --release -- all` (in this folder; see ../README.md). Each operation is measured in
//! turns with what the machine can do at all and with what somebody would use instead; the ratios
//! count, not the times. Two cores are wanted, and nothing else running.
#![forbid(unsafe_code)]

mod cluster;
mod compare;
mod failover;
mod failure;
mod lane;
mod machine;
mod nodes;
mod route;
mod rpc;
mod server;
mod store;
mod watch;

use clap::{Parser, Subcommand};
use compare::Settings;
use failure::{Failure, Result};
use std::ffi::OsString;
use std::num::NonZeroU16;
use std::process::ExitCode;

/// Measure zepto beside its peers
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Measurements of each contender; the median is shown
    #[arg(long, global = true, default_value = "5")]
    rounds: NonZeroU16,
    /// One JSON object per operation
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// The four below
    All,
    /// From a symbol to its owner
    Route,
    /// Between two processes over shared memory
    Lane,
    /// Into columns, and out of them
    Store,
    /// Calls over TCP
    Rpc,
    Cluster(cluster::ClusterArgs),
    Failover(failover::FailoverArgs),
    /// Become a server that ends with its parent
    #[command(hide = true)]
    Exec {
        /// Program and arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// The other side of a measurement
    #[command(hide = true)]
    Serve {
        /// Which
        what: String,
        /// Where
        name: String,
    },
}

fn main() -> ExitCode {
    let Arguments { what, rounds, json } = Arguments::parse();
    let settings = Settings { rounds: rounds.get().into(), json };
    let done = match &what {
        What::Serve { what, name } => {
            let serve = if what.starts_with("rpc") { rpc::serve } else { lane::serve };
            serve(what, name);
            Ok(())
        }
        What::Exec { command } => Err(server::become_it(command)),
        What::Cluster(args) => with_servers(|| cluster::run(settings, args)),
        What::Failover(args) => with_servers(|| failover::run(settings, args)),
        operations => {
            compare_operations(settings, operations);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Servers are stopped and directories removed also when the user ends it.
fn with_servers(measure: impl FnOnce() -> Result<()>) -> Result<()> {
    failure::listen()?;
    measure()
}

fn compare_operations(settings: Settings, what: &What) {
    machine::pin(machine::NEAR);
    let is = |one: &What| {
        core::mem::discriminant(one) == core::mem::discriminant(what) || matches!(what, What::All)
    };
    if is(&What::Route) {
        route::run(settings);
    }
    if is(&What::Lane) {
        lane::run(settings);
    }
    if is(&What::Store) {
        store::run(settings);
    }
    if is(&What::Rpc) {
        rpc::run(settings);
    }
}
