//! A connection to the cluster: follows the placement, asks questions, opens producers.
//!
//! Any member that answers is good for anything: it forwards what it does not own or decide. The
//! client follows the placement by a long poll, so its view is at most one message behind the
//! member it polls.

use crate::connect::Connector;
use crate::message::{self, Answer, MessageError, Query, Request, Response, Status};
use crate::producer::Producer;
use crate::real::{Real, random};
use crate::ticks::{ProducerOptions, TickProducer};
use crate::{host, message::Leg};
use arc_swap::ArcSwap;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::runtime::Handle;
use tokio::sync::watch;
use zepto_core::limits::INTERN_BATCH_MAX;
use zepto_core::topology::{MemberState, Placement, Topology};
use zepto_core::view::View;
use zepto_core::{ProducerId, Refusal};
use zepto_rpc::{CallError, ClusterSecret, Config, Hello, HelloRefusal, Identity, NotSent, Peers};

/// Time that one placement poll may wait at the member.
const POLL_WAIT: Duration = Duration::from_secs(5);
/// Pause after a round of members none of which answered.
const POLL_PAUSE: Duration = Duration::from_millis(100);
/// Time for one member to answer in a round over several.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where the cluster is, and who asks.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Addresses of members, tried in turn: `host:port`.
    pub seeds: Vec<String>,
    /// A name for the members' logs.
    pub name: String,
    /// Use shared memory where it can be had.
    pub shared_memory: bool,
    /// The cluster's secret; without one only a cluster that has none lets a client in.
    pub secret: Option<ClusterSecret>,
}

/// Why the cluster did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answered. What was asked was certainly not done.
    #[error("no member answers: {0}")]
    Unreachable(String),
    /// It was refused, and nothing was done.
    #[error("{text} ({reason})")]
    Refused {
        /// Why.
        reason: Refusal,
        /// For people.
        text: String,
    },
    /// It may or may not have been done.
    #[error("{0}")]
    Unknown(String),
    /// The member speaks another version, or nonsense.
    #[error("the member's answer makes no sense: {0}")]
    Protocol(String),
    /// A member was reached and does not let this process in: the cluster secret is not the same.
    /// Nothing was done, and trying again is of no use.
    #[error("{0}")]
    Denied(String),
    /// The deadline passed before the cluster was ready.
    #[error("not ready in time: {0}")]
    NotReady(String),
}

/// A handle to the cluster. Cheap to clone; any thread.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub peers: Peers,
    pub runtime: Handle,
    pub host: Vec<u8>,
    pub views: Arc<ArcSwap<View>>,
    seeds: Vec<String>,
    symbols: AtomicU32,
    index: watch::Sender<u64>,
}

