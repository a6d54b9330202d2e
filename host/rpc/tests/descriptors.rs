//! A process without descriptors left: accepting pauses and recovers. Alone in its program,
//! because the limit is the whole process's.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use tokio::net::TcpStream;
use zepto_rpc::Config;

/// Processor time of this process.
fn cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[tokio::test]
async fn running_out_of_descriptors_pauses_accepting_without_a_spin_and_recovers() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: before.maximum }).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    // One descriptor for the peer's side; none is left for the server's.
    hoard.pop();
    let waiting = TcpStream::connect(&node.address).await.unwrap();
    let used = cpu_time();
    tokio::time::sleep(ms(600)).await;
    let used = cpu_time() - used;
    assert!(used < ms(300), "{used:?} of processor time in 600 ms of waiting");
    assert!(connection.call(vec![ECHO], LONG).await.is_ok(), "who is in stays in");

    drop(hoard);
    let mut served = Raw::new(waiting);
    let payload = hello().encode().unwrap();
    served.send(zepto_rpc::frame::Kind::Hello, 0, 0, &payload).await;
    assert!(served.frame().await.is_some(), "accepted once there is a descriptor again");
    drop((connection, served));
    node.stopped().await;
}
