//! The configuration of a node: a TOML file, overridden by flags, checked as a whole.
//!
//! Every field has a default that works on one machine, except the node's id. An unknown key is an
//! error that names it; `--print-config` shows what is in force, in the same format.

use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zepto_control::raft::Times;
use zepto_core::detect::Profile;
use zepto_core::limits::{
    CONFIG_BYTES_MAX, COPIES_DEFAULT, COPIES_MAX, NODE_NAME_BYTES_MAX, PARTITION_BITS_DEFAULT,
    PARTITION_BITS_MAX, PLUGINS_MAX, SEEDS_MAX, SHARDS_MAX, WEIGHT_DEFAULT, WEIGHT_MAX,
};
use zepto_core::size::Size;
use zepto_plugin::config::PluginConfig;
use zepto_transport::ucx::LIBRARY;

/// What `admin` says when there is no admin HTTP.
pub const ADMIN_OFF: &str = "off";

/// A node's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node's text id, unique in the cluster. The host's name if it is empty.
    pub node_id: String,
    /// Where it listens: TCP for RPC, UDP on the same port for heartbeats. Port 0 picks one.
    pub listen: String,
    /// What others are told to connect to; the listening address if it is empty.
    pub advertise: String,
    /// Where the admin HTTP listens, TCP; `off` for none. Port 0 picks one.
    pub admin: String,
    /// Members to ask for the cluster; none is the bootstrap of a new one.
    pub seeds: Vec<String>,
    /// `shm`: shared memory between nodes of one machine, RPC to others. `ucx`: what UCX finds.
    pub transport: String,
    /// UCX's library, where the transport is `ucx`: a name that the loader finds, or a path.
    pub ucx_library: String,
    /// Memory for ticks.
    pub memory: Size,
    /// Identity, incarnation and, in one node, the control log.
    pub data_dir: PathBuf,
    /// File with the cluster secret: one key, or two while they are rotated. Without it there is
    /// neither authentication nor encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Threads that append ticks: 1, 2, 4, 8 or 16.
    pub shards: u16,
    /// Weight of this node's share; 100 is ordinary, 0 owns nothing.
    pub weight: u16,
    /// Failure zone.
    pub zone: String,
    /// Listen on an address that others can reach although there is no cluster secret.
    pub insecure_bind: bool,
    /// Load plugins of native code, which may do whatever the node may.
    pub allow_native: bool,
    /// Nodes that discovery must know of, this one included, before they found a new cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<u16>,
    /// How long to look for a seed that answers, in milliseconds.
    pub join_timeout_ms: u64,
    /// Set for the whole cluster by the node that bootstraps it.
    pub cluster: ClusterConfig,
    /// Failure detection.
    pub heartbeat: HeartbeatConfig,
    /// What is dropped to make room, and when.
    pub retention: RetentionConfig,
    /// What idle threads do.
    pub idle: IdleConfig,
    /// Whether it is a part of another program, whose signal handlers stay what they are.
    #[serde(skip)]
    pub embedded: bool,
    /// Whether that program runs the shards, by [`crate::Running::take_rounds`]. A node whose
    /// shards stand still sends no heartbeats, and is declared dead.
    #[serde(skip)]
    pub polled: bool,
    /// Policy plugins, `.wasm` or `.so`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginConfig>,
}

/// Decided once, at bootstrap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// 2^bits partitions.
    pub partition_bits: u8,
    /// Declared copies of every partition: 1 to 4. Ticks are acknowledged once so many nodes have
    /// them.
    pub copies: u8,
}

/// Failure detection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatConfig {
    /// Which times.
    pub profile: ProfileName,
}

/// The two profiles of the failure detector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileName {
    /// 1 s, suspect after 3 s, dead after 10 s.
    #[default]
    Default,
    /// 200 ms, suspect after 800 ms, dead after 2 s.
    Fast,
}

