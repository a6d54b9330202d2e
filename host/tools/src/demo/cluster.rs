//! The demo's nodes: real `zepto-host` processes, and the promise that none outlives the demo.
//!
//! Each child stops when its standard input ends, which happens whatever becomes of this process;
//! one that stands still is woken by the kernel then, since its process group has lost its parent.
//! The group of its own also has a Ctrl-C reach only the demo, which stops the nodes. Whatever is
//! started or stopped has a deadline, and a child that exceeds it is killed by its id.

use core::time::Duration;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::args::DemoArgs;
use super::node::{Node, last_words};
use crate::failure::Failure;

/// Time for a node to serve.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Time for a node whose output ended to end itself.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks at the children.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// The same while something is measured.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// All nodes, and the directory in which they live.
#[derive(Debug)]
pub(super) struct Cluster {
    dir: TempDir,
    /// Never locked while anything waits.
    nodes: Mutex<Vec<Node>>,
    memory: Option<String>,
    transport: Option<String>,
    secret_file: Option<PathBuf>,
    copies: u8,
}

/// What a node prints when it serves.
#[derive(Deserialize)]
struct Announcement {
    address: String,
}

/// Name and address of a node.
type Member = (String, String);

/// The name of the node with a number, from zero.
pub(super) fn name_of(number: usize) -> String {
    format!("node-{}", number + 1)
}

impl Cluster {
    /// A cluster without nodes, and a directory for them.
    pub(super) fn new(args: &DemoArgs) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("zepto-demo-").tempdir();
        let dir = dir.map_err(|error| Failure::failed("no temporary directory", error))?;
        Ok(Self {
            dir,
            nodes: Mutex::default(),
            memory: args.memory.clone(),
            transport: args.transport.clone(),
            secret_file: args.secret.secret_file.clone(),
            copies: args.copies(),
        })
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names and addresses of the nodes, in the order of their first start.
    pub(super) fn members(&self) -> Vec<Member> {
        self.nodes().iter().map(|node| (node.name.clone(), node.address.clone())).collect()
    }

