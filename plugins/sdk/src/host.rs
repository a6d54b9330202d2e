//! What a plugin may call, only from within its handlers.

use crate::error::Error;
use crate::glue::calls;
use zepto_abi::plugin::{self as abi, PluginStatus};
use zepto_message::{Mode, Node, Request, write_nodes};

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every step.
    Trace,
    /// What helps to find a mistake.
    Debug,
    /// What operators want to know.
    Info,
    /// What they should look at.
    Warn,
    /// What is wrong.
    Error,
}

/// A request or socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// A question of the host's, which wants one reply.
#[derive(Debug)]
pub struct Question(pub(crate) u64);

/// When an event was delivered. Handlers need no other clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic, ns.
    pub mono_ns: u64,
    /// Since 1970, ns.
    pub wall_ns: u64,
    /// By when the handler must return, monotonic, ns.
    pub deadline_ns: u64,
}

/// The host, during one call.
#[derive(Debug)]
pub struct Host {
    ctx: u64,
    granted: u64,
    moment: Moment,
}

fn done(code: i32, call: &str) -> Result<(), Error> {
    if code >= 0 { Ok(()) } else { Err(Error::of_call(code, call)) }
}

impl Host {
    pub(crate) fn new(ctx: u64, granted: u64, moment: Moment) -> Self {
        Self { ctx, granted, moment }
    }

    /// Whether a [`crate::capability`] is granted.
    pub fn has(&self, capability: u64) -> bool {
        self.granted & capability == capability
    }

    /// When this event was delivered.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// Writes a log line. Beyond 100 lines in a second they are counted only, and that is no error.
    pub fn log(&self, level: Level, text: &str) {
        let level = match level {
            Level::Trace => abi::LOG_TRACE,
            Level::Debug => abi::LOG_DEBUG,
            Level::Info => abi::LOG_INFO,
            Level::Warn => abi::LOG_WARN,
            Level::Error => abi::LOG_ERROR,
        };
        // Nothing can be done about a line that was left out.
        let _left_out = calls::log(self.ctx, level, text.as_bytes());
    }

    pub(crate) fn set_error(&self, error: &Error) {
        let _left_out = calls::set_error(self.ctx, error.status.code(), error.text.as_bytes());
    }

    /// The time now, which goes on while a handler works.
    ///
    /// # Errors
    /// Outside a handler.
    pub fn now_ns(&self) -> Result<u64, Error> {
        let mut ns = 0;
        done(calls::clock(self.ctx, abi::CLOCK_MONO, &mut ns), "clock")?;
        Ok(ns)
    }

    /// Fills a buffer with random bytes.
    ///
    /// # Errors
    /// When that is not granted, or it is more than 64 KiB.
    pub fn random(&self, buffer: &mut [u8]) -> Result<(), Error> {
        done(calls::random(self.ctx, buffer), "random")
    }

    /// Sets a timer: `id` (below 2^63) runs out after `delay_ns`, and then every `period_ns` (10 ms
    /// or more; 0 is never).
    ///
    /// # Errors
    /// When there are too many.
    pub fn set_timer(&self, id: u64, delay_ns: u64, period_ns: u64) -> Result<(), Error> {
        done(calls::timer(self.ctx, id, delay_ns.max(1), period_ns), "timer")
    }

    /// Takes a timer back; one that ran out is none.
    pub fn clear_timer(&self, id: u64) {
        let _was_none = calls::cancel(self.ctx, id);
    }

    /// Gives a request or socket up; one that is over is none.
    pub fn cancel(&self, token: Token) {
        let _was_none = calls::cancel(self.ctx, token.0);
    }

