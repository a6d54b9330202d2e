//! TCP, RDMA or shared memory between processes, through UCX.
//!
//! A region is local memory that lines are staged in, and a *channel* to its reader, whose memory
//! mirrors it. The reader allocates that, so the writer learns of it from the reader's *reply*: the
//! writer's ticket says how to send it one. Until it is there, what is written waits in the region.
//! Where the reader is on this machine and UCX may share memory at both ends (System V segments,
//! see `segment`) lines are copied and words stored there, as in [`crate::shm`]. Everywhere else
//! they go by message (`ucp_am_send_nbx`), which the reader's worker checks and puts where it
//! belongs; see `arrivals` for why not by `ucp_put_nbx`.
//!
//! What happens when...
//! * *UCX is not installed*: [`Ucx::open`] says what to install. Nothing of it is linked.
//! * *the peer is killed*: its endpoint fails, and [`Remote::is_left`] says so; with shared memory
//!   alone (`UCX_TLS=shm`) nobody notices. What is mapped goes on to take lines that nobody reads.
//!   Either way what counts is what the peer writes back, and a failure detector decides.
//! * *the peer's process is stopped*: over TCP some megabytes go under way; then messages wait
//!   here, slots gathered, until a failure detector decides. If one of a lane that is over has
//!   waited for half a minute, the endpoint is closed with all that is under way.
//! * *the process ends*: see `gate`.
//! * *one end is let go*: it says so to the other, whose [`Region::is_left`] or [`Remote::is_left`]
//!   tells, also when it was gone before the reply came; unless there is no way to say so, for
//!   which whoever waits for a lane to open has a limit. Messages for a region that is gone are
//!   dropped.
//!
//! Progress happens in [`Transport::progress`] alone: over TCP neither side gets anything without.

mod arrivals;
mod channel;
mod context;
mod gate;
#[cfg(any(test, feature = "fuzz"))]
mod inbox;
mod library;
mod peers;
mod segment;
mod sys;
mod ticket;
mod worker;

pub use context::UcxOptions;
pub use library::{LIBRARY, UcxError};

/// What comes from peers, for fuzz targets.
#[cfg(feature = "fuzz")]
pub mod decoders {
    pub use super::arrivals::{Arrivals, Head, Word};
    pub use super::inbox::Inbox;
    pub use super::ticket::Ticket;
}

use crate::lines::SharedLine;
use crate::transport::{Line, Region, Remote, Transport, TransportError, checked_bytes};
use arrivals::{Lines, Word};
use channel::{Op, Staging};
use context::{Context, Memory};
use core::ops::Range;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use ticket::Ticket;
use worker::{Outgoing, Worker};

/// Word of a line behind the region's own: the region is there.
const LIVE: usize = 0;
/// Word of that line: its writer is done.
const BYE: usize = 1;
/// Word of that line: the region's number, in memory that others may map.
const NUMBER: usize = 2;

/// The transport over UCX: one worker. Clones share it; each thread that sends has its own. Any
/// thread may use it.
#[derive(Clone)]
pub struct Ucx {
    worker: Arc<Worker>,
}

impl Ucx {
    /// A worker of the process's UCX, which is opened with the first one, and stays. `UCX_*`
    /// variables of the environment apply.
    ///
    /// # Errors
    /// What is missing, in words for who installs it; or it was opened with other options before.
    pub fn open(options: &UcxOptions) -> Result<Self, UcxError> {
        let context = Context::get(options)?;
        let worker = Worker::open(context).map_err(|error| match error {
            TransportError::Ucx { call, reason } => UcxError::Call { call, reason },
            other => UcxError::Call { call: "ucp_worker_create", reason: other.to_string() },
        })?;
        Ok(Self { worker: Arc::new(worker) })
    }

    /// Transports of its endpoints, such as `sysv`, `tcp` or `rc_mlx5`, some twice, as they were
    /// when each was made.
    pub fn lanes(&self) -> Vec<String> {
        self.worker.lanes()
    }

