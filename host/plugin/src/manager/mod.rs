//! One plugin from its start to its end: events one after the other, questions with a deadline,
//! restarts with a pause, new versions on probation, and what discovery says vetted and published.

mod ask;
mod discovery;
mod failure;
mod live;
mod quarantine;
mod reload;
mod report;
mod restarts;
mod timers;
mod worker;

pub use ask::NoReply;
pub use report::{DiscoveryReport, Report, State};
pub use worker::Spawn;

use crate::config::PluginConfig;
use crate::context::Setting;
use crate::error::LoadError;
use crate::file::PluginFile;
use crate::kv::Kv;
use crate::loader::{Loaded, Loader};
use crate::runner::{Delivery, Opening};
use crate::vet::{Discovered, Roster};
use ask::{Reply, ask_through, refused};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use live::{Live, Outcome, kv_path};
use quarantine::Quarantine;
use restarts::Restarts;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use zepto_abi::plugin::{KIND_DISCOVERY, PluginStatus};
use zepto_core::env::Env;
use zepto_core::limits::PLUGIN_STOP_MS;
use zepto_core::time::Nanos;

/// Time between two looks at what an instance counts.
const TALLY_EVERY_NS: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// Refusals that tell of limits and grants, not of broken rules.
const IS_NO_BREACH: [&str; 11] = [
    "log_lines",
    "http_busy",
    "udp_busy",
    "timer",
    "metric",
    "kv",
    "too_much",
    "not_granted",
    "not_serving",
    "http_url",
    "udp_address",
];

/// What a plugin's manager is told.
pub enum Command {
    /// Take a new version into service.
    Reload(Box<PluginFile>, oneshot::Sender<Result<String, String>>),
    /// Take what is held: an operator says that it is right.
    Confirm(oneshot::Sender<Option<String>>),
    /// Take another configuration, JSON.
    Configure(String, oneshot::Sender<Result<(), String>>),
    /// Ask a question.
    Ask(Delivery, Reply),
    /// Tell something.
    Tell(Delivery),
    /// End.
    Stop(oneshot::Sender<()>),
}

/// What a manager works with.
pub struct Parts {
    /// The plugin's configuration.
    pub config: PluginConfig,
    /// What its instances are made with; the waker is the manager's.
    pub setting: Setting,
    /// What they are told about the node.
    pub opening: Opening,
    /// Loads new versions.
    pub loader: Arc<Loader>,
    /// Starts threads.
    pub spawn: Spawn,
    /// Where its kept values are.
    pub directory: PathBuf,
    /// Told when a plugin that the node must not be without has failed.
    pub fail: watch::Sender<Option<String>>,
}

/// The manager of one plugin.
pub struct Manager {
    parts: Parts,
    env: Arc<dyn Env>,
    live: Option<Live>,
    /// The version before, until when it is kept.
    before: Option<(Live, Nanos)>,
    loaded: Loaded,
    kv: Kv,
    roster: Option<Roster>,
    questions: BTreeMap<u64, (Nanos, Reply)>,
    restarts: Restarts,
    restart_at: Option<Nanos>,
    resync_at: Option<Nanos>,
    tally_at: Nanos,
    quarantine: Quarantine,
    commands: mpsc::Receiver<Command>,
    report: watch::Sender<Report>,
    nodes: watch::Sender<Arc<Vec<Discovered>>>,
}

/// Who wants to know about a plugin, and to tell it something.
#[derive(Clone)]
pub struct Handle {
    /// To its manager.
    pub commands: mpsc::Sender<Command>,
    /// From it.
    pub report: watch::Receiver<Report>,
    /// The nodes that it knows of; empty unless it is for discovery.
    pub nodes: watch::Receiver<Arc<Vec<Discovered>>>,
    /// `1 << KIND_*`.
    pub kinds: u32,
}

/// Commands that wait for one manager.
const COMMANDS_MAX: usize = 64;

