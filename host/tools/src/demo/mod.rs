//! `zepto-host demo`: the main job, on this machine, proved.
//!
//! Starts real nodes as processes, feeds ticks through one producer, asks every node the same
//! questions and compares the answers with its own account, reads every row back, and stops the
//! nodes. With `--kill`, one node is lost and comes back meanwhile. It succeeds only if everything
//! held. Every wait has a deadline, and a node that dies although nobody asked it to ends the demo
//! with that node's name.

mod args;
mod cluster;
mod display;
mod form;
mod kill;
mod node;
mod outage;
mod outcome;
mod verify;

use core::time::Duration;
use std::sync::Arc;

pub use args::{DemoArgs, Kill};
use tokio::time::timeout;
use zepto_client::message::Request;
use zepto_client::{Client, ProducerOptions, ask_once};

use crate::failure::Failure;
use crate::feed::{self, Feed, FeedError, GeneratedFeed, OnBadRow};
use crate::feed_cmd::tell_left_out;
use crate::format;
use crate::pump::{self, BATCH_ROWS, Gauges, PumpError, Pumped, Target};
use crate::signal::Signals;
use crate::tally::Tally;
use cluster::Cluster;
use display::{Display, while_shown};
use form::form;
use kill::{Lived, Scenario};
use outage::Outage;
use outcome::{Outcome, Proven, Survived, conclude};
use verify::{Symbol, TABLE, verify};

/// Time to find out whether a failure was a node's death.
const DEATH_SHOWS_WITHIN: Duration = Duration::from_millis(500);
/// Time for a node to say that it is there.
const PING_WITHIN: Duration = Duration::from_secs(1);
/// Time over which the feed is spread when a node is killed in its midst: the other half is long
/// enough for the others to notice and to take over.
const FEED_FOR: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
/// When anything did not hold, with what and where.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    // Before anything is started: most mistakes are here.
    args.check()?;
    let feed = open(&args)?;
    let mut signals = Signals::listen()?;
    args.secret.read()?;
    let cluster = Cluster::new(&args)?;
    let display = Display::new(args.nodes.into());
    let gauges = Arc::new(Gauges::default());
    let result = tokio::select! {
        biased;
        () = signals.next() => Err(Failure::Interrupted),
        result = drive(&args, feed, &cluster, &display, &gauges) => result,
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
    cluster: &Cluster,
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
    cluster: &Cluster,
    display: &Display,
    gauges: &Arc<Gauges>,
) -> Result<Proven, Failure> {
    let plan = args.kill.map(|_| plan(args, &*feed)).transpose()?;
    for number in 0..usize::from(args.nodes) {
        display.say(&format!("starting node {} of {}", number + 1, args.nodes));
        cluster.start_node().await?;
        if let Some((name, address)) = cluster.members().last() {
            display.node(number, &format!("{name} serves at {address}"));
        }
    }
    tokio::select! {
        death = cluster.first_exit() => Err(death),
        proven = prove(args, plan, feed, cluster, display, gauges) => proven,
    }
}

/// How the feed goes when a node is killed in its midst.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Rows until the kill.
    half: u64,
    rows_per_s: u64,
}

/// Counts the rows of the feed, if need be by reading its file once more: half of them is an exact
/// number.
fn plan(args: &DemoArgs, feed: &dyn Feed) -> Result<Plan, Failure> {
    let rows = match feed.rows_expected() {
        Some(rows) => rows,
        None => count_rows(args)?,
    };
    // Between half and the whole there must be rows that were certainly sent after the kill.
    let rows_min = 3 * BATCH_ROWS as u64;
    if rows < rows_min {
        let [rows_min, rows] = [rows_min, rows].map(format::count);
        let text = format!("demo: --kill takes a feed of at least {rows_min} rows, not {rows}");
        return Err(Failure::Usage(text));
    }
    Ok(Plan { half: rows / 2, rows_per_s: (rows / FEED_FOR.as_secs()).max(1) })
}

