//! What peers send by message, put where it belongs: lines of regions, and replies.
//!
//! A peer that writes through a mapping of its own sends no lines. All others do, and every message
//! is checked before anything of it is written: a region that is gone, a line that is outside, a
//! message out of order change nothing here. That is why lines go by message and not by
//! `ucp_put_nbx`, which over TCP UCX 1.13 emulates: there a put to memory that is gone ends the
//! reader's process, and so does a writer that is killed, whose confirmation cannot be delivered.

use super::context::Memory;
use super::sys::{MESSAGE_RENDEZVOUS, MessageParams, OK, Status};
use crate::lines::SharedLine;
use crate::transport::{Line, TransportError};
use core::ffi::c_void;
use core::hash::BuildHasher;
use core::ops::Deref;
use std::collections::{BTreeMap, VecDeque};
use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zepto_core::limits::{
    UCX_MESSAGE_LINES_MAX, UCX_REGIONS_MAX, UCX_REPLIES_MAX, UCX_TICKET_BYTES_MAX,
};

/// Lines of a region, as its reader has them.
pub(super) enum Lines {
    /// Where a peer may map them.
    Mapped(Memory),
    Plain(Box<[SharedLine]>),
}

impl Deref for Lines {
    type Target = [SharedLine];

    #[inline(always)]
    fn deref(&self) -> &[SharedLine] {
        match self {
            Self::Mapped(memory) => memory.lines(),
            Self::Plain(lines) => lines,
        }
    }
}

/// The head of a message, in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A ticket follows: the reply that was asked for.
    Reply {
        /// Under this number.
        number: u64,
    },
    /// The reader is gone of the region that waited for a reply.
    Gone {
        /// Of this number.
        number: u64,
    },
    /// Lines follow, and a word to be stored after them.
    Lines {
        /// The region's number.
        number: u64,
        /// How many such messages went to the region before.
        sequence: u64,
        /// Where they belong in the region.
        first: usize,
        /// How many they are.
        count: usize,
        /// The word.
        store: Option<Word>,
    },
}

/// A word of a region and its new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its line.
    pub line: usize,
    /// Its place there, 0 to 7.
    pub word: usize,
    /// The value.
    pub value: u64,
}

const REPLY: u64 = 1;
const LINES: u64 = 2;
const LINES_AND_WORD: u64 = 3;
const GONE: u64 = 4;

impl Head {
    /// As a message begins.
    pub fn to_line(self) -> Line {
        match self {
            Self::Reply { number } => [REPLY, number, 0, 0, 0, 0, 0, 0],
            Self::Gone { number } => [GONE, number, 0, 0, 0, 0, 0, 0],
            Self::Lines { number, sequence, first, count, store } => {
                let kind = if store.is_some() { LINES_AND_WORD } else { LINES };
                let Word { line, word, value } =
                    store.unwrap_or(Word { line: 0, word: 0, value: 0 });
                let [first, count, line, word] = [first, count, line, word].map(|it| it as u64);
                [kind, number, sequence, first, count, line, word, value]
            }
        }
    }

    fn read(line: &Line) -> Option<Self> {
        let [kind, number, sequence, first, count, line, word, value] = *line;
        let place = |word| usize::try_from(word).ok();
        let store = match kind {
            REPLY => return Some(Self::Reply { number }),
            GONE => return Some(Self::Gone { number }),
            LINES => None,
            LINES_AND_WORD => Some(Word { line: place(line)?, word: place(word)?, value }),
            _ => return None,
        };
        Some(Self::Lines { number, sequence, first: place(first)?, count: place(count)?, store })
    }
}

/// A region that a peer writes.
struct Incoming {
    lines: Arc<Lines>,
    /// Number of the next message.
    sequence: u64,
    /// Set when the writer breaks the rules: nothing of it is taken any more.
    is_broken: Arc<AtomicBool>,
}

/// A region that this process writes, as long as it is there.
struct Written {
    reply: Reply,
    /// Set when its reader says that it is gone.
    is_gone: Arc<AtomicBool>,
}

enum Reply {
    Awaited,
    There(Vec<u8>),
    Taken,
}

#[derive(Default)]
struct Tables {
    /// Makes numbers that nobody can guess: whoever is on the network can send to a worker.
    secret: RandomState,
    /// How many numbers were given out.
    numbers: u64,
    written: BTreeMap<u64, Written>,
    /// Of those, how many have not taken their reply.
    waiting: usize,
    regions: BTreeMap<u64, Incoming>,
    /// Of those, how many are written by message.
    plain: usize,
    /// Regions that went before their reply came, the last ones.
    forgotten: VecDeque<u64>,
    /// Replies to regions that are gone: their readers wait for lines.
    orphans: Vec<Vec<u8>>,
}

