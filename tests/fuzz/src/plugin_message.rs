//! What plugins and host say to each other, and what the host makes of answers.

use zepto_message::{
    Datagram, Event, Info, Mode, Move, Node, NodeLoad, Nodes, Open, Partition, Plan, PlanRequest,
    Request, Response, Snap, write_nodes,
};
use zepto_plugin::vet::{Answer, Question, Roster, vet_plan};

use crate::Target;

/// See the module. Elements may be as short as one byte, and the largest of them takes 80.
pub const TARGET: Target =
    Target { name: "plugin_message", run, seeds, bytes_fixed: 1 << 20, bytes_per_byte: 2 << 10 };

/// Nodes and moves of one message.
const MOST: u32 = 1000;

/// Any bytes as each of the messages; what was read is written, and read to the same.
pub fn run(input: &[u8]) {
    if let Ok(event) = Event::read(input) {
        assert_eq!(Event::read(&event.write()), Ok(event));
    }
    if let Ok(open) = Open::read(input) {
        // Of a newer header, the host's version may be beyond what this one can say.
        assert_eq!(Open::read(&open.write()).as_ref(), Ok(&open));
    }
    if let Ok(request) = Request::read(input) {
        assert_eq!(Request::read(&request.write()).as_ref(), Ok(&request));
    }
    if let Ok(response) = Response::read(input) {
        assert_eq!(Response::read(&response.write()).as_ref(), Ok(&response));
    }
    if let Ok(datagram) = Datagram::read(input) {
        assert_eq!(Datagram::read(&datagram.write()), Ok(datagram));
    }
    if let Ok(snap) = Snap::read(input) {
        assert_eq!(Snap::read(&snap.write()), Ok(snap));
    }
    if let Ok(request) = PlanRequest::read(input, MOST) {
        assert_eq!(PlanRequest::read(&request.write(), MOST).as_ref(), Ok(&request));
    }
    if let Ok(plan) = Plan::read(input, MOST) {
        assert_eq!(Plan::read(&plan.write(), MOST).as_ref(), Ok(&plan));
    }
    if let Some(info) = Info::read(input) {
        assert!(!info.name.contains(char::is_control));
    }
    vet(input);
}

/// An answer that is taken holds what its message says, and never removes everybody.
fn vet(input: &[u8]) {
    if let Ok(answer) = Answer::check(input.to_vec(), MOST, 0) {
        let nodes = Nodes::read(input, MOST).expect("it was taken");
        let known = nodes.nodes().collect::<Result<Vec<_>, _>>().expect("it was taken");
        let mut roster = Roster::new("own");
        drop(roster.offer(&answer, zepto_core::time::Nanos(1)));
        let kept: Vec<&str> = roster.others().map(|node| node.id.as_str()).collect();
        for node in known.iter().filter(|node| node.id != "own" && nodes.mode == Mode::Full) {
            assert!(kept.contains(&node.id), "{node:?}");
        }
    }
    let question = PlanRequest { max_moves: MOST, ..request() };
    if let Ok(plan) = vet_plan(&Question::of(&question), input) {
        assert!(plan.moves.len() <= 1, "only one of the partitions may move");
    }
}

fn request() -> PlanRequest<'static> {
    let node = |id| NodeLoad { id, capacity_bytes: 100, weight: 100, ..NodeLoad::default() };
    let partition = |id, flags| Partition { id, bytes: 1, ticks_per_s: 2, owner: 0, flags };
    PlanRequest {
        index: 5,
        reason: 1,
        max_moves: 4,
        nodes: vec![node("a"), node("b")],
        partitions: vec![partition(1, 0), partition(2, 1)],
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let node = Node { id: "a", host: "10.0.0.1", meta: "{}", port: 9000, ..Node::default() };
    let other = Node { id: "own", host: "h.example", port: 1, incarnation: 3, ..Node::default() };
    let open = Open {
        instance: "k8s",
        node_id: "a",
        address: "h:1",
        config: "{}",
        seeds: vec!["a:1", "b:2"],
        ..Open::default()
    };
    let http = Request {
        method: "GET",
        url: "https://h/",
        headers: vec![("a", "b"), ("c", "d")],
        body: b"body",
        ..Request::default()
    };
    let answer = Response { code: 200, flags: 3, headers: vec![("a", "b")], body: b"body" };
    let datagram = Datagram { from: "[::1]:1", data: b"data" }.write();
    let moves = vec![Move { partition: 1, from: 0, to: 1, priority: 9 }];
    vec![
        write_nodes(1, Mode::Full, &[node, other], &[]),
        write_nodes(2, Mode::Delta, &[node], &["b", "c"]),
        Event { kind: 0x112, seq: 1, token: 2, body: &datagram, ..Event::default() }.write(),
        open.write(),
        http.write(),
        answer.write(),
        datagram,
        Snap { snapshot_id: 1, uri: "u", label: "l", ..Snap::default() }.write(),
        request().write(),
        Plan { index: 5, moves }.write(),
        Info::bytes((1, 2, 4), (1, 1), ("name", "1.0", "vendor")).to_vec(),
    ]
}