/// What is dropped to make room. Nothing, unless it is set: then ticks beyond the memory are
/// refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Newest ticks kept per symbol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticks_per_symbol: Option<u64>,
    /// Bytes kept in this node; the oldest go first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
    /// Age of event time kept, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// What a shard's thread does when there is nothing to do, in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdleConfig {
    /// Rounds of a processor pause.
    pub spins: u32,
    /// Rounds of giving the core away.
    pub yields: u32,
    /// Longest sleep without being woken, in microseconds.
    pub park_us: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_id: String::new(),
            listen: "127.0.0.1:9000".into(),
            advertise: String::new(),
            admin: ADMIN_OFF.into(),
            seeds: Vec::new(),
            transport: "shm".into(),
            ucx_library: LIBRARY.into(),
            memory: Size(1 << 30),
            data_dir: PathBuf::new(),
            secret_file: None,
            shards: 1,
            weight: WEIGHT_DEFAULT,
            zone: String::new(),
            insecure_bind: false,
            allow_native: false,
            expect: None,
            join_timeout_ms: 10_000,
            cluster: ClusterConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            retention: RetentionConfig::default(),
            idle: IdleConfig::default(),
            embedded: false,
            polled: false,
            plugins: Vec::new(),
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { partition_bits: PARTITION_BITS_DEFAULT, copies: COPIES_DEFAULT }
    }
}

impl Default for IdleConfig {
    fn default() -> Self {
        Self { spins: 64, yields: 256, park_us: 1000 }
    }
}

impl ProfileName {
    /// The times of consensus that go with it.
    pub const fn times(self) -> Times {
        match self {
            Self::Default => Times::DEFAULT,
            Self::Fast => Times::FAST,
        }
    }

    /// The times of the profile.
    pub const fn profile(self) -> Profile {
        match self {
            Self::Default => Profile::DEFAULT,
            Self::Fast => Profile::FAST,
        }
    }
}

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a configuration: bad TOML, an unknown key, a value of another type.
    #[error("{}: {text}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        text: String,
    },
    /// A value is not allowed.
    #[error("{key}: {text}")]
    Value {
        /// Which key.
        key: &'static str,
        /// Why, and what to do.
        text: String,
    },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is too large, or holds anything but a configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > CONFIG_BYTES_MAX {
            let text = format!("{bytes} bytes, a configuration has at most {CONFIG_BYTES_MAX}");
            return Err(ConfigError::Malformed { path: path.into(), text });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|text| ConfigError::Malformed { path: path.into(), text })
    }

    /// Reads text.
    ///
    /// # Errors
    /// Where and why it is no configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// The configuration as a file would say it.
    pub fn print(&self) -> String {
        // Every field is a plain value; a map with other keys would be needed to fail.
        toml::to_string(self).unwrap_or_default()
    }

    /// Checks every value and what they mean together.
    ///
    /// # Errors
    /// The first key that is wrong, and what to do about it.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_name("node_id", &self.node_id, 1)?;
        check_name("zone", &self.zone, 0)?;
        check_address("listen", &self.listen)?;
        if !self.advertise.is_empty() {
            check_address("advertise", &self.advertise)?;
        }
        if self.admin != ADMIN_OFF {
            check_address("admin", &self.admin)?;
        }
        for seed in &self.seeds {
            check_address("seeds", seed)?;
        }
        value("seeds", self.seeds.len() <= SEEDS_MAX, || format!("at most {SEEDS_MAX}"))?;
        self.check_transport()?;
        self.check_plugins()?;
        let shards = self.shards.is_power_of_two() && self.shards <= SHARDS_MAX;
        value("shards", shards, || "1, 2, 4, 8 or 16".into())?;
        value("weight", self.weight <= WEIGHT_MAX, || format!("0 to {WEIGHT_MAX}"))?;
        let bits = self.cluster.partition_bits;
        value("cluster.partition_bits", (1..=PARTITION_BITS_MAX).contains(&bits), || {
            format!("1 to {PARTITION_BITS_MAX}")
        })?;
        let copies = usize::from(self.cluster.copies);
        value("cluster.copies", (1..=COPIES_MAX).contains(&copies), || {
            format!("1 to {COPIES_MAX}")
        })?;
        value("memory", self.memory.0 >= 1 << 20, || "at least 1MiB".into())?;
        value("join_timeout_ms", self.join_timeout_ms > 0, || "more than 0".into())?;
        value("idle.park_us", (1..=1_000_000).contains(&self.idle.park_us), || {
            "1 to 1000000".into()
        })
    }

    /// Longest sleep of an idle shard.
    pub fn park(&self) -> Duration {
        Duration::from_micros(self.idle.park_us)
    }

    fn check_plugins(&self) -> Result<(), ConfigError> {
        value("plugins", self.plugins.len() <= PLUGINS_MAX, || format!("at most {PLUGINS_MAX}"))?;
        for (index, plugin) in self.plugins.iter().enumerate() {
            plugin.check().map_err(|text| ConfigError::Value { key: "plugins", text })?;
            let name = plugin.called();
            let twice = self.plugins.iter().take(index).any(|other| other.called() == name);
            value("plugins", !twice, || {
                format!("{name:?} is there twice; give one another name: --plugin NAME=FILE")
            })?;
        }
        value("expect", self.expect != Some(0), || "1 or more".into())?;
        value("expect", self.expect.is_none() || !self.plugins.is_empty(), || {
            "nodes are found by a discovery plugin only: give --plugin, or leave --expect out"
                .into()
        })
    }

    fn check_transport(&self) -> Result<(), ConfigError> {
        value("transport", ["shm", "ucx"].contains(&self.transport.as_str()), || {
            format!("{:?} is no transport; there are shm and ucx", self.transport)
        })
    }
}