    /// The addresses alone.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.nodes().iter().map(|node| node.address.clone()).collect()
    }

    /// Does something with a node.
    pub(super) fn with<T>(&self, name: &str, act: impl FnOnce(&mut Node) -> T) -> Option<T> {
        self.nodes().iter_mut().find(|node| node.name == name).map(act)
    }

    /// Starts one more node; discovery tells it of those before. The first one founds the cluster,
    /// the others join it.
    pub(super) async fn start_node(&self) -> Result<(), Failure> {
        let others = self.members();
        let name = name_of(others.len());
        let (mut child, log) = self.spawn(&name, &others)?;
        let output = child.stdout.take();
        let node =
            Node { name: name.clone(), address: String::new(), child, log, is_doomed: false };
        self.nodes().push(node);
        self.await_serving(&name, output).await
    }

    /// Starts a node that ended again, on its data directory.
    pub(super) async fn start_again(&self, name: &str) -> Result<(), Failure> {
        let mut others = self.members();
        others.retain(|(other, _)| other != name);
        let (mut child, _) = self.spawn(name, &others)?;
        let output = child.stdout.take();
        self.with(name, |node| {
            node.address.clear();
            node.child = child;
            node.is_doomed = false;
        });
        self.await_serving(name, output).await
    }

    async fn await_serving(&self, name: &str, out: Option<ChildStdout>) -> Result<(), Failure> {
        let doing = format!("cannot start {name}");
        let out = out.ok_or_else(|| Failure::failed(&doing, "no pipe"))?;
        let line = match timeout(START_WITHIN, BufReader::new(out).lines().next_line()).await {
            Ok(Ok(Some(line))) => line,
            // The end of its output is the end of the child, or near it.
            Ok(_) => {
                let status = self.exit_of(name, END_WITHIN).await;
                let ended = self.with(name, |node| node.ended(status.map(Ok)));
                return Err(ended.unwrap_or_else(|| Failure::failed(&doing, "it is gone")));
            }
            Err(_) => {
                let why = format!("it does not serve after {} s", START_WITHIN.as_secs());
                return Err(Failure::failed(&doing, why + &last_words(&self.log_of(name))));
            }
        };
        let announcement: Announcement = serde_json::from_str(&line)
            .map_err(|error| Failure::failed(&doing, format!("it announced {line:?}: {error}")))?;
        self.with(name, |node| node.address = announcement.address);
        Ok(())
    }

    pub(super) fn log_of(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    fn spawn(&self, name: &str, others: &[Member]) -> Result<(Child, PathBuf), Failure> {
        let log = self.log_of(name);
        let child = self.spawn_logging(name, others, &log);
        let child = child.map_err(|e| Failure::failed(&format!("cannot start {name}"), e));
        Ok((child?, log))
    }

    fn spawn_logging(&self, name: &str, others: &[Member], log: &Path) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--node-id", name, "--listen", "127.0.0.1:0", "--profile", "fast"]);
        command.args(["--log", "info", "--announce", "--exit-with-stdin"]);
        command.args(["--copies", &self.copies.to_string(), "--data-dir"]);
        command.arg(self.dir.path().join(name));
        if let Some(memory) = &self.memory {
            command.args(["--memory", memory]);
        }
        if let Some(transport) = &self.transport {
            command.args(["--transport", transport]);
        }
        if let Some(file) = &self.secret_file {
            command.arg("--secret-file").arg(file);
        }
        let nodes = others.iter().map(|(id, address)| json!({"id": id, "address": address}));
        let nodes = json!({"nodes": nodes.collect::<Vec<_>>()});
        command.args(["--plugin", "static.wasm", "--expect", "1"]);
        command.args(["--plugin-config", &format!("static={nodes}")]);
        let log = OpenOptions::new().append(true).create(true).open(log)?;
        command.env_remove("ZEPTO_LOG").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        command.spawn()
    }

    /// Waits until a node ends which should not, and says which and how.
    pub(super) async fn first_exit(&self) -> Failure {
        loop {
            for node in self.nodes().iter_mut().filter(|node| !node.is_doomed) {
                match node.exit() {
                    Ok(None) => {}
                    Ok(Some(status)) => return node.ended(Some(Ok(status))),
                    Err(error) => return node.ended(Some(Err(error))),
                }
            }
            sleep(WATCH_EVERY).await;
        }
    }

    /// Waits until a node has ended; `None` when it does not within the time.
    pub(super) async fn exit_of(&self, name: &str, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        loop {
            let exit = self.with(name, |node| node.exit().ok().flatten()).flatten();
            if exit.is_some() || Instant::now() >= until {
                return exit;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the process of a node stands still; whether it does within the time.
    pub(super) async fn stands_still(&self, name: &str, within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            let still = self.with(name, |node| node.state()).flatten() == Some('T');
            if still || Instant::now() >= until {
                return still;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Stops all nodes, and removes the directory unless it is to be kept. All at once: who is last
    /// finds no majority to say goodbye to, and does not wait for one for long. The failures of
    /// nodes that did not stop by themselves come back.
    pub(super) async fn stop(self, keep: bool) -> Vec<Failure> {
        let Self { dir, nodes, .. } = self;
        let mut failures = Vec::new();
        let mut stopping = tokio::task::JoinSet::new();
        for node in nodes.into_inner().unwrap_or_else(PoisonError::into_inner) {
            stopping.spawn(node.stop());
        }
        while let Some(stopped) = stopping.join_next().await {
            match stopped {
                Ok(stopped) => failures.extend(stopped.err()),
                Err(error) => failures.push(Failure::failed("stopping a node", error)),
            }
        }
        if keep {
            eprintln!("kept {}", dir.keep().display());
        } else if let Err(error) = dir.close() {
            failures.push(Failure::failed("cannot remove the temporary directory", error));
        }
        failures
    }
}
