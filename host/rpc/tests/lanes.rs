//! Lanes over real sockets: every slot once, in order; refusals before the cursor; no neighbour
//! starves; both sides hear the end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex, MutexGuard};

use common::*;
use tokio::sync::Notify;
use zepto_abi::Refusal;
use zepto_core::hash::mix;
use zepto_rpc::frame::{Kind, decode_reason};
use zepto_rpc::{
    CallError, CloseReason, Config, Connection, LaneEnd, LaneFailure, LaneSink, LaneSource,
    RefusedRange,
};

fn slot(index: u64) -> [u8; 64] {
    let mut slot = [0; 64];
    for (word, bytes) in slot.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *bytes = mix(index * 8 + word as u64).to_le_bytes();
    }
    slot
}

/// What a source or a sink has seen, for the test to look at.
#[derive(Default)]
struct Seen {
    consumed: u64,
    settled: u64,
    refusals: Vec<RefusedRange>,
    received: u64,
    unsettled_max: u64,
    ends: Vec<LaneEnd>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Seen>>);

impl Log {
    fn get(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Publishes `total` slots in random portions.
struct Source {
    log: Log,
    random: u64,
    published: u64,
    total: u64,
    endless: bool,
    wake: Option<Arc<Notify>>,
}

impl Source {
    fn new(total: u64) -> (Source, Log) {
        let log = Log::default();
        let source =
            Source { log: log.clone(), random: 1, published: 0, total, endless: false, wake: None };
        (source, log)
    }
}

impl LaneSource for Source {
    fn published(&mut self) -> Result<u64, LaneFailure> {
        self.random = mix(self.random);
        // Often nothing, sometimes one, sometimes more than a frame.
        let portion = [0, 0, 1, 7, 300, 3000][(self.random % 6) as usize];
        self.published = (self.published + portion).min(self.total);
        Ok(self.published)
    }

    fn copy(&mut self, from: u64, slots_max: usize, out: &mut Vec<u8>) -> usize {
        assert!(from + slots_max as u64 <= self.published);
        let count = (slots_max as u64).min(1 + self.random % 2000) as usize;
        for index in from..from + count as u64 {
            out.extend_from_slice(&slot(index));
        }
        count
    }

    fn credit(
        &mut self,
        consumed: u64,
        settled: u64,
        refusals: &[RefusedRange],
    ) -> Result<(), LaneFailure> {
        let mut seen = self.log.get();
        assert!(consumed >= seen.consumed && settled >= seen.settled && settled <= consumed);
        for range in refusals {
            assert!(range.first >= seen.settled, "a refusal after the cursor passed it");
            assert!(range.first + u64::from(range.count) <= self.published);
        }
        seen.refusals.extend_from_slice(refusals);
        (seen.consumed, seen.settled) = (consumed, settled);
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.published == self.total && !self.endless
    }

    fn wake(&self) -> Option<Arc<Notify>> {
        self.wake.clone()
    }

    fn closed(&mut self, end: &LaneEnd) {
        self.log.get().ends.push(end.clone());
    }
}

/// Checks every slot; consumes, settles and refuses by its own random rhythm.
struct Sink {
    log: Log,
    random: u64,
    capacity: u64,
    /// Settle nothing beyond this.
    settle_max: u64,
    fail_at: u64,
    wake: Option<Arc<Notify>>,
}

impl Sink {
    fn new(capacity: u64) -> (Sink, Log) {
        let log = Log::default();
        let sink = Sink {
            log: log.clone(),
            random: 2,
            capacity,
            settle_max: u64::MAX,
            fail_at: u64::MAX,
            wake: None,
        };
        (sink, log)
    }
}

impl LaneSink for Sink {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn push(&mut self, slots: &[u8]) -> Result<usize, LaneFailure> {
        let mut seen = self.log.get();
        let slots = slots.as_chunks::<64>().0;
        for bytes in slots {
            assert_eq!(*bytes, slot(seen.received), "slot {}", seen.received);
            seen.received += 1;
            if seen.received > self.fail_at {
                return Err(LaneFailure("the disk is full".to_owned()));
            }
        }
        seen.unsettled_max = seen.unsettled_max.max(seen.received - seen.settled);
        assert!(seen.received - seen.settled <= self.capacity, "the window was exceeded");
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
        Ok(slots.len())
    }

    fn poll_credit(
        &mut self,
        refusals: &mut Vec<RefusedRange>,
    ) -> Result<Option<(u64, u64)>, LaneFailure> {
        let mut seen = self.log.get();
        self.random = mix(self.random);
        if self.random.is_multiple_of(3) && self.wake.is_none() {
            return Ok(None);
        }
        let step = if self.wake.is_some() { u64::MAX } else { 1 + self.random % 200 };
        let consumed = seen.consumed.saturating_add(step).min(seen.received);
        if self.random.is_multiple_of(7) && consumed > seen.consumed {
            let count = ((consumed - seen.consumed) / 2).max(1) as u32;
            let range =
                RefusedRange { first: seen.consumed, count, reason: Refusal::NotOwner.code() };
            seen.refusals.push(range);
            refusals.push(range);
        }
        let behind = self.random % 50;
        let settled = consumed.saturating_sub(if consumed == seen.received { 0 } else { behind });
        let settled = settled.max(seen.settled).min(self.settle_max);
        let moved = (consumed, settled) != (seen.consumed, seen.settled);
        (seen.consumed, seen.settled) = (consumed, settled);
        Ok(moved.then_some((consumed, settled)))
    }

    fn wake(&self) -> Option<Arc<Notify>> {
        self.wake.clone()
    }

    fn closed(&mut self, end: &LaneEnd) {
        self.log.get().ends.push(end.clone());
    }
}

fn expect_lane(node: &Node, sink: Sink) {
    node.handler.lanes.lock().unwrap().push_back(Ok(Box::new(sink)));
}

async fn pump(connection: &Connection, source: &mut Source) -> LaneEnd {
    let lane = connection.open_lane(b"shard 3".to_vec(), LONG).await.expect("a lane");
    within(lane.pump(source)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_slots_arrive_once_in_order_with_refusals_before_the_cursor() {
    every_slot_arrives_once(Config::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_inside_a_secure_session_delivers_as_one_in_the_clear() {
    every_slot_arrives_once(secure(OLD_KEY)).await;
}

async fn every_slot_arrives_once(config: Config) {
    let node = Node::start(config.clone()).await;
    let connection = connect(&node.address, config).await;
    let (sink, there) = Sink::new(4096);
    expect_lane(&node, sink);
    let (mut source, here) = Source::new(200_000);
    assert_eq!(pump(&connection, &mut source).await, LaneEnd::Finished);
    until("the sink is told", || !there.get().ends.is_empty()).await;
    let (here, there) = (here.get(), there.get());
    assert_eq!((here.consumed, here.settled, there.received), (200_000, 200_000, 200_000));
    assert_eq!(here.refusals, there.refusals, "each refusal once, in order");
    assert!(here.refusals.len() > 100, "the test refuses a lot");
    assert!(there.unsettled_max > 4000, "the window was used to its end");
    assert_eq!(
        (here.ends.as_slice(), there.ends.as_slice()),
        (&[LaneEnd::Finished][..], &[LaneEnd::Finished][..])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_one_slot_works_too() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    let (sink, there) = Sink::new(1);
    expect_lane(&node, sink);
    let (mut source, here) = Source::new(50);
    assert_eq!(pump(&connection, &mut source).await, LaneEnd::Finished);
    assert_eq!((here.get().settled, there.get().received), (50, 50));
}

#[tokio::test]
async fn lanes_that_are_woken_need_no_polling() {
    // With an hour between two looks, only the wakes move anything.
    let config = Config { lane_poll: LONG * 120, ..Config::default() };
    let node = Node::start(config.clone()).await;
    let connection = connect(&node.address, config).await;
    let (mut sink, there) = Sink::new(4096);
    sink.wake = Some(Arc::new(Notify::new()));
    expect_lane(&node, sink);
    let (mut source, here) = Source::new(2000);
    let wake = Arc::new(Notify::new());
    source.wake = Some(Arc::clone(&wake));
    let producer = tokio::spawn(async move {
        loop {
            wake.notify_one();
            tokio::time::sleep(ms(1)).await;
        }
    });
    assert_eq!(pump(&connection, &mut source).await, LaneEnd::Finished);
    producer.abort();
    assert_eq!((here.get().settled, there.get().received), (2000, 2000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_lanes_and_calls_on_one_connection_do_not_starve_each_other() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    let mut pumps = tokio::task::JoinSet::new();
    let mut logs = Vec::new();
    for _ in 0..4 {
        let (sink, there) = Sink::new(1 << 14);
        expect_lane(&node, sink);
        let (mut source, _) = Source::new(u64::MAX / 2);
        let lane = connection.open_lane(Vec::new(), LONG).await.unwrap();
        logs.push(there);
        pumps.spawn(async move { lane.pump(&mut source).await });
    }
    // While four lanes send as fast as they can, calls and large answers go on, and each lane too.
    for _ in 0..10 {
        let before: Vec<u64> = logs.iter().map(|log| log.get().received).collect();
        for _ in 0..20 {
            assert!(connection.call(vec![ECHO; 1000], LONG).await.is_ok());
        }
        assert!(connection.call(large_request(4096), LONG).await.is_ok());
        for (log, before) in logs.iter().zip(before) {
            until("every lane moves", || log.get().received > before).await;
        }
    }
    pumps.shutdown().await;
    for log in &logs {
        until("the sink is told", || log.get().ends.len() == 1).await;
        assert_eq!(log.get().ends, [LaneEnd::Peer("dropped".to_owned())]);
    }
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn when_the_connection_breaks_midway_both_sides_are_told_once() {
    let config = Config { linger: ms(50), drain: ms(50), ..Config::default() };
    let node = Node::start(config).await;
    let connection = node.connect().await;
    let (mut sink, there) = Sink::new(4096);
    sink.settle_max = 1000;
    expect_lane(&node, sink);
    let (mut source, here) = Source::new(100_000);
    let lane = connection.open_lane(Vec::new(), LONG).await.unwrap();
    let pump = tokio::spawn(async move { lane.pump(&mut source).await });
    until("stuck in the middle", || there.get().received > 3000).await;
    let report = node.stopped().await;
    assert_eq!(report.lanes_left, 1, "an unsettled lane is reported");
    let end = within(pump).await.unwrap();
    assert!(matches!(end, LaneEnd::Connection(CloseReason::GoAway(_))), "{end}");
    assert_eq!(here.get().ends, [end]);
    assert!(matches!(there.get().ends.as_slice(), [LaneEnd::Connection(CloseReason::Finished)]));
}

#[tokio::test]
async fn when_the_cable_is_cut_both_sides_are_told_once() {
    let node = Node::start(Config::default()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let server = node.address.clone();
    let cable = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    });
    let connection = connect(&proxy, Config::default()).await;
    let (sink, there) = Sink::new(4096);
    expect_lane(&node, sink);
    let (mut source, here) = Source::new(u64::MAX / 2);
    let lane = connection.open_lane(Vec::new(), LONG).await.unwrap();
    let pump = tokio::spawn(async move { lane.pump(&mut source).await });
    until("in full flow", || there.get().received > 10_000).await;
    cable.abort();
    let end = within(pump).await.unwrap();
    assert!(matches!(end, LaneEnd::Connection(_)), "{end}");
    until("the sink is told", || !there.get().ends.is_empty()).await;
    assert!(matches!(there.get().ends.as_slice(), [LaneEnd::Connection(_)]));
    assert_eq!(here.get().ends, [end]);
    assert!(here.get().settled <= there.get().settled, "nothing settled that was not");
    node.stopped().await;
}

#[tokio::test]
async fn a_stop_lets_a_lane_settle_what_it_has_sent() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    let (sink, there) = Sink::new(4096);
    expect_lane(&node, sink);
    let (mut source, here) = Source::new(u64::MAX / 2);
    let lane = connection.open_lane(Vec::new(), LONG).await.unwrap();
    let pump = tokio::spawn(async move { lane.pump(&mut source).await });
    until("in full flow", || there.get().received > 10_000).await;
    let report = node.stopped().await;
    assert!(report.is_complete(), "{report}");
    assert_eq!(within(pump).await.unwrap(), LaneEnd::GoAway);
    assert_eq!(here.get().settled, there.get().received, "all that was sent is settled");
    assert_eq!(there.get().ends, [LaneEnd::Finished]);
}

#[tokio::test]
async fn a_sink_that_fails_ends_the_lane_on_both_sides_and_nothing_else() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    let (mut sink, there) = Sink::new(4096);
    sink.fail_at = 5000;
    expect_lane(&node, sink);
    let (mut source, here) = Source::new(100_000);
    let end = pump(&connection, &mut source).await;
    assert_eq!(end, LaneEnd::Peer("failed: the disk is full".to_owned()));
    assert_eq!(here.get().ends, [end]);
    assert_eq!(there.get().ends, [LaneEnd::Failed("the disk is full".to_owned())]);
    assert!(connection.call(vec![ECHO], LONG).await.is_ok());

    let (sink, there) = Sink::new(4096);
    expect_lane(&node, sink);
    let (mut source, _) = Source::new(1000);
    assert_eq!(pump(&connection, &mut source).await, LaneEnd::Finished, "a fresh lane works");
    assert_eq!(there.get().received, 1000);
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn a_lane_that_is_refused_says_why_and_a_dropped_one_tells_the_sink() {
    let node = Node::start(Config { lanes_per_connection_max: 1, ..Config::default() }).await;
    let connection = node.connect().await;
    let refused = connection.open_lane(Vec::new(), LONG).await.expect_err("refused");
    let text = "no lane expected".to_owned();
    assert_eq!(refused, CallError::Refused { reason: Refusal::NotReady, text });

    let (sink, there) = Sink::new(16);
    expect_lane(&node, sink);
    let lane = connection.open_lane(Vec::new(), LONG).await.expect("a lane");
    assert_eq!(lane.window(), 16);
    let second = connection.open_lane(Vec::new(), LONG).await.expect_err("one lane only");
    let text = "too many lanes on this connection".to_owned();
    assert_eq!(second, CallError::Refused { reason: Refusal::LimitReached, text });
    drop(lane);
    until("the sink is told", || there.get().ends.len() == 1).await;

    for capacity in [0, u64::MAX] {
        let (sink, there) = Sink::new(capacity);
        expect_lane(&node, sink);
        let error = connection.open_lane(Vec::new(), LONG).await.expect_err("no such window");
        let text = format!("a window of {capacity} slots cannot be served");
        assert_eq!(error, CallError::Refused { reason: Refusal::LimitReached, text: text.clone() });
        assert_eq!(there.get().ends, [LaneEnd::Failed(text)]);
    }
    let long = connection.open_lane(vec![0; 5000], LONG).await.expect_err("too long");
    assert!(matches!(long, CallError::NotSent(_)), "{long}");
    drop(connection);
    node.stopped().await;
}

#[tokio::test]
async fn data_that_breaks_the_rules_ends_the_lane_with_the_rule() {
    let node = Node::start(Config::default()).await;
    let cases: [(u64, usize, &str); 5] = [
        (1, 1, "slot 1 came, 0 was due"),
        (0, 17, "17 slots in a window of 16"),
        (u64::MAX, 1, "slot 18446744073709551615 came, 0 was due"),
        (0, 0, "0 bytes are no slots"),
        (7, 0, "0 bytes are no slots"),
    ];
    let mut peer = Raw::client(&node.address).await;
    for (lane, (first, slots, text)) in (1..).zip(cases) {
        let (sink, there) = Sink::new(16);
        expect_lane(&node, sink);
        peer.send(Kind::LaneOpen, lane, 1000, b"").await;
        let opened = peer.next().await.unwrap();
        assert_eq!(opened, (Kind::LaneOpened, lane, 16u64.to_le_bytes().to_vec()));
        let mut payload = first.to_le_bytes().to_vec();
        payload.extend((0..slots as u64).flat_map(slot));
        peer.send(Kind::LaneData, lane, 0, &payload).await;
        let (kind, id, reason) = peer.next().await.unwrap();
        assert_eq!((kind, id), (Kind::LaneClose, lane));
        let expected = format!("the peer broke the lane's rules: {text}");
        assert_eq!(decode_reason(&reason).unwrap().1, expected);
        assert_eq!(there.get().ends, [LaneEnd::Protocol(text.to_owned())]);
        // What was already under way when the lane ended is ignored.
        peer.send(Kind::LaneData, lane, 0, &payload).await;
    }
    peer.send(Kind::Request, 1, 1000, &[ECHO]).await;
    assert_eq!(peer.next().await.map(|(kind, ..)| kind), Some(Kind::Response), "still usable");
    drop(peer);
    node.stopped().await;
}

#[tokio::test]
async fn a_source_whose_pump_is_dropped_is_told() {
    let node = Node::start(Config::default()).await;
    let connection = node.connect().await;
    let (sink, there) = Sink::new(16);
    expect_lane(&node, sink);
    let (mut source, here) = Source::new(100);
    source.endless = true;
    let lane = connection.open_lane(Vec::new(), LONG).await.unwrap();
    let pumping = tokio::time::timeout(ms(50), lane.pump(&mut source)).await;
    assert!(pumping.is_err(), "an endless source");
    assert_eq!(here.get().ends, [LaneEnd::Dropped]);
    until("the sink is told", || there.get().ends.len() == 1).await;
    drop(connection);
    assert!(node.stopped().await.is_complete());
}