    /// Regions of peers that it writes through memory that is mapped here, and by message.
    pub fn ways(&self) -> (usize, usize) {
        self.worker.ways()
    }
}

/// What is to be known of UCX in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UcxReport {
    /// Its version.
    pub version: String,
    /// Whether it has written over `mmap` and its like to see memory go away, as it does when it is
    /// loaded unless `UCX_MEM_EVENTS=n` is set.
    pub is_hooked: bool,
    /// Network devices that it may use; `None` is all of them.
    pub devices: Option<String>,
    /// The variables that it was given, `UCX_NAME=value`.
    pub variables: Vec<String>,
}

/// What is to be known of UCX in this process; nothing before [`Ucx::open`].
pub fn report() -> Option<UcxReport> {
    let context = Context::opened()?;
    let name = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.to_string_lossy().into_owned();
        name.starts_with("UCX_").then(|| format!("{name}={}", value.to_string_lossy()))
    };
    let mut variables: Vec<String> = std::env::vars_os().filter_map(name).collect();
    variables.sort();
    let version = context.ucp.version.clone();
    let said = std::env::var("UCX_NET_DEVICES").ok();
    let devices = said.or_else(|| context.options.devices.clone());
    Some(UcxReport { version, is_hooked: context.ucp.is_hooked(), devices, variables })
}

/// What the reader of a region needs: some hundred bytes, to be carried as they are.
#[derive(Clone, Debug)]
pub struct UcxTicket(pub Vec<u8>);

/// Lines that this process writes. `Send`, one writer.
pub struct UcxRegion {
    worker: Arc<Worker>,
    staging: Staging,
    state: State,
    number: u64,
    /// Its reader said that it is gone.
    is_gone: Arc<AtomicBool>,
}

enum State {
    /// For the reader's reply. Lines in the range were put or stored.
    Waiting {
        written: Range<usize>,
    },
    Open(Outgoing),
    /// The reader cannot be reached; nothing arrives any more.
    Left,
}

/// Lines that a peer writes into memory of this process. `Send`.
pub struct UcxRemote {
    worker: Arc<Worker>,
    /// The region's, and one more.
    lines: Arc<Lines>,
    count: usize,
    number: u64,
    is_live: Cell<bool>,
    is_broken: Arc<AtomicBool>,
    /// Carried the reply; as long as it is there, so is the endpoint.
    reply: Outgoing,
}

impl Transport for Ucx {
    // Word of it would wake the peer's worker, and that one's this one.
    const WAKES: bool = false;
    type Region = UcxRegion;
    type Remote = UcxRemote;
    type Ticket = UcxTicket;

    fn register(&self, lines: usize) -> Result<(UcxRegion, UcxTicket), TransportError> {
        checked_bytes(lines)?;
        let worker = Arc::clone(&self.worker);
        let is_gone = Arc::default();
        let number = worker.arrivals.expect_reply(&is_gone)?;
        // From here on nobody waits for it any more when the region is dropped.
        let (staging, state) = (channel::staging(lines), State::Waiting { written: 0..0 });
        let region = UcxRegion { worker, staging, state, number, is_gone };
        let ticket = self.ticket(number, lines, None)?;
        Ok((region, UcxTicket(ticket)))
    }

    fn connect(&self, ticket: UcxTicket, lines: usize) -> Result<UcxRemote, TransportError> {
        checked_bytes(lines)?;
        let ticket = Ticket::decode(&ticket.0)?;
        if ticket.lines != lines as u64 {
            let bytes = |lines: u64| lines.saturating_mul(size_of::<Line>() as u64);
            let (expected, found) = (bytes(lines as u64), bytes(ticket.lines));
            return Err(TransportError::WrongSize { expected, found });
        }
        let worker = Arc::clone(&self.worker);
        let memory = self.memory(&ticket, lines + 1)?;
        let is_broken = Arc::default();
        // Nothing but messages goes there, so nothing is mapped, whatever the ticket says.
        let writer = Ticket { segment: None, ..ticket };
        let reply = worker.open_channel(&writer, channel::staging(0))?;
        let number = worker.arrivals.expect_lines(&memory, &is_broken)?;
        memory[lines].store(NUMBER, number);
        let is_live = Cell::new(false);
        let count = lines;
        let remote = UcxRemote { worker, lines: memory, count, number, is_live, is_broken, reply };
        remote.reply.push(Op::Reply(self.ticket(number, lines, Some(&remote.lines))?));
        Ok(remote)
    }