impl Manager {
    /// Loads and opens a plugin. It begins when [`Self::run`] does.
    ///
    /// # Errors
    /// Why it does not open; nothing is left behind.
    pub async fn open(parts: Parts, file: PluginFile) -> Result<(Self, Handle), LoadError> {
        let (loader, setting) = (Arc::clone(&parts.loader), parts.setting.clone());
        let loading = tokio::task::spawn_blocking(move || loader.load(&file, &setting));
        let loaded = loading.await.map_err(|error| LoadError::System(error.to_string()))??;
        let env = Arc::clone(&parts.setting.env);
        let is_discovery = loaded.info.kinds & (1 << KIND_DISCOVERY) != 0;
        let roster = is_discovery.then(|| Roster::new(&parts.setting.node_id));
        let mut first = Report { name: parts.setting.name.clone(), ..Report::default() };
        first.set_loaded(&loaded);
        let ((commands, waiting), (report, told)) =
            (mpsc::channel(COMMANDS_MAX), watch::channel(first));
        let (nodes, known) = watch::channel(Arc::default());
        let mut manager = Self {
            restarts: Restarts::new(parts.config.on_failure),
            env,
            live: None,
            before: None,
            kv: kept(&parts).await?,
            roster,
            questions: BTreeMap::new(),
            restart_at: None,
            resync_at: None,
            tally_at: Nanos(0),
            quarantine: Quarantine::default(),
            commands: waiting,
            report,
            nodes,
            loaded,
            parts,
        };
        let (live, outcome) = manager.open_instance(&manager.loaded.clone()).await?;
        manager.live = Some(live);
        manager.take(outcome).await;
        let kinds = manager.loaded.info.kinds;
        Ok((manager, Handle { commands, report: told, nodes: known, kinds }))
    }

    /// Opens an instance of a version.
    async fn open_instance(&mut self, loaded: &Loaded) -> Result<(Live, Outcome), LoadError> {
        // A handle names one instance of the process, whichever plugin's it is.
        static INSTANCES: AtomicU32 = AtomicU32::new(1);
        let generation = INSTANCES.fetch_add(1, Ordering::Relaxed);
        let setting = self.parts.setting.clone();
        let kept = (self.parts.directory.as_path(), self.kv.clone());
        let threads = (&self.parts.spawn, &self.parts.opening);
        Live::open(loaded, setting, generation, kept, threads).await
    }

