//! The machine on strings: what it wants done, for each thing that may happen.

use super::*;

const NOW: u64 = 1_000_000;
const SLICES: &str = "https://10.96.0.1:443/apis/discovery.k8s.io/v1/namespaces/trading/\
                      endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dzepto";
const ENDPOINTS: &str = "https://10.96.0.1:443/api/v1/namespaces/trading/endpoints\
                         ?fieldSelector=metadata.name%3Dzepto";
const WATCH: &str = "&watch=1&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=";

fn machine(more: &str) -> Machine {
    let given = r#""api":"https://10.96.0.1:443","namespace":"trading","service":"zepto""#;
    let config = Config::parse(&format!("{{{given}{more}}}")).unwrap();
    Machine::new(config, "zepto-0", 8 << 20, 10_000)
}

/// A slice of some pods, `name=address`.
fn slice(name: &str, version: u32, pods: &str) -> String {
    let endpoint = |pod: &str| {
        let (id, address) = pod.split_once('=').unwrap();
        let target = format!(r#"{{"kind":"Pod","name":"{id}"}}"#);
        format!(r#"{{"addresses":["{address}"],"targetRef":{target}}}"#)
    };
    let endpoints: Vec<String> = pods.split_whitespace().map(endpoint).collect();
    format!(
        r#"{{"kind":"EndpointSlice","metadata":{{"name":"{name}","resourceVersion":"{version}"}},
        "endpoints":[{}],"ports":[{{"name":"rpc","port":9000}}]}}"#,
        endpoints.join(",")
    )
    .replace('\n', " ")
}

fn page(kind: &str, version: u32, more: &str, items: &[String]) -> String {
    format!(
        r#"{{"kind":"{kind}","metadata":{{"resourceVersion":"{version}","continue":"{more}"}},
        "items":[{}]}}"#,
        items.join(",")
    )
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn answer(body: &str) -> Part<'_> {
    Part { code: 200, is_last: true, body: body.as_bytes(), ..Part::default() }
}

/// A part of a watch that goes on.
fn lines(body: &str) -> Part<'_> {
    Part { code: 200, body: body.as_bytes(), ..Part::default() }
}

fn refusal(code: u32, message: &str) -> Part<'_> {
    Part { code, is_last: true, body: message.as_bytes(), ..Part::default() }
}

/// A machine that has listed two pods at version 7 and watches.
fn watching() -> Machine {
    let mut machine = machine("");
    assert_eq!(asked(&machine.start(NOW)), format!("{SLICES}&limit=500"));
    let items = [slice("s1", 5, "zepto-0=10.0.0.1 zepto-1=10.0.0.2")];
    let actions = complete(&mut machine, &page("EndpointSliceList", 7, "", &items));
    assert_eq!(asked(&actions), format!("{SLICES}{WATCH}7"));
    assert!(emits(&actions));
    assert_eq!(known(&machine), "zepto-0 zepto-1");
    assert!(machine.part(NOW, &lines("")).contains(&Action::Clear(Timer::Begin)));
    machine
}

/// The last page of a list comes; what follows once it is told.
fn complete(machine: &mut Machine, page: &str) -> Vec<Action> {
    assert_eq!(machine.part(NOW, &answer(page)), [Action::Set(Timer::Pause, 0)]);
    machine.timer(NOW, Timer::Pause)
}

/// What is asked; nothing if nothing is.
fn asked(actions: &[Action]) -> String {
    let urls: Vec<&str> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Get(get) => {
                assert_eq!(get.is_stream, get.url.contains("watch=1"));
                assert_eq!(get.timeout_ms, if get.is_stream { 300_000 } else { 30_000 });
                Some(get.url.as_str())
            }
            _ => None,
        })
        .collect();
    assert!(urls.len() < 2, "one request at a time");
    urls.concat()
}

fn emits(actions: &[Action]) -> bool {
    actions.contains(&Action::Emit)
}

