//! What a CSV feed accepts, and what it says about everything else.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use proptest::prelude::*;
use zepto_abi::Kind;
use zepto_core::limits::{
    CSV_BUFFER_BYTES, CSV_LINE_BYTES_MAX, FEED_FIELD_CLIP_BYTES, FEED_SKIPPED_KEPT_MAX,
    SYMBOL_NAME_BYTES_MAX,
};
use zepto_tools::feed::csv::HEADER;
use zepto_tools::feed::decimal::Units;
use zepto_tools::feed::{CsvFeed, Fault, Feed, FeedError, OnBadRow, Place, Row};

type Bytes = io::Cursor<Vec<u8>>;

fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    io::Cursor::new(text.as_ref().to_vec())
}

fn zstd(text: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(text.as_ref(), 3).expect("memory takes what is written")
}

/// Reads to the end or to the error, in batches of `max`.
fn drain(feed: &mut CsvFeed, max: usize) -> (Vec<Row>, Result<(), FeedError>) {
    let mut rows = Vec::new();
    loop {
        let before = rows.len();
        match feed.next_batch(&mut rows, max) {
            Ok(0) => return (rows, Ok(())),
            Ok(count) => assert!(count <= max && rows.len() == before + count),
            Err(error) => return (rows, Err(error)),
        }
    }
}

fn strict(input: impl AsRef<[u8]>) -> Result<(CsvFeed, Vec<Row>), FeedError> {
    let mut feed = CsvFeed::from_reader("in.csv", bytes(input), OnBadRow::Fail)?;
    let (rows, result) = drain(&mut feed, 3);
    result.map(|()| (feed, rows))
}

fn strict_error(input: impl AsRef<[u8]>) -> String {
    strict(input).err().expect("the input is malformed").to_string()
}

fn with_header(lines: &str) -> String {
    format!("{HEADER}\n{lines}")
}

const GOOD: &str = "1,A,trade,1.5,2";

#[test]
fn rows_have_the_values_of_their_lines_and_names_in_order_of_appearance() {
    let input = with_header(
        "7,B,trade,-1.5,2\n7,A,BID,0.000000001,0\n8,B,Ask,3,.5\n\
         0,\u{20bf},fill,1,1\n9,A,clear,0,0\n9,A,other,0,0\n",
    );
    let (feed, rows) = strict(&input).unwrap();
    let row = |event_time_ns, symbol, kind, price, size| Row {
        event_time_ns,
        symbol,
        kind,
        price,
        size,
        ..Row::default()
    };
    let unit = 1_000_000_000;
    assert_eq!(
        rows,
        [
            row(7, 0, Kind::TRADE, -1_500_000_000, 2 * unit),
            row(7, 1, Kind::BID, 1, 0),
            row(8, 0, Kind::ASK, 3_000_000_000, 500_000_000),
            row(0, 2, Kind::FILL, 1_000_000_000, unit),
            row(9, 1, Kind::CLEAR, 0, 0),
            row(9, 1, Kind::OTHER, 0, 0),
        ]
    );
    assert_eq!(feed.names(), ["B", "A", "\u{20bf}"]);
    assert_eq!(feed.rows_expected(), None);
}

#[test]
fn line_ends_byte_order_marks_compression_and_last_lines_make_no_difference() {
    let plain = with_header(&format!("{GOOD}\n{GOOD}\n"));
    let (_, expected) = strict(&plain).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(&plain)].concat();
    let (first, second) = plain.split_at(40);
    let same: [Vec<u8>; 8] = [
        plain.trim_end().into(),
        format!("{plain}\n\r\n\n").into(),
        plain.replace('\n', "\r\n").into(),
        plain.trim_end().replace('\n', "\r\n").into(),
        format!("\u{feff}{plain}").into(),
        zstd(&plain),
        skippable,
        [zstd(first), zstd(second)].concat(),
    ];
    for (number, input) in same.iter().enumerate() {
        assert_eq!(strict(input).unwrap().1, expected, "input {number}");
    }
}

#[test]
fn a_header_alone_is_a_feed_without_rows() {
    for input in [HEADER.to_owned(), with_header(""), with_header("\n\n")] {
        assert!(strict(&input).unwrap().1.is_empty());
    }
}

