//! Who holds what after an entry: promotion, refill, moves. Part of `apply`.
//!
//! Three rules, whatever happens: only an in-sync member becomes owner; only an owner says that a
//! member is full; and who lost its memory counts for nothing until it was filled again. A
//! partition that has fewer copies than declared gets another member to fill in the same entry
//! that took one away, as long as there is one.

use super::event::Event;
use super::{Assignment, Change, Member, MemberState, Placement, Refused, What};
use crate::limits::CHANGES_MAX;
use crate::placement::{self, Candidate, Holder};
use crate::ring::Ring;
use zepto_abi::{Epoch, Incarnation, NodeId, PartitionId};

/// How much every member owns and holds, by its place in the list; kept up to date while an entry
/// is applied, so that choices spread.
pub(super) struct Shares {
    owned: Vec<usize>,
    held: Vec<usize>,
}

/// What an entry did, counted for its events.
#[derive(Default)]
pub(super) struct Tally {
    moved: Vec<(NodeId, NodeId, usize)>,
    filling: Vec<(NodeId, usize)>,
    filled: Vec<(NodeId, usize)>,
    dropped: Vec<(NodeId, usize)>,
    offline: Vec<(NodeId, usize)>,
}

impl Tally {
    fn moved(&mut self, from: NodeId, to: NodeId) {
        match self.moved.iter_mut().find(|(f, t, _)| (*f, *t) == (from, to)) {
            Some((.., count)) => *count += 1,
            None => self.moved.push((from, to, 1)),
        }
    }

    /// The events, the most important first.
    pub fn events(self) -> Vec<Event> {
        let offline = self.offline.into_iter();
        let offline = offline.map(|(node, partitions)| Event::Offline { node, partitions });
        let moved = self.moved.into_iter();
        let moved = moved.map(|(from, to, partitions)| Event::Moved { partitions, from, to });
        let filled = self.filled.into_iter();
        let filled = filled.map(|(node, partitions)| Event::Filled { node, partitions });
        let dropped = self.dropped.into_iter();
        let dropped = dropped.map(|(node, partitions)| Event::Dropped { node, partitions });
        let filling = self.filling.into_iter();
        let filling = filling.map(|(node, partitions)| Event::Filling { node, partitions });
        offline.chain(moved).chain(filled).chain(dropped).chain(filling).collect()
    }
}

fn count(counts: &mut Vec<(NodeId, usize)>, node: NodeId) {
    match counts.iter_mut().find(|(counted, _)| *counted == node) {
        Some((_, count)) => *count += 1,
        None => counts.push((node, 1)),
    }
}

impl Placement {
    pub(super) fn shares(&self) -> Shares {
        let mut shares =
            Shares { owned: vec![0; self.members.len()], held: vec![0; self.members.len()] };
        for assignment in &self.assignments {
            if let Some(owner) = assignment.owner().and_then(|owner| self.position(owner)) {
                shares.owned[owner] += 1;
            }
            for node in assignment.in_sync().chain(assignment.filling()) {
                if let Some(position) = self.position(node) {
                    shares.held[position] += 1;
                }
            }
        }
        shares
    }

    /// The members that may be given partitions, and their ring.
    pub fn candidates(&self) -> (Vec<Candidate>, Ring) {
        let active = self.members.iter().filter(|member| member.state == MemberState::Active);
        let candidates: Vec<Candidate> =
            active.map(|m| Candidate { node: m.id, weight: m.weight }).collect();
        let ring = Ring::new(candidates.iter().zip(0u16..).map(|(c, i)| (i, c.node, c.weight)));
        (candidates, ring)
    }

    /// Zones as numbers: members without one are each their own.
    fn zone_number(&self, node: NodeId) -> u32 {
        let zone = self.member(node).map_or("", |member| &member.zone);
        let first = self.members.iter().find(|member| !zone.is_empty() && member.zone == zone);
        first.map_or(node.0, |member| member.id.0)
    }

