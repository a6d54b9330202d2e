//! Nodes with a cluster secret, in one process: what forged signs of life are worth.

use std::io::Write as _;
use std::net::UdpSocket;
use std::time::Duration;
use zepto_client::message::Status;
use zepto_client::{Client, ClientOptions, ClusterSecret};
use zepto_core::heartbeat::{BARE_BYTES, Heartbeat, Trailer};
use zepto_core::topology::{MemberState, Placement};
use zepto_node::config::{Config, HeartbeatConfig, ProfileName};
use zepto_node::{Running, start};
use zepto_transport::Shm;

const SOON: Duration = Duration::from_secs(20);

async fn node(name: &str, dir: &tempfile::TempDir, seeds: Vec<String>) -> Running<Shm> {
    let config = Config {
        node_id: name.into(),
        listen: "127.0.0.1:0".into(),
        seeds,
        data_dir: dir.path().join(name),
        secret_file: Some(dir.path().join("secret")),
        heartbeat: HeartbeatConfig { profile: ProfileName::Fast },
        ..Config::default()
    };
    start(config).await.expect("starts")
}

async fn status(client: &Client, node: &Running<Shm>) -> Status {
    client.status_at(&node.address().to_string(), SOON).await.expect("answers")
}

/// Looks until the status of a node satisfies a condition.
async fn until(client: &Client, node: &Running<Shm>, what: &str, holds: impl Fn(&Status) -> bool) {
    let looking = async {
        while !holds(&status(client, node).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_heartbeat_is_counted_and_neither_speaks_for_a_node_nor_silences_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(b"a-key-of-32-characters-for-tests\n").expect("a file");
    let a = node("a", &dir, Vec::new()).await;
    let b = node("b", &dir, vec![a.address().to_string()]).await;
    let options = ClientOptions {
        seeds: vec![a.address().to_string()],
        name: "test".into(),
        shared_memory: false,
        secret: Some(ClusterSecret::open(&path).expect("a secret")),
    };
    let client = Client::connect(options, SOON).await.expect("knows the secret");
    // B is active only because A heard its signed heartbeats.
    let active = |placement: &Placement| {
        placement.members.iter().filter(|m| m.state == MemberState::Active).count() == 2
    };
    client.wait_until("both are active", SOON, active).await.expect("they hear each other");

    let view = client.view();
    let member = view.placement().member_named("b").expect("a member").clone();
    let trailer = |mac| Trailer {
        incarnation: member.incarnation,
        topology_index: view.index(),
        topology_hash: 0,
        mac,
    };
    let before = status(&client, &a).await.heartbeats;
    let forger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for (seq, mac) in (1 << 60..).zip([[0; 16], [7; 16]]) {
        let forged =
            Heartbeat { node: member.id, seq, timestamp_ns: 0, trailer: Some(trailer(mac)) };
        let (bytes, length) = forged.encode();
        forger.send_to(&bytes[..length], a.address()).expect("sent");
        forger.send_to(&bytes[..BARE_BYTES], a.address()).expect("sent");
    }
    let counted = before.unauthenticated + 4;
    until(&client, &a, "all four are counted", |s| s.heartbeats.unauthenticated == counted).await;
    // Had one been believed, its number would make everything that B says old news.
    let heard = status(&client, &a).await.heartbeats.heard;
    until(&client, &a, "B is still heard", |s| s.heartbeats.heard >= heard + 3).await;
    assert_eq!(status(&client, &a).await.heartbeats.replayed, before.replayed);

    drop(client);
    for node in [b, a] {
        assert!(node.stop().await.left);
    }
}
