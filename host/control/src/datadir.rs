//! The data directory: which node of which cluster this is, and in which life.
//!
//! It holds a lock file, `identity.toml` and, on the node that keeps the log, `control.redb`. A
//! directory is taken only if it is empty or says that it is this node's: it is never adopted from
//! another node, cluster, version or program, and never wiped. The identity is replaced by writing
//! a new file, syncing it and renaming it, so a crash leaves the old one or the new one.

mod identity;

pub use identity::IdentityError;

use identity::Identity;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zepto_core::Incarnation;
use zepto_core::limits::{CONFIG_BYTES_MAX, NODE_NAME_BYTES_MAX};

const LOCK_FILE: &str = "zepto.lock";
const IDENTITY_FILE: &str = "identity.toml";
const IDENTITY_NEW_FILE: &str = "identity.toml.new";
const LOG_FILE: &str = "control.redb";

/// The data directory of this process. Nobody else has it while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// Locked; the lock goes with the file.
    _lock: File,
}

/// Why a data directory cannot be used. Its contents are as they were, and each of these wants an
/// operator.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// There is something at the path that is no directory.
    #[error("{}: not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// It holds files, and none that says it is a data directory.
    #[error(
        "{}: not a zepto data directory: it is not empty and has no {IDENTITY_FILE}",
        .0.display()
    )]
    Foreign(PathBuf),
    /// Another process has it.
    #[error("{}: in use by another zepto-host", .0.display())]
    InUse(PathBuf),
    /// The identity file cannot be understood.
    #[error("{}: {error}", .path.display())]
    Corrupt {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it, and in which line.
        error: IdentityError,
    },
    /// Written by another version of zepto.
    #[error(
        "{}: has version {found}, this build knows version {}",
        .path.display(), identity::VERSION
    )]
    Version {
        /// The identity file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// It is another node's.
    #[error("{}: belongs to node {found:?}, this is node {wanted:?}", .path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        wanted: String,
    },
    /// It is of another cluster.
    #[error("{}: belongs to cluster {found:032x}, not to {wanted:032x}", .path.display())]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster it is of.
        found: u128,
        /// The cluster that was named.
        wanted: u128,
    },
    /// A node name or cluster id that cannot be written.
    #[error("{0}")]
    Invalid(String),
    /// The system refused: a read-only or full disk, missing permissions.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

type Result<T> = core::result::Result<T, DataDirError>;

impl DataDir {
    /// Opens a node's data directory, or makes it (mode 0700) when there is nothing or nothing in
    /// it. Blocks on the disk.
    ///
    /// # Errors
    /// It is not this node's, or the disk refuses; see [`DataDirError`].
    pub fn open(path: &Path, node: &str) -> Result<Self> {
        check_name(node)?;
        create_directory(path)?;
        // Before anything is written: what is not ours stays as it is.
        if find_identity(path, node)?.is_none() && !is_fresh(path)? {
            return Err(DataDirError::Foreign(path.to_owned()));
        }
        let lock = lock(path)?;
        // Again, for whoever held the lock until now may have written it meanwhile.
        let identity = match find_identity(path, node)? {
            Some(identity) => identity,
            None => {
                let identity = Identity { node: node.into(), cluster: None, incarnation: 0 };
                write_identity(path, &identity)?;
                identity
            }
        };
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node's text id.
    pub fn node(&self) -> &str {
        &self.identity.node
    }

    /// The cluster that the node joined; `None` before that.
    pub fn cluster(&self) -> Option<u128> {
        self.identity.cluster
    }

    /// The incarnation of the last start; zero before the first.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.identity.incarnation)
    }

    /// Where this node keeps the control log, if it is the one that does.
    pub fn log_path(&self) -> PathBuf {
        self.path.join(LOG_FILE)
    }

