//! The demo's proof: every node gives the same exact answers, and every row is there once.
//!
//! Two independent checks. The answers of each node are compared with the account of what was
//! sent, value by value. Then every symbol is read back, page by page, alternating the nodes, and
//! the row numbers that its ticks carry say what was lost or is there twice; no counter of the
//! system under proof is believed.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use zepto_client::message::{AnswerBody, Ask, Of, Part, Query};
use zepto_client::{Client, ClientError};
use zepto_core::limits::RANGE_ROWS_MAX;
use zepto_core::slot;
use zepto_store::query::{Position, Summary, TimeRange};

use super::display::Display;
use crate::failure::Failure;
use crate::format;
use crate::rows::{RowSet, Seen};
use crate::tally::Tally;

/// Time for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Symbols that are read at the same time.
const READERS: usize = 4;
/// Differences that are shown; all are counted.
const SHOWN_MAX: usize = 10;
/// Table of the demo's symbols.
pub(super) const TABLE: u16 = 0;

/// What the proof found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Values of the nodes' answers that differ from the account, and ticks that are out of order,
    /// foreign, or under another symbol.
    pub(super) mismatches: u64,
    /// Rows that are not there.
    pub(super) lost: u64,
    /// Rows that are there more than once, beyond the first.
    pub(super) duplicates: u64,
    /// Ticks that were read back.
    pub(super) stored: u64,
    /// The first few differences, for people.
    pub(super) shown: Vec<String>,
}

impl Findings {
    fn mismatch(&mut self, text: String) {
        self.mismatches += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(text);
        }
    }
}

/// Proves what the account says against every node.
pub(super) async fn verify(
    client: &Client,
    members: &[(String, String)],
    tally: &Tally,
    symbols: &[Symbol],
    display: &Display,
) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    for (name, address) in members {
        display.say(&format!("asking {name} for every symbol's summary"));
        let answers = summaries(client, address).await;
        let answers =
            answers.map_err(|error| Failure::of_client(&format!("{name} at {address}"), &error))?;
        for mismatch in tally.compare(&answers) {
            findings.mismatch(format!("{name} answers {mismatch}"));
        }
    }
    display
        .say(&format!("reading back {} symbols, row by row", format::count(symbols.len() as u64)));
    read_back(client, members, tally.rows(), symbols, findings).await
}

/// One node's summary of every symbol.
async fn summaries(
    client: &Client,
    address: &str,
) -> Result<BTreeMap<String, Summary>, ClientError> {
    let query = Query { ask: Ask::Summary, partial: false };
    let answer = client.query_at(address, query, ANSWER_WITHIN).await?;
    match answer.body {
        AnswerBody::Summaries(rows) => Ok(rows
            .into_iter()
            .filter(|(table, _, _)| *table == TABLE)
            .map(|(_, name, summary)| (name, summary))
            .collect()),
        AnswerBody::Series(_) => {
            Err(ClientError::Protocol("the answer to another question".into()))
        }
    }
}

/// A symbol that was sent.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    pub(super) name: String,
    pub(super) id: u32,
}

/// What the readers share.
struct Proof {
    rows: RowSet,
    findings: Findings,
}

async fn read_back(
    client: &Client,
    members: &[(String, String)],
    rows: u64,
    symbols: &[Symbol],
    findings: Findings,
) -> Result<Findings, Failure> {
    let rows = RowSet::new(rows).map_err(|error| Failure::failed("demo", error))?;
    let proof = Arc::new(Mutex::new(Proof { rows, findings }));
    let mut readers = JoinSet::new();
    let mut symbols = symbols.iter().zip(members.iter().cycle());
    loop {
        while readers.len() < READERS
            && let Some((symbol, (_, address))) = symbols.next()
        {
            let (client, proof) = (client.clone(), Arc::clone(&proof));
            let (symbol, address) = (symbol.clone(), address.clone());
            readers.spawn(async move { read_symbol(&client, &address, &symbol, &proof).await });
        }
        match readers.join_next().await {
            None => break,
            Some(Ok(read)) => read?,
            Some(Err(error)) => return Err(Failure::failed("reading back", error)),
        }
    }
    let mut proof = proof.lock().unwrap_or_else(PoisonError::into_inner);
    let mut findings = core::mem::take(&mut proof.findings);
    findings.lost = proof.rows.lost_count();
    findings.duplicates = proof.rows.duplicates();
    let lost: Vec<String> = proof.rows.lost().take(SHOWN_MAX).map(|row| row.to_string()).collect();
    if !lost.is_empty() {
        findings.shown.push(format!("lost rows: {}", lost.join(", ")));
    }
    Ok(findings)
}

