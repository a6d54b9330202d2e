//! Discovery by Kubernetes, from the API server's wire to the nodes that the host takes: what it
//! promises when all is well, and what stands when it is not.

mod common;
#[path = "kubernetes/mod.rs"]
mod kubernetes;

use core::time::Duration;
use kubernetes::Node;
use serde_json::json;
use zepto_apiserver::{Authority, Double, Mood, Pod, Resource, Seen, Slice};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.first";

/// The pods of a stateful set, from one to before another.
fn pods(range: core::ops::Range<usize>) -> Slice {
    Slice::of(range.map(Pod::nth))
}

/// A double with `zepto-0` to `zepto-4`, and the first of them, which has found the others.
async fn five() -> (Double, Node) {
    let double = Double::start(TOKEN, &[("zepto-x2x9k", pods(0..5))]).await;
    let mut node = Node::start(&double).await;
    node.wait_others(&FOUR).await;
    watches(&double, 1).await;
    (double, node)
}

const FOUR: [&str; 4] = ["zepto-1", "zepto-2", "zepto-3", "zepto-4"];
const FIVE: [&str; 5] = ["zepto-1", "zepto-2", "zepto-3", "zepto-4", "zepto-5"];

/// Waits until so many watches have begun, and gives the version that each began after.
async fn watches(double: &Double, count: usize) -> Vec<String> {
    let seen = double.wait_code(true, 200, count).await;
    seen.into_iter().filter(|seen| seen.is_watch && seen.code == 200).map(|s| s.version).collect()
}

