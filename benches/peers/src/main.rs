//! zepto beside its peers and beside the limit of the machine, in one run.
//!
//! `cargo run --release -- all` (in this folder; see ../README.md). Each operation is measured in
//! turns with what the machine can do at all and with what somebody would use instead; the ratios
//! count, not the times. Two cores are wanted, and nothing else running.
#![forbid(unsafe_code)]

mod compare;
mod lane;
mod machine;
mod route;
mod rpc;
mod store;

use clap::{Parser, Subcommand};
use compare::Settings;
use std::num::NonZeroU16;

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
    /// Everything below
    All,
    /// From a symbol to its owner
    Route,
    /// Between two processes over shared memory
    Lane,
    /// Into columns, and out of them
    Store,
    /// Calls over TCP
    Rpc,
    /// The other side of a measurement
    #[command(hide = true)]
    Serve {
        /// Which
        what: String,
        /// Where
        name: String,
    },
}

fn main() {
    let Arguments { what, rounds, json } = Arguments::parse();
    let settings = Settings { rounds: rounds.get().into(), json };
    if let What::Serve { what, name } = &what {
        let serve = if what.starts_with("rpc") { rpc::serve } else { lane::serve };
        return serve(what, name);
    }
    machine::pin(machine::NEAR);
    let is = |one: &What| {
        core::mem::discriminant(one) == core::mem::discriminant(&what) || matches!(what, What::All)
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