    /// Works until it is stopped.
    pub async fn run(mut self) {
        self.begin().await;
        loop {
            let due = self.due();
            let pause = Duration::from_nanos(due.0.saturating_sub(self.env.now().0));
            let env = Arc::clone(&self.env);
            let next = async {
                match &mut self.live {
                    Some(live) => live.next(&env).await,
                    None => core::future::pending().await,
                }
            };
            tokio::select! {
                // What is due comes first: a plugin that is always busy must not put it off.
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Stop(reply)) => {
                        self.end().await;
                        let _gone = reply.send(());
                        return;
                    }
                    None => return self.end().await,
                    Some(command) => self.obey(command).await,
                },
                () = tokio::time::sleep(pause) => self.tick().await,
                delivery = next => self.deliver(delivery).await,
            }
        }
    }

    /// The instance begins, or begins again.
    async fn begin(&mut self) {
        let state = if self.before.is_some() { State::Probation } else { State::Running };
        self.report.send_modify(|report| report.state = state);
        self.deliver(Delivery::start()).await;
    }

    async fn obey(&mut self, command: Command) {
        // Whoever asked may have given up; then there is nobody to tell.
        match command {
            Command::Reload(file, reply) => drop(reply.send(self.reload(*file).await)),
            Command::Confirm(reply) => drop(reply.send(self.confirm())),
            Command::Configure(json, reply) => drop(reply.send(self.configure(json).await)),
            Command::Ask(delivery, reply) => self.ask(delivery, reply).await,
            Command::Tell(delivery) => self.deliver(delivery).await,
            Command::Stop(_) => {}
        }
    }

    /// Delivers an event, and does what comes of it.
    async fn deliver(&mut self, delivery: Delivery) {
        let Some(live) = self.live.as_mut() else { return };
        match live.deliver(delivery).await {
            Ok(outcome) => self.take(outcome).await,
            Err(fault) => self.fault(&fault).await,
        }
    }

    async fn take(&mut self, outcome: Outcome) {
        if let Some(status) = outcome.status {
            let is_error = status < 0 && status != PluginStatus::Unsupported.code();
            self.report.send_modify(|report| {
                report.events += 1;
                report.event_ns += outcome.took_ns;
                report.event_ns_max = report.event_ns_max.max(outcome.took_ns);
                if is_error {
                    report.errors += 1;
                    report.last_error = refused(status, &outcome.error).to_string();
                }
            });
        }
        for (token, status, bytes) in outcome.replies {
            let Some((_, reply)) = self.questions.remove(&token) else { continue };
            let answer = if status >= 0 { Ok(bytes) } else { Err(refused(status, &outcome.error)) };
            // Whoever asked may have given up.
            drop(reply.send(answer));
        }
        let from = self.generation();
        for answer in outcome.answers {
            // The first may have been the end of the instance that gave them.
            if self.generation() != from {
                return;
            }
            self.offer(&answer).await;
        }
    }

    /// Which instance is in service.
    fn generation(&self) -> Option<u32> {
        self.live.as_ref().map(|live| live.generation)
    }

    /// When there is something to do next, whatever comes in.
    fn due(&self) -> Nanos {
        let questions = self.questions.values().map(|(due, _)| *due);
        let probation = self.before.as_ref().map(|(_, until)| *until);
        let times = [self.restart_at, self.resync_at, probation, Some(self.tally_at)];
        questions.chain(times.into_iter().flatten()).min().unwrap_or(self.tally_at)
    }

    /// Does what is due.
    async fn tick(&mut self) {
        let now = self.env.now();
        self.give_up_late(now).await;
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart().await;
        }
        if self.resync_at.is_some_and(|at| at <= now) {
            self.resync_at = None;
            self.deliver(Delivery::resync()).await;
        }
        if self.before.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.end_probation().await;
        }
        if self.tally_at <= now {
            self.tally_at = Nanos(now.0 + TALLY_EVERY_NS);
            self.look().await;
        }
    }

    /// Looks at what the instance counts. A new version that breaks the rules is given up.
    async fn look(&mut self) {
        let Some(live) = &self.live else { return };
        let Some(tally) = live.tally().await else { return };
        let dropped = live.dropped();
        let broken = tally.refusals.keys().find(|reason| !IS_NO_BREACH.contains(reason)).copied();
        self.report.send_if_modified(|report| {
            report.dropped = dropped;
            report.tally = tally;
            false
        });
        if let Some(reason) = broken.filter(|_| self.before.is_some()) {
            self.roll_back(&format!("its calls or answers are refused: {reason}")).await;
        }
    }

    async fn end(&mut self) {
        if let Some((live, _)) = self.before.take() {
            live.close().await;
        }
        if let Some(live) = self.live.take() {
            self.stop_instance(live).await;
        }
        self.report.send_modify(|report| report.state = State::Stopped);
    }

    /// Has an instance end what it began, and closes it.
    async fn stop_instance(&mut self, mut live: Live) {
        self.quiet(&mut live).await;
        live.close().await;
    }

    /// Has an instance end what it began; waits for its reply, but not for long.
    async fn quiet(&mut self, live: &mut Live) {
        let until = Nanos(self.env.now().0 + PLUGIN_STOP_MS * MS);
        // Nobody waits for anything else any more.
        let mut missed = Vec::new();
        let stopped = ask_through(live, &self.env, Delivery::stop(), until, &mut missed).await;
        if let Err(why) = stopped {
            tracing::debug!(plugin = self.parts.setting.name, %why, "no reply to STOP");
        }
        live.silence().await;
    }
}

/// What a plugin kept before.
async fn kept(parts: &Parts) -> Result<Kv, LoadError> {
    let Some(limit) = parts.setting.grants.kv_bytes else { return Ok(Kv::default()) };
    let path = kv_path(&parts.directory, &parts.setting.name);
    let read = tokio::task::spawn_blocking(move || {
        Kv::read(&path, limit)
            .map_err(|error| LoadError::System(format!("{}: {error}", path.display())))
    });
    read.await.map_err(|error| LoadError::System(error.to_string()))?
}
