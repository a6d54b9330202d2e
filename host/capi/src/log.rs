//! The library's log lines, brought to a function of the caller's. Until there is one nobody gets
//! them: a program's own log is its own.
//!
//! The library has its own copy of `tracing`, so no other part of the process is concerned.

use crate::error::{Failure, zepto_error};
use crate::handle::{call, callback, not_in_callback};
use crate::listener::Callee;
use crate::status::*;
use crate::text::zepto_str;
use crate::watch::zepto_drop_fn;
use arc_swap::ArcSwapOption;
use core::cell::Cell;
use core::ffi::c_void;
use core::fmt::{Debug, Write as _};
use std::sync::{Arc, OnceLock};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber};

/// Something is lost or cannot go on.
pub const ZEPTO_LOG_ERROR: u32 = 1;
/// Somebody should look.
pub const ZEPTO_LOG_WARN: u32 = 2;
/// Members come and go, partitions move.
pub const ZEPTO_LOG_INFO: u32 = 3;
/// For whoever looks for a cause.
pub const ZEPTO_LOG_DEBUG: u32 = 4;

/// Called with one line: its level, the part of the library that it is from, and its text; both
/// are the library's, during the call. It must not throw. Functions that are not [callback-safe]
/// refuse to be called from it, and what the others log meanwhile is dropped.
pub type zepto_log_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, level: u32, target: zepto_str, text: zepto_str)>;

type Line = unsafe extern "C" fn(*mut c_void, u32, zepto_str, zepto_str);

/// Who gets the lines.
struct Sink {
    level: u32,
    callee: Callee<Line>,
}

// SAFETY: the caller says that the function may be called with `user` from several threads at once.
unsafe impl Sync for Sink {}

static SINK: ArcSwapOption<Sink> = ArcSwapOption::const_empty();

thread_local! {
    static IN_LINE: Cell<bool> = const { Cell::new(false) };
}

/// Has the log lines of everything in this library brought to `log`, from `ZEPTO_LOG_ERROR` to
/// `level`; with NULL to nobody, as it is from the start. `log` is called from any thread that is
/// in the library, several at a time, and holds that one up: it should only note. `user_drop`,
/// which may be NULL, is called after the last call, once there is another function or none. On
/// failure nothing changes, and it is not called. [any thread] [not callback-safe]
///
/// # Safety
/// `log` must be NULL or callable with `user` from several threads at the same time, `error` NULL
/// or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_log(
    level: u32,
    log: zepto_log_fn,
    user: *mut c_void,
    user_drop: zepto_drop_fn,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = || {
        not_in_callback()?;
        if log.is_some() && !(ZEPTO_LOG_ERROR..=ZEPTO_LOG_DEBUG).contains(&level) {
            return Err(Failure::invalid("level: it is one of ZEPTO_LOG_*"));
        }
        listen()?;
        let sink = log.map(|function| {
            Arc::new(Sink { level, callee: Callee { function, user, dropped: user_drop } })
        });
        SINK.store(sink);
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { call(None, error, body) }
}

/// From the first time on.
fn listen() -> Result<(), Failure> {
    static LISTENS: OnceLock<bool> = OnceLock::new();
    let listens = *LISTENS.get_or_init(|| set_global_default(Lines).is_ok());
    let text = "somebody else takes the lines of this copy of the library";
    if listens { Ok(()) } else { Err(Failure::new(ZEPTO_E_BAD_STATE, text)) }
}

/// Turns events into lines.
struct Lines;

impl Subscriber for Lines {
    fn register_callsite(&self, _metadata: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        SINK.load().as_ref().is_some_and(|sink| sink.wants(metadata))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match SINK.load().as_ref().map_or(0, |sink| sink.level) {
            0 => LevelFilter::OFF,
            ZEPTO_LOG_ERROR => LevelFilter::ERROR,
            ZEPTO_LOG_WARN => LevelFilter::WARN,
            ZEPTO_LOG_INFO => LevelFilter::INFO,
            _ => LevelFilter::DEBUG,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let sink = SINK.load_full();
        let Some(sink) = sink.filter(|_| !IN_LINE.replace(true)) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let (target, text) = (event.metadata().target(), text.message + &text.fields);
        let level = number(*event.metadata().level());
        let Callee { function, user, .. } = &sink.callee;
        let (target, text) = (zepto_str::of(target), zepto_str::of(&text));
        // SAFETY: the caller's promise; the texts live until it returns.
        callback(|| unsafe { function(*user, level, target, text) });
        IN_LINE.set(false);
    }

    // Lines say all that they have to say themselves.
    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Sink {
    /// What is not zepto's own has to be worth a warning.
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let is_own = metadata.target().starts_with("zepto");
        let level = if is_own { self.level } else { self.level.min(ZEPTO_LOG_WARN) };
        metadata.is_event() && number(*metadata.level()) <= level
    }
}

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => ZEPTO_LOG_ERROR,
        Level::WARN => ZEPTO_LOG_WARN,
        Level::INFO => ZEPTO_LOG_INFO,
        Level::DEBUG => ZEPTO_LOG_DEBUG,
        _ => ZEPTO_LOG_DEBUG + 1,
    }
}

/// A line as people read it: what it says, and then what it is about.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
