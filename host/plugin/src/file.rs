//! A plugin's file: read once, known by its content, never read again behind anybody's back.

use crate::error::LoadError;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256 as Hasher};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zepto_core::limits::PLUGIN_FILE_BYTES_MAX;

/// Permission bits that let others than the owner change a file.
const OTHERS_WRITE: u32 = 0o022;
/// In an ELF file, the byte that says which system it is for, and wasmtime's value of it.
const ELF_OS_AT: usize = 7;
const ELF_OS_WASMTIME: u8 = 200;

/// The SHA-256 of a plugin's file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Hasher::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no SHA-256: 64 hexadecimal digits");
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = core::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What a plugin is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A WebAssembly module.
    Wasm,
    /// A shared library.
    Native,
}

impl Target {
    /// One word for it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        }
    }
}

/// A plugin's file.
#[derive(Clone, Debug)]
pub struct PluginFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it is made of.
    pub target: Target,
    /// Its content.
    pub bytes: Arc<[u8]>,
    /// The hash of its content.
    pub sha256: Sha256,
}

impl PluginFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, may be changed by others than its owner, is too large, or is neither
    /// a WebAssembly module nor a shared library.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let unreadable = |error: std::io::Error| LoadError::Unreadable {
            path: path.to_owned(),
            text: error.to_string(),
        };
        // A pipe without a writer would hold the opening up.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        let opened = options.read(true).custom_flags(nonblocking).open(path);
        let mut file = opened.map_err(unreadable)?;
        // Of the open file, so that nobody exchanges it in between.
        let meta = file.metadata().map_err(unreadable)?;
        let refuse = |text: String| LoadError::Unreadable { path: path.to_owned(), text };
        if !meta.is_file() {
            return Err(refuse("not a regular file".into()));
        }
        if meta.mode() & OTHERS_WRITE != 0 {
            return Err(refuse(format!(
                "others than its owner may change it (mode {:03o}): chmod go-w",
                meta.mode() & 0o777
            )));
        }
        let mut bytes = Vec::new();
        let limit = PLUGIN_FILE_BYTES_MAX + 1;
        (&mut file).take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 == limit {
            return Err(refuse(format!("more than {PLUGIN_FILE_BYTES_MAX} bytes")));
        }
        Self::of(path, bytes.into())
    }

    /// A file that is in memory already.
    ///
    /// # Errors
    /// When it is neither a WebAssembly module nor a shared library.
    pub fn of(path: &Path, bytes: Arc<[u8]>) -> Result<Self, LoadError> {
        let target = target_of(&bytes)?;
        Ok(Self { path: path.to_owned(), target, sha256: Sha256::of(&bytes), bytes })
    }

    /// The name of a plugin that is given none: the file's, without its ending.
    pub fn stem(path: &Path) -> String {
        path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn target_of(bytes: &[u8]) -> Result<Target, LoadError> {
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Ok(Target::Wasm);
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Err(LoadError::NotAPlugin(
            "neither a WebAssembly module (version 1) nor an ELF shared library".into(),
        ));
    }
    if bytes.get(ELF_OS_AT) == Some(&ELF_OS_WASMTIME) {
        return Err(LoadError::NotAPlugin(
            "a precompiled module is machine code that nobody can check: give the .wasm file; the \
             host keeps its own cache of compiled modules"
                .into(),
        ));
    }
    Ok(Target::Native)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_hash_is_read_as_it_is_printed() {
        let hash = Sha256::of(b"abc");
        let text = hash.to_string();
        assert!(text.starts_with("ba7816bf8f01cfea"), "{text}");
        assert_eq!(text.parse(), Ok(hash));
        for wrong in ["", "ba78", &text[1..], &format!("{}zz", &text[2..]), &"é".repeat(32)] {
            assert!(wrong.parse::<Sha256>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_modules_and_libraries_that_others_cannot_change_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wasm");
        let write = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            PluginFile::read(&path).map(|file| file.target).map_err(|error| error.to_string())
        };
        assert_eq!(write(b"\0asm\x01\0\0\0", 0o644), Ok(Target::Wasm));
        assert_eq!(write(b"\x7fELF\x02\x01\x01\0", 0o600), Ok(Target::Native));
        let refused = |result: Result<Target, String>, text: &str| {
            let error = result.unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        refused(write(b"\0asm\x01\0\0\0", 0o664), "chmod go-w");
        refused(write(b"\0asm\x01\0\0\0", 0o646), "mode 646");
        refused(write(b"\0asm\x0d\0\x01\0", 0o644), "version 1");
        refused(write(b"\x7fELF\x02\x01\x01\xc8", 0o644), "precompiled");
        refused(write(b"", 0o644), "neither");
        let missing = PluginFile::read(&directory.path().join("b")).unwrap_err().to_string();
        assert!(missing.contains("No such file"), "{missing}");
        let pipe = directory.path().join("pipe.wasm");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let made = rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0);
        made.unwrap();
        let unending = PluginFile::read(&pipe).unwrap_err().to_string();
        assert!(unending.contains("not a regular file"), "{unending}");
        let itself = PluginFile::read(directory.path()).unwrap_err().to_string();
        assert!(itself.contains("not a regular file"), "{itself}");
    }
}
