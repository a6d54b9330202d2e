//! `zepto-host recover`: partitions whose last copy is gone begin again, empty.
//!
//! It gives up no more than it knows of: their number goes with the operation, and the cluster
//! refuses it when there are more or fewer by then.

use core::fmt;
use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;
use zepto_client::message::{Operation, Request, Response};
use zepto_client::unexpected;
use zepto_core::topology::Placement;

use super::{ClusterArgs, STATUS_WITHIN};
use crate::failure::Failure;
use crate::format;

/// Give up what offline partitions held: they begin again, empty
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host status --at localhost:9000                            how many are offline
  zepto-host recover --accept-loss --at localhost:9000             all that are offline now
  zepto-host recover --partitions 1365 --accept-loss --at localhost:9000

A partition is offline when every node that held a copy of it is gone. Ticks are in memory, so a
process that ended has none left, also when it is started again. This
command gives up all ticks of all offline partitions for good; they begin empty at the nodes that
live, and take ticks again. Partitions that are not offline are not touched.")]
pub struct RecoverArgs {
    /// All that are offline, if they are so many: refused when they are more or fewer
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// Yes, the ticks of these partitions are lost
    #[arg(long)]
    pub accept_loss: bool,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Partitions that are offline, and who held them last.
#[derive(Debug, PartialEq, Eq)]
struct Offline {
    partitions: u32,
    held_by: BTreeMap<String, u32>,
}

/// Recovers offline partitions.
///
/// # Errors
/// When the loss is not accepted, when there is nothing to recover, or no node answers.
pub async fn recover(args: RecoverArgs) -> Result<(), Failure> {
    let RecoverArgs { partitions, accept_loss, cluster } = args;
    let offline = Offline::ask(&cluster).await?;
    if !accept_loss && offline.partitions > 0 {
        return Err(Failure::Usage(format!(
            "recover: {offline}; they would begin empty, and the ticks they held would be lost for \
             good; add --accept-loss if that is what you want"
        )));
    }
    let wanted = partitions.unwrap_or(offline.partitions);
    if offline.partitions == 0 && wanted == 0 || !accept_loss {
        return cluster.tell_nothing_offline();
    }
    let recover = Operation::Recover { partitions: wanted };
    let index = cluster.operate("recover", recover).await?;
    let sentence = format!("DATA LOST: {offline}; they begin again, empty");
    let object = json!({"recovered": wanted, "held_by": offline.held_by});
    cluster.tell(index, object, &sentence)
}

impl Offline {
    async fn ask(cluster: &ClusterArgs) -> Result<Self, Failure> {
        let request = Request::Placement { after: 0, wait_ms: 0 };
        match cluster.ask(&request, STATUS_WITHIN).await {
            Ok(Response::Placement { placement, .. }) => Ok(Self::of(&placement)),
            Ok(other) => Err(Failure::of_client(&cluster.doing("recover"), &unexpected(&other))),
            Err(asked) => Err(asked.failure(&cluster.doing("recover"))),
        }
    }

    fn of(placement: &Placement) -> Self {
        let mut offline = Self { partitions: 0, held_by: BTreeMap::new() };
        let owners = placement.offline().filter_map(|p| placement.assignment(p)?.owner());
        for owner in owners {
            let member = placement.member(owner);
            let name = member.map_or_else(|| format!("id {owner}"), |member| member.name.clone());
            offline.partitions += 1;
            *offline.held_by.entry(name).or_default() += 1;
        }
        offline
    }
}

impl fmt::Display for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held_by.iter().map(|(name, partitions)| format!("{partitions} by {name}"));
        let held: Vec<String> = held.collect();
        write!(f, "{} partitions are offline, held last: {}", self.partitions, held.join(", "))
    }
}

impl ClusterArgs {
    fn tell_nothing_offline(&self) -> Result<(), Failure> {
        let object = json!({"recovered": 0});
        let text = "no partition is offline; nothing was done";
        format::print(&if self.json { format!("{object}\n") } else { format!("{text}\n") })
    }
}

#[cfg(test)]
mod tests {
    use zepto_core::topology::{Assignment, Member, MemberState, Topology};
    use zepto_core::{Epoch, Incarnation, NodeId};

    use super::*;

    #[test]
    fn what_is_offline_is_counted_with_who_held_it() {
        let member = |id, name: &str, state| Member {
            id: NodeId(id),
            name: name.into(),
            incarnation: Incarnation(1),
            state,
            address: "h:1".into(),
            shards: 1,
            weight: 100,
            zone: String::new(),
        };
        let at = |node| Assignment::of(Epoch(2), &[NodeId(node)]);
        let mut placement = Topology::empty().placement;
        placement.members =
            vec![member(1, "a", MemberState::Active), member(2, "b", MemberState::Dead)];
        placement.assignments = vec![at(1), at(2), at(2), at(2)];
        let offline = Offline::of(&placement);
        assert_eq!(offline.to_string(), "3 partitions are offline, held last: 3 by b");
        assert_eq!(offline.partitions, 3);
    }
}
