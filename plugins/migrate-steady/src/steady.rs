//! The plan itself: first everything off the nodes that leave, then from the fullest node to the
//! emptiest, as long as that is worth a move.

use std::collections::BTreeSet;
use zepto_sdk::abi::{NODE_ACTIVE, NODE_LEAVING, PARTITION_COPYING, PARTITION_PINNED};
use zepto_sdk::{Move, Plan, PlanRequest};

/// Two nodes are even enough when they differ by this part of what an average node holds.
const EVEN_PART: i128 = 10;
/// Weights above this count as this, which keeps the sums small enough.
const WEIGHT_MAX: u32 = 1 << 16;

/// A partition that may move: what it counts, and its number.
type Piece = (u64, u64);

/// One node of the question, as it is after the moves so far.
struct Load {
    /// Whether it gives everything away, and whether it does because it leaves.
    gives_all: bool,
    leaves: bool,
    /// Its weight as a receiver; none for nodes that are not active.
    weight: i128,
    /// What its partitions count, and how much of that may move, the smallest first.
    load: i128,
    pieces: Vec<Piece>,
    /// Bytes it holds and held before all moves, and those it may hold.
    used: u64,
    before: u64,
    capacity: u64,
}

impl Load {
    /// Whether the node holds no more than it may with so many bytes on top: no more than its
    /// capacity, or than it held before.
    fn has_room(&self, bytes: u64) -> bool {
        self.used.saturating_add(bytes) <= self.capacity.max(self.before)
    }
}

struct Planner {
    nodes: Vec<Load>,
    /// Whether partitions count by their bytes, or, when none has any, by their number.
    by_bytes: bool,
    weights: i128,
    total: i128,
    moves: Vec<Move>,
    most: usize,
}

/// What is to move where.
pub fn plan(request: &PlanRequest<'_>) -> Plan {
    let mut planner = Planner::new(request);
    if planner.weights > 0 {
        planner.evacuate();
        planner.level();
    }
    // As they are here: each leaves the room that the next may need.
    let count = planner.moves.len() as u32;
    for (number, one) in (0..count).zip(&mut planner.moves) {
        one.priority = count - number;
    }
    Plan { index: request.index, moves: planner.moves }
}