/// Reads one symbol from one node, page by page.
async fn read_symbol(
    client: &Client,
    address: &str,
    symbol: &Symbol,
    proof: &Mutex<Proof>,
) -> Result<(), Failure> {
    let failed =
        |error| Failure::of_client(&format!("reading {} at {address}", symbol.name), &error);
    let (mut after, mut last) = (None, None);
    loop {
        let of = Of::Range { after, limit: RANGE_ROWS_MAX as u32 };
        let series =
            Ask::Series { table: TABLE, symbol: symbol.name.clone(), range: TimeRange::ALL, of };
        let query = Query { ask: series, partial: false };
        let answer = client.query_at(address, query, ANSWER_WITHIN).await.map_err(failed)?;
        let AnswerBody::Series(Some(Part::Range { ticks, next })) = answer.body else {
            return Err(failed(ClientError::Protocol("the answer to another question".into())));
        };
        {
            let mut proof = proof.lock().unwrap_or_else(PoisonError::into_inner);
            check_page(&mut proof, symbol, &ticks, &mut last);
        }
        match next {
            None => return Ok(()),
            Some(next) if after < Some(next) => after = Some(next),
            Some(_) => return Err(failed(ClientError::Protocol("a page that leads back".into()))),
        }
    }
}

/// Marks the rows of a page, and checks that ticks are in order.
fn check_page(
    proof: &mut Proof,
    symbol: &Symbol,
    ticks: &[slot::Slot],
    last: &mut Option<(Position, u64)>,
) {
    let Proof { rows, findings } = proof;
    let name = &symbol.name;
    findings.stored += ticks.len() as u64;
    for tick in ticks.iter().map(slot::tick_of) {
        let (position, row) = (Position::of(&tick), tick.user[0]);
        if tick.symbol != symbol.id {
            findings.mismatch(format!("{name}: row {row} is of symbol id {}", tick.symbol));
        }
        if rows.see(row) == Seen::Beyond {
            findings.mismatch(format!("{name}: row {row} was never sent"));
        }
        if let Some((before, row_before)) = *last {
            // The one producer sent the rows of a symbol in their order.
            let is_later = position.time_ns > before.time_ns || row > row_before;
            if position <= before || !is_later {
                findings.mismatch(format!("{name}: row {row} comes after row {row_before}"));
            }
        }
        *last = Some((position, row));
    }
}

#[cfg(test)]
mod tests {
    use zepto_abi::Tick;

    use super::*;

    fn proof(rows: u64) -> Proof {
        Proof { rows: RowSet::new(rows).unwrap(), findings: Findings::default() }
    }

    fn tick(time_ns: u64, sequence: u64, row: u64) -> slot::Slot {
        let user = [row, 0];
        slot::slot_of(&Tick { event_time_ns: time_ns, sequence, user, ..Tick::default() })
    }

    fn symbol() -> Symbol {
        Symbol { name: "A".into(), id: 0 }
    }

    #[test]
    fn ticks_in_order_over_two_pages_are_no_mismatch() {
        let (mut proof, mut last) = (proof(4), None);
        check_page(&mut proof, &symbol(), &[tick(1, 1, 0), tick(1, 2, 1)], &mut last);
        check_page(&mut proof, &symbol(), &[tick(1, 3, 2), tick(2, 1, 3)], &mut last);
        assert_eq!((proof.findings.stored, proof.findings.mismatches), (4, 0));
        assert_eq!(proof.rows.lost_count(), 0);
    }

    #[test]
    fn disorder_foreign_rows_losses_and_duplicates_are_all_found() {
        let (mut proof, mut last) = (proof(4), None);
        check_page(
            &mut proof,
            &symbol(),
            &[tick(5, 1, 0), tick(4, 2, 0), tick(6, 3, 77)],
            &mut last,
        );
        assert_eq!(proof.findings.mismatches, 2, "{:?}", proof.findings.shown);
        assert_eq!((proof.rows.duplicates(), proof.rows.lost_count()), (1, 3));
    }
}