    /// Whether this node keeps a control log.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn has_log(&self) -> Result<bool> {
        exists(&self.log_path())
    }

    /// The incarnation of this start: above every earlier one, and the time in milliseconds where
    /// that is possible, so that it grows even after the directory was lost. It is on disk when
    /// this returns.
    ///
    /// # Errors
    /// It cannot be written; the earlier one stands and none was issued.
    pub fn next_incarnation(&mut self, now_unix_ms: u64) -> Result<Incarnation> {
        let next = self.identity.incarnation.saturating_add(1).max(now_unix_ms);
        if next > identity::INCARNATION_MAX {
            return Err(DataDirError::Invalid(format!("incarnation {next} is out of range")));
        }
        self.replace(Identity { incarnation: next, ..self.identity.clone() })?;
        Ok(Incarnation(next))
    }

    /// Notes the cluster that the node joined. The same one again is fine.
    ///
    /// # Errors
    /// It is of another cluster already, or it cannot be written.
    pub fn set_cluster(&mut self, cluster: u128) -> Result<()> {
        if cluster == 0 {
            return Err(DataDirError::Invalid("cluster id 0 means there is none".into()));
        }
        match self.identity.cluster {
            Some(found) if found == cluster => Ok(()),
            Some(found) => {
                let path = self.path.clone();
                Err(DataDirError::OtherCluster { path, found, wanted: cluster })
            }
            None => self.replace(Identity { cluster: Some(cluster), ..self.identity.clone() }),
        }
    }

    fn replace(&mut self, identity: Identity) -> Result<()> {
        write_identity(&self.path, &identity)?;
        self.identity = identity;
        Ok(())
    }
}

fn check_name(node: &str) -> Result<()> {
    let text = node.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if node.is_empty() || node.len() > NODE_NAME_BYTES_MAX || !text {
        let text = "a node id has 1 to 64 bytes without white space";
        return Err(DataDirError::Invalid(text.into()));
    }
    Ok(())
}

fn create_directory(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(DataDirError::NotADirectory(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("look at", path)(error)),
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(io_error("create", path))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Empty, or left by a first start that did not come as far as the identity.
fn is_fresh(path: &Path) -> Result<bool> {
    let fail = io_error("read", path);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(&fail)? {
        names.push(entry.map_err(&fail)?.file_name());
        if names.len() > 2 {
            return Ok(false);
        }
    }
    let ours = |name: &std::ffi::OsString| name == LOCK_FILE || name == IDENTITY_NEW_FILE;
    Ok(names.is_empty() || (names.iter().any(|name| name == LOCK_FILE) && names.iter().all(ours)))
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

/// The identity in a directory, if there is one and it is this node's.
fn find_identity(directory: &Path, node: &str) -> Result<Option<Identity>> {
    let path = directory.join(IDENTITY_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", &path)(error)),
    };
    let identity = read_identity(&path, file)?;
    if identity.node != node {
        let (found, wanted) = (identity.node, node.to_owned());
        return Err(DataDirError::OtherNode { path: directory.to_owned(), found, wanted });
    }
    Ok(Some(identity))
}

fn read_identity(path: &Path, file: File) -> Result<Identity> {
    let fail = io_error("read", path);
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(&fail)?;
    let corrupt = |error| DataDirError::Corrupt { path: path.to_owned(), error };
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(corrupt(IdentityError::TooLarge));
    }
    Identity::parse(&bytes).map_err(|error| match error {
        IdentityError::Version(found) => DataDirError::Version { path: path.to_owned(), found },
        error => corrupt(error),
    })
}

fn write_identity(directory: &Path, identity: &Identity) -> Result<()> {
    let new = directory.join(IDENTITY_NEW_FILE);
    let fail = io_error("write", &new);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(&fail)?;
    file.write_all(identity.render().as_bytes()).map_err(&fail)?;
    file.sync_all().map_err(&fail)?;
    let path = directory.join(IDENTITY_FILE);
    fs::rename(&new, &path).map_err(io_error("replace", &path))?;
    sync_directory(directory)
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync", path))
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(io_error("look at", path))
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { action, path: path.clone(), source }
}

#[cfg(test)]
mod tests;
