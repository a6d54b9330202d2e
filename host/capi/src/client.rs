//! A client: routes and asks, owns nothing.

use crate::error::{Failure, zepto_error};
use crate::handle::{self, Life, call, clear, get, hand_out, not_in_callback};
use crate::pipes;
use crate::sized::{self, grows};
use crate::status::*;
use crate::text::{zepto_str, zepto_text};
use crate::version::ZEPTO_ABI_MAJOR;
use ::zepto_client::message::PluginRequest;
use ::zepto_client::{Client, ClientOptions, ClusterSecret};
use core::future::Future;
use core::time::Duration;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use zepto_core::limits::SEEDS_MAX;

/// No shared memory, also where it could be had.
pub const ZEPTO_CLIENT_NO_SHARED_MEMORY: u32 = 1;

/// Time to find a member that answers, where nothing is said.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Time for the library's threads to end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Threads of a client: they open lanes and ask; ticks do not go through them.
const THREADS: usize = 2;

/// How to open a client. Zero it, and fill in what is needed.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct zepto_client_options {
    /// `sizeof` of this struct.
    pub struct_size: u32,
    /// `ZEPTO_ABI_VERSION`.
    pub abi_version: u32,
    /// Addresses of members, `host:port`; one that answers is enough.
    pub seeds: *const zepto_str,
    /// How many.
    pub seeds_len: u32,
    /// `ZEPTO_CLIENT_*`.
    pub flags: u32,
    /// A name for the members' logs.
    pub name: zepto_str,
    /// File with the cluster secret, if the cluster has one.
    pub secret_file: zepto_str,
    /// Time to find a member that answers, ns; 0 is ten seconds.
    pub connect_timeout_ns: u64,
    /// Zero.
    pub reserved: u64,
}
grows!(zepto_client_options = 72);

/// A connection to the cluster. Free it with `zepto_client_free`.
pub struct zepto_client {
    pub(crate) life: Life,
    pub(crate) shared: Arc<Shared>,
}

/// What a client and its producers and watches share: the last of them ends the threads.
pub(crate) struct Shared {
    pub client: Client,
    runtime: Option<Runtime>,
}

impl Shared {
    /// Asks and waits. Not from a callback.
    pub fn wait<R>(&self, asking: impl Future<Output = R>) -> Result<R, Failure> {
        not_in_callback()?;
        let runtime = self.runtime.as_ref();
        let runtime = runtime.ok_or_else(|| Failure::new(ZEPTO_E_INTERNAL, "no threads"))?;
        Ok(runtime.block_on(asking))
    }

    /// Has something run on the library's threads.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(work);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(END_WITHIN);
        }
    }
}

/// Lets go of what is shared. In a child after a fork it stays: its threads are not there.
pub(crate) fn release(life: &Life, shared: Arc<Shared>) {
    if life.is_here() {
        drop(shared);
    } else {
        core::mem::forget(shared);
    }
}

struct Opening {
    options: ClientOptions,
    within: Duration,
}