impl Planner {
    fn new(request: &PlanRequest<'_>) -> Self {
        let by_bytes = request.partitions.iter().any(|partition| partition.bytes > 0);
        let node = |node: &zepto_sdk::NodeLoad<'_>| Load {
            gives_all: node.state == NODE_LEAVING
                || (node.state == NODE_ACTIVE && node.weight == 0),
            leaves: node.state == NODE_LEAVING,
            weight: match node.state {
                NODE_ACTIVE => node.weight.min(WEIGHT_MAX).into(),
                _ => 0,
            },
            load: 0,
            pieces: Vec::new(),
            used: node.used_bytes,
            before: node.used_bytes,
            capacity: node.capacity_bytes,
        };
        let mut nodes: Vec<Load> = request.nodes.iter().map(node).collect();
        let mut seen = BTreeSet::new();
        let mut total = 0;
        for partition in &request.partitions {
            let Some(node) = nodes.get_mut(partition.owner as usize) else { continue };
            if !seen.insert(partition.id) {
                continue;
            }
            let count = if by_bytes { partition.bytes } else { 1 };
            node.load += i128::from(count);
            let stays = partition.flags & (PARTITION_PINNED | PARTITION_COPYING) != 0;
            if !stays {
                node.pieces.push((count, partition.id));
            }
            if node.weight > 0 || (node.gives_all && !stays) {
                total += i128::from(count);
            }
        }
        for node in &mut nodes {
            node.pieces.sort_unstable();
        }
        let weights = nodes.iter().map(|node| node.weight).sum();
        let most = request.max_moves as usize;
        Self { nodes, by_bytes, weights, total, moves: Vec::new(), most }
    }

    /// What a node holds above its share, times the sum of the weights; below it is negative.
    fn excess(&self, node: &Load) -> i128 {
        node.load * self.weights - self.total * node.weight
    }

    /// Nodes that may receive, the one that lacks most first.
    fn receivers(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| node.weight > 0);
        let mut receivers: Vec<(i128, usize)> =
            nodes.map(|(at, node)| (self.excess(node), at)).collect();
        receivers.sort_unstable();
        receivers.into_iter().map(|(_, at)| at).collect()
    }

    /// Everything goes from the nodes that leave, the largest first, and then from those without a
    /// weight.
    fn evacuate(&mut self) {
        let mut leaving: Vec<(Piece, usize)> = Vec::new();
        for (at, node) in self.nodes.iter_mut().enumerate().filter(|(_, node)| node.gives_all) {
            leaving.extend(core::mem::take(&mut node.pieces).into_iter().map(|piece| (piece, at)));
        }
        leaving.sort_unstable_by_key(|&((count, id), at)| {
            (!self.nodes[at].leaves, core::cmp::Reverse(count), id)
        });
        for (piece, from) in leaving {
            if self.moves.len() >= self.most {
                return;
            }
            let bytes = self.bytes(piece);
            let mut receivers = self.receivers().into_iter();
            if let Some(to) = receivers.find(|&to| self.nodes[to].has_room(bytes)) {
                self.apply(piece, from, to);
            }
        }
    }

    /// From the fullest to the emptiest, until they are even enough.
    fn level(&mut self) {
        self.total = self.nodes.iter().filter(|n| n.weight > 0).map(|n| n.load).sum();
        let count = self.nodes.iter().filter(|node| node.weight > 0).count() as i128;
        let little = self.total * self.weights / count / EVEN_PART;
        let mut givers: BTreeSet<usize> = self.receivers().into_iter().collect();
        while self.moves.len() < self.most {
            let fullest = givers.iter().map(|&at| (self.excess(&self.nodes[at]), usize::MAX - at));
            let Some((_, at)) = fullest.max() else { return };
            let from = usize::MAX - at;
            match self.best(from, little) {
                Some((place, to)) => {
                    let piece = self.nodes[from].pieces.remove(place);
                    self.apply(piece, from, to);
                }
                // Nothing of it fits anywhere, or it is even.
                None => drop(givers.remove(&from)),
            }
        }
    }

    /// Which piece of a node to move, and where: the receiver that lacks most, and the piece after
    /// which both are nearest to their shares.
    fn best(&self, from: usize, little: i128) -> Option<(usize, usize)> {
        let giver = &self.nodes[from];
        for to in self.receivers() {
            let gap = self.excess(giver) - self.excess(&self.nodes[to]);
            if gap <= little {
                return None;
            }
            // More than the whole gap would only turn it round.
            let fits = |&(count, _): &Piece| {
                i128::from(count) * self.weights < gap
                    && self.nodes[to].has_room(if self.by_bytes { count } else { 0 })
            };
            let fitting = giver.pieces.get(..giver.pieces.partition_point(fits)).unwrap_or(&[]);
            let is_small = |&(count, _): &Piece| 2 * i128::from(count) * self.weights < gap;
            let half = fitting.partition_point(is_small);
            let off = |at: usize| {
                let count = fitting.get(at)?.0;
                (count > 0).then(|| (2 * i128::from(count) * self.weights - gap).abs())
            };
            // The first of those that are as large as it: they are in the order of their numbers.
            let first = |at: usize| {
                let count = fitting.get(at).map(|piece| piece.0);
                fitting.partition_point(|piece| Some(piece.0) < count)
            };
            let below = half.checked_sub(1).map(first);
            let nearest = [below, Some(half)].into_iter().flatten();
            let nearest = nearest.filter_map(|at| Some((off(at)?, at))).min();
            if let Some((_, place)) = nearest {
                return Some((place, to));
            }
        }
        None
    }

    fn bytes(&self, (count, _): Piece) -> u64 {
        if self.by_bytes { count } else { 0 }
    }

    fn apply(&mut self, piece: Piece, from: usize, to: usize) {
        let bytes = self.bytes(piece);
        let (count, partition) = piece;
        self.nodes[from].load -= i128::from(count);
        self.nodes[from].used = self.nodes[from].used.saturating_sub(bytes);
        self.nodes[to].load += i128::from(count);
        self.nodes[to].used = self.nodes[to].used.saturating_add(bytes);
        self.moves.push(Move { partition, from: from as u32, to: to as u32, priority: 0 });
    }
}

#[cfg(test)]
mod tests;
