//! `zepto-host demo`: the main job, on this machine, proved.
//!
//! Starts real nodes as processes, feeds ticks through one producer, asks every node the same
//! questions and compares the answers with its own account, reads every row back, and stops the
//! nodes. It succeeds only if everything held. Every wait has a deadline, and a node that dies
//! meanwhile ends the demo with that node's name.

mod cluster;
mod display;
mod verify;

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tokio::time::timeout;
use zepto_client::message::Request;
use zepto_client::{Client, ClientOptions, ProducerOptions, ask_once};
use zepto_core::limits::SYMBOLS_MAX;
use zepto_core::topology::{MemberState, Placement};

use crate::failure::Failure;
use crate::feed::{self, Feed, FeedError, GeneratedFeed, OnBadRow};
use crate::feed_cmd::{rest, tell_left_out};
use crate::format;
use crate::pump::{self, Gauges, PumpError, Pumped, Target};
use crate::secret::SecretArgs;
use crate::signal::Signals;
use crate::tally::Tally;
use cluster::Cluster;
use display::{Display, while_shown};
use verify::{Findings, Symbol, TABLE, verify};

/// Nodes that one machine is asked to run.
const NODES_MAX: i64 = 64;
/// Time for the first node to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Time for all nodes to be active and to have their partitions.
const FORM_WITHIN: Duration = Duration::from_secs(60);
/// Time to find out whether a failure was a node's death.
const DEATH_SHOWS_WITHIN: Duration = Duration::from_millis(500);

/// Time for a node to say that it is there.
const PING_WITHIN: Duration = Duration::from_secs(1);

/// Start a cluster on this machine, feed it, and prove that nothing was lost
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host demo
  zepto-host demo --nodes 5 --ticks 10000000 --symbols 5000 --seed 7
  zepto-host demo --input crypto-2024-08-08.csv.zst --json

Exit code 0 means that every row was acknowledged, is stored exactly once and in order, and that
every node answers exactly. With --json, the last line on standard output is one object; its
ticks_per_s and seconds go from the first row sent to the last acknowledgement.")]
pub struct DemoArgs {
    /// Node processes
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=NODES_MAX)
    )]
    pub nodes: u16,
    /// Ticks to generate
    #[arg(long, value_name = "N", default_value_t = 1_000_000, conflicts_with = "input")]
    pub ticks: u64,
    /// Symbols to generate, the first the busiest
    #[arg(
        long,
        value_name = "S",
        default_value_t = 1000,
        conflicts_with = "input",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SYMBOLS_MAX))
    )]
    pub symbols: u32,
    /// Seed of the generated ticks: the same seed gives the same ticks
    #[arg(long, value_name = "X", default_value_t = 1, conflicts_with = "input")]
    pub seed: u64,
    /// Feed a file instead, CSV or DBN, plain or compressed with zstd
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Count and report malformed lines or records of the file instead of stopping at the first
    #[arg(long, requires = "input")]
    pub skip_bad: bool,
    /// Memory for ticks of each node [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Keep the nodes' logs and data directories, and say where they are
    #[arg(long)]
    pub keep: bool,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    pub json: bool,
    /// What the nodes prove to each other
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// The result, in the shape in which it is printed.
#[derive(Debug, Serialize)]
struct Outcome {
    nodes: u64,
    sent: u64,
    acked: u64,
    stored: u64,
    lost: u64,
    duplicates: u64,
    mismatches: u64,
    ticks_per_s: u64,
    symbols: u64,
    seconds: f64,
}

/// What a demo that came to its end found.
struct Proven {
    outcome: Outcome,
    pumped: Pumped,
    findings: Findings,
}

/// Runs the command.
///
/// # Errors
/// When anything did not hold, with what and where.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    // Before anything is started: most mistakes are here.
    let feed = open(&args)?;
    let mut signals = Signals::listen()?;
    args.secret.read()?;
    let secret_file = args.secret.secret_file.clone();
    let mut cluster = Cluster::new(args.memory.clone(), secret_file)?;
    let display = Display::new(args.nodes.into());
    let gauges = Arc::new(Gauges::default());
    let result = tokio::select! {
        biased;
        () = signals.next() => Err(Failure::Interrupted),
        result = drive(&args, feed, &mut cluster, &display, &gauges) => result,
    };
    gauges.stop();
    display.say("stopping the nodes");
    let failures = cluster.stop(args.keep).await;
    display.clear();
    if let Err(Failure::Interrupted) | Ok(_) = result {
        for failure in &failures {
            eprintln!("{failure}");
        }
    }
    let proven = result?;
    conclude(&args, &proven, failures.is_empty())
}

