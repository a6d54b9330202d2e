//! Every maximum of zepto, in one place, with the relations between them checked at compile time.
//!
//! If everything has a limit, there is nothing to grow. A limit that users may lower stands in
//! the configuration; the maximum it may be given stands here.

/// Partition counts are powers of two up to this, so a partition fits 16 bits.
pub const PARTITION_BITS_MAX: u8 = 16;
/// 4,096 partitions unless the cluster was bootstrapped otherwise.
pub const PARTITION_BITS_DEFAULT: u8 = 12;
/// Members of a cluster, dead ones that are still remembered included.
pub const MEMBERS_MAX: usize = 1024;
/// Shard threads of one node. A power of two.
pub const SHARDS_MAX: u16 = 16;
/// Copies of a partition, the owner included.
pub const COPIES_MAX: usize = 4;
/// Copies unless the cluster was bootstrapped otherwise.
pub const COPIES_DEFAULT: u8 = 2;
/// In-sync members of a partition: one more while a copy moves.
pub const IN_SYNC_MAX: usize = COPIES_MAX + 1;
/// Partitions that one entry of the log may change; more take another entry.
pub const CHANGES_MAX: usize = 4096;
/// Pins of partitions to members.
pub const PINS_MAX: usize = 4096;
/// Partitions that one owner lets move, or be filled beyond the declared copies, at a time.
pub const MOVES_MAX: usize = 1024;
/// Ticks that one lane brings to copies which are being filled, and that wait there until what came
/// before them has arrived: the unsettled ones first, at most two turns of a lane, then new ones.
pub const FILL_WAITING_MAX: usize = 1 << 18;
/// Of them, those of one partition that may not be settled; with more of them, a copy does not
/// count before it is full.
pub const FILL_RECENT_MAX: u64 = FILL_WAITING_MAX as u64 / 2;
/// Time until a copy is begun again that had no room for its ticks; it doubles each time.
pub const FILL_AGAIN_MS: u64 = 1;
/// Longest time until such a copy is begun again.
pub const FILL_AGAIN_MS_MAX: u64 = 1_000;
/// Rows that an owner copies into one lane before it looks at the next.
pub const FILL_BATCH: usize = 256;
/// Virtual nodes of a node with weight 100 on the ring.
pub const VNODES: u32 = 128;
/// Weight of an ordinary node; a node of weight 200 gets twice the partitions.
pub const WEIGHT_DEFAULT: u16 = 100;
/// Largest weight.
pub const WEIGHT_MAX: u16 = 1000;

