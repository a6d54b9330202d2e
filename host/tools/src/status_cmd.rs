//! `zepto-host status`: what one node says about itself and thinks of the others.

use core::time::Duration;

use clap::Args;
use zepto_client::message::{MemberStatus, Request, Response, Status};
use zepto_client::{ask_once, unexpected};
use zepto_core::limits::WEIGHT_DEFAULT;
use zepto_core::topology::MemberState;

use crate::failure::Failure;
use crate::format::{self, Align, Table};
use crate::plugin_cmd;
use crate::secret::SecretArgs;

/// Time for the node to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Show a node, its cluster's members and what is stored
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host status --at localhost:9000
  zepto-host status --at localhost:9000 --json | jq '.members[].state'

JOINING, ACTIVE, LEAVING and DEAD are decisions of the whole cluster; SUSPECT is the opinion of the
node that answers.")]
pub struct StatusArgs {
    /// Address of the node, host:port
    #[arg(long, value_name = "ADDR")]
    pub at: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// What this command proves to the node
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// Runs the command.
///
/// # Errors
/// When the node does not answer.
pub async fn run(args: StatusArgs) -> Result<(), Failure> {
    let doing = format!("status at {}", args.at);
    let secret = args.secret.read()?;
    let asked = ask_once(&args.at, secret, &Request::Status, ANSWER_WITHIN).await;
    let status = match asked {
        Ok(Response::Status(status)) => Ok(status),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => Err(error),
    };
    let status = status.map_err(|error| Failure::of_client(&doing, &error))?;
    if args.json {
        let object =
            serde_json::to_string(&*status).map_err(|error| Failure::failed(&doing, error))?;
        return format::print(&format!("{object}\n"));
    }
    format::print(&text(&status))
}

/// The state of a member as its observer puts it.
pub fn show_state(state: MemberState, is_suspect: bool) -> &'static str {
    match state {
        MemberState::Active if is_suspect => "SUSPECT",
        MemberState::Joining => "JOINING",
        MemberState::Active => "ACTIVE",
        MemberState::Leaving => "LEAVING",
        MemberState::Dead => "DEAD",
    }
}

fn text(status: &Status) -> String {
    let log = if status.leader { ", leads the control log" } else { "" };
    let mut text = format!(
        "node      {} (id {}, incarnation {}){log}\n\
         cluster   {}, {} partitions, copies {}, {} symbols\n\
         moves     {} partitions offline, {} short of copies, {} moving\n\
         topology  index {}, hash {:016x}\n\
         log       term {}, {} voters, {}\n\
         program   {} over {}, up {}\n\
         store     {} ticks, {}, {} series in {} partitions; {} appended, {} expired, {} refused\n",
        status.name,
        status.node,
        status.incarnation,
        status.cluster,
        status.partitions,
        status.copies,
        format::count(status.symbols.into()),
        format::count(status.offline.into()),
        format::count(status.short_of_copies.into()),
        format::count(status.moving.into()),
        status.topology_index,
        status.topology_hash,
        status.log.term,
        status.log.voters,
        leader(status),
        status.version,
        status.transport,
        format::seconds(Duration::from_millis(status.uptime_ms)),
        format::count(status.store.rows),
        format::bytes(status.store.bytes),
        format::count(status.store.series),
        format::count(status.store.partitions),
        format::count(status.store.appended),
        format::count(expired(status)),
        format::count(status.store.refused_full),
    );
    for note in &status.transport_notes {
        text.push_str(&format!("{:<9} {note}\n", status.transport));
    }
    text.push('\n');
    text.push_str(&members(status));
    text.push('\n');
    text.push_str(&shards(status));
    if !status.plugins.is_empty() {
        text.push('\n');
        text.push_str(&plugin_cmd::table(&status.plugins));
    }
    if !status.peers.is_empty() {
        text.push('\n');
        text.push_str(&peers(status));
    }
    text.push('\n');
    text.push_str(&server(status));
    text
}

/// What the node knows of who leads the log.
fn leader(status: &Status) -> &'static str {
    match (status.leader, status.log.has_leader) {
        (true, _) => "this node leads",
        (false, true) => "another node leads",
        (false, false) => "no leader is known, so nothing can be decided",
    }
}

