//! Plugins that do what no plugin may. The host and the next instance are as well as before.

mod common;

use common::{Puppet, StillEnv, call, module, refusal, setting, targets};
use core::time::Duration;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Instant;
use zepto_abi::plugin::{EV_HEALTH, EV_SNAP_BEGIN, EV_START, PluginStatus};
use zepto_plugin::config::Limits;
use zepto_plugin::context::Effect;
use zepto_plugin::file::{PluginFile, Target};
use zepto_plugin::instance::FaultKind;
use zepto_plugin::loader::Loader;
use zepto_plugin::runner::Delivery;

/// A good module: what each of the others differs from.
const GOOD: &str = r#"(module
  (import "zepto_host_v1" "log" (func $log (param i64 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "ZEPTOPLG\00\01\00\00\01\00\00\00\00\00\20\00\01\00\00\00")
  (func (export "zp_plugin_info_v1") (result i32) (i32.const 1024))
  (func (export "zp_plugin_open_v1") (param i64 i32 i32) (result i64) (i64.const 1))
  (func (export "zp_plugin_event_v1") (param i64 i32 i32) (result i32) (i32.const 0))
  (func (export "zp_plugin_close_v1") (param i64) (result i32) (i32.const 0))
  (func (export "zp_alloc_v1") (param i32) (result i32) (i32.const 65536))
  (func (export "zp_free_v1") (param i32 i32))
)"#;

/// Why a variant of the good module does not open.
fn without(part: &str, instead: &str) -> String {
    assert!(GOOD.contains(part), "{part}");
    refusal(&module(&GOOD.replace(part, instead)))
}

#[track_caller]
fn says(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in: {text}");
}

#[test]
fn the_good_module_opens() {
    let opened = std::panic::catch_unwind(|| refusal(&module(GOOD)));
    assert!(opened.is_err(), "{opened:?}");
}

/// Case 1, 6: it traps. It is over with this instance, and only with this one.
#[test]
fn a_trap_ends_the_instance_and_nothing_else() {
    if !targets().contains(&Target::Wasm) {
        return;
    }
    for (kind, numbers, text) in [
        (0xA01, [0; 3], "unreachable"),
        (0xA02, [0; 3], "call stack exhausted"),
        (0xA0B, [0; 3], "out of bounds memory access"),
        (0xA0C, [0; 3], "integer divide by zero"),
    ] {
        let mut puppet = Puppet::new(Target::Wasm, &[]);
        let mut other = Puppet::new(Target::Wasm, &[]);
        let fault = puppet.misbehave(kind, numbers).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Trap);
        says(&fault.text, text);
        // wasmtime would call it again; the host does not.
        let again = puppet.ask(EV_HEALTH, Vec::new()).unwrap_err();
        assert_eq!(again.kind, FaultKind::Broken);
        assert_eq!(other.ask(EV_HEALTH, Vec::new()).unwrap().effects.len(), 1);
    }
}

/// Case 2: an endless loop is cut at its deadline.
#[test]
fn an_endless_loop_is_cut_at_its_deadline() {
    if !targets().contains(&Target::Wasm) {
        return;
    }
    let limits = Limits { event: Duration::from_millis(20), ..Limits::default() };
    let mut puppet = Puppet::with(Target::Wasm, &[], limits);
    #[expect(clippy::disallowed_methods, reason = "it tells how long it took, and asserts nothing")]
    let begun = Instant::now();
    let fault = puppet.misbehave(0xA00, [0; 3]).unwrap_err();
    println!("a loop with a deadline of 20 ms was cut after {:?}", begun.elapsed());
    assert_eq!(fault.kind, FaultKind::Deadline);
}

/// Case 3: the same where nothing has answered yet.
#[test]
fn an_endless_loop_in_start_or_open_or_info_fails_the_load() {
    let endless = "(loop $l (br $l))";
    let start = format!("(func $s {endless}) (start $s)\n  (memory (export");
    says(&without("(memory (export", &start), "interrupt");
    let open = format!("(result i64) {endless} (i64.const 1)");
    says(&without("(result i64) (i64.const 1)", &open), "deadline");
    let info = format!("(result i32) {endless} (i32.const 1024)");
    says(&without("(result i32) (i32.const 1024)", &info), "deadline");
}

/// Case 4: it takes memory until there is no more, and the host has lost none.
#[test]
fn a_memory_bomb_stops_at_its_limit() {
    if !targets().contains(&Target::Wasm) {
        return;
    }
    let mut puppet = Puppet::new(Target::Wasm, &[]);
    let status = puppet.misbehave(0xA0A, [0; 3]).unwrap();
    assert_eq!(status, PluginStatus::NoMemory.code());
    let bytes = puppet.tally().memory_bytes.unwrap();
    assert!(bytes <= 8 << 20, "{bytes}");
    println!("it has {bytes} of {} bytes", 8 << 20);
    assert!(puppet.ask(EV_HEALTH, Vec::new()).is_ok());
}

