//! Endpoints to other workers, one for each, shared by all lanes between two workers.
//!
//! An endpoint over tcp that is closed leaves a descriptor open at both ends until their workers
//! end (UCX 1.13), so those are kept for the next lane; others are closed with their last lane.

use super::context::Context;
use super::sys::{self, Begun, IN_PROGRESS, OK};
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
    /// Nothing arrives there any more. Over shared memory nobody notices.
    pub failed: AtomicBool,
    /// Names of the transports of its lanes.
    pub lanes: Vec<String>,
}

// SAFETY: the endpoint is only handed to UCX, under its worker's lock.
unsafe impl Send for Peer {}
// SAFETY: as above.
unsafe impl Sync for Peer {}

/// The peers of one worker. Used under its lock.
#[derive(Default)]
pub struct Peers {
    by_address: BTreeMap<Vec<u8>, Arc<Peer>>,
    /// Failed ones that still have lanes.
    failed: Vec<Arc<Peer>>,
    /// Requests of endpoints that are being closed.
    closing: Vec<*mut c_void>,
}

impl Peers {
    /// The peer at an address: the one there is, or a new one.
    pub fn get(
        &mut self,
        context: &Context,
        worker: sys::WorkerHandle,
        address: &[u8],
    ) -> Result<Arc<Peer>, TransportError> {
        let known = self.by_address.get(address);
        if let Some(peer) = known.filter(|peer| !peer.failed.load(Ordering::Acquire)) {
            return Ok(Arc::clone(peer));
        }
        self.failed.extend(self.by_address.remove(address));
        self.sweep(context);
        let params = sys::EndpointParams {
            field_mask: sys::ENDPOINT_PARAM_ADDRESS | sys::ENDPOINT_PARAM_ERROR_MODE,
            address: address.as_ptr().cast(),
            error_mode: sys::ERROR_MODE_NONE,
            room: Default::default(),
        };
        let mut endpoint = null_mut();
        let create = context.ucp.functions.ucp_ep_create;
        // SAFETY: the worker lives; the address is as a worker gave it (its ticket's checksum
        // holds).
        let status = unsafe { create(worker, &raw const params, &raw mut endpoint) };
        if status != OK {
            return Err(context.failed("ucp_ep_create", status));
        }
        let lanes = lanes_of(context, endpoint);
        let peer = Arc::new(Peer { endpoint, failed: AtomicBool::new(false), lanes });
        self.by_address.insert(address.to_vec(), Arc::clone(&peer));
        Ok(peer)
    }

    /// Closes what nobody uses and is not to be kept.
    pub fn sweep(&mut self, context: &Context) {
        let is_unused = |peer: &Arc<Peer>| Arc::strong_count(peer) == 1;
        let mut kept = 0;
        let mut over = Vec::new();
        self.by_address.retain(|_, peer| {
            let is_kept = !peer.failed.load(Ordering::Acquire)
                && peer.lanes.iter().any(|lane| lane == "tcp")
                && kept < UCX_IDLE_PEERS_MAX;
            if is_unused(peer) && !is_kept {
                over.push(Arc::clone(peer));
                return false;
            }
            kept += usize::from(is_unused(peer));
            true
        });
        let (unused, failed) = self.failed.drain(..).partition(is_unused);
        self.failed = failed;
        for peer in over.into_iter().chain::<Vec<_>>(unused) {
            self.close(context, &peer);
        }
    }

    fn close(&mut self, context: &Context, peer: &Peer) {
        let params = sys::RequestParams::default();
        let close = context.ucp.functions.ucp_ep_close_nbx;
        // SAFETY: the endpoint is not used any more, and no key of its is left.
        match Begun::of(unsafe { close(peer.endpoint, &raw const params) }) {
            Begun::Request(request) => self.closing.push(request),
            // A peer that is gone cannot be told.
            Begun::Done | Begun::Failed(_) => {}
        }
    }

    /// Frees what has closed by now.
    pub fn progress(&mut self, context: &Context) {
        let functions = &context.ucp.functions;
        self.closing.retain(|&request| {
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
    /// it.
    pub fn close_all(&mut self, context: &Context, worker: sys::WorkerHandle, rounds: usize) {
        let functions = &context.ucp.functions;
        let all = core::mem::take(&mut self.by_address).into_values();
        for peer in all.chain(core::mem::take(&mut self.failed)) {
            self.close(context, &peer);
        }
        for _ in 0..rounds {
            if self.closing.is_empty() {
                return;
            }
            // SAFETY: the worker lives.
            unsafe { (functions.ucp_worker_progress)(worker) };
            self.progress(context);
        }
        for request in self.closing.drain(..) {
            // SAFETY: it is a request that was not freed. A worker cannot end over one.
            unsafe { (functions.ucp_request_free)(request) };
        }
    }

    /// Every transport that a lane to a peer uses.
    pub fn lanes(&self) -> impl Iterator<Item = &String> {
        self.by_address.values().flat_map(|peer| &peer.lanes)
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
