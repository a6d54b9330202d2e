//! Two real processes: they exchange a million slots, and each survives the other's death.
//!
//! The second process is this test program again, told by the environment what to play.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use zepto_transport::{
    Bell, Door, Full, LaneSpec, Line, MeetError, Meeting, Met, Receiver, Sender, Shm, meet,
};

const PATIENCE: Duration = Duration::from_secs(60);
const SLOTS: u64 = 1_000_000;
const ROLE: &str = "ZEPTO_TEST_ROLE";
const DOOR: &str = "ZEPTO_TEST_DOOR";
const SPEC: LaneSpec = LaneSpec { nonce: 42, slots: 4096 };

fn name(test: &str) -> String {
    format!("zepto-test-{}-{test}", std::process::id())
}

fn pattern(index: u64) -> Line {
    std::array::from_fn(|word| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(word as u32))
}

fn start(role: &str, door: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "second_process", "--nocapture"])
        .env(ROLE, role)
        .env(DOOR, door)
        .spawn()
        .unwrap()
}

/// Knocks until the other process has opened its door.
fn knock(name: &str) -> Meeting {
    for _ in 0..6_000 {
        match meet(name, SPEC, b"", PATIENCE) {
            Ok(meeting) => return meeting,
            Err(MeetError::Absent) => pause(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the other process never opened its door");
}

fn pause() {
    #[expect(clippy::disallowed_methods, reason = "two real processes wait for one another")]
    std::thread::sleep(Duration::from_millis(10));
}

fn open(name: &str, bell: &Bell) -> Met {
    let mut door = Door::bind(name).unwrap();
    door.accept(PATIENCE).unwrap().expect("a knock").accept(bell, b"").unwrap()
}

fn make_room(sender: &mut Sender<Shm>, bell: &Bell) {
    if sender.publish() {
        bell.ring().unwrap();
    }
    let settled = sender.poll().unwrap().settled;
    sender.release(settled);
    std::thread::yield_now();
}

fn send(meeting: &mut Meeting, count: u64) {
    let Meeting { sender, bell, .. } = meeting;
    while sender.head() < count {
        if sender.push(&pattern(sender.head())) == Err(Full) {
            make_room(sender, bell);
        }
    }
    while sender.cursors().settled < count {
        make_room(sender, bell);
    }
}

/// Takes whatever is there; sleeps on the bell when nothing is, as a shard does.
fn take(receiver: &mut Receiver<Shm>, bell: &Bell) {
    let mut available = receiver.poll().unwrap();
    if available == 0 {
        receiver.set_parked(true);
        if receiver.poll().unwrap() == 0 {
            assert!(bell.wait(PATIENCE).unwrap(), "nobody rings");
            bell.clear().unwrap();
        }
        receiver.set_parked(false);
        available = receiver.poll().unwrap();
    }
    let first = receiver.consumed();
    for index in first..first + available {
        assert_eq!(receiver.slot(index), pattern(index), "slot {index}");
    }
    receiver.consume(available);
    receiver.settle(first + available);
    receiver.publish();
}

fn kill(mut process: Child) -> ExitStatus {
    process.kill().unwrap();
    process.wait().unwrap()
}

fn is_gone(peer: &std::os::fd::OwnedFd) -> bool {
    let timeout = rustix::event::Timespec::try_from(PATIENCE).unwrap();
    rustix::event::poll(&mut [PollFd::new(peer, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[test]
fn a_million_slots_cross_from_one_process_to_another() {
    let name = name("million");
    let mut child = start("send", &name);
    let bell = Bell::new().unwrap();
    let Met { mut receiver, peer: _peer } = open(&name, &bell);
    while receiver.consumed() < SLOTS {
        take(&mut receiver, &bell);
    }
    assert_eq!(receiver.consumed(), SLOTS);
    assert!(child.wait().unwrap().success(), "the sender saw all of it settle");
}

#[test]
fn the_window_survives_a_receiver_that_is_killed() {
    let name = name("receiver");
    let child = start("receive", &name);
    let Meeting { mut sender, bell, peer, .. } = knock(&name);
    while sender.cursors().settled < 10_000 {
        if sender.push(&pattern(sender.head())) == Err(Full) {
            make_room(&mut sender, &bell);
        }
    }
    assert!(!kill(child).success());
    assert!(is_gone(&peer));
    while sender.push(&pattern(sender.head())).is_ok() {}
    let _nobody_hears = sender.publish();
    let cursors = sender.poll().unwrap();
    assert!(cursors.settled <= cursors.consumed && cursors.consumed <= sender.tail());
    assert_eq!(sender.head() - sender.released(), u64::from(SPEC.slots));
    for index in sender.released()..sender.head() {
        assert_eq!(sender.slot(index), Some(pattern(index)), "slot {index}");
    }
    let error = meet(&name, SPEC, b"", PATIENCE).err().unwrap();
    assert!(matches!(error, MeetError::Absent), "the door went with its process: {error}");
}

#[test]
fn what_was_published_survives_a_sender_that_is_killed() {
    let name = name("sender");
    let child = start("send", &name);
    let bell = Bell::new().unwrap();
    let Met { mut receiver, peer } = open(&name, &bell);
    while receiver.consumed() < 10_000 {
        take(&mut receiver, &bell);
    }
    assert!(!kill(child).success());
    assert!(is_gone(&peer));
    while receiver.poll().unwrap() > 0 {
        take(&mut receiver, &bell);
    }
    assert!(receiver.consumed() < SLOTS, "killed in the middle");
    assert_eq!(receiver.consumed(), receiver.tail());
}

#[test]
#[ignore = "the other tests run this as their second process"]
fn second_process() {
    // Run by hand it has nothing to play.
    let Ok(role) = std::env::var(ROLE) else { return };
    let name = std::env::var(DOOR).unwrap();
    match role.as_str() {
        "send" => send(&mut knock(&name), SLOTS),
        "receive" => {
            let bell = Bell::new().unwrap();
            let Met { mut receiver, peer: _peer } = open(&name, &bell);
            loop {
                take(&mut receiver, &bell);
            }
        }
        other => panic!("no such role: {other}"),
    }
}
