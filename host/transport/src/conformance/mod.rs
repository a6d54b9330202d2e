//! What every transport must do, as generic tests.
//!
//! A crate with a transport of its own instantiates them all:
//!
//! ```ignore
//! zepto_transport::conformance!(simulated, || {
//!     let network = Network::new();
//!     Pair::new(network.end(0), network.end(1), move || network.deliver_one())
//! });
//! ```
//!
//! Invariant: nothing here assumes that what was stored is visible at once; every wait calls the
//! pair's step. Lacks concurrency: loom and the two-process tests have that.

use zepto_core::limits::{LANE_SLOTS_MAX, PUBLISH_EVERY, REGION_LINES_MAX};

mod faulty;

pub use faulty::{
    a_bad_refusal_cursor_is_detected, a_bad_tail_is_detected, a_foreign_header_is_detected,
    another_version_is_detected, bad_credit_is_detected, bad_refusals_are_detected,
};

use crate::mailbox::{
    Cursors, Full, LaneError, LaneSpec, Receiver, RefusedRange, Sender, lane, layout,
};
use crate::transport::{Line, Region, Transport, TransportError};

/// Steps without effect after which a wait has failed.
const STEPS_MAX: usize = 100_000;
/// Steps after which whatever is going to arrive has arrived.
const STEPS_TO_REST: usize = 20_000;

/// Two ends of a transport, and what moves bytes between them.
pub struct Pair<T: Transport> {
    sender: T,
    receiver: T,
    step: Box<dyn FnMut()>,
}

impl<T: Transport> Pair<T> {
    /// `step` is called again and again while a test waits; where delivery needs no help it does
    /// nothing.
    pub fn new(sender: T, receiver: T, step: impl FnMut() + 'static) -> Self {
        Self { sender, receiver, step: Box::new(step) }
    }

    fn step(&mut self) {
        (self.step)();
        self.sender.progress();
        self.receiver.progress();
    }

    /// Lets everything under way arrive.
    fn rest(&mut self) {
        for _ in 0..STEPS_TO_REST {
            self.step();
        }
    }

    /// Looks after a region that nobody else does, until its reader has it, or for long enough.
    fn bring(&mut self, region: &mut T::Region, mut is_there: impl FnMut() -> bool) {
        for _ in 0..STEPS_MAX {
            if is_there() {
                return;
            }
            region.go_on();
            self.step();
        }
    }

    fn until(&mut self, what: &str, mut is_done: impl FnMut() -> bool) {
        for _ in 0..STEPS_MAX {
            if is_done() {
                return;
            }
            self.step();
        }
        panic!("waited in vain until {what}");
    }

    fn lane(&mut self, slots: u32) -> (Sender<T>, Receiver<T>) {
        let (mut tx, mut rx) = lane(&self.sender, &self.receiver, spec(slots)).expect("a lane");
        self.until("both ends are open", || {
            // Each looks, for either may have something to do for the other.
            let (sender, receiver) = (tx.open(), rx.open());
            sender.expect("our own credit") && receiver.expect("our own slots")
        });
        (tx, rx)
    }

    /// Waits until the receiver has taken and settled the slots below `tail`, bit by bit.
    fn drained(&mut self, rx: &mut Receiver<T>, tail: u64) {
        self.until("slots arrive", || {
            drain(rx);
            assert!(rx.tail() <= tail, "a slot is visible that was never published");
            rx.settled() == tail
        });
    }

    /// Waits until the receiver sees the slots below `tail`, which arrive at one stroke.
    fn arrived(&mut self, rx: &mut Receiver<T>, tail: u64) {
        // A receiver with slots left does not look at the tail again, and of two publications under
        // way the first may arrive alone: so both have to be there when it looks.
        self.rest();
        self.until("slots arrive", || {
            rx.poll().expect("a sound tail");
            assert!(rx.tail() <= tail, "a slot is visible that was never published");
            rx.tail() == tail
        });
    }

    /// Waits until the sender sees `settled`.
    fn settled(&mut self, tx: &mut Sender<T>, settled: u64) {
        self.until("the cursors arrive", || tx.poll().expect("sound credit").settled == settled);
    }
}

fn spec(slots: u32) -> LaneSpec {
    LaneSpec { nonce: 0x0123_4567_89ab_cdef_0011_2233_4455_6677, slots }
}

/// A slot whose every word depends on its index.
fn pattern(index: u64) -> Line {
    std::array::from_fn(|word| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(word as u32))
}

fn push<T: Transport>(tx: &mut Sender<T>, count: u64) {
    for _ in 0..count {
        let index = tx.head();
        assert_eq!(tx.push(&pattern(index)), Ok(index));
    }
}

