//! The secret as a process holds it: read from a file, and again while the process runs.
//!
//! A key is rotated without a restart. The file is read again every few seconds where somebody
//! runs [`ClusterSecret::watch`], before a connection is made, and when a peer names a key that is
//! not known; never more often than once a second, whoever asks. A file that cannot be used leaves
//! the keys in force, with one warning. A session that is open goes on with the key it began with,
//! also after that key left the file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};
use zepto_core::limits::{
    SECRET_FILE_BYTES_MAX, SECRET_KEY_CHARACTERS_MAX, SECRET_KEY_CHARACTERS_MIN, SECRET_REREAD_MS,
    SECRET_REREAD_PAUSE_MS,
};
use zeroize::Zeroizing;

use super::counts::{Counters, SecretCounts};
use super::key::{Key, KeyId, Keys};

/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
const REREAD: Duration = Duration::from_millis(SECRET_REREAD_MS);
const REREAD_PAUSE: Duration = Duration::from_millis(SECRET_REREAD_PAUSE_MS);

/// Why a file is no cluster secret. Nothing of what it holds is repeated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It cannot be read. Correct the path or its permissions.
    #[error("the cluster secret {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else, or a key that could be guessed. Write another.
    #[error(
        "the cluster secret {}: {text}; it must have one line, or two while a key is rotated, of \
         {SECRET_KEY_CHARACTERS_MIN} to {SECRET_KEY_CHARACTERS_MAX} printable ASCII characters \
         without white space, as `openssl rand -hex 32` prints",
        path.display()
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and in which line.
        text: String,
    },
}

/// The secret that the processes of a cluster share. Cheap to clone; clones share keys and counts.
/// Any thread.
#[derive(Clone)]
pub struct ClusterSecret {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    keys: Mutex<Arc<Keys>>,
    /// When the file was last read. Held while it is read, so that it is read once for all.
    read_at: tokio::sync::Mutex<Instant>,
    /// What was wrong with the file, told once.
    complaint: Mutex<Option<String>>,
    counters: Counters,
}

impl ClusterSecret {
    /// Reads a file: one or two keys, one to a line; lines that begin with `#` do not count. The
    /// first is used to connect, both are accepted. Warns of a file that others may read. Blocks
    /// for as long as reading takes.
    ///
    /// # Errors
    /// Why it is no secret.
    pub fn open(path: &Path) -> Result<ClusterSecret, SecretError> {
        let (keys, mode) = read(path)?;
        if mode & OTHERS != 0 {
            tracing::warn!(
                path = %path.display(),
                mode = format!("{:03o}", mode & 0o777),
                "the cluster secret can be read by others than its owner; chmod 600 is better"
            );
        }
        let inner = Inner {
            path: path.to_owned(),
            keys: Mutex::new(Arc::new(keys)),
            read_at: tokio::sync::Mutex::new(Instant::now()),
            complaint: Mutex::default(),
            counters: Counters::default(),
        };
        Ok(ClusterSecret { inner: Arc::new(inner) })
    }

    /// The ids of the keys in force, the one that is used to connect first.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.keys().ids()
    }

    /// What happened to proofs and records.
    pub fn counts(&self) -> SecretCounts {
        self.inner.counters.snapshot()
    }

    /// Reads the file again every few seconds, for ever: for a node, whose heartbeats must follow
    /// a rotation even when nobody connects.
    pub async fn watch(self) {
        loop {
            sleep(REREAD).await;
            self.read_again(Instant::now()).await;
        }
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&lock(&self.inner.keys))
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// The key to connect with, from a file that was looked at in the last second.
    pub(crate) async fn key_to_connect(&self) -> Arc<Key> {
        let now = Instant::now();
        let is_due = self.inner.read_at.try_lock().is_ok_and(|at| now >= *at + REREAD_PAUSE);
        if is_due {
            self.read_again(now).await;
        }
        Arc::clone(self.keys().first())
    }

    /// The key with this id. One that is not known may have come into the file just now.
    pub(crate) async fn key_with(&self, id: KeyId) -> Option<Arc<Key>> {
        let find = |keys: &Keys| keys.all().find(|key| key.id() == id).map(Arc::clone);
        if let Some(key) = find(&self.keys()) {
            return Some(key);
        }
        self.read_again(Instant::now()).await;
        find(&self.keys())
    }

    /// Reads the file, unless somebody else did so since `asked`.
    async fn read_again(&self, asked: Instant) {
        let mut read_at = self.inner.read_at.lock().await;
        if *read_at > asked {
            return;
        }
        sleep_until(*read_at + REREAD_PAUSE).await;
        let path = self.inner.path.clone();
        let done = tokio::task::spawn_blocking(move || read(&path)).await;
        *read_at = Instant::now();
        match done {
            Ok(Ok((keys, _))) => self.install(keys),
            Ok(Err(error)) => self.complain(error.to_string()),
            Err(error) => self.complain(error.to_string()),
        }
    }

    fn install(&self, keys: Keys) {
        *lock(&self.inner.complaint) = None;
        let mut current = lock(&self.inner.keys);
        if current.ids() != keys.ids() {
            tracing::info!(keys = ?keys.ids(), "the cluster secret has changed");
            *current = Arc::new(keys);
        }
    }

    fn complain(&self, text: String) {
        let mut complaint = lock(&self.inner.complaint);
        if complaint.as_ref() != Some(&text) {
            tracing::warn!(error = text, "the keys that were read before stay in force");
            *complaint = Some(text);
        }
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecret").field("keys", &self.key_ids()).finish_non_exhaustive()
    }
}

/// The keys of a file, and its permission bits.
fn read(path: &Path) -> Result<(Keys, u32), SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let malformed = |text| SecretError::Malformed { path: path.to_owned(), text };
    // Before it is opened: a pipe would wait for its writer, and could be read only once.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(malformed("it is not a regular file".to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    // All the memory it may need at once, so that nothing of it is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_FILE_BYTES_MAX as usize + 1));
    let limit = SECRET_FILE_BYTES_MAX + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 == limit {
        return Err(malformed(format!("more than {SECRET_FILE_BYTES_MAX} bytes")));
    }
    let keys = Keys::parse(&bytes).map_err(malformed)?;
    Ok((keys, metadata.mode()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