fn open(args: &DemoArgs) -> Result<Box<dyn Feed>, Failure> {
    let on_bad_row = if args.skip_bad { OnBadRow::Skip } else { OnBadRow::Fail };
    let feed = match &args.input {
        Some(path) => feed::open(path, on_bad_row),
        None => GeneratedFeed::new(args.ticks, args.symbols, args.seed)
            .map(|feed| Box::new(feed) as Box<dyn Feed>),
    };
    feed.map_err(|error| Failure::failed("demo", error))
}

/// Everything between the first node's start and the last answer.
async fn drive(
    args: &DemoArgs,
    feed: Box<dyn Feed>,
    cluster: &mut Cluster,
    display: &Display,
    gauges: &Arc<Gauges>,
) -> Result<Proven, Failure> {
    let result = start_and_prove(args, feed, cluster, display, gauges).await;
    match result {
        Err(failure) => {
            // A node's death shows in many ways; which node it was says more than all of them.
            match timeout(DEATH_SHOWS_WITHIN, cluster.first_exit()).await {
                Ok(death) => Err(death),
                Err(_) => Err(name_silent(args, failure, &cluster.members()).await),
            }
        }
        proven => proven,
    }
}

/// Adds the nodes that live and do not answer, if there are any.
async fn name_silent(args: &DemoArgs, failure: Failure, members: &[(String, String)]) -> Failure {
    let secret = match args.secret.read() {
        Ok(secret) => secret,
        Err(unreadable) => return unreadable,
    };
    let mut silent = Vec::new();
    for (name, address) in members.iter().filter(|(_, address)| !address.is_empty()) {
        if ask_once(address, secret, &Request::Ping, PING_WITHIN).await.is_err() {
            silent.push(name.as_str());
        }
    }
    if silent.is_empty() {
        return failure;
    }
    Failure::Failed(format!("{failure}; no answer from {}", silent.join(", ")))
}

async fn start_and_prove(
    args: &DemoArgs,
    feed: Box<dyn Feed>,
    cluster: &mut Cluster,
    display: &Display,
    gauges: &Arc<Gauges>,
) -> Result<Proven, Failure> {
    for number in 0..usize::from(args.nodes) {
        display.say(&format!("starting node {} of {}", number + 1, args.nodes));
        cluster.start_node().await?;
        if let Some((name, address)) = cluster.members().last() {
            display.node(number, &format!("{name} serves at {address}"));
        }
    }
    let members = cluster.members();
    tokio::select! {
        death = cluster.first_exit() => Err(death),
        proven = prove(args, feed, &members, display, gauges) => proven,
    }
}

async fn prove(
    args: &DemoArgs,
    feed: Box<dyn Feed>,
    members: &[(String, String)],
    display: &Display,
    gauges: &Arc<Gauges>,
) -> Result<Proven, Failure> {
    let addresses: Vec<String> = members.iter().map(|(_, address)| address.clone()).collect();
    let client = form(args, &addresses, display).await?;
    display.say("feeding");
    let progress = feed.progress();
    let fed = feed_all(client.clone(), feed, Arc::clone(gauges));
    let fed = while_shown(display, &client, &addresses, gauges, progress, fed).await;
    let Fed { pumped, tally, feed } = fed?;
    tell_left_out(&*feed);
    if let Err(error) = &pumped.end {
        return Err(Failure::failed("demo", explained(error)));
    }
    let symbols = feed.names().iter().zip(&pumped.ids);
    let symbols: Vec<Symbol> =
        symbols.map(|(name, id)| Symbol { name: name.clone(), id: *id }).collect();
    let findings = verify(&client, members, &tally, &symbols, display).await?;
    let outcome = Outcome {
        nodes: args.nodes.into(),
        sent: tally.rows(),
        acked: pumped.account.settled,
        stored: findings.stored,
        lost: findings.lost,
        duplicates: findings.duplicates,
        mismatches: findings.mismatches,
        ticks_per_s: format::per_second(pumped.account.settled, pumped.elapsed),
        symbols: tally.symbols() as u64,
        seconds: pumped.elapsed.as_millis() as f64 / 1e3,
    };
    Ok(Proven { outcome, pumped, findings })
}

