//! What this node answers: every request of clients and other nodes, and lanes over RPC.
//!
//! The service stands before the node has joined, so that others can see that it is alive; until
//! then it only says who it is.

use crate::agent::beats::Beats;
use crate::agent::conductor::Opinions;
use crate::agent::shard::{Command, LaneTerms, SourceTerms};
use crate::condition::Condition;
use crate::join;
use crate::link::Log;
use crate::operate::operate;
use crate::plugins::Founding;
use crate::query::{Coordinator, Owner};
use crate::shards::ShardPort;
use crate::wire::door::Meetings;
use crate::wire::{Wire, check_lane, check_owner};
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zepto_client::lanes::LaneDoor;
use zepto_client::message::{
    self, LaneOffer, LanePurpose, LaneRequest, Leg, Part, PluginRequest, Query, Request, Response,
};
use zepto_client::real::random_128;
use zepto_control::{Command as LogCommand, ControlLog, Outcome};
use zepto_core::env::Env;
use zepto_core::limits::{INTERN_BATCH_MAX, LANE_SLOTS_MIN, QUERIES_MAX, RPC_LANE_SLOTS};
use zepto_core::{Incarnation, NodeId, Refusal};
use zepto_plugin::plugins::Plugins;
use zepto_rpc::{
    Failure, Handler, Hello, HelloRefusal, Identity, PeerInfo, Peers, ServerTally, Welcome,
};
use zepto_transport::mailbox::{self, LaneSpec};
use zepto_transport::{Heap, Transport};

/// What is known only once the node is a member.
pub struct Joined<T: Transport> {
    /// Its id.
    pub node: NodeId,
    /// The cluster.
    pub cluster: u128,
    /// The log.
    pub log: Log,
    /// Its shards.
    pub shards: Vec<ShardPort<T>>,
    /// Most bytes that their stores may take together.
    pub store_limit_bytes: u64,
    /// Where lanes of processes of this machine are promised.
    pub meetings: Arc<Meetings<T>>,
    /// What it thinks of the others.
    pub opinions: Opinions,
    /// Answers legs.
    pub owner: Arc<Owner<T>>,
    /// Answers queries.
    pub coordinator: Coordinator<Log>,
}

/// The service.
pub struct Service<T: Transport> {
    /// The node's text id.
    pub name: String,
    /// This life of it.
    pub incarnation: Incarnation,
    /// Where it is reached.
    pub address: String,
    /// Who can share memory with it.
    pub host: Vec<u8>,
    /// The way to others.
    pub peers: Peers,
    /// Clocks.
    pub env: Arc<dyn Env>,
    /// Its shards' ends of the transport.
    pub ends: Vec<T>,
    /// What the server that stands before it counts.
    pub server: Arc<ServerTally>,
    /// What the conductor counts.
    pub beats: Arc<Beats>,
    /// How it is and whether it takes work.
    pub condition: Condition,
    /// The log, as soon as it is open: its peers speak with it before the node is a member.
    pub raft: OnceLock<Log>,
    /// Set once.
    pub joined: OnceLock<Joined<T>>,
    /// The plugins, if there are any.
    pub plugins: OnceLock<Plugins>,
    /// How it stands as long as it has not joined.
    pub(crate) founding: Founding,
    queries: Semaphore,
}

type Answer = Result<Response, Failure>;

impl<T: Wire> Service<T> {
    /// A service of a node that has not joined.
    pub fn new(
        name: String,
        incarnation: Incarnation,
        address: String,
        host: Vec<u8>,
        peers: Peers,
        env: Arc<dyn Env>,
        ends: Vec<T>,
    ) -> Self {
        let (queries, joined) = (Semaphore::new(QUERIES_MAX), OnceLock::new());
        let server = ServerTally::new(&zepto_rpc::Config::default());
        let (beats, condition) = (Arc::default(), Condition::new(env.wall_ns()));
        Self {
            name,
            incarnation,
            address,
            host,
            peers,
            env,
            ends,
            server,
            beats,
            condition,
            raft: OnceLock::new(),
            joined,
            plugins: OnceLock::new(),
            founding: Founding::default(),
            queries,
        }
    }

    fn member(&self) -> Result<&Joined<T>, Failure> {
        self.joined
            .get()
            .ok_or_else(|| refused(Refusal::NotReady, "this node has not joined a cluster yet"))
    }

    fn log(&self) -> Result<&Log, Failure> {
        self.raft.get().ok_or_else(|| refused(Refusal::NotReady, "the log is not open yet"))
    }

