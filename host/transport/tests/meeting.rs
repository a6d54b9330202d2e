//! The meeting: who is let in, who is sent away, and what each of them is told.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use zepto_transport::{
    Bell, Door, DoorCounts, Knock, LaneError, LaneSpec, MeetError, Meeting, Met, Receiver, Shm,
    Transport, TransportError, meet,
};

/// Long enough that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);
const SPEC: LaneSpec = LaneSpec { nonce: 0xfeed_0000_0000_0000_0000_0000_0000_beef, slots: 64 };
const SLOT_LINES: usize = 68;
const KNOCK: usize = 32;

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("zepto-test-{}-{next}", std::process::id())
}

fn open_door() -> (Door, String) {
    let name = name();
    (Door::bind(&name).unwrap(), name)
}

fn next(door: &mut Door) -> Knock {
    door.accept(PATIENCE).unwrap().expect("somebody knocks")
}

/// A client that connects and says whatever it likes.
fn connect(name: &str) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    socket
}

fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let io = [IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &io, &mut control, SendFlags::NOSIGNAL).unwrap();
}

/// A well-formed knock for [`SPEC`].
fn knock() -> Vec<u8> {
    let mut bytes = b"zknk\x01\0\0\0".to_vec();
    bytes.extend_from_slice(&SPEC.slots.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&SPEC.nonce.to_le_bytes());
    assert_eq!(bytes.len(), KNOCK);
    bytes
}

