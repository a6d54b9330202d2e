//! What becomes of failures: a log line that says what to do, and a pause. What was told stands.

use super::{Action, Machine, Next, Part, State, Timer};
use crate::api::{Object, text};
use crate::objects::clip;
use zepto_sdk::Level;

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

impl Machine {
    /// Gives up what was asked, and tries again after a pause.
    pub(super) fn pause(&mut self, next: Next, level: Level, why: String) {
        self.pause_at_least(0, next, level, why);
    }

    fn pause_at_least(&mut self, least_ms: u64, next: Next, level: Level, why: String) {
        let ms = self.backoff.next_ms().max(least_ms.min(self.backoff.longest_ms()));
        self.is_well = false;
        self.state = State::Waiting(next);
        self.log(level, format!("{why}; again in {ms} ms"));
        self.actions.push(Action::Cancel);
        self.actions.push(Action::Set(Timer::Pause, ms));
    }

    /// The server knows no more what changed since the version that is known. Everything is listed
    /// anew: at once, unless something failed just before.
    pub(super) fn gone(&mut self, why: &str) {
        let text = format!("listing anew: {why}");
        if self.backoff.is_fresh() {
            let _not_now = self.backoff.next_ms();
            self.log(Level::Info, text);
            self.list();
        } else {
            self.pause(Next::List, Level::Info, text);
        }
    }

    /// The host made no request.
    pub fn not_asked(&mut self, why: &str) -> Vec<Action> {
        let api = &self.config.api;
        let text = format!("the host asks nothing of {api} ({why}): grant http=GET {api}/...");
        self.pause(Next::List, Level::Error, text);
        self.take()
    }

    /// The server answered with an error.
    pub(super) fn refused(&mut self, next: Next, part: &Part<'_>) {
        let status: Object<'_> = serde_json::from_slice(part.body).unwrap_or_default();
        let said = clip(text(&status.message));
        let verb = if matches!(self.state, State::Watching(_)) { "watch" } else { "list" };
        let (resource, group) = self.kind.resource();
        let (api, namespace) = (&self.config.api, &self.config.namespace);
        let help = match part.code {
            401 => format!(
                "the token is missing or not valid; grant secret=token=file:{TOKEN}@{api}, \
                 or say \"token\": false where none is wanted"
            ),
            403 => format!(
                "it may not {verb} {resource}; a Role in namespace {namespace} with apiGroups \
                 [\"{group}\"], resources [\"{resource}\"], verbs [\"get\", \"list\", \"watch\"] \
                 must be bound to its service account"
            ),
            404 => format!("there are no {resource} at {api}; is that an API server?"),
            _ => format!("no {verb} of {resource}"),
        };
        let level = match part.code {
            401 | 403 | 404 => Level::Error,
            _ => Level::Warn,
        };
        let text = format!("HTTP {}: {help}: {said}", part.code);
        let least_ms = u64::from(part.retry_after_s.unwrap_or_default()) * 1_000;
        let text = text.trim_end_matches([':', ' ']).to_owned();
        self.pause_at_least(least_ms, next, level, text);
    }
}
