//! The nodes stand in the configuration: `{"nodes": [{"id": "a", "address": "10.0.0.1:9000"}]}`.
//!
//! It knows nothing of its own, says what it was told at its start, and again when it is told
//! something else or is asked.
#![deny(unsafe_code)]

use serde::Deserialize;
use zepto_sdk::{About, Error, Host, Node, Open, Plugin};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    nodes: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    /// `host:port`, IPv6 addresses in brackets.
    address: String,
}

/// The nodes, and how often they were told.
#[derive(Debug)]
pub struct Static {
    config: Config,
    revision: u64,
}

fn parse(json: &str) -> Result<Config, Error> {
    if json.is_empty() {
        return Ok(Config::default());
    }
    let config: Config = serde_json::from_str(json).map_err(|error| {
        Error::invalid(format!(
            "configuration: {error}; write {{\"nodes\": [{{\"id\": ..., \"address\": \
             \"host:port\"}}]}}"
        ))
    })?;
    for entry in &config.nodes {
        split(&entry.address)?;
    }
    Ok(config)
}

/// Host, without brackets, and port.
fn split(address: &str) -> Result<(&str, u16), Error> {
    let wrong = || Error::invalid(format!("configuration: {address:?} is not host:port"));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Ok((bare.unwrap_or(host), port.parse().map_err(|_| wrong())?))
}

impl Static {
    fn tell(&mut self, host: &Host) -> Result<(), Error> {
        self.revision += 1;
        let node = |entry: &'_ Entry| {
            let (host, port) = split(&entry.address)?;
            Ok((entry.id.clone(), host.to_owned(), port))
        };
        let nodes = self.config.nodes.iter().map(node).collect::<Result<Vec<_>, Error>>()?;
        let nodes: Vec<Node<'_>> = nodes
            .iter()
            .map(|(id, host, port)| Node { id, host, port: *port, ..Node::default() })
            .collect();
        host.emit_all(self.revision, &nodes)
    }
}

impl Plugin for Static {
    const ABOUT: About = About::discovery("static", env!("CARGO_PKG_VERSION"), "zepto");

    fn open(_: &Host, open: &Open<'_>) -> Result<Self, Error> {
        Ok(Self { config: parse(open.config)?, revision: 0 })
    }

    fn start(&mut self, host: &Host) -> Result<(), Error> {
        self.tell(host)
    }

    fn resync(&mut self, host: &Host) -> Result<(), Error> {
        self.tell(host)
    }

    fn config(&mut self, host: &Host, json: &str) -> Result<(), Error> {
        self.config = parse(json)?;
        self.tell(host)
    }
}

zepto_sdk::export!(Static);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_nodes_with_addresses_or_nothing() {
        assert!(parse("").unwrap().nodes.is_empty());
        let good = r#"{"nodes": [{"id": "a", "address": "[::1]:9000"}]}"#;
        assert_eq!(parse(good).unwrap().nodes.len(), 1);
        for (json, text) in [
            ("{", "EOF"),
            (r#"{"node": []}"#, "unknown field"),
            (r#"{"nodes": [{"id": "a"}]}"#, "missing field `address`"),
            (r#"{"nodes": [{"id": "a", "address": "host"}]}"#, "is not host:port"),
            (r#"{"nodes": [{"id": "a", "address": "host:99999"}]}"#, "is not host:port"),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
