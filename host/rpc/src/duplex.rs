//! The one task of a connection: reads, writes, pings and time-outs, the same on both sides.
//!
//! The task owns the socket; nobody else reads, writes or closes it. Each turn takes what the
//! kernel has, hands whole frames to the [`Role`], lets the tasks that were woken by them run
//! once, and then writes everything they queued with one vectored write: under load the frames of
//! a whole turn share two system calls. Where the session is secure the same bytes travel in sealed
//! records, still with one write. Nothing here knows what a request is.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::batch::Batch;
use crate::close::CloseReason;
use crate::config::Config;
use crate::counters::Traffic;
use crate::frame::{
    Frame, FrameReader, Kind, PayloadBudget, Progress, encode_frame, encode_reason,
};
use crate::outbox::{OutFrame, Outbox};
use crate::secure::SecureError;
use crate::wire::Wire;

/// First size of the read buffer; it grows for a peer that fills it.
const READ_BYTES_MIN: usize = 16 << 10;
/// Last size of the read buffer.
const READ_BYTES_MAX: usize = 256 << 10;
/// Longest time between two pings, so that a busy connection has its round trip measured too.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// Reads in a row before a commit, to find what the peer said last.
const LAST_LOOKS: usize = 4;

/// What one side of a connection does with frames.
pub(crate) trait Role: PayloadBudget + Send {
    /// Look at the socket once more before a frame is committed to an idle connection.
    const LOOKS_BEFORE_COMMIT: bool;
    /// Stop reading while the outbox is crowded. Only one side may, or both could wait for ever.
    const MAY_PAUSE: bool;

    /// Takes a whole frame; an error closes the connection. Pings never come here.
    fn frame(&mut self, frame: Frame, now: Instant) -> Result<(), CloseReason>;

    /// A queued frame is about to be written. False withdraws it.
    fn commit(&mut self, frame: &mut OutFrame, now: Instant) -> bool;

    /// Called in every turn, for what changed outside. A reason ends the connection as soon as
    /// everything queued is written.
    fn turn(&mut self) -> Option<CloseReason>;

    /// True when no answer is outstanding.
    fn is_idle(&self) -> bool;

    /// The last request that was accepted, for a GOAWAY.
    fn last_accepted(&self) -> u64;

    /// Where the connection's bytes and round trips are counted.
    fn traffic(&self) -> &Traffic;

    /// The reason as this side would put it.
    fn explain(&self, reason: CloseReason) -> CloseReason;

    /// The connection is over; nobody has been told yet.
    fn closing(&mut self, _: &CloseReason) {}

    /// The connection is over. `first_unsent` and all later calls did not reach the kernel in
    /// full; `queued` was never committed. Called once.
    fn ended(&mut self, reason: &CloseReason, first_unsent: Option<u64>, queued: Vec<OutFrame>);
}

pub(crate) struct Duplex<R> {
    wire: Wire,
    outbox: Arc<Outbox>,
    role: R,
    config: Arc<Config>,
    reader: FrameReader,
    buffer: Vec<u8>,
    /// What the record that was opened last says.
    plain: Vec<u8>,
    batch: Batch,
    taken: Vec<OutFrame>,
    now: Instant,
    last_received: Instant,
    last_sent: Instant,
    last_ping: Instant,
    /// When the kernel last took a part of the batch, or the batch was made.
    writing_since: Instant,
    /// How far the frame that is being received is, and since when.
    incoming: (Progress, Instant),
    ping_due: bool,
    /// Pings so far, and the last one if its answer is awaited.
    pings: u64,
    ping: Option<(u64, Instant)>,
    pong_due: Option<u64>,
    paused: bool,
    ending: Option<CloseReason>,
    timer: Pin<Box<Sleep>>,
}

/// What happened while the task waited.
#[derive(Default)]
struct Turn {
    read: Option<io::Result<usize>>,
    wrote: Option<io::Result<usize>>,
    work: bool,
    timer: bool,
}

impl<R: Role> Duplex<R> {
    /// A connection whose hand-shake is over. `reader` may have begun a frame.
    pub(crate) fn new(
        wire: Wire,
        reader: FrameReader,
        outbox: Arc<Outbox>,
        role: R,
        config: Arc<Config>,
    ) -> Duplex<R> {
        let now = Instant::now();
        Duplex {
            wire,
            outbox,
            role,
            reader,
            buffer: vec![0; READ_BYTES_MIN],
            plain: Vec::new(),
            batch: Batch::default(),
            taken: Vec::new(),
            now,
            last_received: now,
            last_sent: now,
            last_ping: now,
            writing_since: now,
            incoming: (Progress::Between, now),
            ping_due: false,
            pings: 0,
            ping: None,
            pong_due: None,
            paused: false,
            ending: None,
            timer: Box::pin(tokio::time::sleep_until(now + config.ping_after)),
            config,
        }
    }

