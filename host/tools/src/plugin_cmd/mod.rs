//! `zepto-host plugin`: whether a file is one, how those of a node are, and new versions of them.

mod check;
mod flags;

use clap::{Args, Subcommand};
use serde_json::json;
use zepto_client::message::{PluginRequest, PluginStatus};

use crate::failure::Failure;
use crate::format::{self, Align, Table};
use crate::operate_cmd::ClusterArgs;

pub use check::{CheckArgs, check};
pub use flags::PluginFlags;

/// Check a plugin, list those of a node, or take a new version into service
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host plugin check k8s.wasm
  zepto-host plugin list --at localhost:9000
  zepto-host plugin reload k8s /opt/zepto/k8s-2.wasm --at localhost:9000")]
pub struct PluginArgs {
    /// What to do
    #[command(subcommand)]
    pub command: PluginCommand,
}

/// What can be done about plugins.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginCommand {
    /// Say whether a file is a plugin for this host, and what it asks for
    Check(CheckArgs),
    /// Show the plugins of a node
    #[command(after_help = "Example:\n  zepto-host plugin list --at localhost:9000 --json")]
    List(ClusterArgs),
    /// Take a new version of a plugin into service
    #[command(after_help = "\
Example:
  zepto-host plugin reload k8s /opt/zepto/k8s-2.wasm --at localhost:9000

The file is read on the machine of the node that is asked, and only that node takes it. It is opened
beside the old version, given its state and asked whether all is well; if not, the old one goes on
as if nothing had been. The old one is kept open for ten minutes more: if the new one fails within
them, the node goes back to it. From then on it is the file that SIGHUP has the node read again,
with the configuration of all plugins; a node that is started again begins with what is
configured.")]
    Reload(ReloadArgs),
}

/// Which plugin, and which file.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// Name of the plugin
    pub name: String,
    /// Its new file, on the node's machine
    pub file: String,
    /// The node
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Runs the command.
///
/// # Errors
/// When it is refused, or no node answers.
pub async fn plugin(args: PluginArgs) -> Result<(), Failure> {
    match args.command {
        PluginCommand::Check(args) => check(args).await,
        PluginCommand::List(cluster) => list(&cluster).await,
        PluginCommand::Reload(ReloadArgs { name, file, cluster }) => {
            let request = PluginRequest::Reload { name: name.clone(), path: file };
            let text = cluster.about_plugins("plugin reload", request).await?;
            if cluster.json {
                return format::print(&format!("{}\n", json!({"plugin": name, "version": text})));
            }
            format::print(&format!("{name}: {text}\n"))
        }
    }
}

async fn list(cluster: &ClusterArgs) -> Result<(), Failure> {
    let status = cluster.status("plugin list").await?;
    if cluster.json {
        let plugins = serde_json::to_string(&status.plugins);
        let plugins = plugins.map_err(|e| Failure::failed(&cluster.doing("plugin list"), e))?;
        return format::print(&format!("{plugins}\n"));
    }
    if status.plugins.is_empty() {
        return format::print(&format!("{} has no plugins\n", status.name));
    }
    format::print(&table(&status.plugins))
}

/// One line for each plugin, and one more for what is wrong with it.
pub(crate) fn table(plugins: &[PluginStatus]) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("PLUGIN", Left),
        ("STATE", Left),
        ("VERSION", Left),
        ("KINDS", Left),
        ("TARGET", Left),
        ("EVENTS", Right),
        ("FAULTS", Right),
        ("REFUSED", Right),
        ("NODES", Right),
        ("ANSWER", Right),
        ("HELD", Right),
    ]);
    let or_dash = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), format::count);
    for plugin in plugins {
        let age = plugin.answer_age_ms.map(core::time::Duration::from_millis);
        table.row([
            plugin.name.clone(),
            plugin.state.clone(),
            plugin.version.clone(),
            plugin.kinds.join(","),
            plugin.target.clone(),
            format::count(plugin.events),
            format::count(plugin.faults),
            format::count(plugin.refused),
            or_dash(plugin.nodes.map(u64::from)),
            age.map_or_else(|| "-".to_owned(), |age| format!("{} ago", format::seconds(age))),
            or_dash(plugin.held.map(u64::from)),
        ]);
    }
    let mut text = table.take_text();
    for plugin in plugins.iter().filter(|plugin| !plugin.last_error.is_empty()) {
        let first = plugin.last_error.lines().next().unwrap_or_default();
        text.push_str(&format!("{}: {first}\n", plugin.name));
    }
    text
}
