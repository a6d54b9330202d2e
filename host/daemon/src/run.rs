//! `zepto-host run`: a node from its start to its stop.

use crate::args::RunArgs;
use serde_json::json;
use zepto_node::{StartError, start};
use zepto_tools::failure::Failure;
use zepto_tools::format;
use zepto_tools::signal::{Hangups, Signals, stdin_end};
use zepto_transport::Shm;

/// Runs a node until it is told to stop or fails.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let (print, announce, with_stdin) = (args.print_config, args.announce, args.exit_with_stdin);
    let again = args.clone();
    let config = args.in_force()?;
    if print {
        return format::print(&config.print());
    }
    let (mut signals, mut hangups) = (Signals::listen()?, Hangups::listen()?);
    let mut stdin_ends = Box::pin(stdin_end(with_stdin));
    let started = tokio::select! {
        started = start::<Shm>(config) => started,
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
            () = hangups.next() => match again.clone().in_force() {
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
        | StartError::Advertise(_)
        | StartError::Plugin(_) => Failure::Usage(text),
        StartError::Join(_) => Failure::Unreachable(text),
        _ => Failure::Failed(text),
    }
}