    fn progress(&self) -> usize {
        let done = self.worker.progress();
        for reply in self.worker.arrivals.take_orphans() {
            self.turn_away(&reply);
        }
        done
    }
}

impl Ucx {
    /// Memory for a region: such as its writer can map, if that is on this machine.
    fn memory(&self, writer: &Ticket, lines: usize) -> Result<Arc<Lines>, TransportError> {
        let context = self.worker.context;
        if context.is_here(writer.place) {
            let memory = Memory::map(context, lines)?;
            if memory.segment.is_some() {
                return Ok(Arc::new(Lines::Mapped(memory)));
            }
            // Nobody can map it then, and UCX may have it of the heap, which it does not clear.
        }
        let lines = core::iter::repeat_with(SharedLine::default).take(lines).collect();
        Ok(Arc::new(Lines::Plain(lines)))
    }

    /// Tells a reader that its writer is gone, and was before it replied.
    fn turn_away(&self, reply: &[u8]) {
        let Ok(ticket) = Ticket::decode(reply) else { return };
        let line = ticket.lines as usize;
        // By message, which it checks.
        let ticket = Ticket { segment: None, ..ticket };
        if let Ok(outgoing) = self.worker.open_channel(&ticket, channel::staging(0)) {
            store(&outgoing, line, BYE, 1);
        }
    }

    /// A ticket for a region of ours: the one that we write, or one that we read into memory.
    fn ticket(
        &self,
        number: u64,
        lines: usize,
        memory: Option<&Lines>,
    ) -> Result<Vec<u8>, TransportError> {
        let mut ticket = Ticket {
            number,
            place: self.worker.context.place(),
            lines: lines as u64,
            segment: None,
            worker: self.worker.address.clone(),
        };
        if let Some(Lines::Mapped(memory)) = memory {
            ticket.segment = memory.segment;
        }
        ticket.encode()
    }
}

/// Hands staged lines to the peer.
#[inline]
fn hand_over(to: &Outgoing, staging: &Staging, lines: Range<usize>) {
    for line in lines.clone() {
        match to.direct(line) {
            Some(there) => there.write(&staging[line].read()),
            None => return to.push(Op::Put(lines)),
        }
    }
}

#[inline]
fn store(to: &Outgoing, line: usize, word: usize, value: u64) {
    match to.direct(line) {
        Some(there) => there.store(word, value),
        None => to.push(Op::Store(Word { line, word, value })),
    }
}

impl UcxRegion {
    /// Looks for the reply, and opens the way if it is there.
    #[cold]
    fn look(&mut self) {
        let State::Waiting { written } = &self.state else { return };
        let Some(reply) = self.worker.arrivals.take_reply(self.number) else { return };
        let (written, count) = (written.clone(), self.staging.len());
        let opened = Ticket::decode(&reply)
            .and_then(
                |it| if it.lines == count as u64 { Ok(it) } else { Err(TransportError::NoTicket) },
            )
            .and_then(|it| self.worker.open_channel(&it, Arc::clone(&self.staging)));
        self.state = match opened {
            Ok(outgoing) => {
                hand_over(&outgoing, &self.staging, written);
                store(&outgoing, count, LIVE, 1);
                State::Open(outgoing)
            }
            // It is gone, or cannot be reached from here, and then waits in vain.
            Err(_) => {
                self.worker.arrivals.turn_away(reply);
                State::Left
            }
        };
    }

