//! How a starting node comes to its log: it resumes its own, bootstraps a cluster, or joins one.

use crate::config::Config;
use crate::join;
use crate::life::Life;
use crate::link::Link;
use crate::service::Service;
use crate::start_error::StartError;
use crate::wire::Wire;
use core::time::Duration;
use std::sync::Arc;
use tokio::sync::watch;
use zepto_client::message::JoinRequest;
use zepto_client::real::{random, random_128};
use zepto_control::datadir::DataDir;
use zepto_control::follower::Follower;
use zepto_control::single::{Single, SingleWorker};
use zepto_control::state::EventSink;
use zepto_control::{AnyLog, Command, ControlLog, Outcome};
use zepto_core::NodeId;
use zepto_core::limits::PROPOSE_MS;
use zepto_core::topology::Event;

/// Time for the log to take what a starting node proposes.
const PROPOSE_WITHIN: Duration = Duration::from_millis(PROPOSE_MS);
/// Time to read what the log holds already.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(30);

/// A node that is in its cluster's log.
pub(crate) struct Entered {
    pub node: NodeId,
    pub cluster: u128,
    pub log: AnyLog<Link>,
    pub keeper: Option<Arc<Single>>,
}

type Fail = watch::Sender<Option<String>>;

/// Comes to the log by the data directory and the seeds.
pub(crate) async fn enter<T: Wire>(
    config: &Config,
    data_dir: &mut DataDir,
    service: &Service<T>,
    fail: &Fail,
    life: &mut Life,
) -> Result<Entered, StartError> {
    let seeds = others(config, service);
    let resumes = data_dir.has_log()?;
    if resumes || seeds.is_empty() {
        if !resumes && let Some(cluster) = data_dir.cluster() {
            return Err(StartError::Refused(format!(
                "{} belongs to cluster {cluster:032x}, whose log another node keeps; give --seed \
                 with the address of one of its members",
                data_dir.path().display()
            )));
        }
        return keep(config, data_dir, service, resumes, fail, life).await;
    }
    follow(config, data_dir, service, &seeds, fail, life).await
}

/// The seeds that are not this node itself: a list may be the same for all nodes.
fn others<T: Wire>(config: &Config, service: &Service<T>) -> Vec<String> {
    let own = |seed: &&String| **seed != service.address && **seed != config.listen;
    config.seeds.iter().filter(own).cloned().collect()
}

/// This node keeps the log: an old one, or that of a new cluster.
async fn keep<T: Wire>(
    config: &Config,
    data_dir: &mut DataDir,
    service: &Service<T>,
    resumes: bool,
    fail: &Fail,
    life: &mut Life,
) -> Result<Entered, StartError> {
    let path = data_dir.log_path();
    let opened = tokio::task::spawn_blocking(move || {
        if resumes { Single::open(&path, events()) } else { Single::create(&path, events()) }
    });
    let opened = opened.await.map_err(|error| StartError::Log(error.to_string()))?;
    let (keeper, worker) = opened.map_err(|error| StartError::Log(error.to_string()))?;
    life.keep_log(Arc::clone(&keeper));
    run_keeper(worker, fail.clone(), life)?;
    // A first start that was interrupted left an empty log.
    if keeper.state().index() == 0 {
        let cluster = random_128();
        let command = Command::Bootstrap {
            cluster,
            bits: config.cluster.partition_bits,
            copies: config.cluster.copies,
        };
        propose(&keeper, command).await?;
        tracing::info!(cluster = format!("{cluster:032x}"), "bootstrapped a new cluster");
    }
    let cluster = keeper.state().view().placement().cluster;
    data_dir.set_cluster(cluster)?;
    let join = request(config, service, Some(cluster));
    propose(&keeper, command_of(join)).await?;
    let node = keeper.state().view().placement().member_named(&service.name).map(|m| m.id);
    let node = node.ok_or_else(|| StartError::Log("joined, but not there".into()))?;
    Ok(Entered { node, cluster, log: AnyLog::Single(Arc::clone(&keeper)), keeper: Some(keeper) })
}

fn run_keeper(worker: SingleWorker, fail: Fail, life: &mut Life) -> Result<(), StartError> {
    life.thread("zepto-log", move |_stop| {
        if let Err(error) = worker.run() {
            fail.send_replace(Some(format!("the control log failed: {error}")));
        }
    })
}

/// Another node keeps the log.
async fn follow<T: Wire>(
    config: &Config,
    data_dir: &mut DataDir,
    service: &Service<T>,
    seeds: &[String],
    fail: &Fail,
    life: &mut Life,
) -> Result<Entered, StartError> {
    let within = Duration::from_millis(config.join_timeout_ms);
    let request = request(config, service, data_dir.cluster());
    let joined = join::join(&service.peers, seeds, &request, within).await?;
    data_dir.set_cluster(joined.cluster)?;
    let known = seeds.to_vec();
    let link = Link::new(service.peers.clone(), joined.leader, move || known.clone());
    let (follower, worker) = Follower::new(link, random(), events());
    let fail = fail.clone();
    life.spawn(async move {
        if let Err(error) = worker.run(core::future::pending()).await {
            fail.send_replace(Some(format!("cannot follow the control log: {error}")));
        }
    });
    let caught_up = follower.state().wait_for(joined.index, CATCH_UP_WITHIN).await;
    caught_up.map_err(|error| StartError::Log(error.to_string()))?;
    let log = AnyLog::Follower(follower);
    Ok(Entered { node: joined.node, cluster: joined.cluster, log, keeper: None })
}

fn request<T: Wire>(config: &Config, service: &Service<T>, cluster: Option<u128>) -> JoinRequest {
    JoinRequest {
        name: service.name.clone(),
        incarnation: service.incarnation,
        address: service.address.clone(),
        shards: config.shards,
        weight: config.weight,
        zone: config.zone.clone(),
        cluster,
    }
}

/// The membership that a request asks for.
pub(crate) fn command_of(request: JoinRequest) -> Command {
    let JoinRequest { name, incarnation, address, shards, weight, zone, cluster: _ } = request;
    Command::Join { name, incarnation, address, shards, weight, zone }
}

async fn propose(log: &Single, command: Command) -> Result<(), StartError> {
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
                    index, %node, partitions, "DATA LOST: an owner came back empty"
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
