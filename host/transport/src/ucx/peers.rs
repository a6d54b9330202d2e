//! Endpoints to other workers, one for each, shared by all lanes between two workers.
//!
//! They are of the kind that tells when a peer is gone (`UCP_ERR_HANDLING_MODE_PEER`). Of UCX 1.13
//! such have no lanes over shared memory for messages, which is as well: a process that is killed
//! in the midst of a message leaves the receiver's queue there blocked for all, and over TCP with
//! the other kind one that is killed while it connects ends the other process. What is mapped is
//! not concerned. Only where nothing else is to be had, as with `UCX_TLS=shm`, the other kind is
//! used.
//!
//! An endpoint that is closed leaves something behind until its worker ends (UCX 1.13): over TCP a
//! descriptor at both ends, over shared memory mappings. So those without a lane are kept for the
//! next one, up to a limit.

use super::context::Context;
use super::sys::{self, Begun, IN_PROGRESS, OK, Status};
use crate::transport::TransportError;
use core::ffi::c_void;
use core::ptr::null_mut;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zepto_core::limits::UCX_IDLE_PEERS_MAX;

/// Another worker, as long as somebody talks to it.
pub struct Peer {
    pub endpoint: sys::Endpoint,
    /// Nothing arrives there any more. The endpoint's handler sets it, too.
    failed: Arc<AtomicBool>,
    /// How it is closed: at once, where the endpoint knows what becomes of its peer.
    close: sys::RequestParams,
    /// Names of the transports of its lanes.
    pub lanes: Vec<String>,
}

impl Peer {
    /// Whether nothing arrives there any more.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Nothing arrives there any more.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// Notes that a peer is gone.
///
/// # Safety
/// As UCX calls it, with the flag of an endpoint that is not closed yet.
unsafe extern "C" fn note_failure(failed: *mut c_void, _: sys::Endpoint, _: Status) {
    // SAFETY: the caller's promise.
    unsafe { &*failed.cast::<AtomicBool>() }.store(true, Ordering::Release);
}

// SAFETY: the endpoint is only handed to UCX, under its worker's lock.
unsafe impl Send for Peer {}
// SAFETY: as above.
unsafe impl Sync for Peer {}

/// The peers of one worker. Used under its lock.
pub struct Peers {
    kind: Kind,
    by_address: BTreeMap<Vec<u8>, Arc<Peer>>,
    /// Failed ones that still have lanes.
    failed: Vec<Arc<Peer>>,
    /// Endpoints that are being closed, with the requests for it.
    closing: Vec<(*mut c_void, Arc<Peer>)>,
}

impl Peers {
    /// None yet.
    pub fn new(kind: Kind) -> Self {
        let (by_address, failed, closing) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { kind, by_address, failed, closing }
    }

    /// The peer at an address: the one there is, or a new one.
    pub fn get(
        &mut self,
        context: &Context,
        worker: sys::WorkerHandle,
        address: &[u8],
    ) -> Result<Arc<Peer>, TransportError> {
        let known = self.by_address.get(address);
        if let Some(peer) = known.filter(|peer| !peer.has_failed()) {
            return Ok(Arc::clone(peer));
        }
        self.failed.extend(self.by_address.remove(address));
        self.sweep(context);
        let created = create(context, worker, address, self.kind);
        let peer = created.map_err(|status| context.failed("ucp_ep_create", status))?;
        let peer = Arc::new(peer);
        self.by_address.insert(address.to_vec(), Arc::clone(&peer));
        Ok(peer)
    }

    /// Closes what nobody uses and is not to be kept.
    pub fn sweep(&mut self, context: &Context) {
        let is_unused = |peer: &Arc<Peer>| Arc::strong_count(peer) == 1;
        let (mut kept, mut over) = (0, Vec::new());
        self.by_address.retain(|_, peer| {
            let is_kept = !peer.has_failed() && kept < UCX_IDLE_PEERS_MAX;
            if is_unused(peer) && !is_kept {
                over.push(Arc::clone(peer));
                return false;
            }
            kept += usize::from(is_unused(peer));
            true
        });
        let (unused, failed): (Vec<_>, Vec<_>) = self.failed.drain(..).partition(is_unused);
        self.failed = failed;
        for peer in over.into_iter().chain(unused) {
            self.close(context, peer);
        }
    }

