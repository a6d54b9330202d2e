//! A request is checked against the grants before anything is sent. Secrets are filled in only when
//! it is sent, into header values only, and for their own origin only.

use crate::grant::{Grants, SecretGrant, Target};
use crate::vet::Rejected;
use core::fmt;
use core::time::Duration;
use hyper::header::{HeaderName, HeaderValue};
use std::path::PathBuf;
use zepto_abi::plugin::PluginStatus;
use zepto_core::limits::{
    PLUGIN_HTTP_BODY_BYTES_DEFAULT, PLUGIN_HTTP_BODY_BYTES_MAX, PLUGIN_HTTP_HEADER_BYTES_MAX,
    PLUGIN_HTTP_HEADERS_MAX, PLUGIN_HTTP_TIMEOUT_MS, PLUGIN_HTTP_TIMEOUT_MS_MAX,
};
use zepto_message::Request;

/// Headers that the host sets, or that would change where a request goes or ends.
const HOSTS_OWN: [&str; 9] = [
    "host",
    "content-length",
    "connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "proxy-authorization",
    "expect",
];
const SECRET: &str = "${secret:";

/// A header's value, or how to make it.
#[derive(Clone)]
enum Value {
    Plain(HeaderValue),
    /// Text before, the secret, text after.
    Secret(String, SecretGrant, String),
}

/// A request that may be made.
pub struct Prepared {
    pub(super) method: hyper::Method,
    pub(super) target: Target,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
    pub(super) ca: Option<PathBuf>,
    pub(super) timeout: Duration,
    /// Bytes of the answer's body.
    pub(super) body_max: usize,
    /// Bytes of the message that the answer comes in.
    pub(super) message_max: usize,
    pub(super) is_stream: bool,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.target.origin, self.target.path_and_query)
    }
}

impl Prepared {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.headers.bytes + self.body.len()
    }
}

/// The headers of a request, secrets not filled in.
#[derive(Clone)]
pub(super) struct Headers {
    headers: Vec<(HeaderName, Value)>,
    bytes: usize,
}

impl Headers {
    fn check(request: &Request<'_>, target: &Target, grants: &Grants) -> Result<Self, Rejected> {
        let too_big = |text| Rejected { reason: "too_many", status: PluginStatus::TooBig, text };
        let count = request.headers.len();
        if count > PLUGIN_HTTP_HEADERS_MAX {
            return Err(too_big(format!("{count} headers, at most {PLUGIN_HTTP_HEADERS_MAX}")));
        }
        // Before anything is copied: the same bytes may be named many times.
        let bytes = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > PLUGIN_HTTP_HEADER_BYTES_MAX {
            let text = format!("headers of {bytes} bytes, at most {PLUGIN_HTTP_HEADER_BYTES_MAX}");
            return Err(too_big(text));
        }
        let headers =
            request.headers.iter().map(|(name, value)| header(name, value, target, grants));
        Ok(Self { headers: headers.collect::<Result<_, _>>()?, bytes })
    }

    /// The headers, secrets filled in. It reads files.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub fn fill(self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let fill = |(name, value)| {
            let value = match value {
                Value::Plain(value) => value,
                Value::Secret(before, grant, after) => {
                    let text = format!("{before}{}{after}", grant.read()?);
                    let mut value = HeaderValue::try_from(text).map_err(|e| e.to_string())?;
                    value.set_sensitive(true);
                    value
                }
            };
            Ok((name, value))
        };
        self.headers.into_iter().map(fill).collect()
    }
}

/// Checks a request. Its answer is to fit into a message.
///
/// # Errors
/// Why it is not made.
pub fn prepare(
    request: &Request<'_>,
    target: Target,
    grants: &Grants,
    message_max: usize,
) -> Result<Prepared, Rejected> {
    let allowed = grants.http.iter().find(|grant| grant.allows(request.method, &target));
    let Some(allowed) = allowed else {
        let text = format!("no grant for {} {}{}", request.method, target.origin, target.path);
        return Err(denied(text));
    };
    let elsewhere = [request.url.as_bytes(), request.body];
    if elsewhere.iter().any(|bytes| contains(bytes, SECRET.as_bytes())) {
        return Err(denied("a secret goes into a header's value, nowhere else".into()));
    }
    let wanted = match request.timeout_ms {
        0 => PLUGIN_HTTP_TIMEOUT_MS,
        ms => u64::from(ms).min(PLUGIN_HTTP_TIMEOUT_MS_MAX),
    };
    let method = hyper::Method::from_bytes(request.method.as_bytes());
    Ok(Prepared {
        method: method.map_err(|error| invalid(error.to_string()))?,
        headers: Headers::check(request, &target, grants)?,
        body: request.body.to_vec(),
        ca: allowed.ca.clone(),
        timeout: Duration::from_millis(wanted),
        body_max: match request.max_body as usize {
            0 => PLUGIN_HTTP_BODY_BYTES_DEFAULT,
            bytes => bytes.min(PLUGIN_HTTP_BODY_BYTES_MAX),
        },
        message_max,
        is_stream: request.is_stream,
        target,
    })
}

