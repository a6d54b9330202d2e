//! What may stand where a node or a host is named: the same for the host, which refuses an answer
//! with anything else in it, and for plugins, which so know before they give one.

use core::net::IpAddr;
use core::str::FromStr;
use zepto_abi::plugin::{HOST_BYTES, NODE_ID_BYTES};

/// Bytes of one label of a DNS name (RFC 1035, 2.3.4).
const LABEL_BYTES: usize = 63;

/// Whether it is a node's text id: neither empty nor too long, no white space, nothing that
/// [`is_hidden`].
pub fn is_node_id(id: &str) -> bool {
    let length = (1..=NODE_ID_BYTES).contains(&id.len());
    length && !id.contains(|c: char| is_hidden(c) || c.is_whitespace())
}

/// Characters that do something to a terminal instead of being shown: control characters, and those
/// that change the order in which others are shown.
pub fn is_hidden(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    reorders || c.is_control()
}

/// Whether it is an IP address, without brackets, or a DNS name.
pub fn is_host(host: &str) -> bool {
    // Most are addresses that begin with a digit, or hold a colon.
    let may_be_address = host.contains(':') || host.starts_with(|c: char| c.is_ascii_digit());
    (may_be_address && IpAddr::from_str(host).is_ok()) || is_dns_name(host)
}

/// Whether it is a DNS name, with or without a dot at its end. A name of digits and dots alone is
/// an address that went wrong.
pub fn is_dns_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= HOST_BYTES
        && name.contains(|c: char| c.is_ascii_alphabetic())
        && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_hosts_and_nothing_else_is() {
        for host in ["10.0.0.1", "::1", "fd00::1", "a", "a-b.c_d.example", "a.example.", "1a"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", ".", "1.2.3", "999.1.1.1", "[::1]", "a b", "-a", "a-", "a..b", "ä", ";x"]
        {
            assert!(!is_host(host), "{host}");
        }
    }
}
