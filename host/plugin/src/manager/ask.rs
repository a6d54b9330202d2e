//! Questions to a plugin, and their replies: each has one, or an error when its time is over.

use super::live::Live;
use super::{MS, Manager};
use crate::instance::Fault;
use crate::runner::Delivery;
use core::time::Duration;
use std::sync::Arc;
use tokio::sync::oneshot;
use zepto_abi::plugin::PluginStatus;
use zepto_core::env::Env;
use zepto_core::limits::PLUGIN_REPLY_MS;
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
        let Some(token) = outcome.question else { return drop(reply.send(Err(NoReply::Down))) };
        let status = outcome.status.unwrap_or_default();
        let due = Nanos(self.env.now().0 + PLUGIN_REPLY_MS * MS);
        // Before what the handler asked for is done: it may have replied already.
        self.questions.insert(token, (due, reply));
        self.take(outcome).await;
        if status < 0
            && let Some((_, reply)) = self.questions.remove(&token)
        {
            // It says at once that it has no answer.
            self.forget(token).await;
            drop(reply.send(Err(self.refused(status).await)));
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

    /// Why a plugin said no: its own words, if it has any.
    pub(super) async fn refused(&self, status: i32) -> NoReply {
        let tally = match &self.live {
            Some(live) => live.tally().await,
            None => None,
        };
        let own = tally.map(|tally| tally.error).filter(|error| !error.is_empty());
        own.map_or_else(|| status_of(status), NoReply::Refused)
    }
}

/// Asks an instance, and delivers what comes in for it until it has replied. What it emits
/// meanwhile is not taken.
pub(super) async fn ask_through(
    live: &mut Live,
    env: &Arc<dyn Env>,
    delivery: Delivery,
    until: Nanos,
) -> Result<Vec<u8>, NoReply> {
    let ended = |fault: Fault| NoReply::Refused(fault.to_string());
    let mut outcome = live.deliver(delivery).await.map_err(ended)?;
    let Some(token) = outcome.question else { return Err(NoReply::Down) };
    if outcome.status.is_some_and(|status| status < 0) {
        let status = outcome.status.unwrap_or_default();
        return Err(status_of(status));
    }
    loop {
        for (of, status, bytes) in outcome.replies {
            if of == token {
                return if status >= 0 { Ok(bytes) } else { Err(status_of(status)) };
            }
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

fn status_of(status: i32) -> NoReply {
    let text = PluginStatus::from_code(status).map_or("an unknown status", PluginStatus::text);
    NoReply::Refused(text.to_owned())
}
