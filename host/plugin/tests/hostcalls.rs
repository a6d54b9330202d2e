//! The host's functions, called from C in both targets: the same arguments give the same results.

#![expect(clippy::unwrap_used, reason = "a test, and clippy sees tests only in #[test] functions")]

mod common;

use common::{Called, Puppet, call, targets};
use core::time::Duration;
use zepto_abi::plugin::{self as abi, PluginStatus};
use zepto_message::{Mode, Node, Request, write_nodes};
use zepto_plugin::context::Effect;

fn status(called: &Called) -> PluginStatus {
    PluginStatus::from_code(called.status).unwrap()
}

/// Does the same in both targets, and checks that it gives the same.
fn both<R: PartialEq + core::fmt::Debug>(grants: &[&str], act: impl Fn(&mut Puppet) -> R) {
    let mut before: Option<R> = None;
    for target in targets() {
        let result = act(&mut Puppet::new(target, grants));
        if let Some(before) = &before {
            assert_eq!(*before, result, "{target:?}");
        }
        before = Some(result);
    }
}

#[test]
fn what_needs_no_grant_works_without() {
    both(&[], |puppet| {
        assert_eq!(puppet.call(call::LOG, [2, 0, 0], b"hello", b"").status, 0);
        assert_eq!(status(&puppet.call(call::LOG, [9, 0, 0], b"x", b"")), PluginStatus::Invalid);
        assert_eq!(puppet.call(call::SET_ERROR, [0, 0, 0], b"why", b"").status, 0);
        assert_eq!(puppet.tally().error, "why (ok)");
        assert_eq!(puppet.call(call::INFO, [abi::INFO_NODE_ID.into(), 100, 0], b"", b"").status, 0);
        assert_eq!(puppet.tally().error, "n0 (ok)");
        let small = puppet.call(call::INFO, [abi::INFO_NODE_ID.into(), 1, 0], b"", b"");
        assert_eq!(status(&small), PluginStatus::TooBig, "the buffer is too small");
        let unknown = puppet.call(call::INFO, [99, 100, 0], b"", b"");
        assert_eq!(status(&unknown), PluginStatus::NotFound);
        assert_eq!(puppet.call(call::CLOCK, [abi::CLOCK_MONO.into(), 0, 0], b"", b"").status, 0);
        puppet.tally().error
    });
}

#[test]
fn what_is_not_granted_is_denied_and_counted() {
    both(&[], |puppet| {
        let request = Request { method: "GET", url: "http://a/", ..Request::default() }.write();
        let calls: [(u32, &[u8]); 7] = [
            (call::RANDOM, b""),
            (call::HTTP, &request),
            (call::UDP_BIND, b"127.0.0.1:0"),
            (call::UDP_SEND, b"127.0.0.1:1"),
            (call::KV_GET, b"k"),
            (call::KV_PUT, b"k"),
            (call::METRIC, b"m"),
        ];
        for (number, bytes) in calls {
            let denied = puppet.call(number, [1, 1, 0], bytes, b"");
            assert_eq!(status(&denied), PluginStatus::Denied, "{number}");
            assert!(denied.effects.is_empty());
        }
        assert_eq!(puppet.refused("not_granted"), 7);
    });
}

#[test]
fn timers_are_set_replaced_and_cancelled() {
    both(&[], |puppet| {
        let called = puppet.call(call::TIMER, [7, 2_000_000, 0], b"", b"");
        assert!(matches!(called.effects[..], [Effect::Timer { id: 7, delay_ns: 2_000_000, .. }]));
        let at_once = puppet.call(call::TIMER, [7, 1, 0], b"", b"");
        assert!(matches!(at_once.effects[..], [Effect::Timer { id: 7, delay_ns: 1_000_000, .. }]));
        let fast = puppet.call(call::TIMER, [8, 1000, 1000], b"", b"");
        assert_eq!(status(&fast), PluginStatus::Invalid, "repeats too fast");
        let id = puppet.call(call::TIMER, [abi::TOKEN_BIT | 1, 1, 0], b"", b"");
        assert_eq!(status(&id), PluginStatus::Invalid, "looks like a token of the host");
        assert_eq!(puppet.call(call::TIMER, [7, 0, 0], b"", b"").status, 0, "0 cancels");
        let gone = puppet.call(call::CANCEL, [7, 0, 0], b"", b"");
        assert_eq!(status(&gone), PluginStatus::BadHandle);
        // 64 timers, and not one more.
        assert_eq!(puppet.misbehave(0xA08, [64, 0, 0]).unwrap(), 0);
        assert_eq!(puppet.misbehave(0xA08, [1_000_000, 0, 0]).unwrap(), PluginStatus::Busy.code());
    });
}