    /// Notes that lines count, while the way is not open.
    fn note(&mut self, lines: Range<usize>) {
        if let State::Waiting { written } = &mut self.state {
            let is_first = written.start == written.end;
            let first = if is_first { lines.start } else { written.start.min(lines.start) };
            *written = first..written.end.max(lines.end);
        }
        self.look();
    }
}

impl Region for UcxRegion {
    #[inline(always)]
    fn lines(&self) -> usize {
        self.staging.len()
    }

    #[inline(always)]
    fn write(&mut self, line: usize, value: &Line) {
        self.staging[line].write(value);
    }

    #[inline]
    fn read(&self, line: usize) -> Line {
        self.staging[line].read()
    }

    #[inline]
    fn put(&mut self, lines: Range<usize>) {
        assert!(lines.start <= lines.end && lines.end <= self.lines());
        match &self.state {
            State::Open(outgoing) => hand_over(outgoing, &self.staging, lines),
            State::Waiting { .. } => self.note(lines),
            State::Left => {}
        }
    }

    #[inline]
    fn fence(&mut self) {
        // Every store comes after all before it.
    }

    #[inline]
    fn store(&mut self, line: usize, word: usize, value: u64) {
        assert!(line < self.lines() && word < 8);
        match &self.state {
            State::Open(outgoing) => store(outgoing, line, word, value),
            State::Waiting { .. } => {
                self.staging[line].store(word, value);
                self.note(line..line + 1);
            }
            State::Left => {}
        }
    }

    fn is_left(&self) -> bool {
        let is_left = match &self.state {
            State::Open(outgoing) => outgoing.is_left(),
            State::Waiting { .. } => false,
            State::Left => true,
        };
        is_left || self.is_gone.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn go_on(&mut self) {
        if matches!(self.state, State::Waiting { .. }) {
            self.look();
        }
    }
}

impl Drop for UcxRegion {
    fn drop(&mut self) {
        // Whoever has replied waits for this region to be done.
        self.look();
        if let State::Open(outgoing) = &self.state {
            store(outgoing, self.staging.len(), BYE, 1);
        }
        self.worker.arrivals.forget_reply(self.number);
    }
}

impl UcxRemote {
    #[inline(always)]
    fn line(&self, line: usize) -> Option<&SharedLine> {
        assert!(line < self.count);
        if !self.is_live.get() {
            // Zeroes, until all that was written before the way was open is there.
            self.is_live.set(self.lines[self.count].load(LIVE) != 0);
        }
        self.is_live.get().then(|| &self.lines[line])
    }
}

impl Remote for UcxRemote {
    #[inline]
    fn lines(&self) -> usize {
        self.count
    }

    #[inline]
    fn get(&self, line: usize) -> Line {
        self.line(line).map_or([0; 8], SharedLine::read)
    }

    #[inline]
    fn load(&self, line: usize, word: usize) -> u64 {
        self.line(line).map_or(0, |line| line.load(word))
    }

    fn is_left(&self) -> bool {
        self.reply.is_left()
            || self.is_broken.load(Ordering::Acquire)
            || self.lines[self.count].load(BYE) != 0
    }
}

impl Drop for UcxRemote {
    fn drop(&mut self) {
        self.worker.arrivals.forget_lines(self.number);
        self.reply.push(Op::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_whose_memory_cannot_be_attached_hears_of_it() {
        const ROUNDS: usize = 1_000_000;
        let open = || Ucx::open(&UcxOptions::default()).expect("UCX, for these tests");
        let (here, there) = (open(), open());
        let (mut region, ticket) = here.register(1).expect("a region");
        let remote = there.connect(ticket, 1).expect("its reader");
        assert!(matches!(*remote.lines, Lines::Mapped(_)), "memory may be shared here");
        // The segment's number is another region's by the time that the reply is there.
        remote.lines[1].store(NUMBER, !remote.number);
        let hears = |_| {
            here.progress();
            there.progress();
            region.go_on();
            std::thread::yield_now();
            region.is_left() && remote.is_left()
        };
        assert!((0..ROUNDS).any(hears));
        assert_eq!(here.ways(), (0, 0));
    }
}
