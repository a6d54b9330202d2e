//! The simulator as a test: thousands of schedules, the corpus, determinism, and the detector.
//!
//! `ZEPTO_SIM_SCHEDULES` sets how many schedules of each focus are run (600), `ZEPTO_SIM_SEED` the
//! first seed. With `--features defects`, planted defects are run too.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use zepto_core::detect::Profile;
use zepto_tests::sim::detection::{self, Conditions};
use zepto_tests::sim::plan::Focus;
use zepto_tests::sim::run;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Runs schedules of a focus and fails with everything needed to replay the first that broke.
fn holds(focus: Focus) {
    let first = setting("ZEPTO_SIM_SEED", 0);
    for seed in first..first + setting("ZEPTO_SIM_SCHEDULES", 600) {
        let outcome = run(seed, Some(focus));
        if let Some(failure) = outcome.failure {
            let name = focus.name();
            panic!(
                "{failure}\nreplay: cargo run -p zepto-tests --bin sim -- --focus {name} --replay {seed}"
            );
        }
    }
}

macro_rules! every_guarantee_holds {
    ($($name:ident: $focus:ident,)*) => {$(
        #[test]
        fn $name() {
            holds(Focus::$focus);
        }
    )*};
}

every_guarantee_holds! {
    guarantees_hold_when_owners_crash_and_sleep: Failover,
    guarantees_hold_when_replicas_crash_stall_and_are_accused: Replicas,
    guarantees_hold_when_views_come_late: Views,
    guarantees_hold_when_producers_lanes_break: Lanes,
    guarantees_hold_when_refusals_pile_up: Refusals,
    guarantees_hold_when_the_store_is_full: Overload,
    guarantees_hold_when_partitions_move: Moves,
    guarantees_hold_when_the_only_copy_crashes: OneCopy,
    guarantees_hold_when_an_owner_goes_while_a_copy_lags: Laggards,
    guarantees_hold_when_anybody_sleeps_for_an_hour: Sleep,
    guarantees_hold_when_everything_happens_at_once: Mixed,
}

/// Schedules that once broke: the story of each file, focus and seed.
fn corpus() -> Vec<(String, Focus, u64)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = corpus.read_dir().expect("the corpus");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut seeds = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a text");
        let (story, rest) = text.split_once('\n').expect("a story in the first line");
        let story = format!("{}: {story}", file.display());
        for line in rest.lines().filter(|line| !line.is_empty()) {
            let (focus, seed) = line.split_once(' ').expect("a focus and a seed");
            let focus = Focus::named(focus).expect("a focus");
            seeds.push((story.clone(), focus, seed.parse().expect("a seed")));
        }
    }
    seeds
}

#[test]
fn every_seed_of_the_corpus_holds() {
    let corpus = corpus();
    assert!(!corpus.is_empty());
    for (story, focus, seed) in corpus {
        assert_eq!(run(seed, Some(focus)).failure, None, "{story}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_twice_and_in_another_process() {
    let seeds = 40;
    let arguments = ["--seed", "0", "--schedules", "40", "--trace", "--failures", "1000"];
    let other = Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().unwrap();
    let other = String::from_utf8(other.stdout).unwrap();
    for seed in 0..seeds {
        let (first, second) = (run(seed, None), run(seed, None));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        let hash = format!("hash {:016x}", first.hash);
        let line = other.lines().find(|line| line.starts_with(&format!("seed {seed} ")));
        assert!(line.is_some_and(|line| line.ends_with(&hash)), "seed {seed}: {hash}, {line:?}");
    }
}

#[test]
fn different_seeds_give_different_traces() {
    let hashes: std::collections::BTreeSet<u64> =
        (0..100).map(|seed| run(seed, None).hash).collect();
    assert_eq!(hashes.len(), 100);
}

const LOSSY: Conditions = Conditions {
    nodes: 5,
    profile: Profile::FAST,
    loss_ppm: 50_000,
    delay_ms_max: 100,
    pause_every_ms: 20_000,
    pause_ms: 500,
    hours: 0,
};

#[test]
fn half_a_second_of_pause_and_lost_packets_accuse_nobody() {
    let node_hours = setting("ZEPTO_SIM_NODE_HOURS", 1_000);
    let conditions = Conditions { hours: node_hours / 5, ..LOSSY };
    let report = detection::false_accusations(1, conditions);
    let (confirmed, hours) = (report.false_confirmations, report.node_hours);
    let accused: u64 = report.false_accusations.iter().sum();
    println!("{confirmed} false confirmations of {accused} accusations in {hours} node-hours");
    assert!(confirmed <= hours / 10_000, "{confirmed} in {hours} node-hours");
}

#[test]
fn a_crashed_node_is_accused_within_the_profiles_time() {
    for (profile, within_ms) in [(Profile::FAST, 2_500), (Profile::DEFAULT, 12_000)] {
        let conditions = Conditions { profile, pause_every_ms: 0, ..LOSSY };
        let mut report = detection::detection_times(7, conditions, 500);
        report.detected_ms.sort_unstable();
        assert_eq!(report.detected_ms.len(), 500 * 4, "every observer accuses it, once");
        let p99 = report.detected_ms[report.detected_ms.len() * 99 / 100];
        println!("{profile:?}: accused within {p99} ms in 99 % of cases");
        assert!(p99 <= within_ms, "{p99} ms");
        assert_eq!(report.false_confirmations, 0);
    }
}

#[test]
fn an_observer_that_slept_accuses_nobody() {
    for seed in 0..2_000 {
        for profile in [Profile::FAST, Profile::DEFAULT] {
            detection::paused_observer(seed, profile).unwrap_or_else(|failure| {
                panic!("seed {seed}: {failure}");
            });
        }
    }
}

/// Every planted defect is caught within its budget, or the simulator is not to be believed.
#[cfg(feature = "defects")]
#[test]
fn every_planted_defect_is_caught() {
    use zepto_core::defect::{Defect, plant};
    // Assertions of the code under test are expected to fail here; their output would drown ours.
    std::panic::set_hook(Box::new(|_| {}));
    let budget = setting("ZEPTO_SIM_BUDGET", 2_000);
    let (corpus, mut missed) = (corpus(), Vec::new());
    for &defect in Defect::ALL {
        plant(Some(defect));
        let known = corpus.iter().find_map(|(_, focus, seed)| {
            let failure = run(*seed, Some(*focus)).failure?;
            Some((*seed, failure))
        });
        let found = known.or_else(|| {
            (0..budget).find_map(|seed| {
                let slept = detection::paused_observer(seed, Profile::FAST).err();
                let failure = slept.or_else(|| run(seed, None).failure)?;
                Some((seed, failure))
            })
        });
        plant(None);
        match found {
            Some((seed, failure)) => println!("{defect:?}: seed {seed}, {failure}"),
            None => missed.push(defect),
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not caught within {budget} schedules: {missed:?}");
}
