//! The plugin's own configuration, checked before anything is asked.

use serde::Deserialize;

/// Longest time that may be configured, ms.
const MS_MAX: u32 = 600_000;
const DAY_S: u32 = 86_400;
/// What a whole configuration looks like.
const EXAMPLE: &str =
    r#"{"api": "https://10.96.0.1:443", "namespace": "trading", "service": "zepto"}"#;

/// Which objects are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// EndpointSlices, or Endpoints where there are none.
    #[default]
    Auto,
    /// `discovery.k8s.io/v1` EndpointSlices.
    EndpointSlices,
    /// Core `v1` Endpoints.
    Endpoints,
}

/// The port of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a port's name, or its number")]
pub enum Port {
    /// This one, whatever the service says.
    Number(u16),
    /// The one that the service calls so.
    Name(String),
}

/// The configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The API server, `https://host:port`.
    pub api: String,
    /// Where the service is.
    pub namespace: String,
    /// The service whose pods are the nodes.
    pub service: String,
    /// Which port; see [`crate::port::choose`].
    pub port: Option<Port>,
    /// Which objects are asked for.
    pub source: Source,
    /// Whether the host adds the token.
    pub token: bool,
    /// Seconds between two lists while all is well.
    pub resync_s: u32,
    /// First and longest pause after a failure, ms.
    pub backoff_ms: [u32; 2],
    /// Time for a page of a list, and for a watch to begin, ms.
    pub list_timeout_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api: String::new(),
            namespace: String::new(),
            service: String::new(),
            port: None,
            source: Source::Auto,
            token: true,
            resync_s: 300,
            backoff_ms: [1_000, 30_000],
            list_timeout_ms: 30_000,
        }
    }
}

impl Config {
    /// Reads and checks it.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub fn parse(json: &str) -> Result<Self, String> {
        let json = if json.trim().is_empty() { "{}" } else { json };
        let read = serde_json::from_str::<Self>(json);
        let mut config =
            read.map_err(|error| format!("configuration: {error}; write {EXAMPLE}"))?;
        // A port's name has a letter, so digits alone are a number.
        if let Some(Port::Name(name)) = &config.port
            && let Ok(number) = name.parse()
        {
            config.port = Some(Port::Number(number));
        }
        config.check().map_err(|wrong| format!("configuration: {wrong}"))?;
        let bare = config.api.trim_end_matches('/').len();
        config.api.truncate(bare);
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let given = [
            ("api", &self.api, "https://10.96.0.1:443"),
            ("namespace", &self.namespace, "trading"),
            ("service", &self.service, "zepto"),
        ];
        for (field, value, example) in given {
            if value.is_empty() {
                return Err(format!("{field} is missing; write \"{field}\": {example:?}"));
            }
        }
        let behind = self.api.strip_prefix("https://").or(self.api.strip_prefix("http://"));
        let authority = behind.map(|rest| rest.trim_end_matches('/')).unwrap_or_default();
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(format!("api: {:?} is not https://host:port", self.api));
        }
        for (field, value) in [("namespace", &self.namespace), ("service", &self.service)] {
            if !is_name(value) {
                return Err(format!("{field}: {value:?} is no name of Kubernetes (a-z, 0-9, -)"));
            }
        }
        match &self.port {
            Some(Port::Number(0)) => return Err("port: 0 is none; write 9000 or \"rpc\"".into()),
            Some(Port::Name(name)) if name.is_empty() => {
                return Err("port: an empty name; write 9000 or \"rpc\"".into());
            }
            _ => {}
        }
        let [first, longest] = self.backoff_ms;
        if !(10..=longest).contains(&first) || longest > MS_MAX {
            return Err(format!(
                "backoff_ms: [{first}, {longest}]; write the first and the longest pause, \
                 10 to {MS_MAX}"
            ));
        }
        if !(100..=MS_MAX).contains(&self.list_timeout_ms) {
            return Err(format!("list_timeout_ms: {}; 100 to {MS_MAX}", self.list_timeout_ms));
        }
        if !(1..=DAY_S).contains(&self.resync_s) {
            return Err(format!("resync_s: {}; 1 to {DAY_S}", self.resync_s));
        }
        Ok(())
    }
}

/// Whether it may name a namespace or a service; then it needs no encoding in a URL either.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= 63 && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = r#""api": "https://10.96.0.1:443", "namespace": "n", "service": "s""#;

    fn with(more: &str) -> Result<Config, String> {
        Config::parse(&format!("{{{GIVEN}{more}}}"))
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let config = with("").unwrap();
        assert_eq!((config.source, config.token, config.resync_s), (Source::Auto, true, 300));
        assert_eq!((config.backoff_ms, config.list_timeout_ms), ([1_000, 30_000], 30_000));
        assert_eq!(config.port, None);
        let more = r#", "source": "endpoints", "port": "rpc", "token": false"#;
        let config = with(more).unwrap();
        assert_eq!((config.source, config.token), (Source::Endpoints, false));
        assert_eq!(config.port, Some(Port::Name("rpc".into())));
        for number in [r#", "port": 9000"#, r#", "port": "9000""#] {
            assert_eq!(with(number).unwrap().port, Some(Port::Number(9000)));
        }
    }

    #[test]
    fn a_slash_at_the_end_of_the_api_is_none() {
        let json = r#"{"api": "https://[fd00::1]:6443/", "namespace": "n", "service": "s"}"#;
        assert_eq!(Config::parse(json).unwrap().api, "https://[fd00::1]:6443");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (json, text) in [
            ("", "api is missing; write \"api\": \"https://10.96.0.1:443\""),
            (r#"{"api": "https://a:1"}"#, "namespace is missing; write"),
            (r#"{"api": "https://a:1", "namespace": "n"}"#, "service is missing; write"),
            ("{", "EOF"),
        ] {
            let error = Config::parse(json).unwrap_err();
            assert!(error.starts_with("configuration: ") && error.contains(text), "{error}");
        }
        for (more, text) in [
            (r#", "servce": "x""#, "unknown field `servce`"),
            (r#", "source": "pods""#, "unknown variant `pods`"),
            (r#", "port": []"#, "a port's name, or its number"),
            (r#", "port": 70000"#, "a port's name, or its number"),
            (r#", "port": 0"#, "write 9000 or \"rpc\""),
            (r#", "port": "0""#, "port"),
            (r#", "backoff_ms": [2000, 1000]"#, "the first and the longest"),
            (r#", "backoff_ms": [0, 1000]"#, "the first and the longest"),
            (r#", "list_timeout_ms": 1"#, "list_timeout_ms"),
            (r#", "resync_s": 0"#, "resync_s"),
        ] {
            let error = with(more).err().unwrap_or_else(|| panic!("{more} is taken"));
            assert!(error.contains(text), "{more}: {error}");
        }
        for api in ["10.96.0.1:443", "https://", "https://a/b", "https://u@a", "ftp://a"] {
            let json = format!(r#"{{"api": "{api}", "namespace": "n", "service": "s"}}"#);
            assert!(Config::parse(&json).unwrap_err().contains("is not https://"), "{api}");
        }
        for name in ["Trading", "a/b", "-a", "a?b", "a b"] {
            let json = format!(r#"{{"api": "https://a", "namespace": "{name}", "service": "s"}}"#);
            assert!(Config::parse(&json).unwrap_err().contains("namespace"), "{name}");
        }
    }
}
