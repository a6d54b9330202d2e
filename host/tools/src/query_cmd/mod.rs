//! `zepto-host query`: one question to one node, which asks whoever owns the data.
//!
//! The answer is exact or an error that names the owner that failed; with `--partial` it may lack
//! owners, and then says so in its JSON and on standard error. A range is read page by page and
//! printed as it comes, so its length is bounded by `--limit` and not by memory.

mod show;

use core::time::Duration;
use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use zepto_client::message::{Answer, AnswerBody, Ask, Missing, Of, Part, Query, Request, Response};
use zepto_client::{ask_once, unexpected};
use zepto_core::limits::{BARS_MAX, RANGE_ROWS_MAX};
use zepto_core::slot;
use zepto_store::query::{KindSet, Summary, TimeRange};

use crate::argument::{TableArgs, parse_interval, parse_kinds, parse_time, parse_wait};
use crate::failure::Failure;
use crate::secret::SecretArgs;
use show::Missed;

/// Ask a cluster, through any of its nodes
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host query summary --at localhost:9000 --json
  zepto-host query vwap spot:BTCUSDT --at localhost:9000 --from 2024-08-08T23:55:00Z
  zepto-host query ohlcv spot:BTCUSDT --at localhost:9000 --interval 1m
  zepto-host query range spot:BTCUSDT --at localhost:9000 --kinds trade --limit 20
  zepto-host query count --at localhost:9000

Times are nanoseconds since 1970 or RFC 3339; a range includes --from and not --to. vwap, ohlcv and
last look at trades unless --kinds says otherwise. Prices and sizes in JSON are integers in units of
1e-9. An answer over several symbols is not one cut through time.")]
pub struct QueryArgs {
    /// What to ask
    #[arg(value_enum)]
    pub what: What,
    /// Name of the symbol; summary and count may do without, and are then over all
    pub symbol: Option<String>,
    /// Address of a node, host:port
    #[arg(long, value_name = "ADDR")]
    pub at: String,
    /// Where the symbol is
    #[command(flatten)]
    pub table: TableArgs,
    /// First event time that is inside
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub from: Option<u64>,
    /// First event time that is no longer inside
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub to: Option<u64>,
    /// Length of a bar of ohlcv: 500ms, 1s, 1m, 1h [default: 1m]
    #[arg(long, value_name = "LENGTH", value_parser = parse_interval)]
    pub interval: Option<u64>,
    /// Most bars of ohlcv or ticks of range [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Kinds that count: trade, bid, ask, fill, clear, other, 0 to 254, or all
    #[arg(long, value_name = "KIND,...", value_parser = parse_kinds)]
    pub kinds: Option<KindSet>,
    /// Answer without the owners that failed, and say who is missing
    #[arg(long)]
    pub partial: bool,
    /// Time for an answer
    #[arg(long, value_name = "LENGTH", default_value = "30s", value_parser = parse_wait)]
    pub timeout: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What this command proves to the node
    #[command(flatten)]
    pub secret: SecretArgs,
}

/// The questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Counts, extremes, volume and vwap per symbol
    Summary,
    /// Number of ticks
    Count,
    /// The last tick
    Last,
    /// Volume-weighted average price, rounded down to 1e-9
    Vwap,
    /// Bars: open, high, low, close, volume
    Ohlcv,
    /// The ticks themselves, in order
    Range,
}

const LIMIT_DEFAULT: u64 = 1000;
const INTERVAL_DEFAULT_NS: u64 = 60_000_000_000;

/// Runs the command.
///
/// # Errors
/// When the question makes no sense, no node answers, or an owner failed.
pub async fn run(args: QueryArgs) -> Result<(), Failure> {
    check(&args)?;
    match (args.what, args.symbol.clone()) {
        (What::Summary | What::Count, None) => all(&args).await,
        (What::Ohlcv, Some(symbol)) => bars(&args, &symbol).await,
        (What::Range, Some(symbol)) => range(&args, &symbol).await,
        (_, Some(symbol)) => one(&args, &symbol).await,
        (_, None) => Err(Failure::Usage("query: SYMBOL is missing".into())),
    }
}

