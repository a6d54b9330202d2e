//! Three nodes on this machine, as the README starts them.

use super::process::{Ended, Process, zepto_host};
use super::{Host, LONG, SOON, eventually};
use core::time::Duration;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A cluster; dropping it kills what still runs and removes the data directories.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes; the first founded the cluster.
    pub nodes: Vec<Host>,
    /// After the nodes, since it is dropped after them.
    directory: TempDir,
    more: Vec<String>,
}

impl Cluster {
    /// Three nodes a, b and c, each with a third of the partitions. `more` are arguments for each.
    #[track_caller]
    pub fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let more = more.iter().map(|&argument| argument.to_owned()).collect();
        let mut cluster = Self { nodes: Vec::new(), directory, more };
        for name in ["a", "b", "c"] {
            let host = cluster.node(name);
            cluster.nodes.push(host);
        }
        cluster.wait_balanced(3);
        cluster
    }

    /// Three nodes that notice a death in seconds.
    #[track_caller]
    pub fn fast() -> Self {
        Self::start(&["--profile", "fast"])
    }

    /// Three nodes that keep one copy of everything and notice a death in seconds.
    #[track_caller]
    pub fn one_copy_fast() -> Self {
        Self::start(&["--profile", "fast", "--copies", "1"])
    }

    /// The data directory of a node.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory for the files of a test.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a node on its data directory, seeded with the others that run.
    #[track_caller]
    pub fn node(&self, name: &str) -> Host {
        let seeds: Vec<&str> = self.nodes.iter().map(|node| node.address.as_str()).collect();
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        Host::start(name, &self.data_dir(name), &seeds, &more)
    }

    /// Takes a node out, to be killed or stopped.
    #[track_caller]
    pub fn take(&mut self, name: &str) -> Host {
        let place = self.nodes.iter().position(|node| node.name == name);
        self.nodes.remove(place.expect("a node of the cluster"))
    }

    /// The node with this name.
    #[track_caller]
    pub fn get(&self, name: &str) -> &Host {
        self.nodes.iter().find(|node| node.name == name).expect("a node of the cluster")
    }

    /// Waits until this many members are active, each with a fair part, and all nodes agree.
    #[track_caller]
    pub fn wait_balanced(&self, members: usize) {
        for node in &self.nodes {
            wait_balanced(node, members);
        }
    }

    /// Feeds a file into the first node's cluster.
    #[track_caller]
    pub fn feed(&self, file: &Path, more: &[&str]) -> Ended {
        self.start_feed(file, more).wait(LONG)
    }

    /// Starts to feed a file.
    #[track_caller]
    pub fn start_feed(&self, file: &Path, more: &[&str]) -> Process {
        let to = &self.nodes.first().expect("a node").address;
        let mut command = zepto_host(["feed", "--to", to, "--json"]);
        command.args(more).arg(file);
        Process::spawn(command)
    }

    /// Waits until `node` sees a member in a state, by decision of the log.
    #[track_caller]
    pub fn wait_state(&self, node: &str, member: &str, state: &str, limit: Duration) -> Value {
        let node = self.get(node);
        eventually(&format!("{} sees {member} as {state}", node.name), limit, || {
            node.member(member).filter(|member| member["state"] == state)
        })
    }
}

/// Waits until a node sees this many active members, each with a fair part of the partitions,
/// every partition with all its copies, and as many voters as may be lost one of.
#[track_caller]
pub fn wait_balanced(node: &Host, members: usize) {
    eventually(&format!("{} sees {members} members with partitions", node.name), SOON, || {
        let status = node.status();
        let votes = status["log"]["voters"].as_u64()?;
        let is_settled = status["short_of_copies"] == 0 && status["moving"] == 0;
        let wanted = [1, 1, 1, 3, 3, 5][members.min(5)];
        if !is_settled || votes < wanted {
            return None;
        }
        let fair = status["partitions"].as_u64()? / members as u64 / 2;
        let all = status["members"].as_array()?.iter();
        let active = all.filter(|member| member["state"] == "ACTIVE");
        let holding = active.filter(|member| member["partitions"].as_u64() > Some(fair));
        (holding.count() == members).then_some(())
    });
}
