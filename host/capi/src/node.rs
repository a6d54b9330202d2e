//! A node in this process: it owns partitions here. Its shards have threads of their own, or are
//! polled by the program.

use crate::client::zepto_client;
use crate::error::{Failure, zepto_error};
use crate::handle::{Life, call, caught, clear, get, hand_out, not_in_callback};
use crate::pipes;
use crate::running::AnyNode;
use crate::status::*;
use crate::text::{zepto_str, zepto_text};
use ::zepto_node::config::Config;
use ::zepto_node::{Round, StartError};
use core::time::Duration;
use std::sync::{Arc, OnceLock, TryLockError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;
use tokio::sync::watch::Receiver;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

/// Time for the library's threads to end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Pause of a polled node that stops and has nothing to do.
const STOPPING_PAUSE: Duration = Duration::from_millis(1);

/// A node. Free it with `zepto_node_free`.
pub struct zepto_node {
    life: Arc<Life>,
    address: String,
    secret_file: String,
    inside: Arc<Inside>,
    /// Of its shards, if they are polled.
    rounds: Option<std::sync::Mutex<Vec<Round>>>,
    runtime: Option<Runtime>,
}

/// What the node and who watches it share.
struct Inside {
    running: Mutex<Option<AnyNode>>,
    /// Why it ended by itself, if it did.
    failed: OnceLock<String>,
}

impl Inside {
    /// Stops it, unless it is stopped; whoever comes second waits for the first.
    async fn stop(&self) {
        if let Some(running) = self.running.lock().await.take() {
            // Whether the log heard of it makes no difference to a process that goes on.
            let _report = running.stop().await;
        }
    }
}

/// Starts a node with a configuration as `zepto-host --config FILE` reads it, TOML; it joins the
/// cluster of its seeds, or founds one. `node_id` and `data_dir` must be in it. It installs no
/// signal handlers; its log lines go to `zepto_log`. [any thread] [not callback-safe]
///
/// With `transport = 'ucx'` the process loads UCX, and keeps it until it ends. Signal handlers stay
/// what they were. UCX's own log goes to stdout unless `UCX_LOG_FILE` names a file, `stderr` or
/// another, it writes over `mmap` and its like unless `UCX_MEM_EVENTS` is `n`, and it waits up to
/// two minutes for a peer behind a firewall that drops packets unless `UCX_TCP_CONN_NB` is `y`:
/// variables that must be there when the program starts. Its sockets stay open in a program that
/// this process runs (exec), and a forked child can have no node with it. `zepto-host status` shows
/// what it does.
///
/// # Safety
/// `toml` must be readable, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_open(
    toml: zepto_str,
    out: *mut *mut zepto_node,
    error: *mut *mut zepto_error,
) -> zepto_status {
    // SAFETY: the caller's promise.
    unsafe { open_as(false, toml, out, error) }
}

/// As `zepto_node_open`, but the threads that append ticks are the program's: it calls
/// `zepto_node_poll`, all the time. Whoever waits for this node's answers in the thread that polls
/// waits in vain. [any thread] [not callback-safe]
///
/// # Safety
/// As for `zepto_node_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_open_polled(
    toml: zepto_str,
    out: *mut *mut zepto_node,
    error: *mut *mut zepto_error,
) -> zepto_status {
    // SAFETY: the caller's promise.
    unsafe { open_as(true, toml, out, error) }
}

/// # Safety
/// As for `zepto_node_open`.
unsafe fn open_as(
    polled: bool,
    toml: zepto_str,
    out: *mut *mut zepto_node,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise.
        let text = unsafe { toml.read("toml") }?;
        not_in_callback()?;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, open(text, polled)?) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { call(None, error, body) }
}

