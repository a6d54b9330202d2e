//! What is counted of plugins.

use super::{Labels, Page};
use core::fmt;
use zepto_core::time::Nanos;
use zepto_plugin::instance::FaultKind;
use zepto_plugin::manager::{Report, State};

/// States in which a plugin gets events.
const RUNS: [State; 2] = [State::Running, State::Probation];

fn of(report: &Report) -> Labels {
    vec![("plugin", report.name.clone())]
}

fn with(report: &Report, label: &'static str, value: &str) -> Labels {
    vec![("plugin", report.name.clone()), (label, value.to_owned())]
}

/// Writes the families.
pub(super) fn write(page: &mut Page<'_>, reports: &[Report], now: Nanos) -> fmt::Result {
    let info = |report: &Report| {
        let labels = vec![
            ("plugin", report.name.clone()),
            ("version", report.version.clone()),
            ("sha256", report.sha256.clone()),
            ("target", report.target.to_owned()),
        ];
        (labels, 1.0)
    };
    let help = "Always 1; the labels say which plugins are loaded";
    page.gauge("zepto_plugin_info", help, reports.iter().map(info))?;
    let up = reports.iter().map(|r| (of(r), f64::from(u8::from(RUNS.contains(&r.state)))));
    page.gauge("zepto_plugin_up", "1 while the plugin gets events", up)?;
    events(page, reports)?;
    failures(page, reports)?;
    discovery(page, reports, now)?;
    let own = reports.iter().flat_map(|report| {
        let metrics = report.tally.metrics.iter();
        metrics.map(|(name, value)| (with(report, "name", name), *value as f64))
    });
    page.gauge("zepto_plugin_metric", "What plugins count themselves", own)
}

fn events(page: &mut Page<'_>, reports: &[Report]) -> fmt::Result {
    let each = |of_one: fn(&Report) -> u64| reports.iter().map(move |r| (of(r), of_one(r)));
    page.counter("zepto_plugin_events", "Events delivered to plugins", each(|r| r.events))?;
    let help = "Events that plugins answered with an error";
    page.counter("zepto_plugin_event_errors", help, each(|r| r.errors))?;
    let help = "Time in handlers of plugins, in nanoseconds";
    page.counter("zepto_plugin_event_nanoseconds", help, each(|r| r.event_ns))?;
    let help = "Datagrams for plugins that were dropped, or not sent";
    page.counter("zepto_plugin_datagrams_dropped", help, each(|r| r.dropped))?;
    let help = "Questions that plugins did not answer in time";
    page.counter("zepto_plugin_questions_unanswered", help, each(|r| r.unanswered))?;
    let memory = reports.iter().filter_map(|report| {
        let bytes = report.tally.memory_bytes?;
        Some((of(report), bytes as f64))
    });
    page.gauge("zepto_plugin_memory_bytes", "Memory of Wasm plugins", memory)
}

fn failures(page: &mut Page<'_>, reports: &[Report]) -> fmt::Result {
    let each = |of_one: fn(&Report) -> u64| reports.iter().map(move |r| (of(r), of_one(r)));
    let faults = reports.iter().flat_map(|report| {
        let count = |kind: &FaultKind| report.faults.get(kind).copied().unwrap_or_default();
        FaultKind::ALL.map(|kind| (with(report, "kind", kind.text()), count(&kind)))
    });
    page.counter("zepto_plugin_faults", "Instances that came to their end", faults)?;
    page.counter("zepto_plugin_restarts", "Starts after a fault", each(|r| r.restarts))?;
    page.counter("zepto_plugin_reloads", "New versions in service", each(|r| r.reloads))?;
    let help = "New versions that were given up again";
    page.counter("zepto_plugin_rollbacks", help, each(|r| r.rollbacks))?;
    let refused = reports.iter().flat_map(|report| {
        let refusals = report.refusals().into_iter();
        refusals.map(|(reason, count)| (with(report, "reason", reason), count)).collect::<Vec<_>>()
    });
    page.counter("zepto_plugin_calls_refused", "Calls and answers that were refused", refused)
}

fn discovery(page: &mut Page<'_>, reports: &[Report], now: Nanos) -> fmt::Result {
    let told = || reports.iter().filter_map(|report| Some((report, report.discovery.as_ref()?)));
    let nodes = told().map(|(report, discovery)| (of(report), discovery.nodes as f64));
    page.gauge("zepto_discovery_nodes", "Other nodes that discovery knows of", nodes)?;
    let age = told().filter_map(|(report, discovery)| {
        Some((of(report), now.since(discovery.answered?).as_secs_f64()))
    });
    let help = "Age of discovery's last good answer, in seconds";
    page.gauge("zepto_discovery_answer_age_seconds", help, age)?;
    let held = told()
        .map(|(report, discovery)| (of(report), f64::from(u8::from(discovery.held.is_some()))));
    page.gauge("zepto_discovery_held", "1 while an answer that removes too many is held", held)?;
    let count = reports.iter().map(|report| (of(report), report.held));
    page.counter("zepto_discovery_answers_held", "Answers that were held", count)
}