impl Client {
    /// Connects to the first seed that answers and starts to follow the placement on the current
    /// tokio runtime.
    ///
    /// # Errors
    /// When no seed answers within the deadline, with what the last one said.
    pub async fn connect(options: ClientOptions, deadline: Duration) -> Result<Self, ClientError> {
        let host = if options.shared_memory { host::identity() } else { Vec::new() };
        let identity = Identity { host: host.clone(), ..Identity::client(&options.name) };
        let hello = move || Hello::new(identity.clone());
        let inner = Arc::new(Inner {
            peers: Peers::new(config(options.secret), random(), hello),
            runtime: Handle::current(),
            host,
            views: Arc::new(ArcSwap::from_pointee(View::compile(Topology::empty().placement))),
            seeds: options.seeds,
            symbols: AtomicU32::new(0),
            index: watch::Sender::new(0),
        });
        let client = Self { inner };
        let first = client.inner.poll_once(Duration::ZERO);
        match tokio::time::timeout(deadline, first).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(ClientError::Unreachable("the deadline passed".into())),
        }
        let follower = Arc::downgrade(&client.inner);
        tokio::spawn(async move {
            // Ends with the last handle.
            while let Some(inner) = follower.upgrade() {
                if inner.poll_once(POLL_WAIT).await.is_err() {
                    drop(inner);
                    tokio::time::sleep(POLL_PAUSE).await;
                }
            }
        });
        Ok(client)
    }

    /// The view as it is now.
    pub fn view(&self) -> Arc<View> {
        self.inner.views.load_full()
    }

    /// Waits until the placement satisfies a condition.
    ///
    /// # Errors
    /// When it does not within the deadline.
    pub async fn wait_until(
        &self,
        what: &str,
        deadline: Duration,
        mut holds: impl FnMut(&Placement) -> bool,
    ) -> Result<(), ClientError> {
        let mut index = self.inner.index.subscribe();
        let waited = tokio::time::timeout(deadline, async {
            while !holds(self.view().placement()) {
                if index.changed().await.is_err() {
                    return;
                }
            }
        });
        waited.await.map_err(|_| ClientError::NotReady(what.into()))
    }

    /// Ids for symbol names, issued by the control log where they are new.
    ///
    /// # Errors
    /// When a name is no symbol, or no member answers; ids of earlier batches stay issued.
    pub async fn intern(
        &self,
        names: &[String],
        deadline: Duration,
    ) -> Result<Vec<u32>, ClientError> {
        let mut ids = Vec::with_capacity(names.len());
        for batch in names.chunks(INTERN_BATCH_MAX) {
            let request = Request::Intern { names: batch.to_vec() };
            match self.inner.ask_any(&request, deadline).await? {
                Response::Interned { ids: some } if some.len() == batch.len() => ids.extend(some),
                other => return Err(unexpected(&other)),
            }
        }
        let issued = ids.iter().max().map_or(0, |id| id + 1);
        self.inner.symbols.fetch_max(issued, Ordering::AcqRel);
        Ok(ids)
    }

    /// Issued symbol ids: every id below this exists.
    pub fn symbols(&self) -> u32 {
        self.inner.symbols.load(Ordering::Acquire)
    }

    /// Asks any member a question about the whole cluster.
    ///
    /// # Errors
    /// Which owner failed and why, unless a partial answer was asked for.
    pub async fn query(&self, query: Query, deadline: Duration) -> Result<Answer, ClientError> {
        into_answer(self.inner.ask_any(&Request::Query(query), deadline).await?)
    }

    /// Asks one member.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn query_at(
        &self,
        address: &str,
        query: Query,
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        into_answer(self.inner.ask(address, &Request::Query(query), deadline).await?)
    }

    /// What one member says about itself and the others.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status_at(
        &self,
        address: &str,
        deadline: Duration,
    ) -> Result<Status, ClientError> {
        match self.inner.ask(address, &Request::Status, deadline).await? {
            Response::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// A producer with a fresh id. One thread owns it.
    pub fn producer(&self, options: ProducerOptions) -> TickProducer {
        let connector = Connector::new(Arc::clone(&self.inner), options);
        let views = Arc::clone(&self.inner.views);
        let producer = Producer::new(ProducerId(random()), views, connector);
        TickProducer::new(producer, self.clone(), Real::new())
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }
}

/// Asks one member once, without following anything: for tools that ask one question.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn ask_once(
    address: &str,
    secret: Option<&ClusterSecret>,
    request: &Request,
    deadline: Duration,
) -> Result<Response, ClientError> {
    let hello = || Hello::new(Identity::client("zepto"));
    let peers = Peers::new(config(secret.cloned()), random(), hello);
    ask(&peers, address, request, deadline).await
}

fn config(secret: Option<ClusterSecret>) -> Config {
    Config { secret, ..Config::default() }
}

/// Sends a request over a pool and decodes the answer.
///
/// # Errors
/// How the call ended when it brought no answer.
pub async fn ask(
    peers: &Peers,
    address: &str,
    request: &Request,
    deadline: Duration,
) -> Result<Response, ClientError> {
    let answer = peers.call(address, message::encode(request), deadline).await?;
    Ok(message::decode(&answer)?)
}

