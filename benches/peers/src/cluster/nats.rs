//! Peer: NATS JetStream, three servers, one stream with three replicas, in memory or in files.
//!
//! The client is a few lines of the text protocol, connected to the server that leads the stream,
//! which saves it a hop: every publish carries a reply subject with the tick's number, and the
//! acknowledgement that comes there says that a majority has it. A window bounds what is on its
//! way.

use super::engine::{Flow, Latency, Ledger, Load, Pace, Publisher, flat_out, paced};
use super::nats_client::{Connection, contains, last_token, push_number};
use super::system::{Role, Running, System, payload};
use crate::failure::{Result, While as _, fail};
use crate::server::{Output, Server, directory, free_ports, wait_until};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

const SERVERS: usize = 3;
const START_WITHIN: Duration = Duration::from_secs(60);
/// JetStream may not answer at all before its servers have found together.
const CREATE_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where the stream's messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory.
    Memory,
    /// In files, which the servers sync every two minutes: their default.
    File,
}

/// JetStream that can be started.
pub struct Nats {
    /// `nats-server`.
    pub program: PathBuf,
    /// Where messages are.
    pub storage: Storage,
}

impl System for Nats {
    fn name(&self) -> String {
        let storage = match self.storage {
            Storage::Memory => "memory",
            Storage::File => "files, not synced",
        };
        format!("NATS JetStream R3, {storage}")
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn knob(&self) -> Option<(&'static str, &'static [usize])> {
        Some(("window", &[256, 1024, 4096]))
    }

    fn is_paced(&self) -> bool {
        true
    }

    fn start(&self, window: usize) -> Result<Box<dyn Running>> {
        let dir = directory()?;
        let ports: [u16; 2 * SERVERS] = free_ports()?;
        let (clients, routes) = ports.split_at(SERVERS);
        let url = |port: &u16| format!("nats://127.0.0.1:{port}");
        let all = routes.iter().map(url).collect::<Vec<_>>().join(",");
        let mut servers = Vec::with_capacity(SERVERS);
        for (number, (client, route)) in clients.iter().zip(routes).enumerate() {
            let name = format!("server-{number}");
            let place = ["-a".to_owned(), "127.0.0.1".into(), "-p".into(), client.to_string()];
            let store = dir.path().join(&name).display().to_string();
            let stream = ["-n".into(), name.clone(), "-js".into(), "-sd".into(), store];
            let cluster = ["--cluster_name".into(), "peers".into(), "--cluster".into(), url(route)];
            let others = ["--routes".into(), all.clone()];
            let arguments = place.into_iter().chain(stream).chain(cluster).chain(others);
            let program = &self.program;
            servers.push(Server::start(&name, program, arguments, dir.path(), Output::Log)?);
        }
        let clients = clients.to_vec();
        let mut started = Started { servers, clients, leader: 0, window, sent: 0, _dir: dir };
        for (server, port) in started.servers.iter_mut().zip(&started.clients) {
            server.wait_for_port(*port, START_WITHIN)?;
        }
        started.make_stream(self.storage)?;
        Ok(Box::new(started))
    }
}

struct Started {
    servers: Vec<Server>,
    /// Ports for clients.
    clients: Vec<u16>,
    /// Index of the server that leads the stream.
    leader: usize,
    window: usize,
    sent: u64,
    /// Removed after the servers are gone.
    _dir: TempDir,
}

/// What is read of an answer of the JetStream API.
#[derive(Deserialize)]
struct Info {
    cluster: Option<InfoCluster>,
    state: Option<InfoState>,
}

#[derive(Deserialize)]
struct InfoCluster {
    leader: Option<String>,
    replicas: Option<Vec<InfoReplica>>,
}

#[derive(Deserialize)]
struct InfoReplica {
    current: bool,
}

#[derive(Deserialize)]
struct InfoState {
    messages: u64,
}

fn info(connection: &mut Connection) -> Result<Info> {
    let answer = connection.ask("$JS.API.STREAM.INFO.TICKS", "", ANSWER_WITHIN)?;
    serde_json::from_slice(&answer).doing("JetStream's answer")
}

impl Started {
    /// Creates the stream as soon as the servers have found together, and finds its leader.
    fn make_stream(&mut self, storage: Storage) -> Result<()> {
        let mut connection = Connection::open(self.clients[0], "setup")?;
        let storage = if storage == Storage::Memory { "memory" } else { "file" };
        let config = serde_json::json!({
            "name": "TICKS", "subjects": ["ticks.*"], "storage": storage, "num_replicas": 3,
            "retention": "limits",
        });
        let config = config.to_string();
        wait_until("JetStream taking the stream", START_WITHIN, || {
            self.check()?;
            // Refused until there is a leader of the cluster.
            let asked = connection.ask("$JS.API.STREAM.CREATE.TICKS", &config, CREATE_WITHIN);
            Ok(asked.is_ok())
        })?;
        wait_until("JetStream's replicas", START_WITHIN, || {
            let info = info(&mut connection)?;
            let Some(cluster) = info.cluster else { return Ok(false) };
            let leader = cluster.leader.and_then(|name| name.strip_prefix("server-")?.parse().ok());
            let replicas = cluster.replicas.unwrap_or_default();
            self.leader = leader.unwrap_or(SERVERS);
            let current = replicas.iter().filter(|replica| replica.current).count();
            Ok(self.leader < SERVERS && current + 1 == SERVERS)
        })
    }

