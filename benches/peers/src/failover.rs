//! A node is killed: how soon it is declared dead, and how soon its partitions take ticks again.
//!
//! Three real nodes, a watched symbol in partitions of every pair of members, and runs one after
//! another. In each a node that owns watched partitions gets SIGKILL; every survivor is asked for
//! its status until one shows it DEAD, and every watched partition of the killed node until it
//! acknowledges something that was offered after the kill. Then the node is started again and
//! filled before the next run. With one copy nothing can take over, so it is started again as soon
//! as it is declared dead.

use crate::compare::Settings;
use crate::failure::{Failure, Result, While as _, fail, go_on};
use crate::nodes::{self, ANSWER_WITHIN, Nodes, Setup, describe, is_fair, is_whole};
use crate::server::wait_until;
use crate::watch::Watch;
use crate::{machine, server};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use zepto_core::topology::MemberState;
use zepto_core::{NodeId, PartitionId};

const NODES: usize = 3;
const MEMORY: u64 = 2 << 30;
/// Between two looks at a survivor's status, and time for its answer.
const ASK_EVERY: Duration = Duration::from_millis(5);
const STATUS_WITHIN: Duration = Duration::from_millis(500);
/// Time for a dead node's partitions to take ticks again.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);
/// Time for a node that was started again to be filled.
const FILL_WITHIN: Duration = Duration::from_secs(180);
/// Without a change of the placement for so long the cluster is at rest.
const REST: Duration = Duration::from_secs(1);
/// The same when a member owns less than its share and nothing is done about it.
const REST_UNFAIR: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Kill nodes, and measure until they are declared dead and their partitions take ticks again
#[derive(Args, Clone, Debug)]
pub struct FailoverArgs {
    /// Kills of each profile
    #[arg(long, value_name = "N", default_value = "20")]
    runs: NonZeroU16,
    /// The nodes' failure detector
    #[arg(long, value_delimiter = ',', default_value = "fast")]
    profile: Vec<Profile>,
    /// The node program; looked for beside this one, and built if it is not there
    #[arg(long, value_name = "ZEPTO-HOST")]
    nodes: Option<PathBuf>,
    /// Copies of every partition
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(1..=2)
    )]
    copies: u8,
    /// Which nodes are killed
    #[arg(long, default_value = "any")]
    victims: Victims,
    /// Watched partitions of every set of members that hold the same ones
    #[arg(
        long,
        value_name = "N",
        default_value_t = 6,
        value_parser = clap::value_parser!(u8).range(1..=32)
    )]
    watched: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// Dead after 2 s
    Fast,
    /// Dead after 10 s
    Default,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Victims {
    /// In turns
    Any,
    /// The one that leads the control log
    Leader,
    /// The others
    Followers,
}

/// What one kill brought, in seconds since it.
struct Run {
    victim: String,
    was_leader: bool,
    owned: usize,
    detected: f64,
    /// The last of its watched partitions.
    again: f64,
    /// The last of those of which it had a replica, if there are any.
    again_replicas: Option<f64>,
    /// Since it was started again.
    filled: f64,
}

/// Prints the figures.
pub fn run(settings: Settings, args: &FailoverArgs) -> Result<()> {
    machine::stay_on_two();
    let program = nodes::program(args.nodes.as_deref())?;
    eprintln!("{}: {}", program.display(), server::version(&program));
    for profile in &args.profile {
        let name = if *profile == Profile::Fast { "fast" } else { "default" };
        let program = program.clone();
        let setup = Setup { program, copies: args.copies, profile: name, memory: MEMORY };
        let mut nodes = Nodes::start(setup, NODES)?;
        let mut watch = Watch::start(&nodes, args.watched.into())?;
        let mut runs = Vec::new();
        let done = (0..usize::from(args.runs.get())).try_for_each(|number| {
            rest(&mut nodes, &mut watch, args.copies)?;
            let victim = victim(&nodes, &watch, args.victims, number)?;
            let run = kill(&mut nodes, &mut watch, args.copies, victim)?;
            eprintln!("run {} of {}: {}", number + 1, args.runs, told(&run));
            runs.push(run);
            Ok(())
        });
        // Also those before a failure.
        print(settings, name, &runs, watch.refused());
        done?;
    }
    Ok(())
}