/// Symbol names the control log interns, over all tables.
pub const SYMBOLS_MAX: u32 = 1 << 20;
/// Bytes of one symbol name.
pub const SYMBOL_NAME_BYTES_MAX: usize = 64;
/// Names in one intern request.
pub const INTERN_BATCH_MAX: usize = 4096;
/// Tables (namespaces of symbols).
pub const TABLES_MAX: u16 = 256;
/// Bytes of a node's text id or of a zone.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Bytes of an advertised address.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Slots of a shared-memory lane: 64 K carry 13 M ticks/s at 5 ms of settling lag.
pub const LANE_SLOTS: usize = 1 << 16;
/// Slots of a lane over RPC; its window also bounds the memory of one connection.
pub const RPC_LANE_SLOTS: usize = 1 << 14;
/// Largest lane that a peer may ask for.
pub const LANE_SLOTS_MAX: usize = 1 << 20;
/// Smallest lane, for tests; a busy one has more than `PUBLISH_EVERY`.
pub const LANE_SLOTS_MIN: usize = 2;
/// Lines of 64 bytes of one shared region: the largest lane and its header.
pub const REGION_LINES_MAX: usize = LANE_SLOTS_MAX + 64;
/// Ticks between two publications of a busy sender.
pub const PUBLISH_EVERY: u64 = 64;
/// Slots a shard takes from one lane before it looks at the next.
pub const LANE_BATCH: usize = 256;
/// Refusals that a lane holds until its sender has read them; then the receiver waits.
pub const LANE_REFUSALS: usize = 1024;
/// Inbound lanes of one shard.
pub const LANES_PER_SHARD_MAX: usize = 1024;
/// Time for a lane to open, before its sender goes another way or tries again; an owner's lane is
/// waited for twice as long.
pub const LANE_OPEN_TIMEOUT_MS: u64 = 5_000;
/// Bytes of what one end of a UCX region tells the other: a worker's address, longer the more
/// devices there are, and where its memory is.
pub const UCX_TICKET_BYTES_MAX: usize = 2 << 10;
/// Regions of one UCX worker whose readers have not replied yet.
pub const UCX_REPLIES_MAX: usize = 1024;
/// Regions that one UCX worker writes, and as many that it reads: one of each for a lane.
pub const UCX_REGIONS_MAX: usize = 4 * LANES_PER_SHARD_MAX;
/// Channels of one UCX worker: one for each region, and for whoever has to be turned away.
pub const UCX_CHANNELS_MAX: usize = 2 * UCX_REGIONS_MAX + UCX_REPLIES_MAX;
/// Lines of one UCX message: with its head it fits into the 8 KiB that UCX sends at once over TCP.
pub const UCX_MESSAGE_LINES_MAX: usize = 112;
/// Messages that wait for a peer to take earlier ones; with more it counts as gone. Slots wait as
/// one or two, and what was taken as two for each batch.
pub const UCX_QUEUE_MAX: usize = 1 << 16;
/// Time for a peer to take a message of a lane that is over; then its endpoint is closed, and all
/// lanes with it. Longer than any profile gives a node that says nothing.
pub const UCX_LAST_WORD_TIMEOUT_MS: u64 = 30_000;
/// UCX endpoints that are kept without a lane.
pub const UCX_IDLE_PEERS_MAX: usize = 64;
/// Bytes of a request, or of an answer, when two processes of one host meet.
pub const MEET_BYTES_MAX: usize = 1 << 10;
/// Time for a process that came to the door to say what it wants.
pub const KNOCK_TIMEOUT_MS: u64 = 300;
/// Processes that stand at one door and have not spoken yet; more wait in the kernel's backlog.
pub const KNOCKS_MAX: usize = 16;
/// Commands waiting for one shard.
pub const SHARD_COMMANDS_MAX: usize = 1024;
/// Producers that one lane may name.
pub const PRODUCERS_PER_LANE_MAX: u32 = 256;
/// Producers whose sequences one shard remembers.
pub const PRODUCERS_PER_SHARD_MAX: usize = 1024;
/// Ticks one producer may hold aside for partitions that have no owner just now.
pub const PARKED_TICKS_MAX: usize = 1 << 16;
/// Ticks of one producer whose outcomes are remembered, where it asks for that: a power of two.
pub const TICKETS_KEPT: usize = 1 << 20;

