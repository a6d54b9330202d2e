//! The constants of the header, without their `ZP_` prefix, and all of them as data.

/// What a descriptor begins with.
pub const MAGIC: [u8; 8] = *b"ZEPTOPLG";
/// Bytes of the longest text id of a node, as the header says at `zp_node`.
pub const NODE_ID_BYTES: usize = 128;
/// Bytes of the longest host: what DNS allows.
pub const HOST_BYTES: usize = 253;

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $value:expr, $c_name:literal;)*) => {
        $($(#[$doc])* pub const $name: $type = $value;)*

        /// Name in C and value of every constant.
        pub const CONSTANTS: &[(&str, u64)] = &[$(($c_name, $name as u64),)*];
    };
}

constants! {
    /// Major version of the interface.
    ABI_MAJOR: u16 = 1, "ZP_ABI_MAJOR";
    /// Minor version of the interface.
    ABI_MINOR: u16 = 0, "ZP_ABI_MINOR";
    /// Set in every token of the host, clear in the ids of timers.
    TOKEN_BIT: u64 = 1 << 63, "ZP_TOKEN_BIT";
    /// Level of a log line.
    LOG_TRACE: u32 = 0, "ZP_LOG_TRACE";
    /// Level of a log line.
    LOG_DEBUG: u32 = 1, "ZP_LOG_DEBUG";
    /// Level of a log line.
    LOG_INFO: u32 = 2, "ZP_LOG_INFO";
    /// Level of a log line.
    LOG_WARN: u32 = 3, "ZP_LOG_WARN";
    /// Level of a log line.
    LOG_ERROR: u32 = 4, "ZP_LOG_ERROR";
    /// Monotonic time.
    CLOCK_MONO: u32 = 1, "ZP_CLOCK_MONO";
    /// Time since 1970.
    CLOCK_WALL: u32 = 2, "ZP_CLOCK_WALL";
    /// Bit number of discovery.
    KIND_DISCOVERY: u32 = 0, "ZP_KIND_DISCOVERY";
    /// Bit number of a migration strategy.
    KIND_MIGRATION: u32 = 1, "ZP_KIND_MIGRATION";
    /// Bit number of snapshot hooks.
    KIND_SNAPSHOT: u32 = 2, "ZP_KIND_SNAPSHOT";
    /// Capability: random bytes.
    CAP_RANDOM: u64 = 1, "ZP_CAP_RANDOM";
    /// Capability: HTTP requests.
    CAP_HTTP: u64 = 1 << 1, "ZP_CAP_HTTP";
    /// Capability: UDP sockets.
    CAP_UDP: u64 = 1 << 2, "ZP_CAP_UDP";
    /// Capability: key-value state.
    CAP_KV: u64 = 1 << 3, "ZP_CAP_KV";
    /// Capability: metrics.
    CAP_METRIC: u64 = 1 << 4, "ZP_CAP_METRIC";
    /// State of a node: not known.
    NODE_UNKNOWN: u8 = 0, "ZP_NODE_UNKNOWN";
    /// State of a node: JOINING.
    NODE_JOINING: u8 = 1, "ZP_NODE_JOINING";
    /// State of a node: ACTIVE.
    NODE_ACTIVE: u8 = 2, "ZP_NODE_ACTIVE";
    /// State of a node: SUSPECT.
    NODE_SUSPECT: u8 = 3, "ZP_NODE_SUSPECT";
    /// State of a node: LEAVING.
    NODE_LEAVING: u8 = 4, "ZP_NODE_LEAVING";
    /// State of a node: DEAD.
    NODE_DEAD: u8 = 5, "ZP_NODE_DEAD";
    /// An answer with all nodes.
    NODES_FULL: u32 = 0, "ZP_NODES_FULL";
    /// An answer with what changed.
    NODES_DELTA: u32 = 1, "ZP_NODES_DELTA";
    /// The answer comes in parts, as it arrives.
    HTTP_STREAM: u32 = 1, "ZP_HTTP_STREAM";
    /// The first part.
    HTTP_FIRST: u32 = 1, "ZP_HTTP_FIRST";
    /// The last part.
    HTTP_LAST: u32 = 2, "ZP_HTTP_LAST";
    /// The body was longer than allowed.
    HTTP_TRUNCATED: u32 = 4, "ZP_HTTP_TRUNCATED";
    /// The partition is pinned and must not move.
    PARTITION_PINNED: u32 = 1, "ZP_PARTITION_PINNED";
    /// A copy of it is being filled.
    PARTITION_COPYING: u32 = 2, "ZP_PARTITION_COPYING";
    /// A plan was asked for by an operator.
    REASON_ASKED: u32 = 1, "ZP_REASON_ASKED";
    /// A node joined.
    REASON_JOINED: u32 = 2, "ZP_REASON_JOINED";
    /// A node is leaving.
    REASON_LEAVING: u32 = 3, "ZP_REASON_LEAVING";
    /// The load is uneven.
    REASON_LOAD: u32 = 4, "ZP_REASON_LOAD";
    /// Bitmap of the functions that the host has, in the order of the header.
    INFO_FEATURES: u32 = 1, "ZP_INFO_FEATURES";
    /// The node's text id.
    INFO_NODE_ID: u32 = 2, "ZP_INFO_NODE_ID";
    /// The instance's last error.
    INFO_LAST_ERROR: u32 = 3, "ZP_INFO_LAST_ERROR";
    /// A metric that only grows.
    METRIC_COUNTER: u32 = 1, "ZP_METRIC_COUNTER";
    /// A metric that is set.
    METRIC_GAUGE: u32 = 2, "ZP_METRIC_GAUGE";
    /// Message: open.
    MSG_OPEN: u32 = 1, "ZP_MSG_OPEN";
    /// Message: nodes.
    MSG_NODES: u32 = 2, "ZP_MSG_NODES";
    /// Message: a plan, or the question for one.
    MSG_PLAN: u32 = 3, "ZP_MSG_PLAN";
    /// Message: a request that the host is to make.
    MSG_HTTP_REQ: u32 = 4, "ZP_MSG_HTTP_REQ";
    /// Message: the body of an event.
    MSG_BYTES: u32 = 5, "ZP_MSG_BYTES";
    /// Event: begin.
    EV_START: u32 = 0x100, "ZP_EV_START";
    /// Event: end; reply when done.
    EV_STOP: u32 = 0x101, "ZP_EV_STOP";
    /// Event: another configuration; reply whether it is taken.
    EV_CONFIG: u32 = 0x102, "ZP_EV_CONFIG";
    /// Event: reply with the state.
    EV_EXPORT_STATE: u32 = 0x103, "ZP_EV_EXPORT_STATE";
    /// Event: the state of the instance before; reply whether it is taken.
    EV_IMPORT_STATE: u32 = 0x104, "ZP_EV_IMPORT_STATE";
    /// Event: reply whether all is well.
    EV_HEALTH: u32 = 0x105, "ZP_EV_HEALTH";
    /// Event: a timer ran out.
    EV_TIMER: u32 = 0x110, "ZP_EV_TIMER";
    /// Event: an answer, or a part of one.
    EV_HTTP: u32 = 0x111, "ZP_EV_HTTP";
    /// Event: a datagram, or a socket that failed.
    EV_UDP: u32 = 0x112, "ZP_EV_UDP";
    /// Event: `zp_wake` was called.
    EV_WAKE: u32 = 0x113, "ZP_EV_WAKE";
    /// Event: the host wants a full answer soon.
    EV_DISC_RESYNC: u32 = 0x120, "ZP_EV_DISC_RESYNC";
    /// Event: reply with a plan.
    EV_MIG_PLAN: u32 = 0x130, "ZP_EV_MIG_PLAN";
    /// Event: a move ended.
    EV_MIG_RESULT: u32 = 0x131, "ZP_EV_MIG_RESULT";
    /// Event: a snapshot begins; reply whether it may.
    EV_SNAP_BEGIN: u32 = 0x140, "ZP_EV_SNAP_BEGIN";
    /// Event: a snapshot is complete.
    EV_SNAP_COMMIT: u32 = 0x141, "ZP_EV_SNAP_COMMIT";
    /// Event: a snapshot was given up.
    EV_SNAP_ABORT: u32 = 0x142, "ZP_EV_SNAP_ABORT";
    /// Event: a snapshot is about to be restored; reply whether it may.
    EV_SNAP_RESTORE: u32 = 0x143, "ZP_EV_SNAP_RESTORE";
}