/// Waits until all copies are there, nothing moves, and every watched partition acknowledges.
fn rest(nodes: &mut Nodes, watch: &mut Watch, copies: u8) -> Result<()> {
    let client = nodes.client()?.clone();
    let (mut index, mut since) = (0, Instant::now());
    let waited = wait_until("all copies there and nothing moving", FILL_WITHIN, || {
        nodes.check()?;
        watch.check()?;
        let view = client.view();
        if !is_whole(view.placement(), NODES, copies) || view.index() != index {
            (index, since) = (view.index(), Instant::now());
        }
        Ok(since.elapsed() > if is_fair(view.placement()) { REST } else { REST_UNFAIR })
    });
    waited.map_err(|Failure(why)| {
        Failure(format!("{why} ({})", describe(client.view().placement())))
    })?;
    watch.mark()?;
    wait_until("every watched partition acknowledging", AGAIN_WITHIN, || {
        watch.check()?;
        Ok((0..watch.partitions().len()).all(|place| watch.again(place).is_some()))
    })
}

/// Whom to kill, and whether it leads the log.
fn victim(
    nodes: &Nodes,
    watch: &Watch,
    victims: Victims,
    number: usize,
) -> Result<(usize, NodeId, bool)> {
    let (client, runtime) = nodes.with_runtime()?;
    let view = client.view();
    for index in (0..NODES).map(|turn| (number + turn) % NODES) {
        let node = &nodes.all()[index];
        let status = runtime.block_on(client.status_at(&node.address, ANSWER_WITHIN));
        let leads = status.doing("asking for the status")?.leader;
        let wanted = match victims {
            Victims::Any => true,
            Victims::Leader => leads,
            Victims::Followers => !leads,
        };
        let Some(member) = view.placement().member_named(&node.name) else { continue };
        let owns =
            |partition: &PartitionId| view.owner(*partition).is_some_and(|o| o.id == member.id);
        if wanted && watch.partitions().iter().any(owns) {
            return Ok((index, member.id, leads));
        }
    }
    fail("no node that may be killed owns a watched partition")
}

/// One run.
fn kill(
    nodes: &mut Nodes,
    watch: &mut Watch,
    copies: u8,
    (index, id, was_leader): (usize, NodeId, bool),
) -> Result<Run> {
    let held = Held::of(nodes, watch, id)?;
    let survivors = Survivors::ask(nodes, index, id)?;
    let killed = Instant::now();
    nodes.kill(index)?;
    watch.mark()?;
    let (mut detected, mut restarted) = (None, None);
    let (again, again_replicas) = loop {
        go_on()?;
        watch.check()?;
        detected = detected.or_else(|| survivors.dead.try_recv().ok());
        if detected.is_some() && copies == 1 && restarted.is_none() {
            restarted = Some(Instant::now());
            nodes.restart(index)?;
        }
        let last = (last(watch, &held.owned), last(watch, &held.replicas), detected);
        if let (Some(owned), Some(replicas), Some(_)) = last {
            break (owned, replicas);
        }
        if killed.elapsed() > AGAIN_WITHIN {
            return fail(overdue(nodes, watch, index, &held, detected.is_some()));
        }
        sleep(LOOK_EVERY);
    };
    drop(survivors);
    let begun = restarted.unwrap_or_else(Instant::now);
    if restarted.is_none() {
        nodes.restart(index)?;
    }
    fill(nodes, watch, copies, id)?;
    let since = |at: Instant| at.saturating_duration_since(killed).as_secs_f64();
    Ok(Run {
        victim: nodes.all()[index].name.clone(),
        was_leader,
        owned: held.owned.len(),
        detected: detected.map_or(0.0, since),
        again: again.map_or(0.0, since),
        again_replicas: again_replicas.map(since),
        filled: begun.elapsed().as_secs_f64(),
    })
}

/// Places of the watched partitions that a node owns, and of those of which it has a replica.
struct Held {
    owned: Vec<usize>,
    replicas: Vec<usize>,
}

impl Held {
    fn of(nodes: &Nodes, watch: &Watch, id: NodeId) -> Result<Self> {
        let view = nodes.client()?.view();
        let mut held = Self { owned: Vec::new(), replicas: Vec::new() };
        for (place, partition) in watch.partitions().iter().enumerate() {
            let Some(assignment) = view.placement().assignment(*partition) else { continue };
            if assignment.owner() == Some(id) {
                held.owned.push(place);
            } else if assignment.replicas().any(|node| node == id) {
                held.replicas.push(place);
            }
        }
        Ok(held)
    }
}

/// When the last of some partitions acknowledged again, once all have; of none, never.
fn last(watch: &Watch, places: &[usize]) -> Option<Option<Instant>> {
    let again = places.iter().map(|place| watch.again(*place)).collect::<Option<Vec<_>>>()?;
    Some(again.into_iter().max())
}

