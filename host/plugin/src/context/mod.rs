//! The host's side of one instance: what its calls may do, and what they asked for.
//!
//! Pure but for log lines: a call changes this state and leaves effects, which the manager carries
//! out after the handler has returned. So no call blocks, and none calls the plugin back.

mod asking;
mod budget;
mod effect;
mod saying;

pub use effect::Effect;

use crate::config::Limits;
use crate::grant::{Grants, UdpGrant};
use crate::kv::Kv;
use budget::PerSecond;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zepto_abi::plugin::{PluginStatus, TOKEN_BIT};
use zepto_core::env::Env;
use zepto_core::limits::{
    PLUGIN_EFFECTS_MAX, PLUGIN_LOG_LINES_PER_S, PLUGIN_QUESTIONS_MAX, PLUGIN_UDP_PER_S_MAX,
};
use zepto_message::is_hidden;

/// What an instance is made with.
#[derive(Clone)]
pub struct Setting {
    /// The name of the plugin here.
    pub name: String,
    /// The node's text id.
    pub node_id: String,
    /// What it may do.
    pub grants: Arc<Grants>,
    /// How much it may use.
    pub limits: Limits,
    /// Clocks and chance.
    pub env: Arc<dyn Env>,
    /// Called by `zp_wake`, from any thread.
    pub waker: Arc<dyn Fn() + Send + Sync>,
}

/// In which call the instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In none: nothing may be called.
    Idle,
    /// In `open` or `event`.
    Working,
    /// In `close`: it may log.
    Closing,
}

/// The host's side of one instance.
pub struct Context {
    setting: Setting,
    handle: u64,
    next_token: u64,
    phase: Phase,
    is_serving: bool,
    /// Bit of each kind the plugin is of.
    kinds: u32,
    effects: Vec<Effect>,
    effect_bytes: usize,
    log_lines: PerSecond,
    error: String,
    timers: BTreeSet<u64>,
    questions: BTreeSet<u64>,
    requests: BTreeSet<u64>,
    sockets: BTreeMap<u64, UdpGrant>,
    datagrams: PerSecond,
    kv: Kv,
    metrics: BTreeMap<String, i64>,
    revision: u64,
    refusals: BTreeMap<&'static str, u64>,
}

impl Context {
    /// The side of a new instance. Its handle and tokens are its generation's, which no other
    /// instance of this process may have.
    pub fn new(setting: Setting, generation: u32, kv: Kv) -> Self {
        Self {
            handle: u64::from(generation) + 1,
            next_token: TOKEN_BIT | (u64::from(generation) << 32),
            setting,
            phase: Phase::Idle,
            is_serving: false,
            kinds: 0,
            effects: Vec::new(),
            effect_bytes: 0,
            log_lines: PerSecond::new(PLUGIN_LOG_LINES_PER_S),
            error: String::new(),
            timers: BTreeSet::new(),
            questions: BTreeSet::new(),
            requests: BTreeSet::new(),
            sockets: BTreeMap::new(),
            datagrams: PerSecond::new(PLUGIN_UDP_PER_S_MAX),
            kv,
            metrics: BTreeMap::new(),
            revision: 0,
            refusals: BTreeMap::new(),
        }
    }

    /// What the plugin calls `zp_ctx`.
    pub fn handle(&self) -> u64 {
        self.handle
    }

    /// What it was made with.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// What kinds of answers are taken.
    pub(crate) fn set_kinds(&mut self, kinds: u32) {
        self.kinds = kinds;
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// What was asked for since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.effect_bytes = 0;
        core::mem::take(&mut self.effects)
    }

    /// The error that the plugin told last.
    pub fn last_error(&self) -> &str {
        &self.error
    }

