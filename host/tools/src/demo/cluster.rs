//! The demo's nodes: real `zepto-host` processes, and the promise that none outlives the demo.
//!
//! Each child stops when its standard input ends, which happens whatever becomes of this process.
//! It has a process group of its own, so that a Ctrl-C reaches the demo, which stops the nodes in
//! order: the one that keeps the control log last. Whatever is started or stopped has a deadline,
//! and a child that exceeds it is killed by its id.

use core::time::Duration;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::failure::Failure;

/// Time for a node to serve.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Time for a node to stop after its standard input ended.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks at whether all children live.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// What a failed child said last, as far as it is repeated.
const LAST_WORDS_BYTES: u64 = 8 << 10;
const LAST_WORDS_LINES: usize = 15;

/// A node of the demo.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: String,
    child: Child,
    log: PathBuf,
}

/// All of them, and the directory in which they live.
#[derive(Debug)]
pub(super) struct Cluster {
    dir: TempDir,
    nodes: Vec<Node>,
    memory: Option<String>,
    secret_file: Option<PathBuf>,
}

/// What a node prints when it serves.
#[derive(Deserialize)]
struct Announcement {
    address: String,
}

impl Cluster {
    /// A cluster without nodes, and a directory for them.
    pub(super) fn new(
        memory: Option<String>,
        secret_file: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("zepto-demo-").tempdir();
        let dir = dir.map_err(|error| Failure::failed("no temporary directory", error))?;
        Ok(Self { dir, nodes: Vec::new(), memory, secret_file })
    }

    /// The names and addresses of the nodes, the keeper of the log first.
    pub(super) fn members(&self) -> Vec<(String, String)> {
        self.nodes.iter().map(|node| (node.name.clone(), node.address.clone())).collect()
    }

    /// Starts one more node; the first bootstraps the cluster, the others join it.
    pub(super) async fn start_node(&mut self) -> Result<(), Failure> {
        let name = format!("node-{}", self.nodes.len() + 1);
        let doing = format!("cannot start {name}");
        let log = self.dir.path().join(format!("{name}.log"));
        let mut child = self.spawn(&name, &log).map_err(|e| Failure::failed(&doing, e))?;
        let output = child.stdout.take();
        self.nodes.push(Node { name, address: String::new(), child, log });
        let Some(node) = self.nodes.last_mut() else { return Ok(()) };
        let mut lines =
            BufReader::new(output.ok_or_else(|| Failure::failed(&doing, "no pipe"))?).lines();
        let line = match timeout(START_WITHIN, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            // The end of its output is the end of the child, or near it.
            Ok(_) => {
                let status = timeout(STOP_WITHIN, node.child.wait()).await.ok();
                return Err(node.ended(status));
            }
            Err(_) => {
                let why = format!("it does not serve after {} s", START_WITHIN.as_secs());
                return Err(Failure::failed(&doing, why + &last_words(&node.log)));
            }
        };
        let announcement: Announcement = serde_json::from_str(&line)
            .map_err(|error| Failure::failed(&doing, format!("it announced {line:?}: {error}")))?;
        node.address = announcement.address;
        Ok(())
    }

    fn spawn(&self, name: &str, log: &Path) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--node-id", name, "--listen", "127.0.0.1:0", "--profile", "fast"]);
        command.args(["--log", "info", "--announce", "--exit-with-stdin", "--data-dir"]);
        command.arg(self.dir.path().join(name));
        if let Some(memory) = &self.memory {
            command.args(["--memory", memory]);
        }
        if let Some(file) = &self.secret_file {
            command.arg("--secret-file").arg(file);
        }
        if let Some(first) = self.nodes.first() {
            command.args(["--seed", &first.address]);
        }
        command.env_remove("ZEPTO_LOG").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        command.spawn()
    }

    /// Waits until a node ends, which none should, and says which and how.
    pub(super) async fn first_exit(&mut self) -> Failure {
        loop {
            for node in &mut self.nodes {
                match node.child.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) => return node.ended(Some(Ok(status))),
                    Err(error) => return node.ended(Some(Err(error))),
                }
            }
            sleep(WATCH_EVERY).await;
        }
    }

    /// Stops every node, the keeper of the log last, and removes the directory unless it is to be
    /// kept. The failures of nodes that did not stop by themselves come back.
    pub(super) async fn stop(self, keep: bool) -> Vec<Failure> {
        let Self { dir, nodes, .. } = self;
        let mut failures = Vec::new();
        let mut nodes = nodes.into_iter();
        let keeper = nodes.next();
        let mut stopping = tokio::task::JoinSet::new();
        for node in nodes {
            stopping.spawn(node.stop());
        }
        while let Some(stopped) = stopping.join_next().await {
            match stopped {
                Ok(stopped) => failures.extend(stopped.err()),
                Err(error) => failures.push(Failure::failed("stopping a node", error)),
            }
        }
        if let Some(keeper) = keeper {
            failures.extend(keeper.stop().await.err());
        }
        if keep {
            eprintln!("kept {}", dir.keep().display());
        } else if let Err(error) = dir.close() {
            failures.push(Failure::failed("cannot remove the temporary directory", error));
        }
        failures
    }
}

impl Node {
    /// How it ended although nobody asked it to.
    fn ended(&self, status: Option<std::io::Result<ExitStatus>>) -> Failure {
        let how = match status {
            Some(Ok(status)) => format!("died: {status}"),
            Some(Err(error)) => format!("cannot be watched: {error}"),
            None => "closed its output, but goes on".to_owned(),
        };
        Failure::Failed(format!("demo: {} {how}{}", self.name, last_words(&self.log)))
    }

    /// Ends its input, waits, and kills it if that does not help.
    async fn stop(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        let late = match timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(status) => return Err(self.ended(Some(status))),
            Err(_) => format!("{} did not stop in {} s", self.name, STOP_WITHIN.as_secs()),
        };
        let killed = self.child.kill().await;
        let killed = killed.map_or_else(|error| format!("and cannot be: {error}"), |()| "".into());
        Err(Failure::Failed(format!(
            "demo: {late} and was killed{killed}{}",
            last_words(&self.log)
        )))
    }
}

/// The last lines of a log, indented, behind a line of their own; nothing when there are none.
fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(LAST_WORDS_LINES).collect();
    if lines.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = lines.iter().rev().map(|line| format!("  {line}")).collect();
    format!("\nits last words:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_words_of_a_node_are_its_last_lines_whatever_the_length() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(last_words(log.path()), "");
        for line in 0..10_000 {
            writeln!(log, "line {line}").unwrap();
        }
        let words = last_words(log.path());
        assert_eq!(words.lines().count(), 2 + LAST_WORDS_LINES);
        assert!(words.ends_with("\n  line 9998\n  line 9999"), "{words}");
        assert_eq!(last_words(Path::new("/nowhere/at/all")), "");
    }
}
