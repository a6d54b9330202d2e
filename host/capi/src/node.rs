//! A node in this process: it owns partitions here, with threads of its own.

use crate::client::zepto_client;
use crate::error::{Failure, zepto_error};
use crate::handle::{Life, call, caught, clear, get, hand_out, not_in_callback};
use crate::status::*;
use crate::text::zepto_str;
use ::zepto_node::config::Config;
use ::zepto_node::{Running, StartError, start};
use core::time::Duration;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::runtime::{Builder, Runtime};
use zepto_transport::Shm;

/// Time for the library's threads to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A node. Free it with `zepto_node_free`.
pub struct zepto_node {
    life: Life,
    address: String,
    secret_file: String,
    running: Mutex<Option<Running<Shm>>>,
    runtime: Option<Runtime>,
}

/// Starts a node with a configuration as `zepto-host --config FILE` reads it, TOML; it joins the
/// cluster of its seeds, or founds one. `node_id` and `data_dir` must be in it. It installs no
/// signal handlers and writes no log. [any thread] [not callback-safe]
///
/// # Safety
/// `toml` must be readable, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_node_open(
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
        unsafe { hand_out(out, open(text)?) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { call(None, error, body) }
}

fn open(toml: &str) -> Result<zepto_node, Failure> {
    let mut config = Config::parse(toml).map_err(Failure::invalid)?;
    if config.node_id.is_empty() || config.data_dir.as_os_str().is_empty() {
        return Err(Failure::invalid("node_id and data_dir must be in the configuration"));
    }
    config.embedded = true;
    let secret_file = config.secret_file.as_ref();
    let secret_file = secret_file.map_or_else(String::new, |path| path.display().to_string());
    let mut threads = Builder::new_multi_thread();
    let runtime = threads.thread_name("zepto-node").enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| Failure::new(ZEPTO_E_IO, error))?;
    let running = runtime.block_on(start::<Shm>(config)).map_err(|error| why(&error))?;
    Ok(zepto_node {
        life: Life::begin(),
        address: running.address().to_string(),
        secret_file,
        running: Mutex::new(Some(running)),
        runtime: Some(runtime),
    })
}

fn why(error: &StartError) -> Failure {
    let status = match error {
        StartError::Config(_) | StartError::Secret(_) | StartError::Advertise(_) => ZEPTO_E_INVALID,
        StartError::Insecure(_) | StartError::InsecureAdmin(_) => ZEPTO_E_DENIED,
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
    let body = || {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise.
        let node = unsafe { get(node, "node") }?;
        node.life.check()?;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_client::of_node(&node.address, &node.secret_file)?) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { call(None, error, body) }
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
    let body = || {
        // SAFETY: the caller's promise.
        let node = unsafe { get(node.cast_const(), "node") }?;
        node.life.check()?;
        not_in_callback()?;
        node.stop();
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { call(None, error, body) }
}

impl zepto_node {
    fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(running), Some(runtime)) = (running, &self.runtime) {
            // Whether the log heard of it makes no difference to a process that goes on.
            let _report = runtime.block_on(running.stop());
        }
        self.life.close();
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
    let freed = caught(None, || {
        node.stop();
        if let Some(runtime) = node.runtime.take() {
            runtime.shutdown_timeout(END_WITHIN);
        }
    });
    freed.map_or(ZEPTO_E_PANIC, |()| ZEPTO_OK)
}
