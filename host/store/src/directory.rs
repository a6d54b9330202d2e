//! The list of a series' segments, oldest first, as one immutable value.
//!
//! Segments lie in groups of up to 64. A new segment goes into a free place of the last group,
//! seen at once by everyone who has the directory; when the group is full, or when retention
//! drops segments, a new directory takes the old one's place. It shares every group that is
//! whole, so even a hundred million rows cost some thousand pointers per change. Whoever holds
//! an old directory reads on in it undisturbed.
//!
//! Groups give random access, which a chain would not: a reader of a long series that is in
//! order finds its first segment by bisection, and `last` begins at the end.

use std::sync::{Arc, OnceLock};

use zepto_core::limits::GROUP_SEGMENTS_MAX;

use crate::segment::Segment;

#[derive(Debug, Default)]
pub(crate) struct Directory {
    groups: Vec<Arc<Group>>,
}

/// Segments in their order; the places that are filled come first, and at least one is.
#[derive(Debug)]
struct Group(Box<[OnceLock<Arc<Segment>>]>);

/// Places in a series' first group. Each further group has twice as many, up to the limit.
const FIRST_GROUP_SEGMENTS: usize = 4;

impl Directory {
    /// Adds the newest segment. Either this directory has a place, or the one that is returned
    /// is to be published instead. Only the writer may call it.
    pub(crate) fn push(&self, segment: Arc<Segment>) -> Option<Self> {
        let mut segment = segment;
        if let Some(group) = self.groups.last()
            && let Some(place) = group.0.get(group.filled().len())
        {
            match place.set(segment) {
                Ok(()) => return None,
                Err(refused) => segment = refused,
            }
        }
        let places = self.groups.last().map_or(FIRST_GROUP_SEGMENTS, |last| 2 * last.0.len());
        let mut groups = Vec::with_capacity(self.groups.len() + 1);
        groups.extend(self.groups.iter().cloned());
        groups.push(Arc::new(Group::new([segment], places.min(GROUP_SEGMENTS_MAX))));
        Some(Self { groups })
    }

    /// The directory without its `count` oldest segments.
    pub(crate) fn without_oldest(&self, count: usize) -> Self {
        let mut groups = Vec::with_capacity(self.groups.len());
        let mut left = count;
        for group in &self.groups {
            let filled = group.filled();
            if left == 0 {
                groups.push(group.clone());
            } else if left < filled.len() {
                let kept = filled[left..].iter().filter_map(OnceLock::get).cloned();
                groups.push(Arc::new(Group::new(kept, group.0.len())));
                left = 0;
            } else {
                left -= filled.len();
            }
        }
        Self { groups }
    }

    /// All segments, oldest first.
    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> {
        self.groups.iter().flat_map(|group| group.segments())
    }

    /// The segments that may hold event times from `from_ns` to `last_ns`, oldest first. When
    /// the series is `ordered`, the others are not even looked at.
    pub(crate) fn overlapping(
        &self,
        from_ns: u64,
        last_ns: u64,
        ordered: bool,
    ) -> impl DoubleEndedIterator<Item = &Arc<Segment>> {
        let mut groups = &self.groups[..];
        if ordered {
            let ends = |group: &Arc<Group>| {
                group.segments().next_back().is_some_and(|last| last.time_bounds().1 < from_ns)
            };
            groups = &groups[groups.partition_point(ends)..];
            let begins = |group: &Arc<Group>| {
                group.segments().next().is_some_and(|first| first.time_bounds().0 <= last_ns)
            };
            groups = &groups[..groups.partition_point(begins)];
        }
        groups.iter().flat_map(|group| group.segments()).filter(move |segment| {
            let (min, max) = segment.time_bounds();
            min <= last_ns && from_ns <= max
        })
    }
}

impl Group {
    fn new(segments: impl IntoIterator<Item = Arc<Segment>>, places: usize) -> Self {
        let mut slots: Vec<_> = segments.into_iter().map(OnceLock::from).collect();
        slots.resize_with(places.max(slots.len()), OnceLock::new);
        Self(slots.into_boxed_slice())
    }

    fn filled(&self) -> &[OnceLock<Arc<Segment>>] {
        &self.0[..self.0.partition_point(|place| place.get().is_some())]
    }

    fn segments(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> {
        self.filled().iter().filter_map(OnceLock::get)
    }
}
