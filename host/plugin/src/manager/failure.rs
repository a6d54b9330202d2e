//! What becomes of a plugin whose instance came to its end: a pause and another one, or, when that
//! happens too often, its last good answer for good.

use super::live::{Live, Outcome};
use super::{MS, Manager, NoReply, State};
use crate::config::Then;
use crate::error::LoadError;
use crate::instance::Fault;
use std::sync::Arc;

impl Manager {
    /// The instance came to its end.
    pub(super) async fn fault(&mut self, fault: &Fault) {
        let name = self.parts.setting.name.clone();
        tracing::error!(plugin = name, "{fault}");
        self.report.send_modify(|report| {
            *report.faults.entry(fault.kind).or_default() += 1;
            report.last_error = fault.to_string();
            report.end_tally();
        });
        self.abandon();
        if self.before.is_some() {
            self.roll_back(&fault.to_string()).await;
            return;
        }
        self.pause_or_fail(&fault.to_string());
    }

    /// The instance is not called again, and nobody waits for it any more.
    pub(super) fn abandon(&mut self) {
        self.live = None;
        for (_, (_, reply)) in core::mem::take(&mut self.questions) {
            drop(reply.send(Err(NoReply::Down)));
        }
    }

    fn pause_or_fail(&mut self, why: &str) {
        let name = &self.parts.setting.name;
        let now = self.env.now();
        self.restart_at = self.restarts.after_failure(now, self.env.random());
        let state = match self.restart_at {
            Some(at) => {
                let pause_ms = (at.0 - now.0) / MS;
                tracing::warn!(plugin = name, pause_ms, "started again after a pause");
                State::Restarting
            }
            None => {
                tracing::error!(plugin = name, "failed too often; its last good answer stands");
                State::Failed
            }
        };
        self.report.send_modify(|report| report.state = state);
        if state == State::Failed && self.parts.config.on_failure.then == Then::Abort {
            self.parts.fail.send_replace(Some(format!("plugin {name} failed: {why}")));
        }
    }

    /// Opens another instance of the same version.
    pub(super) async fn restart(&mut self) {
        self.restart_at = None;
        self.report.send_modify(|report| report.restarts += 1);
        match self.open_again().await {
            Ok((live, outcome)) => {
                self.live = Some(live);
                self.begin_roster();
                self.take(outcome).await;
                self.begin().await;
            }
            Err(error) => {
                tracing::error!(plugin = self.parts.setting.name, %error, "did not start again");
                self.report.send_modify(|report| report.last_error = error.to_string());
                self.pause_or_fail(&error.to_string());
            }
        }
    }

    async fn open_again(&mut self) -> Result<(Live, Outcome), LoadError> {
        let (loader, loaded) = (Arc::clone(&self.parts.loader), self.loaded.clone());
        let renewing = tokio::task::spawn_blocking(move || loader.renew(&loaded));
        self.loaded = renewing.await.map_err(|error| LoadError::System(error.to_string()))??;
        self.open_instance(&self.loaded.clone()).await
    }
}
