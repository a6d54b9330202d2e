//! Every decoder on hostile bytes, within the memory that its input may cost.
//!
//! One test per target, on its seeds and some ten thousand mutations of them, always the same. The
//! tests take turns, since what is allocated is counted for the process.

use std::alloc::System;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use zepto_fuzz::{TARGETS, Target, runner};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const EXECUTIONS: u64 = 30_000;
/// What the test harness may allocate meanwhile, and the text of an assertion's panic.
const ELSEWHERE_BYTES: usize = 256 << 10;

static TURN: Mutex<()> = Mutex::new(());

/// Runs a target on an input and checks what it allocated.
fn run_within_bounds(target: &Target, input: &[u8]) {
    let region = Region::new(ALLOCATOR);
    (target.run)(input);
    let allocated = region.change().bytes_allocated;
    let allowed = target.bytes_allowed(input.len()) + ELSEWHERE_BYTES;
    let bytes = input.len();
    assert!(allocated <= allowed, "{allocated} bytes for an input of {bytes}, {allowed} allowed");
}

/// Inputs that failed once and must not fail again.
fn regressions(target: &Target) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target.name);
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

#[track_caller]
fn holds(name: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    for input in regressions(target) {
        run_within_bounds(target, &input);
    }
    let round = runner::round(target, 1, EXECUTIONS, |input, _| run_within_bounds(target, input));
    if let Err(failed) = round {
        let runner::Failed { execution, input } = failed;
        panic!("{name}: execution {execution} failed, its input is {input:02x?}");
    }
}

macro_rules! targets {
    ($(fn $test:ident() = $name:literal;)*) => {
        $(
            #[test]
            fn $test() {
                holds($name);
            }
        )*

        #[test]
        fn every_target_has_its_test() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

targets! {
    fn any_text_is_a_configuration_or_an_error_that_says_where() = "config";
    fn any_line_of_a_csv_feed_is_a_row_or_is_counted() = "csv";
    fn any_record_of_a_dbn_feed_is_a_row_or_is_counted() = "dbn";
    fn any_entry_of_the_log_is_refused_or_keeps_the_rules_of_the_topology() = "entry";
    fn any_stream_is_frames_or_an_error_however_it_is_chopped() = "frame";
    fn any_grant_limit_or_url_is_what_it_prints_or_an_error() = "grant";
    fn any_packet_is_a_heartbeat_that_could_have_been_sent_or_an_error() = "heartbeat";
    fn any_hand_shake_is_one_within_its_limits_or_an_error() = "hello";
    fn any_payload_of_a_lane_keeps_its_rules_or_ends_it() = "lane";
    fn a_receiver_survives_any_memory_of_its_sender() = "mailbox_receiver";
    fn a_sender_keeps_its_window_whatever_its_receiver_writes() = "mailbox_sender";
    fn any_message_comes_back_the_same_or_is_an_error() = "message";
    fn any_file_is_a_plugin_or_refused_before_it_runs() = "plugin_file";
    fn any_message_of_a_plugin_is_vetted_as_a_whole_or_refused() = "plugin_message";
    fn any_slot_is_a_tick_a_known_record_or_an_error() = "slot";
    fn any_message_over_ucx_changes_what_it_may_or_nothing() = "ucx_message";
    fn any_ticket_of_a_region_is_what_it_encodes_to_or_an_error() = "ucx_ticket";
}

#[test]
fn every_target_has_seeds_that_it_takes_as_they_are() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        seeds.iter().for_each(|seed| (target.run)(seed));
    }
}
