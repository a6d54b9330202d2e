//! The coordinator's side: whom to ask, when to ask again, and what a failure means.

use super::gather::{Gathered, Rows};
use crate::service::refused;
use core::time::Duration;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use tokio::time::{Instant, timeout_at};
use zepto_client::message::{Answer, AnswerBody, Ask, Leg, Missing, Part, Query};
use zepto_client::{ClientError, ask_leg};
use zepto_control::ControlLog;
use zepto_core::topology::Member;
use zepto_core::view::{OFFLINE, View};
use zepto_core::{NodeId, PartitionId, Refusal};
use zepto_rpc::{Failure, Peers};

/// Pause before a leg that met another view is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// Time for the log to say what became of an owner that failed.
const CAUGHT_UP_WITHIN: Duration = Duration::from_millis(500);
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
                let (table, id) = (*table, symbol_id(&self.log, symbol, until).await?);
                let due = |view: &View| {
                    let partition = view.route(table, id).partition;
                    let epoch = view.epoch(partition);
                    let (range, of) = (*range, of.clone());
                    let leg = Leg::Series { table, symbol: id, epoch, range, of };
                    Ok(Due::new(owner_of(view, partition)?, epoch.0, leg))
                };
                match self.leg(due, until, &local).await {
                    Ok((_, part)) => {
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

    /// Every owner's part, asked for again until all are of one view.
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
                let due = move |view: &View| {
                    let owner = taking_part(view, owner)?;
                    let ownership = view.ownership(owner.id);
                    Ok(Due::new(owner, ownership, Leg::Summary { ownership }))
                };
                let leg = self.leg(due, until, &local);
                async move { (owner, leg.await) }
            });
            let mut failed: BTreeMap<Option<NodeId>, Failed> = BTreeMap::new();
            for (owner, part) in join_all(legs).await {
                match (owner, part) {
                    (Some(owner), Ok((ownership, Part::Summaries(rows)))) => {
                        gathered.put(owner, ownership, rows);
                    }
                    (_, Ok(_)) => return Err(Failure::Unknown("not what was asked for".into())),
                    (owner, Err(who)) => drop(failed.insert(owner, who)),
                }
            }
            // Views go on while owners read; what is whole in the one that was asked in is whole.
            if gathered.lacking(&view).is_empty() {
                return Ok(self.named_rows(gathered.rows(&view), Vec::new()));
            }
            // The newest view may have other owners for what failed.
            let view = self.log.state().view();
            let lacking = gathered.lacking(&view);
            let is_late = Instant::now() + RETRY_AFTER >= until;
            let why =
                |owner| failed.remove(owner).or_else(|| is_late.then(|| moving(&view, *owner)));
            let missing: Vec<Failed> = lacking.iter().filter_map(why).collect();
            if !partial && let Some((who, failure)) = missing.first() {
                return Err(named(who, failure.clone()));
            }
            if missing.len() == lacking.len() {
                let missing = missing.into_iter().map(|(who, _)| who).collect();
                return Ok(self.named_rows(gathered.rows(&view), missing));
            }
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

    /// An owner's part of what is due in the newest view, and what it is of, asked for again while
    /// views differ.
    async fn leg<F>(
        &self,
        due: impl Fn(&View) -> Result<Due, Missing>,
        until: Instant,
        local: &impl Fn(Leg) -> F,
    ) -> Result<(u64, Part), Failed>
    where
        F: Future<Output = Result<Part, Failure>>,
    {
        loop {
            let asked = due(&self.log.state().view()).map_err(unavailable)?;
            let failure = match self.ask(&asked, until, local).await {
                Ok(part) => return Ok((asked.of, part)),
                Err(failure) => failure,
            };
            let differs = differs(&failure);
            if !differs {
                // Its reason may be in the log already: the owner left, or was replaced.
                let left = until.saturating_duration_since(Instant::now()).min(CAUGHT_UP_WITHIN);
                let caught_up = self.log.read_barrier(left).await;
                tracing::debug!(node = asked.name, ?failure, ?caught_up, "a leg failed");
            }
            let is_same = |due: Due| (due.owner, due.of) == (asked.owner, asked.of);
            let lasts = !differs && due(&self.log.state().view()).is_ok_and(is_same);
            if lasts || Instant::now() + RETRY_AFTER >= until {
                let why = match &failure {
                    Failure::Refused(_, text) | Failure::Unknown(text) => text.clone(),
                };
                return Err((Missing { node: asked.name, why }, failure));
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Asks an owner once.
    async fn ask<F>(
        &self,
        due: &Due,
        until: Instant,
        local: &impl Fn(Leg) -> F,
    ) -> Result<Part, Failure>
    where
        F: Future<Output = Result<Part, Failure>>,
    {
        if due.owner == self.me {
            let late = |_| Err(refused(Refusal::NotReady, "it did not answer in time"));
            return timeout_at(until, local(due.leg.clone())).await.unwrap_or_else(late);
        }
        let left = until.saturating_duration_since(Instant::now());
        ask_leg(&self.peers, &due.address, due.leg.clone(), left).await.map_err(into_failure)
    }
}

/// Whom to ask in a view, and what.
struct Due {
    owner: NodeId,
    name: String,
    address: String,
    /// The epoch of the partition, or the digest of those of all that the owner owns.
    of: u64,
    leg: Leg,
}

impl Due {
    fn new(owner: &Member, of: u64, leg: Leg) -> Self {
        let (name, address) = (owner.name.clone(), owner.address.clone());
        Self { owner: owner.id, name, address, of, leg }
    }
}

/// Whose part is missing, and what it is called when the whole is refused.
type Failed = (Missing, Failure);

/// Whether another view is the reason: it is worth asking again.
fn differs(failure: &Failure) -> bool {
    use Refusal::{AheadEpoch, Draining, NotOwner, NotReady, StaleEpoch};
    matches!(failure, Failure::Refused(AheadEpoch | Draining | NotOwner | NotReady | StaleEpoch, _))
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
    let takes_part = |member: &&Member| member.takes_part();
    view.placement().member(owner).filter(takes_part).ok_or_else(|| offline(view, owner))
}

fn unavailable(missing: Missing) -> Failed {
    let failure = Failure::Refused(Refusal::Offline, missing.why.clone());
    (missing, failure)
}

fn moving(view: &View, owner: Option<NodeId>) -> Failed {
    let member = owner.and_then(|owner| view.placement().member(owner));
    let node = member.map_or_else(|| nobody().node, |member| member.name.clone());
    let why = "its partitions moved all the time while they were asked for";
    (Missing { node, why: why.into() }, refused(Refusal::NotReady, why))
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
    use zepto_core::Incarnation;
    use zepto_core::topology::{Change, Command, What};
    use zepto_rpc::{Config, Hello, Identity};
    use zepto_store::query::Summary;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const LIFE: Incarnation = Incarnation(1);

    /// One member's, in a cluster in which B, whom nobody can reach, owns what A has copies of.
    fn coordinator(me: NodeId) -> Coordinator<StubLog> {
        let log = StubLog::new(0);
        log.apply(&Command::Bootstrap { cluster: 1, bits: 2, copies: 2 });
        for name in ["a", "b"] {
            let (name, address, zone) = (name.into(), "127.0.0.1:1".into(), String::new());
            let (shards, weight) = (1, 100);
            log.apply(&Command::Join { name, incarnation: LIFE, address, shards, weight, zone });
        }
        log.apply(&Command::Activate { node: B, incarnation: LIFE });
        log.apply(&Command::Activate { node: A, incarnation: LIFE });
        let view = log.state().view();
        let admit =
            |partition| Change { partition, epoch: view.epoch(partition), what: What::Admit(A) };
        let changes = view.placement().owned_by(B).map(admit).collect();
        log.apply(&Command::Change { node: B, incarnation: LIFE, changes });
        let hello = || Hello::new(Identity::client("test"));
        Coordinator { log, me, peers: Peers::new(Config::default(), 1, hello) }
    }

    fn everything(partial: bool) -> Query {
        Query { ask: Ask::Summary, partial }
    }

    fn within(time_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(time_ms)
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_does_not_answer_is_named_before_the_deadline() {
        let coordinator = coordinator(B);
        let hangs = |_| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Err(refused(Refusal::NotReady, "not all replicas confirm"))
        };
        let deadline = within(1_500);
        let whole = coordinator.answer(everything(false), deadline, hangs).await;
        let Err(Failure::Refused(Refusal::NotReady, why)) = whole else { panic!("{whole:?}") };
        assert!(why.contains("\"b\""), "{why}");
        assert!(Instant::now() < deadline);
        let deadline = within(1_500);
        let partial = coordinator.answer(everything(true), deadline, hangs).await.unwrap();
        assert_eq!(partial.missing.len(), 1, "{partial:?}");
        assert_eq!(partial.missing[0].node, "b");
        assert!(Instant::now() < deadline);
    }

    #[tokio::test]
    async fn views_may_go_on_while_owners_read() {
        let coordinator = coordinator(B);
        let log = &coordinator.log;
        let local = |leg| async move {
            let Leg::Summary { .. } = leg else { panic!("{leg:?}") };
            let view = log.state().view();
            let (partition, what) = (PartitionId(0), What::Renew);
            let changes = vec![Change { partition, epoch: view.epoch(partition), what }];
            log.apply(&Command::Change { node: B, incarnation: LIFE, changes });
            assert_ne!(log.state().view().ownership(B), view.ownership(B));
            Ok(Part::Summaries(vec![(0, 1, Summary::default())]))
        };
        let answer = coordinator.answer(everything(false), within(300), local).await;
        let AnswerBody::Summaries(rows) = answer.unwrap().body else { panic!("summaries") };
        assert_eq!(rows.len(), 1);
    }

    #[tokio::test]
    async fn what_an_owner_fails_to_answer_is_asked_of_who_owns_it_by_now() {
        let local = |leg| async move {
            let Leg::Summary { .. } = leg else { panic!("{leg:?}") };
            Ok(Part::Summaries(vec![(0, 1, Summary::default())]))
        };
        let coordinator = coordinator(A);
        let failed = coordinator.answer(everything(false), within(5_000), local).await;
        assert!(matches!(failed, Err(Failure::Refused(Refusal::Offline, _))), "{failed:?}");
        // The log knows that B is gone, and this node learns it when it catches up.
        coordinator.log.at_barrier(Command::Bury { node: B, incarnation: LIFE });
        let answer = coordinator.answer(everything(false), within(5_000), local).await;
        let AnswerBody::Summaries(rows) = answer.unwrap().body else { panic!("summaries") };
        assert_eq!(rows.len(), 1, "of A, which had copies of everything");
    }

    #[tokio::test]
    async fn a_name_is_unknown_only_if_the_log_says_so() {
        let within = Instant::now() + Duration::from_millis(10);
        let led = symbol_id(&StubLog::new(0), "BTCUSDT", within).await;
        assert!(matches!(led, Err(Failure::Refused(Refusal::UnknownSymbol, _))), "{led:?}");
        let cut_off = symbol_id(&StubLog::without_leader(), "BTCUSDT", within).await;
        assert!(matches!(cut_off, Err(Failure::Refused(Refusal::NoLeader, _))), "{cut_off:?}");
    }
}