fn count_rows(args: &DemoArgs) -> Result<u64, Failure> {
    if let Some(path) = args.input.as_ref().filter(|path| !path.is_file()) {
        let text = format!("demo: --kill reads {} twice, so it must be a file", path.display());
        return Err(Failure::Usage(text));
    }
    let (mut feed, mut rows, mut batch) = (open(args)?, 0, Vec::new());
    loop {
        batch.clear();
        let read = feed.next_batch(&mut batch, BATCH_ROWS);
        rows += batch.len() as u64;
        // What is wrong with the file is told by who sends it.
        if !read.is_ok_and(|read| read > 0) {
            return Ok(rows);
        }
    }
}

async fn prove(
    args: &DemoArgs,
    plan: Option<Plan>,
    feed: Box<dyn Feed>,
    cluster: &Cluster,
    display: &Display,
    gauges: &Arc<Gauges>,
) -> Result<Proven, Failure> {
    let client = form(&args.secret, &cluster.addresses(), display).await?;
    display.say("feeding");
    let progress = feed.progress();
    let outage = Arc::new(Outage::new(client.view()));
    let watched = plan.map(|_| Arc::clone(&outage));
    let feeding = feed_all(client.clone(), feed, plan, watched, Arc::clone(gauges));
    let scenario = lose_a_node(args, plan, cluster, &client, gauges, &outage, display);
    let both = async { tokio::try_join!(feeding, scenario) };
    let (fed, lived) = while_shown(display, &client, cluster, gauges, progress, both).await?;
    let survived = lived.map(|lived| Survived { outage: outage.measure(lived.detection), lived });
    let Fed { pumped, tally, feed } = fed;
    let symbols = feed.names().iter().zip(&pumped.ids);
    let symbols: Vec<Symbol> =
        symbols.map(|(name, id)| Symbol { name: name.clone(), id: *id }).collect();
    let findings = verify(&client, &cluster.members(), &tally, &symbols, display).await?;
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
        copies: args.copies().into(),
        kill: args.kill.map(Kill::name),
        victim: survived.as_ref().map(|survived| survived.lived.victim.clone()),
        detection_ms: survived.as_ref().map(|s| s.lived.detection.as_millis() as u64),
        failover_ms: survived.as_ref().map(|s| s.outage.length.as_millis() as u64),
        refilled_ms: survived.as_ref().map(|s| s.lived.refilled.as_millis() as u64),
    };
    Ok(Proven { outcome, pumped, findings, survived })
}

async fn lose_a_node(
    args: &DemoArgs,
    plan: Option<Plan>,
    cluster: &Cluster,
    client: &Client,
    gauges: &Gauges,
    outage: &Outage,
    display: &Display,
) -> Result<Option<Lived>, Failure> {
    let (Some(kill), Some(plan)) = (args.kill, plan) else { return Ok(None) };
    let (victim, half) = (args.victim(), plan.half);
    let scenario = Scenario { kill, victim, half, cluster, client, gauges, outage, display };
    scenario.run().await.map(Some)
}

fn explained(error: &PumpError) -> String {
    match error {
        PumpError::Feed(FeedError::Row { .. }) => {
            format!("{error}; repair it, or give --skip-bad to count and report what is malformed")
        }
        _ => error.to_string(),
    }
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
    plan: Option<Plan>,
    outage: Option<Arc<Outage>>,
    gauges: Arc<Gauges>,
) -> Result<Fed, Failure> {
    let feeding = tokio::task::spawn_blocking(move || {
        let mut producer = client.producer(ProducerOptions::default());
        if let Some(outage) = outage.clone() {
            producer.observe(Box::new(move |slot| outage.acknowledged(slot)));
        }
        let mut tally = Tally::new();
        let rows_per_s = plan.map(|plan| plan.rows_per_s);
        let target = Target { table: TABLE, first_row: 0, rows_per_s };
        let pumped = pump::pump(producer, &mut *feed, target, &gauges, |sent| {
            tally.add(sent.names, sent.rows);
            if let Some(outage) = &outage {
                outage.sent(sent);
            }
        });
        Fed { pumped, tally, feed }
    });
    let fed = feeding.await.map_err(|error| Failure::failed("demo: feeding", error))?;
    tell_left_out(&*fed.feed);
    match &fed.pumped.end {
        Ok(()) => Ok(fed),
        Err(error) => Err(Failure::failed("demo", explained(error))),
    }
}
