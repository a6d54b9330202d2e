//! The command line: flags of the node, and the other commands.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;
use zepto_core::size::Size;
use zepto_node::config::{Config, ProfileName};
use zepto_node::plugins::preset::{self, Place};
use zepto_tools::demo::DemoArgs;
use zepto_tools::failure::Failure;
use zepto_tools::feed_cmd::FeedArgs;
use zepto_tools::operate_cmd::{
    DrainArgs, MemberArgs, PinArgs, RecoverArgs, UnpinArgs, WeightArgs, ZoneArgs,
};
use zepto_tools::plugin_cmd::{PluginArgs, PluginFlags};
use zepto_tools::query_cmd::QueryArgs;
use zepto_tools::secret::SecretArgs;
use zepto_tools::status_cmd::StatusArgs;

/// One node of a partitioned, replicated, in-memory tick store, and the tools around it.
///
/// Without a command it runs a node.
#[derive(Debug, Parser)]
#[command(
    name = "zepto-host",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  zepto-host demo                                        prove it on this machine
  zepto-host --node-id a                                 the first node of a new cluster
  zepto-host --node-id b --listen 127.0.0.1:9001 --seed 127.0.0.1:9000
  zepto-host feed ticks.csv.zst --to 127.0.0.1:9000
  zepto-host query summary --at 127.0.0.1:9000
  zepto-host --plugin k8s.wasm                           find the others behind a Kubernetes Service
  zepto-host --plugin gossip.wasm --seed 10.0.0.1:9000   find the others by gossip
  zepto-host drain b --at 127.0.0.1:9000

Exit codes: 0 it went well; 1 it failed, or an answer was not what it must be; 2 wrong usage or
configuration; 3 no node can be reached; 130 ended by Ctrl-C (a node that stops well ends with 0)."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
    /// Least level of log lines: error, warn, info, debug, or a filter per module
    #[arg(long, value_name = "LEVEL", env = "ZEPTO_LOG", global = true)]
    pub log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<RunArgs>),
    Demo(DemoArgs),
    Feed(FeedArgs),
    Query(QueryArgs),
    Status(StatusArgs),
    Drain(DrainArgs),
    Member(MemberArgs),
    Pin(PinArgs),
    Unpin(UnpinArgs),
    Weight(WeightArgs),
    Zone(ZoneArgs),
    Recover(RecoverArgs),
    Plugin(PluginArgs),
    /// Print the completion script of a shell
    #[command(after_help = "Example:\n  source <(zepto-host completions bash)")]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
}

/// Run a node (also without a command)
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host run --node-id a --data-dir /var/lib/zepto
  zepto-host run --config node.toml --memory 8GiB --print-config

SIGINT and SIGTERM stop the node in order; a second one ends it at once.")]
pub struct RunArgs {
    /// Configuration, TOML; flags override it
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// This node's name, unique in the cluster [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,
    /// Where to listen, TCP and UDP [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// What others are told to connect to [default: the address it listens on]
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Admin HTTP: /metrics, /healthz, /readyz, /status; ADDR such as 127.0.0.1:9900, or off
    /// [default: off, so that nodes on one machine never want the same port]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Address of a member, may be repeated; without any, a new cluster is founded
    #[arg(long, value_name = "ADDR", num_args = 1..)]
    seed: Vec<String>,
    /// How nodes reach each other's memory: shm, on one machine; ucx (libucx0), on one or over a
    /// network [default: shm]
    #[arg(long, value_name = "shm|ucx", env = "ZEPTO_TRANSPORT")]
    transport: Option<String>,
    /// UCX's library, a name or a path [default: libucp.so.0]
    #[arg(long, value_name = "FILE")]
    ucx_library: Option<String>,
    /// Memory for ticks, such as 512MiB [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Identity and control log [default: zepto-data/<node-id>]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What others must prove to this node, and it to them
    #[command(flatten)]
    secret: SecretArgs,
    /// Policy
    #[command(flatten)]
    plugins: PluginFlags,
    /// Threads that append ticks: 1, 2, 4, 8 or 16
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Share of the partitions: 100 is ordinary, 0 owns nothing
    #[arg(long, value_name = "N")]
    weight: Option<u16>,
    /// Failure zone
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Listen where other machines reach it although there is no cluster secret
    #[arg(long)]
    insecure_bind: bool,
    /// Time to find a seed that answers
    #[arg(long, value_name = "MS")]
    join_timeout_ms: Option<u64>,
    /// Heartbeats: default (dead after 10 s) or fast (2 s)
    #[arg(long, value_parser = ["default", "fast"])]
    profile: Option<String>,
    /// A new cluster has 2^BITS partitions [default: 12]
    #[arg(long, value_name = "BITS")]
    partition_bits: Option<u8>,
    /// Copies of every partition in a new cluster: 1 to 4 [default: 2]. A tick is acknowledged once
    /// so many nodes have it, so a single node needs 1
    #[arg(long, value_name = "N")]
    copies: Option<u8>,
    /// Print the configuration in force and exit
    #[arg(long)]
    pub print_config: bool,
    /// Print one JSON line on standard output once it serves
    #[arg(long, hide = true)]
    pub announce: bool,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,
}

impl RunArgs {
    /// The configuration in force: the file, overridden by flags, and the two defaults that
    /// depend on where the node runs. Checked.
    pub fn in_force(self) -> Result<Config, Failure> {
        let usage = |text: String| Failure::Usage(format!("configuration: {text}"));
        let read = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read);
        let mut config = read.map_err(|error| usage(error.to_string()))?;
        set(&mut config.node_id, self.node_id);
        set(&mut config.listen, self.listen);
        set(&mut config.advertise, self.advertise);
        set(&mut config.admin, self.admin);
        set(&mut config.seeds, Some(self.seed).filter(|seeds| !seeds.is_empty()));
        set(&mut config.transport, self.transport);
        set(&mut config.ucx_library, self.ucx_library);
        set(&mut config.memory, self.memory);
        set(&mut config.data_dir, self.data_dir);
        set(&mut config.secret_file, self.secret.secret_file.map(Some));
        config.allow_native |= self.plugins.allow_native;
        set(&mut config.expect, self.plugins.expect.map(Some));
        self.plugins.apply(&mut config.plugins)?;
        set(&mut config.shards, self.shards);
        set(&mut config.weight, self.weight);
        set(&mut config.zone, self.zone);
        set(&mut config.join_timeout_ms, self.join_timeout_ms);
        let named = |name| if name == "fast" { ProfileName::Fast } else { ProfileName::Default };
        set(&mut config.heartbeat.profile, self.profile.as_deref().map(named));
        set(&mut config.cluster.partition_bits, self.partition_bits);
        set(&mut config.cluster.copies, self.copies);
        config.insecure_bind |= self.insecure_bind;
        if config.node_id.is_empty() {
            config.node_id = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        let var = |name: &str| std::env::var(name).ok();
        let preset = preset::apply(&mut config, &Place::of_process(&var));
        preset.map_err(|error| usage(error.to_string()))?;
        if config.data_dir.as_os_str().is_empty() {
            let name = &config.node_id;
            if name.contains('/') || name.starts_with('.') {
                return Err(usage(format!(
                    "node_id: {name:?} names no directory; give --data-dir"
                )));
            }
            config.data_dir = PathBuf::from("zepto-data").join(name);
        }
        config.check().map_err(|error| usage(error.to_string()))?;
        Ok(config)
    }
}

/// A flag that was given replaces what the file says.
fn set<T>(value: &mut T, flag: Option<T>) {
    if let Some(flag) = flag {
        *value = flag;
    }
}
