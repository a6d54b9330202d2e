//! The wire grammar: a 24-byte header and a payload, as a machine without input or output.
//!
//! Bytes go in, chopped in any way, and whole frames come out; the simulator runs the same
//! machine as the sockets. A header is checked in full before its payload costs anything, and
//! memory grows with the bytes that have arrived, never with the length that was declared: 64 MiB
//! announced by a peer that then falls silent cost 24 bytes. The machine knows no request, no
//! connection and no clock; time-outs and byte budgets belong to its caller.
//!
//! ```text
//!  0        4       5      6       8        16            20              24
//! | "ZPTO" | ver u8 | kind | flags | id u64 | deadline_ms | payload bytes | payload ...
//! ```
//! All numbers are little-endian. `flags` has no known bit yet and must be zero. Authentication is
//! not the frames' affair: where there is a cluster secret, they travel inside sealed records.

use thiserror::Error;
use zepto_core::limits::{
    HELLO_BYTES_MAX, LANE_FRAME_SLOTS_MAX, LANE_OPEN_BYTES_MAX, LANE_REFUSALS, PAYLOAD_BYTES_MAX,
    REASON_BYTES_MAX,
};

use crate::secure::noise::NOISE_BYTES;

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"ZPTO";
/// Version of the frame grammar. What the payloads mean is agreed in the HELLO.
pub const VERSION: u8 = 1;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 24;
/// Bytes of one slot of a lane.
pub const SLOT_BYTES: usize = 64;
/// Bytes before the slots in a frame of lane data: the index of the first slot.
pub const LANE_DATA_PREFIX_BYTES: usize = 8;
/// Bytes before the refusals in a frame of lane credit: consumed and settled.
pub const LANE_CREDIT_PREFIX_BYTES: usize = 16;
/// Bytes of one refusal in a frame of lane credit.
pub const REFUSED_RANGE_BYTES: usize = 16;

/// First allocation for a payload that arrives in pieces.
const FIRST_PIECE_BYTES: usize = 4 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// First frame of the side that connected.
    Hello = 1,
    /// The answer to it: welcome, or refused with a reason.
    HelloReply = 2,
    /// A request; `id` grows from one request to the next, `deadline_ms` is relative.
    Request = 3,
    /// The answer to the request `id`.
    Response = 4,
    /// The request `id` was not executed; the payload is a reason.
    Refused = 5,
    /// The request `id` may or may not have been executed; the payload is a reason.
    Unknown = 6,
    /// No request above `id` will be executed on this connection; the payload is a reason.
    GoAway = 7,
    /// Asks for a sign of life; `id` is any number.
    Ping = 8,
    /// The sign of life, with the number of the ping.
    Pong = 9,
    /// Asks for a lane with the number `id`; what it is for is the application's.
    LaneOpen = 10,
    /// The lane is open; the payload is its window in slots.
    LaneOpened = 11,
    /// Slots of a lane, from an index on.
    LaneData = 12,
    /// How far the receiver is, and what it refused.
    LaneCredit = 13,
    /// The lane is over; the payload is a reason.
    LaneClose = 14,
    /// A proof of the cluster secret, from each side before the HELLO where there is a secret.
    Noise = 15,
    // Reserved: 16 heartbeat echo, 17 replicate, 18 snapshot, 19 migration, 20 ring update,
    // 21 statistics, 22 metrics.
}

impl Kind {
    /// Every kind of this version.
    pub const ALL: [Kind; 15] = [
        Kind::Hello,
        Kind::HelloReply,
        Kind::Request,
        Kind::Response,
        Kind::Refused,
        Kind::Unknown,
        Kind::GoAway,
        Kind::Ping,
        Kind::Pong,
        Kind::LaneOpen,
        Kind::LaneOpened,
        Kind::LaneData,
        Kind::LaneCredit,
        Kind::LaneClose,
        Kind::Noise,
    ];

