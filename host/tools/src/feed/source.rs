//! Where a feed's bytes come from: a file, a pipe or standard input, plain or compressed.
//!
//! The first bytes decide what it is, before and after decompression, never the name. Bytes are
//! counted before decompression, so progress is exact for both. Deliberately on the caller's
//! thread: no read-ahead.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use zepto_core::limits::ZSTD_WINDOW_LOG_MAX;
use zstd::stream::read::Decoder;

use super::error::{FeedError, Place};

/// Enough to tell the formats apart.
const MAGIC_BYTES: usize = 4;
const COMPRESSED_CHUNK_BYTES: usize = 128 << 10;

pub(super) type Raw = Box<dyn Read + Send>;
type Prefixed = io::Chain<Cursor<Vec<u8>>, Raw>;

/// The bytes of a feed, decompressed if need be.
pub(super) struct Source {
    input: Input,
    /// The first decompressed bytes, already read to see what they are.
    ahead: [u8; MAGIC_BYTES],
    /// How many of them there are, and how many were given out.
    ahead_bytes: (usize, usize),
}

enum Input {
    Plain(Counted),
    Zstd(Box<Decoder<'static, BufReader<Counted>>>),
}

/// Opens a path for reading; `-` is standard input. The length is known for plain files only.
pub(super) fn open(path: &Path) -> Result<(String, Raw, Option<u64>), FeedError> {
    if path.as_os_str() == "-" {
        return Ok(("standard input".to_owned(), Box::new(io::stdin()), None));
    }
    let file = path.display().to_string();
    let not_open = |source| FeedError::Open { file: file.clone(), source };
    // Asked before the open, which would block or fail oddly on some of these.
    let kind = fs::metadata(path).map_err(not_open)?.file_type();
    let what = if kind.is_dir() {
        Some("a directory")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_block_device() {
        Some("a block device")
    } else {
        None
    };
    if let Some(what) = what {
        return Err(FeedError::NotAFile { file, what });
    }
    let open = File::open(path).map_err(not_open)?;
    let meta = open.metadata().map_err(not_open)?;
    let total = meta.is_file().then_some(meta.len());
    Ok((file, Box::new(open), total))
}

impl Source {
    /// Looks at the first bytes and starts the decoder they call for.
    pub(super) fn new(file: &str, mut raw: Raw) -> Result<Self, FeedError> {
        let nothing = Place::Line(0);
        let read_error = |source| FeedError::Read { file: file.to_owned(), after: nothing, source };
        let mut magic = Vec::with_capacity(MAGIC_BYTES);
        raw.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(read_error)?;
        if let Some(what) = unread_format(&magic) {
            return Err(FeedError::Format { file: file.to_owned(), what });
        }
        let is_zstd = is_zstd(&magic);
        let counted = Counted { inner: Cursor::new(magic).chain(raw), bytes: 0, failed: false };
        let input = if is_zstd {
            let reader = BufReader::with_capacity(COMPRESSED_CHUNK_BYTES, counted);
            let mut decoder = Decoder::with_buffer(reader).map_err(read_error)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(read_error)?;
            Input::Zstd(Box::new(decoder))
        } else {
            Input::Plain(counted)
        };
        let mut source = Self { input, ahead: [0; MAGIC_BYTES], ahead_bytes: (0, 0) };
        while source.ahead_bytes.0 < MAGIC_BYTES {
            let room = &mut source.ahead[source.ahead_bytes.0..];
            let read = source.input.read(room);
            match read.map_err(|error| source.error(file, nothing, error))? {
                0 => break,
                bytes => source.ahead_bytes.0 += bytes,
            }
        }
        Ok(source)
    }

    /// Whether the bytes are in Databento Binary Encoding.
    pub(super) fn is_dbn(&self) -> bool {
        self.ahead.starts_with(b"DBN") && self.ahead_bytes.0 == MAGIC_BYTES
    }

    /// Bytes read from the file so far, before decompression.
    pub(super) fn bytes(&self) -> u64 {
        match &self.input {
            Input::Plain(counted) => counted.bytes,
            Input::Zstd(decoder) => decoder.get_ref().get_ref().bytes,
        }
    }

    /// Some decompressed bytes; zero at the end only.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (held, given) = self.ahead_bytes;
        if given < held {
            let count = (held - given).min(buffer.len());
            buffer[..count].copy_from_slice(&self.ahead[given..given + count]);
            self.ahead_bytes.1 += count;
            return Ok(count);
        }
        self.input.read(buffer)
    }

    /// The error of a read, told apart by whether the file or the decoder failed.
    pub(super) fn error(&self, file: &str, after: Place, source: io::Error) -> FeedError {
        let file = file.to_owned();
        let from_decoder = match &self.input {
            Input::Plain(_) => false,
            Input::Zstd(decoder) => !decoder.get_ref().get_ref().failed,
        };
        match source.kind() {
            _ if !from_decoder => FeedError::Read { file, after, source },
            io::ErrorKind::UnexpectedEof => FeedError::Truncated { file, after },
            _ => FeedError::Corrupt { file, after, source },
        }
    }
}

impl Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Plain(counted) => counted.read(buffer),
                Self::Zstd(decoder) => decoder.read(buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Counts what is read, and remembers whether reading itself failed.
pub(super) struct Counted {
    inner: Prefixed,
    bytes: u64,
    failed: bool,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        match &read {
            Ok(bytes) => self.bytes += *bytes as u64,
            Err(error) => self.failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        read
    }
}

/// A data frame, or a skippable frame, with which parallel compressors begin.
fn is_zstd(magic: &[u8]) -> bool {
    matches!(magic, [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

/// What people are likely to hand over instead.
fn unread_format(magic: &[u8]) -> Option<&'static str> {
    match magic {
        [0x1f, 0x8b, ..] => Some("compressed with gzip"),
        [0xfd, b'7', b'z', b'X'] => Some("compressed with xz"),
        [b'B', b'Z', b'h', _] => Some("compressed with bzip2"),
        [0x04, 0x22, 0x4d, 0x18] => Some("compressed with lz4"),
        [b'P', b'K', 3, 4] => Some("a zip archive"),
        [b'P', b'A', b'R', b'1'] => Some("a Parquet file"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16 text"),
        _ => None,
    }
}
