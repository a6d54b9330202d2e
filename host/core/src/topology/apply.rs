//! The one function that changes the topology.
//!
//! It validates first and changes then, so a refused entry changes nothing. Deterministic: the
//! same entries give the same topology everywhere.

use super::copies::Tally;
use super::event::Event;
use super::{Assignment, Command, Member, MemberState, Placement, Refused, Topology};
use crate::defect::Defect;
use crate::hash::mix;
use crate::limits::{
    ADDRESS_BYTES_MAX, COPIES_MAX, INTERN_BATCH_MAX, MEMBERS_MAX, NODE_NAME_BYTES_MAX,
    PARTITION_BITS_MAX, PINS_MAX, SHARDS_MAX, WEIGHT_MAX,
};
use crate::symbols::Symbols;
use zepto_abi::{Epoch, Incarnation, NodeId, PartitionId};

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed the topology; these happened, in order.
    Changed(Vec<Event>),
    /// It was refused and changed nothing but the index.
    Refused(Refused),
}

/// Stands in the chain of hashes where an entry has no bytes of its own.
const PASSED: u64 = 0x7a65_7074_6f00_0003;

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

    /// Passes over the entry with the next index: one that consensus keeps for itself, such as a
    /// new leader's first. It changes nothing but the index, and the hash with it.
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
            Command::Bury { node, incarnation } => placement.bury(epoch, *node, *incarnation),
            Command::Change { node, incarnation, changes } => {
                placement.change(epoch, *node, *incarnation, changes)
            }
            Command::Pin { partition, node } => placement.pin(*partition, *node),
            Command::Unpin { partition } => placement.unpin(*partition),
            Command::Weight { node, weight } => placement.weigh(epoch, *node, *weight),
            Command::Zone { node, zone } => placement.settle_in(*node, zone),
            Command::Remove { node } => placement.forget(*node),
            Command::Recover { partitions } => placement.recover(epoch, *partitions),
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
        self.assignments = vec![Assignment::NOBODY; 1 << bits];
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
            None => NodeId(self.ids + 1),
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
            None => {
                self.ids = id.0;
                self.members.push(member);
            }
        }
        events.push(Event::Joining(id, *incarnation));
        if known.is_some() && !Defect::EmptyReplicaInSync.planted() {
            let mut tally = Tally::default();
            self.shed(epoch, id, &mut tally);
            events.extend(tally.events());
        }
        Ok(events)
    }

    fn activate(&mut self, epoch: Epoch, node: NodeId, incarnation: Incarnation) -> Result {
        self.turn(node, incarnation, &[MemberState::Joining], MemberState::Active)?;
        let mut events = vec![Event::Active(node, incarnation)];
        let mut tally = Tally::default();
        // What an earlier incarnation held alone is lost with it.
        let partitions = self.reset_lost(epoch, node, &mut tally);
        if partitions > 0 {
            events.push(Event::DataLost { node, partitions });
        }
        self.spread(epoch, &mut tally);
        events.extend(tally.events());
        Ok(events)
    }

    fn leave(&mut self, node: NodeId, incarnation: Incarnation) -> Result {
        let from = [MemberState::Joining, MemberState::Active];
        self.turn(node, incarnation, &from, MemberState::Leaving)?;
        Ok(vec![Event::Leaving(node, incarnation)])
    }

    fn bury(&mut self, epoch: Epoch, node: NodeId, incarnation: Incarnation) -> Result {
        let from = [MemberState::Joining, MemberState::Active, MemberState::Leaving];
        self.turn(node, incarnation, &from, MemberState::Dead)?;
        let mut tally = Tally::default();
        self.shed(epoch, node, &mut tally);
        let dead = core::iter::once(Event::Dead(node, incarnation));
        Ok(dead.chain(tally.events()).collect())
    }

    fn pin(&mut self, partition: PartitionId, node: NodeId) -> Result {
        let member = self.member(node).ok_or(Refused::NoMember(node))?;
        if member.state == MemberState::Dead {
            return Err(Refused::Outdated { node, incarnation: member.incarnation });
        }
        if self.assignment(partition).is_none() {
            return Err(Refused::Invalid(format!("there is no partition {partition}")));
        }
        if self.pins.len() >= PINS_MAX && !self.pins.contains_key(&partition) {
            return Err(Refused::Invalid(format!(
                "there are {PINS_MAX} pins, the most there may be"
            )));
        }
        self.pins.insert(partition, node);
        Ok(vec![Event::Pinned(partition, node)])
    }

    fn unpin(&mut self, partition: PartitionId) -> Result {
        match self.pins.remove(&partition) {
            Some(_) => Ok(vec![Event::Unpinned(partition)]),
            None => Err(Refused::Invalid(format!("partition {partition} is not pinned"))),
        }
    }

    fn weigh(&mut self, epoch: Epoch, node: NodeId, weight: u16) -> Result {
        if weight > WEIGHT_MAX {
            return Err(invalid("a weight is 0 to 1000"));
        }
        self.living(node)?.weight = weight;
        // It may be the first that may hold anything.
        let mut tally = Tally::default();
        self.spread(epoch, &mut tally);
        Ok(tally.events())
    }

    fn settle_in(&mut self, node: NodeId, zone: &str) -> Result {
        check_zone(zone)?;
        self.living(node)?.zone = zone.into();
        Ok(Vec::new())
    }

    fn living(&mut self, node: NodeId) -> Result<&mut Member> {
        let position = self.position(node).ok_or(Refused::NoMember(node))?;
        let member = &mut self.members[position];
        if member.state == MemberState::Dead {
            return Err(Refused::Outdated { node, incarnation: member.incarnation });
        }
        Ok(member)
    }

    fn forget(&mut self, node: NodeId) -> Result {
        let position = self.position(node).ok_or(Refused::NoMember(node))?;
        let member = &self.members[position];
        if member.state != MemberState::Dead {
            return Err(Refused::Invalid(format!(
                "{} is not dead; drain and stop it first",
                member.name
            )));
        }
        let held = self.assignments.iter().filter(|assignment| assignment.holds(node)).count();
        if held > 0 {
            return Err(Refused::Invalid(format!(
                "{} holds the last copy of {held} partitions; start it again, or recover",
                member.name
            )));
        }
        self.members.remove(position);
        self.pins.retain(|_, pinned| *pinned != node);
        Ok(vec![Event::Removed(node)])
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
}

fn check_join(name: &str, address: &str, shards: u16, weight: u16, zone: &str) -> Result<()> {
    let text = |text: &str| text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    check_zone(zone)?;
    if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX || !text(name) {
        return Err(invalid("a node id has 1 to 64 bytes without white space"));
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

fn check_zone(zone: &str) -> Result<()> {
    let plain = zone.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if zone.len() > NODE_NAME_BYTES_MAX || !plain {
        return Err(invalid("a zone has up to 64 bytes without white space"));
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
