//! The server: accepts connections up to a bound, and stops in five phases.
//!
//! A connection beyond the bound is told so and then closed. When the process runs out of
//! descriptors, accepting pauses, says so once, and goes on by itself; existing connections do not
//! notice. The server starts no threads and holds no global state: two servers in one process do
//! not know of each other.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use zepto_core::limits::REFUSING_MAX;

use crate::config::{Config, ConfigError};
use crate::counters::{Open, ServerTally, TurnedAway};
use crate::drain::DrainReport;
use crate::duplex::Duplex;
use crate::frame::{FrameReader, Kind, encode_frame};
use crate::greet::{receive, refuse};
use crate::handler::{Handler, PeerInfo};
use crate::hello::{Hello, HelloRefusal, HelloReply, common_protocol};
use crate::server_role::ServerRole;
use crate::session::{Session, Stage};
use crate::wire::Wire;

/// What a peer is told that comes while the server stops.
const STOPPING: &str = "this node is stopping; try another";
/// First and longest pause after accepting failed.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What all connections of a server share.
pub(crate) struct Shared<H: Handler> {
    pub handler: Arc<H>,
    pub config: Arc<Config>,
    pub tally: Arc<ServerTally>,
    sessions: Mutex<BTreeMap<u64, Arc<Session<H>>>>,
    stage: AtomicU8,
}

impl<H: Handler> Shared<H> {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Session<H>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stage(&self) -> Stage {
        Stage::from_code(self.stage.load(Ordering::Acquire))
    }

    /// Raises the stage of the server and of every session, also of those that are being entered
    /// just now.
    fn raise_stage(&self, stage: Stage) {
        let sessions = self.sessions();
        self.stage.store(stage as u8, Ordering::Release);
        for session in sessions.values() {
            session.raise_stage(stage);
        }
    }

    fn enter(&self, number: u64, session: &Arc<Session<H>>) {
        let mut sessions = self.sessions();
        sessions.insert(number, Arc::clone(session));
        if self.stage() > Stage::Serving {
            session.raise_stage(self.stage());
        }
    }
}

/// Takes a session out of the table, whatever ended it.
struct Entered<H: Handler>(Arc<Session<H>>);

impl<H: Handler> Drop for Entered<H> {
    fn drop(&mut self) {
        let session = &self.0;
        session.server.sessions().remove(&session.peer.connection);
        session.server.handler.closed(&session.peer);
    }
}

/// A server of one listener.
pub struct Server;

impl Server {
    /// Serves until `shutdown` is ready and the drain is over. Dropping the future stops at once:
    /// peers then see their connections end. A `config` that cannot work is an error at once.
    pub async fn serve<H: Handler>(
        listener: TcpListener,
        handler: Arc<H>,
        config: Config,
        shutdown: impl Future<Output = ()>,
    ) -> Result<DrainReport, ConfigError> {
        let tally = ServerTally::new(&config);
        Server::serve_counted(listener, handler, config, tally, shutdown).await
    }

    /// The same, with counters that others read meanwhile; `tally` is made of the same `config`
    /// and belongs to this server alone.
    pub async fn serve_counted<H: Handler>(
        listener: TcpListener,
        handler: Arc<H>,
        config: Config,
        tally: Arc<ServerTally>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<DrainReport, ConfigError> {
        config.check()?;
        let shared = Arc::new(Shared {
            handler,
            tally,
            sessions: Mutex::default(),
            stage: AtomicU8::new(Stage::Serving as u8),
            config: Arc::new(config),
        });
        let mut door = Door {
            listener,
            shared,
            sessions: JoinSet::new(),
            refusing: JoinSet::new(),
            accepted: 0,
            refused: 0,
            paused: None,
        };
        tokio::pin!(shutdown);
        while !door.turn(shutdown.as_mut()).await {}
        Ok(door.drain().await)
    }
}

/// The accept loop and the tasks it started.
struct Door<H: Handler> {
    listener: TcpListener,
    shared: Arc<Shared<H>>,
    sessions: JoinSet<()>,
    /// Tasks that tell peers why they are refused; bounded, and while all are busy nobody is
    /// accepted, so that nobody is closed without a word.
    refusing: JoinSet<()>,
    accepted: u64,
    refused: usize,
    /// Accepting failed: how long it pauses, and until when.
    paused: Option<(Duration, Instant)>,
}

impl<H: Handler> Door<H> {
    /// Accepts one connection, or takes note of one that has ended. True once `stop` is ready.
    async fn turn(&mut self, stop: impl Future<Output = ()>) -> bool {
        let Door { listener, sessions, refusing, paused, .. } = self;
        let accepting = refusing.len() < REFUSING_MAX;
        let accept = async {
            if let Some((_, until)) = *paused {
                sleep_until(until).await;
            }
            listener.accept().await
        };
        tokio::select! {
            biased;
            () = stop => return true,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => note(ended),
            Some(ended) = refusing.join_next(), if !refusing.is_empty() => note(ended),
            accepted = accept, if accepting => match accepted {
                Ok((stream, from)) => self.admit(stream, from),
                Err(error) => self.pause(&error),
            },
        }
        false
    }