    async fn answer(&self, request: Request, deadline: Instant) -> Answer {
        match request {
            Request::Ping => Ok(Response::Pong {
                node: self.joined.get().map_or(NodeId(0), |joined| joined.node),
                incarnation: self.incarnation,
            }),
            Request::Status => Ok(Response::Status(Box::new(self.status(self.member()?)))),
            Request::Placement { after, wait_ms } => self.placement(after, wait_ms, deadline).await,
            Request::Intern { names } => self.intern(names, deadline).await,
            Request::Query(query) => self.query(query, deadline).await,
            Request::Leg(leg) => self.leg(leg).await.map(Response::Part),
            Request::Meet(request) => self.meet(request),
            Request::Share(offer) => self.share(offer).await,
            Request::Join(request) => {
                join::welcome(self.log()?, self.joined.get(), &self.peers, request).await
            }
            Request::Leader => Ok(Response::Leader { address: self.leader() }),
            Request::Consensus(message) => self.consensus(message).await,
            Request::Operate(operation) => {
                let left = deadline.saturating_duration_since(Instant::now());
                operate(&self.member()?.log, operation, left).await
            }
            Request::Heard { node, incarnation } => self.heard(node, incarnation),
            Request::Found { name, claims } => {
                Ok(Response::Standing(self.founding.answer(&name, claims)))
            }
            Request::Plugin(request) => self.plugin(request).await,
        }
    }

    /// What an operator asks about plugins.
    async fn plugin(&self, request: PluginRequest) -> Answer {
        let none = || refused(Refusal::Malformed, "this node has no plugins");
        let plugins = self.plugins.get().ok_or_else(none)?;
        let done = match request {
            PluginRequest::Reload { name, path } => plugins.reload(&name, path.as_ref()).await,
            PluginRequest::Confirm => plugins
                .confirm()
                .await
                .map(|confirmed| confirmed.unwrap_or_else(|| "nothing is held".to_owned())),
        };
        done.map(Response::Plugin).map_err(|text| refused(Refusal::Malformed, &text))
    }

    /// Where the log is led, as far as this node knows.
    fn leader(&self) -> Option<String> {
        self.raft.get()?.leader().map(|leader| leader.address)
    }

    /// A message of consensus. It must be heard whatever else goes on here.
    async fn consensus(&self, message: Vec<u8>) -> Answer {
        let answer = self.log()?.handle(message).await;
        answer.map(Response::Consensus).map_err(|error| Failure::Unknown(error.to_string()))
    }

