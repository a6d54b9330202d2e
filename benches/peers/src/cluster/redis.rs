//! Peer: Redis Streams, a primary and a replica, without persistence.
//!
//! A batch of XADD ends with a WAIT for the replica, and only its answer makes the batch count. A
//! connection has two batches on their way, so that the next one is there when the first is
//! through. The client is a few lines of the protocol and does nothing that Redis has to wait for.

use super::engine::{Flow, Latency, Ledger, Load, Pace, Publisher, flat_out, paced};
use super::system::{Role, Running, System, payload};
use super::wire::{Link, line, number};
use crate::failure::{Result, fail};
use crate::server::{Output, Server, directory, free_ports, wait_until};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

const START_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Batches on their way on one connection.
const FLIGHTS: usize = 2;
const XADD: &[u8] = b"*5\r\n$4\r\nXADD\r\n$5\r\nticks\r\n$1\r\n*\r\n$1\r\nt\r\n$64\r\n";
const WAIT: &[u8] = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n5000\r\n";

/// Redis that can be started.
pub struct Redis {
    /// `redis-server`.
    pub program: PathBuf,
}

impl System for Redis {
    fn name(&self) -> String {
        "Redis Streams, a primary and a replica, XADD and WAIT 1".into()
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn knob(&self) -> Option<(&'static str, &'static [usize])> {
        Some(("batch", &[16, 256, 1024, 4096]))
    }

    fn is_paced(&self) -> bool {
        true
    }

    fn start(&self, batch: usize) -> Result<Box<dyn Running>> {
        let dir = directory()?;
        let ports: [u16; 2] = free_ports()?;
        let start = |name: &str, port: u16, more: &[String]| {
            let common = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
            let own = ["--port".to_owned(), port.to_string(), "--dbfilename".into(), name.into()];
            let link = ["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "64mb"];
            let arguments = common.iter().chain(&link).map(|text| (*text).to_owned());
            let arguments = arguments.chain(own).chain(more.iter().cloned());
            let mut server =
                Server::start(name, &self.program, arguments, dir.path(), Output::Log)?;
            server.wait_for_port(port, START_WITHIN)?;
            Ok(server)
        };
        let primary = start("primary", ports[0], &[])?;
        let of = format!("127.0.0.1 {}", ports[0]);
        let replica = start("replica", ports[1], &["--replicaof".into(), of])?;
        let mut started = Started { servers: [primary, replica], ports, batch, sent: 0, _dir: dir };
        let mut link = Link::connect(ports[0])?;
        wait_until("the replica following", START_WITHIN, || {
            started.check()?;
            ask(&mut link, b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n", |reply| {
                let Reply::Text(text) = reply else { return false };
                String::from_utf8_lossy(text).contains("state=online")
            })
        })?;
        Ok(Box::new(started))
    }
}

struct Started {
    servers: [Server; 2],
    ports: [u16; 2],
    batch: usize,
    sent: u64,
    /// Removed after the servers are gone.
    _dir: TempDir,
}

impl Running for Started {
    fn flat_out(&mut self, producers: usize, load: Load) -> Result<Flow> {
        let publishers = (0..producers).map(|_| Stream::connect(self.ports[0], self.batch));
        let flow = flat_out(publishers.collect::<Result<_>>()?, load)?;
        self.arrived(flow.ticks)?;
        Ok(flow)
    }

    fn paced(&mut self, pace: Pace) -> Result<Latency> {
        let mut publisher = Stream::connect(self.ports[0], self.batch)?;
        let (latency, sent) = paced(&mut publisher, pace)?;
        self.arrived(sent)?;
        Ok(latency)
    }
}

impl Started {
    fn check(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Server::check)
    }

    /// Whether both have exactly what was acknowledged.
    fn arrived(&mut self, more: u64) -> Result<()> {
        self.check()?;
        self.sent += more;
        for port in self.ports {
            let mut link = Link::connect(port)?;
            let command = b"*2\r\n$4\r\nXLEN\r\n$5\r\nticks\r\n";
            let length = ask(&mut link, command, |reply| match reply {
                Reply::Integer(length) => *length,
                Reply::Text(_) => 0,
            })?;
            if length != self.sent {
                return fail(format!("{} ticks acknowledged, XLEN is {length}", self.sent));
            }
        }
        Ok(())
    }
}

