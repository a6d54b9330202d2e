//! Sixty-four bytes from one process to another over shared memory: how soon, and how many.

use crate::compare::{Settings, compare, limit, ours, peer};
use crate::machine::{FAR, Other, be_the_other, pin, time, unique};
use iceoryx2::prelude::*;
use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::Duration;
use zepto_transport::mailbox::LaneSpec;
use zepto_transport::{
    Bell, Door, MeetError, Receiver, Region, Remote, Sender, Shm, Transport, meet,
};

const TRIPS: usize = 200_000;
const MESSAGES: usize = 10_000_000;
const SLOTS: u32 = 1 << 13;
const WITHIN: Duration = Duration::from_secs(5);
/// Publications between two looks at the credit.
const RELEASE_EVERY: u64 = 256;

/// Sixty-four bytes as iceoryx2 wants them.
#[derive(Debug, Clone, Copy, ZeroCopySend)]
#[repr(C)]
struct Message([u64; 8]);

/// Prints the comparisons.
pub fn run(settings: Settings) {
    compare(
        settings,
        "one way, 64 bytes, half of a round trip",
        vec![
            limit("a line and a flag", raw_trips),
            peer("iceoryx2 publish-subscribe", iceoryx2_trips),
            ours("mailbox", mailbox_trips),
        ],
    );
    compare(
        settings,
        "messages of 64 bytes, one after another, until taken",
        vec![
            limit("rtrb, between threads", rtrb_stream),
            peer("iceoryx2 publish-subscribe", iceoryx2_stream),
            ours("mailbox, checked and settled", mailbox_stream),
        ],
    );
}

/// Plays the other side.
pub fn serve(what: &str, name: &str) {
    be_the_other();
    match what {
        "lane-trips" => serve_trips(name),
        "lane-stream" => serve_stream(name),
        "iceoryx2-trips" => serve_iceoryx2_trips(name),
        _ => serve_iceoryx2_stream(name),
    }
}

/// Two regions, one for each direction: line 1 carries, line 0 says which.
fn raw_trips() -> f64 {
    let (mut there, ticket_there) = Shm.register(2).expect("memory");
    let (mut back, ticket_back) = Shm.register(2).expect("memory");
    let echo = thread::spawn(move || {
        pin(FAR);
        let there = Shm.connect(ticket_there, 2).expect("its region");
        for trip in 1..=TRIPS as u64 {
            wait_for(&there, trip);
            let line = there.get(1);
            send(&mut back, &line, trip);
        }
        // The region lives until the other side has read it.
        back
    });
    let back = Shm.connect(ticket_back, 2).expect("its region");
    let ns = time(TRIPS * 2, || {
        for trip in 1..=TRIPS as u64 {
            send(&mut there, &black_box([trip; 8]), trip);
            wait_for(&back, trip);
            black_box(back.get(1));
        }
    });
    drop(echo.join());
    ns
}

fn send(region: &mut impl Region, line: &[u64; 8], number: u64) {
    region.write(1, line);
    region.put(1..2);
    region.fence();
    region.store(0, 0, number);
}

fn wait_for(remote: &impl Remote, number: u64) {
    while remote.load(0, 0) != number {
        spin_loop();
    }
}

fn spec() -> LaneSpec {
    LaneSpec { nonce: 1, slots: SLOTS }
}

/// Knocks until the other side's door is there.
fn reach(name: &str) -> Sender<Shm> {
    loop {
        match meet(name, spec(), b"", WITHIN) {
            Ok(meeting) => return meeting.sender,
            Err(MeetError::Absent) => thread::yield_now(),
            Err(error) => panic!("no meeting: {error}"),
        }
    }
}

fn welcome(door: &mut Door) -> Receiver<Shm> {
    let knock = door.accept(WITHIN).expect("a door").expect("a visitor");
    let bell = Bell::new().expect("a bell");
    knock.accept(&bell, b"").expect("a lane").receiver
}

fn back_of(name: &str) -> String {
    format!("{name}-back")
}

fn mailbox_trips() -> f64 {
    let name = unique("trips");
    let mut door = Door::bind(&back_of(&name)).expect("a door");
    let _other = Other::start("lane-trips", &name);
    let mut there = reach(&name);
    let mut back = welcome(&mut door);
    time(TRIPS * 2, || {
        for trip in 0..TRIPS as u64 {
            put(&mut there, &black_box([trip; 8]));
            black_box(take(&mut back));
        }
    })
}

fn serve_trips(name: &str) {
    let mut door = Door::bind(name).expect("a door");
    let mut there = welcome(&mut door);
    let mut back = reach(&back_of(name));
    for _ in 0..TRIPS {
        let line = take(&mut there);
        put(&mut back, &line);
    }
    stay();
}

/// One slot, published at once.
fn put(sender: &mut Sender<Shm>, line: &[u64; 8]) {
    if sender.push(line).is_err() {
        release(sender);
        sender.push(line).expect("all of it was settled");
    }
    show(sender);
    if sender.head().is_multiple_of(RELEASE_EVERY) {
        release(sender);
    }
}

fn show(sender: &mut Sender<Shm>) {
    assert!(!sender.publish(), "nobody sleeps here");
}

fn take(receiver: &mut Receiver<Shm>) -> [u64; 8] {
    while receiver.poll().expect("a lane in order") == 0 {
        spin_loop();
    }
    let line = receiver.slot(receiver.consumed());
    receiver.consume(1);
    receiver.settle(receiver.consumed());
    receiver.publish();
    line
}

