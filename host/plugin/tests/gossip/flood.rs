//! As many members as there may be: they fit into the memory that a plugin has by default, and no
//! datagram keeps it busy for long.

use crate::common::{StillEnv, loader, setting, stock_module};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;
use zepto_plugin::config::Limits;
use zepto_plugin::context::Effect;
use zepto_plugin::kv::Kv;
use zepto_plugin::runner::{Delivery, Opening, Runner};

/// A number as postcard writes it.
fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A node as the plugin writes it.
fn peer(bytes: &mut Vec<u8>, id: &str, life: u64, ip: u32, host: &str) {
    number(bytes, id.len() as u64);
    bytes.extend(id.as_bytes());
    number(bytes, 1);
    number(bytes, life);
    bytes.push(0);
    bytes.extend(ip.to_be_bytes());
    number(bytes, 7946);
    number(bytes, host.len() as u64);
    bytes.extend(host.as_bytes());
    number(bytes, 9000);
}

/// What a member says to the plugin about some others, numbered from here.
fn gossip(first: u32, count: u32, (id_bytes, host): (usize, &str), state: u8) -> Vec<u8> {
    let member = |bytes: &mut Vec<u8>, at: u32| {
        peer(bytes, &format!("{at:0id_bytes$}"), 1, 0x0a01_0000 + at, host);
    };
    let mut bytes = b"ZPGS\x01\0\0\0".to_vec();
    // The hash of no name.
    bytes.extend(0xcbf2_9ce4_8422_2325u64.to_le_bytes());
    member(&mut bytes, 0);
    number(&mut bytes, 0);
    peer(&mut bytes, "n0", 1_700_000_000_000, 0x0a00_0001, "");
    bytes.push(8);
    bytes.extend((count as u16).to_be_bytes());
    for at in first..first + count {
        member(&mut bytes, at);
        bytes.extend([0, state]);
    }
    assert!(bytes.len() <= 1316, "{}", bytes.len());
    bytes
}

/// The plugin with everybody it may know, and then with nobody of them.
fn flood(id_bytes: usize, host_bytes: usize) {
    const ALIVE: u8 = 0;
    const DOWN: u8 = 2;
    let env = Arc::new(StillEnv::default());
    let grants = ["udp=bind 0.0.0.0:7946 peers 0.0.0.0/0", "random", "kv", "metric"];
    // The machine may be busy with other tests; how long it took is told, and not checked.
    let limits = Limits { event: Duration::from_secs(2), ..Limits::default() };
    let setting = setting(&grants, limits, &env);
    let loaded = loader().load(&stock_module("gossip"), &setting).unwrap();
    let mut runner = Runner::new(&loaded, setting, 1, Kv::new(1 << 20)).unwrap();
    let address = "10.0.0.1:9000".into();
    runner.open(&Opening { address, incarnation: 1, ..Opening::default() }).unwrap();
    let started = runner.deliver(&Delivery::start()).unwrap();
    let bound = started.effects.iter().find_map(|effect| match effect {
        Effect::Bind { token, .. } => Some(*token),
        _ => None,
    });
    let mut longest = Duration::ZERO;
    let mut deliver = |runner: &mut Runner, delivery: &Delivery| {
        env.advance(Duration::from_millis(1));
        #[expect(clippy::disallowed_methods, reason = "it tells how long it took")]
        let begun = Instant::now();
        let done = runner.deliver(delivery).unwrap();
        longest = longest.max(begun.elapsed());
        assert!(matches!(done.status, None | Some(0)), "{}", runner.last_error());
    };
    let text_bytes = id_bytes + host_bytes;
    let host = &"a.".repeat(127)[..host_bytes];
    // In a datagram are as many as fit; in 8 MiB so many, by the plugin's own reckoning.
    let count = (1300 / (text_bytes as u32 + 17) - 2).clamp(1, 40);
    let most = 10_000.min((7 << 20) / (760 + 6 * text_bytes as u32));
    for (state, wanted) in [(ALIVE, most * 94 / 100..=most + 1), (DOWN, 2..=2)] {
        for first in (1..most + 2 * count).step_by(count as usize) {
            let bytes = gossip(first, count, (id_bytes, host), state);
            deliver(&mut runner, &Delivery::datagram(bound.unwrap(), "10.1.0.0:7946", &bytes));
        }
        // What it does by itself meanwhile: probes, and news for others.
        for _ in 0..300 {
            deliver(&mut runner, &Delivery::timer(1, false));
        }
        deliver(&mut runner, &Delivery::resync());
        let tally = runner.tally();
        let (members, bytes) =
            (tally.metrics["gossip_members"] as u32, tally.memory_bytes.unwrap());
        println!("{text_bytes} bytes each: {members} members, {bytes} bytes of memory");
        assert!(wanted.contains(&members), "{wanted:?}");
    }
    println!("the longest event took {longest:?}");
    assert!(runner.tally().refusals.is_empty(), "{:?}", runner.tally().refusals);
}

#[test]
fn thousands_of_members_fit_into_the_limits_of_a_plugin() {
    for (id_bytes, host_bytes) in [(10, 0), (128, 253)] {
        flood(id_bytes, host_bytes);
    }
}
