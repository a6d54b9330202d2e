//! Discovery that says anything at all, in any order, at any time: whatever it says, few nodes go
//! at once, none that was not missing for long, and never the last but by an operator's word.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use zepto_core::limits::{PLUGIN_HOLD_MS, PLUGIN_REMOVE_PERCENT_MAX};
use zepto_core::time::Nanos;
use zepto_message::{Mode, Node, Nodes, write_nodes};
use zepto_plugin::vet::{Answer, Offer, Roster};

const HOLD_NS: u64 = PLUGIN_HOLD_MS * 1_000_000;
const NODES: u8 = 12;

type Ids = BTreeSet<u8>;

#[derive(Clone, Debug)]
enum Step {
    /// All nodes.
    Full(Ids),
    /// Some that came, and some that went.
    Change(Ids, Ids),
    /// An answer with a byte that is another.
    Garbled(Ids, usize, u8),
    /// Another instance, or another version.
    Begin,
    Wait(u64),
    Confirm,
}

fn step() -> impl Strategy<Value = Step> {
    let ids = || btree_set(0..NODES, 0..NODES as usize);
    prop_oneof![
        4 => ids().prop_map(Step::Full),
        3 => (ids(), btree_set(0..NODES, 0..4)).prop_map(|(came, went)| Step::Change(came, went)),
        1 => (ids(), any::<usize>(), any::<u8>()).prop_map(|(i, a, v)| Step::Garbled(i, a, v)),
        1 => Just(Step::Begin),
        3 => (1..HOLD_NS).prop_map(Step::Wait),
        1 => Just(Step::Confirm),
    ]
}

fn name(id: u8) -> String {
    format!("n{id}")
}

/// A node's discovery, and since when each node that it knows is missing in all that was said.
struct Model {
    roster: Roster,
    revision: u64,
    now: u64,
    missing: BTreeMap<String, u64>,
}

impl Model {
    fn known(&self) -> BTreeSet<String> {
        self.roster.others().map(|node| node.id.clone()).collect()
    }

    fn answer(&mut self, mode: Mode, ids: &Ids, went: &Ids) -> Vec<u8> {
        let went: Ids = went.difference(ids).copied().collect();
        let names: Vec<String> = ids.iter().map(|id| name(*id)).collect();
        let node = |id| Node { id, host: "10.0.0.1", port: 9000, ..Node::default() };
        let nodes: Vec<Node<'_>> = names.iter().map(|id| node(id.as_str())).collect();
        let went: Vec<String> = went.iter().map(|id| name(*id)).collect();
        let went: Vec<&str> = went.iter().map(String::as_str).collect();
        write_nodes(self.revision + 1, mode, &nodes, &went)
    }

    /// Gives it an answer, and checks what became of it.
    fn offer(&mut self, bytes: Vec<u8>) {
        let Ok(answer) = Answer::check(bytes.clone(), 1000, self.revision) else { return };
        self.revision = answer.revision();
        let before = self.known();
        let offer = self.roster.offer(&answer, Nanos(self.now));
        let after = self.known();
        let gone: BTreeSet<&String> = before.difference(&after).collect();
        match &offer {
            Offer::Applied(change) => {
                assert_eq!(change.removed.len(), gone.len());
                if gone.len() * 100 > before.len() * PLUGIN_REMOVE_PERCENT_MAX {
                    for id in gone {
                        let since = self.missing.get(id).expect("it was said before");
                        assert!(self.now - since >= HOLD_NS, "{id} is missing since {since}");
                    }
                    assert!(!after.is_empty(), "nobody is left, and no operator said so");
                }
                self.missing.clear();
            }
            Offer::Held(held) => {
                assert_eq!(before, after, "what is held changes nothing");
                assert!(held.removes.0 * 100 > held.removes.1 * PLUGIN_REMOVE_PERCENT_MAX);
                self.note(&bytes);
            }
            Offer::NoBase => assert_eq!(before, after),
        }
    }

    /// Notes who is missing in an answer that is held.
    fn note(&mut self, answer: &[u8]) {
        let read = Nodes::read(answer, 1000).expect("it was checked");
        let named: BTreeSet<String> =
            read.nodes().flatten().map(|node| node.id.to_owned()).collect();
        let went: BTreeSet<String> = read.removed().flatten().map(str::to_owned).collect();
        for id in self.known() {
            let is_missing = match read.mode {
                Mode::Full => !named.contains(&id),
                // One that was missing before, and is not named, still is.
                Mode::Delta => {
                    went.contains(&id) || (!named.contains(&id) && self.missing.contains_key(&id))
                }
            };
            if is_missing {
                self.missing.entry(id).or_insert(self.now);
            } else {
                self.missing.remove(&id);
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Full(ids) => {
                let bytes = self.answer(Mode::Full, ids, &Ids::new());
                self.offer(bytes);
            }
            Step::Change(came, went) => {
                let bytes = self.answer(Mode::Delta, came, went);
                self.offer(bytes);
            }
            Step::Garbled(ids, at, value) => {
                let mut bytes = self.answer(Mode::Full, ids, &Ids::new());
                let at = at % bytes.len();
                bytes[at] = *value;
                self.offer(bytes);
            }
            Step::Begin => {
                self.roster.begin();
                self.missing.clear();
                assert!(self.roster.held().is_none());
            }
            Step::Wait(ns) => self.now += ns,
            Step::Confirm => {
                let held = self.roster.held().is_some();
                let confirmed = self.roster.confirm(Nanos(self.now));
                assert_eq!(held, confirmed.is_some());
                if held {
                    self.missing.clear();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_discovery_says_no_node_goes_before_its_time(steps in vec(step(), 1..60)) {
        let missing = BTreeMap::new();
        let mut model = Model { roster: Roster::new("n0"), revision: 0, now: 1, missing };
        for step in &steps {
            model.take(step);
        }
    }
}