    /// Says who is in the cluster. Revisions ascend, for each instance from its start.
    ///
    /// # Errors
    /// When the answer is refused as a whole; the text says why.
    pub fn emit_all(&self, revision: u64, nodes: &[Node<'_>]) -> Result<(), Error> {
        self.emit(&write_nodes(revision, Mode::Full, nodes, &[]))
    }

    /// Says what has changed since the answer before.
    ///
    /// # Errors
    /// As for [`Self::emit_all`].
    pub fn emit_change(
        &self,
        revision: u64,
        nodes: &[Node<'_>],
        removed: &[&str],
    ) -> Result<(), Error> {
        self.emit(&write_nodes(revision, Mode::Delta, nodes, removed))
    }

    fn emit(&self, bytes: &[u8]) -> Result<(), Error> {
        self.told(calls::emit(self.ctx, bytes), "emit")
    }

    /// The result of a call whose refusal the host explains.
    fn told(&self, code: i32, call: &str) -> Result<(), Error> {
        if code >= 0 {
            return Ok(());
        }
        let mut error = Error::of_call(code, call);
        if let Ok(why) = self.info(abi::INFO_LAST_ERROR) {
            error.text = format!("{}: {}", error.text, String::from_utf8_lossy(&why));
        }
        Err(error)
    }

    pub(crate) fn reply(&self, question: Question, result: Result<&[u8], &Error>) -> i32 {
        match result {
            Ok(bytes) => calls::reply(self.ctx, question.0, 0, bytes),
            Err(error) => {
                self.set_error(error);
                calls::reply(self.ctx, question.0, error.status.code(), &[])
            }
        }
    }

    /// Has a request made; its answer comes to [`crate::Plugin::http`].
    ///
    /// # Errors
    /// When it is not granted, or there are too many.
    pub fn http(&self, request: &Request<'_>) -> Result<Token, Error> {
        let mut token = 0;
        self.told(calls::http(self.ctx, &request.write(), &mut token), "http")?;
        Ok(Token(token))
    }

    /// Has a socket bound, `ip:port`.
    ///
    /// # Errors
    /// When it is not granted.
    pub fn bind(&self, address: &str) -> Result<Token, Error> {
        let mut token = 0;
        self.told(calls::udp_bind(self.ctx, address.as_bytes(), &mut token), "udp_bind")?;
        Ok(Token(token))
    }

    /// Has a datagram sent, to `ip:port`.
    ///
    /// # Errors
    /// When it is not granted, too long, or one of too many.
    pub fn send(&self, socket: Token, to: &str, bytes: &[u8]) -> Result<(), Error> {
        self.told(calls::udp_send(self.ctx, socket.0, to.as_bytes(), bytes), "udp_send")
    }

    /// What it kept under a key, if anything.
    ///
    /// # Errors
    /// When keeping is not granted.
    pub fn kept(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut buffer = vec![0; 1024];
        loop {
            let mut len = 0;
            let code = calls::kv_get(self.ctx, key.as_bytes(), &mut buffer, &mut len);
            match PluginStatus::from_code(code) {
                Some(PluginStatus::Ok) => {
                    buffer.truncate(len as usize);
                    return Ok(Some(buffer));
                }
                Some(PluginStatus::NotFound) => return Ok(None),
                Some(PluginStatus::TooBig) if len as usize > buffer.len() => {
                    buffer.resize(len as usize, 0);
                }
                _ => return Err(Error::of_call(code, "kv_get")),
            }
        }
    }

    /// Keeps a value under a key: it is there after a restart.
    ///
    /// # Errors
    /// When keeping is not granted, or there is no room.
    pub fn keep(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        done(calls::kv_put(self.ctx, key.as_bytes(), value), "kv_put")
    }

    /// Keeps nothing under a key any more.
    ///
    /// # Errors
    /// When keeping is not granted.
    pub fn forget(&self, key: &str) -> Result<(), Error> {
        match calls::kv_del(self.ctx, key.as_bytes()) {
            code if code == PluginStatus::NotFound.code() => Ok(()),
            code => done(code, "kv_del"),
        }
    }

    /// Adds to a metric that only grows; where metrics are not granted, nothing happens.
    pub fn count(&self, name: &str, add: i64) {
        self.metric(abi::METRIC_COUNTER, name, add);
    }

    /// Sets a metric; where metrics are not granted, nothing happens.
    pub fn gauge(&self, name: &str, value: i64) {
        self.metric(abi::METRIC_GAUGE, name, value);
    }

    fn metric(&self, kind: u32, name: &str, value: i64) {
        if self.has(abi::CAP_METRIC) {
            // Nothing can be done about a name that is one too many.
            let _left_out = calls::metric(self.ctx, kind, name.as_bytes(), value);
        }
    }

    fn info(&self, what: u32) -> Result<Vec<u8>, Error> {
        let (mut buffer, mut len) = (vec![0; 1024], 0);
        done(calls::info(self.ctx, what, &mut buffer, &mut len), "info")?;
        buffer.truncate(len as usize);
        Ok(buffer)
    }
}