/// Every reason for which a line is refused: the line, its reason, and the field that is blamed.
fn malformed() -> Vec<(Vec<u8>, Fault, String)> {
    let long_symbol = "S".repeat(SYMBOL_NAME_BYTES_MAX + 1);
    let long_line = "1".repeat(CSV_LINE_BYTES_MAX + 1);
    let cases: [(&str, Fault, &str); 34] = [
        ("1,A,trade,1.5", Fault::FieldCount, "1,A,trade,1.5"),
        ("1,A,trade,1.5,2,", Fault::FieldCount, "1,A,trade,1.5,2,"),
        ("1,A,trade,1,5,2", Fault::FieldCount, "1,A,trade,1,5,2"),
        ("1;A;trade;1.5;2", Fault::FieldCount, "1;A;trade;1.5;2"),
        (HEADER, Fault::TimeNotANumber, "ts_ns"),
        (",A,trade,1.5,2", Fault::TimeNotANumber, ""),
        ("-1,A,trade,1.5,2", Fault::TimeNotANumber, "-1"),
        ("1.0,A,trade,1.5,2", Fault::TimeNotANumber, "1.0"),
        ("2024-08-08T00:00:00,A,trade,1.5,2", Fault::TimeNotANumber, "2024-08-08T00:00:00"),
        ("18446744073709551616,A,trade,1.5,2", Fault::TimeOverflow, "18446744073709551616"),
        ("1,,trade,1.5,2", Fault::SymbolEmpty, ""),
        ("1, A,trade,1.5,2", Fault::SymbolCharacter, " A"),
        ("1,\"A\",trade,1.5,2", Fault::SymbolCharacter, "\"A\""),
        ("1,A\u{7},trade,1.5,2", Fault::SymbolCharacter, "A\\u{7}"),
        ("1,A,,1.5,2", Fault::KindUnknown, ""),
        ("1,A,sell,1.5,2", Fault::KindUnknown, "sell"),
        ("1,A,trade ,1.5,2", Fault::KindUnknown, "trade "),
        ("1,A,trade,,2", Fault::PriceNotANumber, ""),
        ("1,A,trade,1e3,2", Fault::PriceNotANumber, "1e3"),
        ("1,A,trade,NaN,2", Fault::PriceNotANumber, "NaN"),
        ("1,A,trade, 1,2", Fault::PriceNotANumber, " 1"),
        ("1,A,trade,--1,2", Fault::PriceNotANumber, "--1"),
        ("1,A,trade,1.1234567891,2", Fault::PriceTooFine, "1.1234567891"),
        ("1,A,trade,9223372036.854775808,2", Fault::PriceOverflow, "9223372036.854775808"),
        ("1,A,trade,-9223372036.854775809,2", Fault::PriceOverflow, "-9223372036.854775809"),
        ("1,A,trade,1.5,", Fault::SizeNotANumber, ""),
        ("1,A,trade,1.5,2 ", Fault::SizeNotANumber, "2 "),
        ("1,A,trade,1.5,0x2", Fault::SizeNotANumber, "0x2"),
        ("1,A,trade,1.5,0.0000000001", Fault::SizeTooFine, "0.0000000001"),
        ("1,A,trade,1.5,18446744073.709551616", Fault::SizeOverflow, "18446744073.709551616"),
        ("1,A,trade,1.5,-2", Fault::SizeNegative, "-2"),
        ("", Fault::Blank, ""),
        ("\r", Fault::Blank, ""),
        (" ", Fault::FieldCount, " "),
    ];
    let mut cases: Vec<_> = cases
        .into_iter()
        .map(|(line, fault, field)| (line.as_bytes().to_vec(), fault, field.to_owned()))
        .collect();
    let clipped = |text: &str| format!("{}...", &text[..FEED_FIELD_CLIP_BYTES]);
    let line = format!("1,{long_symbol},trade,1.5,2");
    cases.push((line.into(), Fault::SymbolTooLong, clipped(&long_symbol)));
    cases.push((b"1,A\xff,trade,1.5,2".to_vec(), Fault::SymbolNotUtf8, "A\\xff".to_owned()));
    cases.push((long_line.clone().into(), Fault::LineTooLong, clipped(&long_line)));
    cases
}

#[test]
fn every_malformed_line_is_an_error_with_file_line_and_reason() {
    for (line, fault, field) in malformed() {
        let input =
            [with_header(&format!("{GOOD}\n")).as_bytes(), &line, b"\n1,Z,bid,1,1\n"].concat();
        let mut feed = CsvFeed::from_reader("dir/in.csv", bytes(&input), OnBadRow::Fail).unwrap();
        let (rows, result) = drain(&mut feed, 100);
        let text = String::from_utf8_lossy(&line);
        let error = result.expect_err(&text);
        assert_eq!(rows.len(), 1, "rows before the error are delivered: {text}");
        match &error {
            FeedError::Row { file, bad } => {
                assert_eq!((&**file, bad.place), ("dir/in.csv", Place::Line(3)), "{text}");
                assert_eq!((bad.fault, &*bad.field), (fault, &*field), "{text}");
            }
            other => panic!("{text}: {other}"),
        }
        let shown = if field.is_empty() { String::new() } else { format!(": `{field}`") };
        assert_eq!(error.to_string(), format!("dir/in.csv:3: {fault}{shown}"));
        let again = feed.next_batch(&mut Vec::new(), 1);
        assert!(matches!(again, Err(FeedError::AfterError { .. })), "an error is final: {text}");
        assert!(feed.skipped().total() == 0 && feed.names() == ["A"]);
    }
}