    /// The number in the header.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind for a number, or `None` for one this version does not know.
    pub fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(code).wrapping_sub(1)).copied()
    }

    /// Largest payload in bytes.
    pub const fn payload_bytes_max(self) -> u32 {
        match self {
            Kind::Hello | Kind::HelloReply => HELLO_BYTES_MAX,
            Kind::Request | Kind::Response => PAYLOAD_BYTES_MAX,
            Kind::Refused | Kind::Unknown | Kind::GoAway | Kind::LaneClose => REASON_BYTES_MAX,
            Kind::Ping | Kind::Pong => 0,
            Kind::Noise => NOISE_BYTES as u32,
            Kind::LaneOpen => LANE_OPEN_BYTES_MAX,
            Kind::LaneOpened => 8,
            Kind::LaneData => (LANE_DATA_PREFIX_BYTES + LANE_FRAME_SLOTS_MAX * SLOT_BYTES) as u32,
            Kind::LaneCredit => {
                (LANE_CREDIT_PREFIX_BYTES + LANE_REFUSALS * REFUSED_RANGE_BYTES) as u32
            }
        }
    }

    const fn is_handshake(self) -> bool {
        matches!(self, Kind::Hello | Kind::HelloReply | Kind::Noise)
    }

    const fn has_deadline(self) -> bool {
        matches!(self, Kind::Request | Kind::LaneOpen)
    }
}

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Request or lane number; see [`Kind`].
    pub id: u64,
    /// Milliseconds from now that a request may take; zero in all other kinds.
    pub deadline_ms: u32,
    /// Bytes of the payload.
    pub payload_bytes: u32,
}

impl Header {
    /// The 24 bytes on the wire.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        debug_assert!(self.payload_bytes <= self.kind.payload_bytes_max());
        debug_assert!(self.deadline_ms == 0 || self.kind.has_deadline());
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind.code();
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.deadline_ms.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes
    }

    /// Checks everything that can be checked without the connection's state.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let [m0, m1, m2, m3, version, kind, f0, f1, rest @ ..] = *bytes;
        let [i0, i1, i2, i3, i4, i5, i6, i7, d0, d1, d2, d3, l0, l1, l2, l3] = rest;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(FrameError::Magic { found: [m0, m1, m2, m3] });
        }
        if version != VERSION {
            return Err(FrameError::Version { found: version });
        }
        let kind = Kind::from_code(kind).ok_or(FrameError::Kind { found: kind })?;
        if [f0, f1] != [0, 0] {
            return Err(FrameError::Flags { found: u16::from_le_bytes([f0, f1]) });
        }
        let header = Header {
            kind,
            id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            deadline_ms: u32::from_le_bytes([d0, d1, d2, d3]),
            payload_bytes: u32::from_le_bytes([l0, l1, l2, l3]),
        };
        if header.deadline_ms != 0 && !kind.has_deadline() {
            return Err(FrameError::Deadline { kind });
        }
        let max = kind.payload_bytes_max();
        if header.payload_bytes > max {
            return Err(FrameError::TooLong { kind, declared: header.payload_bytes, max });
        }
        Ok(header)
    }
}

/// A whole frame as one run of bytes. For hand-shakes and tests; connections write header and
/// payload by one vectored write instead.
pub fn encode_frame(kind: Kind, id: u64, deadline_ms: u32, payload: &[u8]) -> Vec<u8> {
    let payload_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&Header { kind, id, deadline_ms, payload_bytes }.encode());
    bytes.extend_from_slice(payload);
    bytes
}

