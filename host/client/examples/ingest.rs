//! What a tick costs a Rust program: the counterpart of `benches/capi/ingest.cpp`, as
//! `benches/capi.sh` runs it.   ingest HOST:PORT ROUNDS

use core::time::Duration;
use zepto_client::producer::IngestError;
use zepto_client::{Client, ClientOptions, ProducerOptions, TickProducer};
use zepto_core::{Kind, Tick};

const BURST: usize = 4096;
const BATCH: usize = 256;
const SYMBOLS: usize = 64;
const WITHIN: Duration = Duration::from_secs(10);

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Time of something, for each of so many.
fn ns(producer: &mut TickProducer, count: usize, run: impl FnOnce(&mut TickProducer)) -> f64 {
    let begun = producer.now();
    run(producer);
    (producer.now().0 - begun.0) as f64 / count as f64
}

fn measure(mut producer: TickProducer, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    let names: Vec<String> = (0..SYMBOLS).map(|i| format!("bench:{i}")).collect();
    let symbols = producer.symbols(&names, WITHIN)?;
    let tick = |i: usize| Tick {
        symbol: symbols[i % SYMBOLS],
        kind: Kind::TRADE,
        price: i as i64 * 1_000_000,
        size: 1_000_000_000,
        ..Tick::default()
    };
    let mut ticks: Vec<Tick> = (0..BURST).map(tick).collect();
    let mut time = 1_723_075_200_000_000_000;
    let mut age = |ticks: &mut [Tick]| {
        for tick in ticks {
            time += 1;
            tick.event_time_ns = time;
        }
    };
    let take = |producer: &mut TickProducer, ticks: &[Tick]| -> Result<(), IngestError> {
        ticks.iter().try_for_each(|tick| producer.ingest(tick))
    };
    let (mut one, mut batch, mut flush) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        age(&mut ticks);
        one.push(ns(&mut producer, BURST, |p| take(p, &ticks).expect("room")));
        assert!(producer.flush(WITHIN).is_final());
        age(&mut ticks);
        batch.push(ns(&mut producer, BURST, |p| {
            for ticks in ticks.chunks(BATCH) {
                take(p, ticks).expect("room");
                p.publish();
            }
        }));
        assert!(producer.flush(WITHIN).is_final());
        take(&mut producer, &ticks[..1])?;
        flush.push(ns(&mut producer, 1, |p| assert!(p.flush(WITHIN).is_final())));
    }
    println!("rust {:.1} {:.1} {:.0}", median(one), median(batch), median(flush));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, rounds] = arguments.as_slice() else {
        return Err("usage: ingest HOST:PORT ROUNDS".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = ClientOptions {
        seeds: vec![address.clone()],
        name: "ingest".into(),
        shared_memory: true,
        secret: None,
    };
    let client = runtime.block_on(Client::connect(options, WITHIN))?;
    let producer = client.producer(ProducerOptions { memory_only: true, ..Default::default() });
    measure(producer, rounds.parse()?)
}