    /// How often calls were refused, by reason.
    pub fn refusals(&self) -> &BTreeMap<&'static str, u64> {
        &self.refusals
    }

    /// The plugin's own metrics.
    pub fn metrics(&self) -> &BTreeMap<String, i64> {
        &self.metrics
    }

    /// Its keys and values.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// A token for a question that waits for a reply; `None` when too many wait.
    pub fn ask(&mut self) -> Option<u64> {
        if self.questions.len() >= PLUGIN_QUESTIONS_MAX {
            return None;
        }
        let token = self.token();
        self.questions.insert(token);
        Some(token)
    }

    /// An event is about to be delivered: what was said about the one before is over.
    pub(crate) fn begin_event(&mut self) {
        self.error.clear();
    }

    /// It is in service from START to STOP: only then it may say who is in the cluster. Revisions
    /// begin anew, for START may come again.
    pub fn set_serving(&mut self, is_serving: bool) {
        self.is_serving = is_serving;
        self.revision = 0;
    }

    /// Whatever it had in the outside world is over.
    pub fn forget_all(&mut self) {
        self.timers.clear();
        self.requests.clear();
        self.sockets.clear();
    }

    /// Nobody waits for a reply any more.
    pub fn forget_question(&mut self, token: u64) {
        self.questions.remove(&token);
    }

    /// A timer, request or socket is over.
    pub fn forget(&mut self, token: u64) {
        self.timers.remove(&token);
        self.requests.remove(&token);
        self.sockets.remove(&token);
    }

    /// Whether timer, request or socket is still the instance's: what was cancelled is not
    /// delivered any more.
    pub fn knows(&self, token: u64) -> bool {
        self.timers.contains(&token)
            || self.requests.contains(&token)
            || self.sockets.contains_key(&token)
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Whether the instance may call now.
    fn working(&mut self) -> Result<(), PluginStatus> {
        if self.phase == Phase::Working { Ok(()) } else { Err(PluginStatus::BadState) }
    }

    /// The same for what needs a capability.
    fn granted(&mut self, capability: u64) -> Result<(), PluginStatus> {
        self.working()?;
        if self.setting.grants.caps() & capability == capability {
            return Ok(());
        }
        Err(self.refuse("not_granted", PluginStatus::Denied, "the capability is not granted"))
    }

    fn refuse(&mut self, reason: &'static str, status: PluginStatus, text: &str) -> PluginStatus {
        *self.refusals.entry(reason).or_default() += 1;
        self.error = clip(text.as_bytes(), zepto_core::limits::PLUGIN_ERROR_BYTES_MAX);
        status
    }

    /// A message above the limit, in either direction.
    pub(crate) fn refuse_size(&mut self, len: u64) -> PluginStatus {
        let text = format!("a message of {len} bytes, at most {}", self.setting.limits.message);
        self.refuse("too_big", PluginStatus::TooBig, &text)
    }

    /// An address that is not all the plugin's.
    pub(crate) fn refuse_address(&mut self) -> PluginStatus {
        let text = "an address that is not the plugin's";
        self.refuse("bad_address", PluginStatus::BadAddress, text)
    }

    /// A handle that is another instance's, or nobody's.
    pub(crate) fn refuse_handle(&mut self) -> PluginStatus {
        self.refuse("bad_handle", PluginStatus::BadHandle, "a handle that is not the plugin's")
    }

    /// Counts a call that is refused without a word.
    pub(crate) fn count_refusal(&mut self, reason: &'static str) {
        *self.refusals.entry(reason).or_default() += 1;
    }

    fn push(&mut self, effect: Effect) -> Result<(), PluginStatus> {
        let bytes = self.effect_bytes + effect.bytes();
        let most = 4 * self.setting.limits.message.0 as usize;
        if self.effects.len() >= PLUGIN_EFFECTS_MAX || bytes > most {
            let text = "one handler asked for too much; come back with a timer";
            return Err(self.refuse("too_much", PluginStatus::Busy, text));
        }
        self.effect_bytes = bytes;
        self.effects.push(effect);
        Ok(())
    }
}

/// Bytes of a plugin as text that a terminal may show: at most so many.
pub(crate) fn clip(bytes: &[u8], most: usize) -> String {
    let cut = bytes.get(..most).unwrap_or(bytes);
    let mut text = String::with_capacity(cut.len());
    for c in String::from_utf8_lossy(cut).chars() {
        if c == '\t' {
            text.push(' ');
        } else if is_hidden(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}
