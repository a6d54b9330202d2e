//! A node's life: start, serve, stop.
//!
//! Start: configuration, data directory, sockets, log or seeds, shards, agents; anything that fails
//! says what to do and leaves nothing running. Stop, in five phases: nothing new, leave, finish
//! what is in flight, report what is left, end.

use crate::admin::Admin;
use crate::agent::conductor::{Addresses, Conductor, Opinions, Setup};
use crate::config::{Config, ConfigError};
use crate::enter::{self, Entered};
use crate::leave;
use crate::life::Life;
use crate::membership::{Membership, resolve};
use crate::plugins;
use crate::query::{Coordinator, Owner};
use crate::replication::Replication;
use crate::service::{Joined, Service};
use crate::shards::{self, Round, Started};
use crate::start_error::StartError;
use crate::turn::propose_in_turn;
use crate::voters;
use crate::wait;
use crate::wire::door::{self, Meetings};
use crate::wire::{Way, Wire};
use core::convert::Infallible;
use core::fmt;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use zepto_client::host;
use zepto_client::real::{Real, random, random_128};
use zepto_control::datadir::DataDir;
use zepto_control::{Command, ControlLog, Outcome, Reason};
use zepto_core::env::Env;
use zepto_core::limits::{MEMBERS_MAX, PROPOSE_MS};
use zepto_core::topology::{Member, MemberState};
use zepto_plugin::config::PluginConfig;
use zepto_plugin::plugins::Plugins;
use zepto_rpc::{ClusterSecret, DrainReport, HeartbeatKeys, Hello, Identity, Peers, Role, Server};
use zepto_transport::Door;

/// Time for a shard to take what its lanes had published before the node stops.
const SETTLE_WITHIN: Duration = Duration::from_millis(200);

/// Longest time without a look at its own membership.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A node that serves.
pub struct Running<T: Wire> {
    service: Arc<Service<T>>,
    address: SocketAddr,
    admin: Option<Admin>,
    /// Held for its lock.
    data_dir: DataDir,
    stop_server: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<DrainReport>,
    life: Life,
    failed: watch::Receiver<Option<String>>,
    rounds: Mutex<Vec<Round>>,
}

/// How a node stopped.
#[derive(Debug)]
pub struct StopReport {
    /// How its connections ended.
    pub drain: DrainReport,
    /// Whether the log knows that it left.
    pub left: bool,
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.drain)?;
        f.write_str(if self.left { "; left the cluster" } else { "; the log was not reached" })
    }
}

/// Starts a node: joins the cluster of its seeds, or bootstraps one. Needs a multi-threaded tokio
/// runtime with I/O and time.
///
/// # Errors
/// What is wrong and what to do.
pub async fn start<T: Wire>(config: Config) -> Result<Running<T>, StartError> {
    config.check()?;
    let env: Arc<dyn Env> = Arc::new(Real::new());
    let secret = config.secret_file.as_deref().map(ClusterSecret::open).transpose()?;
    let rpc = zepto_rpc::Config { secret, ..zepto_rpc::Config::default() };
    let mut data_dir = DataDir::open(&config.data_dir, &config.node_id)?;
    let bound = zepto_rpc::bind(&config.listen)?;
    if !T::IS_GUARDED && !bound.address.ip().is_loopback() && !config.insecure_bind {
        return Err(StartError::InsecureTransport(bound.address));
    }
    // Not before it is known where the node listens: a transport may keep to that.
    let ends = ends_of::<T>(&config, bound.address.ip())?;
    let advertised = advertise(&config, bound.address)?;
    let incarnation = data_dir.next_incarnation(env.wall_ns() / 1_000_000)?;
    let host = host::identity();
    let identity = Identity {
        cluster: data_dir.cluster(),
        incarnation,
        role: Role::Node,
        host: host.clone(),
        ..Identity::client(&config.node_id)
    };
    let own = identity.clone();
    let peers = Peers::new(rpc.clone(), random(), move || Hello::new(identity.clone()));
    // Consensus has connections of its own: bulk between two nodes must not hold it up.
    let consensus = Peers::new(rpc.clone(), random(), move || Hello::new(own.clone()));
    let service = Arc::new(Service::<T>::new(
        config.node_id.clone(),
        incarnation,
        advertised,
        host,
        peers,
        Arc::clone(&env),
        ends,
    ));
    let mut life = Life::default();
    let (fail, failed) = watch::channel(None);
    // Before the node joins, so that whoever watches sees it wait.
    let admin = Admin::start(&config, &service).await?;
    let (stop_server, server) = serve(bound.tcp, &service, rpc.clone())?;
    let address = bound.address;
    let path = data_dir.path().to_owned();
    if let Err(error) = plugins::start(&config, &service, &path, &fail, &mut life).await {
        close(server, admin).await;
        return Err(error);
    }
    let entered = enter::enter(&config, &mut data_dir, &service, consensus, &fail, &mut life).await;
    let entered = match entered {
        Ok(entered) => entered,
        Err(error) => {
            close(server, admin).await;
            return Err(error);
        }
    };
    let rounds = assemble(&config, &service, &entered, bound.udp, &env, rpc.secret, &mut life)?;
    life.spawn(watch_self(Arc::clone(&service), fail));
    let rounds = Mutex::new(rounds);
    let running =
        Running { service, address, admin, data_dir, stop_server, server, life, failed, rounds };
    running.activate_first(&entered).await?;
    Ok(running)
}