/// Bytes that are no frame of this version, or not here. The connection that carried them cannot
/// be read any further and is closed; trying again with the same bytes is of no use.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Not zepto at all: a web browser, a port scanner, or a stream out of step.
    #[error("not a zepto frame: it begins with {found:02x?}, not with \"ZPTO\"")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// Another version of the grammar.
    #[error("frame version {found} is not supported, this side speaks version {VERSION}")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// A kind of a later version, or noise.
    #[error("frame kind {found} is not known to version {VERSION}")]
    Kind {
        /// The kind byte.
        found: u8,
    },
    /// Flag bits of a later version, or noise.
    #[error("frame flags {found:#06x} are not known to version {VERSION}")]
    Flags {
        /// The flags.
        found: u16,
    },
    /// Only requests carry a deadline.
    #[error("a {kind:?} frame carries a deadline")]
    Deadline {
        /// The frame's kind.
        kind: Kind,
    },
    /// The declared length is above the limit of the kind. Nothing was allocated for it.
    #[error("a {kind:?} frame declares {declared} bytes, more than the {max} allowed")]
    TooLong {
        /// The frame's kind.
        kind: Kind,
        /// The declared length in bytes.
        declared: u32,
        /// The limit in bytes.
        max: u32,
    },
    /// A frame of the hand-shake after it, or anything else before its end.
    #[error(
        "a {kind:?} frame {}",
        if *.established { "after the hand-shake" } else { "before the HELLO" }
    )]
    Phase {
        /// The frame's kind.
        kind: Kind,
        /// True when the hand-shake was over.
        established: bool,
    },
}

/// Says whether a payload may take more memory.
pub trait PayloadBudget {
    /// The payload of the frame with this header wants `capacity_bytes` in all, more than it had.
    /// False makes the reader throw the payload away as it arrives; the frame then comes out as
    /// [`Body::Discarded`]. Not called for empty payloads.
    fn grow(&mut self, header: &Header, capacity_bytes: usize) -> bool;
}

/// A budget without a bound of its own: the limits per kind still hold.
pub struct Unmetered;

impl PayloadBudget for Unmetered {
    fn grow(&mut self, _: &Header, _: usize) -> bool {
        true
    }
}

/// One frame, complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub body: Body,
}

/// The payload of a complete frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// All bytes that the header declared.
    Whole(Vec<u8>),
    /// The budget had no room, or memory ran out: the bytes came and were dropped.
    Discarded,
}

/// How far the current frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Between two frames.
    Between,
    /// Some bytes of a header are here.
    Header,
    /// The header is complete, the payload is not.
    Payload,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameReader {
    established: bool,
    payload_bytes_max: u32,
    head: [u8; HEADER_BYTES],
    head_bytes: usize,
    header: Option<Header>,
    payload: Vec<u8>,
    received_bytes: usize,
    discarding: bool,
    failed: Option<FrameError>,
}

impl FrameReader {
    /// A reader that takes nothing but a hand-shake until [`FrameReader::establish`]; requests
    /// and responses above `payload_bytes_max` (at most the limit of their kind) are errors.
    pub fn new(payload_bytes_max: u32) -> FrameReader {
        FrameReader {
            established: false,
            payload_bytes_max,
            head: [0; HEADER_BYTES],
            head_bytes: 0,
            header: None,
            payload: Vec::new(),
            received_bytes: 0,
            discarding: false,
            failed: None,
        }
    }

    /// The hand-shake is over: from now on everything but a HELLO is taken.
    pub fn establish(&mut self) {
        self.established = true;
    }

    /// How far the current frame is.
    pub fn progress(&self) -> Progress {
        match (self.header, self.head_bytes) {
            (Some(_), _) => Progress::Payload,
            (None, 0) => Progress::Between,
            (None, _) => Progress::Header,
        }
    }

    /// Bytes of memory held for the current payload.
    pub fn capacity_bytes(&self) -> usize {
        self.payload.capacity()
    }