/// Connections of an RPC server.
pub const CONNECTIONS_MAX: usize = 1024;
/// Bytes of one frame's payload, checked before anything is allocated.
pub const PAYLOAD_BYTES_MAX: u32 = 64 << 20;
/// Bytes of one HELLO payload, all that an unknown peer can make us hold.
pub const HELLO_BYTES_MAX: u32 = 4 << 10;
/// Sealed bytes of one record of a secure session: all that its length can say.
pub const RECORD_BYTES_MAX: usize = (1 << 16) - 1;
/// Bytes of the file with the cluster secret.
pub const SECRET_FILE_BYTES_MAX: u64 = 4 << 10;
/// Keys in that file: the one in use, and another while they are rotated.
pub const SECRET_KEYS_MAX: usize = 2;
/// Fewest characters of a key; fewer might be guessed.
pub const SECRET_KEY_CHARACTERS_MIN: usize = 32;
/// Most characters of a key.
pub const SECRET_KEY_CHARACTERS_MAX: usize = 256;
/// Time between two looks of a node at the file with the cluster secret.
pub const SECRET_REREAD_MS: u64 = 5_000;
/// Least time between two looks, whoever asks for one.
pub const SECRET_REREAD_PAUSE_MS: u64 = 1_000;
/// Requests in flight on one connection.
pub const REQUESTS_PER_CONNECTION_MAX: usize = 256;
/// Bytes of requests in flight in one server.
pub const REQUEST_BYTES_MAX: usize = 256 << 20;
/// Bytes queued to be written on one connection.
pub const CONNECTION_QUEUE_BYTES_MAX: usize = 128 << 20;
/// Lanes of one RPC connection.
pub const LANES_PER_CONNECTION_MAX: usize = 32;
/// Time for the HELLO after connect.
pub const HELLO_TIMEOUT_MS: u64 = 5_000;
/// Time for a frame's payload after its header.
pub const BODY_TIMEOUT_MS: u64 = 30_000;
/// Time to connect to a peer.
pub const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// Silence after which a connection is asked for a sign of life.
pub const PING_AFTER_MS: u64 = 1_000;
/// Silence after which a connection is dead.
pub const PING_DEAD_MS: u64 = 3_000;
/// Time for requests in flight to finish when a server stops.
pub const DRAIN_MS: u64 = 30_000;
/// Longest deadline a request may carry.
pub const REQUEST_DEADLINE_MS_MAX: u32 = 600_000;
/// Bytes of answers that wait in one server until their peers have taken them.
pub const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Frames queued to be written on one connection; beyond it a server stops reading from the peer.
pub const CONNECTION_QUEUE_FRAMES_MAX: usize = 1024;
/// Bytes of a reason that a frame carries: its code and its text.
pub const REASON_BYTES_MAX: u32 = 1 << 10;
/// Bytes of the part of a HELLO or its reply that `zepto-rpc` does not read.
pub const HELLO_EXTRA_BYTES_MAX: usize = 2 << 10;
/// Bytes by which a process names the machine it runs on.
pub const HOST_IDENTITY_BYTES_MAX: usize = 256;
/// Bytes of the request that opens a lane.
pub const LANE_OPEN_BYTES_MAX: u32 = 4 << 10;
/// Slots in one frame of a lane over RPC.
pub const LANE_FRAME_SLOTS_MAX: usize = 1024;
/// Data frames of one lane that wait to be written, so that no lane crowds out another.
pub const LANE_FRAMES_QUEUED_MAX: usize = 2;
/// Connections that are being told, at the same time, why they are not accepted.
pub const REFUSING_MAX: usize = 64;
/// Peers of one pool of connections.
pub const PEERS_MAX: usize = MEMBERS_MAX + SEEDS_MAX;
/// Time for the rest of a frame's header after its first byte.
pub const HEADER_TIMEOUT_MS: u64 = 5_000;
/// Time for a peer to close after we have said that we do.
pub const LINGER_MS: u64 = 2_000;
/// First pause after a failed connect, before jitter.
pub const RECONNECT_MIN_MS: u64 = 50;
/// Longest pause after failed connects; a peer that returns is used again within it.
pub const RECONNECT_MAX_MS: u64 = 1_000;

/// Bytes of one log entry.
pub const LOG_ENTRY_BYTES_MAX: usize = 4 << 20;
/// Time for the log to take a proposal.
pub const PROPOSE_MS: u64 = 5_000;
/// Proposals waiting for the log.
pub const PROPOSALS_MAX: usize = 1024;
/// Bytes of the proposals that wait for the log or are being written.
pub const PROPOSAL_BYTES_MAX: usize = 64 << 20;
/// Bytes of the log on disk that are cached in memory.
pub const LOG_CACHE_BYTES: usize = 16 << 20;

/// Voters of the control log.
pub const VOTERS_MAX: usize = 5;
/// Peers of the control log: its voters, and its learners, which are all other members.
pub const LOG_PEERS_MAX: usize = MEMBERS_MAX;
/// Entries of the control log after which it is compacted into a snapshot.
pub const LOG_SNAPSHOT_ENTRIES: u64 = 4096;
/// Entries that stay in the log behind a snapshot, for peers that are only a little behind.
pub const LOG_KEEP_ENTRIES: u64 = 1024;
/// Entries in one message from the leader of the control log.
pub const APPEND_ENTRIES_MAX: usize = 1024;
/// Bytes of the entries in one message from the leader, unless its first entry alone has more.
pub const APPEND_BYTES_MAX: usize = 8 << 20;
/// Bytes of one message between peers of the control log.
pub const LOG_MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Bytes of a snapshot of the topology.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;
/// Bytes of a snapshot in one message.
pub const SNAPSHOT_CHUNK_BYTES: usize = 2 << 20;
/// Time for one chunk of a snapshot; for the last one, its installation included.
pub const SNAPSHOT_CHUNK_MS: u64 = 30_000;
/// Time for each MiB of log entries in a message, besides the shortest election time-out.
pub const APPEND_MIB_MS: u64 = 250;
/// Writes that wait for the disk under the control log.
pub const DISK_QUEUE_MAX: usize = 1024;
/// Messages that wait for the core of the control log.
pub const CONSENSUS_QUEUE_MAX: u64 = 4096;
/// Entries that are applied before they are published.
pub const APPLY_BATCH_MAX: usize = 256;

