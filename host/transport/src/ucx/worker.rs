//! A worker: what its peers reach it by, its channels, and what arrives at it.
//!
//! A lane's two ends are used by one thread and opened by another, so a worker is under a lock. In
//! its duty cycle a thread takes it once, and once for every message it sends; where memory is
//! mapped there are none.

use super::arrivals::{Arrivals, arrive};
use super::channel::{Channel, Op, Staging};
use super::context::Context;
use super::gate::{self, Pass};
use super::peers::{Kind, Peer, Peers};
use super::sys::{self, OK, THREAD_MODE_SERIALIZED};
use super::ticket::Ticket;
use crate::lines::SharedLine;
use crate::transport::TransportError;
use core::ffi::c_uint;
use core::ptr::{NonNull, null_mut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use zepto_core::limits::UCX_CHANNELS_MAX;

/// Number of the one kind of message, of those that UCX tells apart.
pub const HANDLER: c_uint = 1;
/// Rounds without UCX where all is mapped: over TCP each would be a system call for nothing.
const ROUNDS_SKIPPED: u32 = 15;
/// Rounds of progress for endpoints to close before their worker ends.
const CLOSE_ROUNDS: usize = 10_000;

/// A worker.
pub struct Worker {
    pub context: &'static Context,
    /// What peers reach it by.
    pub address: Vec<u8>,
    pub arrivals: Arc<Arrivals>,
    inner: Mutex<Inner>,
}

struct Inner {
    handle: sys::WorkerHandle,
    peers: Peers,
    channels: Channels,
    /// Channels with something to send on.
    busy: Vec<usize>,
    /// A channel was closed since peers were looked at.
    is_unswept: bool,
    /// Rounds in a row in which UCX was not asked.
    skipped: u32,
}

// SAFETY: a worker may be used by any thread, one at a time (`THREAD_MODE_SERIALIZED`), which the
// lock around this sees to; requests in channels are UCX's and follow the worker.
unsafe impl Send for Inner {}

impl Worker {
    /// A new worker.
    pub fn open(context: &'static Context) -> Result<Self, TransportError> {
        let params = sys::WorkerParams {
            field_mask: sys::WORKER_PARAM_THREAD_MODE,
            thread_mode: THREAD_MODE_SERIALIZED,
            ..Default::default()
        };
        let _pass = gate::enter().ok_or_else(|| gate::too_late("ucp_worker_create"))?;
        let mut handle = null_mut();
        let create = context.ucp.functions.ucp_worker_create;
        // SAFETY: the context lives, and the parameters are as `sys` has them.
        let status = unsafe { create(context.handle, &raw const params, &raw mut handle) };
        if status != OK {
            return Err(context.failed("ucp_worker_create", status));
        }
        gate::note_open(handle, context.ucp.functions.ucp_worker_destroy);
        let inner = Mutex::new(Inner {
            handle,
            peers: Peers::new(Kind::Blind),
            channels: Channels::default(),
            busy: Vec::new(),
            is_unswept: false,
            skipped: 0,
        });
        // From here on it ends when it is dropped.
        let mut worker = Self { context, address: Vec::new(), arrivals: Arc::default(), inner };
        worker.receive(handle)?;
        worker.address = worker.ask_address(handle)?;
        let kind = Kind::find(context, handle, &worker.address)?;
        worker.inner.get_mut().unwrap_or_else(PoisonError::into_inner).peers = Peers::new(kind);
        Ok(worker)
    }

    /// Lets messages arrive.
    fn receive(&self, handle: sys::WorkerHandle) -> Result<(), TransportError> {
        let params = sys::HandlerParams {
            field_mask: sys::HANDLER_FIELDS,
            id: HANDLER,
            flags: 0,
            handler: arrive,
            argument: Arc::as_ptr(&self.arrivals).cast_mut().cast(),
            room: Default::default(),
        };
        let set = self.context.ucp.functions.ucp_worker_set_am_recv_handler;
        // SAFETY: the worker lives, and calls the handler only as long as it does, which is not as
        // long as the arrivals.
        match unsafe { set(handle, &raw const params) } {
            OK => Ok(()),
            status => Err(self.context.failed("ucp_worker_set_am_recv_handler", status)),
        }
    }

    fn ask_address(&self, handle: sys::WorkerHandle) -> Result<Vec<u8>, TransportError> {
        let functions = &self.context.ucp.functions;
        let (mut address, mut bytes) = (null_mut(), 0);
        let ask = functions.ucp_worker_get_address;
        // SAFETY: the worker lives.
        let status = unsafe { ask(handle, &raw mut address, &raw mut bytes) };
        if status != OK {
            return Err(self.context.failed("ucp_worker_get_address", status));
        }
        // SAFETY: it has written so many bytes there.
        let copy = unsafe { core::slice::from_raw_parts(address.cast::<u8>(), bytes) }.to_vec();
        // SAFETY: it was got above, and was copied.
        unsafe { (functions.ucp_worker_release_address)(handle, address) };
        Ok(copy)
    }

    /// Nothing once the process ends.
    fn lock(&self) -> Option<(MutexGuard<'_, Inner>, Pass)> {
        let pass = gate::enter()?;
        Some((self.inner.lock().unwrap_or_else(PoisonError::into_inner), pass))
    }

    /// Drives what is under way, unless another thread does just now.
    pub fn progress(&self) -> usize {
        let mut inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(inner)) => inner.into_inner(),
            Err(TryLockError::WouldBlock) => return 0,
        };
        let is_quiet = inner.is_mapped() && !self.arrivals.awaits_messages();
        if is_quiet && inner.skipped < ROUNDS_SKIPPED {
            inner.skipped += 1;
            return 0;
        }
        inner.skipped = 0;
        let Some(_pass) = gate::enter() else { return 0 };
        // SAFETY: the worker lives, and is locked.
        let done = unsafe { (self.context.ucp.functions.ucp_worker_progress)(inner.handle) };
        inner.peers.progress(self.context);
        if core::mem::take(&mut inner.is_unswept) {
            inner.peers.sweep(self.context);
        }
        done as usize + inner.pump(self.context)
    }

    /// Opens the way to the region that a ticket names.
    pub fn open_channel(
        self: &Arc<Self>,
        ticket: &Ticket,
        staging: Staging,
    ) -> Result<Outgoing, TransportError> {
        let locked = self.lock().ok_or_else(|| gate::too_late("ucp_ep_create"));
        let (mut inner, _pass) = locked?;
        if inner.channels.count >= UCX_CHANNELS_MAX {
            return Err(TransportError::Busy);
        }
        let handle = inner.handle;
        let peer = inner.peers.get(self.context, handle, &ticket.worker)?;
        let channel = Channel::open(self.context, Arc::clone(&peer), ticket, staging)?;
        let direct = channel.direct();
        let index = inner.channels.add(channel);
        Ok(Outgoing { worker: Arc::clone(self), index, direct, peer: Some(peer) })
    }

    /// How many regions are written through mapped memory, and how many by message.
    pub fn ways(&self) -> (usize, usize) {
        let Some((inner, _pass)) = self.lock() else { return (0, 0) };
        let Channels { places, carried, .. } = &inner.channels;
        let is_mapped = |channel: &&Channel| channel.direct().is_some();
        (places.iter().flatten().filter(is_mapped).count(), *carried)
    }

    /// The transports in use.
    pub fn lanes(&self) -> Vec<String> {
        let Some((inner, _pass)) = self.lock() else { return Vec::new() };
        inner.peers.lanes().cloned().collect()
    }
}