fn readable(fd: &OwnedFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap();
    rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

/// Reads the answer: status and text.
fn answer(socket: &OwnedFd) -> (u16, String) {
    assert!(readable(socket, PATIENCE));
    let mut bytes = [0; 2048];
    let length = rustix::io::read(socket, &mut bytes).unwrap();
    assert_eq!(&bytes[..6], b"zans\x01\0", "{length} bytes");
    let text = String::from_utf8(bytes[8..length].to_vec()).unwrap();
    (u16::from_le_bytes([bytes[6], bytes[7]]), text)
}

#[test]
fn two_ends_meet_and_exchange_slots_and_a_ring() {
    let (mut door, name) = open_door();
    thread::scope(|scope| {
        let client = scope.spawn(|| meet(&name, SPEC, b"shard 3", PATIENCE).unwrap());
        let knock = next(&mut door);
        assert_eq!((knock.spec(), knock.request()), (SPEC, &b"shard 3"[..]));
        let bell = Bell::new().unwrap();
        let Met { mut receiver, .. } = knock.accept(&bell, b"welcome").unwrap();
        let Meeting { mut sender, bell: theirs, answer, .. } = client.join().unwrap();
        assert_eq!(answer, b"welcome");

        receiver.set_parked(true);
        assert_eq!(receiver.poll().unwrap(), 0);
        assert_eq!(sender.push(&[7; 8]), Ok(0));
        assert!(sender.publish(), "the receiver sleeps");
        theirs.ring().unwrap();
        assert!(bell.wait(PATIENCE).unwrap());
        assert_eq!(receiver.poll().unwrap(), 1);
        assert_eq!(receiver.slot(0), [7; 8]);
    });
    assert_eq!(door.counts(), DoorCounts::default());
}

#[test]
fn each_end_learns_that_the_other_is_gone() {
    let (mut door, name) = open_door();
    for sender_leaves in [true, false] {
        thread::scope(|scope| {
            let client = scope.spawn(|| meet(&name, SPEC, b"", PATIENCE).unwrap());
            let met = next(&mut door).accept(&Bell::new().unwrap(), b"").unwrap();
            let meeting = client.join().unwrap();
            assert!(!readable(&met.peer, Duration::ZERO), "both are here");
            assert!(!readable(&meeting.peer, Duration::ZERO), "both are here");
            if sender_leaves {
                drop(meeting);
                assert!(readable(&met.peer, PATIENCE));
            } else {
                drop(met);
                assert!(readable(&meeting.peer, PATIENCE));
            }
        });
    }
}

#[test]
fn a_visitor_that_is_refused_learns_why() {
    let (mut door, name) = open_door();
    thread::scope(|scope| {
        let client = scope.spawn(|| meet(&name, SPEC, b"", PATIENCE).err().unwrap());
        next(&mut door).refuse(12, "draining").unwrap();
        let error = client.join().unwrap();
        let MeetError::Refused { reason, text } = error else { panic!("{error}") };
        assert_eq!((reason, text.as_str()), (12, "draining"));
    });
}

#[test]
fn a_refusal_needs_a_reason() {
    let (mut door, name) = open_door();
    let socket = connect(&name);
    let (_region, fd) = Shm.register(SLOT_LINES).unwrap();
    send(&socket, &knock(), &[fd.as_fd()]);
    assert!(matches!(next(&mut door).refuse(0, ""), Err(MeetError::Malformed { .. })));
}

#[test]
fn a_visitor_that_is_dropped_learns_that_too() {
    let (mut door, name) = open_door();
    thread::scope(|scope| {
        let client = scope.spawn(|| meet(&name, SPEC, b"", PATIENCE).err().unwrap());
        drop(next(&mut door));
        let error = client.join().unwrap();
        assert!(matches!(error, MeetError::Closed), "{error}");
    });
}

#[test]
fn nobody_behind_the_door_is_a_clear_error() {
    let error = meet(&name(), SPEC, b"", PATIENCE).err().unwrap();
    assert!(matches!(error, MeetError::Absent), "{error}");
}

#[test]
fn a_door_that_never_opens_ends_at_the_deadline() {
    let (_door, name) = open_door();
    let error = meet(&name, SPEC, b"", Duration::from_millis(20)).err().unwrap();
    assert!(matches!(error, MeetError::Deadline), "{error}");
}

#[test]
fn a_name_is_taken_only_once() {
    let (_door, name) = open_door();
    assert!(matches!(Door::bind(&name), Err(MeetError::Name { .. })));
    assert!(matches!(Door::bind(&"x".repeat(200)), Err(MeetError::Name { .. })));
}

#[test]
fn a_request_beyond_the_limit_is_refused_before_it_is_sent() {
    let (mut door, name) = open_door();
    let error = meet(&name, SPEC, &[0; 1025], PATIENCE).err().unwrap();
    assert!(matches!(error, MeetError::TooLong { bytes: 1025, bytes_max: 1024 }), "{error}");
    assert!(door.accept(Duration::ZERO).unwrap().is_none());
}

#[test]
fn the_longest_request_and_answer_fit() {
    let (mut door, name) = open_door();
    thread::scope(|scope| {
        let client = scope.spawn(|| meet(&name, SPEC, &[1; 1024], PATIENCE).unwrap());
        let knock = next(&mut door);
        assert_eq!(knock.request(), [1; 1024]);
        let met = knock.accept(&Bell::new().unwrap(), &[2; 1024]);
        assert!(met.is_ok());
        assert_eq!(client.join().unwrap().answer, [2; 1024]);
    });
}

#[test]
fn a_silent_visitor_delays_nobody_and_is_sent_away() {
    let (mut door, name) = open_door();
    let silent = connect(&name);
    let speaker = connect(&name);
    let (_region, slots) = Shm.register(SLOT_LINES).unwrap();
    send(&speaker, &knock(), &[slots.as_fd()]);
    // None of these waits, so the silent one cannot have been waited for.
    let heard = (0..10).find_map(|_| door.accept(Duration::ZERO).unwrap());
    assert!(heard.is_some());
    while door.counts().silent == 0 {
        assert!(door.accept(Duration::from_millis(50)).unwrap().is_none());
    }
    assert!(readable(&silent, PATIENCE), "the connection is closed");
}

#[test]
fn more_silent_visitors_than_fit_are_all_sent_away() {
    let (mut door, name) = open_door();
    let silent: Vec<_> = (0..40).map(|_| connect(&name)).collect();
    while door.counts().silent < silent.len() as u64 {
        assert!(door.accept(Duration::from_millis(50)).unwrap().is_none());
    }
    thread::scope(|scope| {
        let client = scope.spawn(|| meet(&name, SPEC, b"", PATIENCE));
        let met = next(&mut door).accept(&Bell::new().unwrap(), b"");
        assert!(client.join().unwrap().is_ok() && met.is_ok());
    });
}

#[test]
fn nonsense_is_answered_with_a_reason_and_counted() {
    let (mut door, name) = open_door();
    let (_region, fd) = Shm.register(SLOT_LINES).unwrap();
    let fd = fd.as_fd();
    let altered = |at: usize, byte: u8| {
        let mut bytes = knock();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        (b"GET / HTTP/1.1".to_vec(), vec![fd], "wrong magic"),
        (vec![b'z'], vec![fd], "too short"),
        (knock()[..31].to_vec(), vec![fd], "too short"),
        ([knock(), vec![0; 1025]].concat(), vec![fd], "too long"),
        (altered(13, 1), vec![fd], "reserved"),
        (altered(4, 2), vec![fd], "speaks version 2 of the meeting, we speak 1"),
        (knock(), vec![], "wrong number of descriptors"),
        (knock(), vec![fd, fd], "wrong number of descriptors"),
        (knock(), vec![fd; 8], "descriptors"),
    ];
    let count = cases.len() as u64;
    for (bytes, descriptors, expected) in cases {
        let socket = connect(&name);
        send(&socket, &bytes, &descriptors);
        assert!(door.accept(Duration::from_millis(1)).unwrap().is_none());
        let (status, text) = answer(&socket);
        assert_eq!(status, zepto_transport::shm::REFUSED_UNUSABLE, "{text}");
        assert!(text.contains(expected), "{text:?} should say {expected:?}");
    }
    assert_eq!(door.counts(), DoorCounts { malformed: count, ..DoorCounts::default() });
}

#[test]
fn unusable_slots_are_refused_and_the_visitor_is_told() {
    let (mut door, name) = open_door();
    let unsealed = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&unsealed, (SLOT_LINES * 64) as u64).unwrap();
    let (_small, small) = Shm.register(SLOT_LINES - 1).unwrap();
    let (_blank, blank) = Shm.register(SLOT_LINES).unwrap();
    let cases = [
        (unsealed, "not sealed"),
        (small, "agreed were 4352"),
        (blank, "the slots have no header"),
    ];
    for (fd, expected) in cases {
        let socket = connect(&name);
        send(&socket, &knock(), &[fd.as_fd()]);
        let error = next(&mut door).accept(&Bell::new().unwrap(), b"").err().unwrap();
        let (status, text) = answer(&socket);
        assert_eq!((status, text), (u16::MAX, error.to_string()));
        assert!(error.to_string().contains(expected), "{error} should say {expected:?}");
    }
}