/// Connections of the admin HTTP; one more waits until one is over.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;
/// Time for a request's head to come in.
pub const ADMIN_HEADER_TIMEOUT_MS: u64 = 2_000;
/// Time for one connection of the admin HTTP, which is one request and its answer.
pub const ADMIN_CONNECTION_MS: u64 = 10_000;
/// Bytes of a request's head.
pub const ADMIN_HEAD_BYTES_MAX: usize = 8 << 10;
/// Bytes of an answer of the admin HTTP.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 8 << 20;
/// Time without progress after which an agent counts as stuck.
pub const AGENT_STUCK_MS: u64 = 5_000;

/// Rows in one answer to a range query; more come page by page.
pub const RANGE_ROWS_MAX: usize = 1 << 16;
/// Bars in one answer.
pub const BARS_MAX: usize = 1 << 16;
/// Queries that run at the same time in one node.
pub const QUERIES_MAX: usize = 64;

/// Rows of a fresh series' first segment.
pub const SEGMENT_ROWS_MIN: usize = 16;
/// Rows of a segment once a series is busy.
pub const SEGMENT_ROWS_MAX: usize = 1024;
/// Newest rows of a series that lie row by row, one cache line each, until they are transposed
/// into columns: eight 64-bit cells fill one line of a column.
pub const STAGED_ROWS: usize = 8;
/// Segments in one group of a series' directory.
pub const GROUP_SEGMENTS_MAX: usize = 64;
/// Segments that one call of the store's expiry may drop.
pub const EXPIRE_SEGMENTS_MAX: usize = 64;
/// Series that one call of the store's expiry may look at.
pub const EXPIRE_SERIES_MAX: usize = 64;
/// First sequence a partition may be opened with; far enough from the end of 64 bits that no
/// append can reach it.
pub const FIRST_SEQUENCE_MAX: u64 = 1 << 62;

/// Bytes of a line of a CSV feed.
pub const CSV_LINE_BYTES_MAX: usize = 4096;
/// Bytes a CSV feed holds at a time, most of them whole lines.
pub const CSV_BUFFER_BYTES: usize = 256 << 10;
/// Bytes a DBN feed holds at a time behind its metadata.
pub const DBN_BUFFER_BYTES: usize = 64 << 10;
/// Bytes of a DBN feed's metadata, which names every instrument on every day: most of a million.
pub const DBN_METADATA_BYTES_MAX: usize = 128 << 20;
/// Base-2 logarithm of the largest window a .zst feed may ask for: 128 MiB, zstd's own default.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Bytes of an offending field or line that an error about a feed repeats.
pub const FEED_FIELD_CLIP_BYTES: usize = 48;
/// Malformed lines that are kept for the report when a feed may skip them; all are counted.
pub const FEED_SKIPPED_KEPT_MAX: usize = 10;
/// Rows of one feed whose numbers are kept to prove that none was lost: 512 MiB of bits.
pub const FEED_ROWS_MAX: u64 = 1 << 32;
/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Seeds in a configuration.
pub const SEEDS_MAX: usize = 64;

