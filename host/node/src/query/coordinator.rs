//! The coordinator's side: whom to ask, when to ask again, and what a failure means.

use super::gather::{Gathered, Rows};
use crate::service::refused;
use core::time::Duration;
use futures_util::future::join_all;
use tokio::time::Instant;
use zepto_client::message::{Answer, AnswerBody, Ask, Leg, Missing, Part, Query};
use zepto_client::{ClientError, ask_leg};
use zepto_control::ControlLog;
use zepto_core::topology::{Member, MemberState};
use zepto_core::view::{OFFLINE, View};
use zepto_core::{Epoch, NodeId, PartitionId, Refusal};
use zepto_rpc::{Failure, Peers};

/// Pause before a leg that met another view is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// Kept back from the deadline, so that the answer still arrives in time.
const MARGIN: Duration = Duration::from_millis(50);

/// The id of a name. One that is not known here may have been issued a moment ago; without a leader
/// nobody can tell.
async fn symbol_id(log: &impl ControlLog, name: &str, until: Instant) -> Result<u32, Failure> {
    if let Some(id) = log.state().symbol_id(name) {
        return Ok(id);
    }
    let left = until.saturating_duration_since(Instant::now());
    let reached = log.read_barrier(left).await;
    log.state().symbol_id(name).ok_or_else(|| match reached {
        Ok(_) => refused(Refusal::UnknownSymbol, &format!("there is no symbol {name:?}")),
        Err(error) => {
            let text = format!("symbol {name:?} is not known here, and {error}");
            refused(Refusal::NoLeader, &text)
        }
    })
}

/// The coordinator's side.
pub struct Coordinator<L> {
    /// The log, for names that are new.
    pub log: L,
    /// This node.
    pub me: NodeId,
    /// The way to the other owners.
    pub peers: Peers,
}

impl<L: ControlLog> Coordinator<L> {
    /// Answers a query over the whole cluster, asking `local` for this node's part.
    pub async fn answer<F>(
        &self,
        query: Query,
        deadline: Instant,
        local: impl Fn(Leg) -> F,
    ) -> Result<Answer, Failure>
    where
        F: Future<Output = Result<Part, Failure>>,
    {
        let until = deadline - MARGIN.min(deadline.saturating_duration_since(Instant::now()) / 4);
        match &query.ask {
            Ask::Summary => self.summary(query.partial, until, local).await,
            Ask::Series { table, symbol, range, of } => {
                let id = symbol_id(&self.log, symbol, until).await?;
                let leg = |epoch| Leg::Series {
                    table: *table,
                    symbol: id,
                    epoch,
                    range: *range,
                    of: of.clone(),
                };
                match self.series(*table, id, leg, until, &local).await {
                    Ok(part) => {
                        Ok(Answer { body: AnswerBody::Series(Some(part)), missing: Vec::new() })
                    }
                    Err((missing, _)) if query.partial => {
                        Ok(Answer { body: AnswerBody::Series(None), missing: vec![missing] })
                    }
                    Err((missing, failure)) => Err(named(&missing, failure)),
                }
            }
        }
    }

