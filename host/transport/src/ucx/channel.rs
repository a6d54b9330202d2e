//! The way into one region of a peer: directly, where its memory is mapped here, or by messages.
//!
//! One message is under way at most: UCX reads what it is made from until it is done. What comes
//! meanwhile waits here, and goes out in fewer and larger messages.

use super::arrivals::{Head, Word};
use super::context::Context;
use super::peers::Peer;
use super::segment::Segment;
use super::sys::{self, Begun, IN_PROGRESS, OK};
use super::ticket::Ticket;
use super::worker::HANDLER;
use crate::lines::SharedLine;
use crate::shm::now;
use crate::transport::{Line, TransportError};
use core::ffi::c_void;
use core::ops::Range;
use core::ptr::{NonNull, null};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use zepto_core::limits::{UCX_LAST_WORD_TIMEOUT_MS, UCX_MESSAGE_LINES_MAX, UCX_QUEUE_MAX};

/// Time for a peer to take one message of a channel that is closing.
const LAST_WORD_WITHIN: Duration = Duration::from_millis(UCX_LAST_WORD_TIMEOUT_MS);

/// Lines that messages are made from.
pub type Staging = Arc<[SharedLine]>;

/// Zeroed lines to make messages from.
pub fn staging(lines: usize) -> Staging {
    core::iter::repeat_with(SharedLine::default).take(lines).collect()
}

/// What waits to go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A ticket, to whoever waits for it.
    Reply(Vec<u8>),
    /// Whoever waited for it has nobody to write to any more.
    Gone,
    /// Staged lines.
    Put(Range<usize>),
    /// One word, after all before it.
    Store(Word),
}

/// What waits, as little as it can be.
#[derive(Debug, Default)]
struct Queue(VecDeque<Op>);

impl Queue {
    /// Whether there was room for one more.
    fn push(&mut self, op: Op) -> bool {
        if let Op::Store(word) = &op {
            self.forget(word);
        }
        let is_full = self.0.len() >= UCX_QUEUE_MAX;
        match (self.0.back_mut(), &op) {
            (Some(Op::Put(last)), Op::Put(next)) if last.end == next.start => last.end = next.end,
            _ if is_full => return false,
            _ => self.0.push_back(op),
        }
        true
    }

    /// Drops a store that the next one makes needless: nothing was stored elsewhere since, so
    /// nobody can miss it.
    fn forget(&mut self, next: &Word) {
        let stored = self.0.iter().rposition(|op| matches!(op, Op::Store(_)));
        let is_same =
            |op: &Op| matches!(op, Op::Store(it) if (it.line, it.word) == (next.line, next.word));
        let Some(index) = stored.filter(|&index| is_same(&self.0[index])) else { return };
        self.0.remove(index);
        let before = index.checked_sub(1).and_then(|before| self.0.get(before));
        let joined = match (before, self.0.get(index)) {
            (Some(Op::Put(before)), Some(Op::Put(after))) if before.end == after.start => {
                before.start..after.end
            }
            _ => return,
        };
        self.0.remove(index);
        self.0[index - 1] = Op::Put(joined);
    }

