//! The demo's result: as one object, as text, and whether everything held.

use serde::Serialize;

use super::args::DemoArgs;
use super::kill::Lived;
use super::outage::Measured;
use super::verify::Findings;
use crate::failure::Failure;
use crate::feed_cmd::rest;
use crate::format;
use crate::pump::Pumped;

/// The result, in the shape in which it is printed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) nodes: u64,
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) stored: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) mismatches: u64,
    pub(super) ticks_per_s: u64,
    pub(super) symbols: u64,
    pub(super) seconds: f64,
    pub(super) copies: u64,
    pub(super) kill: Option<&'static str>,
    pub(super) victim: Option<String>,
    pub(super) detection_ms: Option<u64>,
    pub(super) failover_ms: Option<u64>,
    pub(super) refilled_ms: Option<u64>,
}

/// What the loss of a node came to.
#[derive(Clone, Debug)]
pub(super) struct Survived {
    pub(super) lived: Lived,
    pub(super) outage: Measured,
}

/// What a demo that came to its end found.
pub(super) struct Proven {
    pub(super) outcome: Outcome,
    pub(super) pumped: Pumped,
    pub(super) findings: Findings,
    pub(super) survived: Option<Survived>,
}

/// Tells the result, and whether everything held.
pub(super) fn conclude(
    args: &DemoArgs,
    proven: &Proven,
    is_stopped_well: bool,
) -> Result<(), Failure> {
    let Proven { outcome, pumped, findings, survived } = proven;
    let text = text(outcome, survived.as_ref());
    if args.json {
        eprint!("{text}");
    } else {
        format::print(&text)?;
    }
    for line in &findings.shown {
        eprintln!("  {line}");
    }
    if args.json {
        let object =
            serde_json::to_string(outcome).map_err(|error| Failure::failed("demo", error))?;
        format::print(&format!("{object}\n"))?;
    }
    let mut wrong = Vec::new();
    wrong.extend(rest(pumped));
    wrong.extend(wrong_counts(outcome));
    wrong.extend(survived.as_ref().and_then(wrong_outage));
    if !is_stopped_well {
        wrong.push("a node did not stop well".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::failed("demo", wrong.join("; "))) }
}

fn wrong_counts(outcome: &Outcome) -> Vec<String> {
    let counts = [
        (outcome.sent - outcome.acked.min(outcome.sent), "rows were not acknowledged"),
        (outcome.lost, "rows are lost"),
        (outcome.duplicates, "rows are there twice"),
        (outcome.mismatches, "answers differ from what was sent"),
        (outcome.sent.abs_diff(outcome.stored), "is the difference of rows sent and stored"),
    ];
    let failed = counts.iter().filter(|(count, _)| *count > 0);
    failed.map(|(count, what)| format!("{} {what}", format::count(*count))).collect()
}

/// A kill that held nothing up has proved nothing.
fn wrong_outage(survived: &Survived) -> Option<String> {
    let Survived { lived, outage } = survived;
    if outage.never > 0 {
        return Some(format!("{} partitions took no ticks any more", outage.never));
    }
    let is_idle = outage.owned == 0;
    is_idle.then(|| format!("no tick came for a partition of {} while it was gone", lived.victim))
}

fn text(outcome: &Outcome, survived: Option<&Survived>) -> String {
    let Outcome { nodes, copies, sent, acked, stored, lost, duplicates, mismatches, .. } = outcome;
    let [sent, acked, stored] = [sent, acked, stored].map(|n| format::count(*n));
    let symbols = format::count(outcome.symbols);
    let speed = format::count(outcome.ticks_per_s);
    let seconds = outcome.seconds;
    let copies = format!("{copies} {}", if *copies == 1 { "copy" } else { "copies" });
    let mut text = format!(
        "{nodes} nodes, {copies}, {symbols} symbols: {sent} ticks sent, {acked} acknowledged, \
         {stored} stored\n\
         {lost} lost, {duplicates} duplicates, {mismatches} mismatches over all nodes\n\
         {speed} ticks/s, {seconds:.3} s from the first tick to the last acknowledgement\n"
    );
    if let Some(survived) = survived {
        text += &text_of_kill(outcome.kill.unwrap_or_default(), survived);
    }
    text
}

