//! The one function that changes the topology.
//!
//! It validates first and changes then, so a refused entry changes nothing. Deterministic: the
//! same entries give the same topology everywhere.

use super::{Assignment, Command, Handover, Member, MemberState, Placement, Refused, Topology};
use crate::defect::Defect;
use crate::hash::mix;
use crate::limits::{
    ADDRESS_BYTES_MAX, COPIES_MAX, INTERN_BATCH_MAX, MEMBERS_MAX, NODE_NAME_BYTES_MAX,
    PARTITION_BITS_MAX, SHARDS_MAX, WEIGHT_MAX,
};
use crate::placement::{self, Candidate, Holder};
use crate::ring::Ring;
use crate::symbols::Symbols;
use zepto_abi::{Epoch, Incarnation, NodeId, PartitionId};

/// Stands in the chain of hashes where an entry has no bytes of its own.
const PASSED: u64 = 0x7a65_7074_6f00_0003;

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed the topology; these happened, in order.
    Changed(Vec<Event>),
    /// It was refused and changed nothing but the index.
    Refused(Refused),
}

/// Something an operator wants to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cluster exists.
    Bootstrapped {
        /// Its id.
        cluster: u128,
    },
    /// A member, or a new incarnation of one, is joining.
    Joining(NodeId, Incarnation),
    /// A member takes part.
    Active(NodeId, Incarnation),
    /// A member is going away.
    Leaving(NodeId, Incarnation),
    /// An incarnation is over.
    Dead(NodeId, Incarnation),
    /// Partitions have another owner.
    Moved {
        /// How many.
        partitions: usize,
        /// From whom; zero is nobody.
        from: NodeId,
        /// To whom.
        to: NodeId,
    },
    /// An owner came back empty, and no other copy was in sync: what these partitions held is
    /// lost, and they take ticks again.
    DataLost {
        /// The owner.
        node: NodeId,
        /// How many partitions.
        partitions: usize,
    },
    /// Symbol ids were issued.
    Interned {
        /// The first new id.
        first: u32,
        /// How many.
        count: u32,
    },
}

type Result<T = Vec<Event>> = core::result::Result<T, Refused>;

impl Topology {
    /// Applies the entry with the next index. `digest` is a hash of the entry's bytes.
    ///
    /// A refused entry still has its index, so that equal index means equal topology.
    pub fn apply(&mut self, index: u64, digest: u64, command: &Command) -> Applied {
        debug_assert_eq!(index, self.placement.index + 1, "the log has no gaps");
        let done = self.dispatch(Epoch(index), command);
        self.placement.index = index;
        self.placement.hash = mix(self.placement.hash ^ mix(digest ^ index));
        match done {
            Ok(events) => Applied::Changed(events),
            Err(refused) => Applied::Refused(refused),
        }
    }

    /// Passes over the entry with the next index: one that consensus keeps for itself, such as a new
    /// leader's first. It changes nothing but the index, and the hash with it.
    pub fn pass(&mut self, index: u64) {
        debug_assert_eq!(index, self.placement.index + 1, "the log has no gaps");
        self.placement.index = index;
        self.placement.hash = mix(self.placement.hash ^ mix(PASSED ^ index));
    }

    fn dispatch(&mut self, epoch: Epoch, command: &Command) -> Result {
        let placement = &mut self.placement;
        if let Command::Bootstrap { cluster, bits, copies } = command {
            return placement.bootstrap(*cluster, *bits, *copies);
        }
        if placement.cluster == 0 {
            return Err(Refused::NotBootstrapped);
        }
        match command {
            Command::Bootstrap { .. } => Err(Refused::Bootstrapped),
            Command::Join { .. } => placement.join(epoch, command),
            Command::Activate { node, incarnation } => {
                placement.activate(epoch, *node, *incarnation)
            }
            Command::Leave { node, incarnation } => placement.leave(*node, *incarnation),
            Command::Bury { node, incarnation } => placement.bury(*node, *incarnation),
            Command::HandOver { node, incarnation, handovers } => {
                placement.hand_over(epoch, *node, *incarnation, handovers)
            }
            Command::Reassign { partition, epoch: known, copies } => {
                placement.reassign(epoch, *partition, *known, copies)
            }
            Command::Intern { names } => intern(&mut self.symbols, names),
        }
    }
}

