//! A connection to the cluster: follows the placement, asks questions, opens producers.
//!
//! Any member that answers is good for anything: it forwards what it does not own or decide. The
//! client follows the placement by long polls at two members, so its view is at most one message
//! behind the better one. Where any member may be asked, one that shows no sign of life is left for
//! the next within a second.

use crate::ask::{ask, ask_living, config, unexpected};
use crate::connect::Connector;
use crate::error::ClientError;
use crate::follow::{FOLLOWED, Followed, follow};
use crate::host;
use crate::message::{Answer, PluginRequest, Query, Request, Response, Status};
use crate::producer::Producer;
use crate::real::{Real, random};
use crate::ticks::{ProducerOptions, TickProducer};
use arc_swap::ArcSwap;
use core::time::Duration;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use zepto_core::limits::INTERN_BATCH_MAX;
use zepto_core::topology::{MemberState, Placement, Topology};
use zepto_core::view::View;
use zepto_core::{ProducerId, Refusal};
use zepto_rpc::{ClusterSecret, Hello, Identity, Peers};

/// Time for one member to answer what it knows already, on top of what it was told to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Time for one member to have names interned: it may wait for a leader of the log that is gone,
/// where another try finds the new one.
const INTERN_TRY: Duration = Duration::from_millis(700);
/// Time for a round over all seeds; the caller's deadline is usually shorter.
const FIRST_WITHIN: Duration = Duration::from_secs(60);
/// Time within which it is worth while to ask another member.
const TIME_FOR_ANOTHER: Duration = Duration::from_millis(200);
/// Pause between two tries of what may be asked twice.
const TRY_PAUSE: Duration = Duration::from_millis(50);

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
    pub followed: Followed,
    seeds: Vec<String>,
    /// The member that answered last, where any would do: the first to be asked next time.
    answered: Mutex<String>,
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
            followed: Followed::default(),
            seeds: options.seeds,
            answered: Mutex::default(),
            symbols: AtomicU32::new(0),
            index: watch::Sender::new(0),
        });
        let client = Self { inner };
        let first = client.inner.poll_any();
        match tokio::time::timeout(deadline, first).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(ClientError::Unreachable("the deadline passed".into())),
        }
        for follower in 0..FOLLOWED {
            tokio::spawn(follow(Arc::downgrade(&client.inner), follower));
        }
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
        let until = Instant::now() + deadline;
        let mut ids = Vec::with_capacity(names.len());
        for batch in names.chunks(INTERN_BATCH_MAX) {
            let request = Request::Intern { names: batch.to_vec() };
            match self.inner.ask_again(&request, INTERN_TRY, until).await? {
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
        let until = Instant::now() + deadline;
        into_answer(self.inner.ask_any(&Request::Query(query), deadline, until).await?)
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

    /// The placement as one member has it, as soon as its index is beyond `after` or `wait` is up.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn placement_at(
        &self,
        address: &str,
        after: u64,
        wait: Duration,
    ) -> Result<Placement, ClientError> {
        let request = Request::Placement { after, wait_ms: wait.as_millis() as u32 };
        match self.inner.ask(address, &request, wait + ANSWER_WITHIN).await? {
            Response::Placement { placement, .. } => Ok(*placement),
            other => Err(unexpected(&other)),
        }
    }

    /// What any member says about itself and the others.
    ///
    /// # Errors
    /// When none answers.
    pub async fn status(&self, deadline: Duration) -> Result<Status, ClientError> {
        let until = Instant::now() + deadline;
        match self.inner.ask_any(&Request::Status, deadline, until).await? {
            Response::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
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

    /// Asks one member for something about its plugins; the text says what was done.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn plugin_at(
        &self,
        address: &str,
        request: PluginRequest,
        deadline: Duration,
    ) -> Result<String, ClientError> {
        match self.inner.ask(address, &Request::Plugin(request), deadline).await? {
            Response::Plugin(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// A producer with a fresh id. One thread owns it.
    pub fn producer(&self, options: ProducerOptions) -> TickProducer {
        let connector = Connector::new(Arc::clone(&self.inner), options);
        let views = Arc::clone(&self.inner.views);
        let mut producer = Producer::new(ProducerId(random()), views, connector);
        if options.tickets {
            producer.keep_tickets();
        }
        TickProducer::new(producer, self.clone(), Real::new())
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }
}

fn into_answer(response: Response) -> Result<Answer, ClientError> {
    match response {
        Response::Answer(answer) => Ok(answer),
        other => Err(unexpected(&other)),
    }
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

    /// Asks members in turn until one of them says something, `each` for so long. What a reached
    /// one says, stands. A member that falls silent is left for the next one, so the request must
    /// be harmless twice.
    async fn ask_any(
        &self,
        request: &Request,
        each: Duration,
        until: Instant,
    ) -> Result<Response, ClientError> {
        let mut last = ClientError::Unreachable("there is no address to ask".into());
        let addresses = self.by_preference();
        for (address, others) in addresses.iter().zip((0..addresses.len()).rev()) {
            let left = until.saturating_duration_since(Instant::now()).min(each);
            if left.is_zero() {
                break;
            }
            let asked = match others {
                // Nobody is left to be asked instead.
                0 => ask(&self.peers, address, request, left).await,
                _ => ask_living(&self.peers, address, request, left).await,
            };
            let Err(error) = asked else {
                self.prefer(address, true);
                return asked;
            };
            self.prefer(address, false);
            let has_time = until.saturating_duration_since(Instant::now()) > TIME_FOR_ANOTHER;
            match error {
                // It has not joined yet; who has tries until the end to be ready, and then says who
                // is not.
                ClientError::Refused { reason: Refusal::NotReady, .. } if has_time => last = error,
                ClientError::Unreachable(_)
                | ClientError::Denied(_)
                | ClientError::Unknown(_)
                | ClientError::Refused { reason: Refusal::Draining, .. } => {
                    // What one member may have done, no other can deny.
                    if !matches!(last, ClientError::Unknown(_)) {
                        last = error;
                    }
                }
                said => return Err(said),
            }
        }
        Err(last)
    }

    /// Asks any member, again and again as long as the answer may well be another one soon.
    async fn ask_again(
        &self,
        request: &Request,
        each: Duration,
        until: Instant,
    ) -> Result<Response, ClientError> {
        loop {
            match self.ask_any(request, each, until).await {
                Err(error) if error.is_passing() && Instant::now() + TRY_PAUSE < until => {
                    tracing::debug!(%error, "asking again");
                    tokio::time::sleep(TRY_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// The addresses, whoever answered last first.
    fn by_preference(&self) -> Vec<String> {
        let mut addresses = self.addresses();
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = addresses.iter().position(|address| *address == *answered) {
            addresses[..=place].rotate_right(1);
        }
        addresses
    }

    /// Who answered is asked first next time; who did not is not.
    fn prefer(&self, address: &str, has_answered: bool) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        match (*answered == address, has_answered) {
            (false, true) => address.clone_into(&mut answered),
            (true, false) => answered.clear(),
            _ => {}
        }
    }

    /// Members that take part, then the seeds.
    pub(crate) fn addresses(&self) -> Vec<String> {
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

    /// The placement as any member has it.
    async fn poll_any(&self) -> Result<(), ClientError> {
        let request = self.placement_after(Duration::ZERO);
        let until = Instant::now() + FIRST_WITHIN;
        self.take(self.ask_any(&request, ANSWER_WITHIN, until).await?)
    }

    /// One poll of the placement at one member.
    pub(crate) async fn poll_at(&self, address: &str, wait: Duration) -> Result<(), ClientError> {
        let request = self.placement_after(wait);
        self.take(ask_living(&self.peers, address, &request, wait + ANSWER_WITHIN).await?)
    }

    fn placement_after(&self, wait: Duration) -> Request {
        Request::Placement { after: *self.index.borrow(), wait_ms: wait.as_millis() as u32 }
    }

    fn take(&self, response: Response) -> Result<(), ClientError> {
        match response {
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
        let (index, view) = (placement.index, Arc::new(View::compile(placement)));
        // There are two followers; the view must not go back.
        self.index.send_if_modified(|newest| {
            let is_newer = index > *newest;
            if is_newer {
                self.views.store(view);
                *newest = index;
            }
            is_newer
        });
        Ok(())
    }
}
