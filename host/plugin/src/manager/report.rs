//! What is told about a plugin: in `status`, in metrics, to operators.

use crate::instance::FaultKind;
use crate::loader::Loaded;
use crate::runner::Tally;
use crate::verdict::kind_names;
use core::fmt;
use std::collections::BTreeMap;
use zepto_core::time::Nanos;

/// How a plugin is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not opened yet.
    #[default]
    Starting,
    /// It gets events.
    Running,
    /// A new version gets events; the one before is kept open.
    Probation,
    /// It failed, and is started again after a pause.
    Restarting,
    /// It failed too often. Its last good answer stands.
    Failed,
    /// It was stopped.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Probation => "probation",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}

/// All that is told about a plugin.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it is called here.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Where it was read from.
    pub file: String,
    /// Hash of the file.
    pub sha256: String,
    /// `wasm` or `native`.
    pub target: &'static str,
    /// Its own name and version.
    pub version: String,
    /// What it is for.
    pub kinds: Vec<&'static str>,
    /// Events delivered.
    pub events: u64,
    /// Events that it answered with an error.
    pub errors: u64,
    /// Time in its handlers, all together, ns.
    pub event_ns: u64,
    /// Longest time in a handler, ns.
    pub event_ns_max: u64,
    /// Ends of instances, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Starts after a fault.
    pub restarts: u64,
    /// New versions taken into service.
    pub reloads: u64,
    /// New versions that failed on probation.
    pub rollbacks: u64,
    /// Datagrams dropped.
    pub dropped: u64,
    /// Answers that were held.
    pub held: u64,
    /// Questions that were not answered in time.
    pub unanswered: u64,
    /// What its host's side counts.
    pub tally: Tally,
    /// Counts of instances before.
    pub refusals_before: BTreeMap<&'static str, u64>,
    /// Why it is not running, or what it said last.
    pub last_error: String,
    /// Of a discovery plugin.
    pub discovery: Option<DiscoveryReport>,
}

/// What is told about a discovery plugin's answers.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryReport {
    /// Nodes known, this one apart.
    pub nodes: usize,
    /// When the last good answer came.
    pub answered: Option<Nanos>,
    /// An answer that is held: nodes that it removes, of how many, and whether it waits for an
    /// operator.
    pub held: Option<(usize, usize, bool)>,
}

impl Report {
    /// Which file is loaded.
    pub(super) fn set_loaded(&mut self, loaded: &Loaded) {
        self.file = loaded.path.display().to_string();
        self.sha256 = loaded.sha256.to_string();
        self.target = loaded.target().text();
        self.version = format!("{} {}", loaded.info.name, loaded.info.version);
        self.kinds = kind_names(loaded.info.kinds);
    }

    /// Calls refused by reason, over all instances.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.refusals_before.clone();
        for (reason, count) in &self.tally.refusals {
            *all.entry(reason).or_default() += count;
        }
        all
    }

    /// An instance is over; its counts are kept.
    pub(super) fn end_tally(&mut self) {
        self.refusals_before = self.refusals();
        self.tally = Tally::default();
    }
}
