//! The one context of a process, and memory that peers write.

use super::library::{LIBRARY, Ucp, UcxError};
use super::sys::{self, FEATURE_MESSAGES, MAP_ALLOCATE, OK};
use super::{gate, segment};
use crate::lines::SharedLine;
use crate::transport::TransportError;
use core::fmt;
use core::ptr::{NonNull, null, null_mut};
use std::ffi::CString;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use zepto_core::hash::digest;

/// libucp with its context. It lives as long as the process: what other processes were given of it
/// cannot be called back.
pub struct Context {
    pub ucp: Ucp,
    pub handle: sys::ContextHandle,
    /// What it was opened with.
    pub options: UcxOptions,
    /// The process that opened it.
    process: u32,
    /// See [`Self::place`].
    place: OnceLock<Place>,
}

// SAFETY: the context is made to be used by several threads (`workers_shared`).
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// A kernel, and a user in a namespace of shared memory and one of users there.
pub type Place = [u64; 2];
const NOWHERE: Place = [0; 2];

/// What UCX is told beside its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UcxOptions {
    /// The library: a name that the loader finds, or a path; [`super::LIBRARY`] as a rule.
    pub library: String,
    /// Network devices that it may use, as in `UCX_NET_DEVICES`, which counts for more. `None` is
    /// all of them.
    pub devices: Option<String>,
}

impl Default for UcxOptions {
    fn default() -> Self {
        Self { library: LIBRARY.into(), devices: None }
    }
}

impl fmt::Display for UcxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = self.devices.as_deref().unwrap_or("all");
        write!(f, "{} and the network devices {devices}", self.library)
    }
}

static OPENED: Mutex<Option<&'static Context>> = Mutex::new(None);

impl Context {
    /// The process's context, opened when it is asked for first.
    ///
    /// # Errors
    /// What [`UcxError`] says. It can be tried again, with another library only if none was opened.
    pub fn get(options: &UcxOptions) -> Result<&'static Self, UcxError> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        match *opened {
            Some(context) if context.process != std::process::id() => Err(UcxError::Forked),
            Some(context) if context.options == *options => Ok(context),
            Some(context) => Err(UcxError::Other { before: context.options.to_string() }),
            None => {
                let context: &'static Self = Box::leak(Box::new(Self::open(options)?));
                *opened = Some(context);
                // Found out now, not in the midst of opening a lane.
                context.place();
                Ok(context)
            }
        }
    }

    /// The process's context, if there is one.
    pub fn opened() -> Option<&'static Self> {
        *OPENED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(options: &UcxOptions) -> Result<Self, UcxError> {
        let ucp = Ucp::load(&options.library)?;
        let failed = |call, status| UcxError::Call { call, reason: ucp.text(status) };
        let late = || UcxError::Call { call: "ucp_init", reason: gate::TOO_LATE.into() };
        let _pass = gate::enter().ok_or_else(late)?;
        let config = configure(&ucp, options)?;
        let params = sys::ContextParams {
            field_mask: sys::PARAM_FEATURES | sys::PARAM_WORKERS_SHARED,
            features: FEATURE_MESSAGES,
            workers_shared: 1,
            ..Default::default()
        };
        let mut handle = null_mut();
        let init = ucp.functions.ucp_init_version;
        // SAFETY: parameters of version 1.12, as `sys` has them, and a configuration it has made.
        let status = unsafe { init(1, 12, &raw const params, config, &raw mut handle) };
        // SAFETY: it is not used any more.
        unsafe { (ucp.functions.ucp_config_release)(config) };
        if status != OK {
            return Err(failed("ucp_init_version", status));
        }
        let (options, process) = (options.clone(), std::process::id());
        Ok(Self { ucp, handle, options, process, place: OnceLock::new() })
    }

    /// What is equal for two processes that can share memory: zeroes, which equal nobody's, where
    /// UCX may not.
    pub fn place(&'static self) -> Place {
        let can_share = || Memory::map(self, 1).is_ok_and(|memory| memory.segment.is_some());
        *self.place.get_or_init(|| if can_share() { place() } else { NOWHERE })
    }

    /// Whether somebody there can share memory with this process.
    pub fn is_here(&'static self, place: Place) -> bool {
        place == self.place() && place != NOWHERE
    }

    /// What a failed call says.
    pub fn failed(&self, call: &'static str, status: sys::Status) -> TransportError {
        TransportError::Ucx { call, reason: self.ucp.text(status) }
    }
}

