//! What a DBN feed accepts, and what it says about everything else.
//!
//! Files are made here byte by byte from the published format, so that nothing is shared with the
//! reader under test.

use std::io::Cursor;

use proptest::prelude::*;
use zepto_abi::Kind;
use zepto_core::limits::{DBN_BUFFER_BYTES, DBN_METADATA_BYTES_MAX, FEED_SKIPPED_KEPT_MAX};
use zepto_tools::feed::dbn::{ORDER_ID_BITS, PRICE_UNDEFINED};
use zepto_tools::feed::{self, BadRow, Fault, Feed, FeedError, OnBadRow, Place, Row};

const MBO: u16 = 0;
const MBP_1: u16 = 1;
const TRADES: u16 = 4;
const OHLCV_1S: u16 = 5;
const MIXED: u16 = u16::MAX;

/// 2024-05-08T00:00:00Z.
const DAY_NS: u64 = 1_715_126_400_000_000_000;
const ONE_DAY_NS: u64 = 86_400_000_000_000;

/// A symbol in as many bytes as the version has for it.
fn text(symbol: &str, version: u8) -> Vec<u8> {
    let mut bytes = symbol.as_bytes().to_vec();
    bytes.resize(if version == 1 { 22 } else { 71 }, 0);
    bytes
}

/// Prelude and metadata, with mappings of (name, first day, day after the last, number).
fn head(version: u8, schema: u16, mappings: &[(&str, u32, u32, &str)]) -> Vec<u8> {
    let mut bytes = b"XNAS.ITCH\0\0\0\0\0\0\0".to_vec();
    bytes.extend(schema.to_le_bytes());
    for word in [DAY_NS, u64::MAX, 0] {
        bytes.extend(word.to_le_bytes());
    }
    if version == 1 {
        bytes.extend(u64::MAX.to_le_bytes());
    }
    // From raw symbols to instrument ids, without times of sending.
    bytes.extend([1, 0, 0]);
    if version > 1 {
        bytes.extend(71u16.to_le_bytes());
    }
    bytes.resize(100, 0);
    for _empty in ["layout", "symbols", "partial", "not found"] {
        bytes.extend(0u32.to_le_bytes());
    }
    bytes.extend((mappings.len() as u32).to_le_bytes());
    for (name, first, last, number) in mappings {
        bytes.extend(text(name, version));
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(first.to_le_bytes());
        bytes.extend(last.to_le_bytes());
        bytes.extend(text(number, version));
    }
    let length = bytes.len() as u32;
    [&[b'D', b'B', b'N', version][..], &length.to_le_bytes(), &bytes].concat()
}

fn plain(schema: u16) -> Vec<u8> {
    head(1, schema, &[("ABC", 20240508, 20240509, "7")])
}

/// A record of market by order.
#[derive(Clone, Copy)]
struct Order {
    instrument: u32,
    event_time_ns: u64,
    receive_time_ns: u64,
    order_id: u64,
    price: i64,
    size: u32,
    flags: u8,
    action: u8,
    side: u8,
}

const ORDER: Order = Order {
    instrument: 7,
    event_time_ns: DAY_NS + 1,
    receive_time_ns: DAY_NS + 2,
    order_id: 99,
    price: 1_500_000_000,
    size: 3,
    flags: 0x80,
    action: b'A',
    side: b'B',
};

fn record_head(bytes: usize, rtype: u8, instrument: u32, event_time_ns: u64) -> Vec<u8> {
    let mut record = vec![(bytes / 4) as u8, rtype, 1, 0];
    record.extend(instrument.to_le_bytes());
    record.extend(event_time_ns.to_le_bytes());
    record
}

impl Order {
    fn bytes(&self) -> Vec<u8> {
        let mut record = record_head(56, 0xa0, self.instrument, self.event_time_ns);
        record.extend(self.order_id.to_le_bytes());
        record.extend(self.price.to_le_bytes());
        record.extend(self.size.to_le_bytes());
        record.extend([self.flags, 0, self.action, self.side]);
        record.extend(self.receive_time_ns.to_le_bytes());
        record.resize(56, 0);
        record
    }

    /// The same event in the schemas `trades` and `mbp-1`.
    fn trade_bytes(&self, bytes: usize, rtype: u8) -> Vec<u8> {
        let mut record = record_head(bytes, rtype, self.instrument, self.event_time_ns);
        record.extend(self.price.to_le_bytes());
        record.extend(self.size.to_le_bytes());
        record.extend([self.action, self.side, self.flags, 0]);
        record.extend(self.receive_time_ns.to_le_bytes());
        record.resize(bytes, 0);
        record
    }
}