/// Checks and takes everything that is visible.
fn take<T: Transport>(rx: &mut Receiver<T>) {
    let available = rx.poll().expect("a sound tail");
    for index in rx.consumed()..rx.consumed() + available {
        assert_eq!(rx.slot(index), pattern(index), "slot {index}");
    }
    rx.consume(available);
}

/// Publishes without caring for the bell: nobody sleeps in these tests.
fn publish<T: Transport>(tx: &mut Sender<T>) {
    assert!(!tx.publish(), "nobody sleeps");
}

/// Takes, settles and publishes everything that is visible.
fn drain<T: Transport>(rx: &mut Receiver<T>) {
    take(rx);
    rx.settle(rx.consumed());
    rx.publish();
}

/// Slots arrive whole and in the order of their indices.
pub fn slots_arrive_in_order<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(16);
    push(&mut tx, 11);
    publish(&mut tx);
    pair.arrived(&mut rx, 11);
    drain(&mut rx);
    pair.settled(&mut tx, 11);
    assert_eq!(tx.cursors(), Cursors { consumed: 11, settled: 11 });
}

/// The ring turns thousands of times without losing, repeating or mixing a slot.
pub fn order_survives_thousands_of_turns<T: Transport>(pair: &mut Pair<T>) {
    const SLOTS: u64 = 8;
    let (mut tx, mut rx) = pair.lane(SLOTS as u32);
    let mut round = 0;
    while tx.head() < 2_500 * SLOTS {
        round += 1;
        let count = (round % SLOTS + 1).min(tx.room());
        push(&mut tx, count);
        publish(&mut tx);
        if round % 3 != 0 {
            pair.drained(&mut rx, tx.tail());
            pair.settled(&mut tx, rx.settled());
            tx.release(rx.settled());
        }
    }
    publish(&mut tx);
    pair.drained(&mut rx, tx.head());
}

/// A plain push writes the slot under another first word, and leaves to the other one what is more
/// than that.
pub fn a_plain_push_is_a_push<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(4);
    let mut slot = pattern(0);
    slot[0] = 7;
    for index in 0..4 {
        let pushed = tx.push_plainly(pattern(index)[0], &[7, 1, 2, 3, 4, 5, 6, index]);
        assert!(pushed && tx.head() == index + 1, "slot {index}");
    }
    assert!(!tx.push_plainly(0, &slot), "it is full");
    publish(&mut tx);
    pair.arrived(&mut rx, 4);
    for index in 0..4 {
        assert_eq!(rx.slot(index), [pattern(index)[0], 1, 2, 3, 4, 5, 6, index]);
    }
    let (mut tx, _rx) = pair.lane(2 * PUBLISH_EVERY as u32);
    let plain = (0..PUBLISH_EVERY).take_while(|_| tx.push_plainly(0, &slot)).count() as u64;
    assert_eq!(plain, PUBLISH_EVERY - 1, "the next one is published by itself");
    assert_eq!(tx.push(&slot), Ok(plain));
    assert_eq!(tx.tail(), PUBLISH_EVERY);
}

/// A full lane refuses the push and leaves every slot as it was, until one is released.
pub fn a_full_lane_overwrites_nothing<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(4);
    push(&mut tx, 4);
    assert_eq!(tx.room(), 0);
    assert_eq!(tx.push(&[u64::MAX; 8]), Err(Full));
    publish(&mut tx);
    pair.arrived(&mut rx, 4);
    assert_eq!(tx.push(&[u64::MAX; 8]), Err(Full), "published is not released");
    rx.consume(2);
    rx.settle(1);
    rx.publish();
    pair.settled(&mut tx, 1);
    assert_eq!(tx.push(&[u64::MAX; 8]), Err(Full), "settled is not released");
    tx.release(1);
    push(&mut tx, 1);
    assert_eq!(tx.push(&[u64::MAX; 8]), Err(Full), "consumed is not settled");
    publish(&mut tx);
    for index in 1..4 {
        assert_eq!(rx.slot(index), pattern(index), "slot {index}");
    }
    take(&mut rx);
    pair.arrived(&mut rx, 5);
    take(&mut rx);
}

/// What was pushed and not published is not visible.
pub fn unpublished_slots_are_invisible<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(16);
    push(&mut tx, 3);
    pair.rest();
    assert_eq!(rx.poll().expect("a sound tail"), 0);
    publish(&mut tx);
    push(&mut tx, 3);
    pair.arrived(&mut rx, 3);
    pair.rest();
    take(&mut rx);
    assert_eq!(rx.poll().expect("a sound tail"), 0);
}

