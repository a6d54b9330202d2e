//! The gossip plugin under the managers of several nodes, over real sockets: they find each other
//! through the first, notice who is gone, and go on after a restart and after a new version.
#![expect(clippy::unwrap_used, reason = "tests, and clippy sees them only in #[test] functions")]

#[path = "gossip/alone.rs"]
mod alone;
mod common;
#[path = "gossip/flood.rs"]
mod flood;
#[path = "gossip/node.rs"]
mod node;

use common::{stock_library, stock_module};
use node::{Node, free_addresses};
use std::path::Path;
use tokio::sync::oneshot;
use zepto_plugin::file::PluginFile;
use zepto_plugin::manager::Command;

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_find_each_other_through_the_first() {
    let places = free_addresses(3);
    let mut nodes = Vec::new();
    for (number, place) in places.iter().enumerate() {
        nodes.push(Node::open(number, 1, *place, &places[..1]).await);
    }
    for node in &mut nodes {
        node.knows(&["n0@1", "n1@1", "n2@1"]).await;
    }
    // Each is told with the node's own address, and not with that of its gossip.
    let known = nodes[2].handle.nodes.borrow().clone();
    let addresses: Vec<String> = known.iter().map(|node| node.address()).collect();
    assert_eq!(addresses, ["127.0.0.1:9000", "127.0.0.1:9001"]);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_and_a_module_of_one_source_are_one_cluster() {
    let Some(library) = stock_library("gossip") else { return };
    let places = free_addresses(2);
    let mut module = Node::open(0, 1, places[0], &[]).await;
    let mut native = Node::open_as(library, 1, places[1], &places[..1]).await;
    for node in [&mut module, &mut native] {
        node.knows(&["n0@1", "n1@1"]).await;
    }
    native.stop().await;
    module.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_or_dies_is_dropped_and_who_comes_back_is_there_again() {
    let places = free_addresses(5);
    let mut nodes = Vec::new();
    for (number, place) in places.iter().enumerate() {
        nodes.push(Node::open(number, 1, *place, &places[..1]).await);
    }
    for node in &mut nodes {
        node.knows(&["n0@1", "n1@1", "n2@1", "n3@1", "n4@1"]).await;
    }
    // One stops, and says so.
    let directory = nodes.remove(4).stop().await;
    for node in &mut nodes {
        node.knows(&["n0@1", "n1@1", "n2@1", "n3@1"]).await;
    }
    // It comes back; of its seed it needs no more than what it remembers.
    nodes.push(Node::again(directory, 4, 2, places[4], &[]).await);
    for node in &mut nodes {
        node.knows(&["n0@1", "n1@1", "n2@1", "n3@1", "n4@2"]).await;
    }
    // Another one dies without a word: the seed itself.
    let directory = nodes.remove(0).kill();
    for node in &mut nodes {
        node.knows(&["n1@1", "n2@1", "n3@1", "n4@2"]).await;
    }
    nodes.push(Node::again(directory, 0, 3, places[0], &places[2..3]).await);
    for node in &mut nodes {
        node.knows(&["n0@3", "n1@1", "n2@1", "n3@1", "n4@2"]).await;
    }
    for node in nodes {
        let report = node.handle.report.borrow().clone();
        assert!(report.errors == 0 && report.faults.is_empty(), "{report:?}");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_goes_on_where_the_one_before_was() {
    let places = free_addresses(6);
    let mut nodes = Vec::new();
    for (number, place) in places[..5].iter().enumerate() {
        nodes.push(Node::open(number, 1, *place, &places[..1]).await);
    }
    for node in &mut nodes {
        node.knows(&["n0@1", "n1@1", "n2@1", "n3@1", "n4@1"]).await;
    }
    // The same code with a section more, which makes it another file.
    let bytes = [stock_module("gossip").bytes.as_ref(), b"\0\x05\x04next"].concat();
    let next = PluginFile::of(Path::new("next.wasm"), bytes.into()).unwrap();
    let (reply, answer) = oneshot::channel();
    let reload = Command::Reload(Box::new(next), reply);
    nodes[2].handle.commands.send(reload).await.unwrap();
    println!("reloaded: {}", answer.await.unwrap().unwrap());
    // It has not forgotten anybody, and goes on in the cluster: a new node gets in through it, and
    // it learns who leaves.
    assert_eq!(nodes[2].handle.nodes.borrow().len(), 4);
    nodes.push(Node::open(5, 1, places[5], &places[2..3]).await);
    for node in &mut nodes {
        node.knows(&["n0@1", "n1@1", "n2@1", "n3@1", "n4@1", "n5@1"]).await;
    }
    nodes.remove(4).stop().await;
    for node in &mut nodes {
        node.knows(&["n0@1", "n1@1", "n2@1", "n3@1", "n5@1"]).await;
    }
    let report = nodes[2].handle.report.borrow().clone();
    assert_eq!((report.reloads, report.rollbacks, report.errors), (1, 0, 0), "{report:?}");
    for node in nodes {
        node.stop().await;
    }
}
