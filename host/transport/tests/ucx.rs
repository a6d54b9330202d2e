//! The transport over UCX. A process has one UCX, set up by its environment when it is loaded, so
//! most tests here run in processes of their own: this program again, told what to do.
#![cfg(not(loom))]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use zepto_transport::conformance::Pair;
use zepto_transport::mailbox::lane;
use zepto_transport::ucx::{UcxOptions, UcxTicket, report};
use zepto_transport::{LaneSpec, Line, Receiver, Sender, Transport, Ucx};

fn ucx() -> Ucx {
    Ucx::open(&UcxOptions::default()).expect("UCX, for these tests")
}

/// Two workers of this process.
fn pair() -> Pair<Ucx> {
    Pair::new(ucx(), ucx(), || ())
}

// Over whatever UCX chooses; over each kind of lanes below.
zepto_transport::conformance!(suite, pair);

/// This program again.
fn again(arguments: &[&str], lanes: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(arguments).env("UCX_TLS", lanes).env("UCX_LOG_FILE", "stderr");
    command
}

#[track_caller]
fn passes(mut command: Command) {
    let ran = command.output().expect("runs");
    let text = String::from_utf8_lossy(&ran.stdout);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?}: {}\n{text}\n{said}", ran.status);
    assert!(text.contains("test result: ok. "), "{text}");
    assert!(!text.contains("ok. 0 passed"), "{command:?} ran nothing: {text}");
}

/// One of the tests that need a process of their own.
fn of_its_own(test: &str, lanes: &str) -> Command {
    again(&["--ignored", "--exact", &format!("alone::{test}"), "--nocapture"], lanes)
}

#[track_caller]
fn alone(test: &str, lanes: &str) {
    passes(of_its_own(test, lanes));
}

#[test]
fn the_suite_holds_over_shared_memory() {
    passes(again(&["suite::"], "shm"));
}

#[test]
fn the_suite_holds_over_tcp() {
    passes(again(&["suite::"], "tcp"));
}

#[test]
fn the_suite_holds_over_both() {
    passes(again(&["suite::"], "tcp,shm"));
}

#[test]
fn a_thousand_lanes_come_and_go_and_nothing_grows() {
    for lanes in ["shm", "tcp", "tcp,shm"] {
        alone("lanes_come_and_go", lanes);
    }
}

/// With shared memory alone UCX keeps two mappings for each peer: that is documented.
#[test]
fn peers_come_and_go_and_nothing_grows() {
    for lanes in ["tcp", "tcp,shm"] {
        alone("peers_come_and_go", lanes);
    }
}

#[test]
fn each_end_hears_that_the_other_was_let_go() {
    for lanes in ["shm", "tcp", "tcp,shm"] {
        alone("ends_are_let_go", lanes);
    }
}

#[test]
fn memory_is_mapped_whoever_connects_first() {
    alone("receiver_connects_first", "tcp,shm");
}

#[test]
fn writers_that_are_killed_harm_nobody() {
    for lanes in ["tcp", "tcp,shm"] {
        alone("writers_are_killed", lanes);
    }
}

#[test]
fn what_is_on_its_way_to_a_peer_that_is_stopped_goes_with_its_lane() {
    let mut command = of_its_own("writer_is_stopped", "tcp");
    command.env("UCX_TCP_SNDBUF", "64k").env("UCX_TCP_RCVBUF", "64k");
    passes(command);
}

#[test]
fn a_process_may_end_while_its_threads_are_in_ucx() {
    for lanes in ["shm", "tcp", "tcp,shm"] {
        for _ in 0..10 {
            let test = ["--ignored", "--exact", "alone::ends_in_the_midst", "--nocapture"];
            let ran = again(&test, lanes).output().expect("runs");
            let said = String::from_utf8_lossy(&ran.stderr);
            assert_eq!(ran.status.code(), Some(ENDED), "over {lanes}: {}\n{said}", ran.status);
        }
    }
}