/// The shards' ends of the transport.
fn ends_of<T: Wire>(config: &Config, address: IpAddr) -> Result<Vec<T>, StartError> {
    if config.transport != T::NAME {
        let text = format!("{} is what this program's nodes can have here", T::NAME);
        return Err(ConfigError::Value { key: "transport", text }.into());
    }
    (0..config.shards).map(|_| T::open(config, address).map_err(StartError::Transport)).collect()
}

/// The address that others are told.
fn advertise(config: &Config, bound: SocketAddr) -> Result<String, StartError> {
    let is_open = !bound.ip().is_loopback() && config.secret_file.is_none();
    if is_open && !config.insecure_bind {
        return Err(StartError::Insecure(bound));
    }
    if is_open {
        tracing::warn!(
            address = %bound,
            "insecure: whoever reaches this address may join, read and write"
        );
    }
    if !config.advertise.is_empty() {
        // A port of 0 stands for the one that was chosen.
        let (host, port) = config.advertise.rsplit_once(':').unwrap_or((&config.advertise, "0"));
        let port = if port == "0" { bound.port().to_string() } else { port.to_owned() };
        return Ok(format!("{host}:{port}"));
    }
    if bound.ip().is_unspecified() {
        return Err(StartError::Advertise(bound));
    }
    Ok(bound.to_string())
}

type Serving = (oneshot::Sender<()>, tokio::task::JoinHandle<DrainReport>);

fn serve<T: Wire>(
    listener: std::net::TcpListener,
    service: &Arc<Service<T>>,
    rpc: zepto_rpc::Config,
) -> Result<Serving, StartError> {
    let listener =
        TcpListener::from_std(listener).map_err(|e| StartError::system("the listener", e))?;
    let (stop, stopped) = oneshot::channel();
    let (handler, tally) = (Arc::clone(service), Arc::clone(&service.server));
    let server = tokio::spawn(async move {
        let shutdown = async move { drop(stopped.await) };
        match Server::serve_counted(listener, handler, rpc, tally, shutdown).await {
            Ok(report) => report,
            Err(error) => {
                tracing::error!(%error, "the server did not start");
                DrainReport::default()
            }
        }
    });
    Ok((stop, server))
}

/// Closes the sockets of a node that could not start: whoever is told so may try again at once.
async fn close(server: tokio::task::JoinHandle<DrainReport>, admin: Option<Admin>) {
    server.abort();
    if let Ok(report) = server.await {
        tracing::debug!(?report, "the server had ended already");
    }
    if let Some(admin) = admin {
        admin.stop().await;
    }
}

