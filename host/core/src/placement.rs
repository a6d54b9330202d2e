//! Which node should own which partition: a table, its quotas, and the fewest moves to the next.
//!
//! What holds is the committed table. A plan starts from it: partitions nobody owns go to the
//! successor of their token on the ring; then nodes above their quota give partitions to nodes
//! below theirs, and the ring picks which. Nothing moves between two nodes that are both within
//! quota, so adding one node to N moves 1/(N+1) of the partitions, all of them to it.

use crate::ring::Ring;
use zepto_abi::{NodeId, PartitionId};

/// A node that may own partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub node: NodeId,
    /// Its weight; zero gives everything away.
    pub weight: u16,
}

/// What a plan may do with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody owns it: place it.
    Nobody,
    /// Owned by the candidate with this index; may move.
    Movable(u16),
    /// Owned by the candidate with this index; counts for its quota but stays.
    Pinned(u16),
    /// Owned by someone who is no candidate: not touched and not counted.
    Outside,
}

/// One partition changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub partition: PartitionId,
    /// From this candidate, or from nobody.
    pub from: Option<u16>,
    /// To this candidate.
    pub to: u16,
}

/// The moves from a table to the nearest one within quotas. `holders` has a power of two entries,
/// one per partition. Deterministic; empty without candidates of any weight.
pub fn plan(holders: &[Holder], candidates: &[Candidate]) -> Vec<Move> {
    debug_assert!(holders.len().is_power_of_two());
    let counts = count(holders, candidates.len());
    let total = holders.iter().filter(|holder| **holder != Holder::Outside).count();
    let quotas = quotas(total, candidates, &counts);
    let mut room: Vec<usize> =
        quotas.iter().zip(&counts).map(|(quota, count)| quota.saturating_sub(*count)).collect();
    let mut excess: Vec<usize> =
        quotas.iter().zip(&counts).map(|(quota, count)| count.saturating_sub(*quota)).collect();
    let receivers = candidates.iter().zip(0u16..).zip(&room).filter(|(_, room)| **room > 0);
    // A receiver of weight zero has no quota, so it never has room.
    let ring = Ring::new(receivers.map(|((c, i), _)| (i, c.node, c.weight)));
    let mut moves = Vec::new();
    place_orphans(holders, &ring, &mut room, &mut moves);
    shed_excess(holders, &ring, &mut room, &mut excess, &mut moves);
    moves
}

/// A partition's place on the ring.
pub fn token_of(partition: PartitionId, partitions: usize) -> u64 {
    u64::from(partition.0) << (64 - partitions.trailing_zeros()).min(63)
}

fn count(holders: &[Holder], candidates: usize) -> Vec<usize> {
    let mut counts = vec![0; candidates];
    for holder in holders {
        if let Holder::Movable(node) | Holder::Pinned(node) = holder {
            counts[*node as usize] += 1;
        }
    }
    counts
}

/// Floor or ceiling of each candidate's fair share. The ceilings go to those who hold more than
/// their floor already, then to the largest remainders: that moves least.
pub(crate) fn quotas(total: usize, candidates: &[Candidate], counts: &[usize]) -> Vec<usize> {
    let weights: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
    if weights == 0 {
        return counts.to_vec();
    }
    let share = |candidate: &Candidate| total as u64 * u64::from(candidate.weight);
    let mut quotas: Vec<usize> =
        candidates.iter().map(|candidate| (share(candidate) / weights) as usize).collect();
    let left = total - quotas.iter().sum::<usize>();
    let mut order: Vec<usize> =
        (0..candidates.len()).filter(|&i| share(&candidates[i]) % weights > 0).collect();
    order.sort_by_key(|&i| {
        let remainder = share(&candidates[i]) % weights;
        (counts[i] <= quotas[i], core::cmp::Reverse(remainder), candidates[i].node)
    });
    for i in order.into_iter().take(left) {
        quotas[i] += 1;
    }
    quotas
}

fn place_orphans(holders: &[Holder], ring: &Ring, room: &mut [usize], moves: &mut Vec<Move>) {
    let mut open = Skip::new(ring.vnodes().len());
    for (holder, partition) in holders.iter().zip(0u32..) {
        if *holder != Holder::Nobody {
            continue;
        }
        let partition = PartitionId(partition);
        let mut at = ring.successor(token_of(partition, holders.len()));
        while let Some(found) = open.next(at) {
            let to = ring.vnodes()[found].node;
            if room[to as usize] > 0 {
                room[to as usize] -= 1;
                moves.push(Move { partition, from: None, to });
                break;
            }
            open.close(found);
            at = found;
        }
    }
}

/// Every virtual node of a receiver in turn claims the next partition clockwise whose owner is
/// above its quota, until nobody has room or nobody has too many.
fn shed_excess(
    holders: &[Holder],
    ring: &Ring,
    room: &mut [usize],
    excess: &mut [usize],
    moves: &mut Vec<Move>,
) {
    let shift = (64 - holders.len().trailing_zeros()).min(63);
    let mut open = Skip::new(holders.len());
    let mut wanted: usize = room.iter().sum::<usize>().min(excess.iter().sum());
    while wanted > 0 {
        let before = wanted;
        for vnode in ring.vnodes() {
            let to = vnode.node as usize;
            if wanted == 0 || room[to] == 0 {
                continue;
            }
            while let Some(found) = open.next((vnode.token >> shift) as usize) {
                open.close(found);
                let Holder::Movable(from) = holders[found] else { continue };
                if excess[from as usize] == 0 {
                    continue;
                }
                excess[from as usize] -= 1;
                room[to] -= 1;
                wanted -= 1;
                let partition = PartitionId(found as u32);
                moves.push(Move { partition, from: Some(from), to: vnode.node });
                break;
            }
        }
        if wanted == before {
            // What is left above quota is pinned.
            break;
        }
    }
}

