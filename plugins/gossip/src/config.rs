//! The configuration, and what it and the node come to: who this node is in gossip, and whom it
//! asks first.

use crate::identity::{Peer, is_reachable};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use serde::Deserialize;
use zepto_sdk::{Error, Open};

/// Members that one node remembers, it itself included.
const MEMBERS_MAX: u32 = 10_000;
/// Memory that it needs without any.
const MEMORY_BASE: u64 = 1 << 20;
/// Where a node gossips that is told nothing else.
const BIND: &str = "0.0.0.0:7946";
const INTERVAL_MS: u64 = 1000;
const INTERVAL_MS_MIN: u64 = 20;
const INTERVAL_MS_MAX: u64 = 60_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    bind: Option<String>,
    advertise: Option<String>,
    seeds: Option<Vec<String>>,
    cluster: String,
    interval_ms: Option<u64>,
}

/// What the plugin works with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node; which life of it in gossip is not known yet.
    pub me: Peer,
    /// Where the socket is bound.
    pub bind: SocketAddr,
    /// Who is asked first.
    pub seeds: Vec<SocketAddr>,
    /// Name of the cluster.
    pub cluster: String,
    /// Time between two probes.
    pub interval: Duration,
    /// Other members, at most, and the bytes of memory for them.
    pub others_max: usize,
    pub memory: u64,
}

fn wrong(text: &str) -> Error {
    Error::invalid(format!("configuration: {text}"))
}

/// An address of the configuration.
fn address(key: &str, text: &str) -> Result<SocketAddr, Error> {
    let read = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    read.ok_or_else(|| {
        wrong(&format!(
            "{key} {text:?} is no IP address with a port; write \"{key}\": \"10.0.0.5:7946\""
        ))
    })
}

/// Host, without brackets, and port.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Some((bare.unwrap_or(host), port.parse().ok()?))
}

impl Settings {
    /// What a node is opened with, taken together.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn of(open: &Open<'_>) -> Result<Self, Error> {
        let config = parse(open.config)?;
        let bind = address("bind", config.bind.as_deref().unwrap_or(BIND))?;
        let me = me(open, config.advertise.as_deref(), bind)?;
        let mut seeds = match &config.seeds {
            Some(seeds) => {
                seeds.iter().map(|seed| address("seeds", seed)).collect::<Result<Vec<_>, _>>()?
            }
            None => {
                let seeds = open.seeds.iter().map(|seed| seed_at(seed, bind.port()));
                seeds.collect::<Result<_, _>>()?
            }
        };
        if let Some(seed) = seeds.iter().find(|seed| seed.is_ipv4() != bind.is_ipv4()) {
            return Err(families("seed", *seed, bind));
        }
        seeds.sort_unstable();
        seeds.dedup();
        seeds.retain(|seed| *seed != me.gossip);
        let interval_ms = config.interval_ms.unwrap_or(INTERVAL_MS);
        if !(INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&interval_ms) {
            return Err(wrong(&format!(
                "interval_ms {interval_ms}: {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX}"
            )));
        }
        Ok(Self {
            me,
            bind,
            seeds,
            cluster: config.cluster,
            interval: Duration::from_millis(interval_ms),
            others_max: open.max_nodes.min(MEMBERS_MAX).saturating_sub(1) as usize,
            memory: match open.mem_limit_bytes {
                0 => u64::MAX,
                limit => limit.saturating_sub(MEMORY_BASE),
            },
        })
    }
}

fn parse(json: &str) -> Result<Config, Error> {
    if json.is_empty() {
        return Ok(Config::default());
    }
    serde_json::from_str(json).map_err(|error| {
        wrong(&format!(
            "{error}; write {{\"bind\": \"0.0.0.0:7946\", \"advertise\": \"10.0.0.5:7946\", \
             \"seeds\": [\"10.0.0.1:7946\"], \"cluster\": \"name\", \"interval_ms\": 1000}}, or \
             only some of it"
        ))
    })
}

/// This node, at the address that others reach its gossip at.
fn me(open: &Open<'_>, advertise: Option<&str>, bind: SocketAddr) -> Result<Peer, Error> {
    let (host, port) = split(open.address)
        .ok_or_else(|| Error::invalid(format!("address {:?} is not host:port", open.address)))?;
    let own = host.parse::<IpAddr>().ok();
    let gossip = match (advertise, own) {
        (Some(text), _) => address("advertise", text)?,
        (None, Some(ip)) => SocketAddr::new(ip, bind.port()),
        (None, None) => {
            return Err(wrong(&format!(
                "the node's own address {:?} is no IP address; write \"advertise\": \
                 \"10.0.0.5:{}\" with the one that others reach it at",
                open.address,
                bind.port()
            )));
        }
    };
    if !is_reachable(gossip) {
        return Err(wrong(&format!(
            "nobody reaches this node at {gossip}; write \"advertise\": \"10.0.0.5:{}\" with the \
             address that others reach it at",
            bind.port()
        )));
    }
    if gossip.is_ipv4() != bind.is_ipv4() {
        return Err(families("advertise", gossip, bind));
    }
    let host = if own == Some(gossip.ip()) { "" } else { host };
    let (id, incarnation) = (open.node_id.into(), open.incarnation);
    let me = Peer { id, incarnation, life: 0, gossip, host: host.into(), port };
    let text = || format!("node {:?} at {:?} is nothing to tell", open.node_id, open.address);
    if me.is_sound() { Ok(me) } else { Err(Error::invalid(text())) }
}