    /// Runs until the connection is over.
    pub(crate) async fn run(mut self) {
        let early = self.wire.take_rest();
        let reason = match self.arrived(&early) {
            Ok(()) => loop {
                if let Err(reason) = self.turn().await {
                    break reason;
                }
            },
            Err(reason) => reason,
        };
        let reason = self.role.explain(reason);
        let whole = self.batch.is_empty();
        self.role.closing(&reason);
        let queued = self.outbox.close(reason.clone());
        self.role.ended(&reason, self.batch.first_unsent_call(), queued);
        self.batch.clear();
        tracing::debug!(%reason, "connection ended");
        self.part_from_peer(&reason, whole).await;
    }

    async fn turn(&mut self) -> Result<(), CloseReason> {
        self.pause_or_resume();
        let turn = poll_fn(|cx| self.poll_turn(cx)).await;
        self.now = Instant::now();
        if let Some(result) = turn.wrote {
            self.wrote(result)?;
        }
        let active = turn.work || turn.read.is_some();
        if let Some(result) = turn.read {
            self.read(result)?;
        }
        if turn.timer {
            self.check_time()?;
        }
        if let Some(reason) = self.role.turn() {
            self.outbox.finish();
            self.ending = Some(reason);
        }
        if self.batch.is_empty() {
            if active {
                // Those whom this turn woke run first, so that one write takes what they queue.
                tokio::task::yield_now().await;
            }
            self.fill_batch()?;
            if self.batch.is_empty() && self.outbox.is_finishing() && self.outbox.is_empty() {
                return Err(self.ending.take().unwrap_or(CloseReason::Finished));
            }
        }
        self.arm_timer();
        Ok(())
    }

    fn pause_or_resume(&mut self) {
        let paused = R::MAY_PAUSE && self.outbox.is_crowded();
        if self.paused && !paused {
            // The silence was ours: the peer's time counts from here.
            self.last_received = self.now;
            self.incoming.1 = self.now;
        }
        self.paused = paused;
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut turn = Turn::default();
        if self.batch.is_empty() {
            let own = self.ping_due || self.pong_due.is_some();
            turn.work = own || self.outbox.poll_work(cx).is_ready();
        } else {
            if let Poll::Ready(result) = self.wire.poll_write(cx, &self.batch) {
                turn.wrote = Some(result);
            }
        }
        if !self.paused {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            let stream = Pin::new(&mut self.wire.stream);
            if let Poll::Ready(result) = stream.poll_read(cx, &mut buffer) {
                turn.read = Some(result.map(|()| buffer.filled().len()));
            }
        }
        turn.timer = self.timer.as_mut().poll(cx).is_ready();
        let idle = turn.read.is_none() && turn.wrote.is_none() && !turn.work && !turn.timer;
        if idle { Poll::Pending } else { Poll::Ready(turn) }
    }

    fn wrote(&mut self, result: io::Result<usize>) -> Result<(), CloseReason> {
        let bytes = result.map_err(|error| CloseReason::io(&error))?;
        self.role.traffic().sent(bytes);
        self.last_sent = self.now;
        self.writing_since = self.now;
        if self.batch.advance(self.wire.wrote(bytes)) {
            let (bytes, frames) = self.batch.charged();
            self.batch.clear();
            self.outbox.release(bytes, frames);
        }
        Ok(())
    }

    fn read(&mut self, result: io::Result<usize>) -> Result<(), CloseReason> {
        let bytes = result.map_err(|error| CloseReason::io(&error))?;
        if bytes == 0 {
            return Err(match self.progress() {
                Progress::Between => CloseReason::PeerClosed,
                Progress::Header | Progress::Payload => CloseReason::Truncated,
            });
        }
        self.role.traffic().received(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.arrived(&buffer[..bytes]);
        self.buffer = buffer;
        if bytes == self.buffer.len() && bytes < READ_BYTES_MAX {
            self.buffer.resize(bytes * 4, 0);
        }
        result
    }

    /// Takes bytes as they came from the socket.
    fn arrived(&mut self, mut raw: &[u8]) -> Result<(), CloseReason> {
        self.last_received = self.now;
        if !self.wire.is_secure() {
            return self.received(raw);
        }
        let mut plain = std::mem::take(&mut self.plain);
        let mut result = Ok(());
        while result.is_ok() {
            result = match self.wire.open(&mut raw, &mut plain) {
                Ok(true) => self.received(&plain),
                Ok(false) => break,
                Err(error) => Err(self.did_not_open(error)),
            };
        }
        self.plain = plain;
        self.note_progress(false);
        result
    }

    fn did_not_open(&self, error: SecureError) -> CloseReason {
        if let Some(secret) = &self.config.secret {
            secret.counters().refused_record.one();
        }
        CloseReason::Secure(error)
    }

    fn received(&mut self, mut input: &[u8]) -> Result<(), CloseReason> {
        let mut whole = false;
        while let Some(frame) = self.reader.read(&mut input, &mut self.role)? {
            whole = true;
            match frame.header.kind {
                Kind::Ping => self.pong_due = Some(frame.header.id),
                Kind::Pong => self.pong(frame.header.id),
                _ => self.role.frame(frame, self.now)?,
            }
        }
        self.note_progress(whole);
        Ok(())
    }

    fn note_progress(&mut self, whole: bool) {
        let progress = self.progress();
        if whole || progress != self.incoming.0 {
            self.incoming = (progress, self.now);
        }
    }

    /// How far the frame that is being received is. A part of a record is a part of a payload,
    /// whatever it will turn out to be.
    fn progress(&self) -> Progress {
        if self.wire.has_partial() { Progress::Payload } else { self.reader.progress() }
    }

    /// A late answer to an earlier ping is a sign of life, but no measure.
    fn pong(&mut self, id: u64) {
        if let Some((awaited, sent)) = self.ping
            && awaited == id
        {
            self.ping = None;
            self.role.traffic().round_trip(self.now.saturating_duration_since(sent));
        }
    }

    fn fill_batch(&mut self) -> Result<(), CloseReason> {
        self.writing_since = self.now;
        if R::LOOKS_BEFORE_COMMIT && !self.outbox.is_empty() && self.role.is_idle() {
            self.look_before_commit()?;
        }
        if let Some(id) = self.pong_due.take() {
            self.batch.add_own(OutFrame::new(Kind::Pong, id, Vec::new()));
        }
        if std::mem::take(&mut self.ping_due) {
            self.pings += 1;
            self.ping = Some((self.pings, self.now));
            self.batch.add_own(OutFrame::new(Kind::Ping, self.pings, Vec::new()));
        }
        self.outbox.take(&mut self.taken);
        for mut frame in self.taken.drain(..) {
            if self.role.commit(&mut frame, self.now) {
                self.batch.add(frame);
            } else {
                self.outbox.release(frame.cost_bytes(), 1);
            }
        }
        Ok(())
    }

    /// A peer that has closed an idle connection is found here, even when the runtime has not yet
    /// reported it: the frame then goes over another connection instead of into the void.
    fn look_before_commit(&mut self) -> Result<(), CloseReason> {
        for _ in 0..LAST_LOOKS {
            let result = (&*SockRef::from(&self.wire.stream)).read(&mut self.buffer);
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => self.read(result)?,
            }
        }
        Ok(())
    }