fn lists(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| !seen.is_watch && seen.code == 200 && seen.more.is_empty()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_behind_the_service_are_found_over_tls_with_the_token() {
    let v6 = [Pod::new("zepto-1", "fd00::1"), Pod::new("zepto-3", "fd00::3")];
    let slices = [
        ("other-abcde", Slice::of([Pod::new("other-0", "10.244.9.9")]).of_service("other")),
        ("zepto-6q7wz", Slice::of(v6).ipv6()),
        ("zepto-8m4rt", pods(2..3)),
        ("zepto-x2x9k", pods(0..2)),
    ];
    let double = Double::start(TOKEN, &slices).await;
    let mut node = Node::start(&double).await;
    let nodes = node.wait_others(&["zepto-1", "zepto-2", "zepto-3"]).await;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address()).collect();
    assert_eq!(addresses, ["10.244.0.1:9000", "10.244.0.2:9000", "[fd00::3]:9000"]);
    let meta: serde_json::Value = serde_json::from_str(&nodes[0].meta).unwrap();
    assert_eq!(meta["zone"], "eu-central-1a");
    assert_eq!(meta["uid"].as_str().map(str::len), Some(36));
    let version = double.store().version().to_string();
    assert_eq!(watches(&double, 1).await, [version]);
    let first = &double.seen()[0];
    assert_eq!((first.resource, first.limit), (Some(Resource::EndpointSlices), 500));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_comes_and_one_that_goes_are_told_by_the_watch() {
    let (double, mut node) = five().await;
    double.put("zepto-x2x9k", pods(0..6));
    node.wait_others(&FIVE).await;
    double.put("zepto-8m4rt", pods(6..7));
    node.wait_count(6).await;
    double.remove("zepto-8m4rt");
    node.wait_others(&FIVE).await;
    double.put("zepto-x2x9k", pods(0..5));
    node.wait_others(&FOUR).await;
    assert_eq!((double.seen().len(), lists(&double.seen())), (2, 1), "one list, one watch");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_source_as_a_library_behaves_the_same() {
    let Some(library) = common::stock_library("k8s") else { return };
    let double = Double::start(TOKEN, &[("zepto-x2x9k", pods(0..5))]).await;
    let pem = double.authority.pem.clone();
    let mut node = Node::start_as(library, &double, &pem, TOKEN, &json!({})).await;
    node.wait_others(&FOUR).await;
    watches(&double, 1).await;
    double.put("zepto-x2x9k", pods(0..6));
    node.wait_others(&FIVE).await;
    double.expire_watches();
    watches(&double, 2).await;
    double.put("zepto-x2x9k", pods(0..5));
    node.wait_others(&FOUR).await;
    assert_eq!(lists(&double.seen()), 2, "once more after 410");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_are_not_ready_and_pods_that_end_are_no_nodes() {
    let mut slice = pods(0..5);
    slice.pods.extend([Pod::nth(5).not_ready(), Pod::nth(6).terminating()]);
    let double = Double::start(TOKEN, &[("zepto-x2x9k", slice.clone())]).await;
    let mut node = Node::start(&double).await;
    node.wait_others(&FOUR).await;
    slice.pods[5] = Pod::nth(5);
    double.put("zepto-x2x9k", slice.clone());
    node.wait_others(&FIVE).await;
    slice.pods[5] = Pod::nth(5).terminating();
    double.put("zepto-x2x9k", slice.clone());
    node.wait_others(&FOUR).await;
    slice.pods[4] = Pod::nth(4).not_ready();
    double.put("zepto-x2x9k", slice);
    node.wait_others(&FOUR[..3]).await;
    node.stop().await;
}

/// A double with so many slices of so many pods each.
async fn many(slices: usize, each: usize, pod: impl Fn(usize) -> Pod) -> Double {
    let named: Vec<(String, Slice)> = (0..slices)
        .map(|n| (format!("zepto-{n:05}"), Slice::of((n * each..(n + 1) * each).map(&pod))))
        .collect();
    let named: Vec<(&str, Slice)> =
        named.iter().map(|(name, slice)| (name.as_str(), slice.clone())).collect();
    Double::start(TOKEN, &named).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_comes_in_pages() {
    let double = many(1_200, 1, Pod::nth).await;
    let mut node = Node::start(&double).await;
    node.wait_count(1_199).await;
    watches(&double, 1).await;
    let seen = double.seen();
    let pages: Vec<&str> = seen[..3].iter().map(|page| page.more.as_str()).collect();
    let version = double.store().version();
    let want = [String::new(), format!("v1/{version}+500=="), format!("v1/{version}+1000==")];
    assert_eq!(pages, want);
    assert!(seen[..3].iter().all(|page| page.limit == 500));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_expires_between_two_pages_begins_anew() {
    let double = many(501, 1, Pod::nth).await;
    double.store().lists = Mood::Expires;
    let mut node = Node::start(&double).await;
    double.wait_code(false, 410, 2).await;
    assert!(node.others().is_empty(), "a part of a list is no answer");
    double.store().lists = Mood::Well;
    node.wait_count(500).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_nodes_fit_into_the_usual_limits() {
    let double = many(100, 100, Pod::nth).await;
    let mut node = Node::start(&double).await;
    node.wait_count(9_999).await;
    watches(&double, 1).await;
    assert!(double.seen().iter().any(|seen| seen.limit < 500), "shorter pages");
    double.put("zepto-00001", Slice::of((100..199).map(Pod::nth)));
    node.wait_count(9_998).await;
    node.resync().await;
    watches(&double, 2).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_no_answer_and_ends_nothing() {
    let long = |n: usize| Pod::new(&format!("{}-{n}", "x".repeat(100)), &Pod::nth(n).address);
    let double = many(80, 100, long).await;
    let mut node = Node::start(&double).await;
    double
        .wait_seen("a list after a complete one", |seen| {
            let whole = seen.iter().filter(|seen| !seen.is_watch && seen.more.is_empty());
            whole.filter(|seen| seen.limit < 30).count() >= 3
        })
        .await;
    assert!(node.others().is_empty());
    for n in 40..80 {
        double.remove(&format!("zepto-{n:05}"));
    }
    node.wait_count(4_000).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookmarks_keep_the_position_over_a_stream_that_ends() {
    let (double, mut node) = five().await;
    double.store().pass(500);
    double.bookmark();
    let position = double.store().version().to_string();
    double.store().compact();
    double.end_watches();
    assert_eq!(watches(&double, 2).await[1], position);
    double.put("zepto-x2x9k", pods(0..6));
    node.wait_others(&FIVE).await;
    assert_eq!(lists(&double.seen()), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_is_too_old_is_listed_anew() {
    let (double, mut node) = five().await;
    double.put_unseen("zepto-x2x9k", pods(0..6));
    double.store().compact();
    double.end_watches();
    node.wait_others(&FIVE).await;
    let versions = watches(&double, 3).await;
    assert_eq!(versions[0], versions[1], "where the first ended, and that is too old");
    assert_eq!(versions[2], double.store().version().to_string());
    assert_eq!(lists(&double.seen()), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_within_a_line_goes_on_where_the_last_whole_one_ended() {
    let (double, mut node) = five().await;
    double.put("zepto-8m4rt", pods(5..6));
    node.wait_others(&FIVE).await;
    let position = double.store().version().to_string();
    double.put_and_break("zepto-7p3vn", pods(6..7));
    node.wait_count(6).await;
    assert_eq!(watches(&double, 2).await[1], position);
    assert_eq!(lists(&double.seen()), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_is_in_the_next_request() {
    let (double, mut node) = five().await;
    "second".clone_into(&mut double.store().token);
    double.put_unseen("zepto-x2x9k", pods(0..6));
    double.end_watches();
    double.wait_code(true, 401, 2).await;
    assert_eq!(node.others(), FOUR);
    node.rotate_token("second\n");
    node.wait_others(&FIVE).await;
    assert_eq!(lists(&double.seen()), 1, "the watch went on");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_within_a_watch_is_listed_anew() {
    for garbage in ["garbage\n", "{}\n", "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"}}\n"] {
        let (double, mut node) = five().await;
        double.put_unseen("zepto-x2x9k", pods(0..6));
        double.say(garbage);
        node.wait_others(&FIVE).await;
        assert_eq!(lists(&double.seen()), 2);
        node.stop().await;
    }
}

/// Lists go wrong in some way: the last good answer stands, and what comes later is found.
async fn lists_that_go_wrong_change_nothing(mood: Mood, code: u16) {
    let double = Double::start(TOKEN, &[("zepto-x2x9k", pods(0..5))]).await;
    let more = json!({"list_timeout_ms": 300});
    let mut node = Node::start_with(&double, &double.authority.pem, TOKEN, &more).await;
    node.wait_others(&FOUR).await;
    watches(&double, 1).await;
    double.store().lists = mood;
    double.expire_watches();
    let before = lists(&double.seen());
    let went_wrong = |seen: &&Seen| !seen.is_watch && seen.code == code;
    double
        .wait_seen("lists that go wrong", |seen| {
            let before = if code == 200 { before } else { 0 };
            seen.iter().filter(went_wrong).count() >= before + 3
        })
        .await;
    assert_eq!(node.others(), FOUR, "the last good answer stands");
    double.put("zepto-x2x9k", pods(0..6));
    double.store().lists = Mood::Well;
    node.wait_others(&FIVE).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_forbidden_changes_nothing() {
    lists_that_go_wrong_change_nothing(Mood::Forbidden, 403).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_garbage_changes_nothing() {
    lists_that_go_wrong_change_nothing(Mood::Garbage, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_changes_nothing() {
    lists_that_go_wrong_change_nothing(Mood::Fails, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_hangs_changes_nothing() {
    lists_that_go_wrong_change_nothing(Mood::Hangs, 0).await;
}

/// Watches go wrong in some way: what was listed stands, and what comes later is found.
async fn watches_that_go_wrong_change_nothing(mood: Mood, code: u16) {
    let double = Double::start(TOKEN, &[("zepto-x2x9k", pods(0..5))]).await;
    double.store().watches = mood;
    let more = json!({"list_timeout_ms": 300});
    let mut node = Node::start_with(&double, &double.authority.pem, TOKEN, &more).await;
    double.wait_code(true, code, 3).await;
    node.wait_others(&FOUR).await;
    double.put("zepto-x2x9k", pods(0..6));
    double.store().watches = Mood::Well;
    node.wait_others(&FIVE).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_forbidden_changes_nothing() {
    watches_that_go_wrong_change_nothing(Mood::Forbidden, 403).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_garbage_changes_nothing() {
    watches_that_go_wrong_change_nothing(Mood::Garbage, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_never_begins_changes_nothing() {
    watches_that_go_wrong_change_nothing(Mood::Hangs, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_empties_nothing() {
    let (double, mut node) = five().await;
    double.store().lists = Mood::Empty;
    double.expire_watches();
    let is_held = |held: Option<(usize, usize, bool)>| held == Some((4, 4, true));
    node.wait_report(|report| report.discovery.as_ref().is_some_and(|told| is_held(told.held)))
        .await;
    assert_eq!(node.others(), FOUR);
    double.store().lists = Mood::Well;
    double.put("zepto-x2x9k", pods(0..6));
    // What the watch tells is all that is known after an empty list.
    node.wait_others(&FIVE).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_slow_is_waited_for() {
    let double = Double::start(TOKEN, &[("zepto-x2x9k", pods(0..5))]).await;
    let slow = Mood::Slow(Duration::from_millis(200));
    (double.store().lists, double.store().watches) = (slow, slow);
    let mut node = Node::start(&double).await;
    node.wait_others(&FOUR).await;
    watches(&double, 1).await;
    assert_eq!(double.seen().len(), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_cluster_is_asked_for_endpoints() {
    let mut slice = pods(0..5);
    slice.pods.push(Pod::nth(7).not_ready());
    let double = Double::start(TOKEN, &[("zepto-x2x9k", slice)]).await;
    double.store().has_slices = false;
    let mut node = Node::start(&double).await;
    let nodes = node.wait_others(&FOUR).await;
    assert_eq!(nodes[0].address(), "10.244.0.1:9000");
    watches(&double, 1).await;
    let seen = double.seen();
    let asked: Vec<_> = seen.iter().map(|seen| (seen.resource, seen.is_watch, seen.code)).collect();
    let want = [
        (Some(Resource::EndpointSlices), false, 404),
        (Some(Resource::Endpoints), false, 200),
        (Some(Resource::Endpoints), true, 200),
    ];
    assert_eq!(asked, want);
    double.put("zepto-x2x9k", pods(0..6));
    node.wait_others(&FIVE).await;
    double.bookmark();
    double.end_watches();
    let versions = watches(&double, 2).await;
    assert_eq!(versions[1], double.store().version().to_string());
    double.put("zepto-x2x9k", pods(0..5));
    node.wait_others(&FOUR).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_authority_gets_no_request() {
    let double = Double::start(TOKEN, &[("zepto-x2x9k", pods(0..5))]).await;
    let node = Node::start_with(&double, &Authority::make().pem, TOKEN, &json!({})).await;
    double.wait_distrusted(2).await;
    assert!(double.seen().is_empty(), "least of all the token");
    assert!(node.others().is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_gets_a_full_answer_when_it_wants_one() {
    let (double, mut node) = five().await;
    let answered = |node: &Node| node.report().discovery.and_then(|told| told.answered);
    let before = answered(&node);
    node.resync().await;
    watches(&double, 2).await;
    node.wait_report(|report| report.discovery.as_ref().and_then(|told| told.answered) > before)
        .await;
    assert_eq!((node.others(), lists(&double.seen())), (FOUR.map(str::to_owned).to_vec(), 2));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_configuration_is_taken_while_it_runs() {
    let (double, mut node) = five().await;
    node.configure(&double, &json!({"port": 9100})).await.unwrap();
    node.wait_address("10.244.0.1:9100").await;
    node.configure(&double, &json!({"port": "heartbeats"})).await.unwrap();
    node.wait_address("10.244.0.1:9000").await;
    let wrong = node.configure(&double, &json!({"prt": 1})).await.unwrap_err();
    assert!(wrong.contains("unknown field `prt`"), "{wrong}");
    double.put("zepto-x2x9k", pods(0..6));
    node.wait_others(&FIVE).await;
    node.stop().await;
}