fn value(key: &'static str, holds: bool, text: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Value { key, text: text() }) }
}

fn check_name(key: &'static str, name: &str, min: usize) -> Result<(), ConfigError> {
    let length = (min..=NODE_NAME_BYTES_MAX).contains(&name.len());
    value(key, length, || {
        format!("{min} to {NODE_NAME_BYTES_MAX} bytes, {name:?} has {}", name.len())
    })?;
    let plain = name.chars().all(|c| !c.is_whitespace() && !c.is_control());
    value(key, plain, || format!("{name:?} has white space or control characters"))
}

/// `host:port`, with IPv6 addresses in brackets.
fn check_address(key: &'static str, address: &str) -> Result<(), ConfigError> {
    let split = address.rsplit_once(':');
    let port = split.and_then(|(_, port)| port.parse::<u16>().ok());
    let host = split.map_or("", |(host, _)| host);
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let valid = port.is_some() && !host.is_empty() && (bracketed || !host.contains(':'));
    value(key, valid, || {
        format!("{address:?} is not host:port (an IPv6 address goes in brackets: [::1]:9000)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable() -> Config {
        Config { node_id: "a".into(), ..Config::default() }
    }

    #[test]
    fn what_is_printed_is_read_back_equal() {
        let config = Config {
            seeds: vec!["h:1".into(), "[::1]:2".into()],
            retention: RetentionConfig { bytes: Some(Size(5 << 30)), ..Default::default() },
            ..usable()
        };
        assert_eq!(Config::parse(&config.print()), Ok(config));
        assert!(usable().check().is_ok());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let error = Config::parse("node_id = \"a\"\nlissten = \"x\"\n").unwrap_err();
        assert!(error.contains("lissten") && error.contains("line 2"), "{error}");
        let nested = Config::parse("[heartbeat]\nprofil = \"fast\"\n").unwrap_err();
        assert!(nested.contains("profil"), "{nested}");
    }

    #[test]
    fn every_bad_value_names_its_key() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 16] = [
            ("node_id", |c| c.node_id.clear()),
            ("node_id", |c| c.node_id = "a b".into()),
            ("listen", |c| c.listen = "9000".into()),
            ("listen", |c| c.listen = "::1:9000".into()),
            ("advertise", |c| c.advertise = "host".into()),
            ("admin", |c| c.admin = "on".into()),
            ("seeds", |c| c.seeds = vec!["host:99999".into()]),
            ("transport", |c| c.transport = "tcp".into()),
            ("plugins", |c| c.plugins = vec![PluginConfig::of("a b".into(), "k8s.wasm".into())]),
            ("plugins", |c| {
                c.plugins = vec![PluginConfig::of("a".into(), "k8s.wasm".into()); 2];
            }),
            ("expect", |c| c.expect = Some(0)),
            ("expect", |c| c.expect = Some(3)),
            ("shards", |c| c.shards = 3),
            ("weight", |c| c.weight = 1001),
            ("cluster.copies", |c| c.cluster.copies = 5),
            ("memory", |c| c.memory = Size(1)),
        ];
        for (key, spoil) in cases {
            let mut config = usable();
            spoil(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }
}
