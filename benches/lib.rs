//! What the benches share: a placement of a thousand nodes, reproducible streams of symbols, and a
//! store that is filled as a shard fills it.
#![forbid(unsafe_code)]

use std::hint::black_box;
use zepto_core::hash::mix;
use zepto_core::topology::{Command, Topology};
use zepto_core::view::View;
use zepto_core::{Epoch, Incarnation, Kind, NodeId, PartitionId, Tick};
use zepto_store::{Retention, Store, StoreConfig, StoreReader};

/// Ticks that a shard takes at a time.
const BATCH: usize = 256;
/// How far ahead a shard looks.
const AHEAD: usize = 16;
/// 2^bits partitions of the store.
const PARTITION_BITS: u8 = 12;

/// The topology of a cluster whose partitions are spread over `nodes` nodes.
pub fn topology(nodes: u32, bits: u8) -> Topology {
    let mut topology = Topology::empty();
    let mut index = 0;
    let mut apply = |topology: &mut Topology, command: &Command| {
        index += 1;
        topology.apply(index, 0, command);
    };
    apply(&mut topology, &Command::Bootstrap { cluster: 1, bits, copies: 1 });
    for node in 1..=nodes {
        let join = Command::Join {
            name: format!("n{node}"),
            incarnation: Incarnation(1),
            address: "127.0.0.1:1".into(),
            shards: 1,
            weight: 100,
            zone: String::new(),
        };
        apply(&mut topology, &join);
    }
    for node in (1..=nodes).map(NodeId) {
        apply(&mut topology, &Command::Activate { node, incarnation: Incarnation(1) });
    }
    // The first to be active got everything; spread it as its owner would.
    for (partition, assignment) in topology.placement.assignments.iter_mut().enumerate() {
        assignment.copies[0] = NodeId(mix(partition as u64) as u32 % nodes + 1);
    }
    topology
}

/// The view of [`topology`].
pub fn view(nodes: u32, bits: u8) -> View {
    View::compile(topology(nodes, bits).placement)
}

/// A reproducible stream of symbols below `symbols`, a power of two: uniform, or with half of
/// the ticks in one symbol of 64.
pub fn symbols(count: usize, symbols: u32, is_skewed: bool) -> Vec<u32> {
    (0..count as u64)
        .map(|i| {
            let draw = mix(i);
            let range = if is_skewed && draw & 1 == 0 { symbols / 64 } else { symbols };
            (draw >> 32) as u32 & (range.max(1) - 1)
        })
        .collect()
}

/// A trade, different for each number.
pub fn tick(symbol: u32, number: u64) -> Tick {
    Tick {
        event_time_ns: number,
        symbol,
        kind: Kind::TRADE,
        price: 61_000_000_000_000 + (number % 1024) as i64,
        size: 1_000_000 + number % 7,
        ..Tick::default()
    }
}

/// A store that knows so many symbols and has no ticks yet.
pub fn store_of(symbols: u32) -> (Store, StoreReader) {
    let (partition_bits, retention) = (PARTITION_BITS, Retention::default());
    let config = StoreConfig { partition_bits, bytes_max: 8 << 30, retention };
    let (mut store, reader) = zepto_store::open(config).expect("a store");
    open_all(&mut store, symbols);
    (store, reader)
}

/// Lets go of all that a store has; it knows the same symbols afterwards.
pub fn empty(store: &mut Store, symbols: u32) {
    for partition in (0..1 << PARTITION_BITS).map(PartitionId) {
        drop(store.close_partition(partition));
    }
    open_all(store, symbols);
}

fn open_all(store: &mut Store, symbols: u32) {
    for partition in (0..1 << PARTITION_BITS).map(PartitionId) {
        store.open_partition(partition, Epoch(1), 1).expect("room");
    }
    for symbol in 0..symbols {
        store.create_series(0, symbol).expect("room");
    }
}

/// Appends a tick for each symbol, in batches that are readable at their end.
pub fn append_all(store: &mut Store, stream: &[u32]) {
    let mut number = 0;
    for batch in stream.chunks(BATCH) {
        for (at, symbol) in batch.iter().enumerate() {
            if let Some(next) = batch.get(at + AHEAD)
                && let Some(series) = store.series(0, *next)
            {
                store.prefetch(series);
            }
            let tick = black_box(tick(*symbol, number));
            number += 1;
            let series = store.series(0, tick.symbol).expect("it was created");
            store.append(series, &tick).expect("room");
        }
        store.publish();
    }
}
