//! How a starting node comes to its log: it goes on with its own file, bootstraps a cluster, or
//! joins one.

use crate::config::Config;
use crate::join::{self, Membership};
use crate::life::Life;
use crate::link::{Link, Log};
use crate::plugins::{Seeds, may_found};
use crate::service::Service;
use crate::start_error::StartError;
use crate::wire::Wire;
use core::time::Duration;
use tokio::sync::watch;
use zepto_client::message::JoinRequest;
use zepto_client::real::random_128;
use zepto_control::datadir::DataDir;
use zepto_control::raft::{DiskWorker, Raft};
use zepto_control::state::EventSink;
use zepto_control::{Command, ControlLog, Outcome, Reason};
use zepto_core::NodeId;
use zepto_core::limits::PROPOSE_MS;
use zepto_core::topology::Event;
use zepto_plugin::plugins::Plugins;
use zepto_rpc::Peers;

/// Time for the log to take what a starting node proposes.
const PROPOSE_WITHIN: Duration = Duration::from_millis(PROPOSE_MS);
/// Time to read what the log holds already.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(30);

/// A node that is in its cluster's log.
pub(crate) struct Entered {
    pub node: NodeId,
    pub cluster: u128,
    pub log: Log,
}

type Fail = watch::Sender<Option<String>>;

/// Comes to the log by the data directory and the seeds.
pub(crate) async fn enter<T: Wire>(
    config: &Config,
    data_dir: &mut DataDir,
    service: &Service<T>,
    consensus: Peers,
    fail: &Fail,
    life: &mut Life,
) -> Result<Entered, StartError> {
    let discovered = service.plugins.get().and_then(Plugins::nodes);
    let own = [service.address.clone(), config.listen.clone()];
    let seeds = Seeds::new(config.seeds.clone(), discovered, own);
    let known = data_dir.cluster();
    let path = data_dir.log_path();
    let (name, address) = (service.name.clone(), service.address.clone());
    let times = config.heartbeat.profile.times();
    let opened = tokio::task::spawn_blocking(move || {
        Raft::open(&path, (&name, &address), Link::new(consensus), times, events())
    });
    let opened = opened.await.map_err(|error| StartError::Log(error.to_string()))?;
    let (unstarted, worker) = opened.map_err(|error| StartError::Log(error.to_string()))?;
    let fresh = unstarted.is_fresh();
    let is_alone = seeds.configured().is_empty() && !seeds.is_discovering();
    if fresh
        && is_alone
        && let Some(cluster) = known
    {
        return Err(StartError::Refused(format!(
            "{} belongs to cluster {cluster:032x}, but its log is gone; give --seed with the \
             address of one of its members",
            data_dir.path().display()
        )));
    }
    run_worker(worker, fail.clone(), life)?;
    let started = unstarted.start().await;
    let log = started.map_err(|error| StartError::Log(error.to_string()))?;
    life.keep_log(log.clone());
    watch_log(log.clone(), fail.clone(), life);
    if service.raft.set(log.clone()).is_err() {
        return Err(StartError::Log("opened twice".into()));
    }
    // Who belonged to a cluster once, or has a log, founds no other one.
    let is_free = fresh && known.is_none();
    let founds = is_free
        && (is_alone
            || (seeds.is_discovering() && may_found(service, &seeds, config.expect).await));
    if founds {
        bootstrap(config, &log).await?;
    }
    service.founding.settle();
    let request = request(config, service, known, log.id());
    let within = Duration::from_millis(config.join_timeout_ms);
    let joined = join::join(&log, &service.peers, &seeds, &request, within).await?;
    settle(data_dir, &log, joined).await
}

/// Waits until the membership shows here, and notes the cluster.
async fn settle(
    data_dir: &mut DataDir,
    log: &Log,
    joined: Membership,
) -> Result<Entered, StartError> {
    let Membership { node, cluster, index } = joined;
    data_dir.set_cluster(cluster)?;
    let caught_up = log.state().wait_for(index, CATCH_UP_WITHIN).await;
    caught_up.map_err(|error| StartError::Log(error.to_string()))?;
    Ok(Entered { node, cluster, log: log.clone() })
}

/// Makes the log a new cluster's, with this node as its only voter.
async fn bootstrap(config: &Config, log: &Log) -> Result<(), StartError> {
    log.bootstrap().await.map_err(|why| StartError::Log(why.to_string()))?;
    let cluster = random_128();
    let command = Command::Bootstrap {
        cluster,
        bits: config.cluster.partition_bits,
        copies: config.cluster.copies,
    };
    propose(log, command).await?;
    tracing::info!(cluster = format!("{cluster:032x}"), "bootstrapped a new cluster");
    Ok(())
}

fn run_worker(worker: DiskWorker, fail: Fail, life: &mut Life) -> Result<(), StartError> {
    life.thread("zepto-log", move |_stop| {
        if let Err(error) = worker.run() {
            fail.send_replace(Some(format!("the control log failed: {error}")));
        }
    })
}

/// A node whose consensus has ended knows nothing new any more: it must not go on.
fn watch_log(log: Log, fail: Fail, life: &mut Life) {
    life.spawn(async move {
        match log.ended().await {
            Reason::Stopped => {}
            why => {
                fail.send_replace(Some(format!("the control log failed: {why}")));
            }
        }
    });
}

fn request<T: Wire>(
    config: &Config,
    service: &Service<T>,
    cluster: Option<u128>,
    voter: u64,
) -> JoinRequest {
    JoinRequest {
        name: service.name.clone(),
        incarnation: service.incarnation,
        address: service.address.clone(),
        shards: config.shards,
        weight: config.weight,
        zone: config.zone.clone(),
        cluster,
        voter,
    }
}

/// The membership that a request asks for.
pub(crate) fn command_of(request: &JoinRequest) -> Command {
    Command::Join {
        name: request.name.clone(),
        incarnation: request.incarnation,
        address: request.address.clone(),
        shards: request.shards,
        weight: request.weight,
        zone: request.zone.clone(),
    }
}

async fn propose(log: &Log, command: Command) -> Result<(), StartError> {
    match log.propose(command, PROPOSE_WITHIN).await {
        Outcome::Committed { .. } => Ok(()),
        Outcome::Refused { why, .. } => Err(StartError::Log(why.to_string())),
        Outcome::Unknown(why) => Err(StartError::Log(why)),
    }
}

/// Every event of the topology goes to the log lines.
fn events() -> EventSink {
    Box::new(|index, events| {
        for event in events {
            match &event {
                Event::DataLost { node, partitions } => tracing::error!(
                    index, %node, partitions, "DATA LOST: their last copy is gone; they begin empty"
                ),
                Event::Offline { node, partitions } => tracing::error!(
                    index, %node, partitions, "OFFLINE: nobody else has a copy that is in sync"
                ),
                Event::Dead(node, incarnation) => {
                    tracing::warn!(index, %node, %incarnation, "DEAD");
                }
                Event::Interned { first, count } => {
                    tracing::debug!(index, first, count, "symbols");
                }
                event => tracing::info!(index, ?event, "topology"),
            }
        }
    })
}