/// One connection that adds to the stream.
struct Stream {
    link: Link,
    batch: u64,
    /// First number of the batch that is being filled, and the next one.
    filling: (u64, u64),
    /// Batches on their way: first number and the one behind the last.
    flights: VecDeque<(u64, u64)>,
}

impl Stream {
    fn connect(port: u16, batch: usize) -> Result<Self> {
        let flights = VecDeque::with_capacity(FLIGHTS);
        Ok(Self { link: Link::connect(port)?, batch: batch as u64, filling: (0, 0), flights })
    }
}

impl Publisher for Stream {
    fn offer(&mut self, number: u64) -> Result<bool> {
        let (first, next) = &mut self.filling;
        if *next - *first >= self.batch {
            return Ok(false);
        }
        if first == next {
            *first = number;
        }
        *next = number + 1;
        let out = self.link.out();
        out.extend_from_slice(XADD);
        out.extend_from_slice(&payload(number));
        out.extend_from_slice(b"\r\n");
        Ok(true)
    }

    fn turn(&mut self, ledger: &mut Ledger) -> Result<bool> {
        let (first, next) = self.filling;
        if first < next && self.flights.len() < FLIGHTS {
            self.link.out().extend_from_slice(WAIT);
            self.flights.push_back((first, next));
            self.filling = (next, next);
        }
        let mut moved = self.link.pump()?;
        while let Some((reply, length)) = parse(self.link.unread())? {
            moved = true;
            if let Reply::Integer(replicas) = reply {
                let flight = self.flights.pop_front().filter(|_| replicas > 0);
                let Some((first, behind)) = flight else {
                    return fail("the replica did not confirm in time");
                };
                (first..behind).for_each(|number| ledger.acknowledge(number));
            }
            self.link.take(length);
        }
        Ok(moved)
    }

    fn sleep(&mut self, _rounds: u32, within: Duration) -> Result<()> {
        self.link.wait(within)
    }
}

/// What Redis answers to the commands that are used here.
#[derive(Debug, PartialEq, Eq)]
enum Reply<'a> {
    Text(&'a [u8]),
    Integer(u64),
}

/// The first answer in some bytes and its length, once it is whole.
fn parse(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>> {
    let Some((head, length)) = line(bytes) else { return Ok(None) };
    let Some((kind, rest)) = head.split_first() else { return fail("an empty answer of Redis") };
    match kind {
        b'+' => Ok(Some((Reply::Text(rest), length))),
        b':' => match number(rest) {
            Some(number) => Ok(Some((Reply::Integer(number), length))),
            None => fail("a number of Redis that is none"),
        },
        b'$' => {
            let Some(size) = number(rest) else { return fail("nothing where Redis has a text") };
            let end = length + size as usize;
            let is_whole = bytes.len() >= end + 2;
            Ok(is_whole.then(|| (Reply::Text(&bytes[length..end]), end + 2)))
        }
        _ => fail(format!("Redis says {}", String::from_utf8_lossy(head))),
    }
}

/// Sends a command and gives its answer to `read`.
fn ask<T>(link: &mut Link, command: &[u8], read: impl Fn(&Reply<'_>) -> T) -> Result<T> {
    link.out().extend_from_slice(command);
    link.answer(ANSWER_WITHIN, |link| {
        let Some((reply, length)) = parse(link.unread())? else { return Ok(None) };
        let answer = read(&reply);
        link.take(length);
        Ok(Some(answer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_only_when_it_is_whole() {
        let bytes = b"$15\r\n1700000000000-0\r\n:1\r\n";
        for end in 0..22 {
            assert!(matches!(parse(&bytes[..end]), Ok(None)), "cut at {end}");
        }
        let whole = parse(bytes).unwrap().unwrap();
        assert_eq!(whole, (Reply::Text(b"1700000000000-0"), 22));
        assert_eq!(parse(&bytes[22..]).unwrap().unwrap(), (Reply::Integer(1), 4));
    }

    #[test]
    fn an_error_of_redis_is_a_failure() {
        assert!(parse(b"-OOM command not allowed\r\n").is_err());
        assert!(parse(b"$-1\r\n").is_err());
        assert!(parse(b":many\r\n").is_err());
    }
}
