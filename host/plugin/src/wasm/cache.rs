//! Compiled modules, kept in a directory of the host. Only the host writes there: what lies in it
//! becomes machine code, so a directory or file that others may write is not used.

use crate::file::Sha256;
use crate::kv::replace;
use core::hash::{Hash, Hasher};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use wasmtime::{Engine, Module};

/// Permission bits that nobody but the owner may have.
const OTHERS: u32 = 0o077;

/// A directory of compiled modules.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    /// Part of each name: the version and the settings of the compiler.
    version: String,
}

impl Cache {
    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// When others may write to it.
    pub fn open(directory: &Path, engine: &Engine) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        check_owner(directory)?;
        let mut bytes = Bytes(Vec::new());
        engine.precompile_compatibility_hash().hash(&mut bytes);
        let version = Sha256::of(&bytes.0).to_string();
        Ok(Self { directory: directory.to_owned(), version: version[..16].to_owned() })
    }

    fn path(&self, sha256: Sha256) -> PathBuf {
        self.directory.join(format!("{sha256}-{}.compiled", self.version))
    }

    /// The compiled form of a module, if it is there and whole.
    pub fn get(&self, engine: &Engine, sha256: Sha256) -> Option<Module> {
        let path = self.path(sha256);
        check_owner(&path).ok()?;
        let bytes = fs::read(&path).ok()?;
        let (code, hash) = bytes.split_last_chunk::<32>()?;
        if Sha256::of(code).0 != *hash {
            tracing::warn!(path = %path.display(), "a compiled module is damaged; compiling again");
            return None;
        }
        // SAFETY: the bytes are what `put` wrote after `Module::serialize`: their hash says that
        // they are whole, and owner and mode of file and directory say that nobody but this user
        // can have put them there. wasmtime refuses those of another version or setting.
        let module = unsafe { Module::deserialize(engine, code) };
        module.map_err(|error| tracing::debug!(%error, "a compiled module is not used")).ok()
    }

    /// Keeps the compiled form of a module. A failure costs only time at the next start.
    pub fn put(&self, sha256: Sha256, module: &Module) {
        let path = self.path(sha256);
        let written = module.serialize().map_err(io::Error::other).and_then(|mut code| {
            let hash = Sha256::of(&code);
            code.extend(hash.0);
            replace(&path, &code)
        });
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "a compiled module is not kept");
        }
    }
}

/// Fails unless file or directory are this user's alone.
fn check_owner(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() == own && meta.mode() & OTHERS == 0 && !meta.is_symlink() {
        return Ok(());
    }
    let text = format!(
        "owner {} and mode {:03o}; it must be this user's alone (mode 700)",
        meta.uid(),
        meta.mode() & 0o777
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Keeps what is hashed.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }
}