#[test]
fn a_program_keeps_its_signal_handlers() {
    alone("signals_stay", "tcp,shm");
}

#[test]
fn a_program_hears_whether_its_mmap_was_written_over() {
    alone("mmap_changes", "tcp");
    let mut told = of_its_own("mmap_stays", "tcp");
    told.env("UCX_MEM_EVENTS", "n");
    passes(told);
}

#[test]
fn libraries_that_are_not_of_use_are_refused_by_name() {
    alone("odd_libraries", "tcp");
}

#[test]
fn lanes_that_nobody_has_are_one_clear_line() {
    alone("no_lanes", "nothing_like_it");
}

/// What a process says when it has ended as it wanted to.
const ENDED: i32 = 7;

fn spec(slots: u32) -> LaneSpec {
    LaneSpec { nonce: 7, slots }
}

fn pattern(index: u64) -> Line {
    std::array::from_fn(|word| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(word as u32))
}

/// Descriptors, resident pages, mappings and System V segments of this process.
fn footprint() -> [usize; 4] {
    let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let resident = text("/proc/self/statm").split(' ').nth(1).and_then(|it| it.parse().ok());
    let maps = text("/proc/self/maps");
    let segments = maps.lines().filter(|line| line.contains("/SYSV")).count();
    [entries("/proc/self/fd"), resident.unwrap_or(0), maps.lines().count(), segments]
}

/// Nothing of this process has grown since then.
#[track_caller]
fn assert_same(before: [usize; 4]) {
    let after = footprint();
    let [descriptors, resident, maps, segments] = after;
    assert!(descriptors <= before[0] + 2, "descriptors: {before:?} to {after:?}");
    assert!(resident <= before[1] + 512, "pages: {before:?} to {after:?}");
    assert!(maps <= before[2] + 16, "mappings: {before:?} to {after:?}");
    assert!(segments <= before[3], "segments: {before:?} to {after:?}");
}

/// One lane, ten slots there and back, and both ends are let go.
fn carry(here: &Ucx, there: &Ucx) {
    let (mut tx, mut rx) = lane(here, there, spec(64)).expect("a lane");
    for index in 0..10 {
        assert_eq!(tx.push(&pattern(index)), Ok(index));
    }
    assert!(!tx.publish());
    until("slots settle", || {
        here.progress();
        there.progress();
        let available = rx.poll().expect("a sound tail");
        rx.consume(available);
        rx.settle(rx.consumed());
        rx.publish();
        tx.poll().expect("sound credit").settled == 10
    });
    drop((tx, rx));
    for _ in 0..100 {
        here.progress();
        there.progress();
    }
}

mod alone {
    use super::*;

    #[test]
    #[ignore = "needs a process of its own"]
    fn lanes_come_and_go() {
        let (here, there) = (ucx(), ucx());
        (0..100).for_each(|_| carry(&here, &there));
        let before = footprint();
        (0..1_000).for_each(|_| carry(&here, &there));
        assert_same(before);
    }

    /// Each peer is a new one, as after a restart.
    #[test]
    #[ignore = "needs a process of its own"]
    fn peers_come_and_go() {
        let here = ucx();
        (0..100).for_each(|_| carry(&here, &ucx()));
        let before = footprint();
        (0..200).for_each(|_| carry(&here, &ucx()));
        assert_same(before);
    }

    #[test]
    #[ignore = "needs a process of its own"]
    fn ends_are_let_go() {
        let (here, there) = (ucx(), ucx());
        let open = || {
            let (mut tx, mut rx) = lane(&here, &there, spec(64)).expect("a lane");
            until("both ends are open", || {
                here.progress();
                there.progress();
                let (sender, receiver) = (tx.open(), rx.open());
                sender.expect("our credit") && receiver.expect("our slots")
            });
            assert!(!tx.is_left() && !rx.is_left());
            (tx, rx)
        };
        let progress = || here.progress() + there.progress();
        let (tx, rx) = open();
        drop(tx);
        until("the receiver hears of it", || progress() < usize::MAX && rx.is_left());
        let (tx, rx) = open();
        drop(rx);
        until("the sender hears of it", || progress() < usize::MAX && tx.is_left());
        // And when the sender was gone before the receiver's reply came.
        let (offer, ticket) = Sender::offer(&here, spec(64)).expect("an offer");
        let (rx, _credit) = Receiver::accept(&there, ticket, spec(64)).expect("a receiver");
        drop(offer);
        until("the receiver hears of it", || progress() < usize::MAX && rx.is_left());
    }