    /// A member's memory is gone, or given up: it counts nowhere any more. Where it was the owner
    /// an in-sync replica takes over; where nobody else is in sync, the partition waits for it.
    pub(super) fn shed(&mut self, epoch: Epoch, node: NodeId, tally: &mut Tally) {
        let (candidates, ring) = self.candidates();
        let mut shares = self.shares();
        for partition in 0..self.assignments.len() {
            let old = self.assignments[partition];
            if !old.holds(node) && !old.is_filling(node) {
                continue;
            }
            let mut new = Assignment { epoch, ..old };
            remove(&mut new, node);
            if new.in_sync().next().is_none() {
                // What is being filled elsewhere is not whole: it cannot take over.
                let alone = Assignment { since: old.since, ..Assignment::of(epoch, &[node]) };
                if old.count() > 1 {
                    self.assignments[partition] = alone;
                }
                count(&mut tally.offline, node);
                continue;
            }
            if old.owner() == Some(node) {
                let heir = self.heir(&new, &shares);
                promote(&mut new, heir);
                tally.moved(node, heir);
                if let Some(position) = self.position(heir) {
                    shares.owned[position] += 1;
                }
            } else {
                count(&mut tally.dropped, node);
            }
            self.replenish(partition, &mut new, (&candidates, &ring), &mut shares, tally);
            self.assignments[partition] = new;
        }
    }

    /// Who takes over: whoever is there to stay and owns least.
    fn heir(&self, assignment: &Assignment, shares: &Shares) -> NodeId {
        let rank = |node: &NodeId| {
            let position = self.position(*node);
            let member = position.map(|position| &self.members[position]);
            let stays = member.is_some_and(|member| member.state == MemberState::Active);
            (!stays, position.map_or(usize::MAX, |position| shares.owned[position]), *node)
        };
        assignment.in_sync().min_by_key(rank).unwrap_or(NodeId(0))
    }

    /// Lets members be filled until there are as many copies as declared: the next ones on the
    /// ring, of zones not used yet as long as there are any.
    fn replenish(
        &self,
        partition: usize,
        new: &mut Assignment,
        (candidates, ring): (&[Candidate], &Ring),
        shares: &mut Shares,
        tally: &mut Tally,
    ) {
        let copies = usize::from(self.copies);
        while new.count() < copies {
            let token = placement::token_of(PartitionId(partition as u32), self.assignments.len());
            let used: Vec<u32> =
                new.in_sync().chain(new.filling()).map(|node| self.zone_number(node)).collect();
            let walk = ring.walk(token).map(|i| candidates[usize::from(i)].node);
            let free: Vec<NodeId> =
                walk.filter(|node| !new.holds(*node) && !new.is_filling(*node)).collect();
            let apart = free.iter().find(|node| !used.contains(&self.zone_number(**node)));
            let Some(&node) = apart.or(free.first()) else { return };
            if !add(&mut new.filling, node) {
                return;
            }
            if let Some(position) = self.position(node) {
                shares.held[position] += 1;
            }
            count(&mut tally.filling, node);
        }
    }

    /// Drops copies beyond the declared ones, but not the owner's nor `keep`'s: of whoever goes
    /// away, else of whoever holds most for its weight.
    fn trim(&self, new: &mut Assignment, keep: NodeId, shares: &mut Shares, tally: &mut Tally) {
        while new.in_sync().count() > usize::from(self.copies) {
            let load = |node: &NodeId| {
                let position = self.position(*node)?;
                let member = &self.members[position];
                let leaving = member.state != MemberState::Active || member.weight == 0;
                Some((leaving, shares.held[position] * 1000 / usize::from(member.weight.max(1))))
            };
            // Where a move has a goal, its target stays.
            let spare = new.replicas().filter(|node| *node != keep && *node != new.target);
            let Some(node) = spare.max_by_key(|node| (load(node), *node)) else { return };
            remove(new, node);
            if let Some(position) = self.position(node) {
                shares.held[position] -= 1;
            }
            count(&mut tally.dropped, node);
        }
    }

    /// Partitions that a restarted member held alone begin anew, empty.
    pub(super) fn reset_lost(&mut self, epoch: Epoch, node: NodeId, tally: &mut Tally) -> usize {
        let (candidates, ring) = self.candidates();
        let mut shares = self.shares();
        let mut lost = 0;
        for partition in 0..self.assignments.len() {
            if self.assignments[partition].holds(node) {
                let mut new = Assignment::of(epoch, &[node]);
                self.replenish(partition, &mut new, (&candidates, &ring), &mut shares, tally);
                self.assignments[partition] = new;
                lost += 1;
            }
        }
        lost
    }