/// Starts what a member has: shards, door, conductor, and the tasks between them and the log.
/// Returns the shards' rounds where they are polled.
fn assemble<T: Wire>(
    config: &Config,
    service: &Arc<Service<T>>,
    entered: &Entered,
    udp: UdpSocket,
    env: &Arc<dyn Env>,
    secret: Option<ClusterSecret>,
    life: &mut Life,
) -> Result<Vec<Round>, StartError> {
    let state = Arc::clone(entered.log.state());
    let (me, incarnation) = (entered.node, service.incarnation);
    let bits = state.view().placement().bits;
    let started = shards::start(config, bits, me, incarnation, state.views(), env, &service.ends);
    let Started { ports, threads, rounds } =
        started.map_err(|e| StartError::system("the shards", e))?;
    life.keep_shards(threads);
    let door_name = format!("zepto-{:032x}", random_128());
    let door = Door::bind(&door_name)
        .map_err(|error| StartError::system("the door", std::io::Error::other(error)))?;
    let runtime = tokio::runtime::Handle::current();
    let meetings = Arc::new(Meetings::new(door_name, ports.clone(), Arc::clone(env), runtime));
    let at_door = Arc::clone(&meetings);
    life.thread("zepto-door", move |stop| door::serve(door, &at_door, stop))?;
    let opinions = Opinions::default();
    let (transitions, changes) = mpsc::channel(MEMBERS_MAX * 2);
    let addresses = Addresses::default();
    let is_v4 = udp.local_addr().is_ok_and(|address| address.is_ipv4());
    let watched = ports.clone();
    let keys = secret.clone().map(|secret| HeartbeatKeys::new(secret, entered.cluster));
    if let Some(secret) = secret {
        life.spawn(secret.watch());
    }
    let conductor = Conductor::new(Setup {
        socket: udp,
        me,
        incarnation,
        profile: config.heartbeat.profile.profile(),
        state: Arc::clone(&state),
        addresses: Arc::clone(&addresses),
        opinions: Arc::clone(&opinions),
        beats: Arc::clone(&service.beats),
        transitions,
        progress: Box::new(move || watched.iter().map(shards::ShardPort::rounds).collect()),
        keys,
        env: Arc::clone(env),
    });
    let mut conductor = conductor.map_err(|e| StartError::system("heartbeats", e))?;
    life.thread("zepto-conductor", move |stop: &AtomicBool| {
        while !stop.load(Ordering::Acquire) {
            conductor.do_work();
        }
    })?;
    life.spawn(resolve(me, entered.log.clone(), addresses, is_v4));
    let membership = Membership {
        me,
        log: entered.log.clone(),
        peers: service.peers.clone(),
        profile: config.heartbeat.profile.profile(),
        opinions: Arc::clone(&opinions),
    };
    life.spawn(membership.run(changes));
    life.spawn(voters::tend(entered.log.clone()));
    if let Some(nodes) = service.plugins.get().and_then(Plugins::nodes) {
        life.spawn(plugins::forget_unlisted(entered.log.clone(), nodes));
    }
    let way = Way { peers: service.peers.clone(), host: service.host.clone() };
    let (log, shards) = (entered.log.clone(), ports.clone());
    life.spawn(Replication { me, incarnation, log, shards, way }.run());
    let joined = Joined {
        node: me,
        cluster: entered.cluster,
        log: entered.log.clone(),
        shards: ports.clone(),
        store_limit_bytes: config.memory.0,
        meetings,
        opinions,
        owner: Arc::new(Owner { me, state, shards: ports }),
        coordinator: Coordinator { log: entered.log.clone(), me, peers: service.peers.clone() },
    };
    if service.joined.set(joined).is_err() {
        return Err(StartError::Join("joined twice".into()));
    }
    Ok(rounds)
}

