//! Nodes in one process, over real sockets and real shared memory.

use std::time::Duration;
use zepto_client::message::{Answer, AnswerBody, Ask, Query};
use zepto_client::{Client, ClientOptions, ProducerOptions};
use zepto_core::topology::{MemberState, Placement};
use zepto_core::{Kind, Tick};
use zepto_node::config::{Config, HeartbeatConfig, ProfileName};
use zepto_node::{Running, start};
use zepto_transport::Shm;

const SOON: Duration = Duration::from_secs(20);

fn config(name: &str, dir: &tempfile::TempDir, seeds: Vec<String>) -> Config {
    Config {
        node_id: name.into(),
        listen: "127.0.0.1:0".into(),
        seeds,
        data_dir: dir.path().join(name),
        heartbeat: HeartbeatConfig { profile: ProfileName::Fast },
        ..Config::default()
    }
}

async fn cluster(size: usize, dir: &tempfile::TempDir) -> Vec<Running<Shm>> {
    let mut nodes: Vec<Running<Shm>> = Vec::new();
    for name in ["a", "b", "c"].into_iter().take(size) {
        let seeds = nodes.first().map(|node| node.address().to_string()).into_iter().collect();
        nodes.push(start::<Shm>(config(name, dir, seeds)).await.expect("starts"));
    }
    nodes
}

async fn client(nodes: &[Running<Shm>], shared_memory: bool) -> Client {
    let seeds = nodes.iter().map(|node| node.address().to_string()).collect();
    let options = ClientOptions { seeds, name: "test".into(), shared_memory, secret: None };
    let client = Client::connect(options, SOON).await.expect("connects");
    let spread = |placement: &Placement| {
        let active = placement.members.iter().filter(|m| m.state == MemberState::Active);
        active.clone().count() == nodes.len()
            && active.clone().all(|m| placement.owned_by(m.id).count() > 100)
    };
    client.wait_until("all nodes own partitions", SOON, spread).await.expect("balances");
    client
}

async fn summary(client: &Client, address: &str) -> Answer {
    let query = Query { ask: Ask::Summary, partial: false };
    client.query_at(address, query, SOON).await.expect("answers")
}

async fn feed(client: &Client, ticks: u64) {
    let names: Vec<String> = (0..100).map(|i| format!("S{i}")).collect();
    let client = client.clone();
    let fed = tokio::task::spawn_blocking(move || {
        let mut producer = client.producer(ProducerOptions::default());
        let ids = producer.symbols(&names, SOON).expect("symbols");
        for row in 0..ticks {
            let tick = Tick {
                event_time_ns: row,
                symbol: ids[(row % 100) as usize],
                kind: Kind::TRADE,
                price: 1_000_000_000,
                size: row,
                user: [row, 0],
                ..Tick::default()
            };
            producer.ingest_wait(&tick, SOON).expect("room");
        }
        producer.flush(SOON)
    });
    let account = fed.await.expect("feeds");
    assert_eq!((account.accepted, account.settled), (ticks, ticks), "{account:?}");
}

/// Every tick that [`feed`] fed is in a summary once.
async fn check_summary(client: &Client, node: &Running<Shm>, ticks: u64) {
    let answer = summary(client, &node.address().to_string()).await;
    let AnswerBody::Summaries(rows) = answer.body else { panic!("summaries") };
    assert_eq!(rows.len(), 100);
    assert_eq!(rows.iter().map(|row| row.2.ticks).sum::<u64>(), ticks);
    let size: u128 = rows.iter().map(|row| row.2.trades.size).sum();
    assert_eq!(size, (0..u128::from(ticks)).sum());
}

async fn check(shared_memory: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = cluster(3, &dir).await;
    let client = client(&nodes, shared_memory).await;
    feed(&client, 100_000).await;
    for node in &nodes {
        check_summary(&client, node, 100_000).await;
    }
    for node in nodes.into_iter().rev() {
        let name = node.name().to_owned();
        let report = node.stop().await;
        assert!(report.drain.is_complete(), "{name}: {report}");
        // The last of three voters has nobody to agree with that it leaves.
        assert_eq!(report.left, name != "a", "{name}: {report}");
    }
}

/// Lanes of producers that the node has, once there are `wanted`, or after a long time.
async fn lanes(client: &Client, wanted: u64) -> u64 {
    let mut lanes = 0;
    for _ in 0..1_000 {
        let status = client.status(SOON).await.expect("a status");
        lanes = status.shards.iter().map(|shard| shard.lanes).sum();
        if lanes == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lanes
}

async fn check_lanes_end(shared_memory: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = cluster(1, &dir).await;
    let client = client(&nodes, shared_memory).await;
    let options = ProducerOptions { memory_only: true, ..ProducerOptions::default() };
    let mut producer = client.producer(options);
    let feeding = tokio::task::spawn_blocking(move || {
        let ids = producer.symbols(&["S".into()], SOON).expect("a symbol");
        let tick = Tick { symbol: ids[0], kind: Kind::TRADE, ..Tick::default() };
        producer.ingest_wait(&tick, SOON).expect("room");
        assert!(producer.flush(SOON).is_final());
        producer
    });
    let producer = feeding.await.expect("feeds");
    assert_eq!(lanes(&client, 1).await, 1, "of one symbol");
    drop(producer);
    assert_eq!(lanes(&client, 0).await, 0, "its producer is gone");
    nodes.remove(0).stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_ends_with_its_producer() {
    check_lanes_end(true).await;
    check_lanes_end(false).await;
}

/// Partitions move to a node that joins, and back while it is drained: a query that is answered by
/// several owners has every partition from exactly one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_is_whole_while_partitions_move() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = cluster(2, &dir).await;
    let client = client(&nodes, true).await;
    feed(&client, 10_000).await;
    let owned = |client: &Client, name: &str| {
        let view = client.view();
        let placement = view.placement();
        let member = placement.members.iter().find(|member| member.name == name);
        member.map_or(0, |member| placement.owned_by(member.id).count())
    };
    let seeds = vec![nodes[0].address().to_string()];
    nodes.push(start::<Shm>(config("c", &dir, seeds)).await.expect("starts"));
    let balanced = async {
        while owned(&client, "c") <= 100 {
            for node in &nodes[..2] {
                check_summary(&client, node, 10_000).await;
            }
        }
    };
    tokio::time::timeout(SOON, balanced).await.expect("the third gets its share");
    let last = nodes.pop().expect("the third");
    let stopping = tokio::spawn(last.stop());
    while !stopping.is_finished() {
        for node in &nodes {
            check_summary(&client, node, 10_000).await;
        }
    }
    assert!(stopping.await.expect("stops").drain.is_complete());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_store_every_tick_once_over_shared_memory() {
    check(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_store_every_tick_once_over_rpc() {
    check(false).await;
}