/// A record that is no market event.
fn other(rtype: u8, bytes: usize) -> Vec<u8> {
    let mut record = record_head(bytes, rtype, 7, DAY_NS);
    record.resize(bytes, 0);
    record
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory takes what is written")
}

fn open(bytes: &[u8], on_bad_row: OnBadRow) -> Result<Box<dyn Feed>, FeedError> {
    feed::from_reader("in.dbn", Cursor::new(bytes.to_vec()), on_bad_row)
}

/// Reads to the end or to the error.
fn drain(feed: &mut dyn Feed, max: usize) -> (Vec<Row>, Result<(), FeedError>) {
    let mut rows = Vec::new();
    loop {
        match feed.next_batch(&mut rows, max) {
            Ok(0) => return (rows, Ok(())),
            Ok(_) => {}
            Err(error) => return (rows, Err(error)),
        }
    }
}

fn rows(bytes: &[u8]) -> Vec<Row> {
    let mut feed = open(bytes, OnBadRow::Fail).expect("a feed");
    let (rows, result) = drain(&mut *feed, 3);
    result.expect("sound records");
    rows
}

fn error(bytes: &[u8]) -> String {
    match open(bytes, OnBadRow::Fail) {
        Err(error) => error.to_string(),
        Ok(mut feed) => drain(&mut *feed, 3).1.expect_err("an error").to_string(),
    }
}

#[test]
fn each_action_and_side_becomes_its_kind_and_both_are_kept() {
    let cases = [
        (b'T', b'A', Kind::TRADE),
        (b'T', b'N', Kind::TRADE),
        (b'F', b'B', Kind::FILL),
        (b'A', b'B', Kind::BID),
        (b'C', b'B', Kind::BID),
        (b'M', b'A', Kind::ASK),
        (b'A', b'N', Kind::OTHER),
        (b'N', b'B', Kind::OTHER),
        (b'R', b'N', Kind::CLEAR),
    ];
    let orders = cases.map(|(action, side, _)| Order { action, side, ..ORDER });
    let schemas: [(u16, u64, Vec<Vec<u8>>); 3] = [
        (MBO, 99, orders.iter().map(Order::bytes).collect()),
        (MBP_1, 0, orders.iter().map(|order| order.trade_bytes(80, 1)).collect()),
        (TRADES, 0, orders.iter().map(|order| order.trade_bytes(48, 0)).collect()),
    ];
    for (schema, order_id, records) in schemas {
        let expected = cases.map(|(action, side, kind)| Row {
            event_time_ns: DAY_NS + 1,
            receive_time_ns: DAY_NS + 2,
            symbol: 0,
            kind,
            price: 1_500_000_000,
            size: 3_000_000_000,
            flags: 0x80,
            word: u64::from(action) << 56 | u64::from(side) << 48 | order_id,
        });
        let bytes = [plain(schema), records.concat()].concat();
        assert_eq!(rows(&bytes), expected, "schema {schema}");
        assert_eq!(rows(&zstd(&bytes)), expected, "schema {schema}, compressed");
    }
}

#[test]
fn an_undefined_price_time_of_receipt_or_size_of_a_clear_is_no_number() {
    let undefined = Order {
        price: i64::MAX,
        receive_time_ns: u64::MAX,
        size: u32::MAX,
        flags: 0xfe,
        action: b'R',
        side: b'N',
        ..ORDER
    };
    let row = rows(&[plain(MBO), undefined.bytes()].concat())[0];
    assert_eq!((row.price, row.receive_time_ns, row.size, row.kind), (0, 0, 0, Kind::CLEAR));
    assert_eq!(row.flags, 0xfe | PRICE_UNDEFINED);
    // The lowest bit means nothing in the file, so it cannot say that there is no price.
    let row = rows(&[plain(MBO), Order { flags: 0xff, ..ORDER }.bytes()].concat())[0];
    assert_eq!(row.flags, !PRICE_UNDEFINED);
}

