//! Requests and answers between nodes and clients, and what is done with them unseen.
//!
//! A placement is checked by whoever gets it and then compiled into a view; so it is here.

use core::fmt::Debug;

use zepto_client::message::{
    Answer, AnswerBody, Ask, JoinRequest, LaneOffer, LanePurpose, LaneRequest, Leg, Missing, Of,
    Operation, Part, Query, Request, Response, decode, encode, partition_of,
};
use zepto_core::topology::Topology;
use zepto_core::view::View;
use zepto_core::{Epoch, Incarnation, NodeId};
use zepto_store::query::{Aggregate, Edge, KindSet, Position, Summary, TimeRange};

use crate::Target;

/// See the module. serde reserves up to 1 MiB for a list of which no element has come yet.
pub const TARGET: Target =
    Target { name: "message", run, seeds, bytes_fixed: 16 << 20, bytes_per_byte: 4 << 10 };

/// Any bytes as each message that is a first one: the version is made right, for nothing comes
/// behind a wrong one.
pub fn run(input: &[u8]) {
    let mut input = input.to_vec();
    if let Some(version) = input.first_mut().filter(|version| **version % 16 != 0) {
        *version = zepto_client::message::VERSION;
    }
    again::<LaneRequest>(&input);
    if let Some(Request::Leg(leg)) = again::<Request>(&input) {
        partition_of(&leg, 12);
    }
    if let Some(Response::Placement { placement, .. }) = again::<Response>(&input)
        && placement.check().is_ok()
    {
        let view = View::compile(*placement);
        view.route(1, 2);
    }
}

/// Decodes, encodes, and decodes to the same.
fn again<M>(input: &[u8]) -> Option<M>
where
    M: Debug + PartialEq + serde::Serialize + serde::de::DeserializeOwned,
{
    let message = decode::<M>(input).ok()?;
    assert_eq!(decode::<M>(&encode(&message)).as_ref(), Ok(&message));
    Some(message)
}

fn asks() -> Vec<Of> {
    let kinds = KindSet::TRADES;
    vec![
        Of::Summary,
        Of::Aggregate(kinds),
        Of::Last(KindSet::ALL),
        Of::Bars { interval_ns: 60, kinds, limit: 10 },
        Of::Range { after: Some(Position { time_ns: 5, sequence: 6 }), limit: 100 },
        Of::Since { life: Some(Epoch(3)), from: u64::MAX, limit: 1 },
    ]
}

fn requests() -> Vec<Request> {
    let (node, incarnation) = (NodeId(3), Incarnation(1 << 50));
    let range = TimeRange { from_ns: 5, to_ns: u64::MAX };
    let mut requests = vec![
        Request::Ping,
        Request::Status,
        Request::Placement { after: 7, wait_ms: 1000 },
        Request::Intern { names: vec!["A".into(), "spot:BTCUSDT".into()] },
        Request::Query(Query { ask: Ask::Summary, partial: true }),
        Request::Leg(Leg::Summary { ownership: 5 }),
        Request::Leader,
        Request::Consensus(vec![1, 2, 3]),
        Request::Heard { node, incarnation },
        Request::Meet(LaneRequest {
            node,
            incarnation,
            shard: 1,
            slots: 64,
            purpose: LanePurpose::Producer { memory_only: false },
        }),
        Request::Meet(LaneRequest {
            node,
            incarnation,
            shard: 1,
            slots: 64,
            purpose: LanePurpose::Replica { owner: NodeId(1), incarnation },
        }),
        Request::Share(LaneOffer {
            lane: LaneRequest {
                node,
                incarnation,
                shard: 0,
                slots: 1024,
                purpose: LanePurpose::Replica { owner: NodeId(1), incarnation },
            },
            nonce: 1 << 100,
            ticket: vec![7; 200],
        }),
        Request::Operate(Operation::Drain { node: "a".into() }),
        Request::Operate(Operation::Pin { table: 1, symbol: "A".into(), node: "b".into() }),
        Request::Operate(Operation::Weight { node: "a".into(), weight: 300 }),
        Request::Operate(Operation::Recover { partitions: 300 }),
        Request::Join(JoinRequest {
            name: "c".into(),
            incarnation,
            address: "h:1".into(),
            shards: 4,
            weight: 100,
            zone: "z".into(),
            cluster: Some(1 << 100),
            voter: u64::MAX,
        }),
    ];
    for of in asks() {
        let ask = Ask::Series { table: 1, symbol: "A".into(), range, of: of.clone() };
        requests.push(Request::Query(Query { ask, partial: false }));
        let leg = Leg::Series { table: 1, symbol: 2, epoch: Epoch(3), range, of };
        requests.push(Request::Leg(leg));
    }
    requests
}

fn responses() -> Vec<Response> {
    let (node, incarnation) = (NodeId(3), Incarnation(1 << 50));
    let mut aggregate = Aggregate::default();
    aggregate.add(Edge { time_ns: 1, sequence: 2, price: -3 }, 4);
    let summary = Summary { trades: aggregate.clone(), ..Summary::default() };
    let parts = [
        Part::Summaries(vec![(1, 2, summary.clone())]),
        Part::Summary(summary.clone()),
        Part::Aggregate(aggregate),
        Part::Last(Some([9; 8])),
        Part::Bars { bars: Vec::new(), next_ns: Some(5) },
        Part::Range { ticks: vec![[7; 8]; 3], next: None },
        Part::Since { ticks: vec![[7; 8]; 3], life: Epoch(3), next: 9 },
    ];
    let missing = vec![Missing { node: "b".into(), why: "silent".into() }];
    let answer = |body| Response::Answer(Answer { body, missing: missing.clone() });
    let mut responses = vec![
        Response::Pong { node, incarnation },
        Response::Placement { placement: Box::new(placement()), symbols: 9 },
        Response::Interned { ids: vec![1, 2, 300] },
        Response::Meet { door: "zepto".into(), nonce: 1 << 90 },
        Response::Share { ticket: vec![8; 200] },
        Response::Joined { node, cluster: 7, index: 8 },
        Response::Leader { address: Some("h:1".into()) },
        Response::Consensus(vec![1, 2]),
        Response::Operated { index: 300 },
        Response::Heard { silent_ms: Some(3) },
        answer(AnswerBody::Summaries(vec![(0, "A".into(), summary)])),
        answer(AnswerBody::Series(None)),
    ];
    responses.extend(parts.clone().map(Response::Part));
    responses.extend(parts.map(|part| answer(AnswerBody::Series(Some(part)))));
    responses
}

/// Two members that share sixteen partitions.
fn placement() -> zepto_core::topology::Placement {
    let mut topology: Topology = crate::entry::formed();
    topology.placement.members.truncate(2);
    topology.placement
}

fn seeds() -> Vec<Vec<u8>> {
    let requests = requests().iter().map(encode).collect::<Vec<_>>();
    let responses = responses().iter().map(encode).collect::<Vec<_>>();
    [requests, responses].concat()
}
