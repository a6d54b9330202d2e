//! Shared libraries: opened from a copy that is named by its content, and never closed. Code that
//! has run may have left threads and pointers behind, so nothing of it is ever unmapped.

use super::table::{HOST_API, HostApi};
use crate::error::LoadError;
use crate::file::{PluginFile, Sha256};
use crate::kv::replace;
use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU64, Ordering};
use libloading::os::unix::{Library as Open, RTLD_LOCAL, RTLD_NOW};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use zepto_abi::plugin::PluginStatus;

pub(super) type OpenFn = unsafe extern "C" fn(u64, *const c_void, u32) -> i64;
pub(super) type EventFn = unsafe extern "C" fn(i64, *const c_void, u32) -> i32;
pub(super) type CloseFn = unsafe extern "C" fn(i64) -> i32;
type BindFn = unsafe extern "C" fn(*const HostApi) -> i32;

/// A library that is open for good.
#[derive(Clone)]
pub struct Library {
    pub(super) open: OpenFn,
    pub(super) event: EventFn,
    pub(super) close: CloseFn,
    copy: Arc<Path>,
    sha256: Sha256,
}

impl Library {
    /// Opens a library whose descriptor was read and found good. Its constructors run: from here on
    /// it is trusted. `directory` gets a copy, under a name of its own: the dynamic linker gives
    /// one library for one name, and two instances would share their variables.
    ///
    /// # Errors
    /// When it cannot be opened, or lacks a function.
    pub fn open(file: &PluginFile, directory: &Path) -> Result<Self, LoadError> {
        Self::of(&file.bytes, file.sha256, directory)
    }

    /// Opens it once more, with variables of its own.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn again(&self, directory: &Path) -> Result<Self, LoadError> {
        let bytes = fs::read(&self.copy);
        let bytes = bytes.map_err(|error| system(&self.copy, &error))?;
        if Sha256::of(&bytes) != self.sha256 {
            let text = format!("{}: changed since it was written", self.copy.display());
            return Err(LoadError::System(text));
        }
        Self::of(&bytes, self.sha256, directory)
    }

    fn of(bytes: &[u8], sha256: Sha256, directory: &Path) -> Result<Self, LoadError> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{sha256}-{number}.so"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let copied = made.and_then(|()| replace(&path, bytes));
        copied.map_err(|error| system(&path, &error))?;
        // SAFETY: opening runs the library's constructors. The operator allowed native plugins and
        // named this file, and its descriptor says that it is one.
        let library = unsafe { Open::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| LoadError::Link(error.to_string()))?;
        let library = ManuallyDrop::new(library);
        // SAFETY: the types are those of the header, whose version the descriptor names; the
        // symbols are used as long as the library is open, which is for good.
        let bind: BindFn = *unsafe { library.get(b"zp_plugin_bind_v1\0") }.map_err(missing)?;
        // SAFETY: as above.
        let open: OpenFn = *unsafe { library.get(b"zp_plugin_open_v1\0") }.map_err(missing)?;
        // SAFETY: as above.
        let event: EventFn = *unsafe { library.get(b"zp_plugin_event_v1\0") }.map_err(missing)?;
        // SAFETY: as above.
        let close: CloseFn = *unsafe { library.get(b"zp_plugin_close_v1\0") }.map_err(missing)?;
        // SAFETY: the table is static, and so outlives the library.
        let status = unsafe { bind(&raw const HOST_API) };
        if status != PluginStatus::Ok.code() {
            let text = format!("zp_plugin_bind_v1 returned {status}");
            return Err(LoadError::Version(text));
        }
        Ok(Self { open, event, close, copy: path.into(), sha256 })
    }
}

fn system(path: &Path, error: &io::Error) -> LoadError {
    LoadError::System(format!("{}: {error}", path.display()))
}

fn missing(error: libloading::Error) -> LoadError {
    LoadError::NotAPlugin(error.to_string())
}

type Waker = Arc<dyn Fn() + Send + Sync>;

/// How to wake each instance, by its handle: `zp_wake` comes from any thread.
static WAKERS: Mutex<BTreeMap<u64, Waker>> = Mutex::new(BTreeMap::new());

pub(super) fn register(handle: u64, waker: Waker) {
    WAKERS.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, waker);
}

pub(super) fn unregister(handle: u64) {
    WAKERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle);
}

pub(super) fn wake(handle: u64) -> i32 {
    let wakers = WAKERS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(waker) = wakers.get(&handle).cloned() else {
        return PluginStatus::BadHandle.code();
    };
    drop(wakers);
    waker();
    PluginStatus::Ok.code()
}
