//! Queries: a coordinator scatters to the owners, fenced by epoch, and gathers with merges; an
//! owner answers from its shards' readers.
//!
//! One owner that cannot answer fails the query with its name, unless a partial answer was asked
//! for, which is then marked with who is missing. An answer over several partitions is not one cut.

use crate::service::refused;
use crate::shards::ShardPort;
use core::num::NonZeroU64;
use core::time::Duration;
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::time::Instant;
use zepto_client::message::{Answer, AnswerBody, Ask, Leg, Missing, Of, Part, Query};
use zepto_client::{ClientError, ask_leg};
use zepto_control::{ControlLog, State};
use zepto_core::limits::{BARS_MAX, RANGE_ROWS_MAX};
use zepto_core::slot;
use zepto_core::topology::{Member, MemberState};
use zepto_core::view::{OFFLINE, View, shard_of};
use zepto_core::{Epoch, NodeId, PartitionId, Refusal, fence};
use zepto_rpc::{Failure, Peers};
use zepto_store::StoreReader;
use zepto_store::query::TimeRange;
use zepto_transport::Transport;

/// Pause before a leg that met another view is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// Time for the replicas to confirm who the owner is.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);
/// Kept back from the deadline, so that the answer still arrives in time.
const MARGIN: Duration = Duration::from_millis(50);

/// An owner's side.
pub struct Owner<T: Transport> {
    /// This node.
    pub me: NodeId,
    /// The applied topology.
    pub state: Arc<State>,
    /// This node's shards.
    pub shards: Vec<ShardPort<T>>,
}

impl<T: Transport> Owner<T> {
    /// Answers a leg. Reads memory only; may take as long as the data is large.
    ///
    /// # Errors
    /// `StaleEpoch` or `AheadEpoch` when the asker's view is not the one installed here, and
    /// `LimitReached` for what no answer can hold.
    pub fn answer(&self, leg: &Leg) -> Result<Part, (Refusal, String)> {
        match leg {
            Leg::Summary { ownership } => self.summaries(*ownership),
            Leg::Series { table, symbol, epoch, range, of } => {
                let view = self.state.view();
                let partition = view.route(*table, *symbol).partition;
                let reader = self.reader(partition);
                let held = reader.epoch(partition);
                let held = held.ok_or((Refusal::NotOwner, "the partition is not here".into()))?;
                fence::check(held, *epoch).map_err(|reason| (reason, reason.to_string()))?;
                self.confirm(&view, &[partition])?;
                whole(reader, partition, held, || read(reader, (*table, *symbol), *range, of))
            }
        }
    }

    fn summaries(&self, ownership: u64) -> Result<Part, (Refusal, String)> {
        let view = self.state.view();
        if view.ownership(self.me) != ownership {
            return Err((Refusal::StaleEpoch, "another view is installed here".into()));
        }
        // The shards install a view between two batches; until then they hold older epochs.
        let late = view.placement().owned_by(self.me).any(|partition| {
            self.reader(partition).epoch(partition) != Some(view.epoch(partition))
        });
        if late {
            return Err((Refusal::AheadEpoch, "the view is not installed here yet".into()));
        }
        let owned: Vec<PartitionId> = view.placement().owned_by(self.me).collect();
        self.confirm(&view, &owned)?;
        let owns = |partition| {
            view.placement().assignment(partition).is_some_and(|a| a.copies[0] == self.me)
        };
        let parts = self.shards.iter().map(|port| port.reader().summary(owns));
        Ok(Part::Summaries(parts.flatten().collect()))
    }