/// Plugins of one node.
pub const PLUGINS_MAX: usize = 16;
/// Bytes of a plugin's name.
pub const PLUGIN_NAME_BYTES_MAX: usize = 32;
/// Bytes of a plugin's file.
pub const PLUGIN_FILE_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a plugin's configuration.
pub const PLUGIN_CONFIG_BYTES_MAX: usize = 1 << 20;
/// Grants of one plugin.
pub const PLUGIN_GRANTS_MAX: usize = 64;
/// Memory of one instance, unless it is set otherwise.
pub const PLUGIN_MEMORY_DEFAULT: u64 = 8 << 20;
/// Most memory that an instance may be given.
pub const PLUGIN_MEMORY_MAX: u64 = 1 << 30;
/// Least memory that an instance may be given: the inbox for one message must fit beside its stack.
pub const PLUGIN_MEMORY_MIN: u64 = 128 << 10;
/// Time for one event, unless it is set otherwise.
pub const PLUGIN_EVENT_MS_DEFAULT: u64 = 50;
/// Most time that one event may be given.
pub const PLUGIN_EVENT_MS_MAX: u64 = 10_000;
/// Time to open an instance, or to take over the state of another.
pub const PLUGIN_OPEN_MS: u64 = 500;
/// Time for an answer that an event asks for: a plan, a veto.
pub const PLUGIN_REPLY_MS: u64 = 2_000;
/// Time for an instance to end what it has begun.
pub const PLUGIN_STOP_MS: u64 = 5_000;
/// Time beyond its own after which a call that cannot be interrupted counts as hung.
pub const PLUGIN_HUNG_AFTER_MS: u64 = 500;
/// Bytes of a message in either direction, unless it is set otherwise.
pub const PLUGIN_MESSAGE_BYTES_DEFAULT: u64 = 4 << 20;
/// Most bytes that a message may be given.
pub const PLUGIN_MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Nodes of one answer, unless it is set otherwise.
pub const PLUGIN_NODES_DEFAULT: u32 = 10_000;
/// Most nodes that an answer may be given.
pub const PLUGIN_NODES_MAX: u32 = 1 << 20;
/// Bytes of one log line of a plugin.
pub const PLUGIN_LOG_BYTES_MAX: usize = 4 << 10;
/// Log lines of a plugin in a second; the others are counted.
pub const PLUGIN_LOG_LINES_PER_S: u32 = 100;
/// Bytes of a plugin's last error.
pub const PLUGIN_ERROR_BYTES_MAX: usize = 1 << 10;
/// Random bytes of one call.
pub const PLUGIN_RANDOM_BYTES_MAX: usize = 64 << 10;
/// Timers of one instance.
pub const PLUGIN_TIMERS_MAX: usize = 64;
/// Shortest period of a timer that repeats.
pub const PLUGIN_TIMER_PERIOD_MS_MIN: u64 = 10;
/// Shortest time until a plugin's timer runs out; less is made this.
pub const PLUGIN_TIMER_DELAY_MS_MIN: u64 = 1;
/// Things that one call may ask for; more is refused as busy.
pub const PLUGIN_EFFECTS_MAX: usize = 1024;
/// Questions of the host that wait for one instance's reply.
pub const PLUGIN_QUESTIONS_MAX: usize = 64;
/// HTTP requests of one instance in flight.
pub const PLUGIN_HTTP_MAX: usize = 16;
/// Bytes of an HTTP answer's body, unless the request says less.
pub const PLUGIN_HTTP_BODY_BYTES_MAX: usize = 8 << 20;
/// Bytes of an answer's body where the plugin says nothing.
pub const PLUGIN_HTTP_BODY_BYTES_DEFAULT: usize = 1 << 20;
/// Bytes of the names and values of a request's headers, all together.
pub const PLUGIN_HTTP_HEADER_BYTES_MAX: usize = 64 << 10;
/// Answers to a plugin's requests that wait for it; their senders wait then.
pub const PLUGIN_HTTP_QUEUE_MAX: usize = 4;
/// Bytes of one part of an answer that comes in parts.
pub const PLUGIN_HTTP_PART_BYTES_MAX: usize = 64 << 10;
/// Headers of an HTTP request or answer.
pub const PLUGIN_HTTP_HEADERS_MAX: usize = 64;
/// Time for an HTTP request that says none.
pub const PLUGIN_HTTP_TIMEOUT_MS: u64 = 30_000;
/// Longest time that an HTTP request may be given; streams too.
pub const PLUGIN_HTTP_TIMEOUT_MS_MAX: u64 = 3_600_000;
/// Time to reach a server and speak TLS with it.
pub const PLUGIN_HTTP_CONNECT_MS: u64 = 5_000;
/// Bytes of a secret that the host fills in.
pub const PLUGIN_SECRET_BYTES_MAX: u64 = 16 << 10;
/// UDP sockets of one instance.
pub const PLUGIN_UDP_SOCKETS_MAX: usize = 4;
/// Bytes of a datagram.
pub const PLUGIN_UDP_BYTES_MAX: usize = 1_400;
/// Datagrams that one instance may send in a second.
pub const PLUGIN_UDP_PER_S_MAX: u32 = 10_000;
/// What came in for an instance and waits for its turn. Datagrams beyond it are dropped.
pub const PLUGIN_QUEUE_MAX: usize = 256;
/// Bytes of the keys and values that a plugin keeps, unless the grant says otherwise.
pub const PLUGIN_KV_BYTES_DEFAULT: u64 = 1 << 20;
/// Most bytes of keys and values.
pub const PLUGIN_KV_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a key.
pub const PLUGIN_KV_KEY_BYTES_MAX: usize = 256;
/// Names of one plugin's metrics.
pub const PLUGIN_METRICS_MAX: usize = 256;
/// Bytes of a metric's name.
pub const PLUGIN_METRIC_NAME_BYTES_MAX: usize = 64;
/// Bytes of the state that an instance hands to its successor.
pub const PLUGIN_STATE_BYTES_MAX: usize = 1 << 20;
/// Share of the known nodes, in percent, that one answer may remove without being repeated.
pub const PLUGIN_REMOVE_PERCENT_MAX: usize = 30;
/// Time after which a removal of more is taken if it is repeated.
pub const PLUGIN_HOLD_MS: u64 = 30_000;
/// First pause before a plugin that failed is started again; it doubles each time.
pub const PLUGIN_RESTART_MS_MIN: u64 = 1_000;
/// Longest such pause.
pub const PLUGIN_RESTART_MS_MAX: u64 = 60_000;
/// Restarts within [`PLUGIN_RESTART_WINDOW_MS`]; then the plugin stays down.
pub const PLUGIN_RESTARTS_MAX: usize = 5;
/// See [`PLUGIN_RESTARTS_MAX`].
pub const PLUGIN_RESTART_WINDOW_MS: u64 = 600_000;
/// Time during which the version before a new one is kept open, to go back to.
pub const PLUGIN_PROBATION_MS: u64 = 600_000;
/// How long a plugin's file that failed is not tried again.
pub const PLUGIN_QUARANTINE_MS: u64 = 600_000;
/// Files in quarantine; beyond them the one that is longest there is tried again.
pub const PLUGIN_QUARANTINE_MAX: usize = 64;

