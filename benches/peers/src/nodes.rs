//! A zepto cluster on this machine: real `zepto-host` processes, started, killed and started again.

use crate::failure::{Failure, Result, While as _, fail, go_on};
use crate::server::{Output, Server, directory, wait_until};
use serde::Deserialize;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zepto_client::{Client, ClientOptions};
use zepto_core::NodeId;
use zepto_core::topology::{MemberState, Placement};

/// Time for a node to serve.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Time for all nodes to be active, with their shares and copies.
const FORM_WITHIN: Duration = Duration::from_secs(60);
/// Time for a member to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A long line is no announcement.
const ANNOUNCEMENT_BYTES_MAX: u64 = 64 << 10;

/// What the nodes of a cluster have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `zepto-host`.
    pub program: PathBuf,
    /// Declared copies of every partition, the owner included.
    pub copies: u8,
    /// Of the failure detector: `fast` or `default`.
    pub profile: &'static str,
    /// Bytes for ticks, of each node.
    pub memory: u64,
}

/// One node.
pub struct Node {
    /// Its text id.
    pub name: String,
    /// Where it is reached; the same after a restart.
    pub address: String,
    server: Server,
}

/// The nodes, a client that follows them, and where they live.
pub struct Nodes {
    /// Dropped before the directory they live in.
    nodes: Vec<Node>,
    client: Option<(Client, Runtime)>,
    setup: Setup,
    dir: TempDir,
}

/// What a node prints when it serves.
#[derive(Deserialize)]
struct Announcement {
    address: String,
}

impl Nodes {
    /// Starts so many nodes and waits until each has its share and every partition its copies.
    pub fn start(setup: Setup, count: usize) -> Result<Self> {
        let dir = directory()?;
        // In the file and not a flag, because every version knows it there.
        let config = format!("[cluster]\ncopies = {}\n", setup.copies);
        fs::write(dir.path().join("node.toml"), config).doing("the configuration")?;
        let mut nodes = Self { nodes: Vec::new(), client: None, setup, dir };
        for number in 1..=count {
            let name = format!("node-{number}");
            let seeds: Vec<String> = nodes.addresses().into_iter().take(1).collect();
            let node = nodes.launch(&name, "127.0.0.1:0", &seeds)?;
            nodes.nodes.push(node);
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().doing("a runtime")?;
        let options = ClientOptions {
            seeds: nodes.addresses(),
            name: "peers".into(),
            shared_memory: true,
            secret: None,
        };
        let client = runtime.block_on(Client::connect(options, ANSWER_WITHIN));
        nodes.client = Some((client.doing("connecting to the nodes")?, runtime));
        nodes.wait_formed()?;
        Ok(nodes)
    }

    /// The client that follows them.
    pub fn client(&self) -> Result<&Client> {
        self.with_runtime().map(|(client, _)| client)
    }

    /// The client and the runtime of its tasks.
    pub fn with_runtime(&self) -> Result<(&Client, &Runtime)> {
        match &self.client {
            Some((client, runtime)) => Ok((client, runtime)),
            None => fail("there is no client"),
        }
    }

    /// The nodes, in the order of their names.
    pub fn all(&self) -> &[Node] {
        &self.nodes
    }

    /// Where they are reached.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// SIGKILL for one of them; it is gone when this returns.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        match self.nodes.get_mut(index) {
            Some(node) => node.server.kill(),
            None => fail(format!("there is no node {index}")),
        }
    }

    /// Starts a killed one again: same name, same address, same data directory.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let Some(old) = self.nodes.get(index) else {
            return fail(format!("there is no node {index}"));
        };
        let (name, address) = (old.name.clone(), old.address.clone());
        let seeds: Vec<String> =
            self.addresses().into_iter().filter(|seed| *seed != address).collect();
        self.nodes[index] = self.launch(&name, &address, &seeds)?;
        Ok(())
    }

    /// Fails when one of them has ended.
    pub fn check(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.server.check())
    }

    /// Sum of the ticks that owners appended, over all nodes and since each was started.
    pub fn appended(&self) -> Result<u64> {
        let (client, runtime) = self.with_runtime()?;
        let mut appended = 0;
        for address in self.addresses() {
            let status = runtime.block_on(client.status_at(&address, ANSWER_WITHIN));
            let status = status.doing("asking for the status")?;
            appended += status.shards.iter().map(|shard| shard.appended).sum::<u64>();
        }
        Ok(appended)
    }

    fn wait_formed(&mut self) -> Result<()> {
        let (count, copies) = (self.nodes.len(), self.setup.copies);
        let client = self.client()?.clone();
        let waited = wait_until("the cluster forming", FORM_WITHIN, || {
            self.check()?;
            let view = client.view();
            Ok(is_whole(view.placement(), count, copies) && is_fair(view.placement()))
        });
        waited.map_err(|Failure(why)| {
            Failure(format!("{why} ({})", describe(client.view().placement())))
        })
    }

    fn launch(&self, name: &str, listen: &str, seeds: &[String]) -> Result<Node> {
        let dir = self.dir.path();
        let mut arguments: Vec<String> = ["run", "--node-id", name, "--listen", listen]
            .map(String::from)
            .into_iter()
            .chain(["--announce", "--log", "info", "--config", "node.toml"].map(String::from))
            .collect();
        arguments.extend(["--profile".into(), self.setup.profile.into()]);
        arguments.extend(["--memory".into(), self.setup.memory.to_string()]);
        arguments.extend(["--data-dir".into(), dir.join(name).display().to_string()]);
        for seed in seeds {
            arguments.extend(["--seed".into(), seed.clone()]);
        }
        let mut server = Server::start(name, &self.setup.program, arguments, dir, Output::Pipe)?;
        let Some(output) = server.output() else { return fail("a node without output") };
        let address = announced(output, &mut server)?;
        Ok(Node { name: name.into(), address, server })
    }
}

