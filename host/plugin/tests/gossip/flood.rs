//! As many members as there may be: they fit into the memory that a plugin has by default, and no
//! datagram keeps it busy for long.

use crate::common::{StillEnv, loader, setting};
use crate::node::module;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;
use zepto_plugin::config::Limits;
use zepto_plugin::context::Effect;
use zepto_plugin::kv::Kv;
use zepto_plugin::runner::{Delivery, Done, Opening, Runner};

/// Members in one datagram; more do not fit.
const NEWS: u32 = 40;
const MEMBERS: u32 = 10_000;

/// A number as postcard writes it.
fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A node as the plugin writes it, in a life that began a while ago.
fn peer(bytes: &mut Vec<u8>, id: &str, life: u64, ip: u32, port: u64) {
    number(bytes, id.len() as u64);
    bytes.extend(id.as_bytes());
    number(bytes, 1);
    number(bytes, life);
    bytes.push(0);
    bytes.extend(ip.to_be_bytes());
    number(bytes, 7946);
    number(bytes, 0);
    number(bytes, port);
}

/// What a member says to the plugin about some others, numbered from here.
fn gossip(first: u32, count: u32) -> Vec<u8> {
    let member = |bytes: &mut Vec<u8>, at: u32| {
        peer(bytes, &format!("node-{at:05}"), 1, 0x0a01_0000 + at, 9000);
    };
    let mut bytes = b"ZPGS\x01\0\0\0".to_vec();
    // The hash of no name.
    bytes.extend(0xcbf2_9ce4_8422_2325u64.to_le_bytes());
    member(&mut bytes, 0);
    number(&mut bytes, 0);
    peer(&mut bytes, "n0", 1_700_000_001, 0x0a00_0001, 9000);
    bytes.push(8);
    bytes.extend((count as u16).to_be_bytes());
    for at in first..first + count {
        member(&mut bytes, at);
        // Alive since its beginning.
        bytes.extend([0, 0]);
    }
    assert!(bytes.len() <= 1316, "{}", bytes.len());
    bytes
}

#[test]
fn ten_thousand_members_fit_into_the_limits_of_a_plugin() {
    let env = Arc::new(StillEnv::default());
    let grants = ["udp=bind 0.0.0.0:7946 peers 0.0.0.0/0", "random", "kv", "metric"];
    let setting = setting(&grants, Limits::default(), &env);
    let loaded = loader().load(&module(), &setting).unwrap();
    let kv = Kv::new(1 << 20);
    let mut runner = Runner::new(&loaded, setting, 1, kv).unwrap();
    runner.open(&Opening { address: "10.0.0.1:9000".into(), ..Opening::default() }).unwrap();
    let started = runner.deliver(&Delivery::start()).unwrap();
    let bound = started.effects.iter().find_map(|effect| match effect {
        Effect::Bind { token, .. } => Some(*token),
        _ => None,
    });
    let (mut longest, mut first) = (Duration::ZERO, 1);
    let mut deliver = |runner: &mut Runner, delivery: &Delivery| -> Done {
        #[expect(clippy::disallowed_methods, reason = "it tells how long it took")]
        let begun = Instant::now();
        let done = runner.deliver(delivery).unwrap();
        longest = longest.max(begun.elapsed());
        assert_eq!(done.status, Some(0), "{}", runner.last_error());
        done
    };
    while first < MEMBERS + 2 * NEWS {
        env.advance(Duration::from_millis(1));
        let datagram = Delivery::datagram(bound.unwrap(), "10.1.0.0:7946", &gossip(first, NEWS));
        deliver(&mut runner, &datagram);
        first += NEWS;
    }
    // What it does by itself with that many: probes, news, farewells.
    for _ in 0..300 {
        env.advance(Duration::from_millis(100));
        deliver(&mut runner, &Delivery::timer(1, false));
    }
    let told = deliver(&mut runner, &Delivery::resync());
    let is_told = told.effects.iter().any(|effect| matches!(effect, Effect::Nodes(_)));
    let tally = runner.tally();
    let members = tally.metrics["gossip_members"];
    let bytes = tally.memory_bytes.unwrap();
    println!("{members} members in {bytes} bytes; the longest event took {longest:?}");
    assert!(is_told && tally.refusals.is_empty(), "{:?}", tally.refusals);
    assert!((9_000..=10_000).contains(&members));
}
