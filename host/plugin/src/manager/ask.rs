//! Questions to a plugin, and their replies: each has one, or an error when its time is over.

use super::live::{Live, Outcome};
use super::{MS, Manager};
use crate::instance::Fault;
use crate::runner::Delivery;
use core::time::Duration;
use std::sync::Arc;
use tokio::sync::oneshot;
use zepto_abi::plugin::PluginStatus;
use zepto_core::env::Env;
use zepto_core::limits::{PLUGIN_QUESTIONS_MAX, PLUGIN_REPLY_MS};
use zepto_core::time::Nanos;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// The plugin said no, or failed.
    #[error("{0}")]
    Refused(String),
    /// It did not reply in time.
    #[error("no reply within {PLUGIN_REPLY_MS} ms")]
    Late,
    /// It does not run.
    #[error("the plugin does not run")]
    Down,
    /// Too many questions wait for it.
    #[error("{PLUGIN_QUESTIONS_MAX} questions wait for a reply; ask again later")]
    Busy,
}

/// Where the reply to one question goes.
pub(super) type Reply = oneshot::Sender<Result<Vec<u8>, NoReply>>;

impl Manager {
    /// Asks a question; the reply may come with a later event. Whoever asked may have given up.
    pub(super) async fn ask(&mut self, delivery: Delivery, reply: Reply) {
        let Some(live) = &mut self.live else { return drop(reply.send(Err(NoReply::Down))) };
        let outcome = match live.deliver(delivery).await {
            Ok(outcome) => outcome,
            Err(fault) => {
                self.fault(&fault).await;
                return drop(reply.send(Err(NoReply::Down)));
            }
        };
        let Some(token) = outcome.question else { return drop(reply.send(Err(NoReply::Busy))) };
        let status = outcome.status.unwrap_or_default();
        let why = refused(status, &outcome.error);
        let due = Nanos(self.env.now().0 + PLUGIN_REPLY_MS * MS);
        // Before what the handler asked for is done: it may have replied already.
        self.questions.insert(token, (due, reply));
        self.take(outcome).await;
        if status < 0
            && let Some((_, reply)) = self.questions.remove(&token)
        {
            // It says at once that it has no answer.
            self.forget(token).await;
            drop(reply.send(Err(why)));
        }
    }

    /// Nobody waits for a reply any more.
    async fn forget(&self, token: u64) {
        if let Some(live) = &self.live {
            live.forget_question(token).await;
        }
    }

    /// Questions whose time is over get no reply any more.
    pub(super) async fn give_up_late(&mut self, now: Nanos) {
        let late = self.questions.iter().filter(|(_, (due, _))| *due <= now);
        for token in late.map(|(token, _)| *token).collect::<Vec<_>>() {
            let Some((_, reply)) = self.questions.remove(&token) else { continue };
            self.forget(token).await;
            self.report.send_modify(|report| report.unanswered += 1);
            drop(reply.send(Err(NoReply::Late)));
        }
    }
}

/// Asks an instance, and delivers what comes in for it until it has replied. What else came of that
/// is `missed`, and the caller's.
pub(super) async fn ask_through(
    live: &mut Live,
    env: &Arc<dyn Env>,
    delivery: Delivery,
    until: Nanos,
    missed: &mut Vec<Outcome>,
) -> Result<Vec<u8>, NoReply> {
    let ended = |fault: Fault| NoReply::Refused(fault.to_string());
    let mut outcome = live.deliver(delivery).await.map_err(ended)?;
    let token = outcome.question.ok_or(NoReply::Busy)?;
    let at_once = outcome.status.filter(|status| *status < 0);
    if let Some(status) = at_once {
        let why = refused(status, &outcome.error);
        missed.push(outcome);
        live.forget_question(token).await;
        return Err(why);
    }
    loop {
        let place = outcome.replies.iter().position(|(of, ..)| *of == token);
        let reply = place.map(|place| outcome.replies.remove(place));
        let why = |status| refused(status, &outcome.error);
        let answer =
            reply.map(|(_, status, bytes)| if status >= 0 { Ok(bytes) } else { Err(why(status)) });
        missed.push(outcome);
        if let Some(answer) = answer {
            return answer;
        }
        let left = Duration::from_nanos(until.0.saturating_sub(env.now().0));
        let next = tokio::time::timeout(left, live.next(env)).await;
        let Ok(next) = next else {
            live.forget_question(token).await;
            return Err(NoReply::Late);
        };
        outcome = live.deliver(next).await.map_err(ended)?;
    }
}

/// Why a plugin said no: its own words, if it has any.
pub(super) fn refused(status: i32, own: &str) -> NoReply {
    let text = PluginStatus::from_code(status).map_or("an unknown status", PluginStatus::text);
    NoReply::Refused(if own.is_empty() { text.to_owned() } else { own.to_owned() })
}
