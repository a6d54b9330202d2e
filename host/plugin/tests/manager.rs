//! A plugin over time: it crashes and is started again, hangs, is replaced, fails on probation,
//! keeps what it keeps, and its last good answer stands through all of it.

#![expect(clippy::unwrap_used, reason = "a test, and clippy sees tests only in #[test] functions")]

mod common;

use common::{RealEnv, body, build, call, loader, spawner, targets};
use core::time::Duration;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use zepto_abi::plugin::{EV_HEALTH, EV_SNAP_BEGIN, EV_SNAP_RESTORE};
use zepto_core::limits::PLUGIN_UDP_SOCKETS_MAX;
use zepto_plugin::config::PluginConfig;
use zepto_plugin::context::Setting;
use zepto_plugin::file::{PluginFile, Target};
use zepto_plugin::grant::Grants;
use zepto_plugin::instance::FaultKind;
use zepto_plugin::manager::{Command, Handle, Manager, NoReply, Parts, Report, State};
use zepto_plugin::runner::{Delivery, Opening};

/// Nothing takes so long, on any machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// Failures are soon followed by another try.
const QUICK: &str = "backoff=10ms..20ms;max=3/10m";

struct Case {
    handle: Handle,
    directory: TempDir,
    failed: watch::Receiver<Option<String>>,
    target: Target,
}

fn variant(target: Target, defines: &[&str]) -> PluginFile {
    PluginFile::read(&build("puppet.c", target, defines)).unwrap()
}

/// What a manager works with, and where it tells that the node cannot go on.
fn parts(
    policy: &str,
    grants: &[&str],
    directory: &Path,
) -> (Parts, watch::Receiver<Option<String>>) {
    let mut config = PluginConfig::of("puppet".into(), "puppet".into());
    config.on_failure = policy.parse().unwrap();
    config.grants = grants.iter().map(|text| text.parse().unwrap()).collect();
    let (fail, failed) = watch::channel(None);
    let setting = Setting {
        name: "puppet".into(),
        node_id: "n0".into(),
        grants: Arc::new(Grants::of(&config.grants)),
        limits: config.limits,
        env: RealEnv::new(),
        waker: Arc::new(|| {}),
    };
    let parts = Parts {
        config,
        setting,
        opening: Opening::default(),
        loader: Arc::clone(loader()),
        spawn: spawner(),
        directory: directory.to_owned(),
        fail,
    };
    (parts, failed)
}

impl Case {
    async fn with(target: Target, policy: &str, grants: &[&str], directory: TempDir) -> Self {
        let (parts, failed) = parts(policy, grants, directory.path());
        let (manager, handle) = Manager::open(parts, variant(target, &[])).await.unwrap();
        tokio::spawn(manager.run());
        let case = Self { handle, directory, failed, target };
        case.nodes(1).await;
        case
    }

    async fn new(target: Target, policy: &str) -> Self {
        Self::with(target, policy, &[], tempfile::tempdir().unwrap()).await
    }

    /// Waits until so many other nodes are known.
    async fn nodes(&self, count: usize) {
        let mut nodes = self.handle.nodes.clone();
        let known = timeout(DEADLINE, nodes.wait_for(|nodes| nodes.len() == count)).await;
        known.unwrap_or_else(|_| panic!("{:?}", self.report())).unwrap();
    }

    fn report(&self) -> Report {
        self.handle.report.borrow().clone()
    }

    async fn until(&self, holds: impl FnMut(&Report) -> bool) -> Report {
        let mut report = self.handle.report.clone();
        let held = timeout(DEADLINE, report.wait_for(holds)).await;
        held.unwrap_or_else(|_| panic!("{:?}", self.report())).unwrap().clone()
    }

    /// Has it call a function of the host.
    async fn call(&self, number: u32, numbers: [u64; 3], first: &[u8], second: &[u8]) {
        let delivery = Delivery::notice(0x900 + number, 0, 0, body(numbers, first, second));
        self.handle.commands.send(Command::Tell(delivery)).await.ok().unwrap();
    }

