//! The node's plugins: started before it joins, told what it is, and asked who else there is.

mod found;
mod listed;
pub mod preset;
mod seeds;

pub(crate) use found::{Founding, may_found};
pub(crate) use listed::forget_unlisted;
pub(crate) use seeds::Seeds;

use crate::config::Config;
use crate::life::Life;
use crate::service::Service;
use crate::start_error::StartError;
use crate::wire::Wire;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use zepto_core::env::Env;
use zepto_plugin::config::PluginConfig;
use zepto_plugin::manager::Spawn;
use zepto_plugin::plugins::{self, Plugins, Surroundings};
use zepto_plugin::runner::Opening;

/// Directory of what plugins keep, below the node's data directory.
const DIRECTORY: &str = "plugins";
/// Stack of a plugin's thread: the plugin has a part of it, and running out of the rest would end
/// the process.
const STACK_BYTES: usize = 4 << 20;

/// Starts the plugins, and what they need; they are the service's from then on.
pub(crate) async fn start<T: Wire>(
    config: &Config,
    service: &Service<T>,
    data_dir: &Path,
    fail: &watch::Sender<Option<String>>,
    life: &mut Life,
) -> Result<(), StartError> {
    if config.plugins.is_empty() {
        return Ok(());
    }
    let around = surroundings(config, service, data_dir, fail);
    let failed = |error: zepto_plugin::error::LoadError| StartError::Plugin(error.to_string());
    let loader = plugins::loader(&around).map_err(failed)?;
    let ticker = Arc::clone(loader.engines().ticker());
    life.thread("zepto-ticks", move |stop| ticker.run(stop))?;
    let started = plugins::start(&config.plugins, &around, &loader).await;
    let (plugins, managers) = started.map_err(|error| StartError::Plugin(error.to_string()))?;
    for manager in managers {
        life.spawn(manager.run());
    }
    if service.plugins.set(plugins).is_err() {
        return Err(StartError::Plugin("started twice".into()));
    }
    Ok(())
}

fn surroundings<T: Wire>(
    config: &Config,
    service: &Service<T>,
    data_dir: &Path,
    fail: &watch::Sender<Option<String>>,
) -> Surroundings {
    Surroundings {
        node_id: service.name.clone(),
        opening: Opening {
            incarnation: service.incarnation.0,
            address: service.address.clone(),
            config: String::new(),
            seeds: config.seeds.clone(),
        },
        directory: data_dir.join(DIRECTORY),
        allow_native: config.allow_native,
        signals: !config.embedded,
        env: Arc::clone(&service.env) as Arc<dyn Env>,
        spawn: spawner(),
        fail: fail.clone(),
    }
}

/// Threads that nobody waits for: one that hangs in native code must not keep the node from ending.
fn spawner() -> Spawn {
    Arc::new(|name, run| {
        std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(run).map(drop)
    })
}

/// Reads the files of all plugins again, and takes those that changed into service, and their
/// configurations.
pub(crate) async fn reload(plugins: Option<&Plugins>, configs: &[PluginConfig]) {
    match plugins {
        Some(plugins) => plugins.reload_all(configs).await,
        None => tracing::info!("there are no plugins to read again"),
    }
}
