//! The file beneath the log: a redb database that is made whole or not at all, is opened only by
//! whoever knows its format, and is written in durable transactions.
//!
//! Nothing is repaired here. After a crash redb goes back to its last durable transaction by
//! itself: that loses nothing that was answered.

use redb::{Builder, Database, Durability, ReadableDatabase, TableDefinition};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use zepto_core::limits::LOG_CACHE_BYTES;

pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(crate) const META_FORMAT: &str = "format";

/// Why the log on disk cannot be used. All of them are final for this process: the log is neither
/// adopted, repaired nor made anew.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log that was to be created exists. It is untouched.
    #[error("{}: there is a control log already", .0.display())]
    Exists(PathBuf),
    /// A log that was to be opened is not there. None was created.
    #[error("{}: there is no control log", .0.display())]
    Missing(PathBuf),
    /// Another process, or this one, has it open.
    #[error("{}: the control log is in use by another process", .0.display())]
    InUse(PathBuf),
    /// Not a control log, or damaged.
    #[error("{}: cannot open the control log: {error}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What redb says.
        error: String,
    },
    /// The file could not be created.
    #[error("{}: cannot create the control log: {source}", .path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Reading or writing failed. What was being written may or may not be in the log.
    #[error("the disk under the control log: {0}")]
    Disk(#[source] Box<redb::Error>),
    /// Written by another version of zepto.
    #[error("the control log has format {0}, which is not the one that this build keeps here")]
    Format(u64),
    /// Something beside the entries is not what was written.
    #[error("the control log is damaged: {0}")]
    Damaged(String),
    /// Consensus could not start from what is there, or has ended.
    #[error("consensus on the control log: {0}")]
    Consensus(String),
}

impl LogError {
    pub(crate) fn disk(error: impl Into<redb::Error>) -> Self {
        Self::Disk(Box::new(error.into()))
    }
}

/// Makes a file that `init` fills. It appears under its name only when it is whole.
pub(crate) fn create_database<T>(
    path: &Path,
    init: impl FnOnce(Database) -> Result<T, LogError>,
) -> Result<T, LogError> {
    let fail = |source| LogError::Create { path: path.to_owned(), source };
    if path.try_exists().map_err(fail)? {
        return Err(LogError::Exists(path.to_owned()));
    }
    // What a crash left here was never a log under its own name.
    let unborn = path.with_extension("new");
    match fs::remove_file(&unborn) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let database = builder().create(&unborn).map_err(|error| open_error(&unborn, &error.into()))?;
    let made = init(database)?;
    fs::rename(&unborn, path).map_err(fail)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::File::open(directory.unwrap_or(Path::new("."))).map_err(fail)?;
    directory.sync_all().map_err(fail)?;
    Ok(made)
}

/// Opens a file that exists.
pub(crate) fn open_database(path: &Path) -> Result<Database, LogError> {
    let database = builder().open(path).map_err(|error| open_error(path, &error.into()))?;
    let read = database.begin_read().map_err(|error| open_error(path, &error.into()))?;
    read.open_table(META).map_err(|error| open_error(path, &error.into()))?;
    Ok(database)
}

/// Compares the format that is noted in a file with the one that its reader knows.
pub(crate) fn check_format(database: &Database, known: u64) -> Result<(), LogError> {
    let read = database.begin_read().map_err(LogError::disk)?;
    let meta = read.open_table(META).map_err(LogError::disk)?;
    match meta.get(META_FORMAT).map_err(LogError::disk)?.map(|format| format.value()) {
        Some(format) if format == known => Ok(()),
        format => Err(LogError::Format(format.unwrap_or(0))),
    }
}

/// One durable transaction: all of it is on disk when this returns, or none of it ever is unless
/// the error came from the commit itself.
pub(crate) fn write_durable(
    database: &Database,
    change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), LogError> {
    let mut transaction = database.begin_write().map_err(LogError::disk)?;
    transaction.set_durability(Durability::Immediate).map_err(LogError::disk)?;
    change(&transaction).map_err(LogError::disk)?;
    transaction.commit().map_err(LogError::disk)
}

pub(crate) fn builder() -> Builder {
    let mut builder = Builder::new();
    // A damaged page is an error at the start, not a surprise later.
    builder.set_cache_size(LOG_CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn open_error(path: &Path, error: &redb::Error) -> LogError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => LogError::InUse(path),
        redb::Error::Io(source) if source.kind() == io::ErrorKind::NotFound => {
            LogError::Missing(path)
        }
        error => LogError::Open { path, error: error.to_string() },
    }
}