fn release(sender: &mut Sender<Shm>) {
    let settled = sender.poll().expect("credit in order").settled;
    assert!(sender.next_refusal().expect("refusals in order").is_none());
    sender.release(settled);
}

fn mailbox_stream() -> f64 {
    let name = unique("stream");
    let _other = Other::start("lane-stream", &name);
    let mut sender = reach(&name);
    time(MESSAGES, || {
        for number in 0..MESSAGES as u64 {
            while sender.push(&black_box([number; 8])).is_err() {
                show(&mut sender);
                release(&mut sender);
            }
        }
        show(&mut sender);
        while sender.cursors().settled != MESSAGES as u64 {
            release(&mut sender);
        }
    })
}

fn serve_stream(name: &str) {
    let mut door = Door::bind(name).expect("a door");
    let mut receiver = welcome(&mut door);
    let mut expected = 0;
    while expected < MESSAGES as u64 {
        let available = receiver.poll().expect("a lane in order");
        if available == 0 {
            spin_loop();
            continue;
        }
        let end = expected + available.min(256);
        for index in expected..end {
            assert_eq!(receiver.slot(index)[7], index, "a slot that is not whole");
        }
        receiver.consume(end - expected);
        receiver.settle(end);
        receiver.publish();
        expected = end;
    }
    stay();
}

fn rtrb_stream() -> f64 {
    let (mut sender, mut receiver) = rtrb::RingBuffer::<[u64; 8]>::new(SLOTS as usize);
    let taking = thread::spawn(move || {
        pin(FAR);
        for expected in 0..MESSAGES as u64 {
            loop {
                if let Ok(line) = receiver.pop() {
                    assert_eq!(line[7], expected, "a slot that is not whole");
                    break;
                }
                spin_loop();
            }
        }
    });
    time(MESSAGES, || {
        for number in 0..MESSAGES as u64 {
            while sender.push(black_box([number; 8])).is_err() {
                spin_loop();
            }
        }
        taking.join().expect("all of it was taken");
    })
}

fn node() -> Node<ipc::Service> {
    set_log_level(LogLevel::Error);
    NodeBuilder::new().create::<ipc::Service>().expect("a node of iceoryx2")
}

type Topic =
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, Message, ()>;

fn topic(node: &Node<ipc::Service>, name: &str) -> Topic {
    let name = name.try_into().expect("a name");
    let service = node.service_builder(&name).publish_subscribe::<Message>();
    let service = service.enable_safe_overflow(false).subscriber_max_buffer_size(1024);
    service.open_or_create().expect("a service")
}

fn iceoryx2_trips() -> f64 {
    let name = unique("ice-trips");
    let node = node();
    let (there, back) = (topic(&node, &name), topic(&node, &back_of(&name)));
    let _other = Other::start("iceoryx2-trips", &name);
    let publisher = there.publisher_builder().create().expect("a publisher");
    let subscriber = back.subscriber_builder().create().expect("a subscriber");
    let complete = || {
        let (there, back) = (there.dynamic_config(), back.dynamic_config());
        there.number_of_subscribers() == 1 && back.number_of_publishers() == 1
    };
    while !complete() {
        thread::yield_now();
    }
    time(TRIPS * 2, || {
        for trip in 0..TRIPS as u64 {
            publish(&publisher, Message([trip; 8]));
            black_box(receive(&subscriber));
        }
    })
}

type Publisher = iceoryx2::port::publisher::Publisher<ipc::Service, Message, ()>;
type Subscriber = iceoryx2::port::subscriber::Subscriber<ipc::Service, Message, ()>;

fn publish(publisher: &Publisher, message: Message) {
    let sample = publisher.loan_uninit().expect("a sample");
    sample.write_payload(black_box(message)).send().expect("it is delivered");
}

fn receive(subscriber: &Subscriber) -> Message {
    loop {
        if let Some(sample) = subscriber.receive().expect("a subscriber in order") {
            return *sample.payload();
        }
        spin_loop();
    }
}

fn serve_iceoryx2_trips(name: &str) {
    let node = node();
    let (there, back) = (topic(&node, name), topic(&node, &back_of(name)));
    let subscriber = there.subscriber_builder().create().expect("a subscriber");
    let publisher = back.publisher_builder().create().expect("a publisher");
    for _ in 0..TRIPS {
        publish(&publisher, receive(&subscriber));
    }
    stay();
}

fn iceoryx2_stream() -> f64 {
    const FEWER: usize = MESSAGES / 10;
    let name = unique("ice-stream");
    let node = node();
    let topic = topic(&node, &name);
    let _other = Other::start("iceoryx2-stream", &name);
    let publisher = topic
        .publisher_builder()
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()
        .expect("a publisher");
    while topic.dynamic_config().number_of_subscribers() == 0 {
        thread::yield_now();
    }
    time(FEWER, || {
        for number in 0..FEWER as u64 {
            publish(&publisher, Message([number; 8]));
        }
    })
}

fn serve_iceoryx2_stream(name: &str) {
    let node = node();
    let topic = topic(&node, name);
    let builder = topic.subscriber_builder().buffer_size(1024);
    let subscriber = builder.create().expect("a subscriber");
    loop {
        black_box(receive(&subscriber));
    }
}

/// The other side ends this process when it is done.
fn stay() {
    loop {
        thread::park();
    }
}
