//! The nodes that discovery knows of: the last good answer, and the guard against a bad one.
//!
//! An answer that would remove more than 30 % of the known nodes is held. It is applied when a
//! later answer still removes those, and no others, after the hold, or when an operator confirms
//! it; one that would leave nobody is applied only by an operator. This node itself is never
//! removed.

use super::nodes::{Answer, Discovered};
use std::collections::{BTreeMap, BTreeSet};
use zepto_core::limits::{PLUGIN_HOLD_MS, PLUGIN_REMOVE_PERCENT_MAX};
use zepto_core::time::Nanos;
use zepto_message::Mode;

/// What an answer changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Ids that came.
    pub added: Vec<String>,
    /// Ids that went.
    pub removed: Vec<String>,
    /// Ids whose address, incarnation or description is another now.
    pub changed: Vec<String>,
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It holds now.
    Applied(Change),
    /// It would remove too many.
    Held(Held),
    /// A change of what was never told.
    NoBase,
}

/// An answer that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many nodes it would remove, of how many.
    pub removes: (usize, usize),
    /// When the first such answer came.
    pub since: Nanos,
    /// Whether repeating it is not enough.
    pub wants_operator: bool,
}

/// The nodes that one discovery plugin knows of.
#[derive(Clone, Debug)]
pub struct Roster {
    own: String,
    nodes: BTreeMap<String, Discovered>,
    held: Option<(Held, BTreeMap<String, Discovered>)>,
    answered: Option<Nanos>,
    /// Whether the instance in service has given a full answer.
    has_base: bool,
}

impl Roster {
    /// Nobody but this node is known.
    pub fn new(own: &str) -> Self {
        Self {
            own: own.to_owned(),
            nodes: BTreeMap::new(),
            held: None,
            answered: None,
            has_base: false,
        }
    }

    /// Another instance begins: what is held was the one's before, and what that knew is not known
    /// to this one.
    pub fn begin(&mut self) {
        self.held = None;
        self.has_base = false;
    }

    /// The nodes, this one apart.
    pub fn others(&self) -> impl Iterator<Item = &Discovered> {
        self.nodes.values().filter(|node| node.id != self.own)
    }

    /// When the last answer that holds came.
    pub fn answered(&self) -> Option<Nanos> {
        self.answered
    }

