//! An echo server and a load on it, for a quick look at the speed of calls and lanes.
//!
//! `loopback serve 127.0.0.1:9000` in one terminal; `loopback calls 127.0.0.1:9000 64 10` (64 in
//! flight for 10 seconds) or `loopback lane 127.0.0.1:9000 10` in another. It shows how the crate
//! is used and makes no claim: figures with limits and peers beside them come from the benches.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use zepto_abi::Refusal;
use zepto_rpc::{
    Config, Connection, Failure, Handler, Hello, HelloRefusal, Identity, LaneEnd, LaneFailure,
    LaneSink, LaneSource, PeerInfo, RefusedRange, Server, Welcome, bind,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

struct Echo;

impl Handler for Echo {
    type Sink = Count;

    fn hello(&self, _: &Hello, _: SocketAddr) -> Result<Welcome, (HelloRefusal, String)> {
        Ok(Welcome { identity: Identity::client("echo"), extra: Vec::new() })
    }

    async fn call(
        &self,
        _: Arc<PeerInfo>,
        request: Vec<u8>,
        _: Instant,
    ) -> Result<Vec<u8>, Failure> {
        Ok(request)
    }

    async fn open_lane(&self, _: Arc<PeerInfo>, _: Vec<u8>) -> Result<Count, (Refusal, String)> {
        Ok(Count { received: 0, told: 0 })
    }
}

/// Settles every slot at once.
struct Count {
    received: u64,
    told: u64,
}

impl LaneSink for Count {
    fn capacity(&self) -> u64 {
        1 << 14
    }

    fn push(&mut self, slots: &[u8]) -> Result<usize, LaneFailure> {
        self.received += (slots.len() / 64) as u64;
        Ok(slots.len() / 64)
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

/// Always has slots until its time is over.
struct Endless {
    sent: u64,
    settled: u64,
    until: Instant,
    slots: Vec<u8>,
}

impl LaneSource for Endless {
    fn published(&mut self) -> Result<u64, LaneFailure> {
        Ok(if self.is_finished() { self.sent } else { self.sent + 1024 })
    }

    fn copy(&mut self, from: u64, slots_max: usize, out: &mut Vec<u8>) -> usize {
        self.sent = from + slots_max as u64;
        out.extend_from_slice(&self.slots[..slots_max * 64]);
        slots_max
    }

    fn credit(&mut self, _: u64, settled: u64, _: &[RefusedRange]) -> Result<(), LaneFailure> {
        self.settled = settled;
        Ok(())
    }

    fn is_finished(&self) -> bool {
        Instant::now() >= self.until
    }

    fn closed(&mut self, _: &LaneEnd) {}
}

async fn serve(address: &str) -> Result<(), Error> {
    let bound = bind(address)?;
    println!("listening on {}", bound.address);
    let listener = tokio::net::TcpListener::from_std(bound.tcp)?;
    let stop = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("{error}");
        }
    };
    let report = Server::serve(listener, Arc::new(Echo), Config::default(), stop).await?;
    println!("{report}");
    Ok(())
}

async fn connect(address: &str) -> Result<Connection, Error> {
    let hello = Hello::new(Identity::client("loopback"));
    let config = Arc::new(Config::default());
    Ok(Connection::connect(address, &hello, config, Duration::from_secs(2)).await?)
}

async fn calls(address: &str, in_flight: usize, time: Duration) -> Result<(), Error> {
    let connection = connect(address).await?;
    let until = Instant::now() + time;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let connection = connection.clone();
        callers.spawn(async move {
            let mut latencies_ns = Vec::with_capacity(1 << 20);
            while Instant::now() < until {
                let start = Instant::now();
                connection.call(vec![7; 64], Duration::from_secs(1)).await?;
                latencies_ns.push(start.elapsed().as_nanos() as u64);
            }
            Ok::<_, Error>(latencies_ns)
        });
    }
    let mut latencies_ns = Vec::new();
    while let Some(result) = callers.join_next().await {
        latencies_ns.extend(result??);
    }
    latencies_ns.sort_unstable();
    let at = |share: f64| {
        let index = (latencies_ns.len() as f64 * share) as usize;
        latencies_ns.get(index).map_or(0.0, |ns| *ns as f64 / 1e3)
    };
    println!(
        "{:.0} calls/s with {in_flight} in flight; us: p50 {:.1} p99 {:.1} p99.9 {:.1}",
        latencies_ns.len() as f64 / time.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
    );
    Ok(())
}

async fn lane(address: &str, time: Duration) -> Result<(), Error> {
    let connection = connect(address).await?;
    let lane = connection.open_lane(Vec::new(), Duration::from_secs(1)).await?;
    let mut source =
        Endless { sent: 0, settled: 0, until: Instant::now() + time, slots: vec![1; 1024 * 64] };
    let end = lane.pump(&mut source).await;
    let rate = source.settled as f64 / time.as_secs_f64() / 1e6;
    println!("{rate:.2} M slots/s settled; the lane ended: {end}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", address] => serve(address).await,
        ["calls", address, in_flight, seconds] => {
            calls(address, in_flight.parse()?, Duration::from_secs(seconds.parse()?)).await
        }
        ["lane", address, seconds] => lane(address, Duration::from_secs(seconds.parse()?)).await,
        _ => {
            Err("usage: loopback serve ADDR | calls ADDR IN_FLIGHT SECONDS | lane ADDR SECONDS"
                .into())
        }
    }
}
