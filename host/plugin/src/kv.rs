//! What a plugin keeps: keys and values, in memory, and in one file that is replaced as a whole.
//! All instances of a plugin share them: what the one on probation keeps, the one before it finds.
//!
//! The file is written before anything else that a handler asked for happens, so that what the
//! outside world saw was kept.

use crate::file::Sha256;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zepto_abi::plugin::PluginStatus;
use zepto_core::limits::{PLUGIN_KV_BYTES_MAX, PLUGIN_KV_KEY_BYTES_MAX};

/// First bytes of the file: what it is, and its version.
const HEAD: [u8; 8] = *b"ZPKV\0\0\0\x01";
/// Bytes that a pair costs beyond its own.
const PAIR: u64 = 8;

/// Keys and values of one plugin; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Kv(Arc<Mutex<Pairs>>);

#[derive(Debug, Default)]
struct Pairs {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: u64,
    limit: u64,
    is_dirty: bool,
}

impl Kv {
    /// Nothing yet, of at most so many bytes.
    pub fn new(limit: u64) -> Self {
        Self::of(Pairs { limit, ..Pairs::default() })
    }

    fn of(pairs: Pairs) -> Self {
        Self(Arc::new(Mutex::new(pairs)))
    }

    fn lock(&self) -> MutexGuard<'_, Pairs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.lock().pairs.get(key).cloned()
    }

    /// Sets a value.
    ///
    /// # Errors
    /// When key or value is too big, or all of them together.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), PluginStatus> {
        if key.is_empty() {
            return Err(PluginStatus::Invalid);
        }
        if key.len() > PLUGIN_KV_KEY_BYTES_MAX {
            return Err(PluginStatus::TooBig);
        }
        let mut kv = self.lock();
        let old = kv.pairs.get(key).map_or(0, |old| size(key, old));
        let bytes = kv.bytes - old + size(key, value);
        if bytes > kv.limit {
            return Err(PluginStatus::TooBig);
        }
        kv.pairs.insert(key.to_vec(), value.to_vec());
        kv.bytes = bytes;
        kv.is_dirty = true;
        Ok(())
    }

    /// Removes a key; whether it was there.
    pub fn delete(&self, key: &[u8]) -> bool {
        let mut kv = self.lock();
        let Some(value) = kv.pairs.remove(key) else { return false };
        kv.bytes -= size(key, &value);
        kv.is_dirty = true;
        true
    }

    /// The content of the file, if something changed since the last call.
    pub fn take_changes(&self) -> Option<Vec<u8>> {
        let mut kv = self.lock();
        if !core::mem::take(&mut kv.is_dirty) {
            return None;
        }
        let mut bytes = HEAD.to_vec();
        for (key, value) in &kv.pairs {
            for part in [key, value] {
                bytes.extend((part.len() as u32).to_le_bytes());
            }
            bytes.extend(key);
            bytes.extend(value);
        }
        bytes.extend(Sha256::of(&bytes).0);
        Some(bytes)
    }

    /// Reads the file; nothing when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written. It is not repaired.
    pub fn read(path: &Path, limit: u64) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match fs::File::open(path) {
            Ok(file) => file.take(2 * PLUGIN_KV_BYTES_MAX).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::new(limit)),
            Err(error) => return Err(error),
        };
        let pairs = parse(&bytes).ok_or_else(|| {
            let text = "damaged, or of another version; remove it to begin with nothing";
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        let bytes = pairs.iter().map(|(key, value)| size(key, value)).sum();
        Ok(Self::of(Pairs { pairs, bytes, limit, is_dirty: false }))
    }
}

fn size(key: &[u8], value: &[u8]) -> u64 {
    PAIR + key.len() as u64 + value.len() as u64
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let (content, hash) = bytes.split_last_chunk::<32>()?;
    if Sha256::of(content).0 != *hash {
        return None;
    }
    let mut rest = content.strip_prefix(&HEAD)?;
    let mut pairs = BTreeMap::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_first_chunk::<4>()?;
        let (value, after) = after.split_first_chunk::<4>()?;
        let (key, after) = after.split_at_checked(u32::from_le_bytes(*key) as usize)?;
        let (value, after) = after.split_at_checked(u32::from_le_bytes(*value) as usize)?;
        pairs.insert(key.to_vec(), value.to_vec());
        rest = after;
    }
    Some(pairs)
}

/// Replaces a file as a whole: a crash leaves the old one, or the new one.
///
/// # Errors
/// What the system says.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // The new file has one name until it takes the old one's.
    static REPLACING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = REPLACING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut new: PathBuf = path.to_owned();
    new.as_mut_os_string().push(".new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k8s.kv");
        let kv = Kv::read(&path, 1000).unwrap();
        assert!(kv.take_changes().is_none());
        kv.put(b"a", b"1").unwrap();
        kv.put(b"b", b"").unwrap();
        kv.put(b"a", b"22").unwrap();
        assert!(!kv.delete(b"c") && kv.put(b"d", b"x").is_ok() && kv.delete(b"d"));
        replace(&path, &kv.take_changes().unwrap()).unwrap();
        assert!(kv.take_changes().is_none());
        let again = Kv::read(&path, 1000).unwrap();
        assert_eq!(again.get(b"a"), Some(b"22".to_vec()));
        assert_eq!((again.get(b"b"), again.get(b"d")), (Some(Vec::new()), None));
        assert_eq!(again.lock().bytes, kv.lock().bytes);
    }

    #[test]
    fn limits_hold_for_keys_and_for_all_together() {
        let kv = Kv::new(100);
        assert_eq!(kv.put(b"", b"x"), Err(PluginStatus::Invalid));
        assert_eq!(kv.put(&[1; PLUGIN_KV_KEY_BYTES_MAX + 1], b""), Err(PluginStatus::TooBig));
        assert_eq!(kv.put(b"k", &[0; 92]), Err(PluginStatus::TooBig));
        kv.put(b"k", &[0; 91]).unwrap();
        assert_eq!(kv.put(b"l", b""), Err(PluginStatus::TooBig));
        kv.put(b"k", &[0; 10]).unwrap();
        kv.put(b"l", b"").unwrap();
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k8s.kv");
        let kv = Kv::new(1000);
        kv.put(b"key", b"value").unwrap();
        let good = kv.take_changes().unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(Kv::read(&path, 1000).is_err(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(Kv::read(&path, 1000).is_err(), "cut at {at}");
        }
    }
}
