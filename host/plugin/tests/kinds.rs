//! A recorded log of events, replayed into the migration strategy and the snapshot hook that come
//! with zepto, in both targets: the replies are the same, and those that were expected.
#![expect(clippy::unwrap_used, reason = "tests, and clippy sees them only in #[test] functions")]

mod common;

use common::{StillEnv, loader, setting, stock};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;
use zepto_abi::plugin::{
    EV_MIG_PLAN, EV_MIG_RESULT, EV_SNAP_ABORT, EV_SNAP_BEGIN, EV_SNAP_COMMIT, EV_SNAP_RESTORE,
    NODE_ACTIVE, NODE_LEAVING, NODE_SUSPECT, PARTITION_COPYING, PARTITION_PINNED, PluginStatus,
    REASON_JOINED, REASON_LEAVING, REASON_LOAD,
};
use zepto_message::{NodeLoad, Partition, Plan, PlanRequest, Snap};
use zepto_plugin::config::Limits;
use zepto_plugin::context::Effect;
use zepto_plugin::file::Target;
use zepto_plugin::kv::Kv;
use zepto_plugin::runner::{Delivery, Opening, Runner};
use zepto_plugin::vet::{Question, vet_plan};

/// One delivery of a log, after a pause, and what came of it.
struct Step {
    after: Duration,
    delivery: Delivery,
    expected: String,
}

fn step(after_s: u64, delivery: Delivery, expected: &str) -> Step {
    let after = Duration::from_secs(after_s);
    Step { after, delivery, expected: expected.to_owned() }
}

/// Replays a log into a plugin in each of its targets. What comes of a delivery is told as text by
/// `tell`, from the status and the bytes of its reply, and the number of the step.
fn replay(
    name: &str,
    config: &str,
    log: &[Step],
    tell: impl Fn(usize, i32, &[u8]) -> String,
    metrics: &[(&str, i64)],
) {
    let mut replayed = 0;
    for (generation, file) in (0..).zip(stock(name)) {
        let env = Arc::new(StillEnv::default());
        let setting = setting(&["metric"], Limits::default(), &env);
        let loaded = loader().load(&file, &setting).unwrap();
        assert_eq!(loaded.info.name, name);
        let mut runner = Runner::new(&loaded, setting, generation, Kv::default()).unwrap();
        runner.open(&Opening { config: config.into(), ..Opening::default() }).unwrap();
        let started = runner.deliver(&Delivery::start()).unwrap();
        assert_eq!((started.status, started.effects.len()), (Some(0), 0));
        for (number, step) in log.iter().enumerate() {
            env.advance(step.after);
            let done = runner.deliver(&step.delivery).unwrap();
            let told = match &done.effects[..] {
                [] => PluginStatus::from_code(done.status.unwrap()).unwrap().text().to_owned(),
                [Effect::Reply { status, bytes, .. }] => {
                    let told = tell(number, *status, bytes);
                    let error = runner.tally().error;
                    if *status < 0 { format!("{told}: {error}") } else { told }
                }
                more => panic!("{more:?}"),
            };
            assert_eq!(told, step.expected, "step {number} of {:?}", file.target);
        }
        for (metric, value) in metrics {
            assert_eq!(runner.tally().metrics.get(*metric), Some(value), "{metric}");
        }
        assert!(runner.tally().refusals.is_empty(), "{:?}", runner.tally().refusals);
        runner.close(Duration::from_millis(50));
        replayed += 1;
    }
    println!("{name}: {} deliveries in {replayed} targets", log.len());
    assert!(replayed == stock(name).count());
}

