//! `zepto-host feed`: sends a file into a running cluster and says what became of every row.
//!
//! Works from any machine: over shared memory where the nodes' host is this one, over RPC
//! elsewhere. Each tick carries its row's number in the first user word, so that a range read can
//! prove what arrived.

use core::time::Duration;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use zepto_client::{Client, ClientOptions, ProducerOptions};

use crate::argument::TableArgs;
use crate::failure::Failure;
use crate::feed::{self, Feed, OnBadRow, ProgressUnit};
use crate::format;
use crate::pump::{self, Gauges, PumpError, Pumped, Target};
use crate::secret::SecretArgs;
use crate::signal::Signals;

/// Time for a node of the cluster to answer at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Time between two updates of the progress bar.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Send a file of ticks into a running cluster
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host feed ticks.csv.zst --to 10.0.0.1:9000 --to 10.0.0.2:9000
  zcat ticks.csv.gz | zepto-host feed - --to localhost:9000 --skip-bad --json

The file is CSV with the header `ts_ns,symbol,kind,price,size`, or DBN (Databento) with the schema
trades, mbp-1 or mbo, plain or compressed with zstd.
Exit code 0 means that every row was acknowledged.")]
pub struct FeedArgs {
    /// CSV or DBN file, plain or compressed with zstd; - is standard input
    pub file: PathBuf,
    /// Address of a node, host:port; may be repeated, one that answers is enough
    #[arg(long = "to", value_name = "ADDR", required = true)]
    pub to: Vec<String>,
    /// Count and report malformed lines or records instead of stopping at the first
    #[arg(long)]
    pub skip_bad: bool,
    /// Do not wait for replicas: acknowledged means that the owner has it
    #[arg(long)]
    pub memory_only: bool,
    /// Where the symbols are
    #[command(flatten)]
    pub table: TableArgs,
    /// Number of the first row, carried in the tick's first user word
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rows_from: u64,
    /// Print the account as one JSON object
    #[arg(long)]
    pub json: bool,
    /// What this command proves to the nodes
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// Runs the command.
///
/// # Errors
/// When not every row was acknowledged, or no node answers.
pub async fn run(args: FeedArgs) -> Result<(), Failure> {
    let on_bad_row = if args.skip_bad { OnBadRow::Skip } else { OnBadRow::Fail };
    let mut feed = feed::open(&args.file, on_bad_row).map_err(|e| Failure::failed("feed", e))?;
    let mut signals = Signals::listen()?;
    let options = ClientOptions {
        seeds: args.to.clone(),
        name: "feed".into(),
        shared_memory: true,
        secret: args.secret.read()?.cloned(),
    };
    let connected = tokio::select! {
        connected = Client::connect(options, CONNECT_WITHIN) => connected,
        () = signals.next() => return Err(Failure::Interrupted),
    };
    let doing = format!("feed to {}", args.to.join(", "));
    let client = connected.map_err(|error| Failure::of_client(&doing, &error))?;
    let bar = progress_bar(&*feed);
    let gauges = Arc::new(Gauges::default());
    let inside = Arc::clone(&gauges);
    let options = ProducerOptions { memory_only: args.memory_only, ..Default::default() };
    let target = Target { table: args.table.table, first_row: args.rows_from, rows_per_s: None };
    let mut pumping = tokio::task::spawn_blocking(move || {
        let producer = client.producer(options);
        let pumped = pump::pump(producer, &mut *feed, target, &inside, |_| ());
        (pumped, feed)
    });
    let mut draw = tokio::time::interval(DRAW_EVERY);
    let finished = loop {
        tokio::select! {
            finished = &mut pumping => break finished,
            () = signals.next() => {
                if gauges.is_stopped() {
                    // A feed that blocks on its input cannot look; a second signal is meant.
                    return Err(Failure::Interrupted);
                }
                gauges.stop();
            }
            _ = draw.tick() => draw_progress(&bar, &gauges),
        }
    };
    bar.finish_and_clear();
    let (pumped, feed) = finished.map_err(|error| Failure::failed("feed", error))?;
    report(&args, &pumped, &*feed, gauges.sent())
}

/// A bar over the feed's own unit; hidden unless a person watches.
fn progress_bar(feed: &dyn Feed) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = feed.progress();
    let bar = match progress.total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    let template = match (progress.total, progress.unit) {
        (Some(_), ProgressUnit::Bytes) => "{bar:32} {bytes}/{total_bytes}  {msg}",
        (Some(_), ProgressUnit::Rows) => "{bar:32} {human_pos}/{human_len}  {msg}",
        (None, _) => "{spinner} {msg}",
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn draw_progress(bar: &ProgressBar, gauges: &Gauges) {
    bar.set_position(gauges.feed_done());
    let speed = format::per_second(gauges.settled(), bar.elapsed());
    bar.set_message(format!(
        "{} rows sent, {} acknowledged, {} ticks/s",
        format::count(gauges.sent()),
        format::count(gauges.settled()),
        format::count(speed),
    ));
}

/// Says what became of every row, and whether that is what was wanted.
fn report(args: &FeedArgs, pumped: &Pumped, feed: &dyn Feed, sent: u64) -> Result<(), Failure> {
    let account = &pumped.account;
    let unknown = account.in_flight + account.parked;
    let speed = format::per_second(account.settled, pumped.elapsed);
    tell_left_out(feed);
    if args.json {
        let refused: serde_json::Map<_, _> =
            account.refused.iter().map(|(why, n)| (why.to_string(), json!(n))).collect();
        let object = json!({
            "sent": sent,
            "acked": account.settled,
            "refused": refused,
            "unknown": account.in_flight,
            "not_sent": account.parked,
            "skipped": feed.skipped().total(),
            "notes": feed.notes().counts(),
            "ticks_per_s": speed,
            "seconds": pumped.elapsed.as_millis() as f64 / 1e3,
        });
        format::print(&format!("{object}\n"))?;
    } else {
        format::print(&format!(
            "{} rows sent, {} acknowledged, {} refused, {} unknown in {} ({} ticks/s)\n",
            format::count(sent),
            format::count(account.settled),
            format::count(account.refused_total()),
            format::count(unknown),
            format::seconds(pumped.elapsed),
            format::count(speed),
        ))?;
    }
    match &pumped.end {
        Err(PumpError::Stopped) => Err(Failure::Interrupted),
        Err(error) => Err(Failure::failed("feed", with_rest(error, pumped))),
        Ok(()) => match rest(pumped) {
            Some(rest) => Err(Failure::failed("feed", rest)),
            None => Ok(()),
        },
    }
}

/// Says what of a feed did not become rows, if anything.
pub(crate) fn tell_left_out(feed: &dyn Feed) {
    if feed.skipped().total() > 0 {
        eprintln!("{}", feed.skipped());
    }
    if !feed.notes().is_empty() {
        eprintln!("{}", feed.notes());
    }
}

fn with_rest(error: &PumpError, pumped: &Pumped) -> String {
    let acked = format::count(pumped.account.settled);
    let rest = rest(pumped).map_or_else(String::new, |rest| format!(", {rest}"));
    format!("{error}; {acked} rows before it were acknowledged{rest}")
}

/// What was not acknowledged, and why.
pub(crate) fn rest(pumped: &Pumped) -> Option<String> {
    let account = &pumped.account;
    let mut parts: Vec<String> = account
        .refused
        .iter()
        .map(|(why, rows)| format!("{} refused: {why}", format::count(*rows)))
        .collect();
    if account.in_flight > 0 {
        parts.push(format!("{} unknown, stored or not", format::count(account.in_flight)));
    }
    if account.parked > 0 {
        let why = account.parked_for.map_or_else(|| "no lane".into(), |why| why.to_string());
        parts.push(format!("{} never left: {why}", format::count(account.parked)));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use zepto_client::producer::Account;
    use zepto_core::Refusal;

    use super::*;

    fn pumped(account: Account) -> Pumped {
        Pumped { account, ids: Vec::new(), elapsed: Duration::from_secs(1), end: Ok(()) }
    }

    #[test]
    fn what_was_not_acknowledged_is_said_with_its_reason() {
        let all = Account { accepted: 5, settled: 5, ..Account::default() };
        assert_eq!(rest(&pumped(all)), None);
        let some = Account {
            accepted: 2010,
            refused: BTreeMap::from([(Refusal::Overloaded, 2000)]),
            in_flight: 7,
            parked: 3,
            parked_for: Some(Refusal::NotOwner),
            settled: 0,
        };
        let text = rest(&pumped(some)).unwrap();
        assert!(text.starts_with("2,000 refused: overloaded, 7 unknown"), "{text}");
        assert!(text.ends_with("3 never left: not the owner of the partition"), "{text}");
    }
}
