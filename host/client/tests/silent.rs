//! A member that falls silent, as a stopped process does: it keeps its connections, takes whatever
//! is sent, and answers nothing, not even that it is there.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use zepto_abi::{Incarnation, NodeId, Refusal};
use zepto_client::lanes::LaneDoor;
use zepto_client::message::{self, Ask, Query, Request, Response};
use zepto_client::{Client, ClientError, ClientOptions};
use zepto_core::topology::{Command, Placement, Topology};
use zepto_rpc::{
    Config, Failure, Handler, Hello, HelloRefusal, Identity, PeerInfo, Server, Welcome,
};

/// A bound that only a hang exceeds.
const LONG: Duration = Duration::from_secs(30);
/// Longer than a silent member may hold anything up, on a machine that does much else.
const SOON: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Member {
    silent: AtomicBool,
    /// It lives, and knows nobody who leads the log.
    leaderless: AtomicBool,
    /// It has just started, and is no member yet.
    joining: AtomicBool,
    /// Index of its placement.
    index: AtomicU64,
    asked: AtomicU64,
}

fn placement(index: u64) -> Placement {
    let mut topology = Topology::empty();
    topology.apply(1, 0, &Command::Bootstrap { cluster: 1, bits: 4, copies: 1 });
    topology.placement.index = index;
    topology.placement
}

impl Handler for Member {
    type Sink = LaneDoor;

    fn hello(&self, _: &Hello, _: SocketAddr) -> Result<Welcome, (HelloRefusal, String)> {
        Ok(Welcome { identity: Identity::client("member"), extra: Vec::new() })
    }

    async fn call(
        &self,
        _: Arc<PeerInfo>,
        request: Vec<u8>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        while self.silent.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if self.joining.load(Ordering::Acquire) {
            return Err(Failure::Refused(Refusal::NotReady, "no member yet".into()));
        }
        let response = match message::decode(&request).expect("a request") {
            Request::Ping => Response::Pong { node: NodeId(1), incarnation: Incarnation(1) },
            Request::Placement { after, wait_ms } => {
                let until = Instant::now() + Duration::from_millis(wait_ms.into());
                let until = until.min(deadline);
                while self.index.load(Ordering::Acquire) <= after && Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let index = self.index.load(Ordering::Acquire);
                Response::Placement { placement: Box::new(placement(index)), symbols: 0 }
            }
            Request::Intern { names } => {
                self.asked.fetch_add(1, Ordering::AcqRel);
                if self.leaderless.load(Ordering::Acquire) {
                    return Err(Failure::Refused(Refusal::NoLeader, "an election".into()));
                }
                Response::Interned { ids: (0..names.len() as u32).collect() }
            }
            // As of a coordinator that tried until the end.
            Request::Query(_) => {
                tokio::time::sleep_until(deadline - Duration::from_millis(50)).await;
                return Err(Failure::Refused(Refusal::NotReady, "node \"b\" is not".into()));
            }
            other => panic!("not asked here: {other:?}"),
        };
        Ok(message::encode(&response))
    }

    async fn open_lane(&self, _: Arc<PeerInfo>, _: Vec<u8>) -> Result<LaneDoor, (Refusal, String)> {
        Err((Refusal::NotReady, "no lanes here".into()))
    }
}

async fn member() -> (Arc<Member>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let member = Arc::new(Member { index: AtomicU64::new(5), ..Member::default() });
    let serving = Arc::clone(&member);
    let never = core::future::pending();
    tokio::spawn(Server::serve(listener, serving, Config::default(), never));
    (member, address)
}

async fn connect(seeds: &[&String]) -> Client {
    let seeds = seeds.iter().map(|seed| (*seed).clone()).collect();
    let options = ClientOptions { seeds, name: "test".into(), shared_memory: false, secret: None };
    Client::connect(options, LONG).await.expect("a member answers")
}

async fn intern(client: &Client) -> Result<Vec<u32>, ClientError> {
    client.intern(&["A".into(), "B".into()], LONG).await
}

#[tokio::test]
async fn a_silent_seed_does_not_hold_up_the_first_placement() {
    let ((silent, first), (_living, second)) = (member().await, member().await);
    silent.silent.store(true, Ordering::Release);
    let client = timeout(SOON, connect(&[&first, &second])).await.expect("soon");
    assert_eq!(client.view().index(), 5);
}

#[tokio::test]
async fn a_seed_that_has_not_joined_yet_is_passed_over() {
    let ((joining, first), (_joined, second)) = (member().await, member().await);
    joining.joining.store(true, Ordering::Release);
    let client = connect(&[&first, &second]).await;
    assert_eq!(client.view().index(), 5);
    assert_eq!(intern(&client).await.expect("ids"), [0, 1]);
}

#[tokio::test]
async fn who_is_not_ready_is_named_however_many_could_be_asked_instead() {
    let members = [member().await, member().await, member().await, member().await];
    let client = connect(&members.each_ref().map(|(_, address)| address)).await;
    let query = Query { ask: Ask::Summary, partial: false };
    let failed = client.query(query, Duration::from_secs(1)).await.expect_err("not ready");
    assert!(failed.to_string().contains("node \"b\""), "{failed}");
}

#[tokio::test]
async fn news_come_at_once_although_one_of_two_members_is_silent() {
    for which in 0..2 {
        let members = [member().await, member().await];
        let client = connect(&[&members[0].1, &members[1].1]).await;
        // Both are being followed by now, or will be.
        members[which].0.silent.store(true, Ordering::Release);
        members[1 - which].0.index.store(9, Ordering::Release);
        let seen = client.wait_until("news", SOON, |placement| placement.index == 9);
        seen.await.expect("of the one that lives");
    }
}

#[tokio::test]
async fn symbols_are_issued_by_another_member_when_one_falls_silent() {
    let ((first, a), (second, b)) = (member().await, member().await);
    let client = connect(&[&a, &b]).await;
    assert_eq!(intern(&client).await.expect("ids"), [0, 1]);
    assert_eq!(first.asked.load(Ordering::Acquire), 1);
    first.silent.store(true, Ordering::Release);
    let issued = timeout(SOON, intern(&client)).await.expect("soon");
    assert_eq!(issued.expect("ids"), [0, 1]);
    // And from then on that one is asked first.
    let before = Instant::now();
    intern(&client).await.expect("ids");
    assert!(before.elapsed() < Duration::from_millis(300), "{:?}", before.elapsed());
    assert_eq!(second.asked.load(Ordering::Acquire), 2);
}

#[tokio::test]
async fn symbols_wait_for_an_election() {
    let (only, address) = member().await;
    let client = connect(&[&address]).await;
    only.leaderless.store(true, Ordering::Release);
    let (interning, elected) = (intern(&client), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        only.leaderless.store(false, Ordering::Release);
    });
    let (issued, ()) = tokio::join!(interning, elected);
    assert_eq!(issued.expect("ids"), [0, 1]);
}

#[tokio::test]
async fn a_member_that_is_slow_but_lives_is_waited_for() {
    let ((slow, a), (other, b)) = (member().await, member().await);
    let client = connect(&[&a, &b]).await;
    // It answers pings while a placement is waited for longer than a silent member would be given.
    let waited = client.placement_at(&a, 5, Duration::from_millis(1500));
    assert_eq!(waited.await.expect("the old one").index, 5);
    intern(&client).await.expect("ids");
    let asked = [&slow, &other].map(|member| member.asked.load(Ordering::Acquire));
    assert_eq!(asked, [1, 0]);
}