fn text_of_kill(kill: &str, Survived { lived, outage }: &Survived) -> String {
    let Lived { victim, detection, refilled } = lived;
    let Measured { length, partitions, owned, .. } = outage;
    let [detection, failover, refilled] =
        [detection, length, refilled].map(|time| format::count(time.as_millis() as u64));
    format!(
        "{victim} lost by {kill}: declared dead after {detection} ms; {failover} ms until the last \
         of {partitions} partitions\n\
         that had ticks coming ({owned} its own) took them again; started again, filled, and with \
         its share after {refilled} ms\n"
    )
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::super::args::tests::parsed;
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            nodes: 3,
            sent: 1_000_000,
            acked: 1_000_000,
            stored: 1_000_000,
            lost: 0,
            duplicates: 0,
            mismatches: 0,
            ticks_per_s: 2_500_000,
            symbols: 1000,
            seconds: 0.4,
            copies: 2,
            kill: None,
            victim: None,
            detection_ms: None,
            failover_ms: None,
            refilled_ms: None,
        }
    }

    fn survived() -> Survived {
        let lived = Lived {
            victim: "node-1".into(),
            detection: Duration::from_millis(2100),
            refilled: Duration::from_millis(3200),
        };
        let length = Duration::from_millis(2345);
        Survived { lived, outage: Measured { length, partitions: 700, owned: 350, never: 0 } }
    }

    fn concluded(outcome: Outcome, survived: Option<Survived>) -> Result<(), Failure> {
        let args = parsed(&[]).unwrap();
        let account = zepto_client::producer::Account::default();
        let pumped =
            Pumped { account, ids: Vec::new(), elapsed: Duration::from_secs(1), end: Ok(()) };
        let findings = Findings::default();
        conclude(&args, &Proven { outcome, pumped, findings, survived }, true)
    }

    #[test]
    fn the_json_result_has_its_sixteen_fields_in_order() {
        let expected = "{\"nodes\":3,\"sent\":1000000,\"acked\":1000000,\"stored\":1000000,\
            \"lost\":0,\"duplicates\":0,\"mismatches\":0,\"ticks_per_s\":2500000,\
            \"symbols\":1000,\"seconds\":0.4,\"copies\":2,\"kill\":null,\"victim\":null,\
            \"detection_ms\":null,\"failover_ms\":null,\"refilled_ms\":null}";
        assert_eq!(serde_json::to_string(&outcome()).unwrap(), expected);
    }

    #[test]
    fn any_number_that_is_not_as_it_must_be_fails_the_demo() {
        assert!(concluded(outcome(), None).is_ok());
        type Spoil = fn(&mut Outcome);
        let spoils: [(&str, Spoil); 6] = [
            ("acknowledged", |o| o.acked -= 1),
            ("lost", |o| o.lost = 2),
            ("twice", |o| o.duplicates = 1),
            ("differ", |o| o.mismatches = 1),
            ("difference", |o| o.stored += 1),
            ("difference", |o| o.stored -= 1),
        ];
        for (text, spoil) in spoils {
            let mut spoiled = outcome();
            spoil(&mut spoiled);
            let failure = concluded(spoiled, None).unwrap_err();
            assert_eq!(failure.exit_code(), 1);
            assert!(failure.to_string().contains(text), "{failure}");
        }
    }

    #[test]
    fn a_kill_that_held_nothing_up_or_something_for_ever_fails_the_demo() {
        assert!(concluded(outcome(), Some(survived())).is_ok());
        let mut idle = survived();
        idle.outage.owned = 0;
        let failure = concluded(outcome(), Some(idle)).unwrap_err();
        assert!(failure.to_string().contains("no tick came for a partition of node-1"));
        let mut stuck = survived();
        stuck.outage.never = 3;
        let failure = concluded(outcome(), Some(stuck)).unwrap_err();
        assert!(failure.to_string().contains("3 partitions took no ticks any more"));
    }

    #[test]
    fn the_text_tells_the_times_of_a_kill() {
        let text = text(&Outcome { kill: Some("pause"), ..outcome() }, Some(&survived()));
        for words in ["2 copies", "lost by pause", "after 2,100 ms", "2,345 ms", "700 partitions"] {
            assert!(text.contains(words), "{text}");
        }
    }
}