    fn close(&mut self, context: &Context, peer: Arc<Peer>) {
        let close = context.ucp.functions.ucp_ep_close_nbx;
        // SAFETY: the endpoint is not used any more.
        match Begun::of(unsafe { close(peer.endpoint, &raw const peer.close) }) {
            Begun::Done => {}
            Begun::Request(request) => self.closing.push((request, peer)),
            // Whether the endpoint is still there, and may speak up, nobody knows: its flag stays.
            Begun::Failed(_) => core::mem::forget(peer),
        }
    }

    /// Closes an endpoint whose peer takes nothing any more. Messages under way end with it, and
    /// whoever still has a channel there finds that it has failed.
    pub fn cut_off(&mut self, context: &Context, peer: &Arc<Peer>) {
        if self.kind == Kind::Blind {
            // Such are closed only when all is sent.
            return;
        }
        peer.fail();
        let is_other = |other: &Arc<Peer>| !Arc::ptr_eq(other, peer);
        let known = self.by_address.len() + self.failed.len();
        self.by_address.retain(|_, other| is_other(other));
        self.failed.retain(is_other);
        // Once: another channel may have been as long in vain.
        if self.by_address.len() + self.failed.len() < known {
            self.close(context, Arc::clone(peer));
        }
    }

    /// Frees what has closed by now.
    pub fn progress(&mut self, context: &Context) {
        let functions = &context.ucp.functions;
        self.closing.retain(|&(request, _)| {
            // SAFETY: it is a request that was not freed.
            let is_open = unsafe { (functions.ucp_request_check_status)(request) } == IN_PROGRESS;
            if !is_open {
                // SAFETY: as above; it is not kept.
                unsafe { (functions.ucp_request_free)(request) };
            }
            is_open
        });
    }

    /// Closes all, before their worker ends. What takes longer than `rounds` of progress ends with
    /// it; until then it is returned.
    pub fn close_all(
        &mut self,
        context: &Context,
        worker: sys::WorkerHandle,
        rounds: usize,
    ) -> Vec<Arc<Peer>> {
        let functions = &context.ucp.functions;
        let all = core::mem::take(&mut self.by_address).into_values();
        for peer in all.chain(core::mem::take(&mut self.failed)) {
            self.close(context, peer);
        }
        for _ in 0..rounds {
            if self.closing.is_empty() {
                break;
            }
            // SAFETY: the worker lives.
            unsafe { (functions.ucp_worker_progress)(worker) };
            self.progress(context);
        }
        self.abandon(context)
    }

    /// Leaves what has not closed to its worker, which cannot end over a request.
    fn abandon(&mut self, context: &Context) -> Vec<Arc<Peer>> {
        let left = self.closing.drain(..).map(|(request, peer)| {
            // SAFETY: it is a request that was not freed.
            unsafe { (context.ucp.functions.ucp_request_free)(request) };
            peer
        });
        left.collect()
    }

    /// Every transport that a lane to a peer uses.
    pub fn lanes(&self) -> impl Iterator<Item = &String> {
        self.by_address.values().flat_map(|peer| &peer.lanes)
    }
}

/// Of which kind endpoints are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They tell when their peers are gone.
    Watching,
    /// They do not.
    Blind,
}

impl Kind {
    /// The kind that this worker can have, found out by connecting it to itself.
    pub fn find(
        context: &Context,
        worker: sys::WorkerHandle,
        address: &[u8],
    ) -> Result<Self, TransportError> {
        match create(context, worker, address, Self::Watching) {
            Ok(peer) => {
                let mut peers = Peers::new(Self::Watching);
                peers.close(context, Arc::new(peer));
                // What is not closed at once goes with its worker, and its flag stays.
                peers.abandon(context).into_iter().for_each(core::mem::forget);
                Ok(Self::Watching)
            }
            Err(sys::UNREACHABLE) => Ok(Self::Blind),
            Err(status) => Err(context.failed("ucp_ep_create", status)),
        }
    }
}