fn explained(error: &PumpError) -> String {
    match error {
        PumpError::Feed(FeedError::Row { .. }) => {
            format!("{error}; repair it, or give --skip-bad to count and report what is malformed")
        }
        _ => error.to_string(),
    }
}

/// Connects, and waits until every node has its share of the partitions.
async fn form(args: &DemoArgs, addresses: &[String], display: &Display) -> Result<Client, Failure> {
    display.say("waiting until every node has its partitions");
    let options = ClientOptions {
        seeds: addresses.to_vec(),
        name: "demo".into(),
        shared_memory: true,
        secret: args.secret.read()?.cloned(),
    };
    let failed = |error| Failure::of_client("demo", &error);
    let client = Client::connect(options, CONNECT_WITHIN).await.map_err(failed)?;
    let nodes = addresses.len();
    let formed =
        client.wait_until("the cluster", FORM_WITHIN, |placement| is_formed(placement, nodes));
    if let Err(error) = formed.await {
        let view = client.view();
        return Err(Failure::of_client(&format!("demo: {}", shares(view.placement())), &error));
    }
    Ok(client)
}

/// Whether so many nodes are active and own equal shares, to one partition.
fn is_formed(placement: &Placement, nodes: usize) -> bool {
    let active = placement.members.iter().filter(|member| member.state == MemberState::Active);
    let owned: Vec<usize> = active.map(|member| placement.owned_by(member.id).count()).collect();
    let partitions = placement.assignments.len();
    let fair = partitions / nodes.max(1)..=partitions.div_ceil(nodes.max(1));
    owned.len() == nodes && owned.iter().all(|owned| fair.contains(owned))
}