fn known(machine: &Machine) -> String {
    machine.nodes().iter().map(|node| node.id).collect::<Vec<_>>().join(" ")
}

/// The pause that begins, and the log line that says why. Nothing may be told or asked.
fn pause(actions: &[Action]) -> (u64, String) {
    assert!(!emits(actions) && asked(actions).is_empty(), "{actions:?}");
    assert!(actions.contains(&Action::Cancel));
    let mut paused = (0, String::new());
    for action in actions {
        match action {
            Action::Set(Timer::Pause, ms) => paused.0 = *ms,
            Action::Log(_, text) => paused.1.push_str(text),
            _ => {}
        }
    }
    paused
}

#[test]
fn a_list_of_pages_is_told_once_it_is_complete() {
    let mut machine = machine("");
    machine.start(NOW);
    let first = page("EndpointSliceList", 7, "a+/b=", &[slice("s1", 1, "b=10.0.0.2")]);
    let actions = machine.part(NOW, &answer(&first));
    assert_eq!(asked(&actions), format!("{SLICES}&limit=500&continue=a%2B%2Fb%3D"));
    assert!(!emits(&actions));
    let second = page("EndpointSliceList", 9, "", &[slice("s2", 2, "a=10.0.0.1 b=fd00::2")]);
    let actions = complete(&mut machine, &second);
    assert!(emits(&actions));
    assert_eq!(asked(&actions), format!("{SLICES}{WATCH}7"), "from the first page's version");
    let nodes = machine.nodes();
    let hosts: Vec<_> = nodes.iter().map(|node| (node.id, node.host)).collect();
    assert_eq!(hosts, [("a", "10.0.0.1"), ("b", "10.0.0.2")]);
}

#[test]
fn what_changes_is_told_and_what_does_not_is_not() {
    let mut machine = watching();
    let same = event("MODIFIED", &slice("s1", 8, "zepto-0=10.0.0.1 zepto-1=10.0.0.2"));
    assert_eq!(machine.part(NOW, &lines(&same)), []);
    let more = event("ADDED", &slice("s2", 9, "zepto-2=10.0.0.3"));
    let (begin, end) = more.split_at(40);
    assert_eq!(machine.part(NOW, &lines(begin)), []);
    assert_eq!(machine.part(NOW, &lines(end)), [Action::Emit]);
    assert_eq!(known(&machine), "zepto-0 zepto-1 zepto-2");
    // Two events in one part, and one answer.
    let both = event("MODIFIED", &slice("s1", 10, "zepto-0=10.0.0.1"))
        + &event("DELETED", &slice("s2", 11, ""));
    assert_eq!(machine.part(NOW, &lines(&both)), [Action::Emit]);
    assert_eq!(known(&machine), "zepto-0");
    let there_and_back = event("ADDED", &slice("s3", 12, "zepto-9=10.0.0.9"))
        + &event("DELETED", &slice("s3", 13, ""));
    assert_eq!(machine.part(NOW, &lines(&there_and_back)), []);
}

#[test]
fn an_empty_answer_is_told_as_it_is() {
    let mut machine = machine("");
    machine.start(NOW);
    let actions = complete(&mut machine, &page("EndpointSliceList", 7, "", &[]));
    assert!(emits(&actions));
    assert!(machine.nodes().is_empty());
}

