//! A node that is a plugin's manager and nothing else.

use crate::common::{RealEnv, loader, spawner, stock_module};
use core::time::Duration;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zepto_plugin::config::PluginConfig;
use zepto_plugin::context::Setting;
use zepto_plugin::file::PluginFile;
use zepto_plugin::grant::{Grant, Grants};
use zepto_plugin::manager::{Command, Handle, Manager, Parts};
use zepto_plugin::runner::Opening;
use zepto_plugin::vet::Discovered;

const DEADLINE: Duration = Duration::from_secs(20);

/// Addresses that nobody uses, of this moment.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let sockets: Vec<UdpSocket> =
        (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
}

/// A manager that runs.
pub struct Node {
    pub handle: Handle,
    id: String,
    directory: TempDir,
    running: JoinHandle<()>,
}

impl Node {
    /// A node that remembers nothing.
    pub async fn open(
        number: usize,
        incarnation: u64,
        place: SocketAddr,
        seeds: &[SocketAddr],
    ) -> Self {
        Self::again(tempfile::tempdir().unwrap(), number, incarnation, place, seeds).await
    }

    /// A node that runs the plugin as another file.
    pub async fn open_as(
        file: PluginFile,
        number: usize,
        place: SocketAddr,
        seeds: &[SocketAddr],
    ) -> Self {
        Self::of(file, tempfile::tempdir().unwrap(), number, 1, place, seeds).await
    }

    /// A node with the directory of a life before.
    pub async fn again(
        directory: TempDir,
        number: usize,
        incarnation: u64,
        place: SocketAddr,
        seeds: &[SocketAddr],
    ) -> Self {
        Self::of(stock_module("gossip"), directory, number, incarnation, place, seeds).await
    }

    async fn of(
        file: PluginFile,
        directory: TempDir,
        number: usize,
        incarnation: u64,
        place: SocketAddr,
        seeds: &[SocketAddr],
    ) -> Self {
        let id = format!("n{number}");
        let grant = format!("udp=bind {place} peers 127.0.0.0/8");
        let grants = [grant.as_str(), "random", "kv", "metric"];
        let grants: Vec<Grant> = grants.iter().map(|text| text.parse().unwrap()).collect();
        let config = PluginConfig {
            grants: grants.clone(),
            config: serde_json::json!({ "bind": place, "seeds": seeds, "interval_ms": 100 }),
            ..PluginConfig::of("gossip".into(), "gossip.wasm".into())
        };
        let setting = Setting {
            name: "gossip".into(),
            node_id: id.clone(),
            grants: Arc::new(Grants::of(&grants)),
            limits: config.limits,
            env: RealEnv::new(),
            waker: Arc::new(|| {}),
        };
        let opening = Opening {
            incarnation,
            address: format!("127.0.0.1:{}", 9000 + number),
            config: config.json(),
            ..Opening::default()
        };
        let parts = Parts {
            config,
            setting,
            opening,
            loader: Arc::clone(loader()),
            spawn: spawner(),
            directory: directory.path().to_owned(),
            fail: watch::channel(None).0,
        };
        let (manager, handle) = Manager::open(parts, file).await.unwrap();
        Self { handle, id, directory, running: tokio::spawn(manager.run()) }
    }

    /// Waits until it knows these, itself among them, each as `id@incarnation`.
    pub async fn knows(&mut self, wanted: &[&str]) {
        let told = |node: &Discovered| format!("{}@{}", node.id, node.incarnation);
        let own = format!("{}@", self.id);
        let wanted: Vec<&str> =
            wanted.iter().copied().filter(|node| !node.starts_with(&own)).collect();
        let is_so = |nodes: &Arc<Vec<Discovered>>| {
            nodes.iter().map(told).eq(wanted.iter().map(|node| (*node).to_owned()))
        };
        if timeout(DEADLINE, self.handle.nodes.wait_for(is_so)).await.is_err() {
            let known: Vec<String> = self.handle.nodes.borrow().iter().map(told).collect();
            let report = self.handle.report.borrow().clone();
            panic!("{} knows {known:?} and not {wanted:?}; {report:#?}", self.id);
        }
    }

    /// Stops it, and gives back what it leaves behind.
    pub async fn stop(self) -> TempDir {
        let (reply, stopped) = oneshot::channel();
        self.handle.commands.send(Command::Stop(reply)).await.unwrap();
        timeout(DEADLINE, stopped).await.unwrap().unwrap();
        self.running.await.unwrap();
        self.directory
    }

    /// It is gone, as if the machine were.
    pub fn kill(self) -> TempDir {
        self.running.abort();
        self.directory
    }
}
