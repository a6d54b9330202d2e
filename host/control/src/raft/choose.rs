//! Which peers should vote. Pure: the same members give the same voters, whoever leads.
//!
//! Five voters when five are alive, three when three are; below that the voters stay as they are.
//! A dead voter is replaced by a live learner, a live one is not replaced by anybody. Without a
//! majority of live voters nothing can be decided, so nothing is chosen either.

use std::collections::BTreeSet;
use zepto_core::limits::VOTERS_MAX;

/// A peer that may vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its voter id.
    pub id: u64,
    /// Whether it is alive, by the decision of the log.
    pub alive: bool,
    /// Whether it only votes and holds no data: it is chosen where there are not enough others.
    pub witness: bool,
}

/// The voters that there should be, given those that there are.
pub fn choose_voters(members: &[Candidate], current: &BTreeSet<u64>) -> BTreeSet<u64> {
    let alive: Vec<&Candidate> = members.iter().filter(|member| member.alive).collect();
    let live_voters = alive.iter().filter(|member| current.contains(&member.id)).count();
    if live_voters * 2 <= current.len() {
        return current.clone();
    }
    let wanted = match alive.len() {
        VOTERS_MAX.. => VOTERS_MAX,
        3.. => 3,
        // Two voters are worse than one: either one's end is the end of both.
        _ if current.len() == 2 => 1,
        _ => return current.clone(),
    };
    let mut ranked = alive;
    ranked.sort_by_key(|member| (member.witness, !current.contains(&member.id), member.id));
    let mut chosen: Vec<u64> = ranked.iter().map(|member| member.id).collect();
    chosen.dedup();
    chosen.into_iter().take(wanted).collect()
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
