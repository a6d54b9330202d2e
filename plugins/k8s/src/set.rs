//! All nodes that are known: those of each object, and what they come to together.

use crate::member::Member;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use zepto_sdk::Node;

/// Bytes of memory that an object takes beyond its name and members.
const OVERHEAD_BYTES: usize = 64;
/// Bytes of an answer, and of one node in it, beyond their texts.
const ANSWER_BYTES: usize = 64;
const NODE_BYTES: usize = 40;
/// Bytes for each node while an answer is put together: the node, and where it stands.
const SORTING_BYTES: usize = 48;

/// More than there is room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooMany(pub String);

/// The nodes, by the objects that tell of them.
#[derive(Debug)]
pub struct Set {
    objects: BTreeMap<Box<str>, Box<[Member]>>,
    bytes: usize,
    /// Bytes of memory for the set and what is made of it.
    room: usize,
    nodes_max: usize,
}

impl Set {
    /// Nobody, with room for so many bytes and nodes.
    pub fn new(room: usize, nodes_max: usize) -> Self {
        Self { objects: BTreeMap::new(), bytes: 0, room, nodes_max }
    }

    /// An object tells of these and no others; says whether that is new.
    ///
    /// # Errors
    /// When there is no room for them. What was known of the object is gone then.
    pub fn replace(&mut self, name: &str, mut members: Vec<Member>) -> Result<bool, TooMany> {
        let before = self.take(name);
        // Here and not only where all are merged: that is a long event already.
        members.sort_unstable_by(|a, b| a.rank().cmp(&b.rank()));
        if members.is_empty() {
            return Ok(before.is_some());
        }
        let is_new = before.as_deref() != Some(members.as_slice());
        let bytes = bytes(name, &members);
        // The other half is for the answer, or for the page that this is on.
        if self.bytes + bytes > self.room / 2 {
            return Err(no_room("the endpoints"));
        }
        self.bytes += bytes;
        self.objects.insert(name.into(), members.into_boxed_slice());
        Ok(is_new)
    }

    /// An object is gone; says whether that changes anything.
    pub fn remove(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    fn take(&mut self, name: &str) -> Option<Box<[Member]>> {
        let members = self.objects.remove(name)?;
        self.bytes -= bytes(name, &members);
        Some(members)
    }

    /// Nobody is known.
    pub fn clear(&mut self) {
        self.objects.clear();
        self.bytes = 0;
    }

    /// All of them, sorted by id, each id once.
    fn merged(&self) -> Vec<&Member> {
        let mut all: Vec<&Member> = self.objects.values().flatten().collect();
        // A stable sort makes use of each object's own order.
        all.sort_by(|a, b| a.rank().cmp(&b.rank()));
        all.dedup_by(|later, first| later.id() == first.id());
        all
    }

    /// The answer.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        self.merged().into_iter().map(Member::node).collect()
    }

    /// What tells one answer from another, and how many nodes it has.
    ///
    /// # Errors
    /// When there are more nodes than an answer may have.
    pub fn fingerprint(&self) -> Result<(u64, usize), TooMany> {
        let all = self.merged();
        if all.len() > self.nodes_max {
            return Err(TooMany(format!(
                "{} nodes, and an answer has at most {}",
                all.len(),
                self.nodes_max
            )));
        }
        let count = all.len();
        let texts = all.iter().map(|member| member.text_len()).sum::<usize>();
        if self.bytes + answer_bytes(count, texts) > self.room {
            return Err(no_room(&format!("{count} nodes")));
        }
        let mut hasher = DefaultHasher::new();
        for member in all {
            let Node { id, host, meta, port, .. } = member.node();
            (id, host, meta, port).hash(&mut hasher);
        }
        Ok((hasher.finish(), count))
    }
}

/// Bytes of memory that an answer takes at most while it is written: it grows by doubling, and the
/// shorter ones leave holes that are too short for the next.
fn answer_bytes(count: usize, texts: usize) -> usize {
    let least = ANSWER_BYTES + count * NODE_BYTES;
    let mut capacity = least;
    while capacity < least + texts {
        capacity *= 2;
    }
    2 * capacity + count * SORTING_BYTES
}