fn header(
    name: &str,
    value: &str,
    target: &Target,
    grants: &Grants,
) -> Result<(HeaderName, Value), Rejected> {
    let lower = name.to_ascii_lowercase();
    if HOSTS_OWN.contains(&lower.as_str()) {
        return Err(denied(format!("header {lower} is the host's")));
    }
    let name = HeaderName::try_from(lower).map_err(|error| invalid(error.to_string()))?;
    let Some((before, rest)) = value.split_once(SECRET) else {
        let value = HeaderValue::try_from(value).map_err(|error| invalid(error.to_string()))?;
        return Ok((name, Value::Plain(value)));
    };
    let Some((secret, after)) = rest.split_once('}') else {
        return Err(denied("a secret is not closed with }".into()));
    };
    if after.contains(SECRET) {
        return Err(denied("one secret in a header".into()));
    }
    let known = grants.secrets.iter().filter(|grant| grant.name == secret);
    let grant = known.clone().find(|grant| grant.origin == target.origin);
    let grant = grant.ok_or_else(|| {
        denied(match known.count() {
            0 => format!("no grant for secret {secret:?}"),
            _ => format!("secret {secret:?} is not for {}", target.origin),
        })
    })?;
    Ok((name, Value::Secret(before.into(), grant.clone(), after.into())))
}

fn denied(text: String) -> Rejected {
    Rejected { reason: "not_granted", status: PluginStatus::Denied, text }
}

fn invalid(text: String) -> Rejected {
    Rejected { reason: "malformed", status: PluginStatus::Invalid, text }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Grant;

    fn prepare_one(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Prepared, Rejected> {
        let grants: Vec<Grant> = [
            "http=GET,POST https://api:443/v1/*;ca=/ca.crt",
            "http=GET https://other:443/*",
            "secret=token=file:/no/such/file@https://api:443",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let method = if body.is_empty() { "GET" } else { "POST" };
        let headers = headers.to_vec();
        let request = Request { method, url, headers, body, ..Request::default() };
        prepare(&request, url.parse().unwrap(), &Grants::of(&grants), 1 << 20)
    }

    fn refused(url: &str, headers: &[(&str, &str)], body: &[u8], text: &str) {
        let wrong = prepare_one(url, headers, body).unwrap_err();
        assert!(wrong.text.contains(text), "{wrong}");
        assert_eq!(wrong.status, PluginStatus::Denied);
    }

    #[test]
    fn what_is_granted_is_prepared_with_its_certificates_and_limits() {
        let headers = [("Authorization", "Bearer ${secret:token}"), ("accept", "a/b")];
        let request = prepare_one("https://api/v1/x?y", &headers, b"").unwrap();
        assert_eq!(request.ca.as_deref(), Some("/ca.crt".as_ref()));
        assert_eq!(request.timeout, Duration::from_millis(PLUGIN_HTTP_TIMEOUT_MS));
        assert_eq!(request.body_max, PLUGIN_HTTP_BODY_BYTES_DEFAULT);
        // The secret is read when the request is made, so a rotated one is found.
        assert!(request.headers.fill().unwrap_err().contains("/no/such/file"));
    }

    #[test]
    fn a_secret_goes_to_its_own_origin_in_a_header_and_nowhere_else() {
        let header = [("authorization", "Bearer ${secret:token}")];
        refused("https://other/x", &header, b"", "\"token\" is not for https://other:443");
        refused("https://api/v1/${secret:token}", &[], b"", "a header's value");
        refused("https://api/v1/x?t=${secret:token}", &[], b"", "a header's value");
        refused("https://api/v1/x", &[], b"t=${secret:token}", "a header's value");
        refused("https://api/v1/x", &[("a", "${secret:none}")], b"", "no grant for secret");
        refused("https://api/v1/x", &[("a", "${secret:token")], b"", "not");
    }

    #[test]
    fn headers_that_change_where_a_request_goes_are_the_hosts() {
        for name in ["Host", "content-length", "Connection", "Transfer-Encoding", "upgrade"] {
            refused("https://api/v1/x", &[(name, "x")], b"", "is the host's");
        }
        for (name, value) in [("a b", "x"), ("a", "x\r\nb: c"), ("", "x")] {
            let wrong = prepare_one("https://api/v1/x", &[(name, value)], b"").unwrap_err();
            assert_eq!(wrong.status, PluginStatus::Invalid, "{name:?}");
        }
    }

    #[test]
    fn headers_are_bounded_all_together_however_often_they_name_the_same_bytes() {
        let value = "x".repeat(2000);
        let headers = [("a", value.as_str()); 33];
        let wrong = prepare_one("https://api/v1/x", &headers, b"").unwrap_err();
        assert_eq!(wrong.status, PluginStatus::TooBig, "{wrong}");
        let request = prepare_one("https://api/v1/x", &headers[..32], b"").unwrap();
        assert_eq!(request.bytes(), 32 * 2001);
        let many = [("a", "x"); PLUGIN_HTTP_HEADERS_MAX + 1];
        assert!(prepare_one("https://api/v1/x", &many, b"").is_err());
    }

    #[test]
    fn what_is_not_granted_is_denied() {
        refused("https://api/v2/x", &[], b"", "no grant for GET https://api:443/v2/x");
        refused("http://169.254.169.254/latest", &[], b"", "no grant");
        refused("https://other/x", &[], b"body", "no grant for POST");
    }
}
