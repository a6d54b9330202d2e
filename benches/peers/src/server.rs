//! Server processes on this machine, and the promise that none outlives the bench.
//!
//! Each is started through this same program, which asks the kernel to be killed with its parent
//! and then becomes the server; and whoever drops a server kills it, by its id. Each has a process
//! group of its own, so that a Ctrl-C reaches the bench alone, and writes to a log whose end is
//! repeated when it dies unasked.

use crate::failure::{Failure, Result, While as _, fail};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a server said last, as far as it is repeated.
const LAST_WORDS_BYTES: u64 = 2 << 10;
/// Between two looks at something that is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where programs are that an ordinary user's PATH does not name.
const MORE_PATHS: [&str; 3] = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];

/// A running server. Start it from a thread that outlives it: the kernel kills it with the thread.
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a program whose error output, and output unless it is piped, goes to `DIR/NAME.log`.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        dir: &Path,
        output: Output,
    ) -> Result<Self> {
        let doing = format!("starting {name}");
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).doing(&doing)?;
        let mut command = Command::new(std::env::current_exe().doing(&doing)?);
        command.arg("exec").arg(program).args(arguments);
        command.stdin(Stdio::null()).process_group(0).current_dir(dir);
        match output {
            Output::Log => command.stdout(file.try_clone().doing(&doing)?),
            Output::Pipe => command.stdout(Stdio::piped()),
        };
        let child = command.stderr(file).spawn().doing(&doing)?;
        Ok(Self { name: name.into(), child, log })
    }

    /// Its output, if it is piped and was not taken yet.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Fails when it has ended, with its last words.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                fail(format!("{} ended: {status}{}", self.name, last_words(&self.log)))
            }
            Err(error) => fail(format!("{} cannot be watched: {error}", self.name)),
        }
    }

    /// Waits until it accepts connections.
    pub fn wait_for_port(&mut self, port: u16, within: Duration) -> Result<()> {
        let what = format!("{} listening on port {port}", self.name);
        wait_until(&what, within, || {
            self.check()?;
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().doing(&self.name)?;
        self.child.wait().doing(&self.name)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and then has been waited for.
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Where a server's output goes.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    /// To its log.
    Log,
    /// To [`Server::output`].
    Pipe,
}

/// Becomes the server. Comes back only if that fails.
pub fn become_it(command: &[OsString]) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return Failure("there is no program to become".into());
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("this server may outlive its parent: {error}");
    }
    let error = Command::new(program).args(arguments).exec();
    Failure(format!("{}: {error}", program.display()))
}

/// A program of the system.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(MORE_PATHS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// What a program says about its version.
pub fn version(program: &Path) -> String {
    let said = Command::new(program).arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    said.unwrap_or_default().lines().next().unwrap_or("unknown version").trim().to_owned()
}

/// Ports that are free now. All are held until the last is known, so they differ.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).doing("a free port")?;
        *port = listener.local_addr().doing("a free port")?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A directory for servers, removed when dropped.
pub fn directory() -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("zepto-peers-").tempdir();
    made.doing("a temporary directory")
}

/// Looks until something holds.
pub fn wait_until(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let until = Instant::now() + within;
    while !holds()? {
        crate::failure::go_on()?;
        if Instant::now() > until {
            return fail(format!("{what}: not within {} s", within.as_secs()));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// The end of a log, behind a line of its own; nothing when there is none.
pub fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let length = fs::metadata(log)?.len();
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => format!("\nits last words:\n{text}"),
        _ => String::new(),
    }
}