/// A new endpoint.
fn create(
    context: &Context,
    worker: sys::WorkerHandle,
    address: &[u8],
    kind: Kind,
) -> Result<Peer, Status> {
    let failed = Arc::new(AtomicBool::new(false));
    let (error_mode, handler, flags) = match kind {
        Kind::Watching => {
            (sys::ERROR_MODE_PEER, sys::ENDPOINT_PARAM_ERROR_HANDLER, sys::CLOSE_FORCE)
        }
        Kind::Blind => (sys::ERROR_MODE_NONE, 0, 0),
    };
    let params = sys::EndpointParams {
        field_mask: sys::ENDPOINT_PARAM_ADDRESS | sys::ENDPOINT_PARAM_ERROR_MODE | handler,
        address: address.as_ptr().cast(),
        error_mode,
        error_handler: note_failure,
        error_argument: Arc::as_ptr(&failed).cast_mut().cast(),
        room: Default::default(),
    };
    let close = sys::RequestParams { mask: sys::REQUEST_FLAGS, flags, ..Default::default() };
    let mut endpoint = null_mut();
    let create = context.ucp.functions.ucp_ep_create;
    // SAFETY: the worker lives; the address is as a worker gave it (its ticket's checksum holds,
    // and whoever may open lanes forges none); the flag lives until the endpoint is closed.
    match unsafe { create(worker, &raw const params, &raw mut endpoint) } {
        OK => Ok(Peer { endpoint, failed, close, lanes: lanes_of(context, endpoint) }),
        status => Err(status),
    }
}

/// The transports of an endpoint's lanes, as it prints them.
fn lanes_of(context: &Context, endpoint: sys::Endpoint) -> Vec<String> {
    let (mut text, mut bytes) = (null_mut(), 0);
    // SAFETY: both are writable, as long as the stream is open.
    let stream = unsafe { libc::open_memstream(&raw mut text, &raw mut bytes) };
    if stream.is_null() {
        return Vec::new();
    }
    // SAFETY: the endpoint lives, and the stream is open.
    unsafe { (context.ucp.functions.ucp_ep_print_info)(endpoint, stream) };
    // SAFETY: it is open, and not used after.
    unsafe { libc::fclose(stream) };
    if text.is_null() {
        return Vec::new();
    }
    // SAFETY: closing it has filled both in.
    let printed = unsafe { core::slice::from_raw_parts(text.cast::<u8>(), bytes) };
    let lanes = lanes_in(&String::from_utf8_lossy(printed));
    // SAFETY: the stream has allocated it, and nobody refers to it any more.
    unsafe { libc::free(text.cast()) };
    lanes
}

/// Out of lines such as `#    lane[0]:  1:tcp/lo.0 md[1]  -> addr[0].md[1]/tcp/sysdev[255] am`.
fn lanes_in(printed: &str) -> Vec<String> {
    let transport = |line: &str| {
        let (_, rest) = line.split_once("lane[")?;
        let name = rest.split_whitespace().nth(1)?.split('/').next()?;
        Some(name.rsplit(':').next()?.to_owned())
    };
    let mut lanes: Vec<String> = printed.lines().filter_map(transport).collect();
    lanes.sort();
    lanes.dedup();
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_known_by_their_transports() {
        let printed = "#\n#               peer: uuid\n#                 lane[0]:  4:sysv/memory.0 \
                       md[3]    -> md[3]/sysv/sysdev[255] rma_bw#0\n#                 lane[1]:  \
                       1:tcp/lo.0 md[1]  -> addr[0].md[1]/tcp/sysdev[255] am am_bw#0 wireup\n";
        assert_eq!(lanes_in(printed), ["sysv", "tcp"]);
        assert_eq!(lanes_in(""), Vec::<String>::new());
    }
}
