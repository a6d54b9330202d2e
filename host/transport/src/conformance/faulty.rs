//! Faulty peers: regions written by hand, and how each kind of nonsense in them is found out.
//!
//! Invariant: an error changes nothing on the side that finds it.

use super::{Pair, publish, push, spec};
use crate::mailbox::{Cursors, LaneError, LaneSpec, Offer, Receiver, Sender, layout};
use crate::transport::{Region, Transport};

/// A region written by hand in place of a sender's.
struct FakeSender<T: Transport> {
    region: T::Region,
    rx: Receiver<T>,
}

impl<T: Transport> FakeSender<T> {
    fn new(pair: &mut Pair<T>, magic: u64, header: &LaneSpec) -> Self {
        let agreed = spec(8);
        let lines = layout::slot_lines(&agreed);
        let (mut region, ticket) = pair.sender.register(lines).expect("a region");
        layout::write_header(&mut region, magic, header);
        let (mut rx, _) = Receiver::accept(&pair.receiver, ticket, agreed).expect("a receiver");
        pair.bring(&mut region, || !matches!(rx.open(), Ok(false)));
        Self { region, rx }
    }

    fn store(&mut self, word: usize, value: u64) {
        self.region.fence();
        self.region.store(layout::CURSORS, word, value);
    }
}

/// A region written by hand in place of a receiver's credit.
struct FakeReceiver<T: Transport> {
    region: T::Region,
    tx: Sender<T>,
}

impl<T: Transport> FakeReceiver<T> {
    fn new(pair: &mut Pair<T>, magic: u64, header: &LaneSpec) -> Self {
        let (offer, _): (Offer<T>, _) = Sender::offer(&pair.sender, spec(8)).expect("an offer");
        let (mut region, ticket) = pair.receiver.register(layout::CREDIT_LINES).expect("a region");
        layout::write_header(&mut region, magic, header);
        let mut tx = offer.complete(&pair.sender, ticket).expect("a sender");
        pair.bring(&mut region, || !matches!(tx.open(), Ok(false)));
        Self { region, tx }
    }

    fn store(&mut self, word: usize, value: u64) {
        self.region.fence();
        self.region.store(layout::CURSORS, word, value);
    }

    fn error(&mut self, pair: &mut Pair<T>) -> LaneError {
        let mut found = None;
        pair.until("the receiver is found out", || {
            found = self.tx.poll().err();
            found.is_some()
        });
        found.expect("an error")
    }
}

fn error_of_poll<T: Transport>(pair: &mut Pair<T>, rx: &mut Receiver<T>) -> LaneError {
    let mut found = None;
    pair.until("the sender is found out", || {
        found = rx.poll().err();
        found.is_some()
    });
    found.expect("an error")
}

/// Memory that is not the agreed lane's is refused before its first slot or cursor is believed.
pub fn a_foreign_header_is_detected<T: Transport>(pair: &mut Pair<T>) {
    let agreed = spec(8);
    let other_nonce = LaneSpec { nonce: agreed.nonce ^ 1 << 100, ..agreed };
    let (slots, credit) = (layout::MAGIC_SLOTS, layout::MAGIC_CREDIT);

    let mut fake = FakeSender::new(pair, credit, &agreed);
    assert!(matches!(error_of_poll(pair, &mut fake.rx), LaneError::Magic { .. }));
    let mut fake = FakeSender::new(pair, slots, &spec(16));
    assert!(matches!(error_of_poll(pair, &mut fake.rx), LaneError::Geometry { slots: 16, .. }));
    let mut fake = FakeSender::new(pair, slots, &other_nonce);
    assert!(matches!(error_of_poll(pair, &mut fake.rx), LaneError::Nonce));

    let mut fake = FakeReceiver::new(pair, slots, &agreed);
    assert!(matches!(fake.error(pair), LaneError::Magic { .. }));
    let mut fake = FakeReceiver::new(pair, credit, &spec(4));
    assert!(matches!(fake.error(pair), LaneError::Geometry { slots: 4, .. }));
    let mut fake = FakeReceiver::new(pair, credit, &other_nonce);
    assert!(matches!(fake.error(pair), LaneError::Nonce));
}

/// A peer of another version is named as such.
pub fn another_version_is_detected<T: Transport>(pair: &mut Pair<T>) {
    let agreed = spec(8);
    // No magic yet, so that nothing is read before the version stands.
    let mut fake = FakeSender::new(pair, 0, &agreed);
    pair.rest();
    assert_eq!(fake.rx.poll().expect("nothing has arrived"), 0);
    fake.region.store(layout::HEADER, layout::HEADER_VERSION, layout::VERSION + 1);
    fake.region.fence();
    fake.region.store(layout::HEADER, layout::HEADER_MAGIC, layout::MAGIC_SLOTS);
    let error = error_of_poll(pair, &mut fake.rx);
    assert!(matches!(error, LaneError::Version { found: 2, ours: 1 }), "{error}");
}