fn no_room(what: &str) -> TooMany {
    TooMany(format!("{what} take more memory than there is; give the plugin more, as mem=16MiB"))
}

fn bytes(name: &str, members: &[Member]) -> usize {
    OVERHEAD_BYTES + name.len() + members.iter().map(Member::bytes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(pairs: &[(&str, &str)]) -> Vec<Member> {
        let member = |(id, host): &(&str, &str)| Member::new([id, ""], host, 9000, ("", ""));
        pairs.iter().map(|pair| member(pair).unwrap()).collect()
    }

    fn hosts(set: &Set) -> Vec<(&str, &str)> {
        set.nodes().iter().map(|node| (node.id, node.host)).collect()
    }

    #[test]
    fn objects_are_replaced_and_removed_by_name() {
        let mut set = Set::new(10_000, 100);
        assert_eq!(set.replace("s1", members(&[("b", "10.0.0.2")])), Ok(true));
        assert_eq!(set.replace("s2", members(&[("a", "10.0.0.1")])), Ok(true));
        let first = set.fingerprint();
        assert_eq!(hosts(&set), [("a", "10.0.0.1"), ("b", "10.0.0.2")]);
        assert_eq!(set.replace("s2", members(&[("a", "10.0.0.1")])), Ok(false), "the same");
        assert_eq!(set.replace("s2", members(&[("a", "10.0.0.9")])), Ok(true));
        assert_ne!(set.fingerprint(), first);
        assert_eq!(set.replace("s2", Vec::new()), Ok(true));
        assert_eq!(set.replace("s2", Vec::new()), Ok(false));
        assert!(set.remove("s1"));
        assert!(!set.remove("s1"));
        assert_eq!((hosts(&set).len(), set.bytes), (0, 0));
    }

    #[test]
    fn one_id_in_two_objects_is_one_node_and_it_is_the_same_one_each_time() {
        let v4 = members(&[("a", "10.0.0.1")]);
        let v6 = members(&[("a", "fd00::1"), ("b", "fd00::2")]);
        for names in [["s1", "s2"], ["s2", "s1"]] {
            let mut set = Set::new(10_000, 100);
            set.replace(names[0], v4.clone()).unwrap();
            set.replace(names[1], v6.clone()).unwrap();
            assert_eq!(hosts(&set), [("a", "10.0.0.1"), ("b", "fd00::2")]);
        }
    }

    #[test]
    fn what_moves_between_objects_changes_no_answer() {
        let mut set = Set::new(10_000, 100);
        set.replace("s1", members(&[("a", "10.0.0.1"), ("b", "10.0.0.2")])).unwrap();
        let before = set.fingerprint();
        set.replace("s2", members(&[("b", "10.0.0.2")])).unwrap();
        set.replace("s1", members(&[("a", "10.0.0.1")])).unwrap();
        assert_eq!(set.fingerprint(), before);
    }

    #[test]
    fn there_is_room_for_so_much() {
        let mut set = Set::new(600, 1);
        assert_eq!(set.replace("s1", members(&[("a", "10.0.0.1")])), Ok(true));
        assert!(set.fingerprint().is_ok());
        assert_eq!(set.replace("s2", members(&[("b", "10.0.0.2")])), Ok(true));
        assert!(set.fingerprint().unwrap_err().0.contains("2 nodes, and"));
        let many = members(&[("c", "10.0.0.3")]);
        assert!(set.replace("s3", many).unwrap_err().0.contains("mem=16MiB"));
        set.clear();
        assert_eq!(set.replace("s1", members(&[("a", "10.0.0.1")])), Ok(true));
        set.room = 300;
        assert!(set.fingerprint().unwrap_err().0.contains("1 nodes take more memory"));
    }

    #[test]
    fn an_answer_takes_what_doubling_comes_to() {
        // 40,064 bytes without texts; 97,000 of them want it doubled twice.
        assert_eq!(answer_bytes(1_000, 97_000), 2 * 160_256 + 48_000);
        assert_eq!(answer_bytes(0, 0), 128);
    }
}