#[test]
fn a_capacity_beyond_the_limits_is_refused() {
    let (mut door, name) = open_door();
    for slots in [0, 3, 1 << 21, u32::MAX] {
        let socket = connect(&name);
        let mut bytes = knock();
        bytes[8..12].copy_from_slice(&slots.to_le_bytes());
        let (_region, fd) = Shm.register(SLOT_LINES).unwrap();
        send(&socket, &bytes, &[fd.as_fd()]);
        let error = next(&mut door).accept(&Bell::new().unwrap(), b"").err().unwrap();
        assert!(matches!(error, MeetError::Lane(LaneError::Slots { .. })), "{slots}: {error}");
    }
}

/// Lets a client meet a door whose answer is made by hand.
fn meet_fake(reply: impl FnOnce(&OwnedFd, LaneSpec) + Send) -> MeetError {
    let name = name();
    let flags = SocketFlags::CLOEXEC;
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap())
        .unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(|| meet(&name, SPEC, b"", PATIENCE).err().unwrap());
        let socket = rustix::net::accept(&listener).unwrap();
        reply(&socket, SPEC);
        client.join().unwrap()
    })
}

/// A sound credit, as a receiver of another lane would send it.
fn credit(spec: LaneSpec) -> OwnedFd {
    let (_offer, slots) = zepto_transport::Sender::offer(&Shm, spec).unwrap();
    Receiver::accept(&Shm, slots, spec).unwrap().1
}

#[test]
fn a_client_believes_no_answer_that_is_wrong() {
    let accepted = b"zans\x01\0\0\0";
    let bell = Bell::new().unwrap();

    let error = meet_fake(|socket, _| send(socket, b"hello", &[]));
    assert!(matches!(error, MeetError::Malformed { .. }), "{error}");
    let error = meet_fake(|socket, _| send(socket, b"zans\x07\0\0\0", &[]));
    assert!(matches!(error, MeetError::Version { found: 7, ours: 1 }), "{error}");
    let error = meet_fake(|socket, spec| send(socket, accepted, &[credit(spec).as_fd()]));
    assert!(matches!(error, MeetError::Malformed { .. }), "{error}");

    let error = meet_fake(|socket, spec| {
        let credit = credit(spec);
        send(socket, accepted, &[credit.as_fd(), credit.as_fd()]);
    });
    let no_bell = matches!(error, MeetError::Lane(LaneError::Transport(TransportError::NotABell)));
    assert!(no_bell, "{error}");

    let error = meet_fake(|socket, spec| {
        let other = LaneSpec { nonce: spec.nonce + 1, ..spec };
        send(socket, accepted, &[credit(other).as_fd(), bell.as_fd()]);
    });
    assert!(matches!(error, MeetError::Lane(LaneError::Nonce)), "{error}");
}

/// Needs the right to change the user, so it proves something only when run as root.
#[test]
fn a_process_of_another_user_is_sent_away() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (mut door, name) = open_door();
    thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            let nobody = rustix::thread::Uid::from_raw(65_534);
            // The calling thread alone, which ends here.
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            meet(&name, SPEC, b"", PATIENCE).err().unwrap()
        });
        while !stranger.is_finished() {
            assert!(door.accept(Duration::from_millis(10)).unwrap().is_none());
        }
        let error = stranger.join().unwrap();
        assert!(matches!(error, MeetError::Foreign { .. } | MeetError::Closed), "{error}");
    });
    while door.counts().foreign == 0 {
        assert!(door.accept(Duration::from_millis(10)).unwrap().is_none());
    }
}
