//! The transport over UCX: the conformance suite between two workers of one process, over each
//! kind of lanes. A process has one UCX, so each kind is a process of its own.

use std::process::Command;
use zepto_transport::Ucx;
use zepto_transport::conformance::Pair;
use zepto_transport::ucx::LIBRARY;

/// Two workers of this process.
fn pair() -> Pair<Ucx> {
    let open = || Ucx::open(LIBRARY).expect("UCX, for these tests");
    Pair::new(open(), open(), || ())
}

// Over whatever UCX chooses.
zepto_transport::conformance!(suite, pair);

fn suite_over(lanes: &str) {
    let this = std::env::current_exe().expect("this program");
    let ran = Command::new(this).arg("suite::").env("UCX_TLS", lanes).output().expect("runs");
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "over {lanes}: {text}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(text.contains("test result: ok."), "{text}");
}

#[test]
fn the_suite_holds_over_shared_memory() {
    suite_over("shm");
}

#[test]
fn the_suite_holds_over_tcp() {
    suite_over("tcp");
}

#[test]
fn the_suite_holds_over_both() {
    suite_over("tcp,shm");
}
