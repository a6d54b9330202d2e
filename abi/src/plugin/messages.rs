//! The structs of the messages. All are little-endian, without pointers, and the same in 32 and 64
//! bits. Nothing is ever read by casting: `zepto-message` reads and writes them byte by byte.

super::layout::structs! {
    /// Bytes of a message, from its first byte on; absent when the length is zero.
    Span = "zp_span" {
        /// Offset of the first byte.
        off: u32,
        /// Bytes.
        len: u32,
    }
    /// Elements of a message; the one with index i begins at `off + i * stride`.
    List = "zp_list" {
        /// Offset of the first element.
        off: u32,
        /// Elements.
        count: u32,
        /// Bytes from one element to the next, as the sender knows their type.
        stride: u32,
        /// 0.
        reserved: u32,
    }
    /// A name and its value.
    KeyValue = "zp_kv" {
        /// The name.
        key: Span,
        /// The value.
        val: Span,
    }
    /// What every message begins with.
    Msg = "zp_msg" {
        /// Bytes of the fixed part, as the sender knows it.
        struct_size: u32,
        /// Bytes of the whole message.
        total_size: u32,
        /// Which message.
        kind: u32,
        /// 0.
        flags: u32,
    }
    /// What the host delivers.
    Event = "zp_event" {
        /// Kind: one of `EV_*`.
        h: Msg,
        /// 1, 2, 3 and so on, for each instance.
        seq: u64,
        /// Which request, socket, timer or question it belongs to.
        token: u64,
        /// Monotonic time, ns.
        mono_ns: u64,
        /// Time since 1970, ns.
        wall_ns: u64,
        /// Monotonic time by which the handler returns, ns.
        deadline_ns: u64,
        /// How what it tells of ended.
        status: i32,
        /// 1 when a reply is expected.
        needs_reply: u32,
        /// What it carries.
        body: Span,
    }
    /// What an instance is opened with.
    Open = "zp_open" {
        /// Kind: `MSG_OPEN`.
        h: Msg,
        /// The host's major version.
        host_major: u32,
        /// The host's minor version.
        host_minor: u32,
        /// Capabilities granted, `CAP_*`.
        granted_caps: u64,
        /// Memory the instance may have, bytes; 0 is unlimited.
        mem_limit_bytes: u64,
        /// Time for one event, ns.
        event_budget_ns: u64,
        /// Bytes of the largest message either side may send.
        max_msg_bytes: u32,
        /// Nodes of the largest answer.
        max_nodes: u32,
        /// Which life of the node this is.
        incarnation: u64,
        /// Name of the instance.
        instance: Span,
        /// Text id of the node.
        node_id: Span,
        /// `host:port` at which others reach the node.
        address: Span,
        /// JSON; may be absent.
        config: Span,
        /// The configured seeds, a list of spans.
        seeds: List,
    }
    /// One node that a discovery plugin knows of.
    Node = "zp_node" {
        /// Text id, unique in the message.
        id: Span,
        /// IP address or DNS name.
        host: Span,
        /// JSON object, or absent.
        meta: Span,
        /// Higher wins for the same id; 0 when not known.
        incarnation: u64,
        /// 100 is ordinary; 0 when not known.
        weight: u32,
        /// Port of RPC and heartbeats.
        port: u16,
        /// One of `NODE_*`.
        state: u8,
        /// 0.
        flags: u8,
    }
    /// A discovery plugin's answer.
    Nodes = "zp_nodes" {
        /// Kind: `MSG_NODES`.
        h: Msg,
        /// Strictly increasing for each instance.
        revision: u64,
        /// `NODES_FULL` or `NODES_DELTA`.
        mode: u32,
        /// 0.
        reserved: u32,
        /// The nodes.
        nodes: List,
        /// In a delta, the ids that went: a list of spans.
        removed: List,
    }
    /// One node of a question for a plan.
    NodeLoad = "zp_node_load" {
        /// Text id.
        id: Span,
        /// Failure zone.
        zone: Span,
        /// Bytes of ticks it holds.
        used_bytes: u64,
        /// Bytes of ticks it may hold.
        capacity_bytes: u64,
        /// Processor time; 1,000,000 is one busy core.
        cpu_micro: u64,
        /// One of `NODE_*`.
        state: u32,
        /// 100 is ordinary.
        weight: u32,
    }
    /// One partition of a question for a plan.
    Partition = "zp_partition" {
        /// Its number.
        id: u64,
        /// Bytes of its ticks.
        bytes: u64,
        /// Ticks that arrive in a second.
        ticks_per_s: u64,
        /// Its owner: index into the question's nodes.
        owner: u32,
        /// `PARTITION_*`.
        flags: u32,
    }
    /// A question for a plan.
    PlanRequest = "zp_plan_req" {
        /// Kind: an event's body has `MSG_PLAN`.
        h: Msg,
        /// Index of the topology that it describes.
        index: u64,
        /// One of `REASON_*`.
        reason: u32,
        /// Moves of the largest plan.
        max_moves: u32,
        /// The nodes.
        nodes: List,
        /// The partitions.
        partitions: List,
    }
    /// One partition that is to move.
    Move = "zp_move" {
        /// Its number.
        partition: u64,
        /// From: index into the question's nodes.
        from: u32,
        /// To: index into the question's nodes.
        to: u32,
        /// Higher goes first.
        priority: u32,
        /// 0.
        flags: u32,
    }
    /// A migration strategy's answer.
    Plan = "zp_plan" {
        /// Kind: `MSG_PLAN`.
        h: Msg,
        /// The question's.
        index: u64,
        /// The moves.
        moves: List,
    }
    /// What a snapshot hook is told.
    Snap = "zp_snap" {
        /// Kind: an event's body has `MSG_BYTES`.
        h: Msg,
        /// Which snapshot.
        snapshot_id: u64,
        /// Index of the topology that the cut belongs to.
        index: u64,
        /// Ticks it holds.
        ticks: u64,
        /// Bytes it holds.
        bytes: u64,
        /// Where it is.
        uri: Span,
        /// What it is called.
        label: Span,
    }
    /// A request that the host is to make.
    HttpRequest = "zp_http_req" {
        /// Kind: `MSG_HTTP_REQ`.
        h: Msg,
        /// GET and so on.
        method: Span,
        /// Absolute, without user info.
        url: Span,
        /// The headers, a list of `KeyValue`.
        headers: List,
        /// The body.
        body: Span,
        /// Time for the whole; 0 is the host's default.
        timeout_ms: u32,
        /// Bytes of the largest body of the answer; 0 is the host's default.
        max_body: u32,
        /// `HTTP_STREAM`.
        flags: u32,
        /// 0.
        reserved: u32,
    }
    /// An answer, or a part of one.
    HttpResponse = "zp_http_resp" {
        /// Kind: an event's body has `MSG_BYTES`.
        h: Msg,
        /// HTTP status code; 0 when there was no answer.
        code: u32,
        /// `HTTP_FIRST`, `HTTP_LAST`, `HTTP_TRUNCATED`.
        flags: u32,
        /// The headers, in the first part.
        headers: List,
        /// The body, or a part of it.
        body: Span,
    }
    /// A datagram that came.
    UdpDatagram = "zp_udp_dgram" {
        /// Kind: an event's body has `MSG_BYTES`.
        h: Msg,
        /// Its sender, `ip:port`.
        from: Span,
        /// Its bytes.
        data: Span,
    }
    /// What a plugin says of itself, readable before any of its code runs.
    PluginInfo = "zp_plugin_info" {
        /// `ZEPTOPLG`.
        magic: [u8; 8],
        /// 256.
        struct_size: u32,
        /// The major version it was built for.
        abi_major: u16,
        /// The minor version of its header.
        abi_minor: u16,
        /// The lowest minor version of a host that it can do with.
        min_host_minor: u16,
        /// 32 for wasm32, 64 for native code.
        ptr_bits: u16,
        /// `1 << KIND_*`.
        kinds: u32,
        /// 0.
        flags: u32,
        /// Capabilities without which it does not work.
        caps: u64,
        /// Capabilities it uses where it has them.
        optional_caps: u64,
        /// Version of the state that it exports.
        state_version: u32,
        /// Oldest version of the state that it imports.
        min_state_version: u32,
        /// Memory it expects to need, KiB.
        mem_hint_kib: u32,
        /// 0.
        reserved0: u32,
        /// Its name, padded with zeros.
        name: [u8; 48],
        /// Its version.
        version: [u8; 32],
        /// Who made it.
        vendor: [u8; 48],
        /// 0.
        reserved: [u8; 64],
    }
}
