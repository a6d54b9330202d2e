//! A discovery plugin's answer: every node in it is one that a cluster could have.

use super::Rejected;
use serde::de::IgnoredAny;
use zepto_abi::plugin::{NODE_DEAD, NODE_ID_BYTES, PluginStatus};
use zepto_message::{Mode, Node, Nodes, is_host, is_node_id};

/// Bytes of what a plugin says of a node beyond its address.
const META_BYTES_MAX: usize = 4096;

/// A node that a discovery plugin knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Text id.
    pub id: String,
    /// IP address or DNS name.
    pub host: String,
    /// Port of RPC and heartbeats.
    pub port: u16,
    /// Which life of it; 0 when not known.
    pub incarnation: u64,
    /// JSON object, or empty.
    pub meta: String,
}

impl Discovered {
    /// `host:port`, with IPv6 addresses in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl From<Node<'_>> for Discovered {
    fn from(node: Node<'_>) -> Self {
        Self {
            id: node.id.to_owned(),
            host: node.host.to_owned(),
            port: node.port,
            incarnation: node.incarnation,
            meta: node.meta.to_owned(),
        }
    }
}

/// An answer that was checked.
#[derive(Clone, Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    nodes_max: u32,
}

impl Answer {
    /// Checks an answer: of at most so many nodes, newer than another.
    ///
    /// # Errors
    /// What is wrong with which node.
    pub fn check(bytes: Vec<u8>, nodes_max: u32, newer_than: u64) -> Result<Self, Rejected> {
        let nodes = Nodes::read(&bytes, nodes_max)?;
        if nodes.revision <= newer_than {
            let text = format!("revision {} after {newer_than}", nodes.revision);
            return Err(Rejected::new("stale", PluginStatus::Conflict, text));
        }
        for (index, node) in nodes.nodes().enumerate() {
            check_node(&node?).map_err(|wrong| Rejected {
                text: format!("node {index}: {}", wrong.text),
                ..wrong
            })?;
        }
        for id in nodes.removed() {
            check_id(id?)?;
        }
        check_ids(&nodes)?;
        if nodes.mode == Mode::Full && nodes.removed().len() != 0 {
            let text = "a full answer removes by leaving out".to_owned();
            return Err(Rejected::new("malformed", PluginStatus::Invalid, text));
        }
        Ok(Self { bytes, nodes_max })
    }

    /// What it says. It was checked, so nothing of it is missing.
    pub(crate) fn read(&self) -> Option<Nodes<'_>> {
        Nodes::read(&self.bytes, self.nodes_max).ok()
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Its revision.
    pub fn revision(&self) -> u64 {
        self.read().map_or(0, |nodes| nodes.revision)
    }
}