/// Positions on a circle that can be closed for good; finds the next open one in nearly constant
/// time (union-find with path halving).
struct Skip {
    next: Vec<u32>,
    open: usize,
}

impl Skip {
    fn new(len: usize) -> Self {
        Self { next: (0..len as u32).collect(), open: len }
    }

    /// The first open position at or after `at`, wrapping.
    fn next(&mut self, at: usize) -> Option<usize> {
        if self.open == 0 {
            return None;
        }
        let mut i = at as u32;
        while self.next[i as usize] != i {
            let parent = self.next[i as usize];
            self.next[i as usize] = self.next[parent as usize];
            i = parent;
        }
        Some(i as usize)
    }

    /// Closes an open position.
    fn close(&mut self, at: usize) {
        self.open -= 1;
        self.next[at] = if at + 1 == self.next.len() { 0 } else { at as u32 + 1 };
        if self.open == 0 {
            // The chain is a circle now; nobody may follow it.
            self.next.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let nodes = weights.iter().zip(1u32..);
        nodes.map(|(&weight, id)| Candidate { node: NodeId(id), weight }).collect()
    }

    fn apply(holders: &mut [Holder], moves: &[Move]) {
        for step in moves {
            holders[step.partition.0 as usize] = Holder::Movable(step.to);
        }
    }

    fn shares(holders: &[Holder], nodes: usize) -> Vec<usize> {
        count(holders, nodes)
    }

    #[test]
    fn a_thousand_nodes_are_balanced_to_one_partition() {
        let nodes = candidates(&vec![100; 1000]);
        let mut holders = vec![Holder::Nobody; 65_536];
        let moves = plan(&holders, &nodes);
        apply(&mut holders, &moves);
        let shares = shares(&holders, 1000);
        assert!(shares.iter().all(|share| *share == 65 || *share == 66));
    }

    #[test]
    fn adding_one_node_moves_its_share_to_it_and_nothing_else() {
        let mut holders = vec![Holder::Nobody; 65_536];
        let first = plan(&holders, &candidates(&[100; 16]));
        apply(&mut holders, &first);
        let moves = plan(&holders, &candidates(&[100; 17]));
        assert_eq!(moves.len(), 65_536 / 17);
        assert!(moves.iter().all(|step| step.to == 16));
        // They come from everywhere, not from one stretch of the circle.
        apply(&mut holders, &moves);
        let (low, high) = (moves[0].partition.0, moves.len() as u32);
        assert!(moves.iter().any(|step| step.partition.0.abs_diff(low) > 4 * high));
    }

    #[test]
    fn a_first_table_follows_the_ring() {
        // With room for everybody everywhere the quota never interferes: one node of two takes
        // exactly what the ring gives it, up to its quota.
        let nodes = candidates(&[100, 100, 100]);
        let moves = plan(&[Holder::Nobody; 4096], &nodes);
        let ring = Ring::new(nodes.iter().zip(0u16..).map(|(c, i)| (i, c.node, c.weight)));
        let natural = |step: &&Move| {
            let token = token_of(step.partition, 4096);
            ring.vnodes()[ring.successor(token)].node == step.to
        };
        assert_eq!(moves.len(), 4096);
        assert!(moves.iter().filter(natural).count() > 4096 * 8 / 10);
    }

    #[test]
    fn pinned_partitions_stay_and_outsiders_are_not_touched() {
        let nodes = candidates(&[100, 100]);
        let mut holders = [Holder::Movable(0); 64];
        holders[..40].fill(Holder::Pinned(0));
        holders[60..].fill(Holder::Outside);
        let moves = plan(&holders, &nodes);
        assert_eq!(moves.len(), 20);
        assert!(moves.iter().all(|step| (40..60).contains(&step.partition.0)));
    }

    proptest! {
        #[test]
        fn a_plan_ends_within_quotas_and_moves_no_more_than_it_must(
            weights in proptest::collection::vec(0u16..300, 1..12),
            bits in 4u32..11,
            seed in proptest::collection::vec(0usize..14, 1 << 10),
        ) {
            let nodes = candidates(&weights);
            let mut holders: Vec<Holder> = seed[..1 << bits].iter().map(|&i| match i {
                i if i < weights.len() => Holder::Movable(i as u16),
                13 => Holder::Outside,
                _ => Holder::Nobody,
            }).collect();
            let counts = count(&holders, nodes.len());
            let total = holders.iter().filter(|holder| **holder != Holder::Outside).count();
            let moves = plan(&holders, &nodes);
            let weight: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            if weight == 0 {
                prop_assert!(moves.is_empty());
                return Ok(());
            }
            apply(&mut holders, &moves);
            let after = shares(&holders, nodes.len());
            prop_assert_eq!(after.iter().sum::<usize>(), total);
            for (share, node) in after.iter().zip(&nodes) {
                let fair = total as u64 * u64::from(node.weight);
                prop_assert!(*share as u64 >= fair / weight);
                prop_assert!(*share as u64 <= fair.div_ceil(weight));
            }
            for (i, (before, after)) in counts.iter().zip(&after).enumerate() {
                let out = moves.iter().filter(|step| step.from == Some(i as u16)).count();
                let inward = moves.iter().filter(|step| step.to == i as u16).count();
                prop_assert!(out == 0 || inward == 0, "node {i} both gives and takes");
                prop_assert_eq!(before + inward - out, *after);
            }
            prop_assert!(plan(&holders, &nodes).is_empty(), "a balanced table stays");
        }
    }
}
