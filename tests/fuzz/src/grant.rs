//! What operators write about plugins: grants, limits, policies, URLs.

use zepto_plugin::config::{Limits, OnFailure, named};
use zepto_plugin::grant::{Grant, Target as Url};

use crate::Target;

/// See the module.
pub const TARGET: Target =
    Target { name: "grant", run, seeds, bytes_fixed: 64 << 10, bytes_per_byte: 512 };

/// Any text as each of them; what was read is printed, and read to the same.
pub fn run(input: &[u8]) {
    let Ok(text) = core::str::from_utf8(input) else { return };
    if let Ok(grant) = text.parse::<Grant>() {
        assert_eq!(grant.to_string().parse(), Ok(grant));
    }
    if let Ok(limits) = text.parse::<Limits>() {
        assert_eq!(limits.to_string().parse(), Ok(limits));
    }
    if let Ok(policy) = text.parse::<OnFailure>() {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    if let Ok(url) = text.parse::<Url>() {
        assert!(url.path.starts_with('/') && !url.path.split('/').any(|part| part == ".."));
        assert!(url.origin.port != 0 && !url.origin.host.contains(['@', '/', '\\']));
        let again: Url = format!("{}{}", url.origin, url.path_and_query).parse().expect("a URL");
        assert_eq!(again, url);
    }
    if let Ok(plugin) = named(text) {
        drop(plugin.check());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "http=GET,POST https://10.96.0.1:443/api/v1/*;ca=/ca.crt",
        "secret=token=file:/run/token@https://10.96.0.1:443",
        "udp=bind 0.0.0.0:7946 peers 10.0.0.0/16,fd00::/8",
        "kv=1MiB",
        "mem=8MiB,event=50ms,msg=4MiB,nodes=10000",
        "max=5/10m;backoff=1s..60s;then=keep-last",
        "https://[fd00::1]:6443/apis/x/y?watch=1&v=2",
        "http://host/a/b/../c",
        "name=/opt/k8s.wasm",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