    /// The answer that is held, if there is one.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref().map(|(held, _)| held)
    }

    /// Takes an answer, or holds it.
    pub fn offer(&mut self, answer: &Answer, now: Nanos) -> Offer {
        let Some(next) = self.next(answer) else { return Offer::NoBase };
        self.has_base = true;
        let known = self.others().count();
        let removed = |next: &BTreeMap<String, Discovered>| -> BTreeSet<String> {
            let gone = self.others().filter(|node| !next.contains_key(&node.id));
            gone.map(|node| node.id.clone()).collect()
        };
        let removes = removed(&next);
        if removes.len() * 100 <= known * PLUGIN_REMOVE_PERCENT_MAX {
            return Offer::Applied(self.apply(next, now));
        }
        let wants_operator = removes.len() == known && next.keys().all(|id| *id == self.own);
        // It counts from when the first of those answers came that removed all of these.
        let before = self.held.as_ref();
        let before = before.filter(|(_, held)| removes.is_subset(&removed(held)));
        let since = before.map_or(now, |(held, _)| held.since);
        if !wants_operator && now.0 - since.0 >= PLUGIN_HOLD_MS * 1_000_000 {
            return Offer::Applied(self.apply(next, now));
        }
        let held = Held { removes: (removes.len(), known), since, wants_operator };
        self.held = Some((held.clone(), next));
        Offer::Held(held)
    }

    /// An operator says that what is held is right.
    pub fn confirm(&mut self, now: Nanos) -> Option<Change> {
        let (_, next) = self.held.take()?;
        Some(self.apply(next, now))
    }

    /// What would be known after an answer; `None` when it changes what was never told.
    fn next(&self, answer: &Answer) -> Option<BTreeMap<String, Discovered>> {
        let read = answer.read()?;
        let mut next = match read.mode {
            Mode::Full => BTreeMap::new(),
            Mode::Delta if !self.has_base => return None,
            // A change of what was held, if that was the last word.
            Mode::Delta => self.held.as_ref().map_or(&self.nodes, |(_, next)| next).clone(),
        };
        for id in read.removed().flatten() {
            next.remove(id);
        }
        for node in read.nodes().flatten() {
            let known = self.nodes.get(node.id);
            // An older life of a node that is known in a newer one.
            let kept =
                known.filter(|known| node.incarnation != 0 && node.incarnation < known.incarnation);
            let node = kept.cloned().unwrap_or_else(|| Discovered::from(node));
            next.insert(node.id.clone(), node);
        }
        Some(next)
    }

    fn apply(&mut self, mut next: BTreeMap<String, Discovered>, now: Nanos) -> Change {
        if let Some(own) = self.nodes.get(&self.own) {
            next.entry(own.id.clone()).or_insert_with(|| own.clone());
        }
        let mut change = Change::default();
        for (id, node) in &next {
            match self.nodes.get(id) {
                None => change.added.push(id.clone()),
                Some(before) if before != node => change.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        let gone = self.nodes.keys().filter(|id| !next.contains_key(*id));
        change.removed = gone.cloned().collect();
        self.nodes = next;
        self.held = None;
        self.answered = Some(now);
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zepto_message::{Node, write_nodes};

    const HOLD: u64 = PLUGIN_HOLD_MS * 1_000_000;

    struct Case {
        roster: Roster,
        revision: u64,
    }

    impl Case {
        /// A node `a` that knows these.
        fn knowing(ids: &str) -> Self {
            let mut case = Self { roster: Roster::new("a"), revision: 0 };
            assert!(matches!(case.full(ids, 0), Offer::Applied(_)));
            case
        }

        fn answer(&mut self, mode: Mode, ids: &str, removed: &str, now: u64) -> Offer {
            self.revision += 1;
            let nodes: Vec<Node<'_>> = ids.split_whitespace().map(node).collect();
            let removed: Vec<&str> = removed.split_whitespace().collect();
            let bytes = write_nodes(self.revision, mode, &nodes, &removed);
            let answer = Answer::check(bytes, 1000, self.revision - 1).unwrap();
            self.roster.offer(&answer, Nanos(now))
        }

        fn full(&mut self, ids: &str, now: u64) -> Offer {
            self.answer(Mode::Full, ids, "", now)
        }

        fn known(&self) -> String {
            self.roster.nodes.keys().cloned().collect::<Vec<_>>().join(" ")
        }
    }

    /// Of `id` or `id@incarnation`.
    fn node(id: &str) -> Node<'_> {
        let (id, incarnation) = id.split_once('@').unwrap_or((id, "0"));
        let incarnation = incarnation.parse().unwrap();
        Node { id, host: "10.0.0.1", port: 9000, incarnation, ..Node::default() }
    }

    #[test]
    fn answers_add_change_and_remove() {
        let mut case = Case::knowing("a b c d e");
        let Offer::Applied(change) = case.full("a b c d@4 f", 1) else { panic!("held") };
        assert_eq!((change.added, change.removed), (vec!["f".to_owned()], vec!["e".to_owned()]));
        assert_eq!(change.changed, ["d"]);
        assert!(matches!(case.answer(Mode::Delta, "g", "f", 2), Offer::Applied(_)));
        assert_eq!(case.known(), "a b c d g");
    }

    #[test]
    fn a_change_of_nothing_is_refused() {
        let mut case = Case { roster: Roster::new("a"), revision: 0 };
        assert_eq!(case.answer(Mode::Delta, "b", "", 0), Offer::NoBase);
    }

    #[test]
    fn this_node_is_never_removed() {
        let mut case = Case::knowing("a b c d e");
        assert!(matches!(case.full("b c d e", 1), Offer::Applied(_)));
        assert_eq!(case.known(), "a b c d e");
    }

    #[test]
    fn an_older_life_of_a_node_is_not_believed() {
        let mut case = Case::knowing("a b@5");
        case.full("a b@4", 1);
        assert_eq!(case.roster.nodes.get("b").unwrap().incarnation, 5);
        case.full("a b@6", 2);
        assert_eq!(case.roster.nodes.get("b").unwrap().incarnation, 6);
    }

    #[test]
    fn many_removed_at_once_are_held_until_it_is_repeated_after_the_hold() {
        let mut case = Case::knowing("a b c d e f g h i j k");
        let ten = "a b c d e f g h";
        assert!(matches!(case.full(ten, 1), Offer::Applied(_)), "3 of 10 are 30 %");
        let mut case = Case::knowing("a b c d e f g h i j k");
        let Offer::Held(held) = case.full("a b c d e f g", 5) else { panic!("applied") };
        assert_eq!((held.removes, held.since, held.wants_operator), ((4, 10), Nanos(5), false));
        assert!(matches!(case.full("a b c d e f g", 5 + HOLD - 1), Offer::Held(_)));
        assert_eq!(case.known(), "a b c d e f g h i j k", "the last good answer stands");
        assert!(matches!(case.full("a b c d e f g", 5 + HOLD), Offer::Applied(_)));
        assert_eq!(case.known(), "a b c d e f g");
        assert!(case.roster.held().is_none());
    }

    #[test]
    fn a_removal_of_others_is_not_a_repeated_one() {
        let mut case = Case::knowing("a b c d e f g h i j k");
        assert!(matches!(case.full("a f g h i j k", 5), Offer::Held(_)));
        let Offer::Held(held) = case.full("a b c d e j k", 5 + HOLD) else { panic!("applied") };
        assert_eq!(held.since, Nanos(5 + HOLD), "it begins anew");
        assert_eq!(case.known(), "a b c d e f g h i j k");
        let Offer::Held(held) = case.full("a b c d e", 6 + HOLD) else { panic!("applied") };
        assert_eq!(held.since, Nanos(6 + HOLD), "nor is one of more");
        // One of fewer of the same is.
        assert!(matches!(case.full("a b c d e k", 6 + 2 * HOLD), Offer::Applied(_)));
        assert_eq!(case.known(), "a b c d e k");
    }

    #[test]
    fn another_instance_inherits_neither_what_is_held_nor_a_base_for_changes() {
        let mut case = Case::knowing("a b c d");
        assert!(matches!(case.full("a b", 5), Offer::Held(_)));
        case.roster.begin();
        assert!(case.roster.confirm(Nanos(6)).is_none());
        assert_eq!(case.answer(Mode::Delta, "e", "", 6), Offer::NoBase);
        assert!(matches!(case.full("a b c d", 7), Offer::Applied(_)));
        assert!(matches!(case.answer(Mode::Delta, "e", "", 8), Offer::Applied(_)));
        assert_eq!(case.known(), "a b c d e");
    }

    #[test]
    fn a_good_answer_in_between_ends_the_hold() {
        let mut case = Case::knowing("a b c d");
        assert!(matches!(case.full("a b", 5), Offer::Held(_)));
        assert!(matches!(case.full("a b c d", 6), Offer::Applied(_)));
        assert!(matches!(case.full("a b", 5 + HOLD), Offer::Held(_)), "begins anew");
    }

    #[test]
    fn an_empty_answer_never_empties_the_cluster_by_itself() {
        for empty in ["", "a"] {
            let mut case = Case::knowing("a b c");
            for now in [1, 1 + HOLD, 1 + 10 * HOLD] {
                let Offer::Held(held) = case.full(empty, now) else { panic!("applied") };
                assert!(held.wants_operator);
            }
            assert_eq!(case.known(), "a b c");
            assert_eq!(case.roster.confirm(Nanos(2)).unwrap().removed, ["b", "c"]);
            assert_eq!(case.known(), "a");
            assert!(case.roster.confirm(Nanos(3)).is_none());
        }
    }

    #[test]
    fn small_steps_in_changes_do_not_sneak_past_the_guard_of_one_answer() {
        let mut case = Case::knowing("a b c d");
        assert!(matches!(case.answer(Mode::Delta, "", "b c", 1), Offer::Held(_)));
        assert!(matches!(case.answer(Mode::Delta, "", "d", 2), Offer::Held(_)));
        assert_eq!(case.known(), "a b c d");
    }
}