/// A node whose incarnation is declared dead must not go on: it may have been paused for so long
/// that the cluster went on without it.
async fn watch_self<T: Wire>(service: Arc<Service<T>>, fail: watch::Sender<Option<String>>) {
    let Some(joined) = service.joined.get() else { return };
    let state = Arc::clone(joined.log.state());
    loop {
        // Before the view: symbols move the index without a new view.
        let index = state.index();
        let view = state.view();
        let member = view.placement().member(joined.node);
        let over = member.is_some_and(|member| {
            member.incarnation > service.incarnation
                || (member.incarnation == service.incarnation && member.state == MemberState::Dead)
        });
        if over {
            fail.send_replace(Some(format!(
                "this incarnation ({}) was declared DEAD: others could not hear it; start the \
                 node again, it comes back empty",
                service.incarnation
            )));
            return;
        }
        wait::beyond(&state, index, LOOK_EVERY).await;
    }
}

impl<T: Wire> Running<T> {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that others are told.
    pub fn advertised(&self) -> &str {
        &self.service.address
    }

    /// What ends the node that nobody asked for, once something does.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// The rounds of its shards, if it is polled: whoever takes them calls them all the time, also
    /// while it stops.
    pub fn take_rounds(&self) -> Vec<Round> {
        core::mem::take(&mut *self.rounds.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where its admin HTTP listens, if it has one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Its text id.
    pub fn name(&self) -> &str {
        &self.service.name
    }

    /// Which life of it this is.
    pub fn incarnation(&self) -> u64 {
        self.service.incarnation.0
    }

    /// Waits until something ends the node that nobody asked for, and says what.
    pub async fn failed(&mut self) -> String {
        match self.failed.wait_for(Option::is_some).await {
            Ok(text) => text.clone().unwrap_or_default(),
            Err(_) => "the node's own watch ended".into(),
        }
    }

    /// Where nobody takes part yet, nobody hears this node: it speaks for itself.
    async fn activate_first(&self, entered: &Entered) -> Result<(), StartError> {
        let view = entered.log.state().view();
        if view.placement().members.iter().any(Member::takes_part) {
            return Ok(());
        }
        let (node, incarnation) = (entered.node, self.service.incarnation);
        let activate = |_: &_| Ok::<_, Infallible>(Command::Activate { node, incarnation });
        // Somebody else that starts may have heard this node, and be about to say so.
        let within = Duration::from_millis(PROPOSE_MS);
        let Ok(outcome) = propose_in_turn(&entered.log, within, activate).await;
        match outcome {
            // Somebody was faster.
            Outcome::Committed { .. } | Outcome::Refused { why: Reason::Topology(_), .. } => Ok(()),
            Outcome::Refused { why, .. } => Err(StartError::Log(why.to_string())),
            Outcome::Unknown(why) => Err(StartError::Log(why)),
        }
    }

    /// Reads the plugins' files again, and takes those that changed into service; a plugin whose
    /// configuration here is another than it has is told. Grants and limits stay what they are.
    pub async fn reload_plugins(&self, configs: &[PluginConfig]) {
        plugins::reload(self.service.plugins.get(), configs).await;
    }

    /// Stops in five phases: nothing new, leave, finish, report, end.
    pub async fn stop(self) -> StopReport {
        let Self { service, admin, data_dir, stop_server, server, life, .. } = self;
        // First of all, whoever spreads load learns to leave this node out.
        service.condition.drain();
        let mut left = false;
        if let Some(joined) = service.joined.get() {
            let (node, incarnation) = (joined.node, service.incarnation);
            left = leave::begin(&joined.log, node, incarnation).await;
            // What producers had published by now is taken; what comes later is refused.
            tokio::time::sleep(SETTLE_WITHIN).await;
            for port in &joined.shards {
                port.send(crate::agent::shard::Command::Drain);
            }
            // While the server still runs: the log tells this node, too, what became of it.
            if left {
                left = leave::end(&joined.log, node, incarnation).await;
            }
        }
        if let Some(plugins) = service.plugins.get() {
            plugins.stop().await;
        }
        if stop_server.send(()).is_err() {
            tracing::warn!("the server had ended already");
        }
        let drain = server.await.unwrap_or_default();
        life.end().await;
        if let Some(admin) = admin {
            admin.stop().await;
        }
        drop(data_dir);
        StopReport { drain, left }
    }
}
