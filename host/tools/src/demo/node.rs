//! One node of the demo: a child process, signalled by its id and never left behind.

use core::time::Duration;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::time::timeout;

use crate::failure::Failure;

/// Time for a node to stop after its standard input ended.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// What a failed child said last, as far as it is repeated.
const LAST_WORDS_BYTES: u64 = 8 << 10;
const LAST_WORDS_LINES: usize = 15;

/// A node of the demo.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// Empty until it serves.
    pub(super) address: String,
    pub(super) child: Child,
    pub(super) log: PathBuf,
    /// The demo ends it, or has ended it: its end is no accident.
    pub(super) is_doomed: bool,
}

impl Node {
    /// How it ended, if it has.
    pub(super) fn exit(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let doing = format!("demo: cannot signal {}", self.name);
        // As long as nobody has waited for the child, the id is its own.
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| Failure::failed(&doing, "it has ended already"))?;
        kill_process(pid, signal).map_err(|error| Failure::failed(&doing, error))
    }

    /// The state of its process as one letter, as the kernel has it: `T` when it stands still.
    pub(super) fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // The name stands in brackets and may hold anything; the state follows it.
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    }

    /// How it ended although nobody asked it to.
    pub(super) fn ended(&self, status: Option<std::io::Result<ExitStatus>>) -> Failure {
        let how = match status {
            Some(Ok(status)) => format!("died: {status}"),
            Some(Err(error)) => format!("cannot be watched: {error}"),
            None => "closed its output, but goes on".to_owned(),
        };
        Failure::Failed(format!("demo: {} {how}{}", self.name, last_words(&self.log)))
    }

    /// Ends its input, waits, and kills it if that does not help.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        if self.is_doomed {
            // It may stand still, and then would not see the end of its input.
            let killed = self.child.kill().await;
            return killed.map_err(|error| Failure::failed("demo: cannot kill a node", error));
        }
        drop(self.child.stdin.take());
        let late = match timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(status) => return Err(self.ended(Some(status))),
            Err(_) => format!("{} did not stop in {} s", self.name, STOP_WITHIN.as_secs()),
        };
        let killed = self.child.kill().await;
        let killed = killed.map_or_else(|error| format!("and cannot be: {error}"), |()| "".into());
        Err(Failure::Failed(format!(
            "demo: {late} and was killed{killed}{}",
            last_words(&self.log)
        )))
    }
}

/// The last lines of a log, indented, behind a line of their own; nothing when there are none.
pub(super) fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(LAST_WORDS_LINES).collect();
    if lines.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = lines.iter().rev().map(|line| format!("  {line}")).collect();
    format!("\nits last words:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_words_of_a_node_are_its_last_lines_whatever_the_length() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(last_words(log.path()), "");
        for line in 0..10_000 {
            writeln!(log, "line {line}").unwrap();
        }
        let words = last_words(log.path());
        assert_eq!(words.lines().count(), 2 + LAST_WORDS_LINES);
        assert!(words.ends_with("\n  line 9998\n  line 9999"), "{words}");
        assert_eq!(last_words(Path::new("/nowhere/at/all")), "");
    }
}