/// Those whom the node asks.
fn peers(status: &Status) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("PEER", Left),
        ("LINK", Left),
        ("SENT", Right),
        ("ANSWERED", Right),
        ("REFUSED", Right),
        ("TIMED OUT", Right),
        ("UNKNOWN", Right),
        ("NOT SENT", Right),
        ("RECONNECTS", Right),
        ("STALE", Right),
        ("OUT", Right),
        ("IN", Right),
        ("RTT", Right),
    ]);
    for peer in &status.peers {
        let rtt = Some(peer.rtt_smoothed_ns).filter(|rtt| *rtt > 0);
        table.row([
            peer.address.clone(),
            if peer.connected { "up" } else { "down" }.to_owned(),
            format::count(peer.sent),
            format::count(peer.answered),
            format::count(peer.refused),
            format::count(peer.timed_out),
            format::count(peer.unknown),
            format::count(peer.not_sent),
            format::count(peer.reconnects),
            format::count(peer.stale_connections),
            format::bytes(peer.sent_bytes),
            format::bytes(peer.received_bytes),
            rtt.map_or_else(|| "-".to_owned(), |rtt| format!("{} us", rtt / 1000)),
        ]);
    }
    table.take_text()
}

/// Those who ask the node.
fn server(status: &Status) -> String {
    let (server, beats) = (&status.server, &status.heartbeats);
    let turned_away: u64 = server.turned_away.iter().map(|(_, count)| count).sum();
    let ignored = beats.malformed
        + beats.unauthenticated
        + beats.stranger
        + beats.other_incarnation
        + beats.replayed;
    format!(
        "server     {} connections, {} accepted, {} turned away; {} in, {} out\n\
         requests   {} came in, {} answered, {} refused, {} unknown, {} in flight\n\
         heartbeats {} sent, {} heard, {} ignored\n\
         ready      {}\n",
        format::count(server.connections),
        format::count(server.accepted),
        format::count(turned_away),
        format::bytes(server.received_bytes),
        format::bytes(server.sent_bytes),
        format::count(server.requests),
        format::count(server.answered),
        format::count(server.refused.total()),
        format::count(server.unknown),
        format::count(server.in_flight),
        format::count(beats.sent),
        format::count(beats.heard),
        format::count(ignored),
        status.not_ready.as_deref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")),
    )
}

fn expired(status: &Status) -> u64 {
    let store = &status.store;
    store.expired_by_count + store.expired_by_bytes + store.expired_by_age
}

fn members(status: &Status) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("MEMBER", Left),
        ("ID", Right),
        ("INCARNATION", Right),
        ("STATE", Left),
        ("SILENT", Right),
        ("PARTITIONS", Right),
        ("COPIES", Right),
        ("FILLING", Right),
        ("ADDRESS", Left),
        ("", Left),
    ]);
    for member in &status.members {
        table.row([
            member.name.clone(),
            member.node.to_string(),
            member.incarnation.to_string(),
            show_state(member.state, member.suspect).to_owned(),
            member.silent_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
            member.partitions.to_string(),
            member.copies.to_string(),
            member.filling.to_string(),
            member.address.clone(),
            notes(member),
        ]);
    }
    table.take_text()
}

/// What is not as usual about a member, and whether it votes.
fn notes(member: &MemberStatus) -> String {
    let mut notes = Vec::new();
    if member.votes {
        notes.push("votes".to_owned());
    }
    if member.weight != WEIGHT_DEFAULT {
        notes.push(format!("weight {}", member.weight));
    }
    if !member.zone.is_empty() {
        notes.push(format!("zone {}", member.zone));
    }
    notes.join(", ")
}

fn shards(status: &Status) -> String {
    use Align::Right;
    let mut table = Table::new(&[
        ("SHARD", Right),
        ("LANES", Right),
        ("APPENDED", Right),
        ("DUPLICATES", Right),
        ("REFUSED", Right),
        ("REPLICATED", Right),
        ("CORRUPT LANES", Right),
        ("REFUSED LANES", Right),
        ("BROKEN LANES", Right),
        ("FILLS", Right),
        ("ROWS FILLED", Right),
        ("ROWS COPIED", Right),
    ]);
    for (number, shard) in status.shards.iter().enumerate() {
        let counts = [
            number as u64,
            shard.lanes,
            shard.appended,
            shard.duplicates,
            shard.refused,
            shard.replicated,
            shard.corrupt_lanes,
            shard.refused_lanes,
            shard.broken_lanes,
            shard.fills_begun,
            shard.rows_filled,
            shard.rows_copied,
        ];
        table.row(counts.map(format::count));
    }
    table.take_text()
}

#[cfg(test)]
pub(crate) mod tests {
    use zepto_client::message::{
        HeartbeatCounters, LogCounters, PeerCounters, ServerCounters, ShardCounters,
    };
    use zepto_core::{Incarnation, NodeId};
    use zepto_store::StoreCounters;

    use super::*;