fn families(key: &str, address: SocketAddr, bind: SocketAddr) -> Error {
    let other = if bind.is_ipv4() { "[::]" } else { "0.0.0.0" };
    let port = bind.port();
    wrong(&format!(
        "{key} {address} is not of the same family as the socket {bind}; write \"bind\": \
         \"{other}:{port}\""
    ))
}

/// Where the node behind a `--seed` gossips, if it does so at the same port as this one.
fn seed_at(seed: &str, port: u16) -> Result<SocketAddr, Error> {
    let ip = split(seed).and_then(|(host, _)| host.parse::<IpAddr>().ok());
    let ip = ip.ok_or_else(|| {
        wrong(&format!(
            "seed {seed:?} is no IP address with a port, and gossip knows no names; write \
             \"seeds\": [\"10.0.0.1:{port}\"]"
        ))
    })?;
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: &str, address: &str, seeds: &[&str]) -> Result<Settings, String> {
        let seeds = seeds.to_vec();
        let open = Open { config, address, seeds, node_id: "a", incarnation: 7, ..Open::default() };
        let open = Open { max_nodes: 20_000, mem_limit_bytes: 8 << 20, ..open };
        Settings::of(&open).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_but_the_address_and_the_seeds_of_the_node_is_enough() {
        let seeds = ["10.0.0.1:9000", "10.0.0.5:9000", "10.0.0.2:9001", "10.0.0.1:9002"];
        let settings = settings("", "10.0.0.5:9000", &seeds).unwrap();
        assert_eq!(settings.bind.to_string(), "0.0.0.0:7946");
        assert_eq!(settings.me.gossip.to_string(), "10.0.0.5:7946");
        assert_eq!((settings.me.host(), settings.me.port), ("10.0.0.5".into(), 9000));
        assert_eq!((settings.me.id.as_str(), settings.me.incarnation), ("a", 7));
        let seeds: Vec<String> = settings.seeds.iter().map(SocketAddr::to_string).collect();
        assert_eq!(seeds, ["10.0.0.1:7946", "10.0.0.2:7946"], "each once, and not this node");
        assert_eq!((settings.interval, settings.others_max), (Duration::from_secs(1), 9_999));
        assert_eq!(settings.memory, 7 << 20);
    }

    #[test]
    fn all_of_it_can_be_written() {
        let config = r#"{"bind": "[::]:1", "advertise": "[fd00::1]:2", "seeds": ["[fd00::2]:3"],
            "cluster": "blue", "interval_ms": 100}"#;
        let settings = settings(config, "a.example:9000", &["not-used:9"]).unwrap();
        assert_eq!(settings.bind.to_string(), "[::]:1");
        assert_eq!(settings.me.gossip.to_string(), "[fd00::1]:2");
        assert_eq!((settings.me.host(), settings.me.port), ("a.example".into(), 9000));
        assert_eq!(settings.seeds, ["[fd00::2]:3".parse().unwrap()]);
        assert_eq!((settings.cluster.as_str(), settings.interval.as_millis()), ("blue", 100));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_take_write() {
        for (config, address, seed, text) in [
            ("{", "10.0.0.5:9", "", "EOF"),
            (r#"{"sed": []}"#, "10.0.0.5:9", "", "unknown field `sed`"),
            (r#"{"bind": "7946"}"#, "10.0.0.5:9", "", r#"write "bind": "10.0.0.5:7946""#),
            (r#"{"bind": "0.0.0.0:0"}"#, "10.0.0.5:9", "", r#"bind "0.0.0.0:0" is no IP"#),
            (r#"{"advertise": "a:1"}"#, "10.0.0.5:9", "", r#"write "advertise": "10.0"#),
            (r#"{"seeds": ["a:1"]}"#, "10.0.0.5:9", "", r#"seeds "a:1" is no IP address"#),
            (r#"{"interval_ms": 1}"#, "10.0.0.5:9", "", "interval_ms 1: 20 to 60000"),
            ("", "10.0.0.5", "", "is not host:port"),
            ("", "a.example:9", "", r#"write "advertise": "10.0.0.5:7946""#),
            ("", "0.0.0.0:9", "", "nobody reaches this node at 0.0.0.0:7946"),
            ("", "[fd00::1]:9", "", r#"write "bind": "[::]:7946""#),
            ("", "10.0.0.5:0", "", "is nothing to tell"),
            ("", "10.0.0.5:9", "b.example:9", r#"write "seeds": ["10.0.0.1:7946"]"#),
            ("", "10.0.0.5:9", "[fd00::1]:9", "seed [fd00::1]:7946 is not of the same family"),
        ] {
            let seeds = if seed.is_empty() { vec![] } else { vec![seed] };
            let error = settings(config, address, &seeds).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
