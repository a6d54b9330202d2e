//! From a symbol to its owner, among a thousand nodes, with any key.

use crate::compare::{Settings, compare, limit, ours, peer};
use crate::machine::time;
use arc_swap::{ArcSwap, Cache};
use std::hint::black_box;
use std::sync::Arc;
use zepto_benches::{symbols, view};
use zepto_core::PartitionId;
use zepto_core::hash::mix64;

const NODES: u32 = 1000;
const STREAM: usize = 1 << 20;

/// A node as the hash crates want it: something to hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct VirtualNode(u32, u32);

/// Prints the comparison.
pub fn run(settings: Settings) {
    let stream = symbols(STREAM, 1 << 20, false);
    let compiled = view(NODES, 16);
    let partitions = (0..1 << 16).map(PartitionId);
    let table: Vec<u16> = partitions.map(|partition| compiled.destination(partition)).collect();
    let swap = Arc::new(ArcSwap::from_pointee(compiled));
    let mut cache = Cache::new(Arc::clone(&swap));
    let maglev = maglev::Maglev::with_capacity((0..NODES).collect::<Vec<_>>(), 262_147);
    let mut ring = hashring::HashRing::new();
    ring.batch_add((0..NODES).flat_map(|n| (0..128).map(move |v| VirtualNode(n, v))).collect());
    let key = |symbol: u32| u64::from(symbol);
    compare(
        settings,
        "route, 1000 nodes, any key",
        vec![
            limit("hash, shift, load", || {
                each(&stream, |symbol| table[(mix64(0, symbol) >> 48) as usize].into())
            }),
            peer("crate maglev", || {
                each(&stream, |symbol| {
                    maglev::ConsistentHasher::get(&maglev, &key(symbol)).copied().unwrap_or(0)
                })
            }),
            peer("crate hashring, 128 virtual nodes", || {
                each(&stream, |symbol| ring.get(&key(symbol)).map_or(0, |node| node.0))
            }),
            peer("the same view through ArcSwap::load()", || {
                each(&stream, |symbol| swap.load().route(0, symbol).destination.into())
            }),
            ours("live view", || {
                each(&stream, |symbol| cache.load().route(0, symbol).destination.into())
            }),
        ],
    );
}

#[inline(always)]
fn each(stream: &[u32], mut route: impl FnMut(u32) -> u32) -> f64 {
    time(stream.len(), || {
        stream.iter().fold(0u64, |sum, symbol| sum + u64::from(route(black_box(*symbol))))
    })
}
