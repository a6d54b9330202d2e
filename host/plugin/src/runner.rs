//! One instance and the events it gets, without threads and without I/O: what tests, replays and
//! benches call, and what a plugin's thread calls.

use crate::config::Limits;
use crate::context::{Context, Effect, Setting};
use crate::error::LoadError;
use crate::instance::{Fault, FaultKind, Instance};
use crate::kv::Kv;
use crate::loader::Loaded;
use core::time::Duration;
use std::collections::BTreeMap;
use zepto_abi::plugin::{
    ABI_MINOR, EV_CONFIG, EV_DISC_RESYNC, EV_EXPORT_STATE, EV_HEALTH, EV_HTTP, EV_IMPORT_STATE,
    EV_START, EV_STOP, EV_TIMER, EV_UDP, EV_WAKE, PluginStatus,
};
use zepto_message::{Datagram, Event, Open, Response};

use crate::http::Part;

/// What an instance is told about the node.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// Which life of the node this is.
    pub incarnation: u64,
    /// `host:port` at which others reach the node.
    pub address: String,
    /// JSON, or empty.
    pub config: String,
    /// The configured seeds.
    pub seeds: Vec<String>,
}

/// One event on its way to an instance.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    kind: u32,
    token: u64,
    status: i32,
    body: Vec<u8>,
    is_question: bool,
    /// Whether its timer, request or socket is over with it.
    is_last: bool,
}

impl Delivery {
    fn plain(kind: u32) -> Self {
        Self { kind, ..Self::default() }
    }

    /// A question: the instance is to reply.
    pub fn question(kind: u32, body: Vec<u8>) -> Self {
        Self { kind, body, is_question: true, ..Self::default() }
    }

    /// Something that happened.
    pub fn notice(kind: u32, token: u64, status: i32, body: Vec<u8>) -> Self {
        Self { kind, token, status, body, ..Self::default() }
    }

    /// Begin.
    pub fn start() -> Self {
        Self::plain(EV_START)
    }

    /// End.
    pub fn stop() -> Self {
        Self::question(EV_STOP, Vec::new())
    }

    /// Another configuration.
    pub fn config(json: &str) -> Self {
        Self::question(EV_CONFIG, json.as_bytes().to_vec())
    }

    /// Hand over the state.
    pub fn export_state() -> Self {
        Self::question(EV_EXPORT_STATE, Vec::new())
    }

    /// Take over a state of a version.
    pub fn import_state(version: u32, bytes: Vec<u8>) -> Self {
        let status = version.cast_signed();
        Self { status, ..Self::question(EV_IMPORT_STATE, bytes) }
    }

    /// Is all well?
    pub fn health() -> Self {
        Self::question(EV_HEALTH, Vec::new())
    }

    /// A full answer is wanted.
    pub fn resync() -> Self {
        Self::plain(EV_DISC_RESYNC)
    }

    /// Somebody called `zp_wake`.
    pub fn wake() -> Self {
        Self::plain(EV_WAKE)
    }

    /// A timer ran out.
    pub fn timer(id: u64, repeats: bool) -> Self {
        Self { token: id, is_last: !repeats, ..Self::plain(EV_TIMER) }
    }

    /// An answer, or a part of one.
    pub fn http(token: u64, part: &Part) -> Self {
        let headers = part.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let response = Response {
            code: part.code.into(),
            flags: part.flags,
            headers: headers.collect(),
            body: &part.body,
        };
        let is_last = response.is_last();
        let (status, body) = (part.status.code(), response.write());
        Self { token, status, body, is_last, ..Self::plain(EV_HTTP) }
    }

    /// A datagram came.
    pub fn datagram(token: u64, from: &str, data: &[u8]) -> Self {
        Self { token, body: Datagram { from, data }.write(), ..Self::plain(EV_UDP) }
    }

    /// A socket is gone.
    pub fn socket_failed(token: u64) -> Self {
        let status = PluginStatus::Io.code();
        Self { token, status, is_last: true, ..Self::plain(EV_UDP) }
    }

    /// Time that the instance has for it.
    pub fn within(&self, limits: &Limits) -> Duration {
        match self.kind {
            EV_IMPORT_STATE | EV_EXPORT_STATE | EV_CONFIG | EV_STOP => limits.open(),
            _ => limits.event,
        }
    }
}

/// What came of a delivery.
#[derive(Debug)]
pub struct Done {
    /// The plugin's status; nothing when what it was about is given up already.
    pub status: Option<i32>,
    /// The token of the question, if it was one.
    pub question: Option<u64>,
    /// What the handler asked for, in order.
    pub effects: Vec<Effect>,
    /// The kept values as a file, if they changed.
    pub kept: Option<Vec<u8>>,
    /// The plugin's own words, or the host's, about what went wrong last in this event.
    pub error: String,
    /// Time that the handler took, ns.
    pub took_ns: u64,
}

/// What the host's side of an instance counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that were refused, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// The plugin's own metrics.
    pub metrics: BTreeMap<String, i64>,
    /// Its last error.
    pub error: String,
    /// Bytes of its memory; of native code nobody knows.
    pub memory_bytes: Option<usize>,
}

/// An instance that gets events.
pub struct Runner {
    instance: Instance,
    seq: u64,
    buffer: Vec<u8>,
}