    fn admit(&mut self, stream: TcpStream, from: SocketAddr) {
        self.paused = None;
        self.accepted += 1;
        self.shared.tally.connection_accepted();
        let config = &self.shared.config;
        let connections_max = config.connections_max;
        let refusal = if self.shared.stage() > Stage::Serving {
            Some((HelloRefusal::Draining, STOPPING.to_owned()))
        } else if self.sessions.len() >= connections_max {
            let text = format!(
                "this node has all the {connections_max} connections it may have; try later"
            );
            Some((HelloRefusal::Full, text))
        } else {
            None
        };
        match refusal {
            Some((reason, text)) => {
                self.refused += 1;
                self.shared.tally.turned_away(TurnedAway::Refused(reason));
                let linger = config.linger;
                tracing::debug!(%from, %text, "connection refused");
                let wire = Wire::new(stream);
                self.refusing.spawn(async move { refuse(wire, reason, &text, linger).await });
            }
            None => {
                let shared = Arc::clone(&self.shared);
                self.sessions.spawn(converse(shared, stream, from, self.accepted));
            }
        }
    }

    /// A peer that gave up in the queue concerns nobody; anything else, such as no descriptors
    /// left, would fail again at once.
    fn pause(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        self.shared.tally.accept_paused();
        let pause = match self.paused {
            None => {
                tracing::warn!(%error, "cannot accept connections; will go on trying");
                ACCEPT_PAUSE_MIN
            }
            Some((pause, _)) => (pause * 2).min(ACCEPT_PAUSE_MAX),
        };
        self.paused = Some((pause, Instant::now() + pause));
    }