    /// Gives partitions that nobody owns to the active members, and fills up copies that are
    /// missing because there were too few members.
    pub(super) fn spread(&mut self, epoch: Epoch, tally: &mut Tally) {
        let (candidates, ring) = self.candidates();
        let holder = |assignment: &Assignment| match assignment.owner() {
            None => Holder::Nobody,
            Some(_) => Holder::Outside,
        };
        let holders: Vec<Holder> = self.assignments.iter().map(holder).collect();
        for step in placement::plan(&holders, &candidates) {
            let owner = candidates[usize::from(step.to)].node;
            self.assignments[step.partition.0 as usize] = Assignment::of(epoch, &[owner]);
            tally.moved(NodeId(0), owner);
        }
        let mut shares = self.shares();
        for partition in 0..self.assignments.len() {
            let old = self.assignments[partition];
            let there = old.owner().and_then(|owner| self.member(owner));
            if old.count() < usize::from(self.copies) && there.is_some_and(Member::takes_part) {
                let mut new = old;
                self.replenish(partition, &mut new, (&candidates, &ring), &mut shares, tally);
                if new != old {
                    self.assignments[partition] = Assignment { epoch, ..new };
                }
            }
        }
    }

    /// Partitions whose owner is gone, nobody else being in sync.
    pub fn offline(&self) -> impl Iterator<Item = PartitionId> + '_ {
        let partitions = self.assignments.iter().zip((0u32..).map(PartitionId));
        let gone = |owner: NodeId| !self.member(owner).is_some_and(Member::takes_part);
        partitions.filter(move |(a, _)| a.owner().is_some_and(gone)).map(|(_, p)| p)
    }

    /// An operator gives up what offline partitions held: they begin anew at others.
    pub(super) fn recover(&mut self, epoch: Epoch, partitions: u32) -> Result<Vec<Event>, Refused> {
        let offline: Vec<PartitionId> = self.offline().collect();
        if offline.is_empty() || offline.len() != partitions as usize {
            let text = format!("{} partitions are offline, not {partitions}", offline.len());
            return Err(Refused::Invalid(text));
        }
        let (candidates, _) = self.candidates();
        if candidates.iter().all(|candidate| candidate.weight == 0) {
            return Err(Refused::Invalid("there is no active member to take them".into()));
        }
        let mut lost = Vec::new();
        for partition in offline {
            let slot = &mut self.assignments[partition.0 as usize];
            count(&mut lost, slot.copies[0]);
            *slot = Assignment::NOBODY;
        }
        let mut tally = Tally::default();
        self.spread(epoch, &mut tally);
        let lost = lost.into_iter();
        let lost = lost.map(|(node, partitions)| Event::DataLost { node, partitions });
        Ok(lost.chain(tally.events()).collect())
    }

    /// An owner's changes: those that fit happen, the others are passed over.
    pub(super) fn change(
        &mut self,
        epoch: Epoch,
        node: NodeId,
        incarnation: Incarnation,
        changes: &[Change],
    ) -> Result<Vec<Event>, Refused> {
        let owner = self.member(node).ok_or(Refused::NoMember(node))?;
        if owner.incarnation != incarnation || !owner.takes_part() {
            return Err(Refused::Outdated { node, incarnation });
        }
        if changes.is_empty() || changes.len() > CHANGES_MAX {
            return Err(Refused::Invalid(format!("an entry has 1 to {CHANGES_MAX} changes")));
        }
        let candidates = self.candidates();
        let (mut shares, mut tally, mut fit) = (self.shares(), Tally::default(), false);
        for change in changes {
            let Some(old) = self.assignment(change.partition).copied() else { continue };
            if old.epoch != change.epoch || old.owner() != Some(node) {
                continue;
            }
            let mut new = old;
            if !self.step(change.what, &mut new, &mut shares, &mut tally) {
                continue;
            }
            let partition = change.partition.0 as usize;
            if matches!(change.what, What::Drop(_)) {
                let from = (&candidates.0[..], &candidates.1);
                self.replenish(partition, &mut new, from, &mut shares, &mut tally);
            }
            // A copy that was dropped may be wanted again at once: its owner fills it anew when the
            // epoch says that this was decided.
            let decides = matches!(change.what, What::Renew | What::Drop(_));
            if decides || (new.copies, new.filling) != (old.copies, old.filling) {
                new.epoch = epoch;
            }
            self.assignments[partition] = new;
            fit = true;
        }
        if fit {
            return Ok(tally.events());
        }
        let partition = changes[0].partition;
        let held = self.assignment(partition).map_or(Epoch(0), |assignment| assignment.epoch);
        Err(Refused::Changed { partition, epoch: held })
    }

    /// One change, if it fits.
    fn step(
        &self,
        what: What,
        new: &mut Assignment,
        shares: &mut Shares,
        tally: &mut Tally,
    ) -> bool {
        let state = |node| self.member(node).map(|member| member.state);
        let is_active = |node| state(node) == Some(MemberState::Active);
        let is_there = |node| self.member(node).is_some_and(Member::takes_part);
        match what {
            What::Fill(node) => is_active(node) && self.begin_fill(new, node, shares, tally),
            What::Move(node) => {
                let free = new.target == NodeId(0) && new.owner() != Some(node);
                let fits = free && is_active(node);
                let has = new.holds(node) || new.is_filling(node);
                if !fits || !(has || self.begin_fill(new, node, shares, tally)) {
                    return false;
                }
                new.target = node;
                true
            }
            What::Admit(node) => {
                if !new.is_filling(node) || !is_there(node) {
                    return false;
                }
                new.filling = without(new.filling, node);
                if !add(&mut new.copies, node) {
                    return false;
                }
                count(&mut tally.filled, node);
                self.trim(new, node, shares, tally);
                true
            }
            What::Drop(node) => {
                let has = new.holds(node) || new.is_filling(node);
                if !has || new.owner() == Some(node) {
                    return false;
                }
                remove(new, node);
                if let Some(position) = self.position(node) {
                    shares.held[position] -= 1;
                }
                count(&mut tally.dropped, node);
                true
            }
            What::Switch(node) => {
                let Some(old) = new.owner().filter(|old| *old != node) else { return false };
                if !new.holds(node) || !is_active(node) {
                    return false;
                }
                promote(new, node);
                new.target = NodeId(0);
                tally.moved(old, node);
                self.trim(new, NodeId(0), shares, tally);
                true
            }
            What::Renew => true,
        }
    }

    /// One more member is filled, at most one beyond the declared copies.
    fn begin_fill(
        &self,
        new: &mut Assignment,
        node: NodeId,
        shares: &mut Shares,
        tally: &mut Tally,
    ) -> bool {
        let has = new.holds(node) || new.is_filling(node);
        if has || new.count() > usize::from(self.copies) || !add(&mut new.filling, node) {
            return false;
        }
        if let Some(position) = self.position(node) {
            shares.held[position] += 1;
        }
        count(&mut tally.filling, node);
        true
    }
}

/// Puts an in-sync member first.
fn promote(assignment: &mut Assignment, node: NodeId) {
    if let Some(place) = assignment.copies.iter().position(|copy| *copy == node) {
        assignment.copies[..=place].rotate_right(1);
    }
    if assignment.target == node {
        assignment.target = NodeId(0);
    }
}

/// Takes a member out, wherever it stands.
fn remove(assignment: &mut Assignment, node: NodeId) {
    assignment.copies = without(assignment.copies, node);
    assignment.filling = without(assignment.filling, node);
    if assignment.target == node {
        assignment.target = NodeId(0);
    }
}

fn without<const N: usize>(nodes: [NodeId; N], node: NodeId) -> [NodeId; N] {
    let mut kept = [NodeId(0); N];
    let rest = nodes.into_iter().filter(|other| *other != node);
    for (slot, node) in kept.iter_mut().zip(rest) {
        *slot = node;
    }
    kept
}

fn add<const N: usize>(nodes: &mut [NodeId; N], node: NodeId) -> bool {
    let free = nodes.iter_mut().find(|slot| **slot == NodeId(0));
    free.map(|slot| *slot = node).is_some()
}