    /// Takes bytes from the front of `input` up to the end of one frame and returns it, or takes
    /// all of them and returns `None`. After an error every call returns the same error.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        budget: &mut impl PayloadBudget,
    ) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let header = match self.header {
            Some(header) => header,
            None => match self.read_header(input) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            },
        };
        Ok(self.read_payload(header, input, budget))
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, FrameError> {
        let header = match input.split_first_chunk::<HEADER_BYTES>() {
            // Nearly always the whole header is there and is read where it lies.
            Some((bytes, rest)) if self.head_bytes == 0 => {
                *input = rest;
                Header::decode(bytes)?
            }
            _ => {
                let count = (HEADER_BYTES - self.head_bytes).min(input.len());
                let (part, rest) = input.split_at(count);
                self.head[self.head_bytes..self.head_bytes + count].copy_from_slice(part);
                self.head_bytes += count;
                *input = rest;
                if self.head_bytes < HEADER_BYTES {
                    return Ok(None);
                }
                Header::decode(&self.head)?
            }
        };
        self.check_place(&header)?;
        self.head_bytes = 0;
        self.header = Some(header);
        Ok(Some(header))
    }

    fn check_place(&self, header: &Header) -> Result<(), FrameError> {
        let kind = header.kind;
        if kind.is_handshake() == self.established {
            return Err(FrameError::Phase { kind, established: self.established });
        }
        let max = self.payload_bytes_max;
        if matches!(kind, Kind::Request | Kind::Response) && header.payload_bytes > max {
            return Err(FrameError::TooLong { kind, declared: header.payload_bytes, max });
        }
        Ok(())
    }

    fn read_payload(
        &mut self,
        header: Header,
        input: &mut &[u8],
        budget: &mut impl PayloadBudget,
    ) -> Option<Frame> {
        let declared_bytes = header.payload_bytes as usize;
        let count = (declared_bytes - self.received_bytes).min(input.len());
        let (part, rest) = input.split_at(count);
        *input = rest;
        if !self.discarding && count > 0 {
            if self.make_room(&header, count, budget) {
                self.payload.extend_from_slice(part);
            } else {
                self.discarding = true;
                self.payload = Vec::new();
            }
        }
        self.received_bytes += count;
        if self.received_bytes < declared_bytes {
            return None;
        }
        self.header = None;
        self.received_bytes = 0;
        let payload = std::mem::take(&mut self.payload);
        let discarded = std::mem::take(&mut self.discarding);
        Some(Frame { header, body: if discarded { Body::Discarded } else { Body::Whole(payload) } })
    }

    /// Doubles the payload's memory as bytes arrive, up to what was declared, which is exact for
    /// a payload that arrives in one piece.
    fn make_room(
        &mut self,
        header: &Header,
        count: usize,
        budget: &mut impl PayloadBudget,
    ) -> bool {
        let needed_bytes = self.payload.len() + count;
        if needed_bytes <= self.payload.capacity() {
            return true;
        }
        let capacity_bytes = needed_bytes
            .max(self.payload.capacity() * 2)
            .max(FIRST_PIECE_BYTES)
            .min(header.payload_bytes as usize);
        budget.grow(header, capacity_bytes)
            && self.payload.try_reserve_exact(capacity_bytes - self.payload.len()).is_ok()
    }
}

/// The payload of the kinds that carry a reason: a code and a text, cut to the limit.
pub fn encode_reason(code: u16, text: &str) -> Vec<u8> {
    let text_bytes = text.floor_char_boundary(REASON_BYTES_MAX as usize - 2);
    let mut bytes = Vec::with_capacity(2 + text_bytes);
    bytes.extend_from_slice(&code.to_le_bytes());
    bytes.extend_from_slice(&text.as_bytes()[..text_bytes]);
    bytes
}

/// The code and the text of a reason, or `None` when there is no code. A text that is no UTF-8 is
/// shown with replacement characters.
pub fn decode_reason(payload: &[u8]) -> Option<(u16, String)> {
    let (code, text) = payload.split_first_chunk::<2>()?;
    Some((u16::from_le_bytes(*code), String::from_utf8_lossy(text).into_owned()))
}