    /// Makes sure that no replica has moved on to another owner: else this node, if it slept, would
    /// answer with what was true before. Where nobody else has a copy there is nobody to ask.
    fn confirm(&self, view: &View, partitions: &[PartitionId]) -> Result<(), (Refusal, String)> {
        let replicated = |partition: &&PartitionId| {
            let assignment = view.placement().assignment(**partition);
            assignment.is_some_and(|assignment| assignment.replicas().next().is_some())
        };
        for (shard, port) in self.shards.iter().enumerate() {
            let mine = partitions.iter().filter(replicated).copied();
            let of_shard =
                |p: &PartitionId| usize::from(shard_of(*p, self.shards.len() as u16)) == shard;
            let mine: Vec<PartitionId> = mine.filter(of_shard).collect();
            if !mine.is_empty() && !port.confirm(mine, CONFIRM_WITHIN) {
                let text = "not all replicas confirm that this node is the owner";
                return Err((Refusal::NotReady, text.into()));
            }
        }
        Ok(())
    }

    fn reader(&self, partition: PartitionId) -> &zepto_store::StoreReader {
        let shard = shard_of(partition, self.shards.len() as u16);
        self.shards[usize::from(shard)].reader()
    }
}

/// What a series holds, read from memory.
fn read(
    reader: &StoreReader,
    (table, symbol): (u16, u32),
    range: TimeRange,
    of: &Of,
) -> Result<Part, (Refusal, String)> {
    let rows = |limit: u32| (limit as usize).clamp(1, RANGE_ROWS_MAX);
    Ok(match of {
        Of::Summary => Part::Summary(reader.symbol_summary(table, symbol, range)),
        Of::Aggregate(kinds) => Part::Aggregate(reader.aggregate(table, symbol, range, kinds)),
        Of::Last(kinds) => {
            let last = reader.last(table, symbol, range, kinds);
            Part::Last(last.as_ref().map(slot::slot_of))
        }
        Of::Bars { interval_ns, kinds, limit } => {
            let interval = NonZeroU64::new(*interval_ns);
            let interval =
                interval.ok_or((Refusal::Malformed, "an interval of 0 has no bars".into()))?;
            let limit = (*limit as usize).clamp(1, BARS_MAX);
            let bars = reader.ohlcv(table, symbol, range, interval, kinds, limit);
            Part::Bars { bars: bars.bars, next_ns: bars.next_start_ns }
        }
        Of::Range { after, limit } => {
            let page = reader.range(table, symbol, range, *after, rows(*limit));
            let ticks = page.ticks.iter().map(slot::slot_of).collect();
            Part::Range { ticks, next: page.next }
        }
        Of::Since { from, limit } => {
            let new = reader.since(table, symbol, *from, rows(*limit));
            let new = new.ok_or_else(moved)?;
            let ticks = new.ticks.iter().map(slot::slot_of).collect();
            Part::Since { ticks, next: new.next }
        }
    })
}

/// What was read of a partition, if the partition is what it was before: else it may have been
/// closed meanwhile, and nothing was found where there was something.
fn whole(
    reader: &StoreReader,
    partition: PartitionId,
    held: Epoch,
    read: impl FnOnce() -> Result<Part, (Refusal, String)>,
) -> Result<Part, (Refusal, String)> {
    let part = read()?;
    if reader.epoch(partition) == Some(held) { Ok(part) } else { Err(moved()) }
}