impl Tables {
    /// A number that nothing has.
    fn fresh_number(&mut self) -> u64 {
        loop {
            self.numbers += 1;
            let number = self.secret.hash_one(self.numbers);
            if !self.written.contains_key(&number) && !self.regions.contains_key(&number) {
                return number;
            }
        }
    }

    fn take_reply(&mut self, number: u64, data: &[u8]) {
        if data.len() > UCX_TICKET_BYTES_MAX {
            return;
        }
        match self.written.get_mut(&number) {
            Some(Written { reply: reply @ Reply::Awaited, .. }) => {
                *reply = Reply::There(data.to_vec());
            }
            Some(_) => {}
            None => {
                let place = self.forgotten.iter().position(|forgotten| *forgotten == number);
                if place.and_then(|place| self.forgotten.remove(place)).is_some() {
                    self.turn_away(data.to_vec());
                }
            }
        }
    }

    fn turn_away(&mut self, reply: Vec<u8>) {
        if self.orphans.len() < UCX_REPLIES_MAX {
            self.orphans.push(reply);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(forgotten) = self.written.remove(&number) else { return };
        match forgotten.reply {
            Reply::Taken => return,
            Reply::There(reply) => self.turn_away(reply),
            Reply::Awaited => {
                if self.forgotten.len() >= UCX_REPLIES_MAX {
                    self.forgotten.pop_front();
                }
                self.forgotten.push_back(number);
            }
        }
        self.waiting -= 1;
    }

    fn close(&mut self, number: u64) {
        if let Some(Incoming { lines, .. }) = self.regions.remove(&number) {
            self.plain -= usize::from(matches!(*lines, Lines::Plain(_)));
        }
    }
}

/// What a worker waits for.
#[derive(Default)]
pub struct Arrivals(Mutex<Tables>);

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a reply that will come; the flag is set when whoever sends it is gone.
    pub fn expect_reply(&self, is_gone: &Arc<AtomicBool>) -> Result<u64, TransportError> {
        let mut tables = self.lock();
        if tables.waiting >= UCX_REPLIES_MAX || tables.written.len() >= UCX_REGIONS_MAX {
            return Err(TransportError::Busy);
        }
        tables.waiting += 1;
        let number = tables.fresh_number();
        let written = Written { reply: Reply::Awaited, is_gone: Arc::clone(is_gone) };
        tables.written.insert(number, written);
        Ok(number)
    }

    /// Whether messages are waited for: replies, or lines.
    pub fn awaits_messages(&self) -> bool {
        let tables = self.lock();
        tables.waiting > 0 || tables.plain > 0
    }

    /// The reply, once it is there.
    pub fn take_reply(&self, number: u64) -> Option<Vec<u8>> {
        let mut tables = self.lock();
        let written = tables.written.get_mut(&number)?;
        let Reply::There(reply) = &mut written.reply else { return None };
        let reply = core::mem::take(reply);
        written.reply = Reply::Taken;
        tables.waiting -= 1;
        Some(reply)
    }

    /// The region is gone: nobody waits for its reply any more.
    pub fn forget_reply(&self, number: u64) {
        self.lock().forget(number);
    }

    /// A reply of no use: whoever sent it waits for lines that do not come.
    pub fn turn_away(&self, reply: Vec<u8>) {
        self.lock().turn_away(reply);
    }

    /// Replies to regions that are gone.
    pub fn take_orphans(&self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.lock().orphans)
    }

    /// The number under which a region is written; the flag is set if its writer breaks the rules.
    pub(super) fn expect_lines(
        &self,
        lines: &Arc<Lines>,
        is_broken: &Arc<AtomicBool>,
    ) -> Result<u64, TransportError> {
        let mut tables = self.lock();
        if tables.regions.len() >= UCX_REGIONS_MAX {
            return Err(TransportError::Busy);
        }
        let number = tables.fresh_number();
        tables.plain += usize::from(matches!(**lines, Lines::Plain(_)));
        let (lines, is_broken) = (Arc::clone(lines), Arc::clone(is_broken));
        tables.regions.insert(number, Incoming { lines, sequence: 0, is_broken });
        Ok(number)
    }

    /// Whatever else comes for the region is dropped.
    pub fn forget_lines(&self, number: u64) {
        self.lock().close(number);
    }

    /// Takes one message.
    pub fn take(&self, head: &Line, data: &[u8]) {
        let mut tables = self.lock();
        match Head::read(head) {
            Some(Head::Reply { number }) => tables.take_reply(number, data),
            Some(Head::Gone { number }) => {
                if let Some(written) = tables.written.get(&number) {
                    written.is_gone.store(true, Ordering::Release);
                }
            }
            Some(Head::Lines { number, sequence, first, count, store }) => {
                let Some(region) = tables.regions.get_mut(&number) else { return };
                if region.take(sequence, first, count, store, data).is_none() {
                    region.is_broken.store(true, Ordering::Release);
                    tables.close(number);
                }
            }
            None => {}
        }
    }
}

