//! The frame machine: what it gives does not depend on how its bytes arrive.
//!
//! The input's first bytes choose the phase, the budget and where the rest is chopped.

use zepto_core::limits::PAYLOAD_BYTES_MAX;
use zepto_rpc::frame::{
    Body, Frame, FrameError, FrameReader, HEADER_BYTES, Header, Kind, PayloadBudget, Progress,
    encode_frame,
};

use crate::Target;
use crate::bytes::Choices;

/// See the module.
pub const TARGET: Target =
    Target { name: "frame", run, seeds, bytes_fixed: 64 << 10, bytes_per_byte: 64 };

/// First allocation for a payload, whatever the frame declares.
const FIRST_BYTES: usize = 4 << 10;

/// What a reader made of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    frames: Vec<Frame>,
    error: Option<FrameError>,
    progress: Progress,
}

/// Refuses payloads above a size, and checks what it is asked for.
struct Budget {
    bytes_max: usize,
}

impl PayloadBudget for Budget {
    fn grow(&mut self, header: &Header, capacity_bytes: usize) -> bool {
        assert!(capacity_bytes <= header.payload_bytes as usize, "more than was declared");
        capacity_bytes <= self.bytes_max
    }
}

/// Any bytes as a stream of frames.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (phase, budget, step) = (choices.byte(), choices.byte(), choices.byte());
    let stream = input.get(3..).unwrap_or_default();
    let bytes_max = if budget & 1 == 0 { usize::MAX } else { usize::from(budget) };
    let is_established = phase & 1 == 0;
    let read = |step| read(stream, is_established, Budget { bytes_max }, step);

    let whole = read(usize::MAX);
    check_encoding(stream, &whole);
    assert_eq!(read(usize::from(step) + 1), whole, "in pieces of {}", usize::from(step) + 1);
    assert_eq!(read(1), whole, "byte by byte");
}

fn read(stream: &[u8], is_established: bool, mut budget: Budget, step: usize) -> Seen {
    let mut reader = FrameReader::new(PAYLOAD_BYTES_MAX);
    if is_established {
        reader.establish();
    }
    let (mut frames, mut received) = (Vec::new(), 0);
    for piece in stream.chunks(step.min(stream.len().max(1))) {
        let mut rest = piece;
        received += piece.len();
        while !rest.is_empty() {
            let before = rest.len();
            let read = reader.read(&mut rest, &mut budget);
            assert!(
                reader.capacity_bytes() <= FIRST_BYTES.max(2 * received),
                "{} bytes held of {received}",
                reader.capacity_bytes(),
            );
            match read {
                Ok(frame) => {
                    assert!(rest.len() < before, "no progress");
                    assert!(frame.is_some() || rest.is_empty(), "bytes left and no frame");
                    frames.extend(frame);
                }
                Err(error) => {
                    let again = reader.read(&mut &stream[..], &mut budget);
                    assert_eq!(again.err().as_ref(), Some(&error), "an error stays");
                    return Seen { frames, error: Some(error), progress: Progress::Between };
                }
            }
        }
    }
    Seen { frames, error: None, progress: reader.progress() }
}

/// The frames that were seen are the bytes that were read.
fn check_encoding(stream: &[u8], seen: &Seen) {
    let mut rest = stream;
    for Frame { header, body } in &seen.frames {
        let bytes = HEADER_BYTES + header.payload_bytes as usize;
        let (frame, behind) = rest.split_at(bytes);
        if let Body::Whole(payload) = body {
            assert_eq!(encode_frame(header.kind, header.id, header.deadline_ms, payload), frame);
        }
        rest = behind;
    }
    match (&seen.error, seen.progress) {
        (Some(_), _) => assert!(rest.len() >= HEADER_BYTES, "an error before a whole header"),
        (None, Progress::Between) => assert!(rest.is_empty()),
        (None, Progress::Header) => assert!((1..HEADER_BYTES).contains(&rest.len())),
        (None, Progress::Payload) => assert!(rest.len() >= HEADER_BYTES),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let frame = |kind: Kind, payload: &[u8]| {
        let deadline_ms = if kind == Kind::Request { 500 } else { 0 };
        encode_frame(kind, 7, deadline_ms, payload)
    };
    let established = [0, 0, 9];
    let handshake = [1, 0, 30];
    let mut seeds = Vec::new();
    for kind in Kind::ALL {
        let bytes = (kind.payload_bytes_max() as usize).min(40);
        let is_handshake = matches!(kind, Kind::Hello | Kind::HelloReply);
        let head = if is_handshake { handshake } else { established };
        seeds.push([&head[..], &frame(kind, &vec![9; bytes])].concat());
    }
    let several = [
        frame(Kind::Request, &[1; 300]),
        frame(Kind::Ping, &[]),
        frame(Kind::Response, &[]),
        frame(Kind::LaneData, &[0; 72]),
    ];
    for head in [[0, 0, 6], [0, 201, 99]] {
        seeds.push([&head[..], &several.concat()].concat());
    }
    seeds
}
