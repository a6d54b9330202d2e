//! The tick path, operation by operation, each beside its limit in the same run. The ratio is what
//! counts: the limit is what this machine can do at all. See benches/README.md.

use arc_swap::{ArcSwap, Cache};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use zepto_benches::{append_all, store_of, symbols, tick, topology, view};
use zepto_core::PartitionId;
use zepto_core::hash::mix64;
use zepto_core::placement::{Candidate, Holder, plan};
use zepto_transport::mailbox::{LaneSpec, lane};
use zepto_transport::{Heap, Receiver, Sender, Shm, Transport};

const STREAM: usize = 1 << 16;
/// Long enough that a series gets a few hundred rows: segments are made, filled and followed by the
/// next ones, as in a session.
const SESSION: usize = 1 << 21;
/// Symbols of the store's benches.
const SYMBOLS: u32 = 1 << 13;

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route, 1000 nodes, any key");
    group.throughput(Throughput::Elements(STREAM as u64));
    let stream = symbols(STREAM, 1 << 20, false);
    let compiled = view(1000, 16);
    let table: Vec<u16> =
        (0..1 << 16).map(|partition| compiled.destination(PartitionId(partition))).collect();
    group.bench_function("limit: hash, shift, load", |b| {
        b.iter(|| {
            let sum =
                |sum: u64, symbol: &u32| sum + u64::from(table[(mix64(0, *symbol) >> 48) as usize]);
            stream.iter().fold(0, sum)
        });
    });
    let swap = Arc::new(ArcSwap::from_pointee(compiled));
    let mut cache = Cache::new(Arc::clone(&swap));
    group.bench_function("ours: live view", |b| {
        b.iter(|| {
            let sum = |sum: u64, symbol: &u32| {
                sum + u64::from(cache.load().route(0, *symbol).destination)
            };
            stream.iter().fold(0, sum)
        });
    });
    group.finish();
}

fn membership(c: &mut Criterion) {
    let mut group = c.benchmark_group("membership change, 1000 nodes, 65,536 partitions");
    let placement = topology(1000, 16).placement;
    let nodes: Vec<Candidate> =
        (1..=1000).map(|id| Candidate { node: zepto_core::NodeId(id), weight: 100 }).collect();
    let mut holders = vec![Holder::Nobody; 1 << 16];
    for step in plan(&vec![Holder::Nobody; 1 << 16], &nodes) {
        holders[step.partition.0 as usize] = Holder::Movable(step.to);
    }
    let mut more = nodes.clone();
    more.push(Candidate { node: zepto_core::NodeId(1001), weight: 100 });
    group.bench_function("limit: copy the placement", |b| b.iter(|| black_box(&placement).clone()));
    group.bench_function("ours: plan one node more", |b| b.iter(|| plan(&holders, &more)));
    group.bench_function("ours: compile the view", |b| {
        b.iter_batched(
            || placement.clone(),
            zepto_core::view::View::compile,
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn lanes(c: &mut Criterion) {
    let mut group = c.benchmark_group("lane, 64 B slots, write, publish every 64, read, settle");
    group.throughput(Throughput::Elements(STREAM as u64));
    let mut ring = vec![[0u64; 8]; STREAM];
    group.bench_function("limit: copy into a ring and out", |b| {
        b.iter(|| {
            let mut sum = 0;
            for chunk in ring.chunks_mut(64) {
                for (i, slot) in chunk.iter_mut().enumerate() {
                    *slot = black_box([i as u64; 8]);
                }
                sum += chunk.iter().map(|slot| black_box(*slot)[7]).sum::<u64>();
            }
            sum
        });
    });
    let spec = LaneSpec { nonce: 1, slots: STREAM as u32 };
    let (mut sender, mut receiver) = lane(&Heap, &Heap, spec).expect("heap");
    group.bench_function("ours: heap", |b| b.iter(|| pump(&mut sender, &mut receiver)));
    let (mut sender, mut receiver) = lane(&Shm, &Shm, spec).expect("shared memory");
    group.bench_function("ours: shared memory", |b| b.iter(|| pump(&mut sender, &mut receiver)));
    group.finish();
}

/// Sends and settles one ring of slots on one thread.
fn pump<T: Transport>(sender: &mut Sender<T>, receiver: &mut Receiver<T>) -> u64 {
    let mut sum = 0;
    for _ in 0..STREAM / 64 {
        for i in 0..64u64 {
            sender.push(&black_box([i; 8])).expect("the ring has room");
        }
        black_box(sender.publish());
        let available = receiver.poll().expect("a lane in order");
        let first = receiver.consumed();
        for index in first..first + available {
            sum += black_box(receiver.slot(index))[7];
        }
        receiver.consume(available);
        receiver.settle(first + available);
        receiver.publish();
        let settled = sender.poll().expect("credit in order").settled;
        assert!(sender.next_refusal().expect("refusals in order").is_none());
        sender.release(settled);
    }
    sum
}

fn store(c: &mut Criterion) {
    for (name, is_skewed) in [("uniform", false), ("skewed", true)] {
        let mut group = c.benchmark_group(format!("append until readable, 8192 symbols, {name}"));
        group.throughput(Throughput::Elements(SESSION as u64));
        group.sample_size(10);
        let stream = symbols(SESSION, SYMBOLS, is_skewed);
        group.bench_function("limit: one sequential log", |b| {
            b.iter_batched(
                || {
                    // Its pages are there: what is measured is writing, not the first touch.
                    let mut log = vec![tick(0, 1); SESSION];
                    log.clear();
                    log
                },
                |mut log| {
                    log.extend(
                        stream.iter().zip(0..).map(|(symbol, i)| black_box(tick(*symbol, i))),
                    );
                    log
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function("ours", |b| {
            b.iter_batched(
                || store_of(SYMBOLS).0,
                |mut store| {
                    append_all(&mut store, &stream);
                    store
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, route, membership, lanes, store);
criterion_main!(benches);