impl Incoming {
    /// Writes what came; nothing, and `None`, if it cannot be.
    fn take(
        &mut self,
        sequence: u64,
        first: usize,
        count: usize,
        store: Option<Word>,
        data: &[u8],
    ) -> Option<()> {
        let (chunks, rest) = data.as_chunks::<{ size_of::<Line>() }>();
        let lines = self.lines.get(first..first.checked_add(count)?)?;
        let is_whole = rest.is_empty() && chunks.len() == count && count <= UCX_MESSAGE_LINES_MAX;
        let place = store.map(|it| Some((self.lines.get(it.line)?, it)));
        if sequence != self.sequence || !is_whole || matches!(place, Some(None)) {
            return None;
        }
        if store.is_some_and(|it| it.word >= size_of::<Line>() / size_of::<u64>()) {
            return None;
        }
        for (line, chunk) in lines.iter().zip(chunks) {
            let (words, _) = chunk.as_chunks::<8>();
            line.write(&core::array::from_fn(|i| {
                words.get(i).map_or(0, |word| u64::from_ne_bytes(*word))
            }));
        }
        if let Some(Some((line, word))) = place {
            line.store(word.word, word.value);
        }
        self.sequence += 1;
        Some(())
    }
}

/// UCX's way to [`Arrivals::take`].
///
/// # Safety
/// As UCX calls it, with a pointer to arrivals that live.
pub unsafe extern "C" fn arrive(
    arrivals: *mut c_void,
    head: *const c_void,
    head_bytes: usize,
    data: *mut c_void,
    bytes: usize,
    params: *const MessageParams,
) -> Status {
    // SAFETY: the caller's promise.
    let flags = unsafe { &raw const (*params).flags };
    // SAFETY: as above.
    let flags = unsafe { flags.read() };
    // No message of ours is without its data, nor with another head.
    if flags & MESSAGE_RENDEZVOUS != 0 || head_bytes != size_of::<Line>() {
        return OK;
    }
    // SAFETY: the caller's promise.
    let arrivals = unsafe { &*arrivals.cast::<Arrivals>() };
    // SAFETY: there are as many bytes, in whatever alignment.
    let head = unsafe { head.cast::<Line>().read_unaligned() };
    let data = if bytes == 0 {
        &[]
    } else {
        // SAFETY: there are so many bytes until this returns.
        unsafe { core::slice::from_raw_parts(data.cast::<u8>(), bytes) }
    };
    arrivals.take(&head, data);
    OK
}

#[cfg(test)]
mod tests {
    use super::super::inbox::Inbox;
    use super::*;

    impl Inbox {
        fn send(&self, sequence: u64, first: usize, data: &[Line], store: Option<Word>) -> bool {
            let (number, count) = (self.number, data.len());
            let head = Head::Lines { number, sequence, first, count, store }.to_line();
            let data: Vec<u8> = data.iter().flatten().flat_map(|word| word.to_ne_bytes()).collect();
            self.take(&head, &data);
            !self.is_broken()
        }
    }

    #[test]
    fn lines_and_words_come_where_they_belong() {
        let inbox = Inbox::new(4);
        let store = Some(Word { line: 0, word: 3, value: 7 });
        assert!(inbox.send(0, 1, &[[1; 8], [2; 8]], store));
        assert!(inbox.send(1, 3, &[[3; 8]], None));
        assert_eq!(inbox.lines(), [[0, 0, 0, 7, 0, 0, 0, 0], [1; 8], [2; 8], [3; 8]]);
    }

