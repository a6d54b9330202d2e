//! One node as an object told of it, packed into one allocation: there may be ten thousand.

use std::net::IpAddr;
use zepto_sdk::{Node, is_dns_name, is_node_id};

/// What the host takes; one node beyond it would have the whole answer refused.
const META_BYTES_MAX: usize = 4096;
/// Bytes of memory that a member takes beyond its texts.
const OVERHEAD_BYTES: usize = 32;

/// A kind of address; of two for one node, the lesser is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
    Name,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Id, host and meta.
    text: Box<str>,
    id_len: u16,
    host_len: u16,
    port: u16,
    family: Family,
}

impl Member {
    /// A node with the first of the ids that may be one; nothing when its address is none.
    pub fn new(ids: [&str; 2], host: &str, port: u16, (zone, uid): (&str, &str)) -> Option<Self> {
        let family = family(host)?;
        let id = ids.into_iter().find(|id| is_node_id(id)).unwrap_or(host);
        if !is_node_id(id) || port == 0 {
            return None;
        }
        let mut text = [id, host].concat();
        let meta = meta(zone, uid);
        if meta.len() <= META_BYTES_MAX {
            text.push_str(&meta);
        }
        let (id_len, host_len) = (id.len() as u16, host.len() as u16);
        Some(Self { text: text.into_boxed_str(), id_len, host_len, port, family })
    }

    /// Its parts: id, host, meta.
    fn parts(&self) -> (&str, &str, &str) {
        let (id, rest) = self.text.split_at_checked(self.id_len.into()).unwrap_or_default();
        let (host, meta) = rest.split_at_checked(self.host_len.into()).unwrap_or_default();
        (id, host, meta)
    }

    /// What it is called.
    pub fn id(&self) -> &str {
        self.parts().0
    }

    /// By what members are sorted: of two of one id, the first is taken.
    pub fn rank(&self) -> impl Ord + '_ {
        let (id, host, meta) = self.parts();
        (id, self.family, host, self.port, meta)
    }

    /// As the host wants it.
    pub fn node(&self) -> Node<'_> {
        let (id, host, meta) = self.parts();
        Node { id, host, meta, port: self.port, ..Node::default() }
    }

    /// Bytes of its texts.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.text.len() + OVERHEAD_BYTES
    }
}

/// A JSON object of what is known, or nothing.
fn meta(zone: &str, uid: &str) -> String {
    let mut meta = String::new();
    for (key, value) in [("zone", zone), ("uid", uid)] {
        if value.is_empty() {
            continue;
        }
        meta.push(if meta.is_empty() { '{' } else { ',' });
        meta.push_str(&format!("\"{key}\":{}", serde_json::Value::from(value)));
    }
    if !meta.is_empty() {
        meta.push('}');
    }
    meta
}

/// Nothing when it is neither an address nor a name.
fn family(host: &str) -> Option<Family> {
    match host.parse() {
        Ok(IpAddr::V4(_)) => return Some(Family::V4),
        Ok(IpAddr::V6(_)) => return Some(Family::V6),
        Err(_) => {}
    }
    is_dns_name(host).then_some(Family::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(ids: [&str; 2], host: &str) -> Option<Member> {
        Member::new(ids, host, 9000, ("", ""))
    }

    #[test]
    fn the_id_is_the_first_that_may_be_one() {
        let long = "x".repeat(zepto_sdk::abi::NODE_ID_BYTES + 1);
        for (ids, id) in [
            (["zepto-0", "host"], "zepto-0"),
            (["", "host"], "host"),
            ([long.as_str(), ""], "10.0.0.1"),
            (["a b", "a\u{1b}"], "10.0.0.1"),
        ] {
            assert_eq!(member(ids, "10.0.0.1").unwrap().id(), id);
        }
    }

    #[test]
    fn what_the_host_would_refuse_is_no_member() {
        for host in ["", "1.2.3", "a b", "-a", "../x", "a..b", &"a".repeat(64)] {
            assert!(member(["a", ""], host).is_none(), "{host:?}");
        }
        assert!(Member::new(["a", ""], "10.0.0.1", 0, ("", "")).is_none());
        for host in ["10.0.0.1", "fd00::1", "a.example", "a.example."] {
            assert_eq!(member(["a", ""], host).unwrap().node().host, host);
        }
    }

    #[test]
    fn meta_is_json_whatever_the_zone_is_called() {
        let meta = |zone, uid| {
            let member = Member::new(["a", ""], "10.0.0.1", 1, (zone, uid)).unwrap();
            member.node().meta.to_owned()
        };
        assert_eq!(meta("", ""), "");
        assert_eq!(meta("eu-1a", "u"), r#"{"zone":"eu-1a","uid":"u"}"#);
        assert_eq!(meta("", "u"), r#"{"uid":"u"}"#);
        assert_eq!(meta("a\"},\n", ""), r#"{"zone":"a\"},\n"}"#);
        assert_eq!(meta(&"z".repeat(META_BYTES_MAX), ""), "", "too long to be told");
    }

    #[test]
    fn of_one_id_the_ipv4_address_ranks_first() {
        let of = |id, host| member([id, ""], host).unwrap();
        let ranked = [of("a", "9.9.9.9"), of("a", "::1"), of("a", "name"), of("b", "1.1.1.1")];
        assert!(ranked.is_sorted_by(|a, b| a.rank() < b.rank()));
    }
}
