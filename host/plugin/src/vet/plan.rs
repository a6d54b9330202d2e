//! A migration strategy's plan: taken as a whole, or refused with the reason of each bad move.

use super::Rejected;
use std::collections::BTreeSet;
use zepto_abi::plugin::{PARTITION_PINNED, PluginStatus};
use zepto_message::{Move, Plan, PlanRequest};

/// Bad moves that a refusal tells of.
const TOLD_MAX: usize = 8;

/// What a plan is an answer to.
#[derive(Clone, Debug)]
pub struct Question {
    index: u64,
    max_moves: u32,
    /// Bytes held and bytes allowed, of each node.
    nodes: Vec<(u64, u64)>,
    /// Number, bytes, owner and whether it is pinned, in ascending order of numbers.
    partitions: Vec<(u64, u64, u32, bool)>,
}

impl Question {
    /// The part of a question that its answer is checked against.
    pub fn of(request: &PlanRequest<'_>) -> Self {
        let partition = |p: &zepto_message::Partition| {
            (p.id, p.bytes, p.owner, p.flags & PARTITION_PINNED != 0)
        };
        let mut partitions: Vec<_> = request.partitions.iter().map(partition).collect();
        partitions.sort_unstable();
        Self {
            index: request.index,
            max_moves: request.max_moves,
            nodes: request.nodes.iter().map(|n| (n.used_bytes, n.capacity_bytes)).collect(),
            partitions,
        }
    }

    fn check(&self, one: &Move, moved: &mut BTreeSet<u64>) -> Result<u64, String> {
        let found = self.partitions.binary_search_by_key(&one.partition, |(id, ..)| *id);
        let partition = found.ok().and_then(|at| self.partitions.get(at));
        let &(id, bytes, owner, is_pinned) = partition
            .ok_or_else(|| format!("partition {} is not in the question", one.partition))?;
        let nodes = self.nodes.len();
        if one.from as usize >= nodes || one.to as usize >= nodes {
            return Err(format!("partition {id}: {} to {} of {nodes} nodes", one.from, one.to));
        }
        if one.from != owner {
            return Err(format!("partition {id} is owned by node {owner}, not {}", one.from));
        }
        if one.to == one.from {
            return Err(format!("partition {id} stays where it is"));
        }
        if is_pinned {
            return Err(format!("partition {id} is pinned"));
        }
        if !moved.insert(id) {
            return Err(format!("partition {id} moves twice"));
        }
        Ok(bytes)
    }
}

/// Checks a plan as the answer to a question.
///
/// # Errors
/// Why it is refused; nothing of it is applied then.
pub fn vet_plan(question: &Question, bytes: &[u8]) -> Result<Plan, Rejected> {
    let plan = Plan::read(bytes, question.max_moves)?;
    if plan.index != question.index {
        let text = format!("index {} of a question about {}", plan.index, question.index);
        return Err(Rejected::new("stale", PluginStatus::Conflict, text));
    }
    let mut wrong = Vec::new();
    let mut moved = BTreeSet::new();
    let mut used: Vec<u64> = question.nodes.iter().map(|(used, _)| *used).collect();
    for (number, one) in plan.moves.iter().enumerate() {
        match question.check(one, &mut moved) {
            Ok(bytes) => {
                let at = |node: u32| node as usize;
                used[at(one.from)] = used[at(one.from)].saturating_sub(bytes);
                used[at(one.to)] = used[at(one.to)].saturating_add(bytes);
            }
            Err(text) => wrong.push(format!("move {number}: {text}")),
        }
    }
    // After all moves: a plan may exchange partitions between two full nodes.
    for (node, (used, (before, capacity))) in used.iter().zip(&question.nodes).enumerate() {
        if used > capacity && used > before {
            wrong.push(format!("node {node} would hold {used} bytes of {capacity}"));
        }
    }
    if wrong.is_empty() {
        return Ok(plan);
    }
    let more = wrong.len().saturating_sub(TOLD_MAX);
    wrong.truncate(TOLD_MAX);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    Err(Rejected::new("bad_moves", PluginStatus::Invalid, wrong.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zepto_message::{NodeLoad, Partition};

    fn question() -> Question {
        let node = |id| NodeLoad { id, used_bytes: 50, capacity_bytes: 100, ..NodeLoad::default() };
        let partition =
            |id, owner, flags| Partition { id, bytes: 30, ticks_per_s: 1, owner, flags };
        Question::of(&PlanRequest {
            index: 9,
            reason: 1,
            max_moves: 4,
            nodes: vec![node("a"), node("b")],
            partitions: vec![
                partition(3, 0, 0),
                partition(1, 0, PARTITION_PINNED),
                partition(2, 1, 0),
                partition(4, 0, 0),
            ],
        })
    }

    fn vet(index: u64, moves: &[(u64, u32, u32)]) -> Result<Plan, Rejected> {
        let one = |&(partition, from, to)| Move { partition, from, to, priority: 0 };
        let plan = Plan { index, moves: moves.iter().map(one).collect() };
        vet_plan(&question(), &plan.write())
    }

    #[test]
    fn a_good_plan_is_taken() {
        assert_eq!(vet(9, &[]).unwrap().moves.len(), 0);
        assert_eq!(vet(9, &[(3, 0, 1)]).unwrap().moves.len(), 1);
        let exchange = [(3, 0, 1), (4, 0, 1), (2, 1, 0)];
        assert_eq!(vet(9, &exchange).unwrap().moves.len(), 3, "nobody ends above capacity");
    }

    #[test]
    fn one_bad_move_refuses_the_whole_plan_and_says_why() {
        for (moves, text) in [
            (&[(3, 0, 1), (3, 0, 1)][..], "move 1: partition 3 moves twice"),
            (&[(3, 0, 2)], "0 to 2 of 2 nodes"),
            (&[(3, u32::MAX, 1)], "of 2 nodes"),
            (&[(3, 1, 0)], "owned by node 0, not 1"),
            (&[(3, 0, 0)], "stays where it is"),
            (&[(1, 0, 1)], "partition 1 is pinned"),
            (&[(7, 0, 1)], "partition 7 is not in the question"),
            (&[(3, 0, 1), (4, 0, 1)], "node 1 would hold 110 bytes of 100"),
        ] {
            let wrong = vet(9, moves).unwrap_err();
            assert_eq!(wrong.reason, "bad_moves");
            assert!(wrong.text.contains(text), "{wrong}");
        }
    }

    #[test]
    fn a_stale_plan_and_one_that_is_too_long_are_refused() {
        assert_eq!(vet(8, &[]).unwrap_err().reason, "stale");
        assert_eq!(vet(9, &[(3, 0, 1); 5]).unwrap_err().reason, "too_many");
    }
}
