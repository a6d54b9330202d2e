//! What the demo is asked to do, and what of it makes no sense.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use zepto_core::limits::{COPIES_MAX, SYMBOLS_MAX};

use super::cluster::name_of;
use crate::failure::Failure;
use crate::secret::SecretArgs;

/// Nodes that one machine is asked to run.
const NODES_MAX: i64 = 64;
/// Nodes of which one can be missing while the others still are a majority.
const NODES_TO_KILL_ONE: u16 = 3;

/// Start a cluster on this machine, feed it, and prove that nothing was lost
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host demo
  zepto-host demo --nodes 5 --ticks 10000000 --symbols 5000 --seed 7
  zepto-host demo --input crypto-2024-08-08.csv.zst --json
  zepto-host demo --kill
  zepto-host demo --kill=pause --victim follower --json

Exit code 0 means that every row was acknowledged, is stored exactly once and in order, and that
every node answers exactly. With --json, the last line on standard output is one object; its
ticks_per_s and seconds go from the first row sent to the last acknowledgement.

With --kill, the feed is spread over 10 s. When half of its rows are sent, one node is killed; the
feed goes on. As soon as everything that the node had takes ticks again, it is started again on its
data directory, is filled, and takes its share back, all while the feed goes on. Then the same proof
as ever, by content, at every node. The demo fails unless the fault really happened: the process
ended by signal 9 (or stood still), its death was declared, and its partitions went elsewhere.
  detection_ms  from the kill until the first surviving node has it as DEAD
  failover_ms   from the kill until the last partition that it had a copy of, and for which ticks
                came meanwhile, has acknowledged a tick that was sent after the kill
  refilled_ms   from its new start until every partition has all its copies again, nothing moves,
                and it owns its share")]
pub struct DemoArgs {
    /// Node processes
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=NODES_MAX)
    )]
    pub nodes: u16,
    /// Copies of every partition [default: 2, or 1 with a single node]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..=COPIES_MAX as i64)
    )]
    pub copies: Option<u8>,
    /// Ticks to generate
    #[arg(long, value_name = "N", default_value_t = 1_000_000, conflicts_with = "input")]
    pub ticks: u64,
    /// Symbols to generate, the first the busiest
    #[arg(
        long,
        value_name = "S",
        default_value_t = 1000,
        conflicts_with = "input",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SYMBOLS_MAX))
    )]
    pub symbols: u32,
    /// Seed of the generated ticks: the same seed gives the same ticks
    #[arg(long, value_name = "X", default_value_t = 1, conflicts_with = "input")]
    pub seed: u64,
    /// Feed a file instead, CSV or DBN, plain or compressed with zstd
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Count and report malformed lines or records of the file instead of stopping at the first
    #[arg(long, requires = "input")]
    pub skip_bad: bool,
    /// Kill a node in the midst of the feed, and start it again
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "sigkill"
    )]
    pub kill: Option<Kill>,
    /// Which node: its name (node-2), leader (of the control log) or follower [default: the leader,
    /// or who gets most ticks if the leader gets none]
    #[arg(long, value_name = "NODE", requires = "kill")]
    pub victim: Option<String>,
    /// Memory for ticks of each node [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// How nodes reach each other's memory: shm or ucx [default: shm]
    #[arg(long, value_name = "shm|ucx")]
    pub transport: Option<String>,
    /// Keep the nodes' logs and data directories, and say where they are
    #[arg(long)]
    pub keep: bool,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    pub json: bool,
    /// What the nodes prove to each other
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// How a node is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kill {
    /// SIGKILL: it is gone without a word
    Sigkill,
    /// SIGSTOP, and SIGCONT once the others have gone on without it
    Pause,
}

impl Kill {
    /// As on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sigkill => "sigkill",
            Self::Pause => "pause",
        }
    }
}

/// Which node is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// Whoever leads the log if ticks go to it, else whoever gets most.
    Any,
    Leader,
    Follower,
    Named(String),
}

impl DemoArgs {
    /// Declared copies.
    pub(super) fn copies(&self) -> u8 {
        self.copies.unwrap_or(if self.nodes > 1 { 2 } else { 1 })
    }

    pub(super) fn victim(&self) -> Victim {
        match self.victim.as_deref() {
            None => Victim::Any,
            Some("leader") => Victim::Leader,
            Some("follower") => Victim::Follower,
            Some(name) => Victim::Named(name.to_owned()),
        }
    }

    /// Before anything is started: whether what is asked for can be done at all.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let usage = |text: String| Err(Failure::Usage(format!("demo: {text}")));
        if u16::from(self.copies()) > self.nodes {
            return usage(format!(
                "{} nodes cannot hold {} copies; give more --nodes or fewer --copies",
                self.nodes,
                self.copies()
            ));
        }
        if self.kill.is_some() && (self.nodes < NODES_TO_KILL_ONE || self.copies() < 2) {
            return usage("--kill takes at least 3 nodes and 2 copies".into());
        }
        if let Victim::Named(name) = self.victim()
            && !(0..usize::from(self.nodes)).any(|number| name_of(number) == name)
        {
            let last = name_of(usize::from(self.nodes) - 1);
            return usage(format!(
                "there is no node {name:?}; give --victim as leader, follower, or {} to {last}",
                name_of(0)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn parsed(line: &[&str]) -> Result<DemoArgs, clap::Error> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            demo: DemoArgs,
        }
        let line = ["demo"].iter().chain(line);
        <Line as clap::Parser>::try_parse_from(line).map(|line| line.demo)
    }

    #[test]
    fn copies_default_to_two_where_there_are_two_nodes() {
        let copies = |line: &[&str]| parsed(line).unwrap().copies();
        assert_eq!(copies(&[]), 2);
        assert_eq!(copies(&["--nodes", "1"]), 1);
        assert_eq!(copies(&["--nodes", "2"]), 2);
        assert_eq!(copies(&["--copies", "3"]), 3);
        let error = parsed(&["--copies", "4"]).unwrap().check().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("3 nodes cannot hold 4 copies"), "{error}");
    }

    #[test]
    fn a_kill_has_a_default_way_and_a_victim_that_exists() {
        let kill = |line: &[&str]| parsed(line).unwrap().kill;
        assert_eq!(kill(&[]), None);
        assert_eq!(kill(&["--kill"]), Some(Kill::Sigkill));
        assert_eq!(kill(&["--kill=sigkill", "--json"]), Some(Kill::Sigkill));
        assert_eq!(kill(&["--kill=pause"]), Some(Kill::Pause));
        assert!(parsed(&["--kill", "pause"]).is_err(), "the value goes with an equals sign");
        assert!(parsed(&["--victim", "leader"]).is_err(), "of nothing");
        for victim in ["leader", "follower", "node-3"] {
            parsed(&["--kill", "--victim", victim]).unwrap().check().unwrap();
        }
        for line in [
            &["--kill", "--victim", "node-4"][..],
            &["--kill", "--nodes", "2"],
            &["--kill", "--copies", "1"],
        ] {
            assert_eq!(parsed(line).unwrap().check().unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