#[test]
fn an_order_id_that_does_not_fit_is_said_not_to_and_counted() {
    let most = (1u64 << ORDER_ID_BITS) - 1;
    let ids = [0, most - 1, most, u64::MAX];
    let records = ids.map(|order_id| Order { order_id, ..ORDER }.bytes()).concat();
    let mut feed = open(&[plain(MBO), records].concat(), OnBadRow::Fail).unwrap();
    let kept: Vec<u64> = drain(&mut *feed, 9).0.iter().map(|row| row.word & most).collect();
    assert_eq!(kept, [0, most - 1, most, most]);
    assert_eq!(feed.notes().counts().values().sum::<u64>(), 2);
    assert!(feed.notes().to_string().contains("2 x order id too large"));
}

#[test]
fn an_instrument_has_the_name_of_its_day_and_its_number_on_others() {
    let names = [
        ("NEW", 20240509, 20240510, "7"),
        ("OLD", 20240508, 20240509, "7"),
        ("ELSE", 20240508, 20240510, "8"),
        ("UNRESOLVED", 20240508, 20240510, ""),
    ];
    // The day of receipt decides, whatever the event's time.
    let at = |instrument, receive_time_ns| Order { instrument, receive_time_ns, ..ORDER }.bytes();
    let records = [
        at(7, DAY_NS),
        at(7, DAY_NS + ONE_DAY_NS - 1),
        at(7, DAY_NS + ONE_DAY_NS),
        at(7, DAY_NS - 1),
        at(8, DAY_NS + ONE_DAY_NS),
        at(9, DAY_NS),
        at(7, u64::MAX),
        at(7, DAY_NS + 2 * ONE_DAY_NS),
    ];
    for version in 1..=3 {
        let bytes = [head(version, MBO, &names), records.concat()].concat();
        let mut feed = open(&bytes, OnBadRow::Fail).unwrap();
        let (rows, result) = drain(&mut *feed, 100);
        result.unwrap();
        let seen: Vec<&str> =
            rows.iter().map(|row| feed.names()[row.symbol as usize].as_str()).collect();
        assert_eq!(seen, ["OLD", "OLD", "NEW", "7", "ELSE", "9", "OLD", "7"], "v{version}");
        assert_eq!(feed.names(), ["OLD", "NEW", "7", "ELSE", "9"], "each once, when first seen");
    }
}

#[test]
fn records_that_are_no_ticks_are_counted_by_type() {
    let others = [(0x17, 80), (0x16, 80), (0x16, 80), (0x15, 80), (0x12, 40), (0x18, 64)];
    let records: Vec<u8> = others.iter().flat_map(|(rtype, bytes)| other(*rtype, *bytes)).collect();
    let bytes = [plain(MBO), records, ORDER.bytes(), other(0x13, 360)].concat();
    let mut feed = open(&bytes, OnBadRow::Fail).unwrap();
    let (rows, result) = drain(&mut *feed, 100);
    result.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(feed.skipped().total(), 0);
    let text = feed.notes().to_string();
    for line in ["2 x symbol mapping record", "1 x system record", "1 x gateway error record"] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(feed.notes().counts().values().sum::<u64>(), others.len() as u64 + 1);
}

/// Every reason for which a record is refused, with what is shown of it.
fn malformed() -> Vec<(Vec<u8>, Fault, &'static str)> {
    let order = |change: fn(&mut Order)| {
        let mut order = ORDER;
        change(&mut order);
        order.bytes()
    };
    let longer = [&[15], &ORDER.bytes()[1..], &[0; 4]].concat();
    vec![
        (order(|o| o.action = b'X'), Fault::ActionUnknown, "X"),
        (order(|o| o.action = 0), Fault::ActionUnknown, "\\0"),
        (order(|o| o.side = b'b'), Fault::SideUnknown, "b"),
        (order(|o| o.event_time_ns = u64::MAX), Fault::TimeUndefined, ""),
        (order(|o| (o.action, o.price) = (b'T', i64::MAX)), Fault::PriceUndefined, ""),
        (order(|o| (o.action, o.price) = (b'F', i64::MAX)), Fault::PriceUndefined, ""),
        (order(|o| o.size = u32::MAX), Fault::SizeUndefined, ""),
        // Shorter than its type, longer, and so long that the next one lies askew.
        (other(0xa0, 48), Fault::RecordLength, ""),
        (other(0xa0, 64), Fault::RecordLength, ""),
        (longer, Fault::RecordLength, ""),
        (other(0xa0, 1020), Fault::RecordLength, ""),
        (other(0x77, 16), Fault::RecordType, "w"),
        // A trade, and a bar, in a file of orders.
        (ORDER.trade_bytes(48, 0), Fault::RecordSchema, "\\0"),
        (other(0x20, 56), Fault::RecordSchema, " "),
    ]
}

