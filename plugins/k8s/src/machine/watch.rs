//! Watches: what changes after a version, as it happens.

use super::list::Wrong;
use super::{Action, Machine, Next, Part, State, Timer};
use crate::api::{Event, Object, text};
use crate::lines::Lines;
use crate::objects::clip;
use crate::url;
use zepto_sdk::Level;

/// Bytes of a line.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A watch that runs.
#[derive(Debug)]
pub struct Watching {
    since_ms: u64,
    has_begun: bool,
    lines: Lines,
}

impl Watching {
    /// Whether the server has answered.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }
}

/// Why nothing more is read of a watch.
enum End {
    /// Its version is too old.
    Gone(String),
    Wrong(Wrong),
    /// The server says that it failed.
    Error(String),
}

impl Machine {
    /// Asks for what has changed since the version that is known.
    pub(super) fn watch(&mut self) {
        let lines = Lines::new(LINE_BYTES_MAX);
        let watching = Watching { since_ms: self.now_ms, has_begun: false, lines };
        self.state = State::Watching(watching);
        self.actions.push(Action::Set(Timer::Begin, self.config.list_timeout_ms.into()));
        self.get(url::watch(&self.config, self.kind, &self.version), true);
    }

    /// A part of a watch came.
    pub(super) fn on_watch(&mut self, part: &Part<'_>) {
        let State::Watching(watching) = &mut self.state else { return };
        if !watching.has_begun {
            watching.has_begun = true;
            self.actions.push(Action::Clear(Timer::Begin));
        }
        if let Some(text) = part.failed {
            return self.pause(Next::Watch, Level::Warn, format!("the watch broke: {text}"));
        }
        if part.code != 200 {
            // The head came first; why it is refused stands in the body.
            if !part.body.is_empty() || part.is_last {
                self.watch_refused(part);
            }
            return;
        }
        let mut lines = core::mem::replace(&mut watching.lines, Lines::new(0));
        if !self.is_well {
            self.is_well = true;
            self.log(Level::Info, "watching again".into());
        }
        let (mut is_new, mut end) = (false, None);
        let pushed = lines.push(part.body, |line| match self.event(line) {
            Ok(changed) => {
                is_new |= changed;
                true
            }
            Err(why) => {
                end = Some(why);
                false
            }
        });
        if pushed.is_err() {
            let text = format!("a line of more than {LINE_BYTES_MAX} bytes");
            end = Some(End::Wrong(Wrong::Malformed(text)));
        }
        if let State::Watching(watching) = &mut self.state {
            watching.lines = lines;
        }
        match end {
            None => {}
            Some(End::Gone(text)) => return self.gone(&text),
            Some(End::Wrong(wrong)) => return self.pause_for(wrong),
            Some(End::Error(text)) => return self.pause(Next::List, Level::Warn, text),
        }
        if is_new {
            self.tell_if_new();
        }
        if part.is_last {
            self.ended();
        }
    }

    fn watch_refused(&mut self, part: &Part<'_>) {
        match part.code {
            410 => self.gone("the watch's position is too old"),
            404 => self.refused(Next::List, part),
            _ => self.refused(Next::Watch, part),
        }
    }

    /// Takes a line; says whether it changes what an object tells of.
    fn event(&mut self, line: &[u8]) -> Result<bool, End> {
        if line.trim_ascii().is_empty() {
            return Ok(false);
        }
        let malformed = |text: String| End::Wrong(Wrong::Malformed(text));
        let event: Event<'_> =
            serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
        let object = &event.object;
        if event.kind.as_str() == "ERROR" {
            return Err(error(object));
        }
        if text(&object.kind) != self.kind.object() {
            let text = format!("{:?} is no {}", text(&object.kind), self.kind.object());
            return Err(malformed(text));
        }
        let is_new = match event.kind.as_str() {
            "ADDED" | "MODIFIED" => self.take_object(object).map_err(End::Wrong)?,
            "DELETED" => self.set.remove(text(&object.metadata.name)),
            "BOOKMARK" => false,
            other => return Err(malformed(format!("an event {:?}", clip(other)))),
        };
        let version = text(&object.metadata.resource_version);
        if !version.is_empty() {
            version.clone_into(&mut self.version);
        }
        self.backoff.reset();
        Ok(is_new)
    }

    fn tell_if_new(&mut self) {
        match self.set.fingerprint() {
            Ok((fingerprint, _)) if self.told == Some(fingerprint) => {}
            Ok((fingerprint, _)) => {
                self.told = Some(fingerprint);
                self.actions.push(Action::Emit);
            }
            Err(too_many) => self.pause_for(too_many.into()),
        }
    }

    /// The server ended the watch, as it does every few minutes. One that ends at once is asked for
    /// again after a pause only.
    fn ended(&mut self) {
        let State::Watching(watching) = &self.state else { return };
        let lasted_ms = self.now_ms.saturating_sub(watching.since_ms);
        if watching.lines.is_cut() {
            let text = "the watch ended in the middle of a line".to_owned();
            return self.pause(Next::Watch, Level::Warn, text);
        }
        if lasted_ms < self.backoff.first_ms() {
            let text = format!("the watch ended after {lasted_ms} ms");
            return self.pause(Next::Watch, Level::Debug, text);
        }
        if lasted_ms >= self.backoff.longest_ms() {
            self.backoff.reset();
        }
        self.watch();
    }
}

/// What an ERROR event says.
fn error(status: &Object<'_>) -> End {
    let (code, reason) = (status.code.unwrap_or_default(), text(&status.reason));
    let said = clip(text(&status.message));
    if code == 410 || reason == "Expired" || reason == "Gone" {
        End::Gone(said)
    } else {
        End::Error(format!("the watch failed: {code} {}: {said}", clip(reason)))
    }
}