/// A sender that only pushes is published every so many slots.
pub fn a_busy_sender_is_published_by_itself<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(4 * PUBLISH_EVERY as u32);
    push(&mut tx, 2 * PUBLISH_EVERY + 1);
    pair.rest();
    pair.arrived(&mut rx, 2 * PUBLISH_EVERY);
    take(&mut rx);
}

/// The sender reads its window back until it releases it, whatever the receiver has done.
pub fn slots_stay_readable_until_released<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(8);
    push(&mut tx, 6);
    publish(&mut tx);
    pair.arrived(&mut rx, 6);
    drain(&mut rx);
    push(&mut tx, 2);
    pair.settled(&mut tx, 6);
    for index in 0..8 {
        assert_eq!(tx.slot(index), Some(pattern(index)), "slot {index}");
    }
    assert_eq!(tx.slot(8), None, "never pushed");
    tx.release(5);
    assert_eq!(tx.slot(4), None, "released");
    push(&mut tx, 5);
    for index in 5..13 {
        assert_eq!(tx.slot(index), Some(pattern(index)), "slot {index}");
    }
}

/// Whoever sees a cursor sees every refusal below it, whole, and can read the refused slots.
pub fn refusals_arrive_before_the_cursors_that_pass_them<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(8);
    for round in 0..200 {
        let first = round * 8;
        push(&mut tx, 8);
        publish(&mut tx);
        pair.arrived(&mut rx, first + 8);
        let expected = [
            RefusedRange { first: first + 2, count: 1, reason: 7 },
            RefusedRange { first: first + 5, count: 3, reason: 9 },
        ];
        for range in expected {
            rx.refuse(range.first, range.count, range.reason).expect("room");
            rx.consume(range.end() - rx.consumed());
            rx.publish();
        }
        rx.settle(first + 8);
        rx.publish();
        let mut found = Vec::new();
        pair.until("all of it settles", || {
            rx.poll().expect("sound cursors");
            let Cursors { consumed, settled } = tx.poll().expect("sound credit");
            while let Some(range) = tx.next_refusal().expect("sound refusals") {
                for index in range.first..range.end() {
                    assert_eq!(tx.slot(index), Some(pattern(index)), "slot {index}");
                }
                found.push(range);
            }
            assert_eq!(found, expected[..found.len()]);
            for passed in &expected[found.len()..] {
                assert!(consumed <= passed.first, "{consumed} has passed {passed:?}");
            }
            settled == first + 8
        });
        assert_eq!(found, expected);
        tx.release(first + 8);
    }
}

/// Neighbours refused for one reason are one refusal; anything else is another.
pub fn neighbouring_refusals_are_one<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(16);
    push(&mut tx, 10);
    publish(&mut tx);
    pair.arrived(&mut rx, 10);
    for (first, count, reason) in [(0, 1, 1), (1, 2, 1), (3, 1, 2), (5, 1, 2), (6, 1, 2)] {
        rx.refuse(first, count, reason).expect("room");
    }
    rx.publish();
    rx.refuse(7, 1, 2).expect("room");
    drain(&mut rx);
    pair.settled(&mut tx, 10);
    let mut found = Vec::new();
    while let Some(range) = tx.next_refusal().expect("sound refusals") {
        found.push((range.first, range.count, range.reason));
    }
    let published_is_closed = (7, 1, 2);
    assert_eq!(found, [(0, 3, 1), (3, 1, 2), (5, 2, 2), published_is_closed]);
}

/// When the refusals are full the receiver is told to wait; nothing is lost or overwritten.
pub fn full_refusals_make_the_receiver_wait<T: Transport>(pair: &mut Pair<T>) {
    let slots = 2 * layout::REFUSALS + 4;
    let (mut tx, mut rx) = pair.lane((slots as u32).next_power_of_two());
    push(&mut tx, slots);
    publish(&mut tx);
    pair.rest();
    pair.arrived(&mut rx, slots);
    let mut refused = 0;
    let mut read = 0;
    let mut waits = 0;
    while refused < slots {
        // The reason changes each time, so that no two are one.
        match rx.refuse(refused, 1, (refused % 2) as u16) {
            Ok(()) => {
                refused += 1;
                rx.consume(1);
                continue;
            }
            Err(Full) => waits += 1,
        }
        assert_eq!(refused - read, layout::REFUSALS, "it waits only when it is full");
        rx.settle(refused);
        rx.publish();
        pair.settled(&mut tx, refused);
        while let Some(range) = tx.next_refusal().expect("sound refusals") {
            assert_eq!(range, RefusedRange { first: read, count: 1, reason: (read % 2) as u16 });
            read += 1;
        }
        assert_eq!(read, refused);
        pair.until("the receiver sees them read", || {
            rx.poll().expect("sound cursors");
            rx.refuse(refused, 1, (refused % 2) as u16).is_ok()
        });
        refused += 1;
        rx.consume(1);
    }
    assert_eq!(waits, 2);
}