#[test]
fn skipped_lines_are_counted_by_reason_and_the_rest_is_read() {
    let cases = malformed();
    let mut input = with_header("").into_bytes();
    for (line, ..) in &cases {
        input.extend_from_slice(line);
        input.extend_from_slice(format!("\n{GOOD}\r\n").as_bytes());
    }
    for input in [input.clone(), zstd(&input)] {
        let mut feed = CsvFeed::from_reader("in.csv", bytes(&input), OnBadRow::Skip).unwrap();
        let (rows, result) = drain(&mut feed, 5);
        result.unwrap();
        assert_eq!(rows.len(), cases.len());
        assert_eq!(feed.names(), ["A"], "a line that is skipped leaves no name");
        let skipped = feed.skipped();
        assert_eq!(skipped.total(), cases.len() as u64);
        for (fault, count) in skipped.by_fault() {
            let expected = cases.iter().filter(|case| case.1 == *fault).count();
            assert_eq!(*count, expected as u64, "{fault}");
        }
        assert_eq!(skipped.first().len(), FEED_SKIPPED_KEPT_MAX);
        for (index, (bad, case)) in skipped.first().iter().zip(&cases).enumerate() {
            assert_eq!(
                (bad.place, bad.fault, &bad.field),
                (Place::Line(2 + 2 * index as u64), case.1, &case.2)
            );
        }
    }
}

#[test]
fn empty_lines_in_the_middle_are_each_reported_where_they_stand() {
    let input = with_header("\n\n\nbad\n\n1,A,bid,1,1\n\n\n");
    let mut feed = CsvFeed::from_reader("in.csv", bytes(&input), OnBadRow::Skip).unwrap();
    let (rows, result) = drain(&mut feed, 1);
    result.unwrap();
    assert_eq!(rows.len(), 1);
    let lines: Vec<_> = feed.skipped().first().iter().map(|bad| (bad.place, bad.fault)).collect();
    let blank = Fault::Blank;
    let expected = [(2, blank), (3, blank), (4, blank), (5, Fault::FieldCount), (6, blank)];
    assert_eq!(lines, expected.map(|(line, fault)| (Place::Line(line), fault)));
}

#[test]
fn a_huge_line_is_one_error_whatever_its_length() {
    let huge = "9".repeat(4 * CSV_BUFFER_BYTES);
    let input = with_header(&format!("{GOOD}\n{huge}\n{GOOD}\n{huge}"));
    for input in [input.clone().into_bytes(), zstd(&input)] {
        assert!(strict_error(&input).starts_with("in.csv:3: line longer than 4096 bytes: `999"));
        let mut feed = CsvFeed::from_reader("in.csv", bytes(&input), OnBadRow::Skip).unwrap();
        let (rows, result) = drain(&mut feed, 10);
        result.unwrap();
        assert_eq!((rows.len(), feed.skipped().total()), (2, 2));
        assert_eq!(feed.skipped().first()[1].place, Place::Line(5));
    }
    let no_header = "x".repeat(4 * CSV_BUFFER_BYTES);
    assert!(strict_error(no_header).starts_with("in.csv:1: expected the header"));
}

