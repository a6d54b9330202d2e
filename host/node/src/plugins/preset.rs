//! What the stock plugins get where the operator says nothing: grants and configuration that follow
//! from where the node runs. A preset is bound to the content of the stock module; another file of
//! the same name gets nothing.

use crate::config::{Config, ConfigError};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use zepto_plugin::config::PluginConfig;
use zepto_plugin::grant::Grant;
use zepto_plugin::stock;

/// Where Kubernetes mounts what a pod may prove itself with.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Distance between a node's port and its gossip's.
const GOSSIP_PORT_ABOVE: u16 = 1000;

/// What a preset looks at.
pub struct Place<'a> {
    /// Environment variables.
    pub var: &'a dyn Fn(&str) -> Option<String>,
    /// Where Kubernetes mounts the service account.
    pub service_account: PathBuf,
}

impl<'a> Place<'a> {
    /// The place where this process runs.
    pub fn of_process(var: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { var, service_account: SERVICE_ACCOUNT.into() }
    }
}

fn wrong(text: String) -> ConfigError {
    ConfigError::Value { key: "plugins", text }
}

/// Fills in what the stock plugins need.
///
/// # Errors
/// What cannot be found out, and how to say it.
pub fn apply(config: &mut Config, place: &Place<'_>) -> Result<(), ConfigError> {
    let mut plugins = core::mem::take(&mut config.plugins);
    let applied = plugins.iter_mut().try_for_each(|plugin| {
        // A file that cannot be read is told when it is loaded.
        let file = stock::open(&plugin.file).ok();
        let Some(file) = file else { return Ok(()) };
        let asked = plugin.grants.len();
        match stock::which(file.sha256) {
            Some("k8s") => kubernetes(config, plugin, place)?,
            Some("gossip") => gossip(config, plugin)?,
            _ => return Ok(()),
        }
        if plugin.grants.len() > asked {
            // What is granted here is for this content and no other, also when it is reloaded.
            plugin.sha256.get_or_insert(file.sha256);
        }
        Ok(())
    });
    config.plugins = plugins;
    applied
}

/// The plugin's configuration, as far as it is said, as an object.
fn object(plugin: &PluginConfig) -> Result<Map<String, Value>, ConfigError> {
    match &plugin.config {
        Value::Null => Ok(Map::new()),
        Value::Object(object) => Ok(object.clone()),
        _ => Err(wrong(format!("{}: its configuration is no object", plugin.called()))),
    }
}

fn grant(plugin: &mut PluginConfig, texts: &[String]) -> Result<(), ConfigError> {
    for text in texts {
        let grant: Grant = text.parse().map_err(wrong)?;
        tracing::info!(plugin = plugin.called(), %grant, "granted to the stock module");
        plugin.grants.push(grant);
    }
    Ok(())
}

