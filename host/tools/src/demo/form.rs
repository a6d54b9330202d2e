//! Waiting until the cluster is whole: every node has its share, every partition its copies.

use core::time::Duration;

use zepto_client::{Client, ClientOptions};
use zepto_core::balance;
use zepto_core::topology::{Member, MemberState, Placement};

use super::display::Display;
use crate::failure::Failure;
use crate::secret::SecretArgs;

/// Time for the first node to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Time for all nodes to be active and to have their partitions.
const FORM_WITHIN: Duration = Duration::from_secs(60);

/// Connects, and waits until every node has its share of the partitions.
pub(super) async fn form(
    secret: &SecretArgs,
    addresses: &[String],
    display: &Display,
) -> Result<Client, Failure> {
    display.say("waiting until every node has its partitions");
    let options = ClientOptions {
        seeds: addresses.to_vec(),
        name: "demo".into(),
        shared_memory: true,
        secret: secret.read()?.cloned(),
    };
    let failed = |error| Failure::of_client("demo", &error);
    let client = Client::connect(options, CONNECT_WITHIN).await.map_err(failed)?;
    let nodes = addresses.len();
    let formed =
        client.wait_until("the cluster", FORM_WITHIN, |placement| is_whole(placement, nodes));
    if let Err(error) = formed.await {
        let view = client.view();
        return Err(Failure::of_client(&format!("demo: {}", shares(view.placement())), &error));
    }
    Ok(client)
}

/// Whether so many nodes are active and own equal shares, to one partition, every partition has
/// its declared copies, and no owner wishes to change any of it.
pub(super) fn is_whole(placement: &Placement, nodes: usize) -> bool {
    let active = || placement.members.iter().filter(|m| m.state == MemberState::Active);
    let owned: Vec<usize> = active().map(|member| placement.owned_by(member.id).count()).collect();
    let partitions = placement.assignments.len();
    let fair = partitions / nodes.max(1)..=partitions.div_ceil(nodes.max(1));
    owned.len() == nodes
        && owned.iter().all(|owned| fair.contains(owned))
        && unfinished(placement) == 0
        && active().all(|member| balance::wishes(placement, member.id).is_empty())
}

/// Partitions that have not exactly their declared copies, or are on their way.
fn unfinished(placement: &Placement) -> usize {
    let copies = usize::from(placement.copies);
    let assignments = placement.assignments.iter();
    let unfinished = assignments.filter(|assignment| {
        assignment.in_sync().count() != copies
            || assignment.filling().next().is_some()
            || balance::is_moving(placement, assignment)
    });
    unfinished.count()
}

/// Who has what, for the message about a cluster that is not whole.
pub(super) fn shares(placement: &Placement) -> String {
    let share = |member: &Member| {
        let owned = placement.owned_by(member.id).count();
        let copies = placement.assignments.iter().filter(|a| a.holds(member.id)).count();
        format!("{} {:?} owns {owned}, has {copies} copies", member.name, member.state)
    };
    let shares: Vec<String> = placement.members.iter().map(share).collect();
    format!("{}; {} partitions on their way", shares.join(", "), unfinished(placement))
}

#[cfg(test)]
mod tests {
    use zepto_core::topology::{Change, Command, Topology, What};
    use zepto_core::{Incarnation, NodeId, PartitionId};

    use super::*;

    struct Log(Topology);

    impl Log {
        fn run(&mut self, command: &Command) {
            let index = self.0.placement.index + 1;
            self.0.apply(index, 0, command);
            self.0.check().unwrap();
        }

        fn change(&mut self, partition: usize, what: What) {
            let assignment = &self.0.placement.assignments[partition];
            let (node, epoch) = (assignment.owner().unwrap(), assignment.epoch);
            let change = Change { partition: PartitionId(partition as u32), epoch, what };
            let incarnation = Incarnation(1);
            self.run(&Command::Change { node, incarnation, changes: vec![change] });
        }

        fn is_whole(&self, nodes: usize) -> bool {
            is_whole(&self.0.placement, nodes)
        }
    }

    /// Two nodes and two copies: the second was filled, and then given its half.
    fn formed() -> Log {
        let mut log = Log(Topology::empty());
        log.run(&Command::Bootstrap { cluster: 1, bits: 4, copies: 2 });
        for (id, name) in [(1, "a"), (2, "b")] {
            log.run(&Command::Join {
                name: name.into(),
                incarnation: Incarnation(1),
                address: "h:1".into(),
                shards: 1,
                weight: 100,
                zone: String::new(),
            });
            assert!(!log.is_whole(2));
            log.run(&Command::Activate { node: NodeId(id), incarnation: Incarnation(1) });
        }
        assert!(!log.is_whole(2), "the first owns everything, and has it alone");
        for partition in 0..16 {
            log.change(partition, What::Admit(NodeId(2)));
        }
        assert!(!log.is_whole(2), "the first owns everything");
        for partition in 0..8 {
            log.change(partition, What::Move(NodeId(2)));
            assert!(!log.is_whole(2));
            log.change(partition, What::Switch(NodeId(2)));
        }
        log
    }

    #[test]
    fn a_cluster_is_whole_when_shares_are_equal_and_every_copy_is_in_sync() {
        let mut log = formed();
        assert!(log.is_whole(2), "{}", shares(&log.0.placement));
        assert!(!log.is_whole(3), "one is missing");
        assert!(shares(&log.0.placement).contains("b Active owns 8, has 16 copies"));
        log.change(12, What::Drop(NodeId(2)));
        assert!(!log.is_whole(2), "a copy is missing");
    }
}