/// The address in a node's first line.
fn announced(output: ChildStdout, server: &mut Server) -> Result<String> {
    use std::io::Read as _;
    let (tell, told) = sync_channel(1);
    let thread = std::thread::Builder::new().name("announcement".into());
    let read = move || {
        let mut line = String::new();
        let read = BufReader::new(output.take(ANNOUNCEMENT_BYTES_MAX)).read_line(&mut line);
        // Nobody waits any more if the node was given up.
        drop(tell.try_send(read.map(|_| line)));
    };
    thread.spawn(read).doing("a thread for an announcement")?;
    let until = Instant::now() + START_WITHIN;
    loop {
        go_on()?;
        match told.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                let line = line.doing("a node's output")?;
                if line.is_empty() {
                    // The end of its output is the end of the node, or near it.
                    std::thread::sleep(Duration::from_millis(100));
                    server.check()?;
                }
                let announcement: Announcement =
                    serde_json::from_str(&line).doing("a node's announcement")?;
                return Ok(announcement.address);
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < until => server.check()?,
            Err(_) => return fail("a node does not serve in time"),
        }
    }
}

/// Whether so many members take part and every partition has its copies at them.
pub fn is_whole(placement: &Placement, nodes: usize, copies: u8) -> bool {
    let active: Vec<NodeId> = active(placement);
    active.len() == nodes
        && placement.assignments.iter().all(|assignment| {
            let owned = assignment.owner().is_some_and(|owner| active.contains(&owner));
            let replicas = assignment.replicas().filter(|node| active.contains(node)).count();
            owned && 1 + replicas >= usize::from(copies)
        })
}

/// Whether no active member owns much less than its share.
pub fn is_fair(placement: &Placement) -> bool {
    let active = active(placement);
    let share = placement.assignments.len() / active.len().max(1);
    active.iter().all(|node| placement.owned_by(*node).count() * 5 >= share * 4)
}

fn active(placement: &Placement) -> Vec<NodeId> {
    let active = placement.members.iter().filter(|member| member.state == MemberState::Active);
    active.map(|member| member.id).collect()
}

/// Who owns how much, for messages.
pub fn describe(placement: &Placement) -> String {
    let members = placement.members.iter().map(|member| {
        let owned = placement.owned_by(member.id).count();
        format!("{} {:?} owns {owned}", member.name, member.state)
    });
    let single = placement.assignments.iter().filter(|a| a.replicas().next().is_none()).count();
    format!("{}; {single} partitions with one copy", members.collect::<Vec<_>>().join(", "))
}

/// The node program: the given one, or one beside this program or in the workspace's target
/// directory, built there if there is none.
pub fn program(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return fs::canonicalize(given).doing(&given.display().to_string());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let built = target.unwrap_or_else(|| workspace.join("target")).join("release/zepto-host");
    let beside = std::env::current_exe().ok().map(|this| this.with_file_name("zepto-host"));
    let found = beside.into_iter().chain([built.clone()]).find(|program| program.is_file());
    if let Some(found) = found {
        return fs::canonicalize(&found).doing(&found.display().to_string());
    }
    eprintln!("building zepto-host");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "-p", "zepto-host"]).current_dir(&workspace);
    let status = cargo.status().doing("cargo")?;
    if !status.success() {
        return fail("zepto-host cannot be built; give its path");
    }
    fs::canonicalize(&built).doing(&built.display().to_string())
}