fn kubernetes(
    config: &mut Config,
    plugin: &mut PluginConfig,
    place: &Place<'_>,
) -> Result<(), ConfigError> {
    let mut own = object(plugin)?;
    let host = (place.var)("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty());
    if let Some(host) = &host {
        let ports = ["KUBERNETES_SERVICE_PORT_HTTPS", "KUBERNETES_SERVICE_PORT"];
        let port = ports.iter().find_map(|name| (place.var)(name));
        let port: u16 = port.and_then(|port| port.parse().ok()).unwrap_or(443);
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        own.entry("api").or_insert_with(|| json!(format!("https://{bracketed}:{port}")));
        listen_towards(config, host, port)?;
    }
    if !own.contains_key("namespace") {
        let path = place.service_account.join("namespace");
        let read = std::fs::read_to_string(&path);
        let read = read.map_err(|error| not_in_a_pod(&path, &error.to_string()))?;
        own.insert("namespace".into(), json!(read.trim()));
    }
    if !own.contains_key("service") {
        let service = service_of(&config.node_id).ok_or_else(|| {
            wrong(format!(
                "the pod {:?} has no ordinal, so its service is not known; give --plugin-config \
                 {}='{{\"service\": \"NAME\"}}'",
                config.node_id,
                plugin.called()
            ))
        })?;
        own.insert("service".into(), json!(service));
    }
    let Some(api) = own.get("api").and_then(Value::as_str).map(str::to_owned) else {
        return Err(not_in_a_pod(Path::new("KUBERNETES_SERVICE_HOST"), "not set"));
    };
    let namespace = own.get("namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
    plugin.config = Value::Object(own);
    if !plugin.grants.is_empty() {
        return Ok(());
    }
    let files = place.service_account.display();
    grant(
        plugin,
        &[
            format!(
                "http=GET {api}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices;\
                 ca={files}/ca.crt"
            ),
            format!("http=GET {api}/api/v1/namespaces/{namespace}/endpoints;ca={files}/ca.crt"),
            format!("secret=token=file:{files}/token@{api}"),
        ],
    )
}

fn not_in_a_pod(what: &Path, why: &str) -> ConfigError {
    wrong(format!(
        "k8s: {}: {why}; outside a pod say where the API server is: --plugin-config \
         k8s='{{\"api\": \"https://HOST:443\", \"namespace\": ..., \"service\": ...}}' and --grant \
         k8s:http=... (zepto-host run --help)",
        what.display()
    ))
}

/// The service that a pod of a stateful set is behind: its name without the ordinal.
fn service_of(pod: &str) -> Option<&str> {
    let (service, ordinal) = pod.rsplit_once('-')?;
    let is_ordinal = !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
    (is_ordinal && !service.is_empty()).then_some(service)
}

/// Where nothing is said, a node in a pod listens at its address towards the API server.
fn listen_towards(config: &mut Config, host: &str, port: u16) -> Result<(), ConfigError> {
    let default = Config::default().listen;
    let (_, own_port) = default.rsplit_once(':').unwrap_or(("", "9000"));
    let is_open = config.listen.starts_with("0.0.0.0:") || config.listen.starts_with("[::]:");
    if config.listen != default && !(is_open && config.advertise.is_empty()) {
        return Ok(());
    }
    let local = local_towards(host, port);
    let local = local.map_err(|error| wrong(format!("k8s: no way to {host}:{port}: {error}")))?;
    if is_open {
        config.advertise = SocketAddr::new(local, 0).to_string();
        tracing::info!(advertise = config.advertise, "the address towards the API server");
    } else {
        let own_port = own_port.parse().unwrap_or_default();
        config.listen = SocketAddr::new(local, own_port).to_string();
        tracing::info!(listen = config.listen, "the address towards the API server");
    }
    Ok(())
}

/// The local address of the way to another one; nothing is sent.
fn local_towards(host: &str, port: u16) -> std::io::Result<IpAddr> {
    let mut last = std::io::Error::other("it has no address");
    for address in (host, port).to_socket_addrs()? {
        let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let connected = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(address)?;
            socket.local_addr()
        });
        match connected {
            Ok(local) => return Ok(local.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn gossip(config: &Config, plugin: &mut PluginConfig) -> Result<(), ConfigError> {
    let mut own = object(plugin)?;
    if !own.contains_key("bind") {
        let listen: SocketAddr = resolve(&config.listen)?;
        if listen.port() == 0 {
            return Err(wrong(
                "gossip: with a port of the node that is not known yet, say its own: \
                 --plugin-config gossip='{\"bind\": \"127.0.0.1:7946\"}'"
                    .into(),
            ));
        }
        own.insert("bind".into(), json!(gossip_address(listen).to_string()));
    }
    if !own.contains_key("seeds") {
        let seeds = config.seeds.iter().map(|seed| resolve(seed).map(gossip_address));
        let seeds = seeds.map(|seed| seed.map(|seed| json!(seed.to_string())));
        own.insert("seeds".into(), Value::Array(seeds.collect::<Result<_, _>>()?));
    }
    let bind = own.get("bind").and_then(Value::as_str).unwrap_or_default().to_owned();
    plugin.config = Value::Object(own);
    if !plugin.grants.is_empty() {
        return Ok(());
    }
    let udp = format!("udp=bind {bind} peers 0.0.0.0/0,::/0");
    grant(plugin, &[udp, "random".into(), "kv".into(), "metric".into()])
}

/// Where a node's gossip is: a fixed distance from its own port.
fn gossip_address(node: SocketAddr) -> SocketAddr {
    let port = node.port();
    let port = port.checked_add(GOSSIP_PORT_ABOVE).unwrap_or(port - GOSSIP_PORT_ABOVE);
    SocketAddr::new(node.ip(), port)
}

fn resolve(address: &str) -> Result<SocketAddr, ConfigError> {
    let found = address.to_socket_addrs().map(|mut found| found.next());
    match found {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(wrong(format!("gossip: {address} leads nowhere"))),
        Err(error) => Err(wrong(format!("gossip: {address}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(plugin: &str, node_id: &str) -> Config {
        let plugins = vec![PluginConfig::of(String::new(), plugin.into())];
        Config { node_id: node_id.into(), plugins, ..Config::default() }
    }

    /// In a pod whose API server is this machine.
    fn in_a_pod(config: &mut Config) -> Result<(), ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("namespace"), "trading\n").unwrap();
        let var = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("127.0.0.1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("6443".to_owned()),
            _ => None,
        };
        apply(config, &Place { var: &var, service_account: directory.path().into() })
    }

    #[test]
    fn in_a_pod_the_stock_module_needs_nothing_else() {
        let mut config = config("k8s.wasm", "zepto-0");
        in_a_pod(&mut config).unwrap();
        let plugin = &config.plugins[0];
        let own = json!({
            "api": "https://127.0.0.1:6443", "namespace": "trading", "service": "zepto",
        });
        assert_eq!(plugin.config, own);
        assert_eq!(plugin.grants.len(), 3);
        assert_eq!(plugin.sha256.and_then(stock::which), Some("k8s"), "for this content alone");
        let first = plugin.grants[0].to_string();
        assert!(
            first.starts_with(
                "http=GET https://127.0.0.1:6443/apis/discovery.k8s.io/v1/namespaces/trading/\
                 endpointslices;ca="
            ),
            "{first}"
        );
        assert_eq!(config.listen, "127.0.0.1:9000");
    }

    #[test]
    fn what_the_operator_says_stands() {
        let mut config = config("k8s.wasm", "pod");
        config.listen = "127.0.0.1:9100".into();
        config.plugins[0].config = json!({"service": "other", "port": "data"});
        config.plugins[0].grants = vec![Grant::Metric];
        in_a_pod(&mut config).unwrap();
        assert_eq!(config.plugins[0].config["service"], "other");
        assert_eq!(config.plugins[0].config["port"], "data");
        assert_eq!(config.plugins[0].grants, [Grant::Metric]);
        assert_eq!(config.plugins[0].sha256, None, "nothing was granted here");
        assert_eq!(config.listen, "127.0.0.1:9100");
    }

    #[test]
    fn what_is_not_known_is_an_error_that_says_how_to_say_it() {
        let error = in_a_pod(&mut config("k8s.wasm", "pod")).unwrap_err().to_string();
        assert!(error.contains("has no ordinal") && error.contains("--plugin-config"), "{error}");
        let none = |_: &str| None;
        let place = Place { var: &none, service_account: "/nowhere".into() };
        let error = apply(&mut config("k8s.wasm", "zepto-0"), &place).unwrap_err().to_string();
        assert!(error.contains("/nowhere/namespace") && error.contains("--grant"), "{error}");
    }

    #[test]
    fn another_module_of_the_same_name_gets_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k8s.wasm");
        std::fs::write(&path, b"\0asm\x01\0\0\0").unwrap();
        let mut config = config("k8s.wasm", "zepto-0");
        config.plugins[0].file = path;
        in_a_pod(&mut config).unwrap();
        assert!(config.plugins[0].grants.is_empty() && config.plugins[0].config.is_null());
    }

    #[test]
    fn a_service_is_a_pod_without_its_ordinal() {
        assert_eq!(service_of("zepto-0"), Some("zepto"));
        assert_eq!(service_of("my-zepto-12"), Some("my-zepto"));
        for pod in ["zepto", "-0", "zepto-", "zepto-a1"] {
            assert_eq!(service_of(pod), None, "{pod}");
        }
    }

    #[test]
    fn gossip_has_a_port_at_a_fixed_distance_and_the_nodes_seeds() {
        let mut config = config("gossip.wasm", "a");
        config.seeds = vec!["127.0.0.1:9001".into(), "127.0.0.1:65000".into()];
        apply(&mut config, &Place::of_process(&|_| None)).unwrap();
        let own = json!({
            "bind": "127.0.0.1:10000", "seeds": ["127.0.0.1:10001", "127.0.0.1:64000"],
        });
        assert_eq!(config.plugins[0].config, own);
        assert_eq!(
            config.plugins[0].grants[0].to_string(),
            "udp=bind 127.0.0.1:10000 peers 0.0.0.0/0,::/0"
        );
        config.plugins[0].config = Value::Null;
        config.listen = "127.0.0.1:0".into();
        let error = apply(&mut config, &Place::of_process(&|_| None)).unwrap_err().to_string();
        assert!(error.contains("\"bind\""), "{error}");
    }
}
