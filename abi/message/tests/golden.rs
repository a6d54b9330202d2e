//! Messages as version 1.0 wrote them: every later version reads them, and writes the same bytes.
//!
//! The files were written with `ZEPTO_WRITE_GOLDEN=1` when 1.0 was made, and are not written again.

use std::path::Path;
use zepto_abi::plugin as abi;
use zepto_message::{
    Datagram, Event, Info, Mode, Move, Node, NodeLoad, Nodes, Open, Partition, Plan, PlanRequest,
    Request, Response, Snap, write_nodes,
};

/// Compares bytes with a file, and gives the file's.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("ZEPTO_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, bytes).expect("a golden file");
    }
    let kept = std::fs::read(&path).expect("a golden file");
    assert_eq!(kept, bytes, "{name}");
    kept
}

#[test]
fn descriptors() {
    let bytes = Info::bytes((1, 2, 12), (3, 2), ("static", "0.1.0", "zepto"));
    let info = Info::read(&golden("info-64.bin", &bytes)).unwrap();
    assert_eq!((info.kinds, info.caps, info.optional_caps), (1, 2, 12));
    assert_eq!((info.state_version, info.min_state_version, info.ptr_bits), (3, 2, 64));
    assert_eq!((&*info.name, &*info.version, &*info.vendor), ("static", "0.1.0", "zepto"));
}

#[test]
fn what_the_host_sends() {
    let open = Open {
        host_minor: 0,
        granted_caps: abi::CAP_KV | abi::CAP_HTTP,
        mem_limit_bytes: 8 << 20,
        event_budget_ns: 50_000_000,
        max_msg_bytes: 4 << 20,
        max_nodes: 10_000,
        incarnation: 1_700_000_000_123,
        instance: "k8s",
        node_id: "zepto-0",
        address: "10.0.0.5:9000",
        config: "{\"service\":\"zepto\"}",
        seeds: vec!["10.0.0.1:9000", "[fd00::1]:9000"],
    };
    assert_eq!(Open::read(&golden("open.bin", &open.write())), Ok(open));

    let datagram = Datagram { from: "10.0.0.1:7946", data: b"\x01\x02\x03" }.write();
    assert_eq!(
        Datagram::read(&golden("udp.bin", &datagram)).map(|d| (d.from, d.data)),
        Ok(("10.0.0.1:7946", &b"\x01\x02\x03"[..]))
    );
    let event = Event {
        kind: abi::EV_UDP,
        seq: 17,
        token: abi::TOKEN_BIT | 5,
        mono_ns: 1_000_000_007,
        wall_ns: 1_700_000_000_000_000_000,
        deadline_ns: 1_050_000_007,
        status: 0,
        needs_reply: false,
        body: &datagram,
    };
    assert_eq!(Event::read(&golden("event.bin", &event.write())), Ok(event));

    let response = Response {
        code: 200,
        flags: abi::HTTP_FIRST | abi::HTTP_LAST,
        headers: vec![("content-type", "application/json")],
        body: b"{\"items\":[]}",
    };
    assert_eq!(Response::read(&golden("http-response.bin", &response.write())), Ok(response));

    let node = |id| NodeLoad {
        id,
        zone: "rack-1",
        used_bytes: 1 << 30,
        capacity_bytes: 2 << 30,
        cpu_micro: 250_000,
        state: abi::NODE_ACTIVE,
        weight: 100,
    };
    let partition = Partition { id: 7, bytes: 1 << 20, ticks_per_s: 1000, owner: 1, flags: 1 };
    let request = PlanRequest {
        index: 99,
        reason: abi::REASON_LOAD,
        max_moves: 16,
        nodes: vec![node("a"), node("b")],
        partitions: vec![partition],
    };
    let bytes = golden("plan-request.bin", &request.write());
    assert_eq!(PlanRequest::read(&bytes, 10), Ok(request));

    let snap = Snap {
        snapshot_id: 3,
        index: 99,
        ticks: 1_000_000,
        bytes: 38_000_000,
        uri: "file:///var/lib/zepto/snapshots/3",
        label: "nightly",
    };
    assert_eq!(Snap::read(&golden("snap.bin", &snap.write())), Ok(snap));
}

#[test]
fn what_plugins_send() {
    let full = Node {
        id: "zepto-0",
        host: "10.0.0.5",
        meta: "{\"zone\":\"a\"}",
        incarnation: 12,
        weight: 200,
        port: 9000,
        state: abi::NODE_ACTIVE,
    };
    let plain = Node { id: "zepto-1", host: "zepto-1.zepto", port: 9000, ..Node::default() };
    let bytes = golden("nodes-full.bin", &write_nodes(4, Mode::Full, &[full, plain], &[]));
    let nodes = Nodes::read(&bytes, 10).unwrap();
    assert_eq!((nodes.revision, nodes.mode), (4, Mode::Full));
    assert_eq!(nodes.nodes().map(Result::unwrap).collect::<Vec<_>>(), [full, plain]);
    let bytes = golden("nodes-delta.bin", &write_nodes(5, Mode::Delta, &[plain], &["zepto-2"]));
    let nodes = Nodes::read(&bytes, 10).unwrap();
    assert_eq!(nodes.removed().map(Result::unwrap).collect::<Vec<_>>(), ["zepto-2"]);

    let request = Request {
        method: "GET",
        url: "https://10.96.0.1:443/apis/discovery.k8s.io/v1/namespaces/trading/endpointslices",
        headers: vec![("authorization", "Bearer ${secret:token}")],
        body: b"",
        timeout_ms: 30_000,
        max_body: 1 << 20,
        is_stream: true,
    };
    assert_eq!(Request::read(&golden("http-request.bin", &request.write())), Ok(request));

    let one = Move { partition: 7, from: 1, to: 0, priority: 2 };
    let plan = Plan { index: 99, moves: vec![one] };
    assert_eq!(Plan::read(&golden("plan.bin", &plan.write()), 10), Ok(plan));
}
