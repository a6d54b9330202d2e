//! A feed that does not end before it is told to, so that whatever happens, happens in its midst.

use super::process::{Ended, Process, zepto_host};
use super::{Host, LONG, SOON, data, eventually};
use rustix::process::Signal;
use std::io::Write;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// Rows of one write.
const ROWS: u64 = 500;

/// `zepto-host feed -` with rows for ever on its standard input.
#[derive(Debug)]
pub struct Feeder {
    /// The process.
    pub process: Process,
    enough: Arc<AtomicBool>,
    writer: JoinHandle<u64>,
}

impl Feeder {
    /// Starts to feed, and waits until `node` has stored some of it.
    #[track_caller]
    pub fn start(node: &Host) -> Self {
        let mut process =
            Process::spawn(zepto_host(["feed", "-", "--to", &node.address, "--json"]));
        let input = process.take_stdin();
        let enough = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&enough);
        let writer = Builder::new().name("feeder".into()).spawn(move || write(input, &until));
        let feeder = Self { process, enough, writer: writer.expect("a thread") };
        eventually("the feed has begun", SOON, || {
            let rows = node.status()["store"]["rows"].as_u64().expect("a number");
            (rows > 0).then_some(())
        });
        feeder
    }

    /// Ends the feed's input and waits for its account; with the number of rows it was given.
    #[track_caller]
    pub fn finish(self) -> (Ended, u64) {
        self.enough.store(true, Ordering::Release);
        let ended = self.process.wait(LONG);
        (ended, self.writer.join().expect("it only writes"))
    }

    /// Sends a signal and waits for the account, while the input goes on.
    #[track_caller]
    pub fn interrupt(self, signal: Signal) -> Ended {
        self.process.signal(signal);
        let ended = self.process.wait(LONG);
        self.writer.join().expect("it only writes, until nobody reads");
        ended
    }
}

/// Writes whole rows until it is enough or nobody reads; the number of rows written.
fn write(mut input: ChildStdin, enough: &AtomicBool) -> u64 {
    let mut written = 0;
    let mut text = data::HEADER.to_owned();
    while !enough.load(Ordering::Acquire) {
        let rows = written..written + ROWS;
        text.extend(rows.map(|row| format!("{},S{},trade,{},2\n", row + 1, row % 50, row + 1)));
        if input.write_all(text.as_bytes()).is_err() {
            break;
        }
        text.clear();
        written += ROWS;
    }
    written
}