/// The part of a leg's answer.
///
/// # Errors
/// As [`ask`].
pub async fn ask_leg(
    peers: &Peers,
    address: &str,
    leg: Leg,
    deadline: Duration,
) -> Result<message::Part, ClientError> {
    match ask(peers, address, &Request::Leg(leg), deadline).await? {
        Response::Part(part) => Ok(part),
        other => Err(unexpected(&other)),
    }
}

fn into_answer(response: Response) -> Result<Answer, ClientError> {
    match response {
        Response::Answer(answer) => Ok(answer),
        other => Err(unexpected(&other)),
    }
}

/// An answer to another question than the one that was asked.
pub fn unexpected(response: &Response) -> ClientError {
    let text = format!("{response:?}");
    ClientError::Protocol(text.chars().take(100).collect())
}

impl Inner {
    async fn ask(
        &self,
        address: &str,
        request: &Request,
        deadline: Duration,
    ) -> Result<Response, ClientError> {
        ask(&self.peers, address, request, deadline).await
    }

    /// Asks members in turn until one of them can be reached. What a reached one says, stands.
    async fn ask_any(
        &self,
        request: &Request,
        deadline: Duration,
    ) -> Result<Response, ClientError> {
        let mut last = ClientError::Unreachable("there is no address to ask".into());
        for address in self.addresses() {
            match self.ask(&address, request, deadline.min(ANSWER_WITHIN.max(deadline / 2))).await {
                Err(error @ (ClientError::Unreachable(_) | ClientError::Denied(_))) => last = error,
                Err(ClientError::Refused { reason: Refusal::Draining, text }) => {
                    last = ClientError::Refused { reason: Refusal::Draining, text };
                }
                done => return done,
            }
        }
        Err(last)
    }

    /// Members that take part, then the seeds.
    fn addresses(&self) -> Vec<String> {
        let view = self.views.load();
        let members = view.placement().members.iter();
        let active = members.filter(|member| member.state == MemberState::Active);
        let mut addresses: Vec<String> = active.map(|member| member.address.clone()).collect();
        for seed in &self.seeds {
            if !addresses.contains(seed) {
                addresses.push(seed.clone());
            }
        }
        addresses
    }

    /// One poll of the placement, at the first member that answers.
    async fn poll_once(&self, wait: Duration) -> Result<(), ClientError> {
        let after = *self.index.borrow();
        let request = Request::Placement { after, wait_ms: wait.as_millis() as u32 };
        match self.ask_any(&request, wait + ANSWER_WITHIN).await? {
            Response::Placement { placement, symbols } => {
                self.symbols.fetch_max(symbols, Ordering::AcqRel);
                self.install(*placement)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Takes up a placement, unless it is of another cluster or older than what is here.
    fn install(&self, placement: Placement) -> Result<(), ClientError> {
        let view = self.views.load();
        let ours = view.placement().cluster;
        if ours != 0 && placement.cluster != ours {
            let text = format!("cluster {:032x} answers, not {ours:032x}", placement.cluster);
            return Err(ClientError::Protocol(text));
        }
        if placement.index <= view.index() {
            return Ok(());
        }
        if let Err(violation) = placement.check() {
            return Err(ClientError::Protocol(violation.to_string()));
        }
        let index = placement.index;
        self.views.store(Arc::new(View::compile(placement)));
        self.index.send_replace(index);
        Ok(())
    }
}

impl From<CallError> for ClientError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(
                ref why @ NotSent::Unwelcome { reason: HelloRefusal::Secret, .. },
            ) => Self::Denied(why.to_string()),
            CallError::NotSent(why) => Self::Unreachable(why.to_string()),
            CallError::Refused { reason, text } => Self::Refused { reason, text },
            other => Self::Unknown(other.to_string()),
        }
    }
}

impl From<MessageError> for ClientError {
    fn from(error: MessageError) -> Self {
        Self::Protocol(error.to_string())
    }
}