#[test]
fn answers_are_checked_while_the_plugin_waits() {
    both(&[], |puppet| {
        let node = Node { id: "a", host: "10.0.0.1", port: 9000, ..Node::default() };
        let emit = |puppet: &mut Puppet, bytes: &[u8]| {
            let called = puppet.call(call::EMIT, [0; 3], bytes, b"");
            (status(&called), called.effects.len())
        };
        let good = write_nodes(5, Mode::Full, &[node], &[]);
        assert_eq!(emit(puppet, &good), (PluginStatus::Ok, 1));
        assert_eq!(emit(puppet, &good), (PluginStatus::Conflict, 0), "the same revision again");
        let twice = write_nodes(6, Mode::Full, &[node, node], &[]);
        assert_eq!(emit(puppet, &twice), (PluginStatus::Conflict, 0));
        assert!(puppet.tally().error.contains("nodes 0 and 1 have the same id"));
        // A refused answer does not use up its revision.
        assert_eq!(emit(puppet, &write_nodes(6, Mode::Full, &[node], &[])).0, PluginStatus::Ok);
        let mut many = write_nodes(7, Mode::Full, &[], &[]);
        many[36..40].copy_from_slice(&1_000_000u32.to_le_bytes());
        assert_eq!(emit(puppet, &many), (PluginStatus::TooBig, 0));
        // Sizes, kind, flags, mode, and the list's offset, count and stride.
        for (at, value) in
            [(0, 15), (0, 255), (4, 255), (8, 3), (12, 1), (24, 2), (32, 255), (36, 9), (40, 0)]
        {
            let mut bytes = write_nodes(8, Mode::Full, &[node], &[]);
            bytes[at] = value;
            let (status, effects) = emit(puppet, &bytes);
            assert!(status != PluginStatus::Ok, "byte {at}");
            assert_eq!(effects, 0);
        }
        puppet.tally().refusals
    });
}

#[test]
fn one_handler_cannot_ask_for_everything() {
    both(&[], |puppet| {
        assert_eq!(puppet.misbehave(0xA09, [1024, 0, 0]).unwrap(), 0);
        assert_eq!(puppet.misbehave(0xA09, [1025, 0, 0]).unwrap(), PluginStatus::Busy.code());
        assert_eq!(puppet.refused("too_much"), 1);
    });
}

#[test]
fn what_it_keeps_is_there_until_the_granted_bytes_are_full() {
    both(&["kv=1KiB"], |puppet| {
        assert_eq!(puppet.call(call::KV_PUT, [0; 3], b"key", b"value").status, 0);
        assert_eq!(puppet.call(call::KV_GET, [0, 100, 0], b"key", b"").status, 0);
        assert_eq!(puppet.tally().error, "value (ok)");
        let small = puppet.call(call::KV_GET, [0, 4, 0], b"key", b"");
        assert_eq!(status(&small), PluginStatus::TooBig);
        let full = puppet.call(call::KV_PUT, [0; 3], b"big", &[0; 1024]);
        assert_eq!(status(&full), PluginStatus::TooBig);
        assert_eq!(puppet.call(call::KV_DEL, [0; 3], b"key", b"").status, 0);
        for number in [call::KV_GET, call::KV_DEL] {
            let gone = puppet.call(number, [0, 100, 0], b"key", b"");
            assert_eq!(status(&gone), PluginStatus::NotFound);
        }
    });
}

