//! Opens libucp at run time, once in a process, and leaves the program's signals as they were.
//!
//! Loading UCX has effects that nothing takes back, so it happens only when a node is to use it:
//! its constructors install handlers for crashes, which are undone here, and, unless
//! `UCX_MEM_EVENTS=n` is set, write jumps over the first bytes of `mmap` and its like, which
//! [`Ucp::is_hooked`] tells. The library is never closed.

use super::gate;
use super::sys::{Functions, GetVersion};
use core::ffi::{CStr, c_int, c_uint};
use core::mem::{ManuallyDrop, MaybeUninit};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// The name under which every installation has it.
pub const LIBRARY: &str = "libucp.so.0";
/// The least version that has all that is used.
const VERSION_MIN: (c_uint, c_uint) = (1, 12);

/// Why UCX cannot be used here. A library that was loaded before that was found stays loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UcxError {
    /// It is not installed, or not where the system looks for libraries.
    #[error(
        "UCX is not here ({reason}): install it (Debian and Ubuntu: apt-get install libucx0), or \
         choose the transport shm"
    )]
    Missing {
        /// What the loader said.
        reason: String,
    },
    /// It is too old, or of a later interface.
    #[error("{library} is UCX {found}; zepto needs 1.12 or a later 1.x")]
    Version {
        /// The library.
        library: String,
        /// Its version.
        found: String,
    },
    /// It lacks a function.
    #[error("{library}, UCX {found}, has no {function}: zepto cannot use this version")]
    Function {
        /// The library.
        library: String,
        /// Its version.
        found: String,
        /// The function.
        function: &'static str,
    },
    /// A process has it once, and this one has set it up differently.
    #[error("this process uses UCX already, with {before}: a second node there must do so, too")]
    Other {
        /// What it was opened with.
        before: String,
    },
    /// It belongs to the process that this one is a fork of.
    #[error(
        "this process was forked from one that uses UCX, which it cannot use: let it run a program \
         of its own (exec), or choose the transport shm"
    )]
    Forked,
    /// One of its calls failed while it was set up.
    #[error("{call} of UCX: {reason}; UCX_TLS and UCX_NET_DEVICES say what it may use")]
    Call {
        /// The call.
        call: &'static str,
        /// What it said.
        reason: String,
    },
}

/// The library, loaded.
pub struct Ucp {
    pub functions: Functions,
    /// As it says.
    pub version: String,
    /// How `mmap` began before it was loaded.
    mmap: [u8; BEGINNING],
}

/// Bytes of a function that its beginning is taken for; a jump has fewer.
const BEGINNING: usize = 16;

impl Ucp {
    /// Loads it for good.
    pub fn load(name: &str) -> Result<Self, UcxError> {
        let (kept, mmap) = (Signals::save(), beginning_of_mmap());
        // SAFETY: its constructors do what the head of this file says, and nothing else unloads it.
        let opened = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
        kept.restore();
        let opened = opened.map_err(|error| UcxError::Missing { reason: error.to_string() })?;
        gate::watch();
        // What it patched and started does not survive its end: it is never closed, not even when
        // it is of no use.
        let library = ManuallyDrop::new(opened);
        let (major, minor, version) = version_of(&library, name)?;
        if (major, minor) < VERSION_MIN || major > VERSION_MIN.0 {
            return Err(UcxError::Version { library: name.to_owned(), found: version });
        }
        // SAFETY: it is of a version that has these with these types, and is never closed.
        match unsafe { Functions::load(&library) } {
            Ok(functions) => Ok(Self { functions, version, mmap }),
            Err(function) => {
                Err(UcxError::Function { library: name.to_owned(), found: version, function })
            }
        }
    }

    /// Whether UCX has written over this process's `mmap` to learn of memory that goes away, or was
    /// told to have the calls of it come to itself.
    pub fn is_hooked(&self) -> bool {
        let is = |name, value| std::env::var_os(name).is_some_and(|said| said == value);
        let is_detoured = is("UCX_MEM_MMAP_HOOK_MODE", "reloc") && !is("UCX_MEM_EVENTS", "n");
        let begins = beginning_of_mmap();
        // Another part of the program may have loaded UCX before, which left a jump there.
        let jumps = cfg!(target_arch = "x86_64") && begins[0] == 0xe9;
        self.mmap != begins || jumps || is_detoured
    }

    /// A status in words.
    pub fn text(&self, status: i8) -> String {
        // SAFETY: it takes any status.
        let text = unsafe { (self.functions.ucs_status_string)(status) };
        if text.is_null() {
            return format!("status {status}");
        }
        // SAFETY: it is a text that lives as long as the library.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }
}

fn version_of(library: &Library, name: &str) -> Result<(c_uint, c_uint, String), UcxError> {
    // SAFETY: every version of UCX has it with this type.
    let found = unsafe { library.get::<GetVersion>(b"ucp_get_version\0") };
    let get = found.map_err(|_| UcxError::Function {
        library: name.to_owned(),
        found: "of an unknown version".into(),
        function: "ucp_get_version",
    })?;
    let (mut major, mut minor, mut release) = (0, 0, 0);
    // SAFETY: the three are writable.
    unsafe { get(&raw mut major, &raw mut minor, &raw mut release) };
    Ok((major, minor, format!("{major}.{minor}.{release}")))
}

fn beginning_of_mmap() -> [u8; BEGINNING] {
    let code = (libc::mmap as *const u8).cast::<[u8; BEGINNING]>();
    // SAFETY: the code of a function can be read, and no `mmap` is as short as that.
    unsafe { code.read_volatile() }
}

/// What every signal does, from before the library was loaded.
struct Signals(Vec<(c_int, libc::sigaction)>);

impl Signals {
    fn save() -> Self {
        Self(
            (1..=libc::SIGRTMAX())
                .filter_map(|signal| Some((signal, disposition(signal)?)))
                .collect(),
        )
    }

    fn restore(&self) {
        for (signal, before) in &self.0 {
            let is_same = disposition(*signal).is_some_and(|now| {
                (now.sa_sigaction, now.sa_flags) == (before.sa_sigaction, before.sa_flags)
            });
            if !is_same {
                // SAFETY: it was this signal's disposition before.
                let restored = unsafe { libc::sigaction(*signal, before, core::ptr::null_mut()) };
                debug_assert_eq!(restored, 0, "what was valid is valid again");
            }
        }
    }
}

/// What a signal does now; nothing for those that cannot be handled.
fn disposition(signal: c_int) -> Option<libc::sigaction> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: it only writes what it is given room for.
    let found = unsafe { libc::sigaction(signal, core::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: zeroes are valid for it, and it was filled in where there was something.
    (found == 0).then(|| unsafe { now.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_one_clear_line() {
        let error = Ucp::load("libucp-of-nowhere.so.0").err().expect("missing");
        let text = error.to_string();
        assert!(text.contains("libucx0") && text.contains("shm"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}
