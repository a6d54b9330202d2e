//! Descriptors: none is lost over a thousand meetings, and running out of them is survived.
//!
//! Both tests look at the whole process, so they take turns and have this program to themselves.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::File;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use zepto_transport::{Bell, Door, LaneSpec, MeetError, meet};

const PATIENCE: Duration = Duration::from_secs(30);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mapped_lanes() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:zepto-lane").count()
}

#[test]
fn a_thousand_meetings_lose_no_descriptor_and_no_mapping() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let name = format!("zepto-test-{}-leaks", std::process::id());
    let mut door = Door::bind(&name).unwrap();
    let bell = Bell::new().unwrap();
    let before = (open_descriptors(), mapped_lanes());
    for round in 0..1000u32 {
        let spec = LaneSpec { nonce: round.into(), slots: 64 };
        thread::scope(|scope| {
            let client = scope.spawn(|| meet(&name, spec, b"", PATIENCE));
            let knock = door.accept(PATIENCE).unwrap().expect("a knock");
            match round % 4 {
                0 => knock.refuse(1, "not today").unwrap(),
                1 => drop(knock),
                _ => {
                    let met = knock.accept(&bell, b"").unwrap();
                    assert!(client.join().unwrap().is_ok());
                    drop(met);
                    return;
                }
            }
            let error = client.join().unwrap().err().unwrap();
            assert!(matches!(error, MeetError::Refused { .. } | MeetError::Closed), "{error}");
        });
    }
    assert_eq!((open_descriptors(), mapped_lanes()), before);
}

#[test]
fn a_door_without_descriptors_waits_and_then_serves_again() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let name = format!("zepto-test-{}-exhausted", std::process::id());
    let mut door = Door::bind(&name).unwrap();
    let flags = SocketFlags::CLOEXEC;
    let visitor =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    rustix::net::connect(&visitor, &address).unwrap();

    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(door.accept(Duration::from_millis(50)).unwrap().is_none());
    assert_eq!(door.counts().exhausted, 1, "tried once and then waited, instead of spinning");
    drop(hoard);

    thread::scope(|scope| {
        let spec = LaneSpec { nonce: 1, slots: 64 };
        let client = scope.spawn(move || meet(&name, spec, b"", PATIENCE));
        let met = door.accept(PATIENCE).unwrap().expect("a knock");
        let met = met.accept(&Bell::new().unwrap(), b"");
        assert!(client.join().unwrap().is_ok() && met.is_ok());
    });
    drop(visitor);
    assert!(door.accept(Duration::from_millis(1)).unwrap().is_none());
    assert_eq!(door.counts().silent, 1, "the one that had to wait came in, and left");
}