#[test]
fn metrics_add_and_set_and_are_not_endless() {
    both(&["metric"], |puppet| {
        let metric = |puppet: &mut Puppet, kind: u32, name: &[u8], value: i64| {
            status(&puppet.call(call::METRIC, [kind.into(), value as u64, 0], name, b""))
        };
        assert_eq!(metric(puppet, abi::METRIC_COUNTER, b"polls", 2), PluginStatus::Ok);
        assert_eq!(metric(puppet, abi::METRIC_COUNTER, b"polls", 3), PluginStatus::Ok);
        assert_eq!(metric(puppet, abi::METRIC_GAUGE, b"peers", -7), PluginStatus::Ok);
        for name in [&b""[..], b"a b", b"1a", b"a{b}", &[b'a'; 65]] {
            assert_eq!(metric(puppet, abi::METRIC_GAUGE, name, 0), PluginStatus::Invalid);
        }
        let metrics = puppet.tally().metrics;
        assert_eq!((metrics["polls"], metrics["peers"]), (5, -7));
        // 256 names, and not one more.
        assert_eq!(puppet.misbehave(0xA07, [254, 0, 0]).unwrap(), 0);
        assert_eq!(puppet.misbehave(0xA07, [10_000, 0, 0]).unwrap(), PluginStatus::TooBig.code());
        assert_eq!(puppet.tally().metrics.len(), 256);
    });
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    both(&[], |puppet| {
        let busy = PluginStatus::Busy.code();
        assert_eq!(puppet.misbehave(0xA06, [100, 0, 0]).unwrap(), 0);
        assert_eq!(puppet.misbehave(0xA06, [1_000_000, 0, 0]).unwrap(), busy);
        assert_eq!(puppet.refused("log_lines"), 1);
        puppet.env.advance(Duration::from_secs(1));
        assert_eq!(puppet.misbehave(0xA06, [100, 0, 0]).unwrap(), 0);
    });
}

#[test]
fn sockets_are_bound_and_used_as_granted() {
    both(&["udp=bind 127.0.0.1:0 peers 127.0.0.0/8"], |puppet| {
        let bind = |puppet: &mut Puppet, address: &[u8]| {
            let called = puppet.call(call::UDP_BIND, [0; 3], address, b"");
            (status(&called), called.effects.len())
        };
        assert_eq!(bind(puppet, b"0.0.0.0:7946"), (PluginStatus::Denied, 0));
        assert_eq!(bind(puppet, b"localhost:1"), (PluginStatus::Invalid, 0));
        assert_eq!(bind(puppet, b"\xff"), (PluginStatus::Invalid, 0));
        assert_eq!(bind(puppet, b"127.0.0.1:0"), (PluginStatus::Ok, 1));
        let send = |puppet: &mut Puppet, socket: u64, to: &[u8], bytes: &[u8]| {
            status(&puppet.call(call::UDP_SEND, [socket, 0, 0], to, bytes))
        };
        assert_eq!(send(puppet, 0, b"127.0.0.2:9", b"x"), PluginStatus::Ok);
        assert_eq!(send(puppet, 0, b"10.0.0.1:9", b"x"), PluginStatus::Denied);
        assert_eq!(send(puppet, 5, b"127.0.0.2:9", b"x"), PluginStatus::BadHandle);
        assert_eq!(send(puppet, 0, b"127.0.0.2:9", &[0; 1401]), PluginStatus::TooBig);
        for _ in 0..3 {
            assert_eq!(bind(puppet, b"127.0.0.1:0").0, PluginStatus::Ok);
        }
        assert_eq!(bind(puppet, b"127.0.0.1:0").0, PluginStatus::Busy, "four, and not one more");
    });
}

#[test]
fn requests_are_checked_against_the_grants_and_limited() {
    both(&["http=GET http://127.0.0.1:1/v1/*"], |puppet| {
        let http = |puppet: &mut Puppet, url: &str, name: &str| {
            let headers = vec![(name, "x")];
            let request = Request { method: "GET", url, headers, ..Request::default() };
            status(&puppet.call(call::HTTP, [0; 3], &request.write(), b""))
        };
        assert_eq!(http(puppet, "http://127.0.0.1:1/v1/x", "accept"), PluginStatus::Ok);
        for url in [
            "http://127.0.0.1:1/v2",
            "http://169.254.169.254/latest/meta-data",
            "http://127.0.0.1:2/v1/x",
        ] {
            assert_eq!(http(puppet, url, "accept"), PluginStatus::Denied, "{url}");
        }
        assert_eq!(http(puppet, "http://127.0.0.1:1/v1/x", "Host"), PluginStatus::Denied);
        assert_eq!(http(puppet, "http://u:p@127.0.0.1:1/v1/", "a"), PluginStatus::Invalid);
        for _ in 0..15 {
            assert_eq!(http(puppet, "http://127.0.0.1:1/v1/x", "accept"), PluginStatus::Ok);
        }
        assert_eq!(http(puppet, "http://127.0.0.1:1/v1/x", "accept"), PluginStatus::Busy);
        let malformed = puppet.call(call::HTTP, [0; 3], b"GET /", b"");
        assert_eq!(status(&malformed), PluginStatus::Invalid);
    });
}
