//! A node whose seeds do not answer, by a clock that stands still: what it says, asks and counts.

use crate::common::{StillEnv, loader, setting, stock_module};
use core::time::Duration;
use std::sync::Arc;
use zepto_abi::plugin::{PluginStatus, TOKEN_BIT};
use zepto_plugin::config::Limits;
use zepto_plugin::context::Effect;
use zepto_plugin::kv::Kv;
use zepto_plugin::runner::{Delivery, Opening, Runner};

/// The first token of the host, without its number.
const TOKENS: u64 = TOKEN_BIT | (1 << 32);
const SOCKET: &str = "udp=bind 0.0.0.0:7946 peers 10.0.0.0/8";

struct Alone {
    runner: Runner,
    env: Arc<StillEnv>,
}

impl Alone {
    fn open(socket: &str, seeds: &[&str]) -> Self {
        let env = Arc::new(StillEnv::default());
        let setting = setting(&[socket, "random", "metric"], Limits::default(), &env);
        let loaded = loader().load(&stock_module("gossip"), &setting).unwrap();
        let mut runner = Runner::new(&loaded, setting, 1, Kv::default()).unwrap();
        let seeds = seeds.iter().map(|seed| (*seed).to_owned()).collect();
        let address = "10.0.0.1:9000".into();
        runner.open(&Opening { address, seeds, ..Opening::default() }).unwrap();
        Self { runner, env }
    }

    /// What comes of an event: its status, and the effects in short.
    fn deliver(&mut self, after_ms: u64, delivery: &Delivery) -> (Option<i32>, Vec<String>) {
        self.env.advance(Duration::from_millis(after_ms));
        let done = self.runner.deliver(delivery).unwrap();
        let short = |effect: &Effect| match effect {
            Effect::Nodes(answer) => format!("answer {}", answer.revision()),
            Effect::Send { to, .. } => format!("to {to}"),
            Effect::Bind { address, .. } => format!("bind {address}"),
            Effect::Timer { id, .. } => format!("timer {id}"),
            other => format!("{other:?}"),
        };
        (done.status, done.effects.iter().map(short).collect())
    }
}

#[test]
fn it_asks_its_seed_and_says_after_a_while_that_it_is_alone() {
    let mut alone = Alone::open(SOCKET, &["10.0.0.2:9000"]);
    let (status, effects) = alone.deliver(0, &Delivery::start());
    assert_eq!(status, Some(0));
    assert_eq!(effects, ["bind 0.0.0.0:7946", "to 10.0.0.2:7946", "timer 1"]);
    let timer = Delivery::timer(1, false);
    assert_eq!(alone.deliver(1300, &timer).1, ["to 10.0.0.2:7946", "timer 1"]);
    assert_eq!(alone.deliver(2500, &timer).1, ["to 10.0.0.2:7946", "timer 1"]);
    assert_eq!(alone.deliver(1300, &timer).1, ["answer 1", "timer 1"], "5 s after its start");
    assert_eq!(alone.deliver(0, &Delivery::resync()).1, ["answer 2"]);
    // It stops, and may be started again; the numbers of its answers go on.
    let (status, effects) = alone.deliver(0, &Delivery::stop());
    assert!(status == Some(0) && effects.len() == 1, "{effects:?}");
    let (_, effects) = alone.deliver(0, &Delivery::start());
    assert_eq!(effects, ["bind 0.0.0.0:7946", "to 10.0.0.2:7946", "timer 1"]);
    assert_eq!(alone.deliver(6000, &timer).1.first().map(String::as_str), Some("to 10.0.0.2:7946"));
    assert!(alone.runner.tally().refusals.is_empty());
}

#[test]
fn one_that_has_nobody_to_ask_says_at_once_that_it_is_alone() {
    let mut alone = Alone::open(SOCKET, &[]);
    let (_, effects) = alone.deliver(0, &Delivery::start());
    assert_eq!(effects, ["bind 0.0.0.0:7946", "answer 1", "timer 1"]);
    assert_eq!(alone.runner.tally().metrics["gossip_members"], 1);
}

#[test]
fn datagrams_of_others_are_counted_and_nothing_else() {
    let mut alone = Alone::open(SOCKET, &[]);
    alone.deliver(0, &Delivery::start());
    for bytes in [&b""[..], b"hello", &[0; 1400], b"ZPGS\x01\0\0\0\0\0\0\0\0\0\0\0rest"] {
        let (status, effects) =
            alone.deliver(1, &Delivery::datagram(TOKENS | 1, "10.0.0.9:1", bytes));
        assert_eq!((status, effects.len()), (Some(0), 0), "{effects:?}");
    }
    let tally = alone.runner.tally();
    assert_eq!((tally.metrics["gossip_foreign"], tally.error.as_str()), (4, ""));
}

#[test]
fn a_socket_that_is_taken_is_asked_for_again() {
    let mut alone = Alone::open(SOCKET, &["10.0.0.2:9000"]);
    alone.deliver(0, &Delivery::start());
    let failed = |number| Delivery::socket_failed(TOKENS | number);
    let (status, effects) = alone.deliver(0, &failed(1));
    assert_eq!((status, effects), (Some(0), vec!["timer 1".to_owned()]));
    let (_, reply) = alone.deliver(0, &Delivery::health());
    assert!(reply.concat().contains("-13"), "{reply:?}");
    assert!(alone.runner.last_error().contains("the socket 0.0.0.0:7946 is not bound"));
    // And says again what nobody has heard.
    let (_, effects) = alone.deliver(10, &Delivery::timer(1, false));
    assert_eq!(effects, ["bind 0.0.0.0:7946", "to 10.0.0.2:7946", "timer 1"]);
    // The second was the question's.
    assert_eq!(alone.deliver(0, &failed(3)).0, Some(0));
    let (_, effects) = alone.deliver(10, &Delivery::timer(1, false));
    assert!(!effects.concat().contains("bind"), "the pause grows: {effects:?}");
}

#[test]
fn grants_that_do_not_fit_are_told() {
    let mut alone = Alone::open("udp=bind 0.0.0.0:7 peers 10.0.0.0/8", &[]);
    let (status, effects) = alone.deliver(0, &Delivery::start());
    assert_eq!((status, effects.len()), (Some(PluginStatus::Denied.code()), 0));
    let error = alone.runner.last_error();
    assert!(error.contains("udp=bind 0.0.0.0:7946 peers NETWORKS"), "{error}");
    // A seed outside the granted networks is none, and the host counts that too.
    let mut alone = Alone::open(SOCKET, &["192.168.0.1:9000"]);
    assert_eq!(alone.deliver(0, &Delivery::start()).0, Some(0));
    let tally = alone.runner.tally();
    assert_eq!((tally.metrics["gossip_unsent"], tally.refusals["not_granted"]), (1, 1));
}
