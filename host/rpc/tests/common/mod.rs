//! A node that does what requests tell it, and peers made of bare sockets.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared by several test programs; a helper that fails fails its test"
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use zepto_abi::Refusal;
use zepto_rpc::frame::{Body, Frame, FrameReader, Kind, Unmetered, encode_frame};
use zepto_rpc::{
    Authentication, CallError, ClusterSecret, Config, Connection, DrainReport, Failure, Handler,
    Hello, HelloRefusal, HelloReply, Identity, LaneEnd, LaneFailure, LaneSink, PeerInfo, Peers,
    RefusedRange, Server, Welcome,
};

pub const SECOND: Duration = Duration::from_secs(1);
/// A bound that only a hang exceeds.
pub const LONG: Duration = Duration::from_secs(30);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a request asks for: its first byte; the rest is data.
pub const ECHO: u8 = 0;
/// Waits the milliseconds in the next two bytes, then echoes.
pub const SLEEP: u8 = 1;
pub const PANIC: u8 = 2;
pub const REFUSE: u8 = 3;
/// Counts one effect for the key in the rest.
pub const EFFECT: u8 = 4;
/// Answers with as many KiB as the next two bytes say.
pub const LARGE: u8 = 5;

pub fn sleep_request(ms: u16) -> Vec<u8> {
    let [a, b] = ms.to_le_bytes();
    vec![SLEEP, a, b]
}

pub fn large_request(kib: u16) -> Vec<u8> {
    let [a, b] = kib.to_le_bytes();
    vec![LARGE, a, b]
}

/// The sink of the next lane, or the reason for refusing it.
pub type NextLane = Result<Box<dyn LaneSink>, (Refusal, String)>;

#[derive(Default)]
pub struct TestHandler {
    pub started: AtomicUsize,
    pub finished: AtomicUsize,
    pub greeted: AtomicUsize,
    pub closed: AtomicUsize,
    pub effects: Mutex<BTreeMap<Vec<u8>, usize>>,
    pub lanes: Mutex<VecDeque<NextLane>>,
    /// What the peer of the last call had proved.
    pub authentication: Mutex<Option<Authentication>>,
}

pub struct AnySink(Box<dyn LaneSink>);

impl LaneSink for AnySink {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn push(&mut self, slots: &[u8]) -> Result<usize, LaneFailure> {
        self.0.push(slots)
    }

    fn poll_credit(
        &mut self,
        refusals: &mut Vec<RefusedRange>,
    ) -> Result<Option<(u64, u64)>, LaneFailure> {
        self.0.poll_credit(refusals)
    }

    fn closed(&mut self, end: &LaneEnd) {
        self.0.closed(end);
    }
}

impl Handler for TestHandler {
    type Sink = AnySink;

    fn hello(&self, hello: &Hello, _: SocketAddr) -> Result<Welcome, (HelloRefusal, String)> {
        zepto_rpc::hello::admit(Some(1), None, &hello.identity)?;
        self.greeted.fetch_add(1, Ordering::SeqCst);
        let identity = Identity { cluster: Some(1), ..Identity::client("server") };
        Ok(Welcome { identity, extra: b"extra".to_vec() })
    }

    async fn call(
        &self,
        peer: Arc<PeerInfo>,
        request: Vec<u8>,
        _: Instant,
    ) -> Result<Vec<u8>, Failure> {
        self.started.fetch_add(1, Ordering::SeqCst);
        *self.authentication.lock().unwrap() = Some(peer.authentication);
        let number = || u16::from_le_bytes([request[1], request[2]]);
        match request.first() {
            Some(&SLEEP) => tokio::time::sleep(ms(u64::from(number()))).await,
            Some(&PANIC) => panic!("as the request told"),
            Some(&REFUSE) => return Err((Refusal::NotOwner, "not mine".to_owned()).into()),
            Some(&EFFECT) => {
                *self.effects.lock().unwrap().entry(request[1..].to_vec()).or_default() += 1;
            }
            Some(&LARGE) => return Ok(vec![1; usize::from(number()) << 10]),
            _ => {}
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
        Ok(request)
    }

    async fn open_lane(&self, _: Arc<PeerInfo>, _: Vec<u8>) -> Result<AnySink, (Refusal, String)> {
        let next = self.lanes.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Err((Refusal::NotReady, "no lane expected".to_owned()))).map(AnySink)
    }

    fn closed(&self, _: &PeerInfo) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// A server on a port of its own.
pub struct Node {
    pub address: String,
    pub handler: Arc<TestHandler>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<DrainReport>,
}

impl Node {
    pub async fn start(config: Config) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Node::on(listener, config)
    }

    pub fn on(listener: TcpListener, config: Config) -> Node {
        let address = listener.local_addr().unwrap().to_string();
        let handler = Arc::new(TestHandler::default());
        let (stop, stopped) = oneshot::channel();
        let serving = Server::serve(listener, Arc::clone(&handler), config, async {
            assert!(stopped.await.is_ok(), "a node is stopped, not dropped");
        });
        let done = tokio::spawn(async { serving.await.expect("valid configuration") });
        Node { address, handler, stop, done }
    }

