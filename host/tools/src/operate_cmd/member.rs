//! `zepto-host member`: who is in the cluster, and who is to be forgotten.

use clap::{Args, Subcommand};
use serde_json::json;
use zepto_client::message::{MemberStatus, Operation, PluginRequest, Request, Response, Status};

use super::{ClusterArgs, STATUS_WITHIN};
use crate::failure::Failure;
use crate::format::{self, Align, Table};
use crate::status_cmd::show_state;

/// List the members of a cluster, or forget a dead one
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host member list --at localhost:9000
  zepto-host member remove c --at localhost:9000")]
pub struct MemberArgs {
    /// What to do
    #[command(subcommand)]
    pub command: MemberCommand,
}

/// What can be done about members.
#[derive(Clone, Debug, Subcommand)]
pub enum MemberCommand {
    /// Show every member with its share
    #[command(after_help = "\
Examples:
  zepto-host member list --at localhost:9000
  zepto-host member list --at localhost:9000 --json | jq '.[].name'

COPIES are partitions that the member has whole, its own among them; FILLING are copies on their way
to it; VOTES says whether it counts for a majority of the control log.")]
    List(ClusterArgs),
    /// Forget a member that is DEAD
    #[command(after_help = "\
Example:
  zepto-host member remove c --at localhost:9000

A member that lives is drained and stopped first. One that holds the last copy of a partition cannot
be forgotten before that partition is recovered.")]
    Remove(RemoveArgs),
    /// Say that what discovery wants to remove is right
    #[command(after_help = "\
Example:
  zepto-host member confirm --at localhost:9000

An answer of the discovery plugin that would remove more than 30 % of the nodes it knew, or all of
them, is held: `zepto-host plugin list` shows it. One that removes many is applied when it is
repeated after 30 s; one that leaves nobody only by this. It tells the node that is asked; no member
is removed by it, only what discovery names is believed.")]
    Confirm(ClusterArgs),
}

/// Which member to forget.
#[derive(Args, Clone, Debug)]
pub struct RemoveArgs {
    /// Name of the node
    pub node: String,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Runs the command.
///
/// # Errors
/// When it is refused, or no node answers.
pub async fn member(args: MemberArgs) -> Result<(), Failure> {
    match args.command {
        MemberCommand::List(cluster) => list(&cluster).await,
        MemberCommand::Remove(RemoveArgs { node, cluster }) => {
            let remove = Operation::Remove { node: node.clone() };
            let index = cluster.operate("member remove", remove).await?;
            let sentence = format!("{node} is no member any more");
            cluster.tell(index, json!({"node": node}), &sentence)
        }
        MemberCommand::Confirm(cluster) => {
            let text = cluster.about_plugins("member confirm", PluginRequest::Confirm).await?;
            if cluster.json {
                return format::print(&format!("{}\n", json!({"confirmed": text})));
            }
            format::print(&format!("{text}\n"))
        }
    }
}

async fn list(cluster: &ClusterArgs) -> Result<(), Failure> {
    let status = cluster.status("member list").await?;
    if cluster.json {
        let members = serde_json::to_string(&status.members);
        let members = members.map_err(|e| Failure::failed(&cluster.doing("member list"), e))?;
        return format::print(&format!("{members}\n"));
    }
    let leader = leader(cluster, &status).await;
    format::print(&format!("{}{}", table(&status.members), line(&status, leader.as_deref())))
}

/// Who leads the log, if the node knows it and says so: a name, or an address that is nobody's.
async fn leader(cluster: &ClusterArgs, status: &Status) -> Option<String> {
    if status.leader {
        return Some(status.name.clone());
    }
    let Ok(Response::Leader { address: Some(address) }) =
        cluster.ask(&Request::Leader, STATUS_WITHIN).await
    else {
        return None;
    };
    let named = status.members.iter().find(|member| member.address == address);
    Some(named.map_or(address, |member| member.name.clone()))
}

/// How the cluster is, in one line.
fn line(status: &Status, leader: Option<&str>) -> String {
    let leads = leader.map_or_else(
        || "no leader of the log is known".to_owned(),
        |name| format!("{name} leads the log"),
    );
    format!(
        "{} partitions, copies {}: {} short of copies, {} moving, {} offline; {leads}, term {}\n",
        format::count(status.partitions.into()),
        status.copies,
        format::count(status.short_of_copies.into()),
        format::count(status.moving.into()),
        format::count(status.offline.into()),
        status.log.term,
    )
}

fn table(members: &[MemberStatus]) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("MEMBER", Left),
        ("ID", Right),
        ("INCARNATION", Right),
        ("STATE", Left),
        ("ZONE", Left),
        ("WEIGHT", Right),
        ("VOTES", Left),
        ("PARTITIONS", Right),
        ("COPIES", Right),
        ("FILLING", Right),
        ("SILENT", Right),
        ("ADDRESS", Left),
    ]);
    for member in members {
        table.row([
            member.name.clone(),
            member.node.to_string(),
            member.incarnation.to_string(),
            show_state(member.state, member.suspect).to_owned(),
            if member.zone.is_empty() { "-" } else { &member.zone }.to_owned(),
            member.weight.to_string(),
            if member.votes { "yes" } else { "no" }.to_owned(),
            member.partitions.to_string(),
            member.copies.to_string(),
            member.filling.to_string(),
            member.silent_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
            member.address.clone(),
        ]);
    }
    table.take_text()
}

#[cfg(test)]
mod tests {
    use zepto_core::topology::MemberState;
    use zepto_core::{Incarnation, NodeId};

    use super::*;

    #[test]
    fn a_line_has_all_that_is_known_of_a_member() {
        let member = MemberStatus {
            name: "c".into(),
            node: NodeId(3),
            incarnation: Incarnation(7),
            state: MemberState::Leaving,
            suspect: false,
            silent_ms: Some(90),
            address: "h:1".into(),
            partitions: 12,
            copies: 30,
            filling: 4,
            weight: 200,
            zone: String::new(),
            votes: true,
        };
        let text = table(&[member]);
        let line: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let expected =
            ["c", "3", "7", "LEAVING", "-", "200", "yes", "12", "30", "4", "90", "ms", "h:1"];
        assert_eq!(line, expected);
    }

    #[test]
    fn the_last_line_says_how_the_cluster_is_and_who_leads() {
        let status = crate::status_cmd::tests::status();
        let expected = "4,096 partitions, copies 1: 1,365 short of copies, 12 moving, 5 offline; b \
                        leads the log, term 3\n";
        assert_eq!(line(&status, Some("b")), expected);
        assert!(line(&status, None).contains("no leader of the log is known, term 3"));
    }
}
