//! What a plugin may do. Nothing, unless it is granted: `--grant NAME:GRANT`, or `grants` in the
//! configuration.
//!
//! | grant | what it allows |
//! |---|---|
//! | `random` | random bytes |
//! | `metric` | metrics of its own |
//! | `kv` or `kv=1MiB` | keys and values that survive restarts |
//! | `http=GET,POST https://host:443/path*;ca=FILE` | requests that match; the star is a prefix |
//! | `secret=NAME=file:PATH@https://host:443` | `${secret:NAME}` is filled in for that origin |
//! | `udp=bind ADDR peers NET,NET` | sockets there, to and from these networks |

mod http;
mod secret;
mod udp;

pub use http::{HttpGrant, Origin, Target};
pub use secret::SecretGrant;
pub use udp::UdpGrant;

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zepto_abi::plugin::{CAP_HTTP, CAP_KV, CAP_METRIC, CAP_RANDOM, CAP_UDP};
use zepto_core::limits::{PLUGIN_KV_BYTES_DEFAULT, PLUGIN_KV_BYTES_MAX};
use zepto_core::size::Size;

/// One thing that a plugin may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Random bytes.
    Random,
    /// Metrics of its own.
    Metric,
    /// Keys and values of so many bytes.
    Kv(Size),
    /// Requests that match.
    Http(HttpGrant),
    /// A secret that the host fills in.
    Secret(SecretGrant),
    /// A socket.
    Udp(UdpGrant),
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once('=').map_or((text, None), |(k, r)| (k, Some(r)));
        let needed = || rest.ok_or_else(|| format!("grant {text:?}: write {kind}=..."));
        match (kind, rest) {
            ("random", None) => Ok(Self::Random),
            ("metric", None) => Ok(Self::Metric),
            ("kv", None) => Ok(Self::Kv(Size(PLUGIN_KV_BYTES_DEFAULT))),
            ("kv", Some(size)) => match size.parse::<Size>()? {
                size if size.0 <= PLUGIN_KV_BYTES_MAX => Ok(Self::Kv(size)),
                _ => Err(format!("grant {text:?}: at most {}", Size(PLUGIN_KV_BYTES_MAX))),
            },
            ("http", _) => needed()?.parse().map(Self::Http),
            ("secret", _) => needed()?.parse().map(Self::Secret),
            ("udp", _) => needed()?.parse().map(Self::Udp),
            _ => Err(format!(
                "grant {text:?}: there is random, metric, kv[=SIZE], http=METHODS URL, \
                 secret=NAME=file:PATH@ORIGIN and udp=bind ADDR peers NETWORKS"
            )),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Metric => f.write_str("metric"),
            Self::Kv(size) => write!(f, "kv={size}"),
            Self::Http(grant) => write!(f, "http={grant}"),
            Self::Secret(grant) => write!(f, "secret={grant}"),
            Self::Udp(grant) => write!(f, "udp={grant}"),
        }
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// All that one plugin may do.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Bytes of keys and values; none is not granted.
    pub kv_bytes: Option<u64>,
    /// Requests that match one of these.
    pub http: Vec<HttpGrant>,
    /// Secrets that the host fills in.
    pub secrets: Vec<SecretGrant>,
    /// Sockets.
    pub udp: Vec<UdpGrant>,
    caps: u64,
}

impl Grants {
    /// The sum of grants.
    pub fn of(grants: &[Grant]) -> Self {
        let mut all = Self::default();
        for grant in grants {
            all.caps |= match grant {
                Grant::Random => CAP_RANDOM,
                Grant::Metric => CAP_METRIC,
                Grant::Kv(size) => {
                    all.kv_bytes = Some(all.kv_bytes.unwrap_or_default().max(size.0));
                    CAP_KV
                }
                Grant::Http(grant) => {
                    all.http.push(grant.clone());
                    CAP_HTTP
                }
                Grant::Udp(grant) => {
                    all.udp.push(grant.clone());
                    CAP_UDP
                }
                Grant::Secret(grant) => {
                    all.secrets.push(grant.clone());
                    0
                }
            };
        }
        all
    }

    /// The capabilities, `CAP_*`.
    pub fn caps(&self) -> u64 {
        self.caps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_they_are_printed() {
        for text in [
            "random",
            "metric",
            "kv=1MiB",
            "http=GET https://10.96.0.1:443/api/v1/*;ca=/var/run/ca.crt",
            "http=GET,POST http://consul.service:8500/v1/health",
            "secret=token=file:/var/run/token@https://10.96.0.1:443",
            "udp=bind 0.0.0.0:7946 peers 10.0.0.0/16,fd00::/8",
        ] {
            let grant: Grant = text.parse().unwrap();
            assert_eq!(grant.to_string(), text);
        }
        assert_eq!("kv".parse(), Ok(Grant::Kv(Size(1 << 20))));
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for text in ["", "all", "random=1", "kv=1TiB", "kv=x", "http", "udp", "secret", "http="] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[test]
    fn capabilities_are_what_the_grants_say() {
        let of = |texts: &[&str]| {
            let grants: Vec<Grant> = texts.iter().map(|text| text.parse().unwrap()).collect();
            Grants::of(&grants)
        };
        assert_eq!(of(&[]).caps(), 0);
        assert_eq!(of(&["kv", "random"]).caps(), CAP_KV | CAP_RANDOM);
        assert_eq!(of(&["secret=t=file:/t@https://a:1"]).caps(), 0, "a secret is no request");
        assert_eq!(of(&["kv=1KiB", "kv=2KiB"]).kv_bytes, Some(2048));
    }
}
