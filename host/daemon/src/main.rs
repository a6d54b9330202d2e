//! `zepto-host`: the node as a program, and the commands around a cluster.
//!
//! Arguments, signals, logging and exit codes; everything else is in `zepto-node` and
//! `zepto-tools`. Errors go to standard error as one line, `zepto-host: what: why; what to do`.
#![forbid(unsafe_code)]

mod args;
mod run;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use zepto_tools::failure::Failure;
use zepto_tools::{demo, feed_cmd, format, operate_cmd, plugin_cmd, query_cmd, status_cmd};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = start_logging(&cli).and_then(|()| {
        let runtime = tokio::runtime::Runtime::new();
        let runtime = runtime.map_err(|error| Failure::failed("cannot start", error))?;
        let result = runtime.block_on(dispatch(cli));
        // A thread that waits for its standard input must not keep the process.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                eprintln!("zepto-host: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => run::run(cli.run).await,
        Some(Command::Run(args)) => run::run(*args).await,
        Some(Command::Demo(args)) => demo::run(args).await,
        Some(Command::Feed(args)) => feed_cmd::run(args).await,
        Some(Command::Query(args)) => query_cmd::run(args).await,
        Some(Command::Status(args)) => status_cmd::run(args).await,
        Some(Command::Drain(args)) => operate_cmd::drain(args).await,
        Some(Command::Member(args)) => operate_cmd::member(args).await,
        Some(Command::Pin(args)) => operate_cmd::pin(args).await,
        Some(Command::Unpin(args)) => operate_cmd::unpin(args).await,
        Some(Command::Weight(args)) => operate_cmd::weight(args).await,
        Some(Command::Zone(args)) => operate_cmd::zone(args).await,
        Some(Command::Recover(args)) => operate_cmd::recover(args).await,
        Some(Command::Plugin(args)) => plugin_cmd::plugin(args).await,
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "zepto-host", &mut script);
            format::print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Log lines go to standard error: a node's from `info` on, a command's from `warn` on. Consensus
/// tells every step of its own as `info`; of a level alone it takes only what is wrong.
fn start_logging(cli: &Cli) -> Result<(), Failure> {
    let usual = if matches!(cli.command, None | Some(Command::Run(_))) { "info" } else { "warn" };
    let level = cli.log.as_deref().unwrap_or(usual);
    let level = match level.parse::<LevelFilter>() {
        Ok(LevelFilter::OFF | LevelFilter::ERROR | LevelFilter::WARN) | Err(_) => level.to_owned(),
        Ok(_) => format!("{level},openraft=error"),
    };
    let filter = EnvFilter::try_new(&level).map_err(|error| {
        Failure::Usage(format!("log level {level:?}: {error}; write error, warn, info or debug"))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .init();
    Ok(())
}