    /// Waits until its last words have these in them.
    async fn says(&self, words: &str) {
        self.counts(|report| report.tally.error.contains(words)).await;
    }

    /// The same as `until` for what is looked at once a second, of which nobody is told.
    async fn counts(&self, holds: impl Fn(&Report) -> bool) {
        let counted = async {
            while !holds(&self.report()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let counted = timeout(DEADLINE, counted).await;
        counted.unwrap_or_else(|_| panic!("{:?}", self.report()));
    }

    async fn tell(&self, kind: u32) {
        let delivery = Delivery::notice(kind, 0, 0, vec![0; 32]);
        self.handle.commands.send(Command::Tell(delivery)).await.ok().unwrap();
    }

    async fn ask(&self, kind: u32) -> Result<Vec<u8>, NoReply> {
        let (reply, answer) = oneshot::channel();
        let ask = Command::Ask(Delivery::question(kind, Vec::new()), reply);
        self.handle.commands.send(ask).await.ok().unwrap();
        timeout(DEADLINE, answer).await.unwrap().unwrap()
    }

    async fn reload(&self, defines: &[&str]) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        let file = Box::new(variant(self.target, defines));
        self.handle.commands.send(Command::Reload(file, reply)).await.ok().unwrap();
        timeout(DEADLINE, answer).await.unwrap().unwrap()
    }

    async fn stop(self) -> TempDir {
        let (reply, stopped) = oneshot::channel();
        self.handle.commands.send(Command::Stop(reply)).await.ok().unwrap();
        timeout(DEADLINE, stopped).await.unwrap().unwrap();
        self.until(|report| report.state == State::Stopped).await;
        self.directory
    }
}

/// Of a native plugin a trap is the end of the process, which is why it is not asked for one.
fn sandboxed() -> Option<Target> {
    targets().contains(&Target::Wasm).then_some(Target::Wasm)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_crashes_is_started_again_and_its_answer_stands_meanwhile() {
    let Some(target) = sandboxed() else { return };
    let case = Case::new(target, QUICK).await;
    case.tell(0xA01).await;
    let report = case.until(|report| report.restarts == 1).await;
    assert_eq!(report.faults[&FaultKind::Trap], 1);
    case.until(|report| report.state == State::Running).await;
    assert_eq!(case.handle.nodes.borrow().len(), 1);
    assert!(case.ask(EV_HEALTH).await.is_ok());
    case.stop().await;
}

/// Case 34.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_ends_and_the_last_answer_stands() {
    let Some(target) = sandboxed() else { return };
    let case = Case::new(target, QUICK).await;
    for restarts in 1..=3 {
        case.tell(0xA01).await;
        let up = |report: &Report| report.restarts == restarts && report.state == State::Running;
        case.until(up).await;
    }
    case.tell(0xA01).await;
    let report = case.until(|report| report.state == State::Failed).await;
    assert_eq!((report.restarts, report.faults[&FaultKind::Trap]), (3, 4));
    assert!(report.last_error.contains("unreachable"), "{}", report.last_error);
    assert_eq!(case.handle.nodes.borrow().len(), 1, "the last good answer");
    assert_eq!(case.ask(EV_HEALTH).await, Err(NoReply::Down));
    assert_eq!(*case.failed.borrow(), None, "the node goes on");
    // A new version is another chance.
    case.reload(&["NODES=3"]).await.unwrap();
    case.nodes(2).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_must_not_be_without_it_ends() {
    let Some(target) = sandboxed() else { return };
    let mut case = Case::new(target, "max=0/10m;then=abort").await;
    case.tell(0xA01).await;
    let failed = timeout(DEADLINE, case.failed.wait_for(Option::is_some)).await.unwrap();
    assert!(failed.unwrap().as_ref().unwrap().contains("plugin puppet failed"));
}

/// Case 15: who catches its own panic is at its end all the same, in both targets.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_panics_is_started_again() {
    for target in targets() {
        let case = Case::new(target, QUICK).await;
        case.tell(0xA0F).await;
        let report = case.until(|report| report.restarts == 1).await;
        assert_eq!(report.faults[&FaultKind::Trap], 1);
        assert!(report.last_error.contains("out of wits"), "{}", report.last_error);
        case.until(|report| report.state == State::Running).await;
        // A new instance has nothing of the one before, in native code too.
        let handled = case.ask(EV_HEALTH).await.unwrap();
        assert!(u64::from_le_bytes(handled.try_into().unwrap()) <= 3);
        case.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_woken_is_who_asked_for_it() {
    for target in targets() {
        let (one, other) = (Case::new(target, QUICK).await, Case::new(target, QUICK).await);
        let (before, others) = (one.report().events, other.report().events);
        // From a thread of its own where that is possible.
        match target {
            Target::Native => one.tell(0xA0E).await,
            Target::Wasm => one.call(call::WAKE, [0; 3], b"", b"").await,
        }
        one.says("woken").await;
        assert_eq!(one.report().events, before + 2, "what it was told, and that it was woken");
        assert_eq!(other.report().events, others);
        // The end of one does not take the other's waker with it.
        other.stop().await;
        one.ask(EV_HEALTH).await.unwrap();
        one.call(call::WAKE, [0; 3], b"", b"").await;
        one.says("woken").await;
        one.stop().await;
    }
}

/// Case 31.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_plugin_that_hangs_is_given_up_and_another_is_opened() {
    let case = Case::new(Target::Native, QUICK).await;
    case.tell(0xA0D).await;
    let report = case.until(|report| report.restarts == 1).await;
    assert_eq!(report.faults[&FaultKind::Hung], 1);
    assert_eq!(case.handle.nodes.borrow().len(), 1, "the last good answer");
    case.until(|report| report.state == State::Running).await;
    assert!(case.ask(EV_HEALTH).await.is_ok());
    case.stop().await;
}

/// Case 27.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_has_one_reply_or_an_error_when_its_time_is_over() {
    for target in targets() {
        let case = Case::new(target, QUICK).await;
        assert_eq!(case.ask(EV_SNAP_BEGIN).await, Ok(b"first".to_vec()));
        assert_eq!(case.ask(EV_SNAP_RESTORE).await, Err(NoReply::Late));
        assert_eq!(case.report().unanswered, 1);
        assert!(matches!(case.ask(0x999).await, Err(NoReply::Refused(_))), "it says so at once");
        case.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_over_with_the_state_of_the_old() {
    for target in targets() {
        let case = Case::new(target, QUICK).await;
        for _ in 0..5 {
            case.ask(EV_HEALTH).await.unwrap();
        }
        let handled = case.ask(EV_HEALTH).await.unwrap();
        let text = case.reload(&["NODES=3"]).await.unwrap();
        assert!(text.starts_with("puppet 0.1.0 "), "{text}");
        case.nodes(2).await;
        let report = case.report();
        assert_eq!((report.reloads, report.state), (1, State::Probation));
        let after = case.ask(EV_HEALTH).await.unwrap();
        let count = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        assert!(count(&after) > count(&handled), "{handled:?} {after:?}");
        // The same file again is nothing new.
        assert!(case.reload(&["NODES=3"]).await.unwrap().contains("already"));
        case.stop().await;
    }
}

/// Case 35.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_is_not_well_is_never_in_service() {
    for target in targets() {
        let case = Case::new(target, QUICK).await;
        let before = case.report().sha256;
        let why = case.reload(&["SICK"]).await.unwrap_err();
        assert!(why.contains("not well"), "{why}");
        let again = case.reload(&["SICK"]).await.unwrap_err();
        assert!(again.contains("quarantine"), "{again}");
        let kinds = case.reload(&["OTHER_KINDS"]).await.unwrap_err();
        assert!(kinds.contains("kinds"), "{kinds}");
        let report = case.report();
        assert_eq!((report.sha256, report.reloads, report.state), (before, 0, State::Running));
        assert!(case.ask(EV_HEALTH).await.is_ok());
        case.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_crashes_on_probation_is_taken_back() {
    let Some(target) = sandboxed() else { return };
    let case = Case::new(target, QUICK).await;
    let before = case.report().sha256;
    let why = case.reload(&["TRAPS"]).await.unwrap_err();
    assert!(why.contains("taken back") && why.contains("unreachable"), "{why}");
    let report = case.report();
    assert_eq!((report.sha256, report.rollbacks), (before.clone(), 1));
    case.until(|report| report.state == State::Running).await;
    assert_eq!(case.handle.nodes.borrow().len(), 1);
    assert!(case.ask(EV_HEALTH).await.is_ok());
    let again = case.reload(&["TRAPS"]).await.unwrap_err();
    assert!(again.contains("quarantine"), "{again}");
    // Later on probation is as bad.
    case.reload(&["NODES=3"]).await.unwrap();
    case.nodes(2).await;
    case.tell(0xA01).await;
    case.until(|report| report.rollbacks == 2 && report.sha256 == before).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_back_has_sockets_again() {
    let Some(target) = sandboxed() else { return };
    let grants = ["udp=bind 127.0.0.1:0 peers 127.0.0.1/32"];
    let case = Case::with(target, QUICK, &grants, tempfile::tempdir().unwrap()).await;
    let bind_all = async || {
        for _ in 0..PLUGIN_UDP_SOCKETS_MAX {
            case.call(call::UDP_BIND, [0; 3], b"127.0.0.1:0", b"").await;
        }
        case.ask(EV_HEALTH).await.unwrap();
        case.report().errors
    };
    assert_eq!(bind_all().await, 0);
    case.call(call::UDP_BIND, [0; 3], b"127.0.0.1:0", b"").await;
    case.until(|report| report.errors == 1).await;
    case.reload(&["TRAPS"]).await.unwrap_err();
    assert_eq!(case.report().rollbacks, 1);
    assert_eq!(bind_all().await, 1, "none is refused");
    case.stop().await;
}

/// Case 14: what it says before it is in service does not count, and it is told so.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_version_in_service_tells_of_nodes() {
    for target in targets() {
        let case = Case::new(target, QUICK).await;
        case.reload(&["EAGER", "NODES=3"]).await.unwrap();
        case.nodes(2).await;
        // As it took the state.
        case.counts(|report| report.refusals().get("not_serving") == Some(&1)).await;
        let refused = case.report();
        assert_eq!((refused.rollbacks, refused.state), (0, State::Probation));
        case.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_pinned_is_not_replaced_by_another() {
    let Some(target) = sandboxed() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (mut parts, _) = parts(QUICK, &[], directory.path());
    let file = variant(target, &[]);
    parts.config.sha256 = Some(file.sha256);
    let (manager, handle) = Manager::open(parts, file).await.unwrap();
    tokio::spawn(manager.run());
    let (reply, answer) = oneshot::channel();
    let other = Box::new(variant(target, &["NODES=3"]));
    handle.commands.send(Command::Reload(other, reply)).await.ok().unwrap();
    let why = timeout(DEADLINE, answer).await.unwrap().unwrap().unwrap_err();
    assert!(why.contains("ZP-LOAD-001"), "{why}");
    assert_eq!(handle.report.borrow().reloads, 0);
}

/// Both versions on probation keep in one place.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_kept_is_there_after_it_was_taken_back() {
    let Some(target) = sandboxed() else { return };
    let case = Case::with(target, QUICK, &["kv"], tempfile::tempdir().unwrap()).await;
    case.call(call::KV_PUT, [0; 3], b"old", b"of the old").await;
    case.reload(&["NODES=3"]).await.unwrap();
    case.call(call::KV_PUT, [0; 3], b"new", b"of the new").await;
    case.tell(0xA01).await;
    case.until(|report| report.rollbacks == 1 && report.state == State::Running).await;
    case.call(call::KV_PUT, [0; 3], b"more", b"").await;
    for (key, value) in [("old", "of the old"), ("new", "of the new")] {
        case.call(call::KV_GET, [0, 100, 0], key.as_bytes(), b"").await;
        case.says(value).await;
    }
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_do_not_keep_other_events_away() {
    for target in targets() {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (address, grant) =
            (format!("127.0.0.1:{port}"), format!("udp=bind 127.0.0.1:{port} peers 127.0.0.1/32"));
        let case = Case::with(target, QUICK, &[&grant], tempfile::tempdir().unwrap()).await;
        case.call(call::UDP_BIND, [0; 3], address.as_bytes(), b"").await;
        case.ask(EV_HEALTH).await.unwrap();
        // Timers that are due again whenever one was delivered.
        case.tell(0xA10).await;
        case.until(|report| report.events > 200).await;
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", &address).unwrap();
        case.says("heard").await;
        case.stop().await;
    }
}

/// Case 25: the guard, and what it means on probation.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_removes_too_many_nodes_is_taken_back() {
    for target in targets() {
        let case = Case::new(target, QUICK).await;
        case.reload(&["NODES=9"]).await.unwrap();
        case.nodes(8).await;
        let before = case.report().sha256;
        let why = case.reload(&["NODES=4"]).await.unwrap_err();
        assert!(why.contains("removes too many"), "{why}");
        let report = case.report();
        assert_eq!((report.sha256, report.rollbacks, report.held), (before, 1, 1));
        assert_eq!(report.discovery.unwrap().held, None, "it went with its version");
        assert_eq!(case.handle.nodes.borrow().len(), 8);
        case.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_confirms_what_is_held() {
    for target in targets() {
        let case = Case::new(target, QUICK).await;
        let confirm = async || {
            let (reply, answer) = oneshot::channel();
            case.handle.commands.send(Command::Confirm(reply)).await.ok().unwrap();
            answer.await.unwrap()
        };
        assert_eq!(confirm().await, None, "nothing is held");
        // It knows of nobody but itself now.
        let nobody = zepto_message::write_nodes(9, zepto_message::Mode::Full, &[], &[]);
        case.call(call::EMIT, [0; 3], &nobody, b"").await;
        let held = |r: &Report| r.discovery.as_ref().is_some_and(|d| d.held == Some((1, 1, true)));
        case.until(held).await;
        assert_eq!(case.handle.nodes.borrow().len(), 1);
        assert_eq!(confirm().await, Some("1 removed, 0 added".into()));
        case.nodes(0).await;
        case.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_keeps_is_there_after_a_restart_and_damage_is_told() {
    for target in targets() {
        let grants = ["kv"];
        let case = Case::with(target, QUICK, &grants, tempfile::tempdir().unwrap()).await;
        case.call(call::KV_PUT, [0; 3], b"key", b"kept").await;
        case.ask(EV_HEALTH).await.unwrap();
        let directory = case.stop().await;

        let case = Case::with(target, QUICK, &grants, directory).await;
        case.call(call::KV_GET, [0, 100, 0], b"key", b"").await;
        case.says("kept").await;
        let directory = case.stop().await;

        let path = directory.path().join("puppet.kv");
        std::fs::write(&path, b"damaged").unwrap();
        let opened = Manager::open(parts(QUICK, &grants, directory.path()).0, variant(target, &[]));
        let error = opened.await.err().unwrap().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_come_from_where_they_may_and_a_flood_is_dropped() {
    for target in targets() {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let grant = format!("udp=bind 127.0.0.1:{port} peers 127.0.0.1/32");
        let directory = tempfile::tempdir().unwrap();
        let case = Case::with(target, QUICK, &[&grant], directory).await;
        let address = format!("127.0.0.1:{port}");
        case.call(call::UDP_BIND, [0; 3], address.as_bytes(), b"").await;
        case.ask(EV_HEALTH).await.unwrap();
        let good = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
        let before = case.report().events;
        stranger.send_to(b"stranger", &address).unwrap();
        good.send_to(&[0; 1401], &address).unwrap();
        good.send_to(b"hello", &address).unwrap();
        case.until(|report| report.events > before).await;
        case.says("hello").await;
        assert_eq!(case.report().dropped, 2);
        case.stop().await;
    }
}