/// No id is there twice, or both there and removed. Ids in ascending order show that at once;
/// others are sorted, for a table of hashes could be made to collide.
fn check_ids(nodes: &Nodes<'_>) -> Result<(), Rejected> {
    let there = nodes.nodes().map(|node| node.map(|node| node.id));
    let ids: Vec<&str> = there.chain(nodes.removed()).collect::<Result<_, _>>()?;
    if ids.is_sorted_by(|a, b| a < b) {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_unstable_by_key(|index| (ids.get(*index), *index));
    let twice = order.array_windows().find(|[a, b]| ids.get(*a) == ids.get(*b));
    twice.map_or(Ok(()), |[first, second]| {
        let id = ids.get(*first).copied().unwrap_or_default();
        let text = if *second < nodes.nodes().len() {
            format!("nodes {first} and {second} have the same id {id:?}")
        } else {
            format!("{id:?} is removed twice, or both there and removed")
        };
        Err(Rejected::new("duplicate", PluginStatus::Conflict, text))
    })
}

fn invalid(reason: &'static str, text: String) -> Rejected {
    Rejected::new(reason, PluginStatus::Invalid, text)
}

fn check_node(node: &Node<'_>) -> Result<(), Rejected> {
    check_id(node.id)?;
    if !is_host(node.host) {
        let text = format!("host {:?} is neither an IP address nor a DNS name", clip(node.host));
        return Err(invalid("host", text));
    }
    if node.port == 0 {
        return Err(invalid("port", "port 0".into()));
    }
    if node.state > NODE_DEAD {
        return Err(invalid("state", format!("state {}", node.state)));
    }
    let is_object = || {
        node.meta.len() <= META_BYTES_MAX
            && node.meta.starts_with('{')
            && serde_json::from_str::<IgnoredAny>(node.meta).is_ok()
    };
    if !node.meta.is_empty() && !is_object() {
        let text = format!("meta is no JSON object of at most {META_BYTES_MAX} bytes");
        return Err(invalid("meta", text));
    }
    Ok(())
}

fn check_id(id: &str) -> Result<(), Rejected> {
    if !is_node_id(id) {
        let text = format!(
            "id {:?} has {} bytes; 1 to {NODE_ID_BYTES}, no white space, no control \
             characters",
            clip(id),
            id.len()
        );
        return Err(invalid("id", text));
    }
    Ok(())
}

/// The first characters of something that may be long.
fn clip(text: &str) -> String {
    text.chars().take(48).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zepto_message::write_nodes;

    fn node<'a>(id: &'a str, host: &'a str) -> Node<'a> {
        Node { id, host, port: 9000, ..Node::default() }
    }

    fn check(nodes: &[Node<'_>], removed: &[&str]) -> Result<Answer, Rejected> {
        let mode = if removed.is_empty() { Mode::Full } else { Mode::Delta };
        Answer::check(write_nodes(7, mode, nodes, removed), 100, 6)
    }

    fn reason(nodes: &[Node<'_>]) -> &'static str {
        check(nodes, &[]).unwrap_err().reason
    }

    #[test]
    fn a_good_answer_is_taken_as_it_is() {
        let nodes = [
            node("a", "10.0.0.1"),
            node("b", "fd00::1"),
            node("c.d", "pod-0.svc.cluster.local."),
            Node { meta: "{\"rack\": [1]}", ..node("ä", "localhost") },
        ];
        let answer = check(&nodes, &[]).unwrap();
        assert_eq!(answer.revision(), 7);
        let read: Vec<_> = answer.read().unwrap().nodes().map(Result::unwrap).collect();
        assert_eq!(read, nodes);
        assert_eq!(Discovered::from(nodes[1]).address(), "[fd00::1]:9000");
        assert!(check(&[], &[]).is_ok(), "an empty answer is well-formed");
    }

    #[test]
    fn one_bad_node_refuses_the_whole_answer() {
        let good = node("a", "10.0.0.1");
        let long = "x".repeat(NODE_ID_BYTES + 1);
        for id in ["", "a b", "a\0b", "a\u{1b}[31m", &long] {
            assert_eq!(reason(&[good, node(id, "10.0.0.2")]), "id", "{id:?}");
        }
        for host in [
            "",
            "../../etc",
            "a..b",
            "-a",
            "a b",
            "1.2.3",
            "999.1.1.1",
            "a:b",
            "a/b",
            &"a.".repeat(128),
            &"a".repeat(64),
        ] {
            assert_eq!(reason(&[good, node("b", host)]), "host", "{host:?}");
        }
        assert_eq!(reason(&[good, Node { port: 0, ..node("b", "h") }]), "port");
        assert_eq!(reason(&[good, Node { state: 6, ..node("b", "h") }]), "state");
        for meta in ["[]", "{", "null", "{}x"] {
            assert_eq!(reason(&[good, Node { meta, ..node("b", "h") }]), "meta", "{meta}");
        }
    }

    #[test]
    fn two_nodes_with_one_id_are_a_conflict_that_names_both() {
        let nodes = [node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("a", "10.0.0.3")];
        let wrong = check(&nodes, &[]).unwrap_err();
        assert_eq!((wrong.reason, wrong.status), ("duplicate", PluginStatus::Conflict));
        assert!(wrong.text.contains("nodes 0 and 2"), "{wrong}");
        assert_eq!(check(&nodes[..2], &["a"]).unwrap_err().reason, "duplicate");
    }

    #[test]
    fn a_revision_that_goes_back_or_stands_still_is_stale() {
        let bytes = write_nodes(7, Mode::Full, &[], &[]);
        assert!(Answer::check(bytes.clone(), 100, 6).is_ok());
        for newer_than in [7, 8, u64::MAX] {
            let wrong = Answer::check(bytes.clone(), 100, newer_than).unwrap_err();
            assert_eq!((wrong.reason, wrong.status), ("stale", PluginStatus::Conflict));
        }
    }

    #[test]
    fn more_nodes_than_allowed_are_too_many() {
        let ids: Vec<String> = (0..101).map(|i| format!("n{i}")).collect();
        let nodes: Vec<Node<'_>> = ids.iter().map(|id| node(id, "10.0.0.1")).collect();
        let wrong = check(&nodes, &[]).unwrap_err();
        assert_eq!((wrong.reason, wrong.status), ("too_many", PluginStatus::TooBig));
    }
}
