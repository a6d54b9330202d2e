//! Which requests a plugin may have made, decided on the parsed URL: method, scheme, host, port and
//! path. And which addresses a name must not lead to.

use core::fmt;
use core::str::FromStr;
use hyper::Uri;
use std::net::IpAddr;
use std::path::PathBuf;
use zepto_message::is_host;

/// Methods that may be granted.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Where a server is: scheme, host and port. Names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Whether TLS is spoken there.
    pub is_tls: bool,
    /// IP address, without brackets, or DNS name.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl Origin {
    /// The host and port, as a `Host` header has them.
    pub fn authority(&self) -> String {
        let text = self.to_string();
        text.split_once("://").map_or_else(String::new, |(_, authority)| authority.to_owned())
    }

    /// Whether a connection may be made to an address that the host's name led to. An address that
    /// the operator wrote down may be anywhere; a name must not lead to this machine, to the
    /// link, or to where clouds keep their secrets.
    pub fn may_reach(&self, address: IpAddr) -> bool {
        if let Ok(literal) = self.host.parse::<IpAddr>() {
            return literal == address;
        }
        let address = address.to_canonical();
        let is_loopback = address.is_loopback();
        if self.host.trim_end_matches('.') == "localhost" {
            return is_loopback;
        }
        let is_link = match address {
            // 100.100.100.200 is a metadata service; 169.254.169.254 is on the link.
            IpAddr::V4(v4) => {
                v4.is_link_local() || v4.is_broadcast() || v4.octets() == [100, 100, 100, 200]
            }
            // fd00:ec2::254 is a metadata service.
            IpAddr::V6(v6) => {
                v6.is_unicast_link_local() || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
            }
        };
        !(is_loopback || is_link || address.is_unspecified() || address.is_multicast())
    }
}

/// A parsed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The server.
    pub origin: Origin,
    /// Path, without the query; begins with a slash.
    pub path: String,
    /// Path and query, as they are sent.
    pub path_and_query: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let wrong = |text: &str| format!("URL {url:?}: {text}");
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("begin it with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("no user or password in it"));
        }
        if url.contains(['#', '\\']) {
            return Err(wrong("no fragment and no backslash in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let behind = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match behind.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| wrong("that is no port"))?,
            None if is_tls => 443,
            None => 80,
        };
        // An address of version 6 has brackets, and nothing else has.
        if !is_host(host) || host.contains(':') != authority.host().starts_with('[') {
            return Err(wrong("its host is neither an IP address nor a DNS name"));
        }
        if port == 0 {
            return Err(wrong("it has no port"));
        }
        let path = uri.path().to_owned();
        check_path(&path).map_err(wrong)?;
        let path_and_query = uri.path_and_query().map_or("/", |both| both.as_str()).to_owned();
        let origin = Origin { is_tls, host: host.to_ascii_lowercase(), port };
        Ok(Self { origin, path, path_and_query })
    }
}

/// A path that means one thing to everybody who reads it: no dots that climb, nothing encoded that
/// changes what it is.
fn check_path(path: &str) -> Result<(), &'static str> {
    let lower = path.to_ascii_lowercase();
    if lower.contains("%2e") || lower.contains("%2f") || lower.contains("%5c") {
        return Err("no encoded dots and slashes in its path");
    }
    // Some servers take what is behind a semicolon for parameters of the segment.
    let mut segments = path.split('/').map(|it| it.split_once(';').map_or(it, |(name, _)| name));
    if segments.any(|segment| segment == "." || segment == "..") {
        return Err("no . and .. in its path");
    }
    Ok(())
}

/// Requests that may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGrant {
    methods: Vec<String>,
    target: Target,
    is_prefix: bool,
    /// Certificates that prove the server; the system's without it.
    pub ca: Option<PathBuf>,
}

impl HttpGrant {
    /// Whether a request is one of these.
    pub fn allows(&self, method: &str, target: &Target) -> bool {
        let path = if self.is_prefix {
            target.path.starts_with(&self.target.path)
        } else {
            target.path == self.target.path
        };
        path && target.origin == self.target.origin && self.methods.iter().any(|m| m == method)
    }
}

