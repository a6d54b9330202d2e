//! `zepto-host drain`: a node gives everything away, and the one who asked watches.

use core::time::Duration;
use std::io::IsTerminal;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use zepto_client::message::{MemberStatus, Operation, Status};
use zepto_core::topology::MemberState;

use super::ClusterArgs;
use crate::argument::parse_wait;
use crate::failure::Failure;
use crate::format;
use crate::signal::Signals;

/// Time between two looks at what the node still holds.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Move everything off a node, so that it can be stopped without loss
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host drain --at localhost:9002              the node at this address
  zepto-host drain c --at localhost:9000            another one, by its name
  zepto-host drain c --at localhost:9000 --no-wait
  zepto-host drain c --at localhost:9000 --timeout 10m --json

The node gives its partitions and its copies to the others while they are written to and asked, and
goes on answering until it is stopped. A drain cannot be taken back; the node is a full member again
once it is started again. Exit code 0 means that it holds nothing any more (with --no-wait: that it
was decided), 1 that it still did after --timeout; the drain goes on then.")]
pub struct DrainArgs {
    /// Name of the node [default: the one at --at]
    pub node: Option<String>,
    /// Wait until the node holds nothing
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub wait: bool,
    /// Return as soon as it is decided
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,
    /// Time to wait
    #[arg(long, value_name = "LENGTH", default_value = "60s", value_parser = parse_wait)]
    pub timeout: Duration,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Runs the command.
///
/// # Errors
/// When it is refused, not over in time, or no node answers.
pub async fn drain(args: DrainArgs) -> Result<(), Failure> {
    if args.node.is_none() && args.cluster.at.len() > 1 {
        let text = "drain: --at has several addresses; give the name of the node to drain";
        return Err(Failure::Usage(text.into()));
    }
    let mut signals = Signals::listen()?;
    // Which node is leaving for certain, once it is.
    let mut leaving = None;
    tokio::select! {
        done = go(&args, &mut leaving) => return done,
        () = signals.next() => {}
    }
    if let Some(node) = leaving {
        eprintln!("zepto-host: the drain of {node} goes on; the same command watches it again");
    }
    Err(Failure::Interrupted)
}

async fn go(args: &DrainArgs, leaving: &mut Option<String>) -> Result<(), Failure> {
    let cluster = &args.cluster;
    let before = cluster.status("drain").await?;
    let node = args.node.as_ref().unwrap_or(&before.name);
    let begun = member_of(&before, node);
    // Whoever waited too short a time asks again, and only waits.
    let index = match begun {
        Some(member) if member.state == MemberState::Leaving => before.topology_index,
        _ => cluster.operate("drain", Operation::Drain { node: node.clone() }).await?,
    };
    *leaving = Some(node.clone());
    if args.no_wait || !args.wait {
        let sentence = format!(
            "{node} gives everything away; stop it when `zepto-host member list` shows that it has \
             0 copies"
        );
        return cluster.tell(index, json!({"node": node, "drained": false}), &sentence);
    }
    let held = begun.map_or(0, |member| u64::from(member.copies));
    let bar = progress_bar(held);
    let waited = tokio::time::timeout(args.timeout, wait(args, node, held, &bar)).await;
    bar.finish_and_clear();
    match waited {
        Ok(waited) => waited?,
        Err(_) => return Err(too_late(args, node).await),
    }
    let seconds = bar.elapsed();
    let object = json!({
        "node": node,
        "drained": true,
        "copies_moved": held,
        "seconds": seconds.as_millis() as f64 / 1e3,
    });
    let sentence = format!(
        "{node} holds nothing any more: {} copies moved in {}; it can be stopped",
        format::count(held),
        format::seconds(seconds),
    );
    cluster.tell(index, object, &sentence)
}

/// Looks until the node holds nothing.
async fn wait(args: &DrainArgs, node: &str, held: u64, bar: &ProgressBar) -> Result<(), Failure> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let status = match args.cluster.status("drain").await {
            Ok(status) => status,
            // A node that is asked may be away for a moment; the time to wait is the limit.
            Err(Failure::Unreachable(_)) => continue,
            Err(failure) => return Err(failure),
        };
        let doing = args.cluster.doing("drain");
        let Some(member) = member_of(&status, node) else {
            return Err(Failure::failed(&doing, format!("{node} was removed meanwhile")));
        };
        match member.state {
            MemberState::Leaving if is_empty(member) => return Ok(()),
            MemberState::Leaving => {}
            // The node that answers has not heard of the decision yet.
            MemberState::Joining | MemberState::Active => {}
            MemberState::Dead => {
                let text = format!(
                    "{node} ended before it had given everything away; `zepto-host status` shows \
                     whether partitions are offline"
                );
                return Err(Failure::failed(&doing, text));
            }
        }
        bar.set_position(held.saturating_sub(member.copies.into()));
        bar.set_message(format!(
            "{} partitions and {} copies left at {node}",
            member.partitions, member.copies
        ));
    }
}

async fn too_late(args: &DrainArgs, node: &str) -> Failure {
    let status = args.cluster.status("drain").await;
    let left = status.ok().and_then(|status| member_of(&status, node).cloned());
    let left = left.map_or_else(
        || "what it holds is not known".to_owned(),
        |member| format!("it still has {} partitions, {} copies", member.partitions, member.copies),
    );
    let text = format!(
        "{node} is not empty after {}: {left}; it goes on, so repeat the command with a longer \
         --timeout",
        format::seconds(args.timeout),
    );
    Failure::failed(&args.cluster.doing("drain"), text)
}

fn member_of<'a>(status: &'a Status, name: &str) -> Option<&'a MemberStatus> {
    status.members.iter().find(|member| member.name == name)
}

fn is_empty(member: &MemberStatus) -> bool {
    member.partitions == 0 && member.copies == 0 && member.filling == 0
}

/// A bar over copies; hidden unless a person watches.
fn progress_bar(copies: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(copies);
    match ProgressStyle::with_template("{bar:32} {human_pos}/{human_len}  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