#[test]
fn a_watch_goes_on_where_it_ended_also_after_a_bookmark() {
    let mut machine = watching();
    let bookmark =
        event("BOOKMARK", r#"{"kind":"EndpointSlice","metadata":{"resourceVersion":"42"}}"#);
    assert_eq!(machine.part(NOW, &lines(&bookmark)), []);
    let end = Part { code: 200, is_last: true, ..Part::default() };
    let actions = machine.part(NOW + 290_000, &end);
    assert_eq!(asked(&actions), format!("{SLICES}{WATCH}42"), "at once");
    // This one ends as soon as it has begun.
    let (ms, _) = pause(&machine.part(NOW + 290_001, &end));
    assert!((500..=1_000).contains(&ms));
    let actions = machine.timer(NOW + 291_000, Timer::Pause);
    assert_eq!(asked(&actions), format!("{SLICES}{WATCH}42"));
}

#[test]
fn a_broken_watch_is_asked_for_again_after_pauses_that_grow() {
    let mut machine = watching();
    let begun = event("ADDED", &slice("s2", 9, "zepto-2=10.0.0.3"));
    machine.part(NOW, &lines(&begun[..50]));
    let broken = Part { failed: Some("i/o error"), is_last: true, ..Part::default() };
    let mut longest = 0;
    for _ in 0..8 {
        let (ms, text) = pause(&machine.part(NOW, &broken));
        assert!(text.contains("i/o error"), "{text}");
        longest = longest.max(ms);
        let actions = machine.timer(NOW, Timer::Pause);
        assert_eq!(asked(&actions), format!("{SLICES}{WATCH}7"), "half a line moves nothing");
    }
    assert!((15_000..=30_000).contains(&longest));
    assert_eq!(
        machine.part(NOW, &lines(&begun)),
        [
            Action::Clear(Timer::Begin),
            Action::Log(Level::Info, "watching again".into()),
            Action::Emit
        ]
    );
    let (ms, _) = pause(&machine.part(NOW, &broken));
    assert!(ms <= 1_000, "all was well in between");
}

#[test]
fn a_version_that_is_too_old_is_listed_anew_and_told_again() {
    let gone = r#"{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"#;
    let in_stream = event("ERROR", gone);
    for part in [refusal(410, gone), lines(&in_stream)] {
        let mut machine = watching();
        let actions = machine.part(NOW, &part);
        assert_eq!(asked(&actions), format!("{SLICES}&limit=500"));
        assert!(!emits(&actions));
        let items = [slice("s1", 20, "zepto-0=10.0.0.1 zepto-1=10.0.0.2")];
        let again = page("EndpointSliceList", 30, "", &items);
        let actions = complete(&mut machine, &again);
        assert!(emits(&actions), "the same nodes, and yet");
        assert_eq!(asked(&actions), format!("{SLICES}{WATCH}30"));
        pause(&machine.part(NOW, &part));
        assert_eq!(asked(&machine.timer(NOW, Timer::Pause)), format!("{SLICES}&limit=500"));
    }
    let mut machine = machine("");
    machine.start(NOW);
    machine.part(NOW, &answer(&page("EndpointSliceList", 7, "x", &[slice("s1", 1, "a=1.1.1.1")])));
    let actions = machine.part(NOW, &refusal(410, gone));
    assert_eq!(asked(&actions), format!("{SLICES}&limit=500"), "from the first page");
    assert_eq!(known(&machine), "");
}

#[test]
fn what_is_not_allowed_is_said_and_changes_nothing() {
    let status = r#"{"kind":"Status","message":"User \"x\" cannot watch"}"#;
    for (code, words) in [
        (401, "grant secret=token=file:/var/run/secrets"),
        (403, "verbs [\"get\", \"list\", \"watch\"]"),
        (500, "HTTP 500: no watch of endpointslices: User"),
    ] {
        let mut machine = watching();
        let head = Part { code, ..Part::default() };
        assert_eq!(machine.part(NOW, &head), [], "why stands in the body");
        let (_, text) = pause(&machine.part(NOW, &refusal(code, status)));
        assert!(text.contains(words) && text.contains("cannot watch"), "{text}");
        assert_eq!(known(&machine), "zepto-0 zepto-1");
        assert_eq!(asked(&machine.timer(NOW, Timer::Pause)), format!("{SLICES}{WATCH}7"));
    }
    let mut machine = machine("");
    machine.start(NOW);
    let (_, text) = pause(&machine.part(NOW, &refusal(403, "<html>")));
    assert!(text.contains("may not list endpointslices"), "{text}");
    assert_eq!(asked(&machine.timer(NOW, Timer::Pause)), format!("{SLICES}&limit=500"));
}

#[test]
fn a_server_that_wants_to_be_left_alone_is() {
    let mut machine = machine("");
    machine.start(NOW);
    let busy = Part { retry_after_s: Some(7), ..refusal(429, "") };
    assert_eq!(pause(&machine.part(NOW, &busy)).0, 7_000);
    machine.timer(NOW, Timer::Pause);
    let busy = Part { retry_after_s: Some(u32::MAX), ..refusal(503, "") };
    assert_eq!(pause(&machine.part(NOW, &busy)).0, 30_000, "but not for ever");
}

#[test]
fn without_slices_endpoints_are_asked_for_unless_that_is_not_wanted() {
    let mut auto = machine("");
    auto.start(NOW);
    let actions = auto.part(NOW, &refusal(404, "404 page not found\n"));
    assert_eq!(asked(&actions), format!("{ENDPOINTS}&limit=500"));
    let endpoints =
        r#"{"metadata":{"name":"zepto"},"subsets":[{"addresses":[{"ip":"10.0.0.1"}]}]}"#;
    let list = page("EndpointsList", 3, "", &[endpoints.to_owned()]);
    let actions = complete(&mut auto, &list);
    assert!(emits(&actions));
    assert_eq!(asked(&actions), format!("{ENDPOINTS}{WATCH}3"));
    // The cluster may have them once it is newer.
    assert_eq!(asked(&auto.resync(NOW)), format!("{SLICES}&limit=500"));

    let mut only = machine(r#","source":"endpointslices""#);
    only.start(NOW);
    let (_, text) = pause(&only.part(NOW, &refusal(404, "")));
    assert!(text.contains("is that an API server?"), "{text}");
    let mut endpoints = machine(r#","source":"endpoints""#);
    assert_eq!(asked(&endpoints.start(NOW)), format!("{ENDPOINTS}&limit=500"));
    pause(&endpoints.part(NOW, &refusal(404, "")));
}

#[test]
fn pages_that_are_too_long_are_halved() {
    let mut machine = machine("");
    machine.start(NOW);
    let cut = Part { is_truncated: true, ..answer("{") };
    for limit in [250, 125, 62, 31, 15, 7, 3, 1] {
        let actions = machine.part(NOW, &cut);
        assert_eq!(asked(&actions), format!("{SLICES}&limit={limit}"));
    }
    let (_, text) = pause(&machine.part(NOW, &cut));
    assert!(text.contains("a page of one object is too long"), "{text}");
}

#[test]
fn what_cannot_be_read_is_listed_anew_after_a_pause() {
    let unnamed = page("EndpointSliceList", 1, "", &["{}".to_owned()]);
    let other = page("PodList", 1, "", &[]);
    let no_version = r#"{"kind":"EndpointSliceList","items":[]}"#;
    for body in ["", "{", "{}", "[]", "<html>", "\u{0}", no_version, &other, &unnamed] {
        let mut machine = machine("");
        machine.start(NOW);
        let (_, text) = pause(&machine.part(NOW, &answer(body)));
        assert!(text.contains("cannot be read"), "{body}: {text}");
        assert_eq!(asked(&machine.timer(NOW, Timer::Pause)), format!("{SLICES}&limit=500"));
    }
    let pod = event("ADDED", r#"{"kind":"Pod","metadata":{"name":"x"}}"#);
    let unknown = event("PATCHED", &slice("s1", 9, ""));
    let error = event("ERROR", r#"{"code":500,"reason":"InternalError","message":"x"}"#);
    let long = "x".repeat((1 << 20) + 1);
    for body in ["garbage\n", "{}\n", &pod, &unknown, &error, &long] {
        let mut machine = watching();
        pause(&machine.part(NOW, &lines(body)));
        assert_eq!(known(&machine), "zepto-0 zepto-1");
        assert_eq!(asked(&machine.timer(NOW, Timer::Pause)), format!("{SLICES}&limit=500"));
    }
}

#[test]
fn a_watch_that_does_not_begin_is_given_up() {
    let mut machine = machine("");
    machine.start(NOW);
    let actions = complete(&mut machine, &page("EndpointSliceList", 7, "", &[]));
    assert!(actions.contains(&Action::Set(Timer::Begin, 30_000)));
    let (_, text) = pause(&machine.timer(NOW, Timer::Begin));
    assert!(text.contains("no watch began within 30000 ms"), "{text}");
    assert_eq!(asked(&machine.timer(NOW, Timer::Pause)), format!("{SLICES}{WATCH}7"));
    machine.part(NOW, &lines(""));
    assert_eq!(machine.timer(NOW, Timer::Begin), [], "it has begun");
}

#[test]
fn a_full_answer_is_asked_for_when_it_is_wanted_and_now_and_then() {
    let mut machine = watching();
    assert_eq!(asked(&machine.resync(NOW)), format!("{SLICES}&limit=500"));
    assert_eq!(machine.resync(NOW), [], "it is on its way");
    let actions = complete(&mut machine, &page("EndpointSliceList", 9, "", &[]));
    let again = actions.iter().find_map(|action| match action {
        Action::Set(Timer::Resync, ms) => Some(*ms),
        _ => None,
    });
    assert!(again.is_some_and(|ms| (150_000..=300_000).contains(&ms)));
    assert_eq!(asked(&machine.timer(NOW, Timer::Resync)), format!("{SLICES}&limit=500"));
    // A pause is not cut short, but what follows is a list.
    let mut machine = watching();
    pause(&machine.part(NOW, &refusal(500, "")));
    assert_eq!(machine.resync(NOW), []);
    assert_eq!(asked(&machine.timer(NOW, Timer::Pause)), format!("{SLICES}&limit=500"));
}

#[test]
fn more_than_there_is_room_for_is_told_to_operators_not_to_the_host() {
    let given = r#"{"api":"https://a","namespace":"n","service":"s"}"#;
    let mut machine = Machine::new(Config::parse(given).unwrap(), "n", 8 << 20, 2);
    machine.start(NOW);
    let items = [slice("s1", 1, "a=10.0.0.1 b=10.0.0.2 c=10.0.0.3")];
    let page = page("EndpointSliceList", 1, "", &items);
    let (_, text) = pause(&complete(&mut machine, &page));
    assert!(text.contains("3 nodes, and an answer has at most 2"), "{text}");
    let mut machine = Machine::new(Config::parse(given).unwrap(), "n", (6 << 19) + 200, 100);
    machine.start(NOW);
    let (_, text) = pause(&machine.part(NOW, &answer(&page)));
    assert!(text.contains("give the plugin more"), "{text}");
}

#[test]
fn it_may_be_stopped_and_started_again() {
    let mut machine = watching();
    machine.stop();
    assert!(!machine.is_started());
    assert_eq!(machine.resync(NOW), []);
    assert_eq!(machine.part(NOW, &lines("garbage\n")), []);
    assert_eq!(Timer::ALL.map(|timer| machine.timer(NOW, timer)), [vec![], vec![], vec![]]);
    assert_eq!(asked(&machine.start(NOW)), format!("{SLICES}&limit=500"));
}

#[test]
fn what_the_host_does_not_ask_is_tried_again() {
    let mut machine = machine("");
    machine.start(NOW);
    let (_, text) = pause(&machine.not_asked("denied"));
    assert!(text.contains("grant http=GET https://10.96.0.1:443"), "{text}");
    assert_eq!(asked(&machine.timer(NOW, Timer::Pause)), format!("{SLICES}&limit=500"));
}