impl Placement {
    fn bootstrap(&mut self, cluster: u128, bits: u8, copies: u8) -> Result {
        if self.cluster != 0 {
            return Err(Refused::Bootstrapped);
        }
        if cluster == 0 {
            return Err(invalid("cluster id 0 means there is none"));
        }
        if !(1..=PARTITION_BITS_MAX).contains(&bits) {
            return Err(invalid("partitions are 2^1 to 2^16"));
        }
        if !(1..=COPIES_MAX).contains(&usize::from(copies)) {
            return Err(invalid("copies are 1 to 4"));
        }
        (self.cluster, self.bits, self.copies) = (cluster, bits, copies);
        let nobody = Assignment { epoch: Epoch(0), copies: [NodeId(0); COPIES_MAX] };
        self.assignments = vec![nobody; 1 << bits];
        Ok(vec![Event::Bootstrapped { cluster }])
    }

    fn join(&mut self, epoch: Epoch, command: &Command) -> Result {
        let Command::Join { name, incarnation, address, shards, weight, zone } = command else {
            return Err(invalid("not a join"));
        };
        check_join(name, address, *shards, *weight, zone)?;
        let known = self.members.iter().position(|member| member.name == *name);
        let id = match known {
            Some(position) => self.members[position].id,
            None => NodeId(self.members.last().map_or(0, |member| member.id.0) + 1),
        };
        let member = Member {
            id,
            name: name.clone(),
            incarnation: *incarnation,
            state: MemberState::Joining,
            address: address.clone(),
            shards: *shards,
            weight: *weight,
            zone: zone.clone(),
        };
        let mut events = Vec::new();
        match known {
            Some(position) => {
                let old = &self.members[position];
                if old.incarnation >= *incarnation {
                    return Err(Refused::Outdated { node: id, incarnation: *incarnation });
                }
                if old.state != MemberState::Dead {
                    events.push(Event::Dead(id, old.incarnation));
                }
                self.members[position] = member;
            }
            None if self.members.len() >= MEMBERS_MAX => return Err(Refused::Full),
            None => self.members.push(member),
        }
        events.push(Event::Joining(id, *incarnation));
        if known.is_some() && !Defect::EmptyReplicaInSync.planted() {
            events.extend(self.drop_copies(epoch, id));
        }
        Ok(events)
    }

    /// A node came back empty: it counts for nothing where another in-sync copy is left, and if it
    /// was the owner there, that copy is promoted. What it held alone is lost when it is active.
    fn drop_copies(&mut self, epoch: Epoch, node: NodeId) -> Vec<Event> {
        let mut events = Vec::new();
        for partition in 0..self.assignments.len() {
            let old = self.assignments[partition];
            let others = old.copies.into_iter().filter(|copy| *copy != NodeId(0) && *copy != node);
            let mut others: Vec<NodeId> = others.collect();
            if !old.holds(node) || others.is_empty() {
                continue;
            }
            let active = |id| self.member(id).is_some_and(|m| m.state == MemberState::Active);
            // Whoever is left takes part, as long as one of them does; the owner stays among them.
            if others.iter().any(|id| active(*id)) {
                others.retain(|id| active(*id));
            }
            self.assignments[partition] = assignment(epoch, &others);
            if old.copies[0] != others[0] {
                events.push(Event::Moved { partitions: 1, from: node, to: others[0] });
            }
        }
        events
    }