    async fn drain(mut self) -> DrainReport {
        let began = Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut report = DrainReport {
            connections: shared.sessions().len(),
            in_flight: shared.tally.load.requests(),
            ..DrainReport::default()
        };
        self.refused = 0;
        // Phases 1 and 2: from here new connections and requests are refused.
        shared.raise_stage(Stage::Draining);
        // Phase 3.
        let finished = async {
            if timeout(shared.config.drain, shared.tally.load.idle()).await.is_err() {
                tracing::debug!("the drain time is over");
            }
        };
        tokio::pin!(finished);
        while !self.turn(finished.as_mut()).await {}
        // Phase 4.
        let now = Instant::now();
        for session in shared.sessions().values() {
            let (count, oldest) = session.in_flight();
            report.left += count;
            report.lanes_left += session.lanes().len();
            report.oldest_left = report.oldest_left.max(oldest.map(|then| now - then));
        }
        if !report.is_complete() {
            tracing::warn!(
                requests = report.left,
                lanes = report.lanes_left,
                oldest = ?report.oldest_left,
                "the drain time is over before everything has finished"
            );
        }
        // Phase 5.
        shared.raise_stage(Stage::Closing);
        report.refused_connections = self.refused;
        drop(self.listener);
        let until = Instant::now() + shared.config.linger * 2;
        while let Ok(Some(ended)) = timeout_at(until, self.sessions.join_next()).await {
            note(ended);
        }
        report.cut_off = self.sessions.len();
        self.sessions.shutdown().await;
        self.refusing.shutdown().await;
        report.took = began.elapsed();
        report
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// One connection from its first byte to its last. Each part of its life has its own memory, so
/// that a stranger costs what a hand-shake needs and not what a peer needs.
async fn converse<H: Handler>(
    shared: Arc<Shared<H>>,
    stream: TcpStream,
    address: SocketAddr,
    connection: u64,
) {
    let _open = Open::new(&shared.tally);
    let config = Arc::clone(&shared.config);
    let mut guest = Guest {
        wire: Wire::new(stream),
        reader: FrameReader::new(config.payload_bytes_max),
        address,
        connection,
    };
    match Box::pin(guest.let_in(&shared)).await {
        Ok(peer) => {
            let session = Arc::new(Session::new(Arc::clone(&shared), peer));
            shared.enter(connection, &session);
            let entered = Entered(Arc::clone(&session));
            let Guest { wire, mut reader, .. } = guest;
            reader.establish();
            let outbox = Arc::clone(&session.outbox);
            let duplex = Duplex::new(wire, reader, outbox, ServerRole::new(session), config);
            Box::pin(duplex.run()).await;
            drop(entered);
        }
        Err(Some((reason, text))) => {
            let Guest { wire, reader, .. } = guest;
            drop(reader);
            Box::pin(refuse(wire, reason, &text, config.linger)).await;
        }
        Err(None) => {}
    }
}

/// A connection that has not been let in yet.
struct Guest {
    wire: Wire,
    reader: FrameReader,
    address: SocketAddr,
    connection: u64,
}

impl Guest {
    /// Hears who it is, and answers. An error is what it is still to be told, if anything.
    async fn let_in<H: Handler>(
        &mut self,
        shared: &Shared<H>,
    ) -> Result<Arc<PeerInfo>, Option<(HelloRefusal, String)>> {
        let (config, tally, address) = (&shared.config, &shared.tally, self.address);
        let until = Instant::now() + config.hello_timeout;
        let secret = config.secret.as_ref();
        let received = timeout_at(until, receive(&mut self.wire, &mut self.reader, secret)).await;
        let (hello, authentication) = match received {
            Ok(Ok(received)) => received,
            Ok(Err(error)) => {
                let reason = error.refusal();
                if reason == Some(HelloRefusal::Secret) {
                    tracing::info!(%address, %error, "peer refused");
                } else {
                    tracing::debug!(%address, %error, "no HELLO");
                }
                tally.turned_away(reason.map_or(TurnedAway::Broken, TurnedAway::Refused));
                return Err(reason.map(|reason| (reason, error.to_string())));
            }
            Err(_) => {
                tally.turned_away(TurnedAway::Late);
                tracing::debug!(%address, "no HELLO in time");
                return Err(None);
            }
        };
        let payload = answer_hello(shared, &hello, address).map_err(|(reason, text)| {
            tracing::info!(%address, %text, "peer refused");
            tally.turned_away(TurnedAway::Refused(reason));
            Some((reason, text))
        })?;
        let frame = encode_frame(Kind::HelloReply, 0, 0, &payload);
        if !matches!(timeout_at(until, self.wire.write_all(&frame)).await, Ok(Ok(()))) {
            tally.turned_away(TurnedAway::Broken);
            tracing::debug!(%address, "the peer did not take the answer to its HELLO");
            return Err(None);
        }
        Ok(Arc::new(PeerInfo { connection: self.connection, address, hello, authentication }))
    }
}

/// The payload of the answer, or why the peer may not come in.
fn answer_hello<H: Handler>(
    shared: &Shared<H>,
    hello: &Hello,
    from: SocketAddr,
) -> Result<Vec<u8>, (HelloRefusal, String)> {
    if shared.stage() > Stage::Serving {
        return Err((HelloRefusal::Draining, STOPPING.to_owned()));
    }
    let welcome = shared.handler.hello(hello, from)?;
    let reply = HelloReply::Accepted {
        protocol: common_protocol(hello.protocol_min, hello.protocol_max).unwrap_or_default(),
        requests_max: shared.config.requests_per_connection_max as u32,
        welcome,
    };
    reply.encode().map_err(|error| (HelloRefusal::NotReady, error.to_string()))
}