impl Opening {
    /// # Safety
    /// As `zepto_client_open` says.
    unsafe fn of(options: *const zepto_client_options) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let options = unsafe { sized::read(options) }?;
        if options.abi_version >> 16 != ZEPTO_ABI_MAJOR {
            let text = format!("compiled for version {}", options.abi_version >> 16);
            return Err(Failure::new(ZEPTO_E_VERSION, text));
        }
        let count = options.seeds_len as usize;
        if count > SEEDS_MAX {
            return Err(Failure::invalid(format!("{count} seeds: 1 to {SEEDS_MAX}")));
        }
        if options.seeds.is_null() {
            return Err(Failure::null("seeds"));
        }
        // SAFETY: the caller's promise: so many are there.
        let seeds = unsafe { core::slice::from_raw_parts(options.seeds, count) };
        let read = |seed: &zepto_str| {
            // SAFETY: the caller's promise.
            unsafe { seed.read("a seed") }.map(str::to_owned)
        };
        let seeds = seeds.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        // SAFETY: the caller's promise.
        let name = unsafe { options.name.read("name") }?;
        // SAFETY: the caller's promise.
        let secret_file = unsafe { options.secret_file.read("secret_file") }?;
        if options.flags & !ZEPTO_CLIENT_NO_SHARED_MEMORY != 0 || options.reserved != 0 {
            let text = "flags or fields of a version after this library's";
            return Err(Failure::new(ZEPTO_E_UNSUPPORTED, text));
        }
        let shared_memory = options.flags & ZEPTO_CLIENT_NO_SHARED_MEMORY == 0;
        let within = match options.connect_timeout_ns {
            0 => CONNECT_WITHIN,
            ns => Duration::from_nanos(ns),
        };
        Self::new(seeds, name, shared_memory, secret_file, within)
    }

    fn new(
        seeds: Vec<String>,
        name: &str,
        shared_memory: bool,
        secret_file: &str,
        within: Duration,
    ) -> Result<Self, Failure> {
        if seeds.is_empty() || seeds.len() > SEEDS_MAX {
            return Err(Failure::invalid(format!("{} seeds: 1 to {SEEDS_MAX}", seeds.len())));
        }
        let secret =
            (!secret_file.is_empty()).then(|| ClusterSecret::open(&PathBuf::from(secret_file)));
        let secret = secret.transpose().map_err(Failure::invalid)?;
        let name = if name.is_empty() { "libzepto" } else { name };
        let options = ClientOptions { seeds, name: name.into(), shared_memory, secret };
        Ok(Self { options, within })
    }

    fn connect(self) -> Result<zepto_client, Failure> {
        not_in_callback()?;
        let threads = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("zepto-client")
            .on_thread_start(pipes::block_in_this_thread)
            .enable_io()
            .enable_time()
            .build();
        let runtime = threads.map_err(|error| Failure::new(ZEPTO_E_IO, error))?;
        let client = match runtime.block_on(Client::connect(self.options, self.within)) {
            Ok(client) => client,
            Err(error) => {
                // A name that nobody resolves may hold one of its threads for long.
                runtime.shutdown_background();
                return Err(error.into());
            }
        };
        let shared = Shared { client, runtime: Some(runtime) };
        Ok(zepto_client { life: Life::begin(), shared: Arc::new(shared) })
    }
}

impl zepto_client {
    /// A client of a node in this process.
    pub(crate) fn of_node(address: &str, secret_file: &str) -> Result<Self, Failure> {
        let seeds = vec![address.to_owned()];
        Opening::new(seeds, "libzepto", true, secret_file, CONNECT_WITHIN)?.connect()
    }
}

/// Opens a client: finds a member that answers, and follows the cluster from then on. It blocks for
/// `connect_timeout_ns` at most. [any thread] [not callback-safe]
///
/// # Safety
/// `options` and what it points to must be readable, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_client_open(
    options: *const zepto_client_options,
    out: *mut *mut zepto_client,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise.
        let opening = unsafe { Opening::of(options) }?;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, opening.connect()?) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { call(None, error, body) }
}

/// Opens a client with a configuration, TOML: `seeds = ["host:port"]`, and where wanted `name`,
/// `secret_file`, `shared_memory` and `connect_timeout_ms`. [any thread] [not callback-safe]
///
/// # Safety
/// `toml` must be readable, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_client_open_toml(
    toml: zepto_str,
    out: *mut *mut zepto_client,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise.
        let text = unsafe { toml.read("toml") }?;
        let said: Said = toml::from_str(text).map_err(Failure::invalid)?;
        let within = said.connect_timeout_ms.map_or(CONNECT_WITHIN, Duration::from_millis);
        let opening =
            Opening::new(said.seeds, &said.name, said.shared_memory, &said.secret_file, within)?;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, opening.connect()?) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { call(None, error, body) }
}

