//! Cores, clocks and child processes.

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The core of the side that measures.
pub const NEAR: usize = 1;
/// The core of the other side.
pub const FAR: usize = 0;

/// Keeps this thread on a core, where there is that core.
pub fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(None, &cores) {
        eprintln!("cannot stay on core {core}: {error}");
    }
}

/// Keeps this process and its children on the same two cores, where there are more.
pub fn stay_on_two() {
    let mut cores = CpuSet::new();
    cores.set(NEAR);
    cores.set(FAR);
    if let Err(error) = sched_setaffinity(None, &cores) {
        eprintln!("cannot stay on cores {FAR} and {NEAR}: {error}");
    }
}

/// Share of all cores that is in use while this process does nothing: by whoever else is here.
/// Unknown where the kernel does not say.
pub fn in_use_by_others() -> Option<f64> {
    let (idle, total) = core_times()?;
    std::thread::sleep(Duration::from_millis(300));
    let (idle_then, total_then) = core_times()?;
    let total = total_then.checked_sub(total).filter(|total| *total > 0)?;
    Some(1.0 - idle_then.saturating_sub(idle) as f64 / total as f64)
}

/// Time that the cores were idle, and in all.
fn core_times() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let times = text.lines().next()?.split_whitespace().skip(1).map(str::parse);
    let times = times.collect::<Result<Vec<u64>, _>>().ok()?;
    // Idle, and idle while something is read from a disk.
    Some((times.get(3)? + times.get(4)?, times.iter().sum()))
}

/// Nanoseconds per operation of something that does `operations`.
pub fn time<R>(operations: usize, work: impl FnOnce() -> R) -> f64 {
    let begun = Instant::now();
    std::hint::black_box(work());
    begun.elapsed().as_nanos() as f64 / operations as f64
}

/// A child that plays the other side, and ends with this process or when dropped.
pub struct Other(Child);

impl Other {
    /// Starts `serve WHAT NAME` of this same program.
    pub fn start(what: &str, name: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args(["serve", what, name]).stdin(Stdio::null());
        Self(command.spawn().expect("a child"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a child does first.
pub fn be_the_other() {
    pin(FAR);
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("this child may outlive its parent: {error}");
    }
}

/// A name that no other run has.
pub fn unique(what: &str) -> String {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("zepto-peers-{what}-{}-{number}", std::process::id())
}
