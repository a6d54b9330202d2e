//! The plugin as a node has it: under a manager, with real time, real TLS and the limits that it
//! has where nothing is said.

use crate::common::{RealEnv, loader, spawner, stock_module};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use zepto_apiserver::{DEADLINE, Double};
use zepto_plugin::config::{Limits, PluginConfig};
use zepto_plugin::context::Setting;
use zepto_plugin::file::PluginFile;
use zepto_plugin::grant::{Grant, Grants};
use zepto_plugin::manager::{Command, Handle, Manager, Parts, Report};
use zepto_plugin::runner::{Delivery, Opening};
use zepto_plugin::vet::Discovered;

/// The plugin's configuration, with short pauses.
fn configuration(double: &Double, more: &Value) -> String {
    let mut config = json!({
        "api": double.origin(),
        "namespace": "trading",
        "service": "zepto",
        "backoff_ms": [50, 400],
        "list_timeout_ms": 5_000,
    });
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config.to_string()
}

/// A node, as far as discovery goes: it is `zepto-0`.
pub struct Node {
    handle: Handle,
    directory: TempDir,
    manager: JoinHandle<()>,
}

impl Node {
    /// One that trusts the double and has its token.
    pub async fn start(double: &Double) -> Self {
        let token = double.store().token.clone();
        Self::start_with(double, &double.authority.pem, &token, &json!({})).await
    }

    /// One that trusts an authority and has a token; `more` is added to its configuration.
    pub async fn start_with(double: &Double, authority: &str, token: &str, more: &Value) -> Self {
        Self::start_as(stock_module("k8s"), double, authority, token, more).await
    }

    /// The same with the plugin in another file.
    pub async fn start_as(
        file: PluginFile,
        double: &Double,
        authority: &str,
        token: &str,
        more: &Value,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ca, origin) = (directory.path().join("ca.crt"), double.origin());
        std::fs::write(&ca, authority).unwrap();
        let secret = directory.path().join("token");
        std::fs::write(&secret, token).unwrap();
        let (ca, secret) = (ca.display(), secret.display());
        let slices = "apis/discovery.k8s.io/v1/namespaces/trading/endpointslices";
        let grants: Vec<Grant> = [
            format!("http=GET {origin}/{slices};ca={ca}"),
            format!("http=GET {origin}/api/v1/namespaces/trading/endpoints;ca={ca}"),
            format!("secret=token=file:{secret}@{origin}"),
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let setting = Setting {
            name: "k8s".into(),
            node_id: "zepto-0".into(),
            grants: Arc::new(Grants::of(&grants)),
            limits: Limits::default(),
            env: RealEnv::new(),
            waker: Arc::new(|| {}),
        };
        let parts = Parts {
            config: PluginConfig::of("k8s".into(), PathBuf::from("k8s.wasm")),
            setting,
            opening: Opening { config: configuration(double, more), ..Opening::default() },
            loader: Arc::clone(loader()),
            spawn: spawner(),
            directory: directory.path().to_owned(),
            fail: watch::channel(None).0,
        };
        let (manager, handle) = Manager::open(parts, file).await.unwrap();
        Self { handle, directory, manager: tokio::spawn(manager.run()) }
    }

    /// Puts another token where the first was.
    pub fn rotate_token(&self, token: &str) {
        std::fs::write(self.directory.path().join("token"), token).unwrap();
    }

    /// The ids of the others.
    pub fn others(&self) -> Vec<String> {
        self.handle.nodes.borrow().iter().map(|node| node.id.clone()).collect()
    }

    /// The others, once they are so many.
    pub async fn wait_count(&mut self, count: usize) -> Arc<Vec<Discovered>> {
        let waited = self.handle.nodes.wait_for(|nodes| nodes.len() == count);
        if let Ok(nodes) = tokio::time::timeout(DEADLINE, waited).await {
            return Arc::clone(&nodes.unwrap());
        }
        panic!("{count} nodes: {:?} {:?}", self.others(), self.report());
    }

    /// Waits until the others are these.
    pub async fn wait_others(&mut self, want: &[&str]) -> Arc<Vec<Discovered>> {
        let waited = self.handle.nodes.wait_for(|nodes| {
            let ids = nodes.iter().map(|node| node.id.as_str());
            ids.eq(want.iter().copied())
        });
        if let Ok(nodes) = tokio::time::timeout(DEADLINE, waited).await {
            return Arc::clone(&nodes.unwrap());
        }
        panic!("{want:?}: {:?} {:?}", self.others(), self.report());
    }

    /// What is told about the plugin.
    pub fn report(&self) -> Report {
        self.handle.report.borrow().clone()
    }

    /// What is told about the plugin, once that is enough.
    pub async fn wait_report(&mut self, is_enough: impl Fn(&Report) -> bool) -> Report {
        let waited = self.handle.report.wait_for(|report| is_enough(report));
        if let Ok(report) = tokio::time::timeout(DEADLINE, waited).await {
            return report.unwrap().clone();
        }
        panic!("{:?}", self.report());
    }

    /// Has the host ask for a full answer.
    pub async fn resync(&self) {
        let tell = Command::Tell(Delivery::resync());
        assert!(self.handle.commands.send(tell).await.is_ok());
    }

    /// Gives it another configuration.
    pub async fn configure(&self, double: &Double, more: &Value) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let configure = Command::Configure(configuration(double, more), reply);
        assert!(self.handle.commands.send(configure).await.is_ok());
        tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap()
    }

    /// Waits until one of the others has an address.
    pub async fn wait_address(&mut self, address: &str) {
        let waited = self.handle.nodes.wait_for(|nodes| {
            let mut addresses = nodes.iter().map(Discovered::address);
            addresses.any(|known| known == address)
        });
        tokio::time::timeout(DEADLINE, waited).await.expect(address).unwrap();
    }

    /// Ends it. Whatever happened, the plugin lived through it.
    pub async fn stop(self) -> Report {
        let (reply, stopped) = oneshot::channel();
        assert!(self.handle.commands.send(Command::Stop(reply)).await.is_ok());
        tokio::time::timeout(DEADLINE, stopped).await.unwrap().unwrap();
        self.manager.await.unwrap();
        let report = self.handle.report.borrow().clone();
        assert!(report.faults.is_empty() && report.restarts == 0, "{report:?}");
        assert!(report.refusals().is_empty(), "{report:?}");
        report
    }
}
