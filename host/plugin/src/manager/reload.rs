//! A new version beside the old: opened, given the old one's state, asked whether all is well, and
//! only then taken into service. The old one is kept open on probation, to go back to.

use super::ask::ask_through;
use super::live::Live;
use super::{MS, Manager, NoReply, State};
use crate::error::LoadError;
use crate::file::PluginFile;
use crate::loader::Loaded;
use crate::runner::Delivery;
use std::sync::Arc;
use zepto_core::limits::{
    PLUGIN_OPEN_MS, PLUGIN_PROBATION_MS, PLUGIN_REPLY_MS, PLUGIN_STATE_BYTES_MAX,
};
use zepto_core::time::Nanos;

impl Manager {
    /// Takes a new version into service; the text says which. Any failure before that leaves the
    /// old one as it was.
    pub(super) async fn reload(&mut self, file: PluginFile) -> Result<String, String> {
        let sha256 = file.sha256;
        if let Some(wanted) = self.parts.config.sha256.filter(|wanted| *wanted != sha256) {
            let (found, wanted) = (sha256.to_string(), wanted.to_string());
            return Err(LoadError::Hash { found, wanted }.to_string());
        }
        if let Some(why) = self.quarantine.why(sha256, self.env.now()) {
            return Err(LoadError::Quarantined(why.to_owned()).to_string());
        }
        if self.live.is_some() && sha256 == self.loaded.sha256 {
            return Ok(format!("{sha256} is in service already"));
        }
        if let Err(error) = self.replace(file).await {
            let why = error.to_string();
            tracing::error!(plugin = self.parts.setting.name, %sha256, why, "not reloaded");
            if error.is_of_the_file() {
                self.quarantine.put(sha256, &why, self.env.now());
            }
            return Err(why);
        }
        // Its first event may have been its end.
        if let Some(why) = self.quarantine.why(sha256, self.env.now()) {
            return Err(format!("taken back at once: {why}"));
        }
        let info = &self.loaded.info;
        Ok(format!("{} {} {sha256}", info.name, info.version))
    }

    /// Has the instance take another configuration. One that it does not take changes nothing.
    pub(super) async fn configure(&mut self, json: String) -> Result<(), String> {
        if json == self.parts.opening.config {
            return Ok(());
        }
        let from = self.generation();
        let live = self.live.as_mut().ok_or_else(|| NoReply::Down.to_string())?;
        let within = Nanos(self.env.now().0 + PLUGIN_REPLY_MS * MS);
        let (mut missed, config) = (Vec::new(), Delivery::config(&json));
        let taken = ask_through(live, &self.env, config, within, &mut missed).await;
        for outcome in missed {
            if self.generation() == from {
                self.take(outcome).await;
            }
        }
        taken.map_err(|why| why.to_string())?;
        tracing::info!(plugin = self.parts.setting.name, "another configuration");
        // Instances to come begin with it.
        self.parts.opening.config = json;
        Ok(())
    }

    async fn replace(&mut self, file: PluginFile) -> Result<(), LoadError> {
        let (loader, setting) = (Arc::clone(&self.parts.loader), self.parts.setting.clone());
        let loading = tokio::task::spawn_blocking(move || loader.load(&file, &setting));
        let loaded = loading.await.map_err(|error| LoadError::System(error.to_string()))??;
        if loaded.info.kinds != self.loaded.info.kinds {
            let text = "its kinds are others than those of the version before";
            return Err(LoadError::Kind(text.into()));
        }
        let (mut next, _) = self.open_instance(&loaded).await?;
        if let Err(error) = self.hand_over(&loaded, &mut next).await {
            next.close().await;
            return Err(error);
        }
        self.swap(loaded, next).await;
        Ok(())
    }