/// What is not as it should be long after a kill.
fn overdue(nodes: &Nodes, watch: &Watch, index: usize, held: &Held, is_dead: bool) -> String {
    let all = held.owned.iter().chain(&held.replicas);
    let silent = all.clone().filter(|place| watch.again(**place).is_none()).count();
    let placement = nodes.client().map(|client| describe(client.view().placement()));
    format!(
        "{} s after the kill of {}: declared dead: {is_dead}; {silent} of {} watched partitions \
         acknowledge nothing ({})",
        AGAIN_WITHIN.as_secs(),
        nodes.all()[index].name,
        all.count(),
        placement.unwrap_or_default(),
    )
}

/// Waits until a node that was started again holds its part, and no partition lacks a copy.
fn fill(nodes: &mut Nodes, watch: &mut Watch, copies: u8, id: NodeId) -> Result<()> {
    let client = nodes.client()?.clone();
    let waited = wait_until("the copies of the node started again", FILL_WITHIN, || {
        nodes.check()?;
        watch.check()?;
        let view = client.view();
        let holds = view.placement().assignments.iter().any(|assignment| {
            assignment.owner() == Some(id) || assignment.replicas().any(|node| node == id)
        });
        Ok(is_whole(view.placement(), NODES, copies) && holds)
    });
    waited
        .map_err(|Failure(why)| Failure(format!("{why} ({})", describe(client.view().placement()))))
}

/// The survivors, who are asked until one of them shows a node dead.
struct Survivors {
    /// When that was.
    dead: Receiver<Instant>,
    tasks: Vec<JoinHandle<()>>,
}

impl Survivors {
    fn ask(nodes: &Nodes, victim: usize, id: NodeId) -> Result<Self> {
        let (client, runtime) = nodes.with_runtime()?;
        let incarnation = client.view().placement().member(id).map(|member| member.incarnation);
        let (tell, dead) = sync_channel(NODES);
        let survivors = nodes.all().iter().enumerate().filter(|(index, _)| *index != victim);
        let task = |address: String| {
            let (client, tell) = (client.clone(), tell.clone());
            runtime.spawn(async move {
                loop {
                    let status = client.status_at(&address, STATUS_WITHIN).await;
                    let is_dead = status.is_ok_and(|status| {
                        status.members.iter().any(|member| {
                            let same = member.node == id && Some(member.incarnation) == incarnation;
                            same && member.state == MemberState::Dead
                        })
                    });
                    if is_dead {
                        // Only the first one is waited for, and there is room for all.
                        tell.try_send(Instant::now()).ok();
                        return;
                    }
                    tokio::time::sleep(ASK_EVERY).await;
                }
            })
        };
        let tasks = survivors.map(|(_, node)| task(node.address.clone())).collect();
        Ok(Self { dead, tasks })
    }
}

impl Drop for Survivors {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn told(run: &Run) -> String {
    let replicas = run.again_replicas.map(|s| format!(", those it replicated after {s:.3} s"));
    format!(
        "{}{} killed, dead after {:.3} s, its {} watched partitions take ticks after {:.3} s{}; \
         filled {:.3} s after its start",
        run.victim,
        if run.was_leader { " (leads the log)" } else { "" },
        run.detected,
        run.owned,
        run.again,
        replicas.unwrap_or_default(),
        run.filled,
    )
}

/// One figure of every run that has it.
type Column = (&'static str, fn(&Run) -> Option<f64>);

const COLUMNS: [Column; 4] = [
    ("declared dead", |run| Some(run.detected)),
    ("all its partitions take ticks", |run| Some(run.again)),
    ("all partitions it replicated take ticks", |run| run.again_replicas),
    ("started again until filled", |run| Some(run.filled)),
];

fn print(settings: Settings, profile: &str, runs: &[Run], refused: u64) {
    let rows = COLUMNS.iter().filter_map(|(what, of)| {
        let mut figures: Vec<f64> = runs.iter().filter_map(of).collect();
        figures.sort_by(f64::total_cmp);
        Some((*what, *figures.get(figures.len() / 2)?, *figures.last()?))
    });
    let leaders = runs.iter().filter(|run| run.was_leader).count();
    if settings.json {
        let rows = rows.map(
            |(what, median, worst)| json!({ "what": what, "median_s": median, "worst_s": worst }),
        );
        let rows: Vec<_> = rows.collect();
        println!(
            "{}",
            json!({ "failover": profile, "runs": runs.len(), "leaders": leaders,
                "refused": refused, "figures": rows })
        );
        return;
    }
    println!(
        "failover, profile {profile}, {} kills, {leaders} of them of the log's leader, {refused} \
         ticks refused: seconds, median and worst",
        runs.len()
    );
    for (what, median, worst) in rows {
        println!("  {what:<42}{median:>8.3}{worst:>8.3}");
    }
}