/// A tail that goes back, jumps beyond the capacity, or wraps is refused, and nothing is taken.
pub fn a_bad_tail_is_detected<T: Transport>(pair: &mut Pair<T>) {
    for bad in [4, 9, 14, u64::MAX] {
        let mut fake = FakeSender::new(pair, layout::MAGIC_SLOTS, &spec(8));
        fake.store(layout::TAIL, 5);
        pair.arrived(&mut fake.rx, 5);
        fake.rx.consume(5);
        // Consumed is not settled: at most slot 8 may be published.
        fake.store(layout::TAIL, bad);
        let error = error_of_poll(pair, &mut fake.rx);
        assert!(matches!(error, LaneError::Tail { found, seen: 5, .. } if found == bad), "{error}");
        assert_eq!(fake.rx.tail(), 5, "nothing changed");
    }
}

/// Cursors that go back, or pass each other or the tail, are refused, and nothing is settled.
pub fn bad_credit_is_detected<T: Transport>(pair: &mut Pair<T>) {
    // Four slots are published, two consumed, one settled.
    for (consumed, settled) in [(1, 1), (2, 0), (2, 3), (5, 1), (u64::MAX, 1), (2, u64::MAX)] {
        let mut fake = FakeReceiver::new(pair, layout::MAGIC_CREDIT, &spec(8));
        push(&mut fake.tx, 4);
        publish(&mut fake.tx);
        fake.store(layout::CONSUMED, 2);
        fake.store(layout::SETTLED, 1);
        pair.settled(&mut fake.tx, 1);
        fake.store(layout::CONSUMED, consumed);
        fake.store(layout::SETTLED, settled);
        let error = fake.error(pair);
        assert!(matches!(error, LaneError::Credit { tail: 4, .. }), "{error}");
        assert_eq!(fake.tx.cursors(), Cursors { consumed: 2, settled: 1 }, "nothing changed");
    }
}

/// Refusals that cannot be are refused: too many, none, outside the lane, malformed.
pub fn bad_refusals_are_detected<T: Transport>(pair: &mut Pair<T>) {
    let mut fake = FakeReceiver::new(pair, layout::MAGIC_CREDIT, &spec(8));
    fake.store(layout::REFUSAL_TAIL, layout::REFUSALS + 1);
    assert!(matches!(fake.error(pair), LaneError::RefusalCursor { .. }));

    // Slots 2..6 can be named.
    let one = 1;
    for (first, rest) in [
        (2, 0),
        (1, one),
        (6, one),
        (u64::MAX, one),
        (2, 5),
        (5, 2),
        (2, u64::from(u32::MAX)),
        (2, one | 1 << 48),
    ] {
        let mut fake = FakeReceiver::new(pair, layout::MAGIC_CREDIT, &spec(8));
        push(&mut fake.tx, 6);
        publish(&mut fake.tx);
        fake.store(layout::CONSUMED, 2);
        fake.store(layout::SETTLED, 2);
        pair.settled(&mut fake.tx, 2);
        fake.tx.release(2);
        let (line, word) = layout::refusal(0);
        fake.region.store(line, word, first);
        fake.region.store(line, word + 1, rest);
        fake.store(layout::REFUSAL_TAIL, 1);
        let mut found = None;
        pair.until("the refusal is found out", || {
            fake.tx.poll().expect("sound credit");
            found = fake.tx.next_refusal().err();
            found.is_some()
        });
        let error = found.expect("an error");
        let expected = matches!(error, LaneError::Refusal { released: 2, tail: 6 });
        assert!(expected, "{first} {rest}: {error}");
    }
}

/// A sender that claims to have read refusals that were never made is refused.
pub fn a_bad_refusal_cursor_is_detected<T: Transport>(pair: &mut Pair<T>) {
    let mut fake = FakeSender::new(pair, layout::MAGIC_SLOTS, &spec(8));
    fake.store(layout::TAIL, 2);
    pair.arrived(&mut fake.rx, 2);
    fake.rx.refuse(0, 1, 1).expect("room");
    fake.rx.consume(2);
    fake.rx.publish();
    fake.store(layout::REFUSAL_HEAD, 2);
    let error = error_of_poll(pair, &mut fake.rx);
    assert!(matches!(error, LaneError::RefusalCursor { found: 2, seen: 0 }), "{error}");
}
