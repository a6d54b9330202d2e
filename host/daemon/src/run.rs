//! `zepto-host run`: a node from its start to its stop.

use crate::args::RunArgs;
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::process::Command;
use zepto_node::config::Config;
use zepto_node::wire::Wire;
use zepto_node::{StartError, start};
use zepto_tools::failure::Failure;
use zepto_tools::format;
use zepto_tools::signal::{Hangups, Signals, stdin_end};
use zepto_transport::{Shm, Ucx};

/// Runs a node until it is told to stop or fails.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let config = args.clone().in_force()?;
    if args.print_config {
        return format::print(&config.print());
    }
    if config.transport == Ucx::NAME {
        prepare_ucx()?;
        run_over::<Ucx>(args, config).await
    } else {
        run_over::<Shm>(args, config).await
    }
}

/// What UCX is told unless the operator tells it something else: to log where logs go, to leave the
/// signals alone, not to write over `mmap`, which only a cache of registered memory needs, and not
/// to wait for connections: a firewall that drops packets would hold a node up for two minutes.
const UCX_DEFAULTS: [(&str, &str); 5] = [
    ("UCX_LOG_FILE", "stderr"),
    ("UCX_HANDLE_ERRORS", "none"),
    ("UCX_DEBUG_SIGNO", ""),
    ("UCX_MEM_EVENTS", "n"),
    ("UCX_TCP_CONN_NB", "y"),
];

/// UCX reads its environment when it is loaded. A process cannot safely change that while it runs,
/// so this one begins again with it.
fn prepare_ucx() -> Result<(), Failure> {
    let is_missing = |(name, _): &(&str, &str)| std::env::var_os(name).is_none();
    let missing: Vec<_> = UCX_DEFAULTS.into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let again =
        |program| Command::new(program).args(std::env::args_os().skip(1)).envs(missing).exec();
    let error = std::env::current_exe().map_or_else(|error| error, again);
    Err(Failure::failed("cannot begin again with UCX's environment", error))
}

async fn run_over<T: Wire>(args: RunArgs, config: Config) -> Result<(), Failure> {
    let (announce, with_stdin) = (args.announce, args.exit_with_stdin);
    let (mut signals, mut hangups) = (Signals::listen()?, Hangups::listen()?);
    let mut stdin_ends = Box::pin(stdin_end(with_stdin));
    let started = tokio::select! {
        started = start::<T>(config) => started,
        () = signals.next() => return Err(Failure::Interrupted),
        () = &mut stdin_ends => return Err(Failure::Interrupted),
    };
    let mut node = started.map_err(|error| failure_of(&error))?;
    let (address, incarnation) = (node.address().to_string(), node.incarnation());
    tracing::info!(node = node.name(), address, incarnation, "serving");
    if announce {
        let admin = node.admin_address().map(|address| address.to_string());
        let line = json!({
            "node": node.name(),
            "address": address,
            "incarnation": incarnation,
            "admin": admin,
        });
        format::print(&format!("{line}\n"))?;
    }
    let failed = loop {
        tokio::select! {
            why = node.failed() => break Some(why),
            () = signals.next() => break None,
            () = &mut stdin_ends => break None,
            () = hangups.next() => match args.clone().in_force() {
                Ok(config) => node.reload_plugins(&config.plugins).await,
                Err(error) => tracing::error!(%error, "nothing is read again"),
            },
        }
    };
    match &failed {
        Some(why) => tracing::error!(why, "stopping"),
        None => tracing::info!("stopping; a second signal ends it at once"),
    }
    tokio::select! {
        report = node.stop() => tracing::info!(%report, "stopped"),
        () = signals.next() => return Err(Failure::Interrupted),
    }
    match failed {
        Some(why) => Err(Failure::failed("the node failed", why)),
        None => Ok(()),
    }
}

fn failure_of(error: &StartError) -> Failure {
    let text = format!("cannot start the node: {error}");
    match error {
        StartError::Config(_)
        | StartError::Secret(_)
        | StartError::Insecure(_)
        | StartError::InsecureAdmin(_)
        | StartError::InsecureTransport(_)
        | StartError::Advertise(_)
        | StartError::Plugin(_) => Failure::Usage(text),
        StartError::Join(_) => Failure::Unreachable(text),
        _ => Failure::Failed(text),
    }
}