impl Runner {
    /// An instance that is not open yet.
    ///
    /// # Errors
    /// As for [`Loaded::instantiate`].
    pub fn new(
        loaded: &Loaded,
        setting: Setting,
        generation: u32,
        kv: Kv,
    ) -> Result<Self, LoadError> {
        let instance = loaded.instantiate(Context::new(setting, generation, kv))?;
        Ok(Self { instance, seq: 0, buffer: Vec::new() })
    }

    /// Opens it.
    ///
    /// # Errors
    /// Why it did not open: its own error, or its end.
    pub fn open(&mut self, opening: &Opening) -> Result<Done, LoadError> {
        let setting = self.instance.context().setting().clone();
        let limits = setting.limits;
        let message = Open {
            host_minor: ABI_MINOR,
            granted_caps: setting.grants.caps(),
            mem_limit_bytes: limits.memory.0,
            event_budget_ns: limits.event.as_nanos() as u64,
            max_msg_bytes: limits.message.0.try_into().unwrap_or(u32::MAX),
            max_nodes: limits.nodes,
            incarnation: opening.incarnation,
            instance: &setting.name,
            node_id: &setting.node_id,
            address: &opening.address,
            config: &opening.config,
            seeds: opening.seeds.iter().map(String::as_str).collect(),
        };
        let begun = setting.env.now();
        let opened = self.instance.open(&message.write(), limits.open());
        let handle = opened.map_err(|fault| LoadError::Open(fault.to_string()))?;
        if handle < 0 {
            let status = i32::try_from(handle).ok().and_then(PluginStatus::from_code);
            let status = status.map_or_else(|| handle.to_string(), |s| s.text().to_owned());
            let own = self.instance.context().last_error();
            let text = if own.is_empty() { status } else { format!("{own} ({status})") };
            return Err(LoadError::Open(text));
        }
        Ok(self.done(Some(0), None, begun.0))
    }

    /// Delivers an event.
    ///
    /// # Errors
    /// The instance's end.
    pub fn deliver(&mut self, delivery: &Delivery) -> Result<Done, Fault> {
        let context = self.instance.context();
        let setting = context.setting();
        let (limits, env) = (setting.limits, setting.env.clone());
        let belongs = matches!(delivery.kind, EV_TIMER | EV_HTTP | EV_UDP);
        if belongs && !context.knows(delivery.token) {
            return Ok(self.done(None, None, env.now().0));
        }
        if delivery.is_last {
            // Before the handler runs, which may set the same timer again.
            context.forget(delivery.token);
        }
        context.begin_event();
        let question = if delivery.is_question { context.ask() } else { None };
        if delivery.is_question && question.is_none() {
            return Ok(self.done(None, None, env.now().0));
        }
        match delivery.kind {
            EV_START => context.set_serving(true),
            EV_STOP => context.set_serving(false),
            _ => {}
        }
        let within = delivery.within(&limits);
        let now = env.now().0;
        self.seq += 1;
        let event = Event {
            kind: delivery.kind,
            seq: self.seq,
            token: question.unwrap_or(delivery.token),
            mono_ns: now,
            wall_ns: env.wall_ns(),
            deadline_ns: now + within.as_nanos() as u64,
            status: delivery.status,
            needs_reply: question.is_some(),
            body: &delivery.body,
        };
        self.buffer = event.write_over(core::mem::take(&mut self.buffer));
        let status = self.instance.event(&self.buffer, within)?;
        if status == PluginStatus::Panic.code() {
            return Err(self.panicked(within));
        }
        Ok(self.done(Some(status), question, now))
    }

    /// A plugin that caught its own panic has nothing left to call: as a trap, it is the end of it.
    fn panicked(&mut self, within: Duration) -> Fault {
        let text = self.instance.context().last_error().to_owned();
        if let Err(fault) = self.instance.close(within) {
            tracing::debug!(%fault, "a plugin did not close");
        }
        Fault::new(FaultKind::Trap, if text.is_empty() { "it panicked".into() } else { text })
    }

    fn done(&mut self, status: Option<i32>, question: Option<u64>, begun_ns: u64) -> Done {
        let context = self.instance.context();
        let took_ns = context.setting().env.now().0.saturating_sub(begun_ns);
        let (effects, kept) = (context.take_effects(), context.kv().take_changes());
        let error = context.last_error().to_owned();
        Done { status, question, effects, kept, error, took_ns }
    }

    /// What it had in the outside world is over.
    pub fn forget_all(&mut self) {
        self.instance.context().forget_all();
    }

    /// Nobody waits for a reply any more.
    pub fn forget_question(&mut self, token: u64) {
        self.instance.context().forget_question(token);
    }

    /// What its host's side counts.
    pub fn tally(&mut self) -> Tally {
        let memory_bytes = self.instance.memory_bytes();
        let context = self.instance.context();
        Tally {
            refusals: context.refusals().clone(),
            metrics: context.metrics().clone(),
            error: context.last_error().to_owned(),
            memory_bytes,
        }
    }

    /// The instance's last words, when it did not open or came to its end.
    pub fn last_error(&mut self) -> &str {
        self.instance.context().last_error()
    }

    /// Closes it, unless it came to its end.
    pub fn close(mut self, within: Duration) {
        if let Err(fault) = self.instance.close(within) {
            tracing::debug!(%fault, "a plugin did not close");
        }
    }
}