    fn activate(&mut self, epoch: Epoch, node: NodeId, incarnation: Incarnation) -> Result {
        self.turn(node, incarnation, &[MemberState::Joining], MemberState::Active)?;
        let mut events = vec![Event::Active(node, incarnation)];
        // What an earlier incarnation owned alone is lost with it; the partitions start empty.
        let lost: Vec<usize> = self.owned_by(node).map(|p| p.0 as usize).collect();
        for &partition in &lost {
            self.assignments[partition].epoch = epoch;
        }
        if !lost.is_empty() {
            events.push(Event::DataLost { node, partitions: lost.len() });
        }
        events.extend(self.place_unowned(epoch));
        Ok(events)
    }

    /// Gives partitions that nobody ever owned to the active members.
    fn place_unowned(&mut self, epoch: Epoch) -> Vec<Event> {
        let unowned = |assignment: &Assignment| match assignment.owner() {
            None => Holder::Nobody,
            Some(_) => Holder::Outside,
        };
        let holders: Vec<Holder> = self.assignments.iter().map(unowned).collect();
        if holders.iter().all(|holder| *holder == Holder::Outside) {
            return Vec::new();
        }
        let (candidates, ring) = self.candidates();
        let mut counts = vec![0; candidates.len()];
        for step in placement::plan(&holders, &candidates) {
            counts[step.to as usize] += 1;
            let token = placement::token_of(step.partition, holders.len());
            let zone_of = |i: u16| self.zone_number(candidates[i as usize].node);
            let replicas = placement::replicas(token, step.to, self.copies.into(), &ring, zone_of);
            let nodes = core::iter::once(step.to).chain(replicas);
            let nodes: Vec<NodeId> = nodes.map(|i| candidates[i as usize].node).collect();
            self.assignments[step.partition.0 as usize] = assignment(epoch, &nodes);
        }
        let counted = candidates.iter().zip(counts).filter(|(_, count)| *count > 0);
        counted
            .map(|(to, partitions)| Event::Moved { partitions, from: NodeId(0), to: to.node })
            .collect()
    }

    fn leave(&mut self, node: NodeId, incarnation: Incarnation) -> Result {
        let from = [MemberState::Joining, MemberState::Active];
        self.turn(node, incarnation, &from, MemberState::Leaving)?;
        Ok(vec![Event::Leaving(node, incarnation)])
    }

    fn bury(&mut self, node: NodeId, incarnation: Incarnation) -> Result {
        let from = [MemberState::Joining, MemberState::Active, MemberState::Leaving];
        self.turn(node, incarnation, &from, MemberState::Dead)?;
        Ok(vec![Event::Dead(node, incarnation)])
    }

    fn hand_over(
        &mut self,
        epoch: Epoch,
        node: NodeId,
        incarnation: Incarnation,
        handovers: &[Handover],
    ) -> Result {
        let owner = self.member(node).ok_or(Refused::NoMember(node))?;
        let living = matches!(owner.state, MemberState::Active | MemberState::Leaving);
        if owner.incarnation != incarnation || !living {
            return Err(Refused::Outdated { node, incarnation });
        }
        let mut moved: Vec<(NodeId, usize)> = Vec::new();
        for handover in handovers {
            self.check_epoch(handover.partition, handover.epoch, Some(node))?;
            let target = self.member(handover.to).ok_or(Refused::NoMember(handover.to))?;
            if target.state != MemberState::Active {
                let incarnation = target.incarnation;
                return Err(Refused::Outdated { node: handover.to, incarnation });
            }
        }
        for handover in handovers {
            let slot = &mut self.assignments[handover.partition.0 as usize];
            *slot = assignment(epoch, &[handover.to]);
            match moved.iter_mut().find(|(to, _)| *to == handover.to) {
                Some((_, count)) => *count += 1,
                None => moved.push((handover.to, 1)),
            }
        }
        let moved = moved.into_iter();
        Ok(moved.map(|(to, partitions)| Event::Moved { partitions, from: node, to }).collect())
    }