fn moved() -> (Refusal, String) {
    (Refusal::NotOwner, "the partition changed hands meanwhile".into())
}

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
                let leg = |view: &View| {
                    let partition = view.route(*table, id).partition;
                    let epoch = view.epoch(partition);
                    Leg::Series { table: *table, symbol: id, epoch, range: *range, of: of.clone() }
                };
                let owner = |view: &View| {
                    let partition = view.route(*table, id).partition;
                    owner_of(view, partition).map(|member| (member.id, member.name.clone()))
                };
                match self.leg(until, owner, leg, &local).await {
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

    async fn summary<F>(
        &self,
        partial: bool,
        until: Instant,
        local: impl Fn(Leg) -> F,
    ) -> Result<Answer, Failure>
    where
        F: Future<Output = Result<Part, Failure>>,
    {
        let view = self.log.state().view();
        let mut owners: Vec<Option<NodeId>> = Vec::new();
        for assignment in &view.placement().assignments {
            if !owners.contains(&assignment.owner()) {
                owners.push(assignment.owner());
            }
        }
        let legs = owners.into_iter().map(|owner| {
            let of = move |view: &View| match owner {
                Some(owner) => {
                    let member = view.placement().member(owner).filter(|m| takes_part(m));
                    member.map(|m| (m.id, m.name.clone())).ok_or_else(|| offline(view, owner))
                }
                None => Err(nobody()),
            };
            let leg = move |view: &View| Leg::Summary {
                ownership: view.ownership(owner.unwrap_or(NodeId(0))),
            };
            self.leg(until, of, leg, &local)
        });
        let mut rows = Vec::new();
        let mut missing = Vec::new();
        for gathered in join_all(legs).await {
            match gathered {
                Ok(Part::Summaries(some)) => rows.extend(some),
                Ok(_) => return Err(Failure::Unknown("an owner answered something else".into())),
                Err((who, failure)) if !partial => return Err(named(&who, failure)),
                Err((who, _)) => missing.push(who),
            }
        }
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
        Ok(Answer { body: AnswerBody::Summaries(summaries), missing })
    }

    /// One owner's part, tried again while views differ.
    async fn leg<F>(
        &self,
        until: Instant,
        owner: impl Fn(&View) -> Result<(NodeId, String), Missing>,
        leg: impl Fn(&View) -> Leg,
        local: &impl Fn(Leg) -> F,
    ) -> Result<Part, (Missing, Failure)>
    where
        F: Future<Output = Result<Part, Failure>>,
    {
        loop {
            let view = self.log.state().view();
            let (node, name) = owner(&view).map_err(|missing| {
                let failure = Failure::Refused(Refusal::Offline, missing.why.clone());
                (missing, failure)
            })?;
            let asked = if node == self.me {
                local(leg(&view)).await
            } else {
                let member = view.placement().member(node);
                let address = member.map_or(String::new(), |member| member.address.clone());
                let left = until.saturating_duration_since(Instant::now());
                let part = ask_leg(&self.peers, &address, leg(&view), left);
                part.await.map_err(into_failure)
            };
            let differs = |reason: &Refusal| {
                use Refusal::{AheadEpoch, NotOwner, NotReady, StaleEpoch};
                matches!(reason, AheadEpoch | NotOwner | NotReady | StaleEpoch)
            };
            match asked {
                Ok(part) => return Ok(part),
                Err(Failure::Refused(reason, _))
                    if differs(&reason) && Instant::now() + RETRY_AFTER < until =>
                {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(failure) => {
                    let why = match &failure {
                        Failure::Refused(_, text) | Failure::Unknown(text) => text.clone(),
                    };
                    return Err((Missing { node: name, why }, failure));
                }
            }
        }
    }
}

fn owner_of(view: &View, partition: PartitionId) -> Result<&Member, Missing> {
    let owner = view.owner(partition).ok_or_else(nobody)?;
    if view.destination(partition) == OFFLINE {
        return Err(offline(view, owner.id));
    }
    Ok(owner)
}

fn takes_part(member: &Member) -> bool {
    matches!(member.state, MemberState::Active | MemberState::Leaving)
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
    use zepto_store::{Retention, StoreConfig};

    #[test]
    fn what_was_read_while_its_partition_was_closed_is_no_answer() {
        let config =
            StoreConfig { partition_bits: 1, bytes_max: 1 << 20, retention: Retention::default() };
        let (mut store, reader) = zepto_store::open(config).unwrap();
        let (partition, epoch) = (PartitionId(0), Epoch(3));
        store.open_partition(partition, epoch, 1).unwrap();
        let page = || read(&reader, (0, 0), TimeRange::ALL, &Of::Range { after: None, limit: 9 });
        assert!(whole(&reader, partition, epoch, page).is_ok());
        let closed = whole(&reader, partition, epoch, || {
            store.close_partition(partition);
            page()
        });
        assert!(matches!(closed, Err((Refusal::NotOwner, _))), "{closed:?}");
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