    fn check(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Server::check)
    }

    /// Whether the stream has exactly what was acknowledged.
    fn arrived(&mut self, more: u64) -> Result<()> {
        self.check()?;
        self.sent += more;
        let info = info(&mut Connection::open(self.clients[self.leader], "count")?)?;
        match info.state.map_or(0, |state| state.messages) {
            messages if messages == self.sent => Ok(()),
            messages => fail(format!("{} ticks acknowledged, {messages} stored", self.sent)),
        }
    }

    fn publisher(&self, number: usize) -> Result<Stream> {
        let name = format!("p{number}");
        let connection = Connection::open(self.clients[self.leader], &name)?;
        let head = format!("PUB ticks.{number} _INBOX.{name}.").into_bytes();
        Ok(Stream { connection, head, window: self.window, open: 0 })
    }
}

impl Running for Started {
    fn flat_out(&mut self, producers: usize, load: Load) -> Result<Flow> {
        let publishers = (0..producers).map(|number| self.publisher(number));
        let flow = flat_out(publishers.collect::<Result<_>>()?, load)?;
        self.arrived(flow.ticks)?;
        Ok(flow)
    }

    fn paced(&mut self, pace: Pace) -> Result<Latency> {
        let (latency, sent) = paced(&mut self.publisher(0)?, pace)?;
        self.arrived(sent)?;
        Ok(latency)
    }
}

/// One connection that publishes into the stream.
struct Stream {
    connection: Connection,
    /// A publish, up to the number in its reply subject.
    head: Vec<u8>,
    window: usize,
    /// Published and not acknowledged.
    open: usize,
}

impl Publisher for Stream {
    fn offer(&mut self, number: u64) -> Result<bool> {
        if self.open >= self.window {
            return Ok(false);
        }
        self.open += 1;
        let out = self.connection.link().out();
        out.extend_from_slice(&self.head);
        push_number(out, number);
        out.extend_from_slice(b" 64\r\n");
        out.extend_from_slice(&payload(number));
        out.extend_from_slice(b"\r\n");
        Ok(true)
    }

    fn turn(&mut self, ledger: &mut Ledger) -> Result<bool> {
        let mut moved = self.connection.link().pump()?;
        let open = &mut self.open;
        while self.connection.take(|subject, body| {
            if contains(body, b"\"error\"") {
                return fail(format!("JetStream says {}", String::from_utf8_lossy(body)));
            }
            let Some(tick) = last_token(subject) else {
                return fail("an acknowledgement of nothing");
            };
            ledger.acknowledge(tick);
            *open = open.saturating_sub(1);
            Ok(())
        })? {
            moved = true;
        }
        Ok(moved)
    }

    fn sleep(&mut self, _rounds: u32, within: Duration) -> Result<()> {
        self.connection.link().wait(within)
    }
}