    /// Every owner's part, asked for again while views differ, until all are of one view.
    async fn summary<F>(
        &self,
        partial: bool,
        until: Instant,
        local: impl Fn(Leg) -> F,
    ) -> Result<Answer, Failure>
    where
        F: Future<Output = Result<Part, Failure>>,
    {
        let mut gathered = Gathered::default();
        loop {
            let view = self.log.state().view();
            let legs = gathered.lacking(&view).into_iter().map(|owner| {
                let (view, local) = (&view, &local);
                async move {
                    let owner = taking_part(view, owner).map_err(unavailable)?;
                    let ownership = view.ownership(owner.id);
                    let leg = Leg::Summary { ownership };
                    Ok((owner.id, ownership, self.ask(owner, leg, until, local).await?))
                }
            });
            let mut failed: Vec<Failed> = Vec::new();
            for part in join_all(legs).await {
                match part {
                    Ok((owner, ownership, Part::Summaries(rows))) => {
                        gathered.put(owner, ownership, rows);
                    }
                    Ok(_) => {
                        return Err(Failure::Unknown("an owner answered what nobody asked".into()));
                    }
                    Err(who) => failed.push(who),
                }
            }
            let is_late = Instant::now() + RETRY_AFTER >= until;
            let is_lasting = |(_, failure): &Failed| is_late || !differs(failure);
            if !partial && let Some(at) = failed.iter().position(is_lasting) {
                let (who, failure) = failed.swap_remove(at);
                return Err(named(&who, failure));
            }
            if failed.iter().all(is_lasting) {
                let missing = failed.into_iter().map(|(who, _)| who).collect();
                return Ok(self.named_rows(gathered.rows(&view), missing));
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// The answer with names for the numbers of symbols.
    fn named_rows(&self, rows: Rows, missing: Vec<Missing>) -> Answer {
        let state = self.log.state();
        let mut summaries: Vec<_> = rows
            .into_iter()
            .map(|(table, symbol, summary)| {
                // A name that is not applied here yet is shown by its number rather than hidden.
                let name = state.symbol_name(symbol).unwrap_or_else(|| format!("#{symbol}"));
                (table, name, summary)
            })
            .collect();
        summaries.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        Answer { body: AnswerBody::Summaries(summaries), missing }
    }

    /// A series' part of its owner, asked for again while views differ.
    async fn series<F>(
        &self,
        table: u16,
        symbol: u32,
        leg: impl Fn(Epoch) -> Leg,
        until: Instant,
        local: &impl Fn(Leg) -> F,
    ) -> Result<Part, Failed>
    where
        F: Future<Output = Result<Part, Failure>>,
    {
        loop {
            let view = self.log.state().view();
            let partition = view.route(table, symbol).partition;
            let owner = owner_of(&view, partition).map_err(unavailable)?;
            let asked = self.ask(owner, leg(view.epoch(partition)), until, local).await;
            match asked {
                Err((_, failure)) if differs(&failure) && Instant::now() + RETRY_AFTER < until => {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                asked => return asked,
            }
        }
    }

    /// Asks an owner once.
    async fn ask<F>(
        &self,
        owner: &Member,
        leg: Leg,
        until: Instant,
        local: &impl Fn(Leg) -> F,
    ) -> Result<Part, Failed>
    where
        F: Future<Output = Result<Part, Failure>>,
    {
        let asked = if owner.id == self.me {
            local(leg).await
        } else {
            let left = until.saturating_duration_since(Instant::now());
            ask_leg(&self.peers, &owner.address, leg, left).await.map_err(into_failure)
        };
        asked.map_err(|failure| {
            let why = match &failure {
                Failure::Refused(_, text) | Failure::Unknown(text) => text.clone(),
            };
            (Missing { node: owner.name.clone(), why }, failure)
        })
    }
}

/// Whose part is missing, and what it is called when the whole is refused.
type Failed = (Missing, Failure);

/// Whether another view is the reason: it is worth asking again.
fn differs(failure: &Failure) -> bool {
    use Refusal::{AheadEpoch, NotOwner, NotReady, StaleEpoch};
    matches!(failure, Failure::Refused(AheadEpoch | NotOwner | NotReady | StaleEpoch, _))
}

fn owner_of(view: &View, partition: PartitionId) -> Result<&Member, Missing> {
    let owner = view.owner(partition).ok_or_else(nobody)?;
    if view.destination(partition) == OFFLINE {
        return Err(offline(view, owner.id));
    }
    Ok(owner)
}

fn taking_part(view: &View, owner: Option<NodeId>) -> Result<&Member, Missing> {
    let owner = owner.ok_or_else(nobody)?;
    let takes_part = |m: &&Member| matches!(m.state, MemberState::Active | MemberState::Leaving);
    view.placement().member(owner).filter(takes_part).ok_or_else(|| offline(view, owner))
}

fn unavailable(missing: Missing) -> Failed {
    let failure = Failure::Refused(Refusal::Offline, missing.why.clone());
    (missing, failure)
}

fn offline(view: &View, owner: NodeId) -> Missing {
    match view.placement().member(owner) {
        Some(member) => {
            let state = format!("{:?}", member.state).to_uppercase();
            let why = format!(
                "its partitions are offline: it is {state}, and nobody else has a copy in sync"
            );
            Missing { node: member.name.clone(), why }
        }
        None => nobody(),
    }
}

fn nobody() -> Missing {
    Missing { node: "nobody".into(), why: "the partitions have no owner yet".into() }
}

fn named(missing: &Missing, failure: Failure) -> Failure {
    let text = |text: &str| format!("node {:?}: {text}", missing.node);
    match failure {
        Failure::Refused(reason, why) => Failure::Refused(reason, text(&why)),
        Failure::Unknown(why) => Failure::Unknown(text(&why)),
    }
}

fn into_failure(error: ClientError) -> Failure {
    match error {
        ClientError::Refused { reason, text } => Failure::Refused(reason, text),
        // A read changes nothing: whatever became of it, there is no answer.
        other => Failure::Refused(Refusal::Offline, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::StubLog;

    #[tokio::test]
    async fn a_name_is_unknown_only_if_the_log_says_so() {
        let within = Instant::now() + Duration::from_millis(10);
        let led = symbol_id(&StubLog::new(0), "BTCUSDT", within).await;
        assert!(matches!(led, Err(Failure::Refused(Refusal::UnknownSymbol, _))), "{led:?}");
        let cut_off = symbol_id(&StubLog::without_leader(), "BTCUSDT", within).await;
        assert!(matches!(cut_off, Err(Failure::Refused(Refusal::NoLeader, _))), "{cut_off:?}");
    }
}
