//! Calls with sixty-four bytes over TCP on one machine, between two processes.

use crate::compare::{Settings, compare, limit, ours, peer};
use crate::machine::{Other, be_the_other, time};
use futures::{StreamExt as _, future};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tarpc::server::Channel as _;
use tokio::runtime::Runtime;
use zepto_abi::Refusal;
use zepto_rpc::{
    Config, Connection, Failure, Handler, Hello, HelloRefusal, Identity, LaneEnd, LaneFailure,
    LaneSink, LaneSource, PeerInfo, RefusedRange, Server, Welcome, bind,
};

const BODY: usize = 64;
/// Slots of one measurement of a lane.
const SLOTS: usize = 4_000_000;
const WITHIN: Duration = Duration::from_secs(5);

/// Prints the comparisons.
pub fn run(settings: Settings) {
    let limit_server = Started::new("rpc-limit");
    let tarpc_server = Started::new("rpc-tarpc");
    let our_server = Started::new("rpc-ours");
    for (in_flight, calls) in [(1, 20_000), (64, 400_000)] {
        compare(
            settings,
            &format!("call of 64 bytes, {in_flight} in flight, one connection, per call"),
            vec![
                limit("blocking loop, grouped writes", || {
                    grouped(limit_server.port, in_flight, calls)
                }),
                peer("tarpc, bincode", || tarpc_calls(tarpc_server.port, in_flight, calls)),
                ours("deadline, bounds and counters", || {
                    our_calls(our_server.port, in_flight, calls)
                }),
            ],
        );
    }
    compare(
        settings,
        "64-byte slots over one connection, until settled, per slot",
        vec![
            limit("blocking loop, 8192 in flight, grouped writes", || {
                grouped(limit_server.port, 8192, SLOTS)
            }),
            ours("lane over RPC", || our_lane(our_server.port)),
        ],
    );
}

/// Plays the other side.
pub fn serve(what: &str, port: &str) {
    be_the_other();
    let port = port.parse().expect("a port");
    match what {
        "rpc-limit" => serve_blocking(port),
        "rpc-tarpc" => runtime().block_on(serve_tarpc(port)),
        _ => runtime().block_on(serve_ours(port)),
    }
}

struct Started {
    port: u16,
    _other: Other,
}

impl Started {
    fn new(what: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let other = Other::start(what, &port.to_string());
        let until = Instant::now() + WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "{what} does not listen");
            thread::yield_now();
        }
        Self { port, _other: other }
    }
}

/// Both sides stay on one core each, so one worker each.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn serve_blocking(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            stream.set_nodelay(true).expect("no delay");
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..bytes]).is_err() {
                    return;
                }
            }
        });
    }
}

/// As many calls in flight as allowed, those that may go together in one write.
fn grouped(port: u16, in_flight: usize, calls: usize) -> f64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server");
    stream.set_nodelay(true).expect("no delay");
    let out = vec![7; in_flight * BODY];
    let mut answers = vec![0; 1 << 16];
    let total = calls * BODY;
    time(calls, || {
        let (mut sent, mut received) = (0, 0);
        while received < total {
            let room = (in_flight * BODY - (sent - received)).min(total - sent) / BODY * BODY;
            if room > 0 {
                stream.write_all(&out[..room]).expect("it is sent");
                sent += room;
            }
            received += stream.read(&mut answers).expect("an answer");
        }
    })
}

#[tarpc::service]
trait Echo {
    async fn echo(body: Vec<u8>) -> Vec<u8>;
}

#[derive(Clone)]
struct TarpcEcho;

impl Echo for TarpcEcho {
    async fn echo(self, _: tarpc::context::Context, body: Vec<u8>) -> Vec<u8> {
        body
    }
}

async fn serve_tarpc(port: u16) {
    let format = tarpc::tokio_serde::formats::Bincode::default;
    let address = ("127.0.0.1", port);
    let listener = tarpc::serde_transport::tcp::listen(address, format).await.expect("the port");
    listener
        .filter_map(|connection| future::ready(connection.ok()))
        .map(tarpc::server::BaseChannel::with_defaults)
        .for_each_concurrent(None, |channel| {
            channel.execute(TarpcEcho.serve()).for_each(|answer| async {
                tokio::spawn(answer);
            })
        })
        .await;
}