    fn reassign(
        &mut self,
        epoch: Epoch,
        partition: PartitionId,
        known: Epoch,
        copies: &[NodeId],
    ) -> Result {
        let old = *self.check_epoch(partition, known, None)?;
        if copies.is_empty() || copies.len() > COPIES_MAX {
            return Err(invalid("a partition has 1 to 4 copies"));
        }
        if copies[0] != old.copies[0] && copies.contains(&old.copies[0]) {
            // It drops what it had not settled, and with it the copy.
            return Err(invalid("an owner that another one replaces keeps no copy"));
        }
        for (i, &node) in copies.iter().enumerate() {
            let member = self.member(node).ok_or(Refused::NoMember(node))?;
            // Only who has all of it may stay; filling a new copy is another command's.
            if !old.holds(node) || copies[..i].contains(&node) {
                return Err(Refused::Changed { partition, epoch: old.epoch });
            }
            if member.state != MemberState::Active {
                return Err(Refused::Outdated { node, incarnation: member.incarnation });
            }
        }
        self.assignments[partition.0 as usize] = assignment(epoch, copies);
        let (from, to) = (old.copies[0], copies[0]);
        Ok(if from == to { Vec::new() } else { vec![Event::Moved { partitions: 1, from, to }] })
    }

    fn check_epoch(
        &self,
        partition: PartitionId,
        epoch: Epoch,
        owner: Option<NodeId>,
    ) -> Result<&Assignment> {
        let Some(held) = self.assignment(partition) else {
            return Err(Refused::Invalid(format!("there is no partition {partition}")));
        };
        if held.epoch != epoch || owner.is_some_and(|owner| held.copies[0] != owner) {
            return Err(Refused::Changed { partition, epoch: held.epoch });
        }
        Ok(held)
    }

    fn turn(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        from: &[MemberState],
        to: MemberState,
    ) -> Result<()> {
        let position = self.position(node).ok_or(Refused::NoMember(node))?;
        let member = &mut self.members[position];
        if member.incarnation != incarnation || !from.contains(&member.state) {
            return Err(Refused::Outdated { node, incarnation });
        }
        member.state = to;
        Ok(())
    }

    /// The members that may own partitions, and their ring.
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
}

fn assignment(epoch: Epoch, nodes: &[NodeId]) -> Assignment {
    let mut copies = [NodeId(0); COPIES_MAX];
    for (copy, node) in copies.iter_mut().zip(nodes) {
        *copy = *node;
    }
    Assignment { epoch, copies }
}

fn check_join(name: &str, address: &str, shards: u16, weight: u16, zone: &str) -> Result<()> {
    let text = |text: &str| text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX || !text(name) {
        return Err(invalid("a node id has 1 to 64 bytes without white space"));
    }
    if zone.len() > NODE_NAME_BYTES_MAX || !text(zone) {
        return Err(invalid("a zone has up to 64 bytes without white space"));
    }
    if address.is_empty() || address.len() > ADDRESS_BYTES_MAX || !text(address) {
        return Err(invalid("an address has 1 to 256 bytes without white space"));
    }
    if !shards.is_power_of_two() || shards > SHARDS_MAX {
        return Err(invalid("shards are 1, 2, 4, 8 or 16"));
    }
    if weight > WEIGHT_MAX {
        return Err(invalid("a weight is 0 to 1000"));
    }
    Ok(())
}

fn intern(symbols: &mut Symbols, names: &[String]) -> Result {
    if names.len() > INTERN_BATCH_MAX {
        return Err(invalid("too many names in one request"));
    }
    for name in names {
        Symbols::check(name).map_err(|error| Refused::symbol(name, error))?;
    }
    let first = symbols.len();
    for name in names {
        // Ids that a full table issued before it was full stay issued; they were asked for.
        symbols.intern(name).map_err(|error| Refused::symbol(name, error))?;
    }
    let count = symbols.len() - first;
    Ok(if count == 0 { Vec::new() } else { vec![Event::Interned { first, count }] })
}

fn invalid(text: &str) -> Refused {
    Refused::Invalid(text.into())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
