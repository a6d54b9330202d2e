//! DBN feeds: every record becomes a row, or is counted as malformed or as no tick.
//!
//! The input's first two bytes choose the schema, or that all of the file is hostile and not only
//! its records, and the size of the pieces in which it arrives.

use zepto_tools::feed::{self, OnBadRow};

use crate::Target;
use crate::csv::{Drained, Pieces, drain};

/// See the module. Each of a few readings has its buffers.
pub const TARGET: Target =
    Target { name: "dbn", run, seeds, bytes_fixed: 3 << 20, bytes_per_byte: 1 << 10 };

/// The numbers of the schemas that are read, with the type and length of their records.
const SCHEMAS: [(u16, u8, usize); 3] = [(0, 0xa0, 56), (1, 0x01, 80), (4, 0x00, 48)];
const HEADER_BYTES: usize = 16;
/// 2024-05-08, the day on which instrument 7 has a name.
const DAY_NS: u64 = 1_715_126_400_000_000_000;

/// Any bytes as a file, or as the records of one.
pub fn run(input: &[u8]) {
    let (choice, piece) = (input.first().copied().unwrap_or(0), input.get(1).copied().unwrap_or(0));
    let body = input.get(2..).unwrap_or_default();
    let (file, is_whole) = match SCHEMAS.get(usize::from(choice & 3)) {
        Some((schema, ..)) => ([&metadata(1 + choice % 3, *schema), body].concat(), true),
        None => (body.to_vec(), false),
    };
    let lenient = read(&file, usize::MAX, OnBadRow::Skip);
    assert_eq!(read(&file, usize::from(piece) + 1, OnBadRow::Skip), lenient);
    let strict = read(&file, usize::MAX, OnBadRow::Fail);
    if let (Some(strict), Some(lenient)) = (&strict, &lenient) {
        assert!(lenient.rows.starts_with(&strict.rows));
        assert_eq!(strict.error.is_some(), lenient.error.is_some() || lenient.skipped > 0);
    }
    if is_whole {
        let lenient = lenient.expect("the metadata is sound");
        let (records, is_lost) = records(body);
        assert_eq!(lenient.rows.len() as u64 + lenient.skipped + lenient.noted, records);
        assert_eq!(lenient.error.is_some(), is_lost);
    }
}

/// Everything a file gives; nothing if it does not open.
fn read(file: &[u8], piece: usize, on_bad_row: OnBadRow) -> Option<Drained> {
    let pieces = Pieces::new(file.to_vec(), piece);
    let mut feed = feed::from_reader("fuzz.dbn", pieces, on_bad_row).ok()?;
    Some(drain(&mut *feed))
}

/// How many records there are by their lengths, and whether one has none that is possible.
fn records(mut body: &[u8]) -> (u64, bool) {
    let mut count = 0;
    while let Some(words) = body.first() {
        let bytes = 4 * usize::from(*words);
        if bytes < HEADER_BYTES {
            return (count, true);
        }
        count += 1;
        body = body.get(bytes..).unwrap_or_default();
    }
    (count, false)
}

/// Prelude and metadata that name instrument 7 on one day.
fn metadata(version: u8, schema: u16) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(if version == 1 { 22 } else { 71 }, 0);
        bytes
    };
    let mut bytes = b"GLBX.MDP3\0\0\0\0\0\0\0".to_vec();
    bytes.extend(schema.to_le_bytes());
    bytes.extend([0; 24]);
    bytes.extend(if version == 1 { vec![0; 8] } else { Vec::new() });
    bytes.extend([1, 0, 0]);
    bytes.extend(if version == 1 { vec![] } else { vec![71, 0] });
    bytes.resize(100, 0);
    bytes.extend([0; 16]);
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(text("ABC"));
    for word in [1u32, 20240508, 20240509] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(text("7"));
    let length = bytes.len() as u32;
    [&[b'D', b'B', b'N', version][..], &length.to_le_bytes(), &bytes].concat()
}

/// A record of a schema: an order that is added, a trade, or a change of the best price.
fn record(rtype: u8, bytes: usize, action: u8, side: u8) -> Vec<u8> {
    let mut record = vec![(bytes / 4) as u8, rtype, 1, 0, 7, 0, 0, 0];
    record.extend(DAY_NS.to_le_bytes());
    if rtype == 0xa0 {
        record.extend(99u64.to_le_bytes());
    }
    record.extend(1_500_000_000u64.to_le_bytes());
    record.extend(3u32.to_le_bytes());
    record.extend(if rtype == 0xa0 { [0x80, 0, action, side] } else { [action, side, 0x80, 0] });
    record.extend((DAY_NS + 1).to_le_bytes());
    record.resize(bytes, 0);
    record
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (choice, (schema, rtype, bytes)) in (0u8..).zip(SCHEMAS) {
        let actions = [(b'T', b'A'), (b'A', b'B'), (b'C', b'N'), (b'R', b'N'), (b'F', b'A')];
        let mut records = actions.map(|(action, side)| record(rtype, bytes, action, side)).concat();
        // A message of the system, a record of another schema, one without type.
        for other in [0x17, 0x20, 0x77] {
            records.extend(record(other, 80, 0, 0));
        }
        seeds.push([&[choice, 6][..], &records].concat());
        for version in 1..=3 {
            let file = [metadata(version, schema), records.clone()].concat();
            seeds.push([&[3, 200][..], &file].concat());
        }
    }
    seeds
}