    /// UCX gives the sender the endpoint that it has made itself for who connected to it.
    #[test]
    #[ignore = "needs a process of its own"]
    fn receiver_connects_first() {
        let here = ucx();
        let meet = |_| {
            let there = ucx();
            let progress = || here.progress() + there.progress();
            let (offer, ticket) = Sender::offer(&here, spec(64)).expect("an offer");
            let (mut rx, credit) = Receiver::accept(&there, ticket, spec(64)).expect("a receiver");
            (0..20_000).for_each(|_| _ = progress());
            let mut tx = offer.complete(&here, credit).expect("a sender");
            until("both ends are open", || {
                progress();
                let (sender, receiver) = (tx.open(), rx.open());
                sender.expect("our credit") && receiver.expect("our slots")
            });
            assert_eq!((here.ways(), there.ways()), ((1, 0), (1, 0)));
            drop((tx, rx));
            (0..100).for_each(|_| _ = progress());
        };
        (0..20).for_each(meet);
        let before = footprint();
        (0..100).for_each(meet);
        assert_same(before);
    }

    #[test]
    #[ignore = "needs a process of its own"]
    fn writers_are_killed() {
        const KILLS: usize = 30;
        let here = ucx();
        let mut before = None;
        for round in 0..KILLS {
            let mut writer = Writer::start();
            let mut rx = writer.accept(&here);
            // Some in the first moment, some in the midst of a stream.
            take(&here, &mut rx, (round as u64 % 3) * 1_000);
            writer.kill();
            for _ in 0..1_000 {
                here.progress();
            }
            // What had arrived can still be taken, and is whole.
            let available = rx.poll().expect("a sound tail");
            check(&mut rx, available);
            drop(rx);
            here.progress();
            if round == 5 {
                before = Some(footprint()[0]);
            }
        }
        let (before, after) = (before.expect("rounds"), footprint()[0]);
        // UCX 1.13 leaves a descriptor behind for a peer that was killed while it connected.
        assert!(after <= before + KILLS / 3, "descriptors: {before} to {after}");
        // And others are served as ever.
        let mut writer = Writer::start();
        let mut rx = writer.accept(&here);
        take(&here, &mut rx, 200_000);
        writer.kill();
    }

