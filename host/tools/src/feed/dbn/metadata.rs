//! What stands before the records: version, schema, and the names of the instruments.
//!
//! The prelude is checked by hand before the `dbn` crate sees it, for its decoder allocates what
//! the prelude claims. Whatever is not read is refused here by name, before the first record.

use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{MboMsg, Mbp1Msg, RType, Schema, TradeMsg, VersionUpgradePolicy};
use zepto_core::limits::DBN_METADATA_BYTES_MAX;

use super::symbols::Symbols;
use crate::feed::error::{FeedError, Place};
use crate::feed::source::Source;

/// Magic, version and the length of what follows.
const PRELUDE_BYTES: usize = 8;
/// Where version 2 and later say how long a symbol is, and the shortest there is.
const SYMBOL_BYTES_AT: usize = PRELUDE_BYTES + 45;
const SYMBOL_BYTES_MIN: usize = dbn::v1::SYMBOL_CSTR_LEN;
/// Bytes that are read at a time: memory grows with what has arrived.
const PIECE_BYTES: usize = 64 << 10;
/// What a recording of live data has behind each record, if it has.
const SENT_TIME_BYTES: usize = 8;

/// What the records are to be read with.
pub(super) struct Metadata {
    pub reader: DbnFsm,
    pub rtype: RType,
    pub record_bytes: usize,
    pub symbols: Symbols,
}

/// Reads up to the first record.
pub(super) fn read(file: &str, source: &mut Source) -> Result<Metadata, FeedError> {
    let malformed = |reason: String| FeedError::DbnMetadata { file: file.to_owned(), reason };
    let mut bytes = Vec::with_capacity(PRELUDE_BYTES);
    read_up_to(file, source, &mut bytes, PRELUDE_BYTES)?;
    let Some([b'D', b'B', b'N', version, l0, l1, l2, l3]) = bytes.first_chunk().copied() else {
        return Err(malformed("the file ends within it".into()));
    };
    if !(1..=3).contains(&version) {
        return Err(FeedError::DbnVersion { file: file.to_owned(), version });
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > DBN_METADATA_BYTES_MAX {
        return Err(malformed(format!("{length} bytes, more than {DBN_METADATA_BYTES_MAX}")));
    }
    read_up_to(file, source, &mut bytes, PRELUDE_BYTES + length)?;
    if bytes.len() < PRELUDE_BYTES + length {
        return Err(malformed("the file ends within it".into()));
    }
    if version > 1 {
        let symbol_bytes = bytes.get(SYMBOL_BYTES_AT..).and_then(<[u8]>::first_chunk);
        let symbol_bytes = symbol_bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes));
        if usize::from(symbol_bytes) < SYMBOL_BYTES_MIN {
            return Err(malformed(format!("symbols of {symbol_bytes} bytes")));
        }
    }
    let metadata = decode(&bytes).map_err(malformed)?;
    let (rtype, message_bytes) = rtype_of(file, metadata.schema)?;
    let sent_time_bytes = if metadata.ts_out { SENT_TIME_BYTES } else { 0 };
    Ok(Metadata {
        reader: reader_of(version).map_err(|error| malformed(shown(&error)))?,
        rtype,
        record_bytes: message_bytes + sent_time_bytes,
        symbols: Symbols::new(&metadata).map_err(malformed)?,
    })
}

/// Reads until there are `count` bytes, or the input ends.
fn read_up_to(
    file: &str,
    source: &mut Source,
    bytes: &mut Vec<u8>,
    count: usize,
) -> Result<(), FeedError> {
    while bytes.len() < count {
        let held = bytes.len();
        bytes.resize(count.min(held + PIECE_BYTES), 0);
        let read = source.read(&mut bytes[held..]);
        let read = read.map_err(|error| source.error(file, Place::Record(0), error))?;
        bytes.truncate(held + read);
        if read == 0 {
            break;
        }
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<dbn::Metadata, String> {
    let mut decoder = DbnFsm::new(bytes.len(), 0);
    decoder.write_all(bytes);
    match decoder.process() {
        ProcessResult::Metadata(metadata) => Ok(metadata),
        ProcessResult::ReadMore(_) | ProcessResult::Record(()) => Err("it is none".into()),
        ProcessResult::Err(error) => Err(shown(&error)),
    }
}

/// A reader of records as they are: those of the three schemas are equal in all versions.
fn reader_of(version: u8) -> dbn::Result<DbnFsm> {
    DbnFsm::builder()
        .input_dbn_version(Some(version))?
        .upgrade_policy(VersionUpgradePolicy::AsIs)
        .skip_metadata(true)
        .buffer_size(dbn::MAX_RECORD_LEN)
        .build()
}

/// The type of the records that become rows, and their length.
fn rtype_of(file: &str, schema: Option<Schema>) -> Result<(RType, usize), FeedError> {
    let refused = |schema: String| FeedError::DbnSchema { file: file.to_owned(), schema };
    match schema {
        Some(Schema::Trades) => Ok((RType::Mbp0, size_of::<TradeMsg>())),
        Some(Schema::Mbp1) => Ok((RType::Mbp1, size_of::<Mbp1Msg>())),
        Some(Schema::Mbo) => Ok((RType::Mbo, size_of::<MboMsg>())),
        Some(schema) => Err(refused(format!("the schema {schema}"))),
        None => Err(refused("a mixture of schemas".into())),
    }
}

/// The decoder's words, which may repeat the file's.
fn shown(error: &dbn::Error) -> String {
    error.to_string().escape_debug().to_string()
}