    /// A node of three, with something of everything.
    pub(crate) fn status() -> Status {
        let member = |name: &str, node, state, suspect, silent_ms| MemberStatus {
            name: name.into(),
            node: NodeId(node),
            incarnation: Incarnation(7),
            state,
            suspect,
            silent_ms,
            address: format!("127.0.0.1:900{node}"),
            partitions: 2048,
            copies: 2731,
            filling: 0,
            weight: if name == "b" { 200 } else { 100 },
            zone: if name == "b" { "rack-2".into() } else { String::new() },
            votes: name != "c",
        };
        Status {
            plugins: Vec::new(),
            name: "a".into(),
            node: NodeId(1),
            incarnation: Incarnation(7),
            cluster: "c0ffee".into(),
            version: "0.1.0".into(),
            leader: true,
            topology_index: 9,
            topology_hash: 255,
            copies: 1,
            partitions: 4096,
            offline: 5,
            short_of_copies: 1365,
            moving: 12,
            symbols: 1000,
            transport: "shm".into(),
            transport_notes: Vec::new(),
            members: vec![
                member("a", 1, MemberState::Active, false, None),
                member("b", 2, MemberState::Active, true, Some(900)),
                member("c", 3, MemberState::Dead, true, Some(9000)),
            ],
            store: StoreCounters { rows: 1_000_000, bytes: 3 << 20, ..Default::default() },
            shards: vec![ShardCounters {
                appended: 1234,
                broken_lanes: 6,
                fills_begun: 8,
                ..Default::default()
            }],
            store_limit_bytes: 1 << 30,
            heartbeats: HeartbeatCounters { sent: 77, stranger: 3, ..Default::default() },
            log: LogCounters {
                applied_index: 9,
                transactions: 8,
                term: 3,
                voters: 3,
                has_leader: true,
                calls_failed: 0,
            },
            peers: vec![PeerCounters {
                address: "127.0.0.1:9002".into(),
                connected: true,
                sent: 1500,
                stale_connections: 2,
                rtt_smoothed_ns: 43_000,
                ..Default::default()
            }],
            server: ServerCounters {
                requests: 4321,
                turned_away: vec![("full".into(), 4), ("late".into(), 1)],
                ..Default::default()
            },
            not_ready: Some("this node is stopping".into()),
            uptime_ms: 1500,
        }
    }

    #[test]
    fn a_person_sees_members_with_their_states_and_partitions() {
        let text = text(&status());
        assert!(text.starts_with("node      a (id 1, incarnation 7), leads the control log\n"));
        assert!(text.contains("1,000,000 ticks, 3.0 MiB"), "{text}");
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        let b: Vec<&str> = line("b ").split_whitespace().collect();
        let seen = ["b", "2", "7", "SUSPECT", "900", "ms", "2048", "2731", "0", "127.0.0.1:9002"];
        assert_eq!(b[..10], seen);
        assert!(line("b ").ends_with("  votes, weight 200, zone rack-2"), "{text}");
        assert!(line("a ").ends_with("  votes"), "{text}");
        assert!(line("c ").contains("DEAD"), "a decision outweighs an opinion");
        assert!(line("c ").ends_with("127.0.0.1:9003"), "{text}");
        assert!(text.contains("5 partitions offline, 1,365 short of copies, 12 moving"), "{text}");
        assert!(text.contains("term 3, 3 voters, this node leads"), "{text}");
        let shard: Vec<&str> = line("    0 ").split_whitespace().collect();
        assert_eq!(shard, ["0", "0", "1,234", "0", "0", "0", "0", "0", "6", "8", "0", "0"]);
    }

    #[test]
    fn a_person_sees_what_passed_between_the_node_and_each_peer() {
        let text = text(&status());
        let peer = text.lines().find(|line| line.starts_with("127.0.0.1:9002")).unwrap();
        let peer: Vec<&str> = peer.split_whitespace().collect();
        assert_eq!(peer[..4], ["127.0.0.1:9002", "up", "1,500", "0"]);
        assert!(peer.ends_with(&["43", "us"]), "{text}");
        assert!(text.contains("4,321 came in") && text.contains("5 turned away"), "{text}");
        assert!(text.contains("77 sent, 0 heard, 3 ignored"), "{text}");
        assert!(text.ends_with("ready      no: this node is stopping\n"), "{text}");
    }

    #[test]
    fn json_has_states_in_words() {
        let json = serde_json::to_value(status()).unwrap();
        assert_eq!(json["members"][2]["state"], "DEAD");
        assert_eq!(json["members"][1]["suspect"], true);
        assert_eq!(json["members"][0]["silent_ms"], serde_json::Value::Null);
        assert_eq!(json["store"]["rows"], 1_000_000);
        assert_eq!(json["peers"][0]["stale_connections"], 2);
        assert_eq!(json["server"]["refused"], serde_json::json!({}));
    }
}