/// Who has what, for the message about a cluster that does not form.
fn shares(placement: &Placement) -> String {
    let share = |member: &zepto_core::topology::Member| {
        let owned = placement.owned_by(member.id).count();
        format!("{} {:?} with {owned} partitions", member.name, member.state)
    };
    placement.members.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// A feed that was sent.
struct Fed {
    pumped: Pumped,
    tally: Tally,
    feed: Box<dyn Feed>,
}

/// Sends the feed on a thread of its own, and keeps the account.
async fn feed_all(
    client: Client,
    mut feed: Box<dyn Feed>,
    gauges: Arc<Gauges>,
) -> Result<Fed, Failure> {
    let feeding = tokio::task::spawn_blocking(move || {
        let producer = client.producer(ProducerOptions::default());
        let mut tally = Tally::new();
        let target = Target { table: TABLE, first_row: 0 };
        let pumped = pump::pump(producer, &mut *feed, target, &gauges, |names, rows| {
            tally.add(names, rows);
        });
        Fed { pumped, tally, feed }
    });
    feeding.await.map_err(|error| Failure::failed("demo: feeding", error))
}

/// Tells the result, and whether everything held.
fn conclude(args: &DemoArgs, proven: &Proven, is_stopped_well: bool) -> Result<(), Failure> {
    let Proven { outcome, pumped, findings } = proven;
    let text = text(outcome);
    if args.json {
        eprint!("{text}");
    } else {
        format::print(&text)?;
    }
    for line in &findings.shown {
        eprintln!("  {line}");
    }
    if args.json {
        let object =
            serde_json::to_string(outcome).map_err(|error| Failure::failed("demo", error))?;
        format::print(&format!("{object}\n"))?;
    }
    let mut wrong = Vec::new();
    wrong.extend(rest(pumped));
    let counts = [
        (outcome.sent - outcome.acked.min(outcome.sent), "rows were not acknowledged"),
        (outcome.lost, "rows are lost"),
        (outcome.duplicates, "rows are there twice"),
        (outcome.mismatches, "answers differ from what was sent"),
        (outcome.sent.abs_diff(outcome.stored), "is the difference of rows sent and stored"),
    ];
    let failed = counts.iter().filter(|(count, _)| *count > 0);
    wrong.extend(failed.map(|(count, what)| format!("{} {what}", format::count(*count))));
    if !is_stopped_well {
        wrong.push("a node did not stop well".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::failed("demo", wrong.join("; "))) }
}

fn text(outcome: &Outcome) -> String {
    let Outcome { nodes, sent, acked, stored, lost, duplicates, mismatches, .. } = outcome;
    let [sent, acked, stored] = [sent, acked, stored].map(|n| format::count(*n));
    let symbols = format::count(outcome.symbols);
    let speed = format::count(outcome.ticks_per_s);
    let seconds = outcome.seconds;
    format!(
        "{nodes} nodes, {symbols} symbols: {sent} ticks sent, {acked} acknowledged, {stored} stored\n\
         {lost} lost, {duplicates} duplicates, {mismatches} mismatches over all nodes\n\
         {speed} ticks/s, {seconds:.3} s from the first tick to the last acknowledgement\n"
    )
}

#[cfg(test)]
mod tests {
    use zepto_core::topology::{Command, Topology};
    use zepto_core::{Incarnation, NodeId};

    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            nodes: 3,
            sent: 1_000_000,
            acked: 1_000_000,
            stored: 1_000_000,
            lost: 0,
            duplicates: 0,
            mismatches: 0,
            ticks_per_s: 2_500_000,
            symbols: 1000,
            seconds: 0.4,
        }
    }

    fn concluded(outcome: Outcome) -> Result<(), Failure> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            demo: DemoArgs,
        }
        let args = <Line as clap::Parser>::parse_from(["demo"]).demo;
        let account = zepto_client::producer::Account::default();
        let pumped =
            Pumped { account, ids: Vec::new(), elapsed: Duration::from_secs(1), end: Ok(()) };
        let findings = Findings::default();
        conclude(&args, &Proven { outcome, pumped, findings }, true)
    }

    #[test]
    fn the_json_result_has_its_ten_fields_in_order() {
        let expected = "{\"nodes\":3,\"sent\":1000000,\"acked\":1000000,\"stored\":1000000,\
            \"lost\":0,\"duplicates\":0,\"mismatches\":0,\"ticks_per_s\":2500000,\
            \"symbols\":1000,\"seconds\":0.4}";
        assert_eq!(serde_json::to_string(&outcome()).unwrap(), expected);
    }

    #[test]
    fn any_number_that_is_not_as_it_must_be_fails_the_demo() {
        assert!(concluded(outcome()).is_ok());
        type Spoil = fn(&mut Outcome);
        let spoils: [(&str, Spoil); 6] = [
            ("acknowledged", |o| o.acked -= 1),
            ("lost", |o| o.lost = 2),
            ("twice", |o| o.duplicates = 1),
            ("differ", |o| o.mismatches = 1),
            ("difference", |o| o.stored += 1),
            ("difference", |o| o.stored -= 1),
        ];
        for (text, spoil) in spoils {
            let mut spoiled = outcome();
            spoil(&mut spoiled);
            let failure = concluded(spoiled).unwrap_err();
            assert_eq!(failure.exit_code(), 1);
            assert!(failure.to_string().contains(text), "{failure}");
        }
    }

    #[test]
    fn a_cluster_is_formed_when_all_are_active_and_shares_are_equal() {
        let mut topology = Topology::empty();
        let join = |name: &str| Command::Join {
            name: name.into(),
            incarnation: Incarnation(1),
            address: "h:1".into(),
            shards: 1,
            weight: 100,
            zone: String::new(),
        };
        topology.apply(1, 0, &Command::Bootstrap { cluster: 1, bits: 4, copies: 1 });
        topology.apply(2, 0, &join("a"));
        topology.apply(3, 0, &join("b"));
        assert!(!is_formed(&topology.placement, 2));
        let activate = |node| Command::Activate { node, incarnation: Incarnation(1) };
        topology.apply(4, 0, &activate(NodeId(1)));
        topology.apply(5, 0, &activate(NodeId(2)));
        assert!(!is_formed(&topology.placement, 2), "the first owns everything");
        assert!(!is_formed(&topology.placement, 3), "one is missing");
        for assignment in topology.placement.assignments.iter_mut().step_by(2) {
            assignment.copies[0] = NodeId(2);
        }
        assert!(is_formed(&topology.placement, 2));
        assert!(shares(&topology.placement).contains("b Active with 8 partitions"));
    }
}
