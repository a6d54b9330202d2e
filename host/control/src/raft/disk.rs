//! The file of one voter: its id, its vote, its part of the log and its snapshot, in redb.
//!
//! An entry's row is (index) -> (term, kind, digest, bytes); a command's bytes are those of
//! [`crate::entry`], as they were proposed. What is read back is checked: no index is missing and
//! every digest fits. Nothing is repaired here.

use super::runtime;
use super::types::{Bytes, Entry, LogId, Membership, Payload, SnapshotMeta, Vote, log_id, term_of};
use crate::file::{
    LogError, META, META_FORMAT, check_format, create_database, open_database, write_durable,
};
use core::ops::Range;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use zepto_core::hash::{digest, mix};

/// Version of the tables below; format 1 is the log of a single node.
const FORMAT: u64 = 2;
const META_VOTER: &str = "voter";
const ENTRIES: TableDefinition<u64, (u64, u8, u64, &[u8])> = TableDefinition::new("entries");
const NOTES: TableDefinition<&str, &[u8]> = TableDefinition::new("notes");
const NOTE_VOTE: &str = "vote";
const NOTE_COMMITTED: &str = "committed";
const NOTE_PURGED: &str = "purged";
const SNAPSHOT: TableDefinition<u8, (&[u8], u64, &[u8])> = TableDefinition::new("snapshot");

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// The open file.
#[derive(Debug)]
pub(crate) struct Disk {
    database: Database,
    id: u64,
}

/// Something to be written. A batch of them is one durable transaction.
#[derive(Debug)]
pub(crate) enum Change {
    /// Entries that follow the last one.
    Append(Vec<Entry>),
    /// All entries after this one go.
    Truncate(Option<LogId>),
    /// All entries up to this one go; the snapshot has what they did.
    Purge(LogId),
    /// The vote that was given, or the leader that is followed.
    Vote(Vote),
    /// How far the log is committed, as far as is known.
    Committed(Option<LogId>),
    /// A snapshot in place of the one before.
    Snapshot(SnapshotMeta, Bytes),
}

/// What the file says besides its entries.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub snapshot: Option<SnapshotMeta>,
}

impl Disk {
    /// Opens the file at `path`, or makes it, and with it a voter that never was before.
    pub fn open_or_create(path: &Path) -> Result<Self, LogError> {
        match open_database(path) {
            Err(LogError::Missing(_)) => create_database(path, Self::init),
            database => Self::opened(database?),
        }
    }

    pub fn init(database: Database) -> Result<Self, LogError> {
        let random = runtime::random().map_err(|error| LogError::Consensus(error.to_string()))?;
        // Zero is nobody, and the upper half is left for numbers that are no voters'.
        let id = (random >> 1).max(1);
        write_durable(&database, |transaction| {
            transaction.open_table(ENTRIES)?;
            transaction.open_table(NOTES)?;
            transaction.open_table(SNAPSHOT)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_FORMAT, FORMAT)?;
            meta.insert(META_VOTER, id)?;
            Ok(())
        })?;
        Ok(Self { database, id })
    }

    pub fn opened(database: Database) -> Result<Self, LogError> {
        check_format(&database, FORMAT)?;
        let read = database.begin_read().map_err(LogError::disk)?;
        let meta = read.open_table(META).map_err(LogError::disk)?;
        let id = meta.get(META_VOTER).map_err(LogError::disk)?.map(|id| id.value());
        let id = id.ok_or_else(|| LogError::Damaged("it names no voter".into()))?;
        drop(meta);
        drop(read);
        Ok(Self { database, id })
    }

    /// The voter that this file is.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Reads everything and checks it.
    pub fn load(&self) -> Result<Notes, LogError> {
        let read = self.database.begin_read().map_err(LogError::disk)?;
        let table = read.open_table(NOTES).map_err(LogError::disk)?;
        let note = |name| {
            let bytes = table.get(name).map_err(LogError::disk)?;
            Ok::<_, LogError>(bytes.map(|bytes| bytes.value().to_vec()))
        };
        let vote = note(NOTE_VOTE)?.map(|bytes| parse("the vote", &bytes)).transpose()?;
        let committed = note(NOTE_COMMITTED)?
            .map(|bytes| parse::<Option<LogId>>("the committed entry", &bytes))
            .transpose()?
            .flatten();
        let purged: Option<LogId> =
            note(NOTE_PURGED)?.map(|bytes| parse("the purged entry", &bytes)).transpose()?;
        let mut last = purged;
        let rows = read.open_table(ENTRIES).map_err(LogError::disk)?;
        for row in rows.iter().map_err(LogError::disk)? {
            let (index, row) = row.map_err(LogError::disk)?;
            let (index, expected) = (index.value(), last.map_or(0, |last| last.index + 1));
            if index != expected {
                return Err(LogError::Damaged(format!(
                    "entry {index} came where entry {expected} was to come"
                )));
            }
            let found = decode(index, row.value())?.log_id;
            if last.is_some_and(|last| term_of(&last) > term_of(&found)) {
                return Err(LogError::Damaged(format!("the term of entry {index} goes back")));
            }
            last = Some(found);
        }
        let snapshot = self.snapshot()?.map(|(meta, _)| meta);
        Ok(Notes { vote, committed, purged, last, snapshot })
    }

    /// Entries in a range of indexes, in order, those that are there; the first one is returned
    /// however large it is.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        let read = self.database.begin_read().map_err(LogError::disk)?;
        let rows = read.open_table(ENTRIES).map_err(LogError::disk)?;
        let (mut entries, mut bytes_left) = (Vec::new(), bytes_max);
        for row in rows.range(range).map_err(LogError::disk)? {
            let (index, row) = row.map_err(LogError::disk)?;
            let row = row.value();
            if row.3.len() > bytes_left && !entries.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(row.3.len());
            entries.push(decode(index.value(), row)?);
        }
        Ok(entries)
    }

    /// The snapshot, if there is one.
    pub fn snapshot(&self) -> Result<Option<(SnapshotMeta, Bytes)>, LogError> {
        let read = self.database.begin_read().map_err(LogError::disk)?;
        let table = read.open_table(SNAPSHOT).map_err(LogError::disk)?;
        let Some(row) = table.get(0).map_err(LogError::disk)? else { return Ok(None) };
        let (meta, sum, data) = row.value();
        if sum != digest(meta) ^ mix(digest(data)) {
            return Err(LogError::Damaged("the snapshot is not the one that was written".into()));
        }
        Ok(Some((parse("the snapshot", meta)?, Bytes(data.into()))))
    }

    /// Writes all of it in one durable transaction.
    pub fn write<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Result<(), LogError> {
        let mut unwritable = None;
        write_durable(&self.database, |transaction| {
            for change in changes {
                if let Err(error) = apply(transaction, change) {
                    match error {
                        WriteError::Redb(error) => return Err(error),
                        WriteError::Encoding(text) => {
                            unwritable = Some(text);
                            return Err(redb::Error::Corrupted("not written".into()));
                        }
                    }
                }
            }
            Ok(())
        })
        .map_err(|error| unwritable.map_or(error, LogError::Damaged))
    }
}