/// The environment's configuration, with what the options say.
fn configure(ucp: &Ucp, options: &UcxOptions) -> Result<sys::Config, UcxError> {
    let failed = |call, status| UcxError::Call { call, reason: ucp.text(status) };
    let mut config = null_mut();
    // SAFETY: NULL stands for the environment's UCX_* and the usual files.
    let status = unsafe { (ucp.functions.ucp_config_read)(null(), null(), &raw mut config) };
    if status != OK {
        return Err(failed("ucp_config_read", status));
    }
    let is_said = std::env::var_os("UCX_NET_DEVICES").is_some();
    let Some(devices) = options.devices.as_deref().filter(|_| !is_said) else { return Ok(config) };
    let devices = CString::new(devices).unwrap_or_default();
    let modify = ucp.functions.ucp_config_modify;
    // SAFETY: the configuration was made above, and the texts end with a zero.
    let status = unsafe { modify(config, c"NET_DEVICES".as_ptr(), devices.as_ptr()) };
    if status != OK {
        // SAFETY: it is not used any more.
        unsafe { (ucp.functions.ucp_config_release)(config) };
        return Err(failed("ucp_config_modify", status));
    }
    Ok(config)
}

/// Nowhere, where it cannot be found out.
fn place() -> Place {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespaces = ["/proc/self/ns/ipc", "/proc/self/ns/user"].map(std::fs::read_link);
    let [Ok(memory), Ok(users)] = namespaces else { return NOWHERE };
    if boot.is_empty() {
        return NOWHERE;
    }
    let user = rustix::process::geteuid().as_raw();
    let who = format!("{} {} {user}", memory.display(), users.display());
    [digest(&boot), digest(who.as_bytes())]
}

/// Memory that one peer writes. It is UCX's own, so that a peer on this machine can map it.
pub struct Memory {
    context: &'static Context,
    handle: sys::MemoryHandle,
    lines: NonNull<SharedLine>,
    count: usize,
    /// Number of its System V segment, if it is one, by which a peer attaches it.
    pub segment: Option<i32>,
}

// SAFETY: the handle belongs to a context that any thread may use; the lines are made of atomics.
unsafe impl Send for Memory {}
// SAFETY: as above; nothing changes but the lines.
unsafe impl Sync for Memory {}

impl Memory {
    /// `count` lines, zeroed if they are a segment.
    pub fn map(context: &'static Context, count: usize) -> Result<Self, TransportError> {
        let _pass = gate::enter().ok_or_else(|| gate::too_late("ucp_mem_map"))?;
        let functions = &context.ucp.functions;
        let length = count * size_of::<SharedLine>();
        let params = sys::MapParams {
            field_mask: sys::MAP_PARAM_LENGTH | sys::MAP_PARAM_FLAGS,
            address: null_mut(),
            length,
            flags: MAP_ALLOCATE,
            room: Default::default(),
        };
        let mut handle = null_mut();
        // SAFETY: the context lives, and the parameters are as `sys` has them.
        let status =
            unsafe { (functions.ucp_mem_map)(context.handle, &raw const params, &raw mut handle) };
        if status != OK {
            let source = io::Error::other(context.ucp.text(status));
            return Err(TransportError::NoMemory { bytes: length as u64, source });
        }
        // From here on it is unmapped when it is dropped.
        let mut memory =
            Self { context, handle, lines: NonNull::dangling(), count: 0, segment: None };
        memory.find(length)?;
        memory.count = count;
        memory.segment = segment::number_at(memory.lines.addr().get());
        Ok(memory)
    }

    fn find(&mut self, length: usize) -> Result<(), TransportError> {
        let mut found = sys::MemoryAttributes {
            field_mask: sys::MEMORY_ADDRESS | sys::MEMORY_LENGTH,
            address: null_mut(),
            length: 0,
            room: Default::default(),
        };
        // SAFETY: the handle lives, and there is room for what it tells.
        let status =
            unsafe { (self.context.ucp.functions.ucp_mem_query)(self.handle, &raw mut found) };
        let lines = NonNull::new(found.address.cast::<SharedLine>());
        match lines {
            Some(lines) if status == OK && found.length >= length && lines.is_aligned() => {
                self.lines = lines;
                Ok(())
            }
            _ if status == OK => {
                let reason = "it is not the memory that was asked for".into();
                Err(TransportError::Ucx { call: "ucp_mem_map", reason })
            }
            _ => Err(self.context.failed("ucp_mem_query", status)),
        }
    }

    /// The lines.
    #[inline(always)]
    pub fn lines(&self) -> &[SharedLine] {
        // SAFETY: so many lines, aligned, that live as long as `self`. A line
        // is made of atomics, valid for any bytes, so a peer may write them meanwhile.
        unsafe { core::slice::from_raw_parts(self.lines.as_ptr(), self.count) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Some(_pass) = gate::enter() else { return };
        // SAFETY: the handle is of this context, and nothing refers to the memory any more.
        let status =
            unsafe { (self.context.ucp.functions.ucp_mem_unmap)(self.context.handle, self.handle) };
        debug_assert_eq!(status, OK, "memory that was mapped is unmapped");
    }
}