    pub async fn connect(&self) -> Connection {
        connect(&self.address, Config::default()).await
    }

    /// Signals the stop; the report comes when the drain is over.
    pub fn stop(self) -> JoinHandle<DrainReport> {
        self.stop.send(()).expect("running");
        self.done
    }

    pub async fn stopped(self) -> DrainReport {
        within(self.stop()).await.unwrap()
    }
}

pub fn hello() -> Hello {
    Hello::new(Identity { cluster: Some(1), ..Identity::client("test") })
}

/// Keys for tests; the shortest that are taken.
pub const OLD_KEY: &str = "old-key-0123456789abcdef01234567";
pub const NEW_KEY: &str = "new-key-0123456789abcdef01234567";

/// A file with these keys, to be written again, and what a process makes of it.
pub fn secret_file(keys: &[&str]) -> (tempfile::NamedTempFile, ClusterSecret) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), keys.join("\n")).expect("a file");
    let secret = ClusterSecret::open(file.path()).expect("valid keys");
    (file, secret)
}

/// The default configuration with a secret of one key.
pub fn secure(key: &str) -> Config {
    Config { secret: Some(secret_file(&[key]).1), ..Config::default() }
}

pub async fn connect(address: &str, config: Config) -> Connection {
    Connection::connect(address, &hello(), Arc::new(config), LONG).await.expect("a connection")
}

/// Fails the test instead of hanging it.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("must not hang")
}

/// Waits until a condition holds that other tasks bring about.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        tokio::time::sleep(ms(2)).await;
    }
}

/// One end of a connection without any of the crate's conversation: it says what it is told to.
pub struct Raw {
    pub stream: TcpStream,
    reader: FrameReader,
    input: Vec<u8>,
}

impl Raw {
    pub fn new(stream: TcpStream) -> Raw {
        stream.set_nodelay(true).unwrap();
        Raw { stream, reader: FrameReader::new(64 << 20), input: Vec::new() }
    }

    /// A client that has said HELLO and was let in.
    pub async fn client(address: &str) -> Raw {
        let mut raw = Raw::new(TcpStream::connect(address).await.unwrap());
        raw.send(Kind::Hello, 0, 0, &hello().encode().unwrap()).await;
        let reply = raw.frame().await.expect("an answer");
        let Body::Whole(payload) = reply.body else { panic!("no payload") };
        let reply = HelloReply::decode(&payload).expect("an answer");
        assert!(matches!(reply, HelloReply::Accepted { .. }), "{reply:?}");
        raw.reader.establish();
        raw
    }

    /// A server that has heard HELLO and lets the client in.
    pub async fn server(listener: &TcpListener) -> Raw {
        let mut raw = Raw::new(listener.accept().await.unwrap().0);
        let hello = raw.frame().await.expect("a HELLO");
        assert_eq!(hello.header.kind, Kind::Hello);
        let welcome = Welcome { identity: Identity::client("raw"), extra: Vec::new() };
        let reply = HelloReply::Accepted { protocol: 1, requests_max: 256, welcome };
        raw.send(Kind::HelloReply, 0, 0, &reply.encode().unwrap()).await;
        raw.reader.establish();
        raw
    }

    pub async fn send(&mut self, kind: Kind, id: u64, deadline_ms: u32, payload: &[u8]) {
        self.stream.write_all(&encode_frame(kind, id, deadline_ms, payload)).await.unwrap();
    }

    /// The next frame, or `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut input = self.input.as_slice();
            let frame = self.reader.read(&mut input, &mut Unmetered).expect("valid frames");
            let taken = self.input.len() - input.len();
            self.input.drain(..taken);
            if frame.is_some() {
                return frame;
            }
            let mut buffer = [0; 16 << 10];
            let count = within(self.stream.read(&mut buffer)).await.unwrap_or(0);
            if count == 0 {
                return None;
            }
            self.input.extend_from_slice(&buffer[..count]);
        }
    }

    /// The next frame that is no ping, and its payload.
    pub async fn next(&mut self) -> Option<(Kind, u64, Vec<u8>)> {
        loop {
            let frame = self.frame().await?;
            let Body::Whole(payload) = frame.body else { panic!("no payload") };
            match frame.header.kind {
                Kind::Ping => self.send(Kind::Pong, frame.header.id, 0, &[]).await,
                Kind::Pong => {}
                kind => return Some((kind, frame.header.id, payload)),
            }
        }
    }
}

/// Listeners for which the kernel accepts, and nobody ever answers a HELLO; and calls to each of
/// them, under way.
pub async fn black_holes(
    peers: &Peers,
    deadline: Duration,
) -> (Vec<TcpListener>, JoinSet<Result<Vec<u8>, CallError>>) {
    let (mut holes, mut stuck) = (Vec::new(), JoinSet::new());
    for _ in 0..3 {
        let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peers, address) = (peers.clone(), hole.local_addr().unwrap().to_string());
        stuck.spawn(async move { peers.call(&address, vec![ECHO], deadline).await });
        holes.push(hole);
    }
    (holes, stuck)
}
