//! Plans for questions whose answer one sees, and rules that hold for the plans of any question.

use super::*;
use zepto_sdk::abi::{NODE_DEAD, NODE_JOINING, NODE_SUSPECT};
use zepto_sdk::{NodeLoad, Partition};

const GIB: u64 = 1 << 30;

fn node(state: u8) -> NodeLoad<'static> {
    NodeLoad { id: "n", capacity_bytes: 1000 * GIB, weight: 100, state, ..NodeLoad::default() }
}

/// A question about partitions of these bytes on each node, which are numbered in this order.
fn question(nodes: &[NodeLoad<'static>], bytes: &[&[u64]]) -> PlanRequest<'static> {
    let mut request =
        PlanRequest { index: 7, max_moves: 100, nodes: nodes.to_vec(), ..PlanRequest::default() };
    for (owner, sizes) in (0..).zip(bytes) {
        for bytes in *sizes {
            let id = request.partitions.len() as u64;
            request.partitions.push(Partition { id, bytes: *bytes, owner, ..Partition::default() });
            request.nodes[owner as usize].used_bytes += bytes;
        }
    }
    request
}

fn moves(request: &PlanRequest<'_>) -> Vec<(u64, u32, u32)> {
    let plan = plan(request);
    assert_eq!(plan.index, request.index);
    plan.moves.iter().map(|one| (one.partition, one.from, one.to)).collect()
}

#[test]
fn the_emptiest_gets_from_the_fullest_with_the_fewest_moves() {
    let active = [node(NODE_ACTIVE); 3];
    assert_eq!(moves(&question(&active, &[&[4, 4, 4], &[4], &[4, 4]])), [(0, 0, 1)]);
    // One move of 10 and not ten of 1.
    let pieces: &[u64] = &[1, 1, 1, 1, 1, 10, 10];
    assert_eq!(moves(&question(&active[..2], &[pieces, &[5]])), [(5, 0, 1)]);
    assert_eq!(moves(&question(&active, &[])), []);
    assert_eq!(moves(&PlanRequest::default()), []);
}

#[test]
fn what_is_even_enough_stays() {
    let active = [node(NODE_ACTIVE); 2];
    assert_eq!(moves(&question(&active, &[&[50, 51, 2], &[100]])), []);
    assert_eq!(moves(&question(&active, &[&[50, 51, 12], &[100]])), [(2, 0, 1)]);
    assert_eq!(moves(&question(&active, &[&[100], &[]])), [], "it would only be the other way");
}

#[test]
fn without_bytes_the_numbers_of_partitions_count() {
    let active = [node(NODE_ACTIVE); 3];
    let planned = moves(&question(&active, &[&[0; 8], &[], &[]]));
    assert_eq!(planned.len(), 5);
    assert_eq!(planned.iter().filter(|(_, _, to)| *to == 1).count(), 3);
}

#[test]
fn weights_are_shares_and_no_weight_is_none() {
    let mut nodes = [node(NODE_ACTIVE); 3];
    nodes[1].weight = 200;
    nodes[2].weight = 0;
    let planned = moves(&question(&nodes, &[&[1; 9], &[], &[1; 3]]));
    assert_eq!(planned.iter().filter(|(_, from, _)| *from == 2).count(), 3);
    assert_eq!(planned.iter().filter(|(_, _, to)| *to == 1).count(), 8);
    assert_eq!(planned.len(), 8);
    let nodes = nodes.map(|node| NodeLoad { weight: 0, ..node });
    assert_eq!(moves(&question(&nodes, &[&[1; 9]])), []);
}

#[test]
fn nodes_that_leave_come_first_and_give_everything() {
    let nodes = [node(NODE_ACTIVE), node(NODE_LEAVING), node(NODE_ACTIVE)];
    let mut request = question(&nodes, &[&[9, 9, 9], &[2, 7, 1], &[]]);
    let all = plan(&request);
    let sources: Vec<u32> = all.moves.iter().map(|one| one.from).collect();
    assert_eq!(sources, [1, 1, 1, 0]);
    assert!(all.moves.is_sorted_by(|a, b| a.priority > b.priority));
    request.max_moves = 2;
    assert_eq!(moves(&request), [(4, 1, 2), (3, 1, 2)], "the largest first");
    request.max_moves = 0;
    assert_eq!(moves(&request), []);
}

#[test]
fn only_active_nodes_receive_and_others_are_left_alone() {
    for state in [0, NODE_JOINING, NODE_SUSPECT, NODE_DEAD] {
        let nodes = [node(NODE_ACTIVE), node(state), node(state)];
        assert_eq!(moves(&question(&nodes, &[&[5; 9], &[], &[9; 99]])), [], "{state}");
    }
}

#[test]
fn what_is_pinned_or_being_copied_stays() {
    let nodes = [node(NODE_LEAVING), node(NODE_ACTIVE)];
    let mut request = question(&nodes, &[&[5, 5, 5], &[]]);
    request.partitions[0].flags = PARTITION_PINNED;
    request.partitions[2].flags = PARTITION_COPYING;
    assert_eq!(moves(&request), [(1, 0, 1)]);
    request.nodes[0].state = NODE_ACTIVE;
    assert_eq!(moves(&request), [(1, 0, 1)]);
}

#[test]
fn nobody_gets_more_than_fits() {
    let mut nodes = [node(NODE_ACTIVE), node(NODE_ACTIVE), node(NODE_ACTIVE)];
    nodes[1].capacity_bytes = 4;
    nodes[2].capacity_bytes = 0;
    let request = question(&nodes, &[&[3, 3, 3, 3], &[], &[]]);
    assert_eq!(moves(&request), [(0, 0, 1)], "no capacity is none");
}

#[test]
fn owners_that_are_none_and_numbers_that_are_there_twice_are_passed_over() {
    let mut request = question(&[node(NODE_ACTIVE); 2], &[&[5, 5, 5, 5], &[]]);
    request.partitions[3].owner = 9;
    request.partitions[1].id = 0;
    assert_eq!(moves(&request), [(0, 0, 1)]);
}

/// Numbers that look random, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn any_question(numbers: &mut Numbers) -> PlanRequest<'static> {
    let nodes = 1 + numbers.below(8);
    let has_bytes = numbers.below(4) > 0;
    let mut request = PlanRequest {
        index: numbers.below(1000),
        max_moves: numbers.below(40) as u32,
        ..PlanRequest::default()
    };
    for _ in 0..nodes {
        let state = [2, 2, 2, 4, 0, 1, 3, 5][numbers.below(8) as usize];
        let weight = [100, 100, 50, 300, 0][numbers.below(5) as usize];
        let capacity_bytes = [1000 * GIB, 2000, 0, u64::MAX][numbers.below(4) as usize];
        let used_bytes = numbers.below(100);
        request.nodes.push(NodeLoad { weight, capacity_bytes, used_bytes, ..node(state) });
    }
    for id in 0..numbers.below(60) {
        let bytes = if has_bytes { numbers.below(200) } else { 0 };
        let (owner, flags) = (numbers.below(nodes) as u32, numbers.below(8) as u32);
        let flags = if flags > 3 { 0 } else { flags };
        request.partitions.push(Partition { id, bytes, owner, flags, ticks_per_s: 0 });
        let node = &mut request.nodes[owner as usize];
        node.used_bytes = node.used_bytes.saturating_add(bytes);
    }
    request
}

/// Checks a plan by the rules, move for move; gives the question after it.
fn obey(request: &PlanRequest<'static>) -> PlanRequest<'static> {
    let plan = plan(request);
    assert_eq!(plan, super::plan(request), "the same again");
    assert_eq!(plan.index, request.index);
    assert!(plan.moves.len() <= request.max_moves as usize);
    assert!(plan.moves.is_sorted_by(|a, b| a.priority > b.priority));
    let mut after = request.clone();
    let mut moved = BTreeSet::new();
    let mut before = 0;
    for one in &plan.moves {
        assert!(moved.insert(one.partition));
        let partition = after.partitions.iter_mut().find(|p| p.id == one.partition).unwrap();
        assert_eq!((partition.owner, partition.flags), (one.from, 0));
        assert_ne!(one.from, one.to);
        partition.owner = one.to;
        let bytes = partition.bytes;
        let from = &mut after.nodes[one.from as usize];
        let phase = match (from.state, from.weight) {
            (NODE_LEAVING, _) => 0,
            (NODE_ACTIVE, 0) => 1,
            (state, _) => 2 + u32::from(state != NODE_ACTIVE),
        };
        assert!(before <= phase && phase <= 2, "those that leave come first");
        before = phase;
        from.used_bytes = from.used_bytes.saturating_sub(bytes);
        let to = &mut after.nodes[one.to as usize];
        to.used_bytes += bytes;
        assert!(to.state == NODE_ACTIVE && to.weight > 0);
        let before = request.nodes[one.to as usize].used_bytes;
        assert!(to.used_bytes <= to.capacity_bytes.max(before));
    }
    after
}

#[test]
fn every_plan_keeps_the_rules_and_comes_to_rest() {
    let mut numbers = Numbers(1);
    let (mut planned, mut rounds_most) = (0, 0);
    for number in 0..20_000 {
        let mut request = any_question(&mut numbers);
        planned += plan(&request).moves.len();
        request = obey(&request);
        request.max_moves = u32::MAX;
        let mut rounds = 0;
        while !plan(&request).moves.is_empty() {
            request = obey(&request);
            rounds += 1;
            assert!(rounds < 50, "question {number} never comes to rest");
        }
        rounds_most = rounds_most.max(rounds);
    }
    println!("{planned} moves; at most {rounds_most} more plans until nothing moves");
    assert!(planned > 10_000);
}

#[test]
fn everything_goes_from_a_node_that_leaves_where_there_is_room() {
    let mut numbers = Numbers(2);
    for _ in 0..2000 {
        let mut request = any_question(&mut numbers);
        request.max_moves = u32::MAX;
        for node in &mut request.nodes {
            node.capacity_bytes = u64::MAX;
        }
        let may_receive = |n: &NodeLoad<'_>| n.state == NODE_ACTIVE && n.weight > 0;
        if !request.nodes.iter().any(may_receive) {
            continue;
        }
        let after = obey(&request);
        for partition in after.partitions.iter().filter(|partition| partition.flags == 0) {
            assert_ne!(after.nodes[partition.owner as usize].state, NODE_LEAVING);
        }
    }
}
