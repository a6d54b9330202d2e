//! What is asked of the API server.

use crate::config::Config;
use core::fmt::Write;

/// Time after which the server ends a watch, s. Shorter than the host waits.
const WATCH_S: u32 = 290;

/// Objects that say which pods are behind a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `discovery.k8s.io/v1`.
    EndpointSlice,
    /// Core `v1`.
    Endpoints,
}

impl Kind {
    /// What an object calls itself.
    pub fn object(self) -> &'static str {
        match self {
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
        }
    }

    /// What a list calls itself.
    pub fn list(self) -> &'static str {
        match self {
            Self::EndpointSlice => "EndpointSliceList",
            Self::Endpoints => "EndpointsList",
        }
    }

    /// What a role calls them: the resource and its group.
    pub fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::EndpointSlice => ("endpointslices", "discovery.k8s.io"),
            Self::Endpoints => ("endpoints", ""),
        }
    }
}

/// Those of the service, without the query's other parts.
fn collection(config: &Config, kind: Kind) -> String {
    let Config { api, namespace, service, .. } = config;
    match kind {
        Kind::EndpointSlice => format!(
            "{api}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
        ),
        Kind::Endpoints => format!(
            "{api}/api/v1/namespaces/{namespace}/endpoints\
             ?fieldSelector=metadata.name%3D{service}"
        ),
    }
}

/// A page of a list; `more` is where the page before ended.
pub fn list(config: &Config, kind: Kind, limit: u32, more: &str) -> String {
    let mut url = format!("{}&limit={limit}", collection(config, kind));
    if !more.is_empty() {
        url.push_str("&continue=");
        encode(&mut url, more);
    }
    url
}

/// What changes after a version.
pub fn watch(config: &Config, kind: Kind, version: &str) -> String {
    let mut url = format!(
        "{}&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion=",
        collection(config, kind)
    );
    encode(&mut url, version);
    url
}

/// Percent-encodes all but what needs no encoding anywhere.
fn encode(url: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _written = write!(url, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_watches_are_asked_as_the_api_has_them() {
        let json = r#"{"api":"https://10.96.0.1:443","namespace":"trading","service":"zepto"}"#;
        let config = Config::parse(json).unwrap();
        assert_eq!(
            list(&config, Kind::EndpointSlice, 500, ""),
            "https://10.96.0.1:443/apis/discovery.k8s.io/v1/namespaces/trading/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3Dzepto&limit=500"
        );
        assert_eq!(
            list(&config, Kind::Endpoints, 50, "a+/=&%\u{e9}"),
            "https://10.96.0.1:443/api/v1/namespaces/trading/endpoints\
             ?fieldSelector=metadata.name%3Dzepto&limit=50&continue=a%2B%2F%3D%26%25%C3%A9"
        );
        assert_eq!(
            watch(&config, Kind::EndpointSlice, "1 2"),
            "https://10.96.0.1:443/apis/discovery.k8s.io/v1/namespaces/trading/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3Dzepto\
             &watch=1&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=1%202"
        );
    }
}