/// A receiver that sleeps is rung for once, and not at all if it took everything.
pub fn a_sleeping_receiver_is_rung_for_once<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(16);
    push(&mut tx, 1);
    publish(&mut tx);
    pair.arrived(&mut rx, 1);
    drain(&mut rx);
    pair.settled(&mut tx, 1);
    for _ in 0..2 {
        rx.set_parked(true);
        pair.rest();
        assert_eq!(rx.poll().expect("a sound tail"), 0);
        assert!(!tx.publish(), "nothing was pushed");
        assert!(!tx.bell_due(), "it took everything");
        push(&mut tx, 1);
        assert!(tx.publish(), "it sleeps and there is something");
        push(&mut tx, 1);
        assert!(!tx.publish(), "rung already");
        for _ in 0..4 {
            rx.set_parked(true);
            rx.set_parked(false);
        }
        pair.rest();
        push(&mut tx, 1);
        assert!(!tx.publish(), "it is awake");
        pair.drained(&mut rx, tx.tail());
        pair.settled(&mut tx, rx.settled());
        tx.release(rx.settled());
    }
}

/// A capacity that no lane may have, and a region that none may have, are refused.
pub fn sizes_are_bounded<T: Transport>(pair: &mut Pair<T>) {
    for slots in [0, 1, 3, 100, LANE_SLOTS_MAX as u32 * 2, u32::MAX] {
        let error = lane(&pair.sender, &pair.receiver, spec(slots)).err();
        assert!(matches!(error, Some(LaneError::Slots { .. })), "{slots} slots: {error:?}");
    }
    for lines in [0, REGION_LINES_MAX + 1, usize::MAX] {
        let error = pair.sender.register(lines).err();
        assert!(matches!(error, Some(TransportError::TooLarge { .. })), "{lines}: {error:?}");
    }
}

/// The window outlives the receiver; the lane then fills and is full.
pub fn the_sender_outlives_the_receiver<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(8);
    push(&mut tx, 4);
    publish(&mut tx);
    pair.arrived(&mut rx, 4);
    drain(&mut rx);
    pair.settled(&mut tx, 4);
    drop(rx);
    tx.release(2);
    push(&mut tx, 6);
    publish(&mut tx);
    pair.rest();
    assert_eq!(tx.poll().expect("old but sound credit"), Cursors { consumed: 4, settled: 4 });
    for index in 2..10 {
        assert_eq!(tx.slot(index), Some(pattern(index)), "slot {index}");
    }
    tx.release(4);
    push(&mut tx, 2);
    assert_eq!(tx.push(&pattern(12)), Err(Full));
}

/// What was published stays readable after the sender is gone.
pub fn the_receiver_outlives_the_sender<T: Transport>(pair: &mut Pair<T>) {
    let (mut tx, mut rx) = pair.lane(8);
    push(&mut tx, 5);
    publish(&mut tx);
    pair.arrived(&mut rx, 5);
    drop(tx);
    drain(&mut rx);
    pair.rest();
    assert_eq!(rx.poll().expect("old but sound cursors"), 0);
    assert_eq!(rx.consumed(), 5);
}

/// Instantiates every test of this module for one transport, in a module of the given name. The
/// second argument is an expression of type `Fn() -> Pair<T>`.
#[macro_export]
macro_rules! conformance {
    ($module:ident, $factory:expr) => {
        $crate::conformance! { @tests $module, $factory,
            slots_arrive_in_order
            order_survives_thousands_of_turns
            a_plain_push_is_a_push
            a_full_lane_overwrites_nothing
            unpublished_slots_are_invisible
            a_busy_sender_is_published_by_itself
            slots_stay_readable_until_released
            refusals_arrive_before_the_cursors_that_pass_them
            neighbouring_refusals_are_one
            full_refusals_make_the_receiver_wait
            a_sleeping_receiver_is_rung_for_once
            sizes_are_bounded
            the_sender_outlives_the_receiver
            the_receiver_outlives_the_sender
            a_foreign_header_is_detected
            another_version_is_detected
            a_bad_tail_is_detected
            bad_credit_is_detected
            bad_refusals_are_detected
            a_bad_refusal_cursor_is_detected
        }
    };
    (@tests $module:ident, $factory:expr, $($test:ident)*) => {
        mod $module {
            #[allow(unused_imports, reason = "a factory may need nothing from its module")]
            use super::*;
            $(
                #[test]
                fn $test() {
                    let make = $factory;
                    $crate::conformance::$test(&mut make());
                }
            )*
        }
    };
}