#[test]
fn every_malformed_record_is_an_error_with_file_record_and_reason() {
    for (record, fault, field) in malformed() {
        let bytes = [plain(MBO), ORDER.bytes(), record, ORDER.bytes()].concat();
        let mut feed = open(&bytes, OnBadRow::Fail).unwrap();
        let (rows, result) = drain(&mut *feed, 100);
        assert_eq!(rows.len(), 1, "rows before the error are delivered: {fault}");
        let shown = if field.is_empty() { String::new() } else { format!(": `{field}`") };
        let error = result.expect_err("a malformed record");
        assert_eq!(error.to_string(), format!("in.dbn: record 2: {fault}{shown}"));
        let again = feed.next_batch(&mut Vec::new(), 1);
        assert!(matches!(again, Err(FeedError::AfterError { .. })), "an error is final");
    }
}

#[test]
fn skipped_records_are_counted_by_reason_and_the_rest_is_read() {
    let cases = malformed();
    let records: Vec<u8> =
        cases.iter().flat_map(|(record, ..)| [record.clone(), ORDER.bytes()].concat()).collect();
    let bytes = [plain(MBO), records].concat();
    let mut feed = open(&bytes, OnBadRow::Skip).unwrap();
    let (rows, result) = drain(&mut *feed, 2);
    result.unwrap();
    assert_eq!((rows.len(), feed.skipped().total()), (cases.len(), cases.len() as u64));
    for (fault, count) in feed.skipped().by_fault() {
        let expected = cases.iter().filter(|case| case.1 == *fault).count();
        assert_eq!(*count, expected as u64, "{fault}");
    }
    let first = feed.skipped().first();
    assert_eq!(first.len(), FEED_SKIPPED_KEPT_MAX);
    let expected =
        BadRow { place: Place::Record(1), fault: Fault::ActionUnknown, field: "X".to_owned() };
    assert_eq!(first[0], expected);
    let text = feed.skipped().to_string();
    assert!(text.starts_with("14 malformed records skipped\n"), "{text}");
    assert!(text.contains("\n  record 3: action is none of"), "{text}");
}

#[test]
fn a_name_that_may_not_be_one_is_refused_with_its_record() {
    let bytes = [head(2, MBO, &[("UD 1", 20240508, 20240509, "7")]), ORDER.bytes()].concat();
    assert_eq!(error(&bytes), format!("in.dbn: record 1: {}: `UD 1`", Fault::SymbolCharacter));
    let mut feed = open(&bytes, OnBadRow::Skip).unwrap();
    assert!(drain(&mut *feed, 9).1.is_ok());
    assert!(feed.names().is_empty() && feed.skipped().total() == 1);
}

#[test]
fn a_file_that_is_cut_anywhere_is_an_error_and_never_a_shorter_feed() {
    let start = plain(MBO).len();
    let whole = [plain(MBO), ORDER.bytes(), ORDER.bytes(), ORDER.bytes()].concat();
    for cut in 0..whole.len() {
        let behind = cut.saturating_sub(start);
        if cut >= start && behind.is_multiple_of(56) {
            assert_eq!(rows(&whole[..cut]).len(), behind / 56);
            continue;
        }
        let error = error(&whole[..cut]);
        let expected = match cut {
            0 => "is empty".to_owned(),
            1..4 => "expected the header".to_owned(),
            _ if cut < start => "the DBN metadata is malformed: the file ends within it".to_owned(),
            _ => format!("record {}: the file ends within the record", behind / 56 + 1),
        };
        assert!(error.contains(&expected), "cut at {cut}: {error}");
        if cut > start {
            let mut feed = open(&whole[..cut], OnBadRow::Skip).unwrap();
            let (rows, result) = drain(&mut *feed, 9);
            assert!(result.is_ok() && rows.len() == behind / 56);
            assert_eq!(feed.skipped().by_fault()[&Fault::RecordTruncated], 1);
        }
    }
    let compressed = zstd(&whole);
    for cut in 4..compressed.len() {
        let error = error(&compressed[..cut]);
        assert!(error.contains("zstd data is cut off"), "cut at {cut}: {error}");
    }
}