/// Case 5: it begins with more than it may have.
#[test]
fn too_much_memory_or_table_from_the_start_is_refused() {
    says(&without("\"memory\") 2)", "\"memory\") 65536)"), "exceeds memory limits");
    let table = "(table 100000 funcref)\n  (memory (export";
    says(&without("(memory (export", table), "exceeds");
    says(&without("\"memory\") 2)", "\"memory\") i64 2)"), "ZP-LOAD-002");
    says(&without("\"memory\") 2)", "\"memory\") 1 2 shared)"), "ZP-LOAD-002");
}

/// Cases 7, 8: another version, and a newer one.
#[test]
fn another_major_version_is_refused_by_both_numbers() {
    let text = without("zepto_host_v1", "zepto_host_v2");
    says(&text, "needs plugin ABI 2, this host speaks 1");
    let minor = without(r"\01\00\00\00\00\00\20\00", r"\01\00\05\00\05\00\20\00");
    says(&minor, "needs a host with plugin ABI 1.5 or newer, this one has 1.0");
    let major = without(r"\01\00\00\00\00\00\20\00", r"\07\00\00\00\00\00\20\00");
    says(&major, "needs plugin ABI 7");
}

/// Case 9: a function of a later version that it may do without.
#[test]
fn a_function_of_a_later_version_says_that_it_is_unsupported() {
    let text = GOOD
        .replace(r#""log" (func $log"#, r#""later" (func $log"#)
        .replace(
            "(param i64 i32 i32) (result i64) (i64.const 1)",
            "(param i64 i32 i32) (result i64)
              (i64.extend_i32_s (call $log (i64.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))",
        );
    says(&refusal(&module(&text)), "unsupported");
}

/// Cases 10, 11: exports and imports that are not those of a plugin.
#[test]
fn missing_and_mistyped_exports_and_foreign_imports_are_named() {
    for name in ["zp_plugin_info_v1", "zp_plugin_event_v1", "zp_alloc_v1", "zp_free_v1"] {
        says(&without(name, "zp_other"), &format!("does not export the function {name}"));
    }
    let wrong = "\"zp_plugin_close_v1\") (param i32) (result i32)";
    says(&without("\"zp_plugin_close_v1\") (param i64) (result i32)", wrong), "another type");
    says(&without("\"memory\"", "\"mem\""), "does not export its memory");
    let import = without("(param i64 i32 i32 i32) (result i32)))", "(param i64) (result i32)))");
    says(&import, "incompatible import type for zepto_host_v1::log");
    for other in ["wasi_snapshot_preview1", "env"] {
        says(&without("zepto_host_v1", other), "a plugin may import zepto_host_v1 only");
    }
    let memory = r#"(import "zepto_host_v1" "m" (memory 1)) (import "zepto_host_v1""#;
    says(&without(r#"(import "zepto_host_v1""#, memory), "which is no function");
}

#[test]
fn what_is_no_module_at_all_is_refused() {
    let good = wat::parse_str(GOOD).unwrap();
    for length in [8, 9, 20, good.len() - 1] {
        let file = PluginFile::of("cut.wasm".as_ref(), good[..length].into()).unwrap();
        says(&refusal(&file), "ZP-LOAD-002");
    }
    says(&without("ZEPTOPLG", "ZEPTOPLX"), "no descriptor");
    says(&without("(result i32) (i32.const 1024)", "(result i32) (i32.const -1)"), "no descriptor");
}

/// Case 12: addresses that are not the plugin's.
#[test]
fn addresses_outside_its_memory_are_refused_and_counted() {
    if !targets().contains(&Target::Wasm) {
        return;
    }
    let mut puppet = Puppet::new(Target::Wasm, &[]);
    let bad = PluginStatus::BadAddress.code();
    for (address, length) in [(0xffff_fff0, 4096), (0xffff_ffff, 1), (0, 0x40_0000), (1 << 24, 8)] {
        assert_eq!(puppet.misbehave(0xA03, [address, length, 0]).unwrap(), bad);
    }
    assert_eq!(puppet.misbehave(0xA04, [0xffff_fffc, 0, 0]).unwrap(), bad, "half inside");
    assert_eq!(puppet.refused("bad_address"), 5);
    let long = puppet.misbehave(0xA03, [1024, 0xffff_ffff, 0]).unwrap();
    assert_eq!(long, PluginStatus::TooBig.code(), "before an address is looked at");
    // NULL is no address of a native plugin's; its others are trusted.
    let mut native = Puppet::new(Target::Native, &[]);
    assert_eq!(native.misbehave(0xA03, [0, 16, 0]).unwrap(), bad);
    assert_eq!(native.misbehave(0xA04, [0, 0, 0]).unwrap(), bad);
}

/// Case 13: an inbox that is none.
#[test]
fn an_inbox_that_is_nowhere_unaligned_or_outside_is_refused() {
    for at in ["0", "65537", "131071", "-8", "131072"] {
        let text = without("(i32.const 65536)", &format!("(i32.const {at})"));
        says(&text, "zp_alloc_v1 gave");
    }
}

/// Case 14: calls when there is nothing to call for.
#[test]
fn calls_outside_a_handler_or_for_another_instance_are_refused() {
    for target in targets() {
        let mut puppet = Puppet::new(target, &[]);
        let foreign = puppet.misbehave(0xA05, [0; 3]).unwrap();
        assert_eq!(foreign, PluginStatus::BadHandle.code(), "{target:?}");
        // `close` sets a timer, which is not allowed there: nothing comes of it.
        puppet.runner.close(Duration::from_millis(50));
    }
    let mut native = Puppet::new(Target::Native, &[]);
    let from_a_thread = native.misbehave(0xA0E, [0; 3]).unwrap();
    assert_eq!(from_a_thread, PluginStatus::BadState.code());
}

/// Case 33: what lies in the cache is machine code; it is used only as it was written.
#[test]
fn a_compiled_module_that_was_changed_or_that_others_may_write_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let is_cached = || {
        let loader = Loader::new(directory.path(), false, true).unwrap();
        let setting = setting(&[], Limits::default(), &Arc::new(StillEnv::default()));
        loader.load(&module(GOOD), &setting).unwrap().is_cached()
    };
    assert!(!is_cached());
    assert!(is_cached());
    let compiled = directory.path().join("compiled");
    let path = fs::read_dir(&compiled).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&path).unwrap();
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(!is_cached(), "byte {at}");
        assert_eq!(fs::read(&path).unwrap(), good, "compiled again, to the same");
    }
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(!is_cached(), "cut");
    assert!(is_cached());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
    assert!(!is_cached(), "others may write it");
    fs::set_permissions(&compiled, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(!is_cached(), "others may write beside it");
}

/// Case 17, 27: replies twice, and to nobody.
#[test]
fn a_reply_counts_once_and_only_for_its_own_question() {
    for target in targets() {
        let mut puppet = Puppet::new(target, &[]);
        let done = puppet.ask(EV_SNAP_BEGIN, Vec::new()).unwrap();
        assert_eq!(done.status, Some(PluginStatus::BadHandle.code()), "the second");
        let question = done.question.unwrap();
        let [Effect::Reply { token, status: 0, bytes }] = &done.effects[..] else {
            panic!("{done:?}");
        };
        assert_eq!((*token, bytes.as_slice()), (question, &b"first"[..]));
        for token in [question, question + 1, 0, u64::MAX] {
            let late = puppet.call(call::REPLY, [token, 0, 0], b"late", b"");
            assert_eq!(late.status, PluginStatus::BadHandle.code(), "{token:#x}");
        }
        assert_eq!(puppet.refused("bad_token"), 5);
    }
}

/// Case 17: what was cancelled, or is another instance's, is not delivered.
#[test]
fn events_of_what_was_cancelled_are_not_delivered() {
    for target in targets() {
        let mut puppet = Puppet::new(target, &[]);
        puppet.call(call::TIMER, [7, 1000, 0], b"", b"");
        let status = |puppet: &mut Puppet, id| {
            puppet.runner.deliver(&Delivery::timer(id, false)).unwrap().status
        };
        assert_eq!(status(&mut puppet, 8), None);
        assert_eq!(status(&mut puppet, 7), Some(0));
        assert_eq!(status(&mut puppet, 7), None, "it ran out");
    }
}

/// Case 28: escape sequences do not reach a terminal.
#[test]
fn what_a_plugin_says_is_made_harmless() {
    for target in targets() {
        let mut puppet = Puppet::new(target, &[]);
        let text = b"\x1b[2J\xff\r\n\xe2\x80\xae";
        puppet.call(call::SET_ERROR, [0; 3], text, b"");
        let error = puppet.tally().error;
        assert!(!error.contains(char::is_control) && !error.contains('\u{202e}'), "{error:?}");
        says(&error, "u{1b}[2J");
    }
}

/// Case 8 of both targets at once: the same events give the same effects.
#[test]
fn both_targets_do_the_same_with_the_same_events() {
    let log = |target| {
        let mut puppet = Puppet::new(target, &["kv", "metric", "random"]);
        let mut log = Vec::new();
        // Started once more, as after a version that was taken back.
        for (kind, question) in [(EV_START, false), (EV_HEALTH, true), (EV_SNAP_BEGIN, true)] {
            let done = if question {
                puppet.ask(kind, Vec::new()).unwrap()
            } else {
                puppet.deliver(kind, Vec::new()).unwrap()
            };
            let effects: Vec<String> = done
                .effects
                .iter()
                // Tokens differ from instance to instance.
                .map(|effect| match effect {
                    Effect::Reply { status, bytes, .. } => format!("reply {status} {bytes:?}"),
                    other => format!("{other:?}"),
                })
                .collect();
            log.push(format!("{:?} {effects:?}", done.status));
        }
        log
    };
    let logs: Vec<_> = targets().into_iter().map(log).collect();
    assert!(logs.iter().all(|log| *log == logs[0]), "{logs:#?}");
    says(&logs[0].concat(), "nodes of revision 2");
}
