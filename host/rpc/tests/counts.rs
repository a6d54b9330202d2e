//! What a server counts, and that its books balance whatever its clients do.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use zepto_abi::Refusal;
use zepto_rpc::frame::{Kind, encode_frame};
use zepto_rpc::{CallError, Config, DrainReport, Server, ServerCounters, ServerTally};

/// A server whose counters can be read.
struct Counted {
    address: String,
    tally: Arc<ServerTally>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<DrainReport>,
}

impl Counted {
    async fn start(config: Config) -> Counted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tally, handler) = (ServerTally::new(&config), Arc::new(TestHandler::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let serving =
            Server::serve_counted(listener, handler, config, Arc::clone(&tally), shutdown);
        let done = tokio::spawn(async { serving.await.expect("valid configuration") });
        Counted { address, tally, stop, done }
    }

    async fn stopped(self) -> (DrainReport, ServerCounters) {
        self.stop.send(()).unwrap();
        let report = within(self.done).await.unwrap();
        (report, self.tally.counters())
    }
}

fn turned_away(counters: &ServerCounters, why: &str) -> u64 {
    let found = counters.turned_away.iter().find(|(name, _)| name == why);
    found.unwrap_or_else(|| panic!("{why} is not counted")).1
}

fn balanced(counters: &ServerCounters) {
    let ends = counters.answered + counters.refused.total() + counters.unknown;
    assert_eq!(counters.requests, ends + counters.in_flight, "{counters:?}");
}

#[tokio::test]
async fn every_request_of_a_server_is_counted_by_how_it_ended() {
    let server = Counted::start(Config::default()).await;
    let connection = connect(&server.address, Config::default()).await;
    for _ in 0..5 {
        assert!(connection.call(vec![ECHO; 1000], LONG).await.is_ok());
        assert!(connection.call(vec![REFUSE], LONG).await.is_err());
    }
    assert!(connection.call(vec![PANIC], LONG).await.is_err());
    let counters = server.tally.counters();
    balanced(&counters);
    assert_eq!((counters.answered, counters.unknown, counters.in_flight), (5, 1, 0));
    assert_eq!(counters.refused.of(Refusal::NotOwner), 5);
    assert_eq!((counters.connections, counters.accepted), (1, 1));
    assert!(counters.received_bytes > 5000 && counters.sent_bytes > 5000, "{counters:?}");
    assert_eq!(counters.request_budget.used_bytes, 0, "all of it was given back");
    drop(connection);
    let (_, counters) = server.stopped().await;
    assert_eq!(counters.connections, 0);
}

#[tokio::test]
async fn peers_that_are_turned_away_or_cut_off_are_counted_by_reason() {
    let config = Config { connections_max: 2, hello_timeout: ms(100), ..Config::default() };
    let server = Counted::start(config).await;
    // No HELLO in time; another language; another cluster.
    let silent = TcpStream::connect(&server.address).await.unwrap();
    let count = |why: &'static str| {
        let tally = Arc::clone(&server.tally);
        move || turned_away(&tally.counters(), why) == 1
    };
    until("late", count("late")).await;
    drop(silent);
    let mut browser = Raw::new(TcpStream::connect(&server.address).await.unwrap());
    tokio::io::AsyncWriteExt::write_all(&mut browser.stream, &[b'G'; 24]).await.unwrap();
    until("broken", count("broken")).await;
    let mut stranger = hello();
    stranger.identity.cluster = Some(9);
    let config = Arc::new(Config::default());
    let refused = zepto_rpc::Connection::connect(&server.address, &stranger, config, LONG).await;
    assert!(refused.is_err());
    until("cluster", count("cluster")).await;
    // One more than there is room for.
    until("room again", || server.tally.counters().connections == 0).await;
    let first = Raw::client(&server.address).await;
    let mut second = Raw::client(&server.address).await;
    let mut third = Raw::new(TcpStream::connect(&server.address).await.unwrap());
    assert!(third.frame().await.is_some(), "told that the server is full");
    until("full", count("full")).await;
    // A frame that has no place here.
    let bytes = encode_frame(Kind::Response, 1, 0, &[]);
    tokio::io::AsyncWriteExt::write_all(&mut second.stream, &bytes).await.unwrap();
    until("faulty", || server.tally.counters().ended_faulty == 1).await;
    assert_eq!(server.tally.counters().accepted, 6);
    drop((browser, first, second, third));
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_a_burst_has_answered_refused_or_reported_all_that_came_in() {
    let server = Counted::start(Config { drain: ms(50), ..Config::default() }).await;
    let mut callers = JoinSet::new();
    for caller in 0..8u64 {
        let connection = connect(&server.address, Config::default()).await;
        callers.spawn(async move {
            let (mut answered, mut unknown) = (0u64, 0u64);
            for number in 0.. {
                // Every tenth takes longer than the stop waits.
                let long = number % 10 == caller;
                let request = sleep_request(if long { 60_000 } else { 0 });
                let deadline = if long { ms(20) } else { LONG };
                match connection.call(request, deadline).await {
                    Ok(_) => answered += 1,
                    Err(CallError::Unknown(_)) => unknown += 1,
                    Err(_) => break,
                }
            }
            (answered, unknown)
        });
    }
    until("a burst", || server.tally.counters().answered > 500).await;
    let (_, counters) = server.stopped().await;
    balanced(&counters);
    assert_eq!((counters.in_flight, counters.connections), (0, 0), "{counters:?}");
    let heard = within(callers.join_all()).await;
    let answered: u64 = heard.iter().map(|(answered, _)| answered).sum();
    let unknown: u64 = heard.iter().map(|(_, unknown)| unknown).sum();
    assert_eq!(answered, counters.answered, "answered here is answered there");
    assert!(unknown >= counters.unknown, "who was not answered knows it");
}