    async fn placement(&self, after: u64, wait_ms: u32, deadline: Instant) -> Answer {
        let state = self.member()?.log.state();
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = Duration::from_millis(u64::from(wait_ms)).min(left * 3 / 4);
        let until = Instant::now() + wait;
        // Symbols move the index without a new view: wait on until the placement itself is newer.
        // The index is read before the view, so that no view that comes in between is missed.
        let (mut index, mut view) = (state.index(), state.view());
        while view.index() <= after && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            if state.wait_for(index + 1, left).await.is_err() {
                break;
            }
            (index, view) = (state.index(), state.view());
        }
        let placement = Box::new(view.placement().clone());
        Ok(Response::Placement { placement, symbols: state.symbols_len() })
    }

    async fn intern(&self, names: Vec<String>, deadline: Instant) -> Answer {
        let log = &self.member()?.log;
        if names.len() > INTERN_BATCH_MAX {
            let text = format!("{} names, at most {INTERN_BATCH_MAX} at a time", names.len());
            return Err(refused(Refusal::LimitReached, &text));
        }
        let ids = |names: &[String]| -> Option<Vec<u32>> {
            names.iter().map(|name| log.state().symbol_id(name)).collect()
        };
        if let Some(ids) = ids(&names) {
            return Ok(Response::Interned { ids });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match log.propose(LogCommand::Intern { names: names.clone() }, left).await {
            Outcome::Committed { .. } => ids(&names)
                .map(|ids| Response::Interned { ids })
                .ok_or_else(|| Failure::Unknown("the log took the names but has no ids".into())),
            Outcome::Refused { why, .. } => Err(refused(join::refusal_of(&why), &why.to_string())),
            Outcome::Unknown(why) => Err(Failure::Unknown(why)),
        }
    }

    async fn query(&self, query: Query, deadline: Instant) -> Answer {
        let joined = self.member()?;
        let Ok(_permit) = self.queries.try_acquire() else {
            return Err(refused(Refusal::Overloaded, "as many queries run as may"));
        };
        let local = |leg| self.leg(leg);
        joined.coordinator.answer(query, deadline, local).await.map(Response::Answer)
    }

    /// One owner's part, off the runtime's threads: it takes as long as there is data.
    async fn leg(&self, leg: Leg) -> Result<Part, Failure> {
        let owner = Arc::clone(&self.member()?.owner);
        let answered = tokio::task::spawn_blocking(move || owner.answer(&leg)).await;
        match answered {
            Ok(part) => part.map_err(Failure::from),
            Err(error) => Err(Failure::Unknown(error.to_string())),
        }
    }

    fn meet(&self, request: LaneRequest) -> Answer {
        let joined = self.member()?;
        check_lane(&request, joined.node, self.incarnation, joined.shards.len())?;
        let promised = joined.meetings.promise(request);
        let (door, nonce) =
            promised.map_err(|reason| refused(reason, "too many lanes are being opened"))?;
        Ok(Response::Meet { door, nonce })
    }

    /// Off the runtime's threads: a transport may have to call out.
    async fn share(&self, offer: LaneOffer) -> Answer {
        let joined = self.member()?;
        check_lane(&offer.lane, joined.node, self.incarnation, joined.shards.len())?;
        check_owner(&offer.lane, joined.log.state().view().placement())?;
        let port = joined.shards[usize::from(offer.lane.shard)].clone();
        match tokio::task::spawn_blocking(move || T::share(&port, offer)).await {
            Ok(ticket) => Ok(Response::Share { ticket: ticket? }),
            Err(error) => Err(Failure::Unknown(error.to_string())),
        }
    }

    fn heard(&self, node: NodeId, incarnation: Incarnation) -> Answer {
        let opinions = self.member()?.opinions.load_full();
        let now = self.env.now();
        let observed = opinions.get(&node).filter(|seen| seen.incarnation == incarnation);
        let heard = observed.and_then(|seen| seen.heard);
        let silent_ms = heard.map(|heard| now.since(heard).as_millis() as u64);
        Ok(Response::Heard { silent_ms })
    }

    /// A ring in this process that the connection fills and a shard reads.
    fn lane(&self, open: &[u8]) -> Result<LaneDoor, (Refusal, String)> {
        let joined = self.joined.get().ok_or((Refusal::NotReady, "not joined yet".to_owned()))?;
        let request: LaneRequest =
            message::decode(open).map_err(|error| (Refusal::Malformed, error.to_string()))?;
        check_lane(&request, joined.node, self.incarnation, joined.shards.len())?;
        let slots = request.slots as usize;
        if !slots.is_power_of_two() || !(LANE_SLOTS_MIN..=RPC_LANE_SLOTS).contains(&slots) {
            return Err((Refusal::LimitReached, format!("a lane cannot have {slots} slots")));
        }
        let port = &joined.shards[usize::from(request.shard)];
        let spec = LaneSpec { nonce: random_128(), slots: request.slots };
        let (sender, receiver) = mailbox::lane(&Heap, &Heap, spec)
            .map_err(|error| (Refusal::Overloaded, error.to_string()))?;
        let hung_up = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&hung_up);
        let command = match request.purpose {
            LanePurpose::Producer { memory_only } => {
                Command::Door(receiver, LaneTerms { memory_only, hung_up: flag })
            }
            LanePurpose::Replica { owner: node, incarnation } => {
                Command::DoorSource(receiver, SourceTerms { node, incarnation, hung_up: flag })
            }
        };
        if !port.send(command) {
            return Err((Refusal::Overloaded, "too many lanes are being opened".into()));
        }
        Ok(LaneDoor::new(sender, Arc::clone(port.bell()), hung_up))
    }
}

impl<T: Wire> Handler for Service<T> {
    type Sink = LaneDoor;

    fn hello(&self, hello: &Hello, _from: SocketAddr) -> Result<Welcome, (HelloRefusal, String)> {
        let joined = self.joined.get();
        let cluster = joined.map(|joined| joined.cluster);
        let known = joined.and_then(|joined| {
            let view = joined.log.state().view();
            view.placement().member(hello.identity.node).map(|member| member.incarnation)
        });
        zepto_rpc::hello::admit(cluster, known, &hello.identity)?;
        let index = joined.map_or(0, |joined| joined.log.state().index());
        let identity = Identity {
            cluster,
            node: joined.map_or(NodeId(0), |joined| joined.node),
            incarnation: self.incarnation,
            role: zepto_rpc::Role::Node,
            host: self.host.clone(),
            topology_index: index,
            ..Identity::client(&self.name)
        };
        Ok(Welcome { identity, extra: Vec::new() })
    }

    async fn call(
        &self,
        _peer: Arc<PeerInfo>,
        request: Vec<u8>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let request = message::decode::<Request>(&request)
            .map_err(|error| refused(Refusal::Malformed, &error.to_string()))?;
        self.answer(request, deadline).await.map(|response| message::encode(&response))
    }

    async fn open_lane(
        &self,
        _peer: Arc<PeerInfo>,
        open: Vec<u8>,
    ) -> Result<LaneDoor, (Refusal, String)> {
        self.lane(&open)
    }
}

pub(crate) fn refused(reason: Refusal, text: &str) -> Failure {
    Failure::Refused(reason, text.to_owned())
}
