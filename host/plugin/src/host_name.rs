//! What may stand where a host is named.

use core::str::FromStr;
use std::net::IpAddr;
use zepto_core::limits::PLUGIN_HOST_BYTES_MAX;

/// Bytes of one label of a DNS name (RFC 1035, 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Whether it is an IP address, without brackets, or a DNS name.
pub(crate) fn is_host(host: &str) -> bool {
    // Most are addresses that begin with a digit, or hold a colon.
    let may_be_address = host.contains(':') || host.starts_with(|c: char| c.is_ascii_digit());
    if may_be_address && IpAddr::from_str(host).is_ok() {
        return true;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name of digits and dots alone is an address that went wrong.
    (1..=PLUGIN_HOST_BYTES_MAX).contains(&name.len())
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