    #[test]
    #[ignore = "needs a process of its own"]
    fn writer_is_stopped() {
        let here = ucx();
        let mut writer = Writer::start();
        let mut rx = writer.accept(&here);
        take(&here, &mut rx, 1_000);
        writer.stop();
        // More than fits on the way to it.
        for turn in 0..200_000 {
            rx.set_parked(turn % 2 == 0);
            here.progress();
        }
        drop(rx);
        assert_eq!(here.ways(), (0, 1), "it is waited for");
        let mut is_over = |_| {
            #[expect(
                clippy::disallowed_methods,
                reason = "it has half a minute, whatever a round is"
            )]
            std::thread::sleep(Duration::from_millis(1));
            here.progress();
            here.ways() == (0, 0)
        };
        assert!((0..60_000).any(&mut is_over), "it is not waited for without end");
        assert!(here.lanes().is_empty(), "nor is its endpoint kept");
        writer.kill();
    }

    /// The other process of the tests above.
    #[test]
    #[ignore = "started by another test"]
    fn writer() {
        let there = ucx();
        let (offer, ticket) = Sender::offer(&there, spec(1024)).expect("an offer");
        println!("ticket {}", hex(&ticket.0));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("an answer");
        let credit = UcxTicket(bytes(line.trim()));
        let mut tx = offer.complete(&there, credit).expect("a sender");
        loop {
            there.progress();
            while tx.push(&pattern(tx.head())).is_ok() {}
            assert!(!tx.publish());
            let settled = tx.poll().expect("sound credit").settled;
            tx.release(settled);
        }
    }

    #[test]
    #[ignore = "started by another test"]
    fn ends_in_the_midst() {
        /// Opens a lane between two new workers, and lets it be used and go.
        fn round() -> Result<(), Box<dyn std::error::Error>> {
            let options = UcxOptions::default();
            let (here, there) = (Ucx::open(&options)?, Ucx::open(&options)?);
            let (mut tx, mut rx) = lane(&here, &there, spec(64))?;
            for index in 0..50 {
                if tx.push(&pattern(index)).is_ok() && tx.publish() {
                    return Ok(());
                }
                here.progress();
                there.progress();
                rx.poll()?;
            }
            Ok(())
        }
        let rounds = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let rounds = Arc::clone(&rounds);
            let thread = std::thread::Builder::new().spawn(move || {
                while round().is_ok() {
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
            drop(thread.expect("a thread"));
        }
        let enough = 4 + std::process::id() as usize % 4;
        until("some lanes were used", || {
            std::thread::yield_now();
            rounds.load(Ordering::Relaxed) >= enough
        });
        std::process::exit(ENDED);
    }

    #[test]
    #[ignore = "needs a process of its own"]
    fn signals_stay() {
        extern "C" fn mine(_: libc::c_int) {}
        let signals = [libc::SIGHUP, libc::SIGILL, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV];
        let handler = mine as extern "C" fn(libc::c_int) as usize;
        let disposition = |signal, new: Option<usize>| {
            // SAFETY: zeroes are a valid sigaction.
            let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = new.unwrap_or_default();
            let wanted = if new.is_some() { &raw const action } else { std::ptr::null() };
            // SAFETY: the handler does nothing, and both are readable and writable.
            assert_eq!(unsafe { libc::sigaction(signal, wanted, &raw mut old) }, 0);
            old.sa_sigaction
        };
        for signal in signals {
            disposition(signal, Some(handler));
        }
        let _ucx = ucx();
        for signal in signals {
            assert_eq!(disposition(signal, None), handler, "signal {signal}");
        }
        let report = report().expect("it is open");
        assert!(report.variables.contains(&"UCX_TLS=tcp,shm".to_owned()), "{report:?}");
        assert!(report.version.starts_with("1."), "{report:?}");
    }

    #[test]
    #[ignore = "needs a process of its own"]
    fn mmap_changes() {
        let _ucx = ucx();
        let report = report().expect("it is open");
        assert!(report.is_hooked, "nobody told it not to: {report:?}");
    }

    #[test]
    #[ignore = "needs a process of its own"]
    fn mmap_stays() {
        let _ucx = ucx();
        let report = report().expect("it is open");
        assert!(!report.is_hooked, "{report:?}");
    }

    #[test]
    #[ignore = "needs a process of its own"]
    fn odd_libraries() {
        let dir = std::env::temp_dir().join(format!("zepto-ucx-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory");
        let old = library(&dir, "old", 1, 11);
        let new = library(&dir, "new", 2, 0);
        let poor = library(&dir, "poor", 1, 12);
        let error = |path: &Path| {
            let library = path.to_string_lossy().into_owned();
            let opened = Ucx::open(&UcxOptions { library, ..UcxOptions::default() });
            opened.err().expect("it is of no use").to_string()
        };
        assert!(error(&old).contains("is UCX 1.11.0; zepto needs 1.12"), "{}", error(&old));
        assert!(error(&new).contains("is UCX 2.0.0"), "{}", error(&new));
        assert!(error(&poor).contains("has no ucp_config_read"), "{}", error(&poor));
        let missing = error(&dir.join("missing.so"));
        assert!(missing.contains("libucx0"), "{missing}");
        std::fs::remove_dir_all(&dir).expect("it is removed");
        // After all of that the right one still opens, and is the process's.
        ucx();
        let devices = Some("lo".to_owned());
        let other = Ucx::open(&UcxOptions { devices, ..UcxOptions::default() });
        let error = other.err().expect("it is set up").to_string();
        assert!(error.contains("this process uses UCX already"), "{error}");
    }

    #[test]
    #[ignore = "needs a process of its own"]
    fn no_lanes() {
        let error = Ucx::open(&UcxOptions::default()).err().expect("no such lanes").to_string();
        assert!(error.contains("UCX_TLS") && !error.contains('\n'), "{error}");
    }
}

/// A library that says that it is UCX of a version, and has nothing else.
fn library(dir: &Path, name: &str, major: u32, minor: u32) -> PathBuf {
    let (source, path) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    let text = format!(
        "void ucp_get_version(unsigned *a, unsigned *b, unsigned *c) {{ *a = {major}; *b = {minor}; \
         *c = 0; }}\n"
    );
    std::fs::write(&source, text).expect("it is written");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&path).arg(&source).status();
    assert!(built.expect("a C compiler").success());
    path
}

fn until(what: &str, mut is_done: impl FnMut() -> bool) {
    for _ in 0..50_000_000 {
        if is_done() {
            return;
        }
    }
    panic!("waited in vain until {what}");
}

fn check(rx: &mut Receiver<Ucx>, count: u64) {
    for index in rx.consumed()..rx.consumed() + count {
        assert_eq!(rx.slot(index), pattern(index), "slot {index}");
    }
    rx.consume(count);
    rx.settle(rx.consumed());
    rx.publish();
}

/// Takes and checks so many slots at least.
fn take(here: &Ucx, rx: &mut Receiver<Ucx>, count: u64) {
    until("slots arrive", || {
        here.progress();
        let available = rx.poll().expect("a sound tail");
        check(rx, available);
        rx.consumed() >= count
    });
}

/// A process that streams slots until it is killed.
struct Writer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Writer {
    fn start() -> Self {
        let this = std::env::current_exe().expect("this program");
        let mut command = Command::new(this);
        command.args(["--ignored", "--exact", "alone::writer", "--nocapture"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a second process");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, stdin, stdout }
    }

    /// Lets it send to us.
    fn accept(&mut self, here: &Ucx) -> Receiver<Ucx> {
        let mut line = String::new();
        while !line.contains("ticket ") {
            line.clear();
            assert!(self.stdout.read_line(&mut line).expect("a line") > 0, "the writer ended");
        }
        let (_, ticket) = line.split_once("ticket ").expect("a ticket");
        let ticket = UcxTicket(bytes(ticket.trim()));
        let (rx, credit) = Receiver::accept(here, ticket, spec(1024)).expect("a receiver");
        writeln!(self.stdin, "{}", hex(&credit.0)).expect("it listens");
        rx
    }

    /// It runs no more, and takes nothing.
    fn stop(&self) {
        // SAFETY: a system call about a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGSTOP) }, 0);
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Only if a test failed is it still there.
        self.child.kill().ok();
        self.child.wait().ok();
        remove_segments_of(self.child.id());
    }
}

/// A process that is killed between making a segment and attaching it leaves it behind.
fn remove_segments_of(process: u32) {
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").expect("the system's segments");
    for line in segments.lines().skip(1) {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|it| it.parse().ok()).collect();
        // Key, number, permissions, bytes, creator, last user, attachments.
        let [_, number, _, _, creator, _, attachments, ..] = fields[..] else { continue };
        if creator == u64::from(process) && attachments == 0 {
            let none = std::ptr::null_mut();
            // SAFETY: a system call about a segment that nobody has, of a process that is gone.
            let removed = unsafe { libc::shmctl(number as libc::c_int, libc::IPC_RMID, none) };
            assert_eq!(removed, 0, "segment {number}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}
