//! All plugins of a node.

use crate::config::PluginConfig;
use crate::context::Setting;
use crate::error::LoadError;
use crate::file::PluginFile;
use crate::grant::Grants;
use crate::loader::Loader;
use crate::manager::{Command, Handle, Manager, NoReply, Parts, Report, Spawn};
use crate::runner::{Delivery, Opening};
use crate::stock;
use crate::vet::Discovered;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use zepto_abi::plugin::KIND_DISCOVERY;
use zepto_core::env::Env;
use zepto_core::limits::{PLUGIN_STOP_MS, PLUGINS_MAX};

/// What plugins work with on a node.
pub struct Surroundings {
    /// The node's text id.
    pub node_id: String,
    /// What they are told about the node; the configuration is each one's own.
    pub opening: Opening,
    /// Where compiled modules and kept values are.
    pub directory: PathBuf,
    /// Whether native code may be loaded.
    pub allow_native: bool,
    /// Whether handlers of signals may be installed.
    pub signals: bool,
    /// Clocks and chance.
    pub env: Arc<dyn Env>,
    /// Starts threads.
    pub spawn: Spawn,
    /// Told when a plugin that the node must not be without has failed.
    pub fail: watch::Sender<Option<String>>,
}

/// Why the plugins of a node did not start.
#[derive(Clone, Debug, thiserror::Error)]
#[error("plugin {name}: {error}")]
pub struct StartPluginError {
    /// Which.
    pub name: String,
    /// Why.
    pub error: LoadError,
}

/// The plugins of a node.
pub struct Plugins {
    handles: BTreeMap<String, Handle>,
    /// The file that each is read from again.
    files: Mutex<BTreeMap<String, PathBuf>>,
}

/// Loads what plugins work with. Its clock must run before [`start`].
///
/// # Errors
/// When the directory cannot be used.
pub fn loader(around: &Surroundings) -> Result<Arc<Loader>, LoadError> {
    Loader::new(&around.directory, around.allow_native, around.signals).map(Arc::new)
}

/// Opens all plugins.
///
/// # Errors
/// The first that does not open; the others are gone with it.
pub async fn start(
    configs: &[PluginConfig],
    around: &Surroundings,
    loader: &Arc<Loader>,
) -> Result<(Plugins, Vec<Manager>), StartPluginError> {
    let mut handles: BTreeMap<String, Handle> = BTreeMap::new();
    let (mut files, mut managers) = (BTreeMap::new(), Vec::new());
    for config in configs.iter().take(PLUGINS_MAX) {
        let name = config.called();
        let failed = |error| StartPluginError { name: name.clone(), error };
        let (manager, handle) = open(config, around, loader).await.map_err(failed)?;
        let is_discovery = |handle: &Handle| handle.kinds & (1 << KIND_DISCOVERY) != 0;
        if let Some((other, _)) = handles.iter().find(|(_, other)| is_discovery(other))
            && is_discovery(&handle)
        {
            let text = format!("{other} is for discovery already, and there is one for that");
            return Err(failed(LoadError::Kind(text)));
        }
        tracing::info!(plugin = name, file = %config.file.display(), "opened");
        managers.push(manager);
        handles.insert(name.clone(), handle);
        files.insert(name, config.file.clone());
    }
    Ok((Plugins { handles, files: Mutex::new(files) }, managers))
}

async fn open(
    config: &PluginConfig,
    around: &Surroundings,
    loader: &Arc<Loader>,
) -> Result<(Manager, Handle), LoadError> {
    let file = read(&config.file).await?;
    if let Some(wanted) = config.sha256
        && wanted != file.sha256
    {
        let (found, wanted) = (file.sha256.to_string(), wanted.to_string());
        return Err(LoadError::Hash { found, wanted });
    }
    let setting = Setting {
        name: config.called(),
        node_id: around.node_id.clone(),
        grants: Arc::new(Grants::of(&config.grants)),
        limits: config.limits,
        env: Arc::clone(&around.env),
        waker: Arc::new(|| {}),
    };
    let parts = Parts {
        config: config.clone(),
        setting,
        opening: Opening { config: config.json(), ..around.opening.clone() },
        loader: Arc::clone(loader),
        spawn: Arc::clone(&around.spawn),
        directory: around.directory.clone(),
        fail: around.fail.clone(),
    };
    Manager::open(parts, file).await
}

/// Reads a file, which may take long or never end: not on a thread that others need.
async fn read(path: &Path) -> Result<PluginFile, LoadError> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || stock::open(&path));
    reading.await.map_err(|error| LoadError::System(error.to_string()))?
}