fn tarpc_calls(port: u16, in_flight: usize, calls: usize) -> f64 {
    let runtime = runtime();
    runtime.block_on(async {
        let format = tarpc::tokio_serde::formats::Bincode::default;
        let transport = tarpc::serde_transport::tcp::connect(("127.0.0.1", port), format);
        let transport = transport.await.expect("the server");
        let client = EchoClient::new(tarpc::client::Config::default(), transport).spawn();
        let begun = Instant::now();
        let callers = (0..in_flight).map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..calls / in_flight {
                    let mut context = tarpc::context::current();
                    context.deadline = Instant::now() + WITHIN;
                    client.echo(context, vec![7; BODY]).await.expect("an answer");
                }
            })
        });
        finish(callers.collect()).await;
        per_call(begun, in_flight, calls)
    })
}

async fn finish(callers: Vec<tokio::task::JoinHandle<()>>) {
    for caller in callers {
        caller.await.expect("it only calls");
    }
}

fn per_call(begun: Instant, in_flight: usize, calls: usize) -> f64 {
    begun.elapsed().as_nanos() as f64 / (calls / in_flight * in_flight) as f64
}

struct OurEcho;

impl Handler for OurEcho {
    type Sink = Settle;

    fn hello(&self, _: &Hello, _: SocketAddr) -> Result<Welcome, (HelloRefusal, String)> {
        Ok(Welcome { identity: Identity::client("echo"), extra: Vec::new() })
    }

    async fn call(
        &self,
        _: Arc<PeerInfo>,
        request: Vec<u8>,
        _: tokio::time::Instant,
    ) -> Result<Vec<u8>, Failure> {
        Ok(request)
    }

    async fn open_lane(&self, _: Arc<PeerInfo>, _: Vec<u8>) -> Result<Settle, (Refusal, String)> {
        Ok(Settle { received: 0, told: 0 })
    }
}

/// Settles every slot at once.
struct Settle {
    received: u64,
    told: u64,
}

impl LaneSink for Settle {
    fn capacity(&self) -> u64 {
        1 << 16
    }

    fn push(&mut self, slots: &[u8]) -> Result<usize, LaneFailure> {
        self.received += (slots.len() / BODY) as u64;
        Ok(slots.len() / BODY)
    }

    fn poll_credit(
        &mut self,
        _: &mut Vec<RefusedRange>,
    ) -> Result<Option<(u64, u64)>, LaneFailure> {
        let news = self.told != self.received;
        self.told = self.received;
        Ok(news.then_some((self.told, self.told)))
    }

    fn closed(&mut self, _: &LaneEnd) {}
}

/// So many slots, as fast as they are taken.
struct Slots {
    settled: u64,
    bytes: Vec<u8>,
}

impl LaneSource for Slots {
    fn published(&mut self) -> Result<u64, LaneFailure> {
        Ok(SLOTS as u64)
    }

    fn copy(&mut self, _: u64, slots_max: usize, out: &mut Vec<u8>) -> usize {
        let slots = slots_max.min(self.bytes.len() / BODY);
        out.extend_from_slice(&self.bytes[..slots * BODY]);
        slots
    }

    fn credit(&mut self, _: u64, settled: u64, _: &[RefusedRange]) -> Result<(), LaneFailure> {
        self.settled = settled;
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.settled == SLOTS as u64
    }

    fn closed(&mut self, _: &LaneEnd) {}
}

fn our_lane(port: u16) -> f64 {
    runtime().block_on(async {
        let connection = our_connection(port).await;
        let lane = connection.open_lane(Vec::new(), WITHIN).await.expect("a lane");
        let mut source = Slots { settled: 0, bytes: vec![1; 1024 * BODY] };
        let begun = Instant::now();
        lane.pump(&mut source).await;
        assert_eq!(source.settled, SLOTS as u64, "all of it is there");
        begun.elapsed().as_nanos() as f64 / SLOTS as f64
    })
}

async fn our_connection(port: u16) -> Connection {
    let hello = Hello::new(Identity::client("peers"));
    let config = Arc::new(Config::default());
    let address = format!("127.0.0.1:{port}");
    Connection::connect(&address, &hello, config, WITHIN).await.expect("the server")
}

async fn serve_ours(port: u16) {
    let bound = bind(&format!("127.0.0.1:{port}")).expect("the port");
    let listener = tokio::net::TcpListener::from_std(bound.tcp).expect("a listener");
    let never = future::pending();
    let served = Server::serve(listener, Arc::new(OurEcho), Config::default(), never).await;
    served.expect("it serves until it is killed");
}

fn our_calls(port: u16, in_flight: usize, calls: usize) -> f64 {
    runtime().block_on(async {
        let connection = our_connection(port).await;
        let begun = Instant::now();
        let callers = (0..in_flight).map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move {
                for _ in 0..calls / in_flight {
                    connection.call(vec![7; BODY], WITHIN).await.expect("an answer");
                }
            })
        });
        finish(callers.collect()).await;
        per_call(begun, in_flight, calls)
    })
}