/// Open channels. A channel keeps its place.
#[derive(Default)]
struct Channels {
    places: Vec<Option<Channel>>,
    count: usize,
    /// Of those, how many UCX carries lines for.
    carried: usize,
}

impl Channels {
    fn add(&mut self, channel: Channel) -> usize {
        self.count += 1;
        self.carried += usize::from(!channel.is_mapped_or_told());
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(channel);
        place
    }

    fn get(&mut self, place: usize) -> Option<&mut Channel> {
        self.places.get_mut(place)?.as_mut()
    }

    fn close(&mut self, place: usize) {
        let Some(channel) = self.places.get_mut(place).and_then(Option::take) else { return };
        self.count -= 1;
        self.carried -= usize::from(!channel.is_mapped_or_told());
    }
}

impl Inner {
    /// Whether nothing goes out by message, nor ends.
    fn is_mapped(&self) -> bool {
        self.busy.is_empty() && !self.is_unswept && self.channels.carried == 0
    }

    /// Lets every channel send on; those that are closing are over once they are empty.
    fn pump(&mut self, context: &Context) -> usize {
        let (mut work, mut deaf) = (0, Vec::new());
        let Self { channels, busy, is_unswept, .. } = self;
        busy.retain(|&index| {
            let Some(channel) = channels.get(index) else { return false };
            work += channel.pump();
            let is_done = channel.is_done();
            if channel.is_overdue() {
                deaf.push(Arc::clone(&channel.peer));
            }
            if is_done && channel.is_closing() {
                channels.close(index);
                *is_unswept = true;
            }
            !is_done
        });
        deaf.iter().for_each(|peer| self.peers.cut_off(context, peer));
        work
    }