impl Plugins {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, PathBuf>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told about each.
    pub fn reports(&self) -> Vec<Report> {
        self.handles.values().map(|handle| handle.report.borrow().clone()).collect()
    }

    /// The nodes that discovery knows of; nothing when there is no discovery plugin.
    pub fn nodes(&self) -> Option<watch::Receiver<Arc<Vec<Discovered>>>> {
        self.discovery().map(|handle| handle.nodes.clone())
    }

    fn discovery(&self) -> Option<&Handle> {
        self.of_kind(KIND_DISCOVERY).map(|(_, handle)| handle)
    }

    /// The first plugin of a kind, with its name.
    pub fn of_kind(&self, kind: u32) -> Option<(&str, &Handle)> {
        let mut handles = self.handles.iter();
        let found = handles.find(|(_, handle)| handle.kinds & (1 << kind) != 0);
        found.map(|(name, handle)| (name.as_str(), handle))
    }

    fn handle(&self, name: &str) -> Result<&Handle, String> {
        self.handles.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.handles.keys().map(String::as_str).collect();
            match names.is_empty() {
                true => "this node has no plugins".to_owned(),
                false => format!("there is no plugin {name:?}; there are {}", names.join(", ")),
            }
        })
    }

    /// Takes a new version of a plugin into service; the text says which. From then on this is the
    /// file that is read again, as long as the node lives.
    ///
    /// # Errors
    /// Why not; the old one is as it was.
    pub async fn reload(&self, name: &str, path: &Path) -> Result<String, String> {
        let handle = self.handle(name)?;
        let file = read(path).await.map_err(|error| error.to_string())?;
        let (reply, answer) = oneshot::channel();
        send(&handle.commands, Command::Reload(Box::new(file), reply)).await?;
        let reloaded = answer.await.unwrap_or_else(|_| Err("the plugin is stopping".into()))?;
        self.files().insert(name.to_owned(), path.to_owned());
        Ok(reloaded)
    }

    /// Reads all files again, and takes those that changed into service; a plugin whose
    /// configuration is another now is told.
    pub async fn reload_all(&self, configs: &[PluginConfig]) {
        let files = self.files().clone();
        for (name, path) in &files {
            match self.reload(name, path).await {
                Ok(text) => tracing::info!(plugin = name, text, "reloaded"),
                Err(error) => tracing::error!(plugin = name, error, "not reloaded"),
            }
        }
        for config in configs {
            if let Err(error) = self.configure(config).await {
                let plugin = config.called();
                tracing::error!(plugin, error, "it goes on with the configuration that it has");
            }
        }
    }

    async fn configure(&self, config: &PluginConfig) -> Result<(), String> {
        let handle = self.handle(&config.called())?;
        let (reply, answer) = oneshot::channel();
        send(&handle.commands, Command::Configure(config.json(), reply)).await?;
        answer.await.unwrap_or_else(|_| Err("the plugin is stopping".into()))
    }

    /// Takes what discovery wants to remove; the text says what that was. `None` when nothing is
    /// held.
    ///
    /// # Errors
    /// When there is no discovery plugin.
    pub async fn confirm(&self) -> Result<Option<String>, String> {
        let handle = self.discovery().ok_or("this node has no discovery plugin")?;
        let (reply, answer) = oneshot::channel();
        send(&handle.commands, Command::Confirm(reply)).await?;
        answer.await.map_err(|_| "the plugin is stopping".into())
    }

    /// Asks the plugin of a kind a question.
    ///
    /// # Errors
    /// Why there is no answer; [`NoReply::Down`] also when there is no such plugin.
    pub async fn ask(&self, kind: u32, delivery: Delivery) -> Result<Vec<u8>, NoReply> {
        let (_, handle) = self.of_kind(kind).ok_or(NoReply::Down)?;
        let (reply, answer) = oneshot::channel();
        let sent = handle.commands.send(Command::Ask(delivery, reply)).await;
        sent.map_err(|_| NoReply::Down)?;
        answer.await.unwrap_or(Err(NoReply::Down))
    }

    /// Stops all of them, all at once, and waits for it.
    pub async fn stop(&self) {
        let stops = self.handles.values().map(|handle| async {
            let (reply, stopped) = oneshot::channel();
            if send(&handle.commands, Command::Stop(reply)).await.is_ok() {
                // A manager that is gone has stopped.
                let _gone = stopped.await;
            }
        });
        let all = futures_util::future::join_all(stops);
        let within = Duration::from_millis(2 * PLUGIN_STOP_MS);
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::error!("a plugin does not stop; it is left behind");
        }
    }
}

async fn send(commands: &mpsc::Sender<Command>, command: Command) -> Result<(), String> {
    commands.send(command).await.map_err(|_| "the plugin has been stopped".into())
}
