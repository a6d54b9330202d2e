//! The frame machine against everything a stream of bytes can be.

use proptest::prelude::*;
use zepto_core::hash::mix;
use zepto_rpc::frame::{
    Body, Frame, FrameError, FrameReader, HEADER_BYTES, Header, Kind, PayloadBudget, Progress,
    Unmetered, decode_reason, encode_frame, encode_reason,
};

const PAYLOAD_MAX: u32 = 64 << 20;

fn reader_for(kind: Kind) -> FrameReader {
    let mut reader = FrameReader::new(PAYLOAD_MAX);
    if !matches!(kind, Kind::Hello | Kind::HelloReply | Kind::Noise) {
        reader.establish();
    }
    reader
}

fn sample(kind: Kind) -> Vec<u8> {
    let bytes = kind.payload_bytes_max().min(100) as usize;
    let deadline_ms = if kind == Kind::Request { 250 } else { 0 };
    encode_frame(kind, 0x0102_0304_0506_0708, deadline_ms, &vec![0xA5; bytes])
}

fn read_all(reader: &mut FrameReader, mut input: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = reader.read(&mut input, &mut Unmetered)? {
        frames.push(frame);
    }
    assert!(input.is_empty(), "a reader that wants more has taken everything");
    Ok(frames)
}

#[test]
fn every_kind_cut_at_every_byte_waits_and_then_completes() {
    for kind in Kind::ALL {
        let bytes = sample(kind);
        for cut in 0..bytes.len() {
            let mut reader = reader_for(kind);
            assert_eq!(read_all(&mut reader, &bytes[..cut]), Ok(vec![]), "{kind:?} cut at {cut}");
            let progress = match cut {
                0 => Progress::Between,
                1..HEADER_BYTES => Progress::Header,
                _ => Progress::Payload,
            };
            assert_eq!(reader.progress(), progress, "{kind:?} cut at {cut}");
            let frames = read_all(&mut reader, &bytes[cut..]).expect("valid");
            assert_eq!(frames.len(), 1, "{kind:?} cut at {cut}");
            assert_eq!(frames[0].header.kind, kind);
            assert_eq!(frames[0].body, Body::Whole(bytes[HEADER_BYTES..].to_vec()));
        }
    }
}

#[test]
fn every_kind_takes_its_longest_payload_and_not_one_byte_more() {
    for kind in Kind::ALL {
        let max = kind.payload_bytes_max();
        let header = Header { kind, id: 1, deadline_ms: 0, payload_bytes: max };
        let mut bytes = header.encode();
        let mut reader = reader_for(kind);
        assert!(read_all(&mut reader, &bytes).is_ok(), "{kind:?} at its limit");
        bytes[20..24].copy_from_slice(&(max + 1).to_le_bytes());
        let mut reader = reader_for(kind);
        let error = read_all(&mut reader, &bytes).expect_err("above the limit");
        assert_eq!(error, FrameError::TooLong { kind, declared: max + 1, max });
        assert_eq!(reader.capacity_bytes(), 0, "nothing allocated for {kind:?}");
    }
}

#[test]
fn a_header_that_is_wrong_anywhere_is_refused_with_the_reason() {
    let cases: [(usize, u8, &str); 8] = [
        (0, b'X', "not a zepto frame: it begins with [58, 50, 54, 4f]"),
        (3, 0, "not a zepto frame"),
        (4, 2, "frame version 2 is not supported, this side speaks version 1"),
        (5, 0, "frame kind 0 is not known"),
        (5, 16, "frame kind 16 is not known"),
        (6, 1, "frame flags 0x0001 are not known"),
        (7, 0x80, "frame flags 0x8000 are not known"),
        (19, 1, "a Response frame carries a deadline"),
    ];
    for (position, value, text) in cases {
        let mut bytes = sample(Kind::Response);
        bytes[position] = value;
        let mut reader = reader_for(Kind::Response);
        let error = read_all(&mut reader, &bytes).expect_err(text);
        assert!(error.to_string().starts_with(text), "{error}");
        let again = read_all(&mut reader, &sample(Kind::Response)).expect_err("still out of step");
        assert_eq!(again, error, "a reader that failed stays failed");
    }
}

#[test]
fn only_a_hand_shake_is_read_before_its_end_and_none_after() {
    for kind in Kind::ALL {
        let handshake = matches!(kind, Kind::Hello | Kind::HelloReply | Kind::Noise);
        for established in [false, true] {
            let mut reader = FrameReader::new(PAYLOAD_MAX);
            if established {
                reader.establish();
            }
            let result = read_all(&mut reader, &sample(kind));
            if handshake == established {
                assert_eq!(result, Err(FrameError::Phase { kind, established }));
            } else {
                assert!(result.is_ok());
            }
        }
    }
}

#[test]
fn a_lower_payload_limit_holds_for_requests_and_responses() {
    let mut reader = FrameReader::new(99);
    reader.establish();
    let error = read_all(&mut reader, &sample(Kind::Request)).expect_err("100 bytes");
    assert_eq!(error, FrameError::TooLong { kind: Kind::Request, declared: 100, max: 99 });
}

