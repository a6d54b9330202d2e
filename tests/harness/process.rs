//! A child process with its output captured, signalled and ended by its id.

use super::{SOON, binary, eventually};
use core::time::Duration;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

/// What a process wrote to one of its outputs so far.
#[derive(Debug, Default)]
struct Captured {
    bytes: Vec<u8>,
    closed: bool,
}

type Output = Arc<Mutex<Captured>>;

/// A running process; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The arguments, for messages.
    label: String,
    stdout: Output,
    stderr: Output,
}

/// A process that has ended, and all that it wrote.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    label: String,
}

/// A command with `zepto-host` and these arguments.
pub fn zepto_host<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary::path());
    command.args(arguments);
    command
}

/// Runs `zepto-host` to its end.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, limit: Duration) -> Ended {
    Process::spawn(zepto_host(arguments)).wait(limit)
}

impl Process {
    /// Starts a command. Its standard input is a pipe that stays open as long as this lives.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        let arguments = command.get_args().map(|argument| argument.to_string_lossy());
        let label = arguments.collect::<Vec<_>>().join(" ");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // No colours, whatever the terminal of the one who runs the tests has.
        command.env("NO_COLOR", "1");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = capture(child.stdout.take().expect("a pipe"));
        let stderr = capture(child.stderr.take().expect("a pipe"));
        Self { child, label, stdout, stderr }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal. It cannot have been reaped, so the id is its own.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id().cast_signed()).expect("an id is not zero");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.label));
    }

    /// The pipe to its standard input, to be written to; its end is then the taker's.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("it was not taken before")
    }

    /// Closes the pipe to its standard input, as the end of its parent would.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Waits until its standard error says something.
    #[track_caller]
    pub fn wait_for(&self, words: &str, limit: Duration) {
        let what = format!("{} says {words:?}", self.label);
        let stderr = || self.stderr();
        if !stderr().contains(words) {
            // The last words are worth more than the time.
            let seen = super::now() + limit;
            while !stderr().contains(words) {
                assert!(super::now() < seen, "within {limit:?} not: {what}; but:\n{}", stderr());
                super::pause(super::LOOK_EVERY);
            }
        }
    }

    /// Waits for its end, and for whoever inherited its outputs.
    ///
    /// # Panics
    /// When it does not end, with what it wrote; when it panicked.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Ended {
        let until = super::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            let (label, stdout, stderr) = (&self.label, self.stdout(), self.stderr());
            assert!(
                super::now() < until,
                "not over after {limit:?}: {label}\nstdout: {stdout}\nstderr: {stderr}"
            );
            super::pause(super::LOOK_EVERY);
        };
        let left = format!("{}: nobody holds its outputs any more", self.label);
        let is_closed = |output: &Output| lock(output).closed.then_some(());
        eventually(&left, SOON, || is_closed(&self.stdout).and(is_closed(&self.stderr)));
        let (stdout, stderr) = (self.stdout(), self.stderr());
        assert!(!stderr.contains("panicked at"), "{} panicked:\n{stderr}", self.label);
        Ended { status, stdout, stderr, label: self.label.clone() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may end between the two; then there is nothing left to kill.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Ended {
    /// Checks the exit code, and shows everything if it is another.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        let Self { status, stdout, stderr, label } = &self;
        let matches = status.code() == Some(expected);
        assert!(
            matches,
            "{status}, expected code {expected}: {label}\nstdout: {stdout}\nstderr: {stderr}"
        );
        self
    }

    /// What a feed acknowledged, of the account that it prints.
    ///
    /// # Panics
    /// When the account does not add up, or the exit code says something else.
    #[track_caller]
    pub fn acknowledged(&self) -> u64 {
        let account = self.last_json();
        let number = |key: &str| account[key].as_u64().expect("a number");
        let refused = account["refused"].as_object().expect("an object");
        let refused: u64 = refused.values().filter_map(Value::as_u64).sum();
        let sum = number("acked") + refused + number("unknown") + number("not_sent");
        assert_eq!(sum, number("sent"), "every row has one fate: {account}");
        if sum > number("acked") {
            assert_ne!(self.status.code(), Some(0), "not all was acknowledged: {account}");
        }
        number("acked")
    }

    /// Checks that it was ended by a signal.
    #[track_caller]
    pub fn killed_by(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{}: {self:?}", self.label);
        self
    }

    /// Checks that its standard error has all of these words.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            let said = self.stderr.to_lowercase().contains(&word.to_lowercase());
            assert!(said, "{}: does not say {word:?}, but:\n{}", self.label, self.stderr);
        }
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        parse(&self.stdout).unwrap_or_else(|| panic!("{}: no JSON: {}", self.label, self.stdout))
    }

    /// The last line of standard output as a JSON value.
    #[track_caller]
    pub fn last_json(&self) -> Value {
        let last = self.stdout.trim_end().lines().last().unwrap_or_default();
        parse(last).unwrap_or_else(|| panic!("{}: no JSON at the end: {last}", self.label))
    }
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn lock(output: &Output) -> std::sync::MutexGuard<'_, Captured> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&lock(output).bytes).into_owned()
}

/// Reads to the end in a thread of its own, so that nobody ever waits for a full pipe.
fn capture(mut pipe: impl Read + Send + 'static) -> Output {
    let output = Output::default();
    let inside = Arc::clone(&output);
    let reader = Builder::new().name("output".into()).spawn(move || {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut part) {
            lock(&inside).bytes.extend_from_slice(&part[..length]);
        }
        lock(&inside).closed = true;
    });
    // It ends with the pipe.
    drop(reader.expect("a thread"));
    output
}