fn open(toml: &str, polled: bool) -> Result<zepto_node, Failure> {
    let mut config = Config::parse(toml).map_err(Failure::invalid)?;
    if config.node_id.is_empty() || config.data_dir.as_os_str().is_empty() {
        return Err(Failure::invalid("node_id and data_dir must be in the configuration"));
    }
    (config.embedded, config.polled) = (true, polled);
    let secret_file = config.secret_file.as_ref();
    let secret_file = secret_file.map_or_else(String::new, |path| path.display().to_string());
    let mut threads = Builder::new_multi_thread();
    threads.thread_name("zepto-node").on_thread_start(pipes::block_in_this_thread);
    let runtime = threads.enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| Failure::new(ZEPTO_E_IO, error))?;
    let running = match runtime.block_on(AnyNode::start(config)) {
        Ok(running) => running,
        Err(error) => {
            runtime.shutdown_background();
            return Err(why(&error));
        }
    };
    let (life, address) = (Arc::new(Life::begin()), running.advertised().to_owned());
    let failure = running.failure();
    let rounds = polled.then(|| std::sync::Mutex::new(running.take_rounds()));
    let running = Mutex::new(Some(running));
    let inside = Arc::new(Inside { running, failed: OnceLock::new() });
    runtime.spawn(watch(failure, Arc::clone(&life), Arc::clone(&inside)));
    Ok(zepto_node { life, address, secret_file, inside, rounds, runtime: Some(runtime) })
}

/// Stops a node that must not go on: it was declared dead while it slept, or its log is gone.
async fn watch(mut failure: Receiver<Option<String>>, life: Arc<Life>, inside: Arc<Inside>) {
    let Ok(text) = failure.wait_for(Option::is_some).await.map(|text| text.clone()) else { return };
    // Nobody set it before: this is the only place.
    let _first = inside.failed.set(text.unwrap_or_default());
    life.close();
    inside.stop().await;
}

fn why(error: &StartError) -> Failure {
    let status = match error {
        StartError::Config(_) | StartError::Secret(_) | StartError::Advertise(_) => ZEPTO_E_INVALID,
        StartError::Insecure(_)
        | StartError::InsecureAdmin(_)
        | StartError::InsecureTransport(_) => ZEPTO_E_DENIED,
        StartError::Plugin(_) => ZEPTO_E_REFUSED,
        StartError::Join(_) => ZEPTO_E_TIMEOUT,
        _ => ZEPTO_E_IO,
    };
    Failure::new(status, error)
}

/// Where it is reached, `host:port`, as long as it is not freed; nothing of NULL.
/// [any thread] [callback-safe]
///
/// # Safety
/// `node` must be NULL or of this library, and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_address(node: *const zepto_node) -> zepto_str {
    // SAFETY: the caller's promise.
    let node = unsafe { node.as_ref() };
    node.map_or(zepto_str::EMPTY, |node| zepto_str::of(&node.address))
}

/// Why it ended by itself, if it did: it was declared dead while it slept, or what it needs is
/// gone. `ZEPTO_E_NOT_FOUND` as long as it has not. Free the text with `zepto_text_free`; open
/// another node to go on. [any thread] [callback-safe]
///
/// # Safety
/// `node` must be of this library, `out` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_failed(
    node: *const zepto_node,
    out: *mut *mut zepto_text,
) -> zepto_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise.
        let node = unsafe { get(node, "node") }?;
        let text = node.inside.failed.get();
        let text = text.ok_or_else(|| Failure::new(ZEPTO_E_NOT_FOUND, "it has not failed"))?;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { out.write(zepto_text::new(text.clone())) };
        Ok(())
    };
    // SAFETY: no error is wanted.
    unsafe { call(None, core::ptr::null_mut(), body) }
}

/// Opens a client of the node's cluster. It is freed by itself. [any thread] [not callback-safe]
///
/// # Safety
/// `node` must be of this library, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_client(
    node: *const zepto_node,
    out: *mut *mut zepto_client,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |node: &zepto_node| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_client::of_node(&node.address, &node.secret_file)?) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { of(node, error, body) }
}

