//! Tests of the choice of voters: every case of who is alive and who votes.

use super::*;
use proptest::prelude::*;

fn members(alive: &[u64], dead: &[u64], witnesses: &[u64]) -> Vec<Candidate> {
    let member = |id: u64, alive| Candidate { id, alive, witness: witnesses.contains(&id) };
    let living = alive.iter().map(|id| member(*id, true));
    living.chain(dead.iter().map(|id| member(*id, false))).collect()
}

#[track_caller]
fn check(alive: &[u64], dead: &[u64], current: &[u64], expected: &[u64]) {
    let current = current.iter().copied().collect();
    let chosen = choose_voters(&members(alive, dead, &[]), &current);
    assert_eq!(chosen, expected.iter().copied().collect());
}

#[test]
fn one_three_or_five_vote_and_a_dead_voter_is_replaced() {
    check(&[1], &[], &[1], &[1]);
    check(&[1, 2], &[], &[1], &[1]);
    check(&[1, 2, 3], &[], &[1], &[1, 2, 3]);
    check(&[1, 2, 3, 4], &[], &[1, 2, 4], &[1, 2, 4]);
    check(&[1, 2, 4], &[3], &[1, 2, 3], &[1, 2, 4]);
    check(&[1, 2, 3, 4, 5, 6], &[], &[2, 4, 6], &[1, 2, 3, 4, 6]);
    check(&[1, 2, 3, 4], &[5], &[1, 2, 3, 4, 5], &[1, 2, 3]);
}

#[test]
fn two_that_are_left_of_three_stay_three_and_two_become_one() {
    check(&[1, 2], &[3], &[1, 2, 3], &[1, 2, 3]);
    check(&[1, 2], &[], &[1, 2], &[1]);
}

#[test]
fn without_a_live_majority_nothing_is_chosen() {
    check(&[1, 4, 5], &[2, 3], &[1, 2, 3], &[1, 2, 3]);
    check(&[4, 5, 6], &[1], &[1], &[1]);
}

#[test]
fn a_witness_votes_where_there_are_not_enough_others() {
    let with = |alive: &[u64]| choose_voters(&members(alive, &[], &[9]), &BTreeSet::from([1]));
    assert_eq!(with(&[1, 2, 9]), BTreeSet::from([1, 2, 9]));
    assert_eq!(with(&[1, 2, 3, 9]), BTreeSet::from([1, 2, 3]));
}

proptest! {
    #[test]
    fn whatever_lives_the_choice_is_live_odd_settled_and_keeps_a_live_majority(
        states in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..9),
    ) {
        let candidates: Vec<Candidate> = (1..).zip(&states)
            .map(|(id, (alive, _, witness))| Candidate { id, alive: *alive, witness: *witness })
            .collect();
        let current: BTreeSet<u64> = (1..).zip(&states)
            .filter(|(_, (_, votes, _))| *votes).map(|(id, _)| id).take(5).collect();
        let chosen = choose_voters(&candidates, &current);
        let live = |set: &BTreeSet<u64>| {
            candidates.iter().filter(|c| c.alive && set.contains(&c.id)).count()
        };
        prop_assert_eq!(choose_voters(&candidates, &chosen), chosen.clone(), "it settles");
        if chosen != current {
            prop_assert_eq!(live(&chosen), chosen.len(), "all of them live");
            prop_assert!([1, 3, 5].contains(&chosen.len()));
        }
        if live(&current) * 2 > current.len() {
            prop_assert!(live(&chosen) * 2 > chosen.len());
        } else {
            prop_assert_eq!(chosen, current);
        }
    }
}