    /// Gives a new instance the state of the old, and asks it whether all is well.
    async fn hand_over(&mut self, loaded: &Loaded, next: &mut Live) -> Result<(), LoadError> {
        let within = Nanos(self.env.now().0 + 2 * PLUGIN_OPEN_MS * MS);
        // What the new one does before it is in service counts for nothing.
        let mut missed = Vec::new();
        if let Some(bytes) = self.export(loaded.info.min_state_version, within).await? {
            let import = Delivery::import_state(self.loaded.info.state_version, bytes);
            let imported = ask_through(next, &self.env, import, within, &mut missed).await;
            if let Err(why) = imported {
                tracing::info!(%why, "state not taken; the new version begins without");
            }
        }
        let health = Delivery::health();
        let well = ask_through(next, &self.env, health, within, &mut missed).await;
        well.map(drop).map_err(|why| LoadError::Open(format!("not well: {why}")))
    }

    /// The state of the instance in service, if a version that takes states from `oldest` on can
    /// have it. The instance goes on, and what it does meanwhile counts.
    async fn export(&mut self, oldest: u32, within: Nanos) -> Result<Option<Vec<u8>>, LoadError> {
        let from = self.generation();
        let Some(old) = &mut self.live else { return Ok(None) };
        if self.loaded.info.state_version < oldest {
            return Ok(None);
        }
        let (mut missed, export) = (Vec::new(), Delivery::export_state());
        let exported = ask_through(old, &self.env, export, within, &mut missed).await;
        for outcome in missed {
            self.take(outcome).await;
            if self.generation() != from {
                let text = "the version in service was taken back meanwhile; try again";
                return Err(LoadError::System(text.into()));
            }
        }
        match exported {
            Ok(bytes) if bytes.len() <= PLUGIN_STATE_BYTES_MAX => return Ok(Some(bytes)),
            Ok(bytes) => tracing::warn!(bytes = bytes.len(), "state too big; begins without"),
            Err(why) => tracing::info!(%why, "no state; the new version begins without"),
        }
        Ok(None)
    }

    async fn swap(&mut self, loaded: Loaded, next: Live) {
        let old = self.live.take();
        self.abandon();
        if let Some((before, _)) = self.before.take() {
            before.close().await;
        }
        if let Some(mut old) = old {
            self.quiet(&mut old).await;
            self.before = Some((old, Nanos(self.env.now().0 + PLUGIN_PROBATION_MS * MS)));
        }
        tracing::info!(plugin = self.parts.setting.name, sha256 = %loaded.sha256, "new version");
        self.loaded = loaded;
        self.live = Some(next);
        self.begin_roster();
        self.restarts.forget();
        self.restart_at = None;
        let loaded = &self.loaded;
        self.report.send_modify(|report| {
            report.set_loaded(loaded);
            report.end_tally();
            report.reloads += 1;
        });
        // Boxed, for a first event that ends in a fault leads back here.
        Box::pin(self.begin()).await;
    }

    /// Goes back to the version before, if it is still there: what replaced it failed.
    pub(super) async fn roll_back(&mut self, why: &str) {
        let Some((old, _)) = self.before.take() else { return };
        let failed = core::mem::replace(&mut self.loaded, old.loaded.clone());
        let plugin = &self.parts.setting.name;
        tracing::error!(plugin, sha256 = %failed.sha256, why, "on probation; going back");
        self.quarantine.put(failed.sha256, why, self.env.now());
        let live = self.live.take();
        self.abandon();
        if let Some(live) = live {
            live.close().await;
        }
        self.live = Some(old);
        self.begin_roster();
        let loaded = &self.loaded;
        self.report.send_modify(|report| {
            report.set_loaded(loaded);
            report.end_tally();
            report.rollbacks += 1;
            report.last_error = why.to_owned();
            report.state = State::Running;
        });
        Box::pin(self.begin()).await;
    }

    /// The new version has proved itself.
    pub(super) async fn end_probation(&mut self) {
        let Some((old, _)) = self.before.take() else { return };
        tracing::info!(plugin = self.parts.setting.name, "probation is over");
        old.close().await;
        self.report.send_modify(|report| report.state = State::Running);
    }
}