#[test]
fn memory_follows_the_bytes_that_arrived_not_the_length_that_was_declared() {
    let header = Header { kind: Kind::Request, id: 1, deadline_ms: 9, payload_bytes: 64 << 20 };
    let mut readers: Vec<FrameReader> = (0..200).map(|_| reader_for(Kind::Request)).collect();
    for reader in &mut readers {
        assert_eq!(read_all(reader, &header.encode()), Ok(vec![]));
    }
    let total: usize = readers.iter().map(FrameReader::capacity_bytes).sum();
    assert_eq!(total, 0, "200 times 64 MiB declared, nothing sent");
    let reader = &mut readers[0];
    let mut sent = 0;
    for chunk in [1, 10, 4085, 1, 100_000, 1] {
        assert_eq!(read_all(reader, &vec![7; chunk]), Ok(vec![]));
        sent += chunk;
        let bound = (2 * sent).max(4096);
        assert!(reader.capacity_bytes() <= bound, "{} for {sent}", reader.capacity_bytes());
    }
}

struct Allowance(usize);

impl PayloadBudget for Allowance {
    fn grow(&mut self, _: &Header, capacity_bytes: usize) -> bool {
        capacity_bytes <= self.0
    }
}

#[test]
fn a_payload_without_budget_is_thrown_away_and_the_next_frame_is_read() {
    let mut bytes = encode_frame(Kind::Request, 1, 5, &[1; 10_000]);
    bytes.extend_from_slice(&encode_frame(Kind::Request, 2, 5, &[2; 10]));
    for step in [1, 100, 5000, usize::MAX] {
        let mut reader = reader_for(Kind::Request);
        let mut frames = Vec::new();
        for mut input in bytes.chunks(step.min(bytes.len())) {
            while let Some(frame) = reader.read(&mut input, &mut Allowance(5000)).expect("valid") {
                frames.push((frame.header.id, frame.body));
            }
            assert!(reader.capacity_bytes() <= 5000);
        }
        assert_eq!(frames, [(1, Body::Discarded), (2, Body::Whole(vec![2; 10]))]);
    }
}

#[test]
fn reasons_survive_and_are_cut_at_a_character() {
    assert_eq!(decode_reason(&encode_reason(7, "why")), Some((7, "why".to_owned())));
    let long = encode_reason(7, &"ü".repeat(1000));
    assert!(long.len() <= Kind::Refused.payload_bytes_max() as usize);
    assert_eq!(decode_reason(&long), Some((7, "ü".repeat(511))));
    assert_eq!(decode_reason(&[1]), None);
    assert_eq!(decode_reason(&[1, 0, 0xFF]), Some((1, "\u{FFFD}".to_owned())));
}

#[test]
fn no_bytes_make_the_machine_panic_or_take_more_than_came() {
    let seeds: Vec<Vec<u8>> = Kind::ALL.into_iter().map(sample).collect();
    for round in 0..200_000u64 {
        let draw = |n: u64| mix(round * 64 + n);
        let mut bytes = seeds[(draw(0) % seeds.len() as u64) as usize].clone();
        bytes.extend_from_slice(&seeds[(draw(1) % seeds.len() as u64) as usize]);
        for n in 0..draw(2) % 6 {
            let at = (draw(3 + n) % bytes.len() as u64) as usize;
            bytes[at] = draw(20 + n) as u8;
        }
        bytes.truncate((draw(40) % (bytes.len() as u64 + 1)) as usize);
        let mut reader = FrameReader::new(PAYLOAD_MAX);
        if draw(41) % 4 != 0 {
            reader.establish();
        }
        let mut input = bytes.as_slice();
        while let Ok(Some(_)) = reader.read(&mut input, &mut Unmetered) {}
        assert!(reader.capacity_bytes() <= (2 * bytes.len()).max(4096));
    }
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_are_chopped(
        frames in prop::collection::vec((3u8..=14, any::<u64>(), 0usize..300), 1..20),
        chops in prop::collection::vec(1usize..200, 1..50),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (kind, id, size) in frames {
            let kind = Kind::from_code(kind).expect("known");
            let payload = vec![id as u8; size.min(kind.payload_bytes_max() as usize)];
            bytes.extend_from_slice(&encode_frame(kind, id, 0, &payload));
            expected.push((kind, id, Body::Whole(payload)));
        }
        let mut reader = FrameReader::new(PAYLOAD_MAX);
        reader.establish();
        let mut seen = Vec::new();
        let mut rest = bytes.as_slice();
        for chop in chops.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, more) = rest.split_at((*chop).min(rest.len()));
            rest = more;
            let frames = read_all(&mut reader, part).expect("valid");
            seen.extend(frames.into_iter().map(|f| (f.header.kind, f.header.id, f.body)));
        }
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(reader.progress(), Progress::Between);
    }
}