enum WriteError {
    Redb(redb::Error),
    Encoding(String),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

fn apply(transaction: &WriteTransaction, change: &Change) -> Result<(), WriteError> {
    match change {
        Change::Append(entries) => {
            let mut rows = transaction.open_table(ENTRIES)?;
            for entry in entries {
                let (kind, bytes) = encode(&entry.payload)?;
                let (term, index) = (term_of(&entry.log_id), entry.log_id.index);
                let sum = sum(term, index, kind, &bytes);
                rows.insert(index, (term, kind, sum, bytes.as_ref()))?;
            }
        }
        Change::Truncate(after) => {
            let first = after.map_or(0, |after| after.index + 1);
            transaction.open_table(ENTRIES)?.retain_in(first.., |_, _| false)?;
        }
        Change::Purge(upto) => {
            transaction.open_table(ENTRIES)?.retain_in(..=upto.index, |_, _| false)?;
            note(transaction, NOTE_PURGED, upto)?;
        }
        Change::Vote(vote) => note(transaction, NOTE_VOTE, vote)?,
        Change::Committed(committed) => note(transaction, NOTE_COMMITTED, committed)?,
        Change::Snapshot(meta, data) => {
            let meta = print(meta)?;
            let sum = digest(&meta) ^ mix(digest(&data.0));
            transaction.open_table(SNAPSHOT)?.insert(0, (meta.as_slice(), sum, &*data.0))?;
        }
    }
    Ok(())
}

fn note(
    transaction: &WriteTransaction,
    name: &str,
    value: &impl Serialize,
) -> Result<(), WriteError> {
    transaction.open_table(NOTES)?.insert(name, print(value)?.as_slice())?;
    Ok(())
}

fn print(value: &impl Serialize) -> Result<Vec<u8>, WriteError> {
    postcard::to_stdvec(value).map_err(|error| WriteError::Encoding(error.to_string()))
}

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, LogError> {
    postcard::from_bytes(bytes).map_err(|error| LogError::Damaged(format!("{what}: {error}")))
}

fn sum(term: u64, index: u64, kind: u8, bytes: &[u8]) -> u64 {
    mix(digest(bytes) ^ mix(term ^ mix(index ^ mix(kind.into()))))
}

fn encode(payload: &Payload) -> Result<(u8, std::borrow::Cow<'_, [u8]>), WriteError> {
    Ok(match payload {
        Payload::Blank => (BLANK, [].as_slice().into()),
        Payload::Normal(bytes) => (COMMAND, (&*bytes.0).into()),
        Payload::Membership(membership) => (MEMBERSHIP, print(membership)?.into()),
    })
}

fn decode(index: u64, row: (u64, u8, u64, &[u8])) -> Result<Entry, LogError> {
    let (term, kind, expected, bytes) = row;
    if sum(term, index, kind, bytes) != expected {
        return Err(LogError::Damaged(format!("entry {index} is not the one that was written")));
    }
    let payload = match kind {
        BLANK => Payload::Blank,
        COMMAND => Payload::Normal(Bytes(bytes.into())),
        MEMBERSHIP => Payload::Membership(parse::<Membership>("the membership", bytes)?),
        kind => {
            return Err(LogError::Damaged(format!("entry {index} has the unknown kind {kind}")));
        }
    };
    Ok(Entry { log_id: log_id(term, index), payload })
}