#[test]
fn a_length_that_no_record_has_ends_the_feed_even_where_skipping_is_allowed() {
    let nothing = vec![0; 64];
    let bytes = [plain(MBO), ORDER.bytes(), nothing, ORDER.bytes()].concat();
    let mut feed = open(&bytes, OnBadRow::Skip).unwrap();
    let (rows, result) = drain(&mut *feed, 9);
    assert_eq!(rows.len(), 1);
    let text = result.unwrap_err().to_string();
    assert_eq!(text, "in.dbn: record 2 claims 0 bytes: the rest of the file cannot be read");
}

#[test]
fn other_schemas_versions_and_metadata_are_refused_by_name() {
    let read = "of DBN, the schemas trades, mbp-1 and mbo are read";
    assert_eq!(error(&plain(OHLCV_1S)), format!("in.dbn: holds the schema ohlcv-1s; {read}"));
    assert_eq!(error(&plain(MIXED)), format!("in.dbn: holds a mixture of schemas; {read}"));
    for version in [0, 4, 255] {
        let mut bytes = plain(MBO);
        bytes[3] = version;
        let expected = format!("in.dbn: is DBN version {version}; versions 1 to 3 are read");
        assert_eq!(error(&bytes), expected);
    }
    let malformed = "in.dbn: the DBN metadata is malformed: ";
    let spoil = |at: usize, with: &[u8]| {
        let mut bytes = head(2, MBO, &[("ABC", 20240508, 20240509, "7")]);
        bytes[at..at + with.len()].copy_from_slice(with);
        error(&bytes)
    };
    // A length of nearly 4 GiB costs nothing; one that is too short is seen too.
    assert!(spoil(4, &[0xff; 4]).contains(&format!("more than {DBN_METADATA_BYTES_MAX}")));
    for (at, with) in [
        (4, &[9, 0, 0, 0][..]),
        // Unknown schema, symbols of one byte, more mappings than there are, no such day.
        (24, &[0x77, 0x77]),
        (53, &[1, 0]),
        (124, &[0xff, 0xff, 0xff, 0x7f]),
        (203, &[0xff; 4]),
    ] {
        let error = spoil(at, with);
        assert!(error.starts_with(malformed), "{with:?} at {at}: {error}");
    }
    let bytes = head(1, MBO, &[("ABC", 20240508, 20240509, "seven")]);
    assert_eq!(error(&bytes), format!("{malformed}\"seven\" is no instrument's number"));
}

#[test]
fn every_record_is_found_however_many_there_are_and_behind_one_of_an_odd_length() {
    // More than the buffer holds, so that records lie across its end.
    let count = 5 * DBN_BUFFER_BYTES / 56;
    let askew = [&[15], &ORDER.bytes()[1..], &[0; 4]].concat();
    let records = [ORDER.bytes().repeat(count), askew, ORDER.bytes().repeat(count)].concat();
    let bytes = [plain(MBO), records].concat();
    for max in [1, 1000, usize::MAX] {
        let mut feed = open(&bytes, OnBadRow::Skip).unwrap();
        let (rows, result) = drain(&mut *feed, max);
        result.unwrap();
        assert_eq!((rows.len(), feed.skipped().total()), (2 * count, 1));
    }
}

proptest! {
    #[test]
    fn every_record_of_any_bytes_is_a_row_or_a_note_or_is_counted(
        records in prop::collection::vec(
            prop_oneof![
                3 => Just(ORDER.bytes()),
                2 => (any::<u8>(), any::<u8>(), 0usize..56).prop_map(|(byte, value, at)| {
                    let mut record = ORDER.bytes();
                    record[at.max(1)] = value ^ byte;
                    record
                }),
                1 => (4u8..=255, any::<u8>(), any::<u8>()).prop_map(|(words, rtype, fill)| {
                    let mut record = vec![fill; 4 * usize::from(words)];
                    (record[0], record[1]) = (words, rtype);
                    record
                }),
            ],
            0..40,
        ),
    ) {
        let bytes = [plain(MBO), records.concat()].concat();
        let mut feed = open(&bytes, OnBadRow::Skip).unwrap();
        let (rows, result) = drain(&mut *feed, 7);
        prop_assert!(result.is_ok());
        let not_ticks =
            feed.notes().counts().iter().filter(|(what, _)| what.contains("no tick"));
        let not_ticks: u64 = not_ticks.map(|(_, count)| count).sum();
        let seen = rows.len() as u64 + feed.skipped().total() + not_ticks;
        prop_assert_eq!(seen, records.len() as u64);
    }
}