    fn push(&mut self, index: usize, op: Op) {
        let Some(channel) = self.channels.get(index) else { return };
        let was_busy = !channel.is_done();
        channel.push(op);
        channel.pump();
        if !was_busy && !channel.is_done() {
            self.busy.push(index);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(_pass) = gate::enter() else {
            // The ends of channels would call it, and it may look at the others as long as it is.
            core::mem::forget(core::mem::take(&mut inner.channels));
            core::mem::forget(core::mem::replace(&mut inner.peers, Peers::new(Kind::Blind)));
            core::mem::forget(Arc::clone(&self.arrivals));
            return;
        };
        // Nothing is sent on; endpoints go before the worker, and what messages are made from goes
        // after it.
        let mut channels: Vec<Channel> = inner.channels.places.drain(..).flatten().collect();
        channels.iter_mut().for_each(Channel::end);
        let closing = inner.peers.close_all(self.context, inner.handle, CLOSE_ROUNDS);
        gate::note_closed(inner.handle);
        // SAFETY: nothing of it is used any more.
        unsafe { (self.context.ucp.functions.ucp_worker_destroy)(inner.handle) };
        drop((closing, channels));
    }
}

/// An open channel. One thread at a time.
pub struct Outgoing {
    worker: Arc<Worker>,
    index: usize,
    /// Where the peer's memory is mapped here, if it is.
    direct: Option<NonNull<SharedLine>>,
    /// Until it is dropped.
    peer: Option<Arc<Peer>>,
}

// SAFETY: the peer's memory is mapped as long as the channel is open, for every thread.
unsafe impl Send for Outgoing {}

impl Outgoing {
    /// A line of the peer's memory, where it is mapped.
    #[inline(always)]
    pub fn direct(&self, line: usize) -> Option<&SharedLine> {
        let first = self.direct?;
        // SAFETY: the region's owner looks that the line is one of its own, or the one behind them:
        // a segment that has fewer is not attached.
        let line = unsafe { first.add(line) };
        // SAFETY: it is aligned and mapped as long as the channel is open; a line is made of
        // atomics, so the peer may read it meanwhile.
        Some(unsafe { line.as_ref() })
    }

    /// Sends on, where it is not mapped.
    pub fn push(&self, op: Op) {
        if let Some((mut inner, _pass)) = self.worker.lock() {
            inner.push(self.index, op);
        }
    }

    /// Whether the peer is known to be gone.
    pub fn is_left(&self) -> bool {
        self.peer.as_ref().is_none_or(|peer| peer.has_failed())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let Some((mut inner, _pass)) = self.worker.lock() else { return };
        self.peer = None;
        inner.is_unswept = true;
        if let Some(channel) = inner.channels.get(self.index) {
            channel.close();
            if channel.is_done() {
                inner.channels.close(self.index);
            }
        }
    }
}
