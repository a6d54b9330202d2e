//! A process that keeps the log is killed in the middle of its proposals; what it reported as
//! committed is in the log afterwards, and its data directory is free again.

#![expect(clippy::unwrap_used, reason = "a test, and clippy sees tests only in #[test] functions")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use zepto_control::datadir::{DataDir, DataDirError};
use zepto_control::raft::{LinkFailure, Peer, PeerLink, Raft, Times};
use zepto_control::{Command, ControlLog, Outcome};

/// Set for the process that is to be killed: its data directory.
const CHILD_DIRECTORY: &str = "ZEPTO_TEST_CHILD_DIRECTORY";
const DEADLINE: Duration = Duration::from_secs(60);

/// The only peer of its log speaks with nobody.
struct Nobody;

impl PeerLink for Nobody {
    async fn call(&self, _: &Peer, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, LinkFailure> {
        Err(LinkFailure::Unreachable("there is nobody else".into()))
    }
}

#[test]
#[ignore = "started, and killed, by the test below"]
fn child_that_proposes_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD_DIRECTORY) else { return };
    let directory = DataDir::open(Path::new(&path), "a").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (log, _worker) = start(&directory.log_path()).await;
        if log.is_fresh() {
            log.bootstrap().await.unwrap();
            let bootstrap = Command::Bootstrap { cluster: 1, bits: 4, copies: 1 };
            assert!(matches!(log.propose(bootstrap, DEADLINE).await, Outcome::Committed { .. }));
        }
        log.recovered(DEADLINE).await.unwrap();
        let local = tokio::task::LocalSet::new();
        for proposer in 0..8 {
            let log = log.clone();
            local.spawn_local(async move {
                for i in log.state().symbols_len().. {
                    let name = format!("{}-{proposer}-{i}", std::process::id());
                    let command = Command::Intern { names: vec![name.clone()] };
                    match log.propose(command, DEADLINE).await {
                        Outcome::Committed { index } => report(index, &name),
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        local.await;
    });
}

#[expect(clippy::disallowed_methods, reason = "the node crate's part, played by the test")]
async fn start(path: &Path) -> (Arc<Raft<Nobody>>, JoinHandle<()>) {
    let events = Box::new(|_, _| {});
    let (unstarted, worker) = Raft::open(path, ("a", "h:1"), Nobody, Times::FAST, events).unwrap();
    let worker = std::thread::spawn(move || worker.run().unwrap());
    (unstarted.start().await.unwrap(), worker)
}

fn report(index: u64, name: &str) {
    let mut out = std::io::stdout().lock();
    // One write, so that no line is cut in two by the kill.
    out.write_all(format!("committed {index} {name}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn start_child(directory: &Path) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_proposes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn parse(line: &str) -> Option<(u64, String)> {
    let (index, name) = line.strip_prefix("committed ")?.split_once(' ')?;
    Some((index.parse().ok()?, name.to_owned()))
}

#[test]
fn what_a_killed_process_reported_as_committed_is_in_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let mut committed: Vec<(u64, String)> = Vec::new();
    for round in 1..=5 {
        let mut child = start_child(&path);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = committed.len();
        while committed.len() < before + 37 * round {
            let line = lines.next().expect("the child ended by itself").unwrap();
            committed.extend(parse(&line));
        }
        assert!(matches!(DataDir::open(&path, "a"), Err(DataDirError::InUse(_))));
        child.kill().unwrap();
        // What was in the pipe was reported too.
        committed.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
        child.wait().unwrap();

        let data = DataDir::open(&path, "a").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (log, worker) = start(&data.log_path()).await;
            log.recovered(DEADLINE).await.unwrap();
            for (index, name) in &committed {
                assert!(log.state().index() >= *index);
                assert!(log.state().symbol_id(name).is_some(), "{name} of entry {index} is lost");
            }
            log.stop().await;
            // It holds the file until it ends, and the next child wants the file.
            worker.join().unwrap();
        });
    }
}