/// A client's configuration as text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    seeds: Vec<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret_file: String,
    #[serde(default = "yes")]
    shared_memory: bool,
    connect_timeout_ms: Option<u64>,
}

fn yes() -> bool {
    true
}

/// Has a node take a new version of one of its plugins into service: that of a file on the node's
/// machine. `address` is the node's; `out`, which may be NULL, gets what was done.
/// [any thread] [not callback-safe]
///
/// # Safety
/// `client` must be of this library, the texts readable, `out` NULL or writable, `error` NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_plugin_load(
    client: *const zepto_client,
    address: zepto_str,
    name: zepto_str,
    path: zepto_str,
    timeout_ns: u64,
    out: *mut *mut zepto_text,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client| {
        if !out.is_null() {
            // SAFETY: the caller's promise.
            unsafe { out.write(core::ptr::null_mut()) };
        }
        // SAFETY: the caller's promise.
        let address = unsafe { address.read("address") }?;
        // SAFETY: the caller's promise.
        let name = unsafe { name.read("name") }?.to_owned();
        // SAFETY: the caller's promise.
        let path = unsafe { path.read("path") }?.to_owned();
        let (shared, within) = (&client.shared, Duration::from_nanos(timeout_ns));
        let request = PluginRequest::Reload { name, path };
        let done = shared.wait(shared.client.plugin_at(address, request, within))??;
        if !out.is_null() {
            // SAFETY: the caller's promise.
            unsafe { out.write(zepto_text::new(done)) };
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { of(client, error, body) }
}

/// Closes and frees it; NULL is fine. Producers of it go on until they are freed; the last handle
/// waits for the library's threads to end. From within a callback it is refused, and nothing is
/// freed. [any thread] [not callback-safe]
///
/// # Safety
/// `client` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_client_free(client: *mut zepto_client) -> zepto_status {
    if client.is_null() {
        return ZEPTO_OK;
    }
    if let Err(failure) = not_in_callback() {
        return failure.status;
    }
    // SAFETY: the caller's promise; it was made by `Box::into_raw`.
    let zepto_client { life, shared } = *unsafe { Box::from_raw(client) };
    handle::caught(None, || release(&life, shared)).map_or(ZEPTO_E_PANIC, |()| ZEPTO_OK)
}

/// What one member says of itself and the cluster, as a JSON object: that of
/// `zepto-host status --json`. `address` is the member's, or empty for any. Free it with
/// `zepto_text_free`. [any thread] [not callback-safe]
///
/// # Safety
/// `client` must be of this library, `address` readable, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_status_json(
    client: *const zepto_client,
    address: zepto_str,
    timeout_ns: u64,
    out: *mut *mut zepto_text,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise.
        let address = unsafe { address.read("address") }?;
        let shared = &client.shared;
        let within = Duration::from_nanos(timeout_ns);
        let status = match address {
            "" => shared.wait(shared.client.status(within))?,
            address => shared.wait(shared.client.status_at(address, within))?,
        }?;
        let json = serde_json::to_string(&status);
        let json = json.map_err(|error| Failure::new(ZEPTO_E_INTERNAL, error))?;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { out.write(zepto_text::new(json)) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { of(client, error, body) }
}

/// Runs a function of a client's.
///
/// # Safety
/// `client` must be NULL or of this library, `error` NULL or writable.
pub(crate) unsafe fn of(
    client: *const zepto_client,
    error: *mut *mut zepto_error,
    body: impl FnOnce(&zepto_client) -> Result<(), Failure>,
) -> zepto_status {
    // SAFETY: the caller's promise.
    match unsafe { get(client, "client") } {
        // SAFETY: the caller's promise.
        Ok(client) => unsafe { call(Some(&client.life), error, || body(client)) },
        // SAFETY: the caller's promise.
        Err(failure) => unsafe { failure.hand_out(error) },
    }
}