impl FromStr for HttpGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("grant http={text}: {why}; write http=GET https://host:443/path*;ca=FILE")
        };
        let (rule, options) = text.split_once(';').map_or((text, None), |(r, o)| (r, Some(o)));
        let ca = match options.map(|option| option.split_once('=')) {
            None => None,
            Some(Some(("ca", file))) if !file.is_empty() => Some(PathBuf::from(file)),
            Some(_) => return Err(wrong("the only option is ca=FILE")),
        };
        let (methods, url) = rule.split_once(' ').ok_or_else(|| wrong("no method"))?;
        let methods: Vec<String> = methods.split(',').map(str::to_owned).collect();
        if let Some(unknown) = methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
            return Err(wrong(&format!("{unknown:?} is no method")));
        }
        let is_prefix = url.ends_with('*');
        let target: Target = url.trim_end_matches('*').parse().map_err(|e: String| wrong(&e))?;
        if target.path != target.path_and_query {
            return Err(wrong("no query: every query is allowed"));
        }
        Ok(Self { methods, target, is_prefix, ca })
    }
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.methods.join(","), self.target.origin, self.target.path)?;
        if self.is_prefix {
            f.write_str("*")?;
        }
        self.ca.as_ref().map_or(Ok(()), |ca| write!(f, ";ca={}", ca.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(grant: &str, method: &str, url: &str) -> bool {
        let grant: HttpGrant = grant.parse().unwrap();
        url.parse::<Target>().is_ok_and(|target| grant.allows(method, &target))
    }

    #[test]
    fn only_what_is_granted_is_allowed() {
        let grant = "GET https://10.96.0.1:443/api/v1/*";
        assert!(allows(grant, "GET", "https://10.96.0.1/api/v1/pods?watch=1"));
        assert!(allows(grant, "GET", "https://10.96.0.1:443/api/v1/"));
        for (method, url) in [
            ("POST", "https://10.96.0.1/api/v1/pods"),
            ("GET", "http://10.96.0.1:443/api/v1/pods"),
            ("GET", "https://10.96.0.1:6443/api/v1/pods"),
            ("GET", "https://10.96.0.1/api/v2/pods"),
            ("GET", "https://10.96.0.1/api/v1/../v2"),
            ("GET", "https://10.96.0.1/api/v1/%2e%2e/v2"),
            ("GET", "https://10.96.0.1/api/v1/..%2fv2"),
            ("GET", "https://10.96.0.1/api/v1\\..\\v2"),
            ("GET", "https://10.96.0.1.evil.example/api/v1/"),
            ("GET", "https://10.96.0.1@evil.example/api/v1/"),
            ("GET", "https://evil.example#@10.96.0.1/api/v1/"),
            ("get", "https://10.96.0.1/api/v1/"),
        ] {
            assert!(!allows(grant, method, url), "{method} {url}");
        }
        assert!(!allows("GET http://a/x", "GET", "http://a/x/y"), "no star, no prefix");
        assert!(allows("GET http://A/x", "GET", "http://a:80/x?y"), "names have no case");
    }

    #[test]
    fn urls_that_are_none_are_refused() {
        for url in [
            "",
            "a",
            "/a",
            "ftp://a/",
            "http://",
            "http://:80/",
            "http://a:0/",
            "//a/",
            "http://a:99999/",
            "http://a b/",
            "http://u:p@a/",
        ] {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
        let v6: Target = "https://[fd00::1]:6443/a?b=c".parse().unwrap();
        assert_eq!((v6.origin.host.as_str(), v6.origin.port), ("fd00::1", 6443));
        assert_eq!(v6.origin.authority(), "[fd00::1]:6443");
        assert_eq!((v6.path.as_str(), v6.path_and_query.as_str()), ("/a", "/a?b=c"));
    }

    #[test]
    fn a_name_must_not_lead_to_this_machine_the_link_or_a_metadata_service() {
        let may = |host: &str, address: &str| {
            let origin = Origin { is_tls: false, host: host.into(), port: 80 };
            origin.may_reach(address.parse().unwrap())
        };
        for address in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "224.0.0.1",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
            "255.255.255.255",
        ] {
            assert!(!may("a.example", address), "{address}");
        }
        for address in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(may("a.example", address), "{address}");
        }
        assert!(may("localhost", "127.0.0.1") && !may("localhost", "10.0.0.1"));
        assert!(may("127.0.0.1", "127.0.0.1"), "the operator wrote it down");
        assert!(!may("10.0.0.1", "10.0.0.2"));
    }
}