    /// What goes out next: lines, and a word after them, of those that wait.
    fn next(&mut self) -> Option<Next> {
        let lines = match self.0.pop_front()? {
            Op::Reply(ticket) => return Some(Next::Reply(ticket)),
            Op::Gone => return Some(Next::Gone),
            Op::Store(word) => return Some(Next::Lines(0..0, Some(word))),
            Op::Put(lines) => lines,
        };
        let end = lines.end.min(lines.start + UCX_MESSAGE_LINES_MAX);
        if end < lines.end {
            self.0.push_front(Op::Put(end..lines.end));
            return Some(Next::Lines(lines.start..end, None));
        }
        match self.0.front() {
            Some(&Op::Store(word)) => {
                self.0.pop_front();
                Some(Next::Lines(lines, Some(word)))
            }
            _ => Some(Next::Lines(lines, None)),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Reply(Vec<u8>),
    Gone,
    Lines(Range<usize>, Option<Word>),
}

/// A channel. Used under its worker's lock.
pub struct Channel {
    context: &'static Context,
    pub peer: Arc<Peer>,
    /// The region's number there.
    number: u64,
    /// Number of the next message of lines.
    sequence: u64,
    /// The region's memory, where it is mapped here.
    mapped: Option<Segment>,
    staging: Staging,
    queue: Queue,
    under_way: Option<*mut c_void>,
    /// What the message under way is made from, beside staged lines.
    head: Box<Line>,
    reply: Vec<u8>,
    /// It ends with what waits, for which its peer has time from here on.
    closing: Option<Instant>,
}

impl Channel {
    /// Opens the way to the region that a ticket names.
    pub fn open(
        context: &'static Context,
        peer: Arc<Peer>,
        ticket: &Ticket,
        staging: Staging,
    ) -> Result<Self, TransportError> {
        let number = ticket.number;
        let segment = ticket.segment.filter(|_| context.is_here(ticket.place));
        let mapped = segment.map(|it| Segment::attach(it, ticket.lines, number)).transpose()?;
        Ok(Self {
            context,
            peer,
            number,
            sequence: 0,
            mapped,
            staging,
            queue: Queue::default(),
            under_way: None,
            head: Box::new([0; 8]),
            reply: Vec::new(),
            closing: None,
        })
    }

    /// Where the peer's memory is mapped here.
    pub fn direct(&self) -> Option<NonNull<SharedLine>> {
        self.mapped.as_ref().map(Segment::lines)
    }

    /// Lets something go out as soon as it can.
    pub fn push(&mut self, op: Op) {
        if !self.queue.push(op) {
            // A peer that has not taken so much is as good as gone.
            self.fail();
        }
    }

    fn fail(&mut self) {
        self.queue.0.clear();
        self.peer.fail();
    }

    /// Whether UCX carries nothing of it but what says that it is there. Never changes.
    pub fn is_mapped_or_told(&self) -> bool {
        self.mapped.is_some() || self.staging.is_empty()
    }

    /// Lets it end with what waits.
    pub fn close(&mut self) {
        self.closing = Some(now());
    }

    /// Whether it ends with what waits.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether it is closing, and its peer has not taken a message for so long.
    pub fn is_overdue(&self) -> bool {
        self.closing.is_some_and(|since| {
            self.under_way.is_some() && now().duration_since(since) > LAST_WORD_WITHIN
        })
    }

    /// Whether nothing is under way or waits.
    pub fn is_done(&self) -> bool {
        self.under_way.is_none() && self.queue.0.is_empty()
    }

    /// Sends on what waits, as far as it goes; returns how many messages went.
    pub fn pump(&mut self) -> usize {
        let mut work = 0;
        loop {
            if let Some(request) = self.under_way {
                // SAFETY: it is a request that was not freed.
                let status =
                    unsafe { (self.context.ucp.functions.ucp_request_check_status)(request) };
                if status == IN_PROGRESS {
                    return work;
                }
                self.let_go();
                self.closing = self.closing.map(|_| now());
                if status != OK {
                    self.fail();
                }
            }
            if self.peer.has_failed() {
                self.queue.0.clear();
            }
            let Some(next) = self.queue.next() else { return work };
            work += 1;
            match self.begin(next) {
                Begun::Done => {}
                Begun::Request(request) => self.under_way = Some(request),
                Begun::Failed(_) => self.fail(),
            }
        }
    }

    fn begin(&mut self, next: Next) -> Begun {
        let (head, data, bytes) = match next {
            Next::Reply(ticket) => {
                self.reply = ticket;
                let head = Head::Reply { number: self.number };
                (head, self.reply.as_ptr().cast(), self.reply.len())
            }
            Next::Gone => (Head::Gone { number: self.number }, null(), 0),
            Next::Lines(lines, store) => {
                let (number, sequence) = (self.number, self.sequence);
                self.sequence += 1;
                let (first, count) = (lines.start, lines.len());
                let lines = &self.staging[lines];
                let head = Head::Lines { number, sequence, first, count, store };
                (head, lines.as_ptr().cast(), size_of_val(lines))
            }
        };
        *self.head = head.to_line();
        let head = core::ptr::from_ref(&*self.head).cast();
        let (mask, flags) = (sys::REQUEST_FLAGS, sys::MESSAGE_EAGER);
        let params = sys::RequestParams { mask, flags, ..Default::default() };
        let send = self.context.ucp.functions.ucp_am_send_nbx;
        let (endpoint, head_bytes) = (self.peer.endpoint, size_of::<Line>());
        // SAFETY: the endpoint lives; head and data stay as they are until the request is done:
        // nothing else begins before, and the channel keeps both.
        Begun::of(unsafe {
            send(endpoint, HANDLER, head, head_bytes, data, bytes, &raw const params)
        })
    }

    /// Frees the request under way.
    fn let_go(&mut self) {
        if let Some(request) = self.under_way.take() {
            // SAFETY: it is a request that was not freed.
            unsafe { (self.context.ucp.functions.ucp_request_free)(request) };
        }
    }

    /// Ends it. What a message under way is made from stays as long as the channel.
    pub fn end(&mut self) {
        self.let_go();
        self.mapped = None;
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(line: usize, value: u64) -> Op {
        Op::Store(Word { line, word: 0, value })
    }

    fn queue(ops: &[Op]) -> Queue {
        let mut queue = Queue::default();
        assert!(ops.iter().all(|op| queue.push(op.clone())));
        queue
    }

    #[test]
    fn what_waits_is_gathered() {
        let published = [Op::Put(0..2), store(9, 2), Op::Put(2..3), store(9, 3)];
        assert_eq!(queue(&published).0, [Op::Put(0..3), store(9, 3)]);
        let turned = [Op::Put(7..8), Op::Put(0..1), store(9, 9)];
        assert_eq!(queue(&turned).0, turned);
    }

    #[test]
    fn a_store_is_not_skipped_when_another_one_came_between() {
        let ops = [store(1, 1), store(2, 1), store(1, 2)];
        assert_eq!(queue(&ops).0, ops, "who sees the second store has seen the first");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut queue = Queue::default();
        for value in 0..UCX_QUEUE_MAX as u64 {
            assert!(queue.push(store((value % 2) as usize, value)));
        }
        assert!(!queue.push(Op::Put(0..1)));
    }

    #[test]
    fn lines_go_with_the_word_that_publishes_them_and_no_more_than_fit() {
        let last = UCX_MESSAGE_LINES_MAX + 1;
        let word = Word { line: 9, word: 0, value: 1 };
        let mut queue = queue(&[Op::Put(0..last), Op::Store(word), store(8, 2)]);
        assert_eq!(queue.next(), Some(Next::Lines(0..last - 1, None)));
        assert_eq!(queue.next(), Some(Next::Lines(last - 1..last, Some(word))));
        let alone = Word { line: 8, word: 0, value: 2 };
        assert_eq!(queue.next(), Some(Next::Lines(0..0, Some(alone))));
        assert_eq!(queue.next(), None);
    }
}
