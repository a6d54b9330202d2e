//! A process that does not ignore SIGPIPE, as a C program that links the library may not: a peer
//! that closes must not kill it. The Rust runtime ignores the signal, so a child asks for it back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use common::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use zepto_rpc::{CallError, Config, Unknown};

const CHILD: &str = "ZEPTO_TEST_SIGPIPE_CHILD";

/// Closes a connection in the middle of a request: first our direction, then all of it, so that
/// the next write of the peer fails with EPIPE and, by default, a signal.
async fn close_midway(listener: TcpListener) {
    let mut raw = Raw::server(&listener).await;
    // Until the kernel takes no more, and the client waits to go on writing.
    tokio::time::sleep(ms(100)).await;
    raw.stream.shutdown().await.unwrap();
}

#[test]
fn child_whose_peers_close_while_it_writes() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    // SAFETY: the disposition of one signal is set before any other thread could care; the
    // default needs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // One thread, so that both ends of the close are seen by the client's next write.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let server = tokio::spawn(close_midway(listener));
            let connection = connect(&address, Config::default()).await;
            let error = connection.call(vec![1; 32 << 20], LONG).await.expect_err("closed");
            // Not all of it was written, so it was certainly not executed.
            assert!(matches!(error, CallError::NotSent(_)), "{error}");
            assert!(!matches!(error, CallError::Unknown(Unknown::Deadline)));
            server.await.unwrap();
        }
    });
    println!("the child lives");
}

#[test]
fn a_peer_that_closes_never_kills_the_process_whatever_it_does_with_sigpipe() {
    let test = std::env::current_exe().unwrap();
    let mut child = Command::new(test);
    child.args(["--exact", "child_whose_peers_close_while_it_writes", "--nocapture"]);
    let output = child.env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.signal(), None, "killed: {said}");
    assert!(output.status.success() && said.contains("the child lives"), "{said}");
}