/// Does a bounded piece of the work of a node that was opened to be polled, and returns: takes
/// ticks, acknowledges, answers. `work`, which may be NULL, gets how much there was; with none, the
/// thread may do something else, but not for long: a node that is not polled between two heartbeats
/// sends none, and is declared dead by the others in the end.
/// [one thread at a time] [not callback-safe]
///
/// # Safety
/// `node` must be of this library, `work` NULL or writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_poll(
    node: *mut zepto_node,
    work: *mut u64,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |node: &zepto_node| {
        not_in_callback()?;
        let done = node.poll()?;
        if !work.is_null() {
            // SAFETY: the caller's promise.
            unsafe { work.write(done as u64) };
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { of(node.cast_const(), error, body) }
}

/// Stops it: it takes nothing new, tells the cluster, and ends. It gives nothing away before:
/// drain it for that. [any thread] [not callback-safe]
///
/// # Safety
/// `node` must be of this library, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_stop(
    node: *mut zepto_node,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |node: &zepto_node| {
        not_in_callback()?;
        node.stop();
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { of(node.cast_const(), error, body) }
}

impl zepto_node {
    fn stop(&self) {
        if let Some(runtime) = &self.runtime {
            let inside = Arc::clone(&self.inside);
            let stopping = runtime.spawn(async move { inside.stop().await });
            let ended = match self.rounds {
                Some(_) => self.poll_until(runtime, stopping),
                None => runtime.block_on(stopping),
            };
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        self.life.close();
    }

    /// Its shards give away and take until the end.
    fn poll_until(&self, runtime: &Runtime, mut end: JoinHandle<()>) -> Result<(), JoinError> {
        loop {
            let is_idle = !matches!(self.poll(), Ok(work) if work > 0);
            let pause = if is_idle { STOPPING_PAUSE } else { Duration::ZERO };
            let waited = runtime.block_on(async { timeout(pause, &mut end).await });
            if let Ok(ended) = waited {
                return ended;
            }
        }
    }

    fn poll(&self) -> Result<usize, Failure> {
        let rounds = self.rounds.as_ref().ok_or_else(|| {
            let text = "it runs by itself: open it with zepto_node_open_polled to poll it";
            Failure::new(ZEPTO_E_UNSUPPORTED, text)
        })?;
        match rounds.try_lock() {
            Ok(mut rounds) => Ok(rounds.iter_mut().map(|round| round()).sum()),
            Err(TryLockError::WouldBlock) => {
                Err(Failure::new(ZEPTO_E_BAD_STATE, "another thread polls it just now"))
            }
            // A round panicked; the handle is broken by it.
            Err(TryLockError::Poisoned(_)) => {
                Err(Failure::new(ZEPTO_E_PANIC, "it panicked before"))
            }
        }
    }

    fn check(&self) -> Result<(), Failure> {
        match self.inside.failed.get() {
            Some(text) if self.life.is_here() => Err(Failure::new(ZEPTO_E_BAD_STATE, text)),
            _ => Ok(()),
        }
    }
}

/// Runs a function of a node's.
///
/// # Safety
/// `node` must be NULL or of this library, `error` NULL or writable.
unsafe fn of(
    node: *const zepto_node,
    error: *mut *mut zepto_error,
    body: impl FnOnce(&zepto_node) -> Result<(), Failure>,
) -> zepto_status {
    // SAFETY: the caller's promise.
    let node = match unsafe { get(node, "node") } {
        Ok(node) => node,
        // SAFETY: the caller's promise.
        Err(failure) => return unsafe { failure.hand_out(error) },
    };
    match node.check() {
        // SAFETY: the caller's promise.
        Ok(()) => unsafe { call(Some(&node.life), error, || body(node)) },
        // SAFETY: the caller's promise.
        Err(failure) => unsafe { failure.hand_out(error) },
    }
}

/// Stops it if it runs, and frees it; NULL is fine. [any thread] [not callback-safe]
///
/// # Safety
/// `node` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_free(node: *mut zepto_node) -> zepto_status {
    if node.is_null() {
        return ZEPTO_OK;
    }
    if let Err(failure) = not_in_callback() {
        return failure.status;
    }
    // SAFETY: the caller's promise; it was made by `Box::into_raw`.
    let mut node = unsafe { Box::from_raw(node) };
    if !node.life.is_here() {
        // Its threads are not in a child.
        core::mem::forget(node);
        return ZEPTO_OK;
    }
    let freed = caught(None, move || {
        node.stop();
        if let Some(runtime) = node.runtime.take() {
            runtime.shutdown_timeout(END_WITHIN);
        }
    });
    freed.map_or(ZEPTO_E_PANIC, |()| ZEPTO_OK)
}