/// Flags that would be ignored are errors.
fn check(args: &QueryArgs) -> Result<(), Failure> {
    let usage = |text: &str| Err(Failure::Usage(format!("query: {text}")));
    let over_all = matches!(args.what, What::Summary | What::Count);
    if args.symbol.is_none() && !over_all {
        return usage("this question is about one symbol; give its name after it");
    }
    if args.symbol.is_none() && (args.from.is_some() || args.to.is_some() || args.kinds.is_some()) {
        return usage("--from, --to and --kinds need a SYMBOL; over all symbols, all ticks count");
    }
    if args.interval.is_some() && args.what != What::Ohlcv {
        return usage("--interval is the length of ohlcv's bars; leave it out here");
    }
    if args.limit.is_some() && !matches!(args.what, What::Ohlcv | What::Range) {
        return usage("--limit is for ohlcv and range; leave it out here");
    }
    if args.kinds.is_some() && args.what == What::Summary {
        return usage("a summary counts every kind; leave --kinds out, or ask count or vwap");
    }
    if times(args).last_ns().is_none() {
        return usage("--from is not before --to, so the range is empty");
    }
    Ok(())
}

fn times(args: &QueryArgs) -> TimeRange {
    TimeRange { from_ns: args.from.unwrap_or(0), to_ns: args.to.unwrap_or(TimeRange::NO_END) }
}

fn doing(args: &QueryArgs) -> String {
    format!("query at {}", args.at)
}

async fn ask(args: &QueryArgs, ask: Ask) -> Result<Answer, Failure> {
    let request = Request::Query(Query { ask, partial: args.partial });
    let secret = args.secret.read()?;
    let answer = match ask_once(&args.at, secret, &request, args.timeout).await {
        Ok(Response::Answer(answer)) => Ok(answer),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => Err(error),
    };
    answer.map_err(|error| Failure::of_client(&doing(args), &error))
}

/// One owner's part, or who it was that failed to give it.
async fn ask_series(
    args: &QueryArgs,
    symbol: &str,
    range: TimeRange,
    of: Of,
) -> Result<Result<Part, Vec<Missing>>, Failure> {
    let series = Ask::Series { table: args.table.table, symbol: symbol.to_owned(), range, of };
    let answer = ask(args, series).await?;
    match answer.body {
        AnswerBody::Series(Some(part)) => Ok(Ok(part)),
        AnswerBody::Series(None) => Ok(Err(answer.missing)),
        AnswerBody::Summaries(_) => Err(another_answer(args)),
    }
}

fn another_answer(args: &QueryArgs) -> Failure {
    Failure::failed(&doing(args), "the node answered another question")
}

/// A summary or a count over every symbol of the table.
async fn all(args: &QueryArgs) -> Result<(), Failure> {
    let answer = ask(args, Ask::Summary).await?;
    let AnswerBody::Summaries(rows) = answer.body else { return Err(another_answer(args)) };
    let mut others = BTreeMap::<u16, u64>::new();
    let mut answers = BTreeMap::<String, Summary>::new();
    for (table, name, summary) in rows {
        if table == args.table.table {
            answers.entry(name).or_default().merge(&summary);
        } else {
            *others.entry(table).or_default() += 1;
        }
    }
    for (table, symbols) in others {
        eprintln!(
            "zepto-host: {symbols} symbols of table {table} are not shown; add --table {table}"
        );
    }
    let missed = Missed::warn(answer.missing);
    match args.what {
        What::Count => {
            let ticks = answers.values().map(|summary| summary.ticks).sum();
            show::count(args, None, Some(ticks), &missed)
        }
        _ => show::summary(args, &answers, &missed),
    }
}

/// A question about one symbol that has one answer.
async fn one(args: &QueryArgs, symbol: &str) -> Result<(), Failure> {
    let kinds = args.kinds.unwrap_or(KindSet::TRADES);
    let of = match args.what {
        What::Last => Of::Last(kinds),
        What::Vwap => Of::Aggregate(kinds),
        What::Count if args.kinds.is_some() => Of::Aggregate(kinds),
        _ => Of::Summary,
    };
    let (part, missed) = match ask_series(args, symbol, times(args), of).await? {
        Ok(part) => (Some(part), Missed::default()),
        Err(missing) => (None, Missed::warn(missing)),
    };
    match (args.what, part) {
        (What::Summary, Some(Part::Summary(summary))) => {
            show::summary(args, &BTreeMap::from([(symbol.to_owned(), summary)]), &missed)
        }
        (What::Summary, None) => show::summary(args, &BTreeMap::new(), &missed),
        (What::Count, Some(Part::Summary(summary))) => {
            show::count(args, Some(symbol), Some(summary.ticks), &missed)
        }
        (What::Count, Some(Part::Aggregate(some))) => {
            show::count(args, Some(symbol), Some(some.count), &missed)
        }
        (What::Count, None) => show::count(args, Some(symbol), None, &missed),
        (What::Vwap, Some(Part::Aggregate(aggregate))) => {
            show::vwap(args, symbol, Some(&aggregate), &missed)
        }
        (What::Vwap, None) => show::vwap(args, symbol, None, &missed),
        (What::Last, Some(Part::Last(last))) => {
            show::last(args, symbol, last.as_ref().map(slot::tick_of), &missed)
        }
        (What::Last, None) => show::last(args, symbol, None, &missed),
        _ => Err(another_answer(args)),
    }
}

