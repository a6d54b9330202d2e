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
    /// The side of a new instance. Handle and tokens of two instances are never the same, as long
    /// as their generations differ.
    pub fn new(setting: Setting, generation: u32, kv: Kv) -> Self {
        Self {
            handle: u64::from(generation) + 1,
            next_token: TOKEN_BIT | (u64::from(generation) << 32),
            setting,
            phase: Phase::Idle,
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
    pub fn kv_mut(&mut self) -> &mut Kv {
        &mut self.kv
    }

    /// Gives the keys and values to the next instance.
    pub fn into_kv(self) -> Kv {
        self.kv
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

    /// Counts a call whose address or handle was not the instance's.
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

/// Bytes of a plugin as text that a terminal may show: at most so many, without control characters.
pub(crate) fn clip(bytes: &[u8], most: usize) -> String {
    let cut = bytes.get(..most).unwrap_or(bytes);
    let mut text = String::with_capacity(cut.len());
    for c in String::from_utf8_lossy(cut).chars() {
        if c == '\t' {
            text.push(' ');
        } else if c.is_control() || is_reordering(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// Characters that change the order in which others are shown.
const fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
