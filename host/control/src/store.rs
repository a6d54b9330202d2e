//! The log on disk: a redb file with one row per entry, written in durable transactions.
//!
//! A row is (index) -> (chain hash, entry), and one more row repeats the last index and its hash.
//! Reading it back checks that no index is missing and that every hash follows from the one before;
//! what does not fit is an error that names the entry. Nothing is repaired here. (After a crash
//! redb goes back to its last durable transaction by itself: that loses no committed entry.)

use crate::entry::{Entry, chain};
use crate::state::{Applier, ApplyError, Position};
use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use zepto_core::limits::LOG_CACHE_BYTES;

/// Version of the tables below.
const FORMAT: u64 = 1;
const ENTRIES: TableDefinition<u64, (u64, &[u8])> = TableDefinition::new("entries");
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(crate) const META_FORMAT: &str = "format";
const META_LAST_INDEX: &str = "last_index";
const META_LAST_HASH: &str = "last_hash";

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
    /// An entry is missing in the middle.
    #[error("the control log is damaged: entry {found} follows entry {}", .expected - 1)]
    Gap {
        /// The index that was to come.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// An entry is not the one that was written.
    #[error("the control log is damaged: the hash of entry {index} does not follow")]
    Chain {
        /// The entry.
        index: u64,
    },
    /// The log does not end where it says it does.
    #[error("the control log is damaged: it ends at entry {found}, not {expected}")]
    End {
        /// The last index as it was noted.
        expected: u64,
        /// The last index that is there.
        found: u64,
    },
    /// An entry cannot be applied.
    #[error("the control log is damaged: {0}")]
    Apply(#[from] ApplyError),
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

/// The redb file. Shared by the one writer and by readers.
#[derive(Debug)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    /// Creates an empty log. It appears under its name only when it is whole.
    pub fn create(path: &Path) -> Result<Self, LogError> {
        create_database(path, Self::init)
    }

    /// Opens a log that exists.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let database = open_database(path)?;
        check_format(&database, FORMAT)?;
        Ok(Self { database })
    }

    /// An empty log on any storage that redb can use.
    #[cfg(test)]
    pub fn create_on(backend: impl redb::StorageBackend) -> Result<Self, LogError> {
        Self::init(builder().create_with_backend(backend).map_err(LogError::disk)?)
    }

    /// The log on any storage that redb can use.
    #[cfg(test)]
    pub fn open_on(backend: impl redb::StorageBackend) -> Result<Self, LogError> {
        Ok(Self { database: builder().create_with_backend(backend).map_err(LogError::disk)? })
    }

    fn init(database: Database) -> Result<Self, LogError> {
        let store = Self { database };
        store.write(|transaction| {
            transaction.open_table(ENTRIES)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_FORMAT, FORMAT)?;
            meta.insert(META_LAST_INDEX, 0)?;
            meta.insert(META_LAST_HASH, 0)?;
            Ok(())
        })?;
        Ok(store)
    }

    /// Writes entries after `last` in one durable transaction and returns where the log ends then.
    /// When it returns, they are on disk.
    pub fn append<'a>(
        &self,
        last: Position,
        entries: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Position, LogError> {
        let mut end = last;
        self.write(|transaction| {
            let mut rows = transaction.open_table(ENTRIES)?;
            for bytes in entries {
                let index = end.index + 1;
                end = Position { index, hash: chain(end.hash, index, bytes) };
                rows.insert(index, (end.hash, bytes))?;
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_LAST_INDEX, end.index)?;
            meta.insert(META_LAST_HASH, end.hash)?;
            Ok(())
        })?;
        Ok(end)
    }

    /// Applies the whole log, checking every row, and tells no events.
    pub fn replay(&self, applier: &mut Applier) -> Result<(), LogError> {
        let read = self.database.begin_read().map_err(LogError::disk)?;
        let rows = read.open_table(ENTRIES).map_err(LogError::disk)?;
        for row in rows.iter().map_err(LogError::disk)? {
            let (index, row) = row.map_err(LogError::disk)?;
            let (index, (hash, bytes)) = (index.value(), row.value());
            let before = applier.position();
            if index != before.index + 1 {
                return Err(LogError::Gap { expected: before.index + 1, found: index });
            }
            if hash != chain(before.hash, index, bytes) {
                return Err(LogError::Chain { index });
            }
            applier.step(index, bytes)?;
            applier.forget_events();
            if applier.position().hash != hash {
                return Err(LogError::Chain { index });
            }
        }
        let meta = read.open_table(META).map_err(LogError::disk)?;
        let number = |key| {
            let value = meta.get(key).map_err(LogError::disk)?;
            Ok::<_, LogError>(value.map_or(0, |value| value.value()))
        };
        let end = applier.position();
        if number(META_LAST_INDEX)? != end.index {
            return Err(LogError::End { expected: number(META_LAST_INDEX)?, found: end.index });
        }
        if number(META_LAST_HASH)? != end.hash {
            return Err(LogError::Chain { index: end.index });
        }
        applier.publish();
        Ok(())
    }

    /// The chain hash of an entry; `None` where there is no such entry.
    pub fn hash_at(&self, index: u64) -> Result<Option<u64>, LogError> {
        if index == 0 {
            return Ok(Some(0));
        }
        let read = self.database.begin_read().map_err(LogError::disk)?;
        let rows = read.open_table(ENTRIES).map_err(LogError::disk)?;
        let row = rows.get(index).map_err(LogError::disk)?;
        Ok(row.map(|row| row.value().0))
    }

    /// Entries above `after` up to `last`, in order, within both bounds; the first one is there
    /// however large it is.
    pub fn read(
        &self,
        after: u64,
        last: u64,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        if after >= last {
            return Ok(entries);
        }
        let read = self.database.begin_read().map_err(LogError::disk)?;
        let rows = read.open_table(ENTRIES).map_err(LogError::disk)?;
        let mut bytes_left = bytes_max;
        for row in rows.range(after + 1..=last).map_err(LogError::disk)?.take(entries_max) {
            let (index, row) = row.map_err(LogError::disk)?;
            let bytes = row.value().1;
            if bytes.len() > bytes_left && !entries.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(bytes.len());
            entries.push((index.value(), bytes.to_vec()));
        }
        Ok(entries)
    }

    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), LogError> {
        write_durable(&self.database, change)
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