async fn bars(args: &QueryArgs, symbol: &str) -> Result<(), Failure> {
    let interval_ns = args.interval.unwrap_or(INTERVAL_DEFAULT_NS);
    let kinds = args.kinds.unwrap_or(KindSet::TRADES);
    let mut left = args.limit.unwrap_or(LIMIT_DEFAULT);
    let mut range = times(args);
    let mut show = show::Bars::new(args, symbol, interval_ns);
    loop {
        let limit = left.min(BARS_MAX as u64) as u32;
        match ask_series(args, symbol, range, Of::Bars { interval_ns, kinds, limit }).await? {
            Ok(Part::Bars { bars, next_ns }) => {
                show.page(&bars)?;
                left = left.saturating_sub(bars.len() as u64);
                match next_ns {
                    Some(next_ns) if left > 0 && next_ns > range.from_ns => range.from_ns = next_ns,
                    next_ns => return show.end(next_ns, &Missed::default()),
                }
            }
            Ok(_) => return Err(another_answer(args)),
            Err(missing) => return show.end(None, &Missed::warn(missing)),
        }
    }
}

async fn range(args: &QueryArgs, symbol: &str) -> Result<(), Failure> {
    let kinds = args.kinds.unwrap_or(KindSet::ALL);
    let mut left = args.limit.unwrap_or(LIMIT_DEFAULT);
    let mut after = None;
    let mut show = show::Ticks::new(args, symbol);
    loop {
        // Kinds are picked out here, so a page may hold fewer ticks than it was asked for.
        let wanted = if kinds == KindSet::ALL { left } else { RANGE_ROWS_MAX as u64 };
        let limit = wanted.min(RANGE_ROWS_MAX as u64) as u32;
        match ask_series(args, symbol, times(args), Of::Range { after, limit }).await? {
            Ok(Part::Range { ticks, next }) => {
                let ticks = ticks.iter().map(slot::tick_of).filter(|t| kinds.contains(t.kind));
                let mut ticks: Vec<_> = ticks.collect();
                let is_cut = ticks.len() as u64 > left;
                ticks.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                show.page(&ticks)?;
                left -= ticks.len() as u64;
                match next {
                    Some(next) if left > 0 && after < Some(next) => after = Some(next),
                    next => return show.end(is_cut || next.is_some(), &Missed::default()),
                }
            }
            Ok(_) => return Err(another_answer(args)),
            Err(missing) => return show.end(false, &Missed::warn(missing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        query: QueryArgs,
    }

    fn args(line: &str) -> Result<QueryArgs, String> {
        let words = ["query"].into_iter().chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        check(&line.query).map_err(|error| error.to_string())?;
        Ok(line.query)
    }

    #[test]
    fn a_question_that_would_ignore_a_flag_is_an_error_that_says_so() {
        let cases = [
            ("last --at h:1", "one symbol"),
            ("summary --at h:1 --from 5", "need a SYMBOL"),
            ("count --at h:1 --kinds bid", "need a SYMBOL"),
            ("vwap A --at h:1 --interval 1s", "--interval"),
            ("vwap A --at h:1 --limit 5", "--limit"),
            ("summary A --at h:1 --kinds bid", "--kinds"),
            ("range A --at h:1 --from 5 --to 5", "empty"),
            ("range A --at h:1 --limit 0", "0"),
            ("range A --at h:1 --from yesterday", "RFC 3339"),
            ("ohlcv A --at h:1 --interval 60", "unit"),
            ("median A --at h:1", "vwap"),
            ("summary", "--at"),
        ];
        for (line, text) in cases {
            let error = args(line).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }

    #[test]
    fn every_question_is_understood() {
        for line in [
            "summary --at h:1 --json",
            "count --at h:1 --partial",
            "count A --at h:1 --kinds trade,200",
            "last A --at h:1 --kinds all",
            "vwap A --at h:1 --from 2024-08-08T00:00:00Z --to 1723161599999231384",
            "ohlcv A --at h:1 --interval 500ms --limit 10",
            "range A --at [::1]:9000 --table 3 --limit 5",
        ] {
            assert!(args(line).is_ok(), "{line}");
        }
    }
}
