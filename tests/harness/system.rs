//! What the kernel knows: processes, what they leave behind, what this machine allows.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A process as the kernel shows it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its id.
    pub pid: u32,
    /// Its arguments, the program first.
    pub arguments: Vec<String>,
}

impl Seen {
    /// The value that follows an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let place = self.arguments.iter().position(|argument| argument == name)?;
        self.arguments.get(place + 1).map(String::as_str)
    }
}

/// The living children of a process.
pub fn children(parent: u32) -> Vec<Seen> {
    let entries = fs::read_dir("/proc").expect("a kernel with /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).filter_map(seen).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything; state and parent follow it.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    let parent = rest.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

fn seen(pid: u32) -> Option<Seen> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = line.split(|byte| *byte == 0).filter(|argument| !argument.is_empty());
    let arguments = arguments.map(|argument| String::from_utf8_lossy(argument).into_owned());
    Some(Seen { pid, arguments: arguments.collect() })
}

/// Whether a process runs.
pub fn is_running(pid: u32) -> bool {
    parent_of(pid).is_some()
}

/// Names below a directory.
pub fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Shared segments with our name: there must never be any, since they have no names at all.
pub fn segments_left() -> Vec<String> {
    let mut names = entries(Path::new("/dev/shm"));
    names.retain(|name| name.contains("zepto"));
    names
}

/// Whether this is root, who may make namespaces.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a command is there and works.
pub fn works(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// Whether the nodes of these tests have UCX between them, as `tests/ucx.sh` lets them.
pub fn is_over_ucx() -> bool {
    std::env::var_os("ZEPTO_TRANSPORT").is_some_and(|transport| transport == "ucx")
}
