//! The consistent-hash ring: 128 virtual nodes per node of ordinary weight on a circle of 2^64.
//!
//! The ring only *picks*; what holds is the placement table in the log. (Karger et al. 1997;
//! virtual nodes as in Dynamo, 2007.)

use crate::hash::mix;
use crate::limits::{VNODES, WEIGHT_DEFAULT};
use zepto_abi::NodeId;

/// A virtual node: its place on the circle and whose it is, as an index into the caller's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vnode {
    /// Place on the circle.
    pub token: u64,
    /// Index of its node in the list the ring was built from.
    pub node: u16,
}

/// Virtual nodes in order of their tokens.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    vnodes: Vec<Vnode>,
}

impl Ring {
    /// The ring of (node, weight) pairs; a weight of zero has no place on it.
    pub fn new(nodes: impl IntoIterator<Item = (u16, NodeId, u16)>) -> Self {
        let mut vnodes = Vec::new();
        for (node, id, weight) in nodes {
            let count = u64::from(VNODES) * u64::from(weight) / u64::from(WEIGHT_DEFAULT);
            let count = if weight > 0 { count.max(1) } else { 0 };
            let key = u64::from(id.0) << 32;
            vnodes.extend((0..count).map(|i| Vnode { token: mix(mix(key | i)), node }));
        }
        vnodes.sort_unstable();
        Self { vnodes }
    }

    /// The virtual nodes in order.
    pub fn vnodes(&self) -> &[Vnode] {
        &self.vnodes
    }

    /// Position of the first virtual node at or after a token, wrapping; zero on an empty ring.
    pub fn successor(&self, token: u64) -> usize {
        let position = self.vnodes.partition_point(|vnode| vnode.token < token);
        if position == self.vnodes.len() { 0 } else { position }
    }

    /// Distinct nodes clockwise from a token, nearest first.
    pub fn walk(&self, token: u64) -> impl Iterator<Item = u16> + '_ {
        let start = self.successor(token);
        let (before, from) = self.vnodes.split_at(start.min(self.vnodes.len()));
        let mut seen = Vec::new();
        from.iter().chain(before).filter_map(move |vnode| {
            let new = !seen.contains(&vnode.node);
            new.then(|| {
                seen.push(vnode.node);
                vnode.node
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(weights: &[u16]) -> Ring {
        Ring::new(
            weights.iter().zip(0u16..).map(|(&weight, i)| (i, NodeId(u32::from(i) + 1), weight)),
        )
    }

    #[test]
    fn an_ordinary_node_has_128_places_and_weight_scales_them() {
        let ring = ring(&[100, 200, 50, 0, 1]);
        let count = |node| ring.vnodes().iter().filter(|vnode| vnode.node == node).count();
        assert_eq!([0, 1, 2, 3, 4].map(count), [128, 256, 64, 0, 1]);
    }

    proptest! {
        #[test]
        fn the_successor_is_the_nearest_clockwise(nodes in 1usize..20, token: u64) {
            let ring = ring(&vec![100; nodes]);
            let found = ring.vnodes()[ring.successor(token)];
            let nearest = ring.vnodes().iter().min_by_key(|vnode| vnode.token.wrapping_sub(token));
            prop_assert_eq!(Some(&found), nearest);
        }

        #[test]
        fn a_walk_meets_every_node_once(nodes in 1usize..20, token: u64) {
            let ring = ring(&vec![100; nodes]);
            let mut met: Vec<_> = ring.walk(token).collect();
            prop_assert_eq!(met[0], ring.vnodes()[ring.successor(token)].node);
            met.sort_unstable();
            prop_assert_eq!(met, (0..nodes as u16).collect::<Vec<_>>());
        }

        #[test]
        fn a_node_that_leaves_moves_only_its_own_keys(
            nodes in 2u16..20,
            gone in 0u16..20,
            token: u64,
        ) {
            let gone = gone % nodes;
            let full = ring(&vec![100; nodes as usize]);
            let mut weights = vec![100; nodes as usize];
            weights[gone as usize] = 0;
            let less = ring(&weights);
            let owner = |ring: &Ring| ring.vnodes()[ring.successor(token)].node;
            if owner(&full) != gone {
                prop_assert_eq!(owner(&full), owner(&less));
            }
        }
    }
}