#[test]
fn what_is_no_feed_is_named() {
    let expected = "expected the header `ts_ns,symbol,kind,price,size`";
    assert_eq!(strict_error(""), format!("in.csv: is empty; {expected}"));
    assert_eq!(strict_error(zstd("")), format!("in.csv: is empty; {expected}"));
    for (first, shown) in [
        ("time,symbol,kind,price,size", "time,symbol,kind,price,size"),
        ("symbol,ts_ns,kind,price,size", "symbol,ts_ns,kind,price,size"),
        ("1,A,trade,1.5,2", "1,A,trade,1.5,2"),
        ("", ""),
        ("\u{1b}[31m", "\\u{1b}[31m"),
    ] {
        let error = strict_error(format!("{first}\n{GOOD}\n"));
        assert_eq!(error, format!("in.csv:1: {expected}, found `{shown}`"));
    }
    let formats: [(&[u8], &str); 7] = [
        (b"\x1f\x8b\x08\x00rest", "compressed with gzip"),
        (b"\xfd7zXZ\x00rest", "compressed with xz"),
        (b"BZh91AY", "compressed with bzip2"),
        (b"\x04\x22\x4d\x18rest", "compressed with lz4"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"PAR1rest", "a Parquet file"),
        (b"\xff\xfet\x00s\x00", "UTF-16 text"),
    ];
    for (input, what) in formats {
        let error = strict_error(input);
        assert_eq!(
            error,
            format!("in.csv: is {what}; expected CSV or DBN, plain or compressed with zstd")
        );
    }
    for input in [b"DBN\x01rest".to_vec(), zstd(b"DBN\x01rest")] {
        assert_eq!(strict_error(input), "in.csv: is in Databento Binary Encoding, not CSV");
    }
}

#[test]
fn zstd_data_that_is_cut_anywhere_is_an_error_and_never_a_shorter_feed() {
    let lines: String =
        (0..5_000).map(|n| format!("{n},S{},bid,{n}.5,{}\n", n % 7, n * n)).collect();
    let whole = zstd(with_header(&lines));
    assert_eq!(strict(&whole).unwrap().1.len(), 5_000);
    let cuts = (1..40).chain((40..whole.len()).step_by(997)).chain(whole.len() - 10..whole.len());
    for cut in cuts {
        let error = strict_error(&whole[..cut]);
        let expected =
            if cut < 4 { "expected the header" } else { "zstd data is cut off after line" };
        assert!(error.contains(expected), "cut at {cut}: {error}");
    }
}

#[test]
fn zstd_data_that_is_damaged_or_followed_by_something_else_is_an_error() {
    let lines: String = (0..1_000).map(|n| format!("{n},A,bid,{n},{}\n", n * n * n)).collect();
    let mut frame = zstd::Encoder::new(Vec::new(), 3).unwrap();
    frame.include_checksum(true).unwrap();
    frame.write_all(with_header(&lines).as_bytes()).unwrap();
    let whole = frame.finish().unwrap();
    let (_, undamaged) = strict(&whole).unwrap();
    let followed = [&whole[..], b"something else"].concat();
    assert!(strict_error(followed).contains("zstd data is damaged after line 1001"));
    for position in (4..whole.len()).step_by(53) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x10;
        // Some bits of a header mean nothing; then nothing may have changed.
        if let Ok((_, rows)) = strict(&damaged) {
            assert_eq!(rows, undamaged, "a flipped bit at {position} went unnoticed");
        }
    }
}

#[test]
fn names_that_are_no_files_are_said_to_be_none() {
    let open = |path: &Path| CsvFeed::open(path, OnBadRow::Fail).err().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    assert_eq!(open(dir.path()), format!("{shown}: is a directory, not a file"));
    let absent = dir.path().join("absent.csv");
    assert!(open(&absent).contains("absent.csv: cannot open: No such file"));
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(open(&socket).ends_with("is a socket, not a file"));
    assert!(open(Path::new("/dev/null")).starts_with("/dev/null: is empty"));
    assert!(open(Path::new("/dev/zero")).starts_with("/dev/zero:1: expected the header"));
    let not_utf8 = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff.csv");
    assert!(open(Path::new(not_utf8)).starts_with("\u{fffd}.csv: cannot open"));
}

#[test]
fn progress_counts_the_bytes_of_the_file_and_ends_at_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let plain = with_header(&format!("{GOOD}\n").repeat(50_000));
    // The name says nothing about the format.
    for (name, content) in [("a.zst", plain.clone().into_bytes()), ("b.csv", zstd(&plain))] {
        let path = dir.path().join(name);
        fs::write(&path, &content).unwrap();
        let mut feed = CsvFeed::open(&path, OnBadRow::Fail).unwrap();
        assert_eq!(feed.progress().total, Some(content.len() as u64));
        let mut before = feed.progress().done;
        let mut rows = Vec::new();
        while feed.next_batch(&mut rows, 1000).unwrap() > 0 {
            assert!(feed.progress().done >= before);
            before = feed.progress().done;
        }
        assert_eq!((before, rows.len()), (content.len() as u64, 50_000));
    }
}

/// Gives its bytes in pieces with interruptions between them, then fails.
struct Flaky {
    bytes: Bytes,
    piece: usize,
    calls: usize,
    then: Option<io::ErrorKind>,
}