    #[test]
    fn nothing_is_written_of_a_message_that_cannot_be() {
        let bad_word = |line, word| Some(Word { line, word, value: 1 });
        for (sequence, first, count, store) in [
            (1, 0, 1, None),
            (0, 4, 1, None),
            (0, 3, 2, None),
            (0, usize::MAX, 1, None),
            (0, 0, 1, bad_word(4, 0)),
            (0, 0, 1, bad_word(0, 8)),
        ] {
            let inbox = Inbox::new(4);
            assert!(!inbox.send(sequence, first, &vec![[9; 8]; count], store));
            assert_eq!(inbox.lines(), [[0; 8]; 4]);
            // And nothing any more, for what comes next does not follow what came.
            inbox.send(0, 0, &[[9; 8]], None);
            assert_eq!(inbox.lines(), [[0; 8]; 4]);
        }
    }

    #[test]
    fn a_message_shorter_than_it_says_breaks_the_region() {
        let inbox = Inbox::new(4);
        let number = inbox.number;
        let head = Head::Lines { number, sequence: 0, first: 0, count: 2, store: None };
        inbox.take(&head.to_line(), &[0; 64]);
        assert!(inbox.is_broken());
    }

    #[test]
    fn replies_come_once_to_who_waits_for_them() {
        let (arrivals, is_gone) = (Arrivals::default(), Arc::default());
        let number = arrivals.expect_reply(&is_gone).unwrap();
        assert_eq!(arrivals.take_reply(number), None);
        arrivals.take(&Head::Reply { number }.to_line(), b"reply");
        arrivals.take(&Head::Reply { number }.to_line(), b"again");
        assert!(arrivals.awaits_messages());
        assert_eq!(arrivals.take_reply(number), Some(b"reply".to_vec()));
        assert_eq!(arrivals.take_reply(number), None);
        assert!(!arrivals.awaits_messages());
        for _ in 0..UCX_REPLIES_MAX {
            arrivals.expect_reply(&is_gone).unwrap();
        }
        assert!(matches!(arrivals.expect_reply(&is_gone), Err(TransportError::Busy)));
    }

    #[test]
    fn whoever_is_gone_is_heard_of() {
        let (arrivals, is_gone) = (Arrivals::default(), Arc::default());
        let number = arrivals.expect_reply(&is_gone).unwrap();
        arrivals.take(&Head::Gone { number: number + 1 }.to_line(), b"");
        assert!(!is_gone.load(Ordering::Acquire));
        arrivals.take(&Head::Gone { number }.to_line(), b"");
        assert!(is_gone.load(Ordering::Acquire));
        // A reply to a region that is gone itself is for whoever tells its reader.
        arrivals.forget_reply(number);
        assert!(!arrivals.awaits_messages());
        arrivals.take(&Head::Reply { number }.to_line(), b"late");
        assert_eq!(arrivals.take_orphans(), [b"late".to_vec()]);
        assert!(arrivals.take_orphans().is_empty());
        // Also one that came just before, but none that nobody asked for, nor twice.
        let number = arrivals.expect_reply(&is_gone).unwrap();
        arrivals.take(&Head::Reply { number }.to_line(), b"in time");
        arrivals.forget_reply(number);
        assert_eq!(arrivals.take_orphans(), [b"in time".to_vec()]);
        for number in [number, number + 1] {
            arrivals.take(&Head::Reply { number }.to_line(), b"noise");
        }
        assert!(arrivals.take_orphans().is_empty());
        let number = arrivals.expect_reply(&is_gone).unwrap();
        let long = vec![0; UCX_TICKET_BYTES_MAX + 1];
        arrivals.take(&Head::Reply { number }.to_line(), &long);
        assert_eq!(arrivals.take_reply(number), None);
    }

    #[test]
    fn a_number_says_nothing_about_the_next_one_or_another_workers() {
        let numbers = |inbox: &Inbox| {
            let next = || inbox.arrivals.expect_reply(&Arc::default()).unwrap();
            [inbox.number, next(), next()]
        };
        let (ours, theirs) = (numbers(&Inbox::new(1)), numbers(&Inbox::new(1)));
        assert!(ours.iter().all(|number| !theirs.contains(number)));
        assert_ne!(ours[1].wrapping_sub(ours[0]), ours[2].wrapping_sub(ours[1]));
    }

    #[test]
    fn what_is_no_message_is_dropped() {
        let inbox = Inbox::new(4);
        inbox.take(&[u64::MAX; 8], b"noise");
        assert_eq!(inbox.lines(), [[0; 8]; 4]);
    }
}
