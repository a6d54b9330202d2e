//! One node in a process of its own.

use super::process::{Ended, Process, run, zepto_host};
use super::{SOON, eventually};
use core::time::Duration;
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;

/// A node that serves; dropping it kills it.
#[derive(Debug)]
pub struct Host {
    /// The process.
    pub process: Process,
    /// Its text id.
    pub name: String,
    /// Where it is reached.
    pub address: String,
    /// Which life of it this is.
    pub incarnation: u64,
}

/// The arguments of a node that others on this machine reach.
pub fn arguments(name: &str, data_dir: &Path, seeds: &[&str], more: &[&str]) -> Vec<String> {
    let data_dir = data_dir.to_string_lossy();
    let mut arguments = vec!["run", "--node-id", name, "--data-dir", &data_dir];
    if !more.contains(&"--listen") {
        arguments.extend(["--listen", "127.0.0.1:0"]);
    }
    for seed in seeds {
        arguments.extend(["--seed", seed]);
    }
    arguments.extend(["--announce", "--exit-with-stdin"]);
    arguments.extend(more);
    arguments.into_iter().map(str::to_owned).collect()
}

impl Host {
    /// Starts a node and waits until it serves.
    #[track_caller]
    pub fn start(name: &str, data_dir: &Path, seeds: &[&str], more: &[&str]) -> Self {
        Self::serving(name, Self::spawn(name, data_dir, seeds, more))
    }

    /// Starts a node that may not serve before others do.
    #[track_caller]
    pub fn spawn(name: &str, data_dir: &Path, seeds: &[&str], more: &[&str]) -> Process {
        Process::spawn(zepto_host(arguments(name, data_dir, seeds, more)))
    }

    /// Waits until the node of a process serves.
    #[track_caller]
    pub fn serving(name: &str, mut process: Process) -> Self {
        let announced = eventually(&format!("node {name} announces itself"), SOON, || {
            let line = process.stdout().split_once('\n').map(|(line, _)| line.to_owned());
            let running = process.is_running();
            assert!(line.is_some() || running, "node {name} ended:\n{}", process.stderr());
            line
        });
        let announced: Value = serde_json::from_str(&announced).expect("one JSON object");
        let address = announced["address"].as_str().expect("an address").to_owned();
        let incarnation = announced["incarnation"].as_u64().expect("an incarnation");
        Self { process, name: name.into(), address, incarnation }
    }

    /// Kills it without a word, as a crash or the kernel would.
    #[track_caller]
    pub fn kill(self) -> Ended {
        self.process.signal(Signal::KILL);
        self.process.wait(SOON).killed_by(Signal::KILL)
    }

    /// Asks it to stop, and waits until it has.
    #[track_caller]
    pub fn stop(self, limit: Duration) -> Ended {
        self.process.signal(Signal::TERM);
        self.process.wait(limit)
    }

    /// Its status.
    #[track_caller]
    pub fn status(&self) -> Value {
        run(["status", "--at", &self.address, "--json"], SOON).code(0).json()
    }

    /// A member as this node sees it.
    #[track_caller]
    pub fn member(&self, name: &str) -> Option<Value> {
        let status = self.status();
        let members = status["members"].as_array().expect("members").clone();
        members.into_iter().find(|member| member["name"] == name)
    }

    /// Every symbol's summary, asked through this node, as JSON.
    #[track_caller]
    pub fn summary(&self) -> Value {
        run(["query", "summary", "--at", &self.address, "--json"], SOON).code(0).json()
    }

    /// Every tick of the cluster, asked through this node.
    #[track_caller]
    pub fn ticks(&self) -> u64 {
        self.summary()["total_ticks"].as_u64().expect("a number")
    }

    /// The most memory that it has had so far, in bytes.
    #[track_caller]
    pub fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }
}