impl Read for Flaky {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let room = buffer.len().min(self.piece);
        match (self.bytes.read(&mut buffer[..room])?, self.then) {
            (0, Some(kind)) if room > 0 => Err(kind.into()),
            (bytes, _) => Ok(bytes),
        }
    }
}

fn flaky(input: &[u8], piece: usize, then: Option<io::ErrorKind>) -> Flaky {
    Flaky { bytes: bytes(input), piece, calls: 0, then }
}

#[test]
fn an_error_of_the_device_is_told_from_damage_after_all_rows_before_it() {
    let plain = with_header(&format!("{GOOD}\n").repeat(10));
    for input in [plain.clone().into_bytes(), zstd(&plain)] {
        // A device may fail with any kind, the one of a cut-off file included.
        for kind in [io::ErrorKind::TimedOut, io::ErrorKind::UnexpectedEof] {
            let source = flaky(&input, 7, Some(kind));
            let mut feed = CsvFeed::from_reader("pipe", source, OnBadRow::Skip).unwrap();
            let (rows, result) = drain(&mut feed, 4);
            let error = result.unwrap_err();
            assert_eq!(rows.len(), 10);
            assert!(matches!(error, FeedError::Read { after: Place::Line(11), .. }), "{error}");
        }
    }
}

#[test]
fn a_feed_gives_what_it_has_rather_than_wait_for_more() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(with_header(&format!("{GOOD}\n{GOOD}\n1,A,tr")).as_bytes()).unwrap();
    let mut feed = CsvFeed::from_reader("pipe", reader, OnBadRow::Fail).unwrap();
    let mut rows = Vec::new();
    // The pipe is open and silent: a feed that insisted on more would hang here.
    assert_eq!(feed.next_batch(&mut rows, 1000).unwrap(), 2);
    assert_eq!(feed.progress().total, None);
    writer.write_all(b"ade,1,1").unwrap();
    drop(writer);
    assert_eq!(feed.next_batch(&mut rows, 1000).unwrap(), 1);
    assert_eq!(feed.next_batch(&mut rows, 1000).unwrap(), 0);
}

const KINDS: [&str; 6] = ["other", "trade", "bid", "ask", "fill", "clear"];

proptest! {
    #[test]
    fn any_rows_written_as_csv_read_back_as_themselves(
        rows in prop::collection::vec(
            (any::<u64>(), 0u32..5, 0u8..6, any::<i64>(), any::<u64>()),
            1..50,
        ),
        piece in 1usize..200,
        is_zstd: bool,
        max in 1usize..20,
    ) {
        let mut text = with_header("");
        let mut order: Vec<u32> = Vec::new();
        let mut expected = Vec::new();
        for (event_time_ns, symbol, kind, price, size) in rows {
            let (shown_price, shown_size) = (Units(price.into()), Units(size.into()));
            let kind_name = KINDS[kind as usize];
            text += &format!("{event_time_ns},S{symbol},{kind_name},{shown_price},{shown_size}\n");
            if !order.contains(&symbol) {
                order.push(symbol);
            }
            let symbol = order.iter().position(|seen| *seen == symbol).unwrap() as u32;
            expected.push(Row { event_time_ns, symbol, kind, price, size, ..Row::default() });
        }
        let input = if is_zstd { zstd(&text) } else { text.into_bytes() };
        let source = flaky(&input, piece, None);
        let mut feed = CsvFeed::from_reader("in.csv", source, OnBadRow::Fail).unwrap();
        let (read, result) = drain(&mut feed, max);
        prop_assert!(result.is_ok());
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn every_line_of_any_bytes_is_a_row_or_is_counted(
        body in prop::collection::vec(
            prop_oneof![
                4 => Just(format!("{GOOD}\n").into_bytes()),
                2 => "[0-9Ab,.\r\n-]{0,30}".prop_map(String::into_bytes),
                1 => prop::collection::vec(any::<u8>(), 0..30),
                1 => Just(b"\n".to_vec()),
            ],
            0..40,
        ),
        piece in 1usize..100,
    ) {
        let body = body.concat();
        let input = [with_header("").as_bytes(), &body].concat();
        let source = flaky(&input, piece, None);
        let mut feed = CsvFeed::from_reader("in.csv", source, OnBadRow::Skip).unwrap();
        let (rows, result) = drain(&mut feed, 7);
        prop_assert!(result.is_ok());
        // Lines by another way: empty ones at the end do not count.
        let mut lines: Vec<&[u8]> = body
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .collect();
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        prop_assert_eq!(rows.len() as u64 + feed.skipped().total(), lines.len() as u64);
    }
}