    fn check_time(&mut self) -> Result<(), CloseReason> {
        let config = &self.config;
        let since = |then: Instant| self.now.saturating_duration_since(then);
        let silent = since(self.last_received);
        if !self.paused && silent >= config.ping_dead {
            return Err(CloseReason::Silent(silent));
        }
        if let Some(limit) = self.incoming_limit()
            && since(self.incoming.1) >= limit
        {
            return Err(CloseReason::SlowFrame(limit));
        }
        if !self.batch.is_empty() && since(self.writing_since) >= config.body_timeout {
            return Err(CloseReason::Stalled(config.body_timeout));
        }
        // A side that only sends or only receives pings too, so that both hear something.
        if self.now >= self.next_ping() {
            self.last_ping = self.now;
            self.ping_due = true;
        }
        Ok(())
    }

    /// Time for the frame that is being received; a peer we do not read from has all it wants.
    fn incoming_limit(&self) -> Option<Duration> {
        match self.incoming.0 {
            _ if self.paused => None,
            Progress::Between => None,
            Progress::Header => Some(self.config.header_timeout),
            Progress::Payload => Some(self.config.body_timeout),
        }
    }

    /// After a silence; now and then also without one, for the round trip.
    fn next_ping(&self) -> Instant {
        let silent = self.last_received.min(self.last_sent).max(self.last_ping);
        (silent + self.config.ping_after).min(self.last_ping + MEASURE_EVERY)
    }

    /// Sets the timer for the next thing that can become due; it is left alone while it is early
    /// enough, so that a busy connection does not touch it.
    fn arm_timer(&mut self) {
        let mut due = self.next_ping();
        if !self.paused {
            due = due.min(self.last_received + self.config.ping_dead);
        }
        if let Some(limit) = self.incoming_limit() {
            due = due.min(self.incoming.1 + limit);
        }
        if !self.batch.is_empty() {
            due = due.min(self.writing_since + self.config.body_timeout);
        }
        let armed = self.timer.deadline();
        if armed <= self.now || due < armed {
            let soonest = self.now + Duration::from_millis(1);
            self.timer.as_mut().reset(due.max(soonest));
        }
    }

    /// Tells the peer why, if it can be told, and waits until it has closed too: a socket that is
    /// closed with bytes unread would take back what we said last.
    async fn part_from_peer(mut self, reason: &CloseReason, whole: bool) {
        let farewell = match reason {
            CloseReason::Finished | CloseReason::GoAway(_) | CloseReason::Stopped => None,
            CloseReason::Frame(_)
            | CloseReason::Protocol(_)
            | CloseReason::Secure(_)
            | CloseReason::SlowFrame(_) => whole.then(|| {
                let text = encode_reason(0, &reason.to_string());
                encode_frame(Kind::GoAway, self.role.last_accepted(), 0, &text)
            }),
            _ => return,
        };
        let linger = self.config.linger;
        let parting = self.wire.part(farewell.as_deref().unwrap_or_default());
        if tokio::time::timeout(linger, parting).await.is_err() {
            tracing::debug!(?linger, "the peer did not close in time");
        }
    }
}
