//! Every interleaving of the two ends, explored by loom over [`Heap`].
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p zepto-transport --release loom_`. Slots are
//! loom cells, so an access that is not ordered after the conflicting one fails by itself. No
//! loop waits: each side makes a few attempts, and the rest is checked after both have ended. So
//! every model is small enough to be explored whole, without a bound on preemptions.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use loom::{model, thread};

use super::{Full, LaneSpec, Receiver, Sender, lane};
use crate::heap::Heap;
use crate::transport::Line;

/// A lane that is already open, so that the headers are not explored again and again.
fn open_lane(slots: u32) -> (Sender<Heap>, Receiver<Heap>) {
    let (mut tx, mut rx) = lane(&Heap, &Heap, LaneSpec { nonce: 7, slots }).unwrap();
    assert!(tx.open().unwrap() && rx.open().unwrap());
    (tx, rx)
}

fn pattern(index: u64) -> Line {
    [index + 1; 8]
}

/// Takes what is there, checks that it is whole and in order, and settles it.
fn take(rx: &mut Receiver<Heap>) {
    let available = rx.poll().unwrap();
    for index in rx.consumed()..rx.consumed() + available {
        assert_eq!(rx.slot(index), pattern(index));
    }
    rx.consume(available);
    rx.settle(rx.consumed());
    rx.publish();
}

#[test]
fn loom_slots_arrive_in_order_and_are_not_overwritten_before_release() {
    model(|| {
        let (mut tx, mut rx) = open_lane(2);
        let sender = thread::spawn(move || {
            for _ in 0..4 {
                let index = tx.head();
                if tx.push(&pattern(index)) == Err(Full) {
                    let settled = tx.poll().unwrap().settled;
                    tx.release(settled);
                }
                let _nobody_sleeps = tx.publish();
            }
            for index in tx.released()..tx.head() {
                assert_eq!(tx.slot(index), Some(pattern(index)));
            }
            tx
        });
        take(&mut rx);
        take(&mut rx);
        let tx = sender.join().unwrap();
        take(&mut rx);
        assert_eq!(rx.consumed(), tx.head());
    });
}

#[test]
fn loom_a_refusal_is_visible_before_the_cursors_pass_it() {
    model(|| {
        let (mut tx, mut rx) = open_lane(2);
        tx.push(&pattern(0)).unwrap();
        tx.push(&pattern(1)).unwrap();
        let _nobody_sleeps = tx.publish();
        let receiver = thread::spawn(move || {
            assert_eq!(rx.poll().unwrap(), 2);
            for index in 0..2 {
                rx.refuse(index, 1, index as u16).unwrap();
                rx.consume(1);
                rx.settle(index + 1);
                rx.publish();
            }
        });
        let mut refused = 0;
        for _ in 0..2 {
            let settled = tx.poll().unwrap().settled;
            while let Some(range) = tx.next_refusal().unwrap() {
                assert_eq!((range.first, range.count), (refused, 1));
                assert_eq!(range.reason, refused as u16);
                refused += 1;
            }
            assert!(refused >= settled, "settled {settled} with {refused} refusals");
            tx.release(settled);
        }
        receiver.join().unwrap();
    });
}

#[test]
fn loom_a_receiver_that_sleeps_is_rung_for() {
    model(|| {
        let (mut tx, mut rx) = open_lane(2);
        let sender = thread::spawn(move || {
            let mut rings = 0;
            for index in 0..2 {
                tx.push(&pattern(index)).unwrap();
                rings += u32::from(tx.publish());
            }
            rings
        });
        rx.set_parked(true);
        let sleeps = rx.poll().unwrap() == 0;
        let rings = sender.join().unwrap();
        assert!(rings <= 1, "rung twice for one sleep");
        assert!(!sleeps || rings == 1, "sleeps for ever");
    });
}

#[test]
fn loom_refusals_are_not_overwritten_before_they_are_read() {
    model(|| {
        let (mut tx, mut rx) = open_lane(8);
        for index in 0..6 {
            tx.push(&pattern(index)).unwrap();
        }
        let _nobody_sleeps = tx.publish();
        let receiver = thread::spawn(move || {
            let mut refused = 0;
            for _ in 0..2 {
                rx.poll().unwrap();
                while refused < 6 && rx.refuse(refused, 1, refused as u16).is_ok() {
                    refused += 1;
                    rx.consume(1);
                }
                rx.publish();
            }
            refused
        });
        let mut read = 0;
        let mut read_all = |tx: &mut Sender<Heap>| {
            tx.poll().unwrap();
            while let Some(range) = tx.next_refusal().unwrap() {
                assert_eq!((range.first, range.reason), (read, read as u16));
                read += 1;
            }
            read
        };
        read_all(&mut tx);
        let refused = receiver.join().unwrap();
        assert_eq!(read_all(&mut tx), refused);
    });
}