const _: () = {
    assert!(
        PLUGIN_MEMORY_MIN < PLUGIN_MEMORY_DEFAULT && PLUGIN_MEMORY_DEFAULT <= PLUGIN_MEMORY_MAX
    );
    assert!(PLUGIN_STATE_BYTES_MAX as u64 <= PLUGIN_MESSAGE_BYTES_DEFAULT);
    assert!(PLUGIN_EVENT_MS_DEFAULT < PLUGIN_OPEN_MS && PLUGIN_OPEN_MS < PLUGIN_REPLY_MS);
    assert!(PLUGIN_RESTART_MS_MIN < PLUGIN_RESTART_MS_MAX);
    assert!(PLUGIN_HTTP_PART_BYTES_MAX < PLUGIN_HTTP_BODY_BYTES_DEFAULT);
    assert!(PLUGIN_HTTP_BODY_BYTES_DEFAULT < PLUGIN_HTTP_BODY_BYTES_MAX);
    assert!(TICKETS_KEPT.is_power_of_two());
    assert!(LANE_SLOTS.is_power_of_two() && RPC_LANE_SLOTS.is_power_of_two());
    assert!(LANE_SLOTS_MAX >= LANE_SLOTS && LANE_SLOTS >= RPC_LANE_SLOTS);
    assert!((PUBLISH_EVERY as usize) < RPC_LANE_SLOTS && LANE_BATCH < RPC_LANE_SLOTS);
    assert!(LANE_REFUSALS.is_power_of_two());
    assert!(FILL_WAITING_MAX >= 3 * LANE_SLOTS && FILL_BATCH <= LANE_BATCH);
    assert!(IN_SYNC_MAX + COPIES_MAX <= u8::MAX as usize);
    assert!(SHARDS_MAX.is_power_of_two());
    assert!(MEMBERS_MAX * SHARDS_MAX as usize <= u16::MAX as usize);
    assert!(1 << PARTITION_BITS_MAX <= u16::MAX as usize + 1);
    assert!(PARTITION_BITS_DEFAULT <= PARTITION_BITS_MAX);
    assert!((LOG_ENTRY_BYTES_MAX as u32) < PAYLOAD_BYTES_MAX);
    assert!(APPEND_BYTES_MAX + LOG_ENTRY_BYTES_MAX < LOG_MESSAGE_BYTES_MAX);
    assert!(LOG_MESSAGE_BYTES_MAX < PAYLOAD_BYTES_MAX as usize);
    assert!(SNAPSHOT_CHUNK_BYTES < LOG_ENTRY_BYTES_MAX);
    // All names, each with its length, all assignments and all members.
    assert!(
        SYMBOLS_MAX as usize * (SYMBOL_NAME_BYTES_MAX + 1)
            + (1 << PARTITION_BITS_MAX) * (10 + 5 * COPIES_MAX)
            + MEMBERS_MAX * 1024
            < SNAPSHOT_BYTES_MAX
    );
    assert!(PROPOSAL_BYTES_MAX >= 2 * LOG_ENTRY_BYTES_MAX);
    assert!(RANGE_ROWS_MAX * 64 < PAYLOAD_BYTES_MAX as usize);
    assert!((RPC_LANE_SLOTS * 64) < PAYLOAD_BYTES_MAX as usize);
    assert!(CONNECTION_QUEUE_BYTES_MAX > PAYLOAD_BYTES_MAX as usize);
    assert!(INTERN_BATCH_MAX * SYMBOL_NAME_BYTES_MAX < LOG_ENTRY_BYTES_MAX);
    assert!(SEGMENT_ROWS_MIN.is_power_of_two() && SEGMENT_ROWS_MAX.is_power_of_two());
    assert!(SEGMENT_ROWS_MIN >= STAGED_ROWS && SEGMENT_ROWS_MIN <= SEGMENT_ROWS_MAX);
    assert!(CSV_BUFFER_BYTES >= 2 * CSV_LINE_BYTES_MAX);
    // A record says its length in four-byte words, in one byte.
    assert!(DBN_BUFFER_BYTES >= 2 * 4 * u8::MAX as usize);
    assert!(SYMBOL_NAME_BYTES_MAX + FEED_FIELD_CLIP_BYTES < CSV_LINE_BYTES_MAX);
    assert!(PING_AFTER_MS * 3 <= PING_DEAD_MS);
    assert!(ADMIN_HEADER_TIMEOUT_MS < ADMIN_CONNECTION_MS);
    assert!(CONNECT_TIMEOUT_MS < HELLO_TIMEOUT_MS);
    assert!(SECRET_REREAD_PAUSE_MS * 2 < HELLO_TIMEOUT_MS);
    assert!(SECRET_KEYS_MAX * SECRET_KEY_CHARACTERS_MAX < SECRET_FILE_BYTES_MAX as usize);
    assert!(HELLO_EXTRA_BYTES_MAX + HOST_IDENTITY_BYTES_MAX + 512 < HELLO_BYTES_MAX as usize);
    assert!(LANE_FRAME_SLOTS_MAX <= RPC_LANE_SLOTS && LANE_FRAME_SLOTS_MAX.is_power_of_two());
    assert!(CONNECTION_QUEUE_FRAMES_MAX > REQUESTS_PER_CONNECTION_MAX);
    assert!(ANSWER_BYTES_MAX > PAYLOAD_BYTES_MAX as usize);
    assert!(RECONNECT_MIN_MS <= RECONNECT_MAX_MS && RECONNECT_MAX_MS <= PING_DEAD_MS);
};
