//! List, watch, pause: what is asked next, given what was answered. Pure: inputs come with the
//! time, and what is to be done goes out as actions.
//!
//! ```text
//! Listing ── complete, told ──► Watching ── ended ──► Watching, from where it ended
//!  │  ▲  ▲                       │  │  └── broken ──► Waiting ──► Watching, the same
//!  │  │  └── too old, resync ────┘  └── malformed ─┐
//!  │  └──────────────────────── Waiting ◄──────────┤
//!  └── failed ─────────────────────────────────────┘
//! ```
//!
//! Only a list that is complete, and an event that changes something, are told.

mod failure;
mod list;
mod watch;

#[cfg(test)]
mod tests;

use crate::backoff::Backoff;
use crate::config::{Config, Source};
use crate::set::Set;
use crate::url::Kind;
use list::Listing;
use watch::Watching;
use zepto_sdk::{Level, Node};

/// Bytes of a page of a list. With its headers it fits into 1 MiB of the plugin's memory.
pub(crate) const PAGE_BYTES_MAX: u32 = 960 << 10;
/// Time for a whole watch, ms: the server ends it before.
const WATCH_MS: u32 = 300_000;
/// Memory that is not for the nodes: the stack, what the host hands over, and what lies between.
const RESERVED_BYTES: u64 = 6 << 19;

/// A timer of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The pause after a failure is over.
    Pause,
    /// A watch that has not begun by now does not.
    Begin,
    /// All is listed anew, whatever the watch says.
    Resync,
}

impl Timer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pause, Self::Begin, Self::Resync];

    /// What the host calls it.
    pub fn id(self) -> u64 {
        self as u64
    }
}

/// A request of the API server; it takes the place of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// What is asked.
    pub url: String,
    /// Whether the answer comes in parts.
    pub is_stream: bool,
    /// Time for the whole of it.
    pub timeout_ms: u32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the API server.
    Get(Get),
    /// Give up what was asked.
    Cancel,
    /// Tell the host the nodes.
    Emit,
    /// Set a timer.
    Set(Timer, u64),
    /// Take a timer back.
    Clear(Timer),
    /// Write a log line.
    Log(Level, String),
}

/// An answer of the API server, or a part of one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part<'a> {
    /// Why there is no answer, or no more of it.
    pub failed: Option<&'a str>,
    /// HTTP status; 0 when there is none.
    pub code: u32,
    /// Whether nothing follows.
    pub is_last: bool,
    /// Whether the body was cut, for it is too long.
    pub is_truncated: bool,
    /// After how many seconds the server wants to be asked again.
    pub retry_after_s: Option<u32>,
    /// The body, or a part of it.
    pub body: &'a [u8],
}

/// What follows a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    List,
    /// Telling a list that is complete: in an event of its own, for both it and the last page take
    /// their time. Then comes the watch.
    Tell,
    Watch,
}

#[derive(Debug)]
enum State {
    /// Not started, or stopped.
    Idle,
    Listing(Listing),
    Watching(Watching),
    Waiting(Next),
}

/// All that the plugin knows.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    state: State,
    set: Set,
    backoff: Backoff,
    kind: Kind,
    /// Objects on a page.
    limit: u32,
    /// Up to where all is known.
    version: String,
    /// What was told last.
    told: Option<u64>,
    /// Whether operators know that all is well.
    is_well: bool,
    now_ms: u64,
    actions: Vec<Action>,
}

impl Machine {
    /// Nothing is known, and nothing begun.
    pub fn new(config: Config, node: &str, memory_bytes: u64, nodes_max: u32) -> Self {
        let room = memory_bytes.saturating_sub(RESERVED_BYTES);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        Self {
            backoff: Backoff::new(config.backoff_ms, node),
            kind: first_kind(&config),
            config,
            state: State::Idle,
            set: Set::new(room, nodes_max as usize),
            limit: list::OBJECTS_MAX,
            version: String::new(),
            told: None,
            is_well: false,
            now_ms: 0,
            actions: Vec::new(),
        }
    }

    /// Begins.
    pub fn start(&mut self, now_ms: u64) -> Vec<Action> {
        self.now_ms = now_ms;
        if matches!(self.state, State::Idle) {
            self.list();
        }
        self.take()
    }

    /// Ends; what was asked, and the timers, are gone already.
    pub fn stop(&mut self) {
        self.state = State::Idle;
        self.set.clear();
        self.told = None;
        self.is_well = false;
    }

    /// Whether it was started.
    pub fn is_started(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// The host wants a full answer: the API server is asked for one. What a list that runs already
    /// finds is told in any case, and a pause is not cut short.
    pub fn resync(&mut self, now_ms: u64) -> Vec<Action> {
        self.now_ms = now_ms;
        self.list_soon();
        self.take()
    }

    /// A timer ran out.
    pub fn timer(&mut self, now_ms: u64, timer: Timer) -> Vec<Action> {
        self.now_ms = now_ms;
        match (timer, &self.state) {
            (Timer::Pause, State::Waiting(Next::List)) => self.list(),
            (Timer::Pause, State::Waiting(Next::Tell)) => self.tell_list(),
            (Timer::Pause, State::Waiting(Next::Watch)) => self.watch(),
            (Timer::Begin, State::Watching(watching)) if !watching.has_begun() => {
                let ms = self.config.list_timeout_ms;
                self.pause(Next::Watch, Level::Warn, format!("no watch began within {ms} ms"));
            }
            (Timer::Resync, _) => self.list_soon(),
            _ => {}
        }
        self.take()
    }

    /// An answer came, or a part of one.
    pub fn part(&mut self, now_ms: u64, part: &Part<'_>) -> Vec<Action> {
        self.now_ms = now_ms;
        match &self.state {
            State::Listing(_) => self.on_page(part),
            State::Watching(_) => self.on_watch(part),
            State::Idle | State::Waiting(_) => {}
        }
        self.take()
    }

    /// What was to be told was not taken, so that the next change is told whatever it is.
    pub fn not_told(&mut self) {
        self.told = None;
    }

    /// The nodes, sorted by id.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        self.set.nodes()
    }

    fn list_soon(&mut self) {
        match self.state {
            State::Watching(_) => self.list(),
            State::Waiting(Next::Watch) => self.state = State::Waiting(Next::List),
            State::Idle | State::Listing(_) | State::Waiting(Next::List | Next::Tell) => {}
        }
    }

    fn get(&mut self, url: String, is_stream: bool) {
        let timeout_ms = if is_stream { WATCH_MS } else { self.config.list_timeout_ms };
        self.actions.push(Action::Get(Get { url, is_stream, timeout_ms }));
    }

    fn log(&mut self, level: Level, text: String) {
        self.actions.push(Action::Log(level, text));
    }

    fn take(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.actions)
    }
}

/// What is asked for first.
fn first_kind(config: &Config) -> Kind {
    match config.source {
        Source::Auto | Source::EndpointSlices => Kind::EndpointSlice,
        Source::Endpoints => Kind::Endpoints,
    }
}