/// Zone, used bytes, capacity, state and weight of each node.
type Nodes = [(&'static str, u64, u64, u8, u32)];
/// Number, bytes, owner and flags of each partition.
type Partitions = [(u64, u64, u32, u32)];

/// The questions of a cluster that gets a third node, fills up, and loses its first.
const JOINED: &Nodes = &[
    ("a", 900, 2000, NODE_ACTIVE, 100),
    ("b", 300, 2000, NODE_ACTIVE, 100),
    ("a", 0, 2000, NODE_ACTIVE, 100),
];
const SPREAD: &Partitions = &[
    (1, 300, 0, 0),
    (2, 250, 0, 0),
    (3, 150, 0, PARTITION_PINNED),
    (4, 200, 0, 0),
    (5, 100, 1, 0),
    (6, 100, 1, PARTITION_COPYING),
    (7, 100, 1, 0),
];
const FULL: &Nodes = &[
    ("a", 900, 2000, NODE_ACTIVE, 100),
    ("b", 300, 300, NODE_ACTIVE, 100),
    ("a", 0, 220, NODE_ACTIVE, 300),
];
const LEAVING: &Nodes = &[
    ("a", 900, 2000, NODE_LEAVING, 100),
    ("b", 300, 2000, NODE_ACTIVE, 100),
    ("a", 0, 2000, NODE_ACTIVE, 200),
];
const NOBODY: &Nodes = &[
    ("a", 900, 2000, NODE_LEAVING, 100),
    ("b", 300, 2000, NODE_SUSPECT, 100),
    ("a", 0, 2000, NODE_ACTIVE, 0),
];
const EMPTY: &Partitions = &[(1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0), (4, 0, 0, 0), (5, 0, 1, 0)];

fn ask(index: u64, reason: u32, max_moves: u32, nodes: &Nodes, some: &Partitions) -> Vec<u8> {
    let ids = ["n0", "n1", "n2"];
    let node = |(id, &(zone, used_bytes, capacity_bytes, state, weight))| NodeLoad {
        id,
        zone,
        used_bytes,
        capacity_bytes,
        cpu_micro: 250_000,
        state,
        weight,
    };
    let partition =
        |&(id, bytes, owner, flags)| Partition { id, bytes, ticks_per_s: 10, owner, flags };
    let request = PlanRequest {
        index,
        reason,
        max_moves,
        nodes: ids.into_iter().zip(nodes).map(node).collect(),
        partitions: some.iter().map(partition).collect(),
    };
    request.write()
}

#[test]
fn the_migration_strategy_gives_the_expected_plans_in_both_targets() {
    let questions = [
        (
            ask(10, REASON_JOINED, 8, JOINED, SPREAD),
            "10: 1 from 0 to 2 (3), 4 from 0 to 1 (2), 5 from 1 to 2 (1)",
        ),
        (ask(11, REASON_LOAD, 0, JOINED, SPREAD), "11:"),
        (ask(12, REASON_LOAD, 8, FULL, SPREAD), "12: 4 from 0 to 2 (1)"),
        (
            ask(13, REASON_LEAVING, 8, LEAVING, SPREAD),
            "13: 1 from 0 to 2 (3), 2 from 0 to 2 (2), 4 from 0 to 2 (1)",
        ),
        (ask(14, REASON_LEAVING, 1, LEAVING, SPREAD), "14: 1 from 0 to 2 (1)"),
        (ask(15, REASON_LEAVING, 8, NOBODY, SPREAD), "15:"),
        (ask(16, REASON_JOINED, 8, JOINED, EMPTY), "16: 1 from 0 to 2 (2), 2 from 0 to 1 (1)"),
    ];
    let question = |(bytes, expected): &(Vec<u8>, &str)| {
        step(60, Delivery::question(EV_MIG_PLAN, bytes.clone()), expected)
    };
    let mut log: Vec<Step> = questions.iter().map(question).collect();
    log.push(step(1, Delivery::notice(EV_MIG_RESULT, 1, 0, Vec::new()), "ok"));
    let tell = |number: usize, status: i32, bytes: &[u8]| {
        assert_eq!(status, 0);
        let request = PlanRequest::read(&questions[number].0, 100).unwrap();
        let plan: Plan = vet_plan(&Question::of(&request), bytes).unwrap();
        let moves = plan.moves.iter().map(|one| {
            format!(" {} from {} to {} ({})", one.partition, one.from, one.to, one.priority)
        });
        format!("{}:{}", plan.index, moves.collect::<Vec<_>>().join(","))
    };
    replay("migrate-steady", "", &log, tell, &[]);
}

fn snap(id: u64, label: &str) -> Vec<u8> {
    Snap { snapshot_id: id, index: 7, uri: "file:///snap", label, ..Snap::default() }.write()
}

#[test]
fn the_snapshot_hook_vetoes_by_the_time_of_day_in_both_targets() {
    // It begins at 22:13:20.
    let config =
        r#"{"windows": [{"from": "08:00", "to": "16:30"}, {"from": "23:00", "to": "01:00"}]}"#;
    let begin = |id| Delivery::question(EV_SNAP_BEGIN, snap(id, "hourly"));
    let restore = |id, label| Delivery::question(EV_SNAP_RESTORE, snap(id, label));
    let canceled = PluginStatus::Canceled.code();
    let log = [
        step(0, begin(1), "taken"),
        step(5, Delivery::notice(EV_SNAP_COMMIT, 0, 0, snap(1, "hourly")), "ok"),
        // 22:59:59, 23:00:00 and 00:59:59.
        step(2794, begin(2), "taken"),
        step(0, Delivery::notice(EV_SNAP_ABORT, 0, canceled, snap(2, "hourly")), "ok"),
        step(1, begin(3), "not allowed now: no snapshot until 01:00 UTC (not allowed now)"),
        step(7199, begin(4), "not allowed now: no snapshot until 01:00 UTC (not allowed now)"),
        step(1, begin(5), "taken"),
        step(5, Delivery::notice(EV_SNAP_COMMIT, 0, 0, snap(5, "hourly")), "ok"),
        // 10:00:00 and 16:30:00.
        step(32_395, begin(6), "not allowed now: no snapshot until 16:30 UTC (not allowed now)"),
        step(0, restore(5, "hourly"), "taken"),
        step(
            0,
            restore(1, "quarantine-2023"),
            "not allowed now: snapshot \"quarantine-2023\" is in quarantine (not allowed now)",
        ),
        step(23_400, begin(7), "taken"),
    ];
    let tell = |_, status: i32, bytes: &[u8]| {
        assert!(bytes.is_empty());
        let status = PluginStatus::from_code(status).unwrap();
        if status == PluginStatus::Ok { "taken".to_owned() } else { status.text().to_owned() }
    };
    let metrics = [("snapshot_done", 2), ("snapshot_aborted", 1)];
    replay("snapshot-veto", config, &log, tell, &metrics);
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_what_to_write() {
    for (name, config, text) in [
        ("migrate-steady", r#"{"max": 1}"#, "there is nothing to configure"),
        ("snapshot-veto", r#"{"window": []}"#, "write {\"windows\": [{\"from\": \"08:00\""),
        ("snapshot-veto", r#"{"windows": [{"from": "8", "to": "9"}]}"#, "no time of day in UTC"),
    ] {
        for file in stock(name) {
            let env = Arc::new(StillEnv::default());
            let setting = setting(&[], Limits::default(), &env);
            assert!(matches!(file.target, Target::Wasm | Target::Native));
            let loaded = loader().load(&file, &setting).unwrap();
            let mut runner = Runner::new(&loaded, setting, 1, Kv::default()).unwrap();
            let opening = Opening { config: config.into(), ..Opening::default() };
            let error = runner.open(&opening).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}

#[test]
fn a_large_cluster_is_planned_for_in_a_moment() {
    for file in stock("migrate-steady") {
        let env = Arc::new(StillEnv::default());
        // The machine may be busy with other tests; how long it took is told, and not checked.
        let limits = Limits { event: Duration::from_secs(2), ..Limits::default() };
        let setting = setting(&[], limits, &env);
        let loaded = loader().load(&file, &setting).unwrap();
        let mut runner = Runner::new(&loaded, setting, 1, Kv::default()).unwrap();
        runner.open(&Opening::default()).unwrap();
        let node = |at: u64| NodeLoad {
            id: "n",
            capacity_bytes: u64::MAX,
            weight: 100,
            state: if at < 3 { NODE_LEAVING } else { NODE_ACTIVE },
            ..NodeLoad::default()
        };
        // Most of them on the first half of the nodes.
        let partition = |id: u64| {
            let owner = (id * id % if id.is_multiple_of(5) { 100 } else { 50 }) as u32;
            Partition { id, bytes: 1 << (id % 30), owner, ..Partition::default() }
        };
        let request = PlanRequest {
            index: 1,
            max_moves: 256,
            nodes: (0..100).map(node).collect(),
            partitions: (0..8192).map(partition).collect(),
            ..PlanRequest::default()
        };
        #[expect(clippy::disallowed_methods, reason = "it tells how long it took")]
        let begun = Instant::now();
        let done = runner.deliver(&Delivery::question(EV_MIG_PLAN, request.write())).unwrap();
        let took = begun.elapsed();
        let [Effect::Reply { status: 0, bytes, .. }] = &done.effects[..] else {
            panic!("{done:?}");
        };
        let plan = vet_plan(&Question::of(&request), bytes).unwrap();
        println!("{:?}: {} moves in {took:?}", loaded.target(), plan.moves.len());
        assert_eq!(plan.moves.len(), 256);
    }
}
