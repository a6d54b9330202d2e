//! The two messages of a meeting, and how a message and its descriptors cross a socket.
//!
//! The socket keeps message boundaries (SOCK_SEQPACKET), so a message is read whole or not at
//! all, and there is no half-read state that a slow peer could hold open.
//!
//! All numbers are little-endian. The first eight bytes of each message stay as they are in every
//! version, so that two versions can tell each other.
//!
//! | knock, bytes | holds | | answer, bytes | holds |
//! |---|---|---|---|---|
//! | 0..4 | magic `zknk` | | 0..4 | magic `zans` |
//! | 4..6 | version | | 4..6 | version |
//! | 6..8 | zero | | 6..8 | status: 0 accepted, else the reason of the refusal |
//! | 8..12 | capacity of the lane in slots | | 8.. | the answer, or the text of the refusal |
//! | 12..16 | zero | | | |
//! | 16..32 | nonce of the lane | | | |
//! | 32.. | the request | | | |
//! | descriptors | the slots | | descriptors | accepted: the credit, the bell; else none |

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use zepto_core::limits::MEET_BYTES_MAX;

use super::meet::MeetError;
use crate::mailbox::LaneSpec;

pub(super) const VERSION: u16 = 1;
const MAGIC_KNOCK: [u8; 4] = *b"zknk";
const MAGIC_ANSWER: [u8; 4] = *b"zans";
const KNOCK_HEAD: usize = 32;
const ANSWER_HEAD: usize = 8;
/// More descriptors than any message has, so that one too many is noticed.
const DESCRIPTORS_MAX: usize = 3;
const MESSAGE_BYTES_MAX: usize = KNOCK_HEAD + MEET_BYTES_MAX;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KnockMessage {
    pub(super) spec: LaneSpec,
    pub(super) request: Vec<u8>,
}

/// What the door says back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnswerMessage {
    /// Zero: accepted.
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl KnockMessage {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(KNOCK_HEAD + self.request.len());
        bytes.extend_from_slice(&MAGIC_KNOCK);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.spec.slots.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.spec.nonce.to_le_bytes());
        bytes.extend_from_slice(&self.request);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MeetError> {
        let (_, rest) = decode_head(bytes, MAGIC_KNOCK)?;
        let (slots, rest) = rest.split_first_chunk().ok_or(TOO_SHORT)?;
        let (zero, rest) = rest.split_first_chunk().ok_or(TOO_SHORT)?;
        let (nonce, request) = rest.split_first_chunk().ok_or(TOO_SHORT)?;
        if *zero != [0; 4] {
            return Err(MeetError::Malformed { what: "reserved bytes are not zero" });
        }
        let spec =
            LaneSpec { nonce: u128::from_le_bytes(*nonce), slots: u32::from_le_bytes(*slots) };
        Ok(Self { spec, request: request.to_vec() })
    }
}

impl AnswerMessage {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ANSWER_HEAD + self.body.len());
        bytes.extend_from_slice(&MAGIC_ANSWER);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.status.to_le_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MeetError> {
        let (status, body) = decode_head(bytes, MAGIC_ANSWER)?;
        Ok(Self { status, body: body.to_vec() })
    }
}

const TOO_SHORT: MeetError = MeetError::Malformed { what: "message too short" };

/// The part that no version changes: returns the two bytes after the version, and the rest.
fn decode_head(bytes: &[u8], magic: [u8; 4]) -> Result<(u16, &[u8]), MeetError> {
    let (found, rest) = bytes.split_first_chunk().ok_or(TOO_SHORT)?;
    let (version, rest) = rest.split_first_chunk().ok_or(TOO_SHORT)?;
    let (extra, rest) = rest.split_first_chunk().ok_or(TOO_SHORT)?;
    if *found != magic {
        return Err(MeetError::Malformed { what: "wrong magic" });
    }
    let found = u16::from_le_bytes(*version);
    if found != VERSION {
        return Err(MeetError::Version { found, ours: VERSION });
    }
    Ok((u16::from_le_bytes(*extra), rest))
}

/// Sends one message. Never waits: a fresh socket has room for it.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), MeetError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(MeetError::Malformed { what: "too many descriptors" });
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => (),
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(MeetError::Closed),
            Err(errno) => return Err(MeetError::os("sendmsg")(errno)),
        }
    }
}

/// Receives the message that is waiting, with exactly as many descriptors as its sender put in.
/// Every descriptor is close-on-exec, and closed if an error is returned.
pub(super) fn receive(socket: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<OwnedFd>), MeetError> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        let mut io = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, &mut io, &mut control, flags) {
            Ok(message) => break message,
            Err(Errno::INTR) => (),
            Err(Errno::CONNRESET) => return Err(MeetError::Closed),
            Err(errno) => return Err(MeetError::os("recvmsg")(errno)),
        }
    };
    let mut descriptors = Vec::with_capacity(DESCRIPTORS_MAX);
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(MeetError::Malformed { what: "message too long" });
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(MeetError::Malformed { what: "too many descriptors, or none left here" });
    }
    if message.bytes == 0 {
        return Err(MeetError::Closed);
    }
    bytes.truncate(message.bytes);
    Ok((bytes, descriptors))
}

/// Takes exactly `N` descriptors out of what came with a message.
pub(super) fn exactly<const N: usize>(
    descriptors: Vec<OwnedFd>,
) -> Result<[OwnedFd; N], MeetError> {
    descriptors.try_into().map_err(|_| MeetError::Malformed { what: "wrong number of descriptors" })
}

/// The effective user of the process at the other end, as the kernel noted when it connected.
///
/// Asked through libc: the process id beside it is 0 when the peer is in another pid namespace
/// (two containers of one pod), which rustix's type cannot hold.
pub(super) fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32, MeetError> {
    use std::os::fd::AsRawFd;
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are to live locals, and `length` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        let source = std::io::Error::last_os_error();
        return Err(MeetError::Os { call: "getsockopt(SO_PEERCRED)", source });
    }
    Ok(credentials.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knock_survives_the_wire() {
        let spec = LaneSpec { nonce: u128::MAX - 5, slots: 64 };
        let knock = KnockMessage { spec, request: b"shard 3".to_vec() };
        assert_eq!(KnockMessage::decode(&knock.encode()).unwrap(), knock);
    }

    #[test]
    fn every_cut_of_a_knock_is_refused() {
        let spec = LaneSpec { nonce: 1, slots: 64 };
        let bytes = KnockMessage { spec, request: Vec::new() }.encode();
        for length in 0..bytes.len() {
            assert!(KnockMessage::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = AnswerMessage { status: 0, body: Vec::new() }.encode();
        bytes[4] = 9;
        let error = AnswerMessage::decode(&bytes).unwrap_err();
        assert!(matches!(error, MeetError::Version { found: 9, ours: 1 }), "{error}");
    }
}
